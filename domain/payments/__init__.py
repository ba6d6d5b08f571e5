"""Handle payments from checkout to credit, refunds, disputes and documents.

Services that take a `sessionmaker` call a gateway between transactions; all others run in the
transaction of their caller. docs/payments.md has the rules.
"""

from db.models import PaymentState
from domain.payments.check_pass import check_due
from domain.payments.checkout import StartedPayment, give_up, open_checkout, start_payment
from domain.payments.methods import CONSENT_VERSION, Method, methods_of
from domain.payments.polling import CHECK_EVERY, check_payment
from domain.payments.receipts import (
    DocumentContent,
    documents_of,
    issue_documents,
    list_document_names,
    resend_receipt,
)
from domain.payments.records import reference_of
from domain.payments.refunds import (
    WAITS,
    PlannedRefund,
    cancel_refund,
    record_payout,
    request_refund,
    send_refund,
)
from domain.payments.webhooks import (
    UnmatchedWebhook,
    handle_webhook,
    process_webhook,
    unmatched_webhooks,
)

__all__ = [
    "CHECK_EVERY",
    "CONSENT_VERSION",
    "WAITS",
    "DocumentContent",
    "Method",
    "PaymentState",
    "PlannedRefund",
    "StartedPayment",
    "UnmatchedWebhook",
    "cancel_refund",
    "check_due",
    "check_payment",
    "documents_of",
    "give_up",
    "handle_webhook",
    "issue_documents",
    "list_document_names",
    "methods_of",
    "open_checkout",
    "process_webhook",
    "record_payout",
    "reference_of",
    "request_refund",
    "resend_receipt",
    "send_refund",
    "start_payment",
    "unmatched_webhooks",
]
