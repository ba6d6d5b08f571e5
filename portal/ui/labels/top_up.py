"""What people read about payments: gateways, states, reasons, and what is wrong with a form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.errors import BillingError, InvalidInput, RefundRefused
from domain.gateways.interface import GatewayRefused, GatewayUnavailable
from domain.gateways.registry import reviews_payments
from domain.money import Money, currency_exponent
from domain.payments import PaymentState
from domain.payments.queries import PaymentStatus
from domain.payments.review_cases import REJECTED_BY_STAFF
from portal.ui import formats
from portal.ui.i18n import N_, _
from portal.ui.labels import errors as error_labels
from portal.ui.labels import gateways as gateway_labels
from portal.ui.labels import ledger as ledger_labels
from portal.ui.labels.forms import wait_text

if TYPE_CHECKING:
    from domain.payments.queries import PaymentView
    from portal.shell.page_context import PageContext

_EXAMPLE_COINS = 500_000
"""Of the smallest coin: 250,000 dong, 2,500.00 dollars."""

_STATES: dict[str, str] = {
    PaymentState.CREATED: N_("Not paid yet"),
    PaymentState.PENDING: N_("Waiting for payment"),
    PaymentState.AWAITING: N_("Waiting for funds"),
    PaymentState.SUCCEEDED: N_("Paid"),
    PaymentState.FAILED: N_("Failed"),
    PaymentState.CANCELLED: N_("Cancelled"),
    PaymentState.EXPIRED: N_("Expired"),
    PaymentState.UNDER_REVIEW: N_("Under review"),
}
_STATUSES = {
    "success": N_("Success"),
    "pending": N_("Pending"),
    "failed": N_("Failed"),
}
_REFUND_STATES = {
    "requested": N_("Pending"),
    "pending": N_("Pending"),
    "succeeded": N_("Refunded"),
    "failed": N_("Failed"),
}
_DISPUTE_STATES = {
    "open": N_("Disputed"),
    "lost": N_("Dispute lost"),
    "won": N_("Dispute won"),
}
_DISPUTE_REASONS = {
    # Stripe
    "bank_cannot_process": N_("The bank could not process the payment"),
    "credit_not_processed": N_("A promised refund was not received"),
    "customer_initiated": N_("The payer requested a refund"),
    "debit_not_authorized": N_("The payer did not authorise the payment"),
    "duplicate": N_("The payer was charged twice"),
    "fraudulent": N_("The payer did not authorise the payment"),
    "general": N_("The payer's bank gave no specific reason"),
    "incorrect_account_details": N_("The account details were wrong"),
    "insufficient_funds": N_("The payer's account had insufficient funds"),
    "noncompliant": N_("The card network's rules were not followed"),
    "product_not_received": N_("Product or service not received"),
    "product_unacceptable": N_("Product or service not as described"),
    "subscription_canceled": N_("The payer was charged after cancelling"),
    "unrecognized": N_("The payer does not recognise the payment"),
    # PayPal
    "merchandise_or_service_not_received": N_("Product or service not received"),
    "merchandise_or_service_not_as_described": N_("Product or service not as described"),
    "unauthorised": N_("The payer did not authorise the payment"),
    "duplicate_transaction": N_("The payer was charged twice"),
    "incorrect_amount": N_("The amount was wrong"),
    "payment_by_other_means": N_("The payer paid in another way"),
    "canceled_recurring_billing": N_("The payer was charged after cancelling"),
    "problem_with_remittance": N_("The money could not be remitted"),
    "other": N_("The payer gave another reason"),
    "denied": N_("The payment was denied after it had been completed"),
}
_DECLINES = {
    # VNPay
    "09": N_("the card or account is not registered for online banking"),
    "10": N_("the card or account could not be verified"),
    "11": N_("the payment time expired"),
    "12": N_("the card or account is blocked"),
    "13": N_("the one-time password was wrong"),
    "51": N_("the account has insufficient funds"),
    "65": N_("the account is over its daily limit"),
    "75": N_("the bank is under maintenance"),
    "79": N_("the payment password was wrong too many times"),
    # Stripe
    "authentication_required": N_("the bank requires authentication"),
    "expired_card": N_("the card has expired"),
    "insufficient_funds": N_("the account has insufficient funds"),
}

_FAULTS = {
    ("name", "empty"): N_("Enter a name."),
    ("email", "empty"): N_("Enter an email address."),
    ("email", "not_an_email"): N_("This is not an email address."),
    ("address", "empty"): N_("Enter an address."),
    ("country", "empty"): N_("Choose a country."),
    ("country", "not_at_site"): N_(
        "Accounts in this country belong to another site. Choose another country."
    ),
    ("currency", "locked"): N_("The currency of this account can no longer be changed."),
    ("tax_code", "empty"): N_("Enter the tax code of the company."),
    ("amount", "empty"): N_("Enter an amount."),
    ("amount", "not_chosen"): N_("Choose or enter an amount."),
    ("amount", "not_a_number"): N_("Enter an amount in digits."),
    ("amount", "too_many_decimals"): N_("The amount has too many decimals for the currency."),
    ("amount", "out_of_range"): N_("The amount is above the maximum per payment."),
    ("amount", "below_gateway_minimum"): N_(
        "The amount is below the minimum of this payment method."
    ),
    ("amount", "above_gateway_maximum"): N_(
        "The amount is above the maximum of this payment method."
    ),
    ("reason", "empty"): N_("Enter a reason."),
    ("reference", "empty"): N_("Enter the reference."),
    ("consent", "not_given"): N_("Confirm that credit is non-refundable."),
}
_BY_REASON = {
    "too_long": N_("Use at most {maximum} characters."),
    "control_characters": N_("Use letters, digits and punctuation only."),
}
_CODES = {
    "reversal_exceeds_original": N_("The amount is more than is left to refund."),
}
_CONFLICTS = {
    "no_rate": N_(
        "No exchange rate is available for this payment method. Choose another, or contact support."
    ),
    "rate_too_old": N_(
        "The exchange rate is out of date. Choose another payment method, or contact support."
    ),
    "not_paid": N_("Only succeeded payments can be refunded."),
    "payment_is_disputed": N_("This payment is disputed. Wait for the outcome of the dispute."),
    "no_billing_profile": N_("Enter the billing information first."),
    "profile_changed": N_("Another person has changed this. Reload the page."),
    "quote_lapsed": N_("The locked exchange rate has expired. Review the payment again."),
    "quote_used": N_("This payment was already created. See Payment History."),
    "case_is_closed": N_("The payment was updated by the gateway, or decided. Reload the page."),
    "requested_by_another": N_("Another person has already requested approval. Reload the page."),
    "not_requested": N_("Approval has not been requested yet. Reload the page."),
    "nothing_to_return": N_("Nothing is left to return. Reload the page."),
    "payment_is_over": N_("This payment has ended. Create a new payment."),
}


def status(code: str) -> str:
    """Return one of the three statuses of the history."""
    return _(_STATUSES.get(code, code))


def begun_title(payment: PaymentView) -> str:
    """Return what `begun` tells of a payment."""
    return _("Created") if payment.received_on is None else _("Received")


def begun(context: PageContext, payment: PaymentView) -> str:
    """Return when a payment was begun; of a bank transfer, the day on which it was received."""
    if payment.received_on is not None:
        return formats.date(payment.received_on)
    return context.date_time(payment.created_at)


def credit(payment: PaymentView) -> dict[str, str]:
    """Return the line that tells a payment's credit: none where it failed."""
    if payment.status is PaymentStatus.SUCCESS:
        return {_("Credit"): formats.money(payment.credit)}
    if payment.status is PaymentStatus.PENDING:
        return {_("Credit to be added"): formats.money(payment.credit)}
    return {}


def state(payment: PaymentView) -> str:
    """Return how a payment stands in detail: refunds and disputes come before what was paid."""
    if payment.has_open_dispute or payment.has_lost_dispute:
        return dispute_state("open" if payment.has_open_dispute else "lost")
    if refund := _refund(payment):
        return refund
    if payment.state == "failed" and payment.code == REJECTED_BY_STAFF:
        return _("Rejected")
    if payment.has_declined_attempt:
        return _("Declined, not paid yet")
    return state_name(payment.state, payment.gateway)


def _refund(payment: PaymentView) -> str:
    """Return how a payment's refunds stand; empty where there is none."""
    if payment.refund_pending.micros:
        return _("Refund pending")
    if payment.refunded.micros == payment.pay.micros:
        return _("Refunded")
    return _("Partially refunded") if payment.refunded.micros else ""


def state_name(code: str, gateway_name: str) -> str:
    """Return what a state is called by itself."""
    if is_review_of_gateway(code, gateway_name):
        return _("Paid, under review")
    return _(_STATES.get(code, code))


def is_review_of_gateway(state: str, gateway_name: str) -> bool:
    """Whether the customer has paid and the gateway holds the money: nothing is left to do.

    PayPal's payments await nothing else. At other gateways such a payment is promised, and still
    to be paid at a store.
    """
    return state == "awaiting" and reviews_payments(gateway_name)


def under_way(state: str, gateway_name: str) -> str:
    """Return the description of a payment under way in Credit History."""
    return f"{ledger_labels.kind('top_up')} · {state_name(state, gateway_name)}"


def refund_state(code: str) -> str:
    """Return how a refund stands."""
    return _(_REFUND_STATES.get(code, code))


def dispute_state(code: str) -> str:
    """Return how a dispute stands; a payment that is disputed reads the same."""
    return _(_DISPUTE_STATES.get(code, code))


def dispute_reason(code: str | None) -> str:
    """Return why a payment is disputed, in words; empty where the gateway does not say."""
    known = (code or "").strip().lower()
    if known in _DISPUTE_REASONS:
        return _(_DISPUTE_REASONS[known])
    return known.replace("_", " ").capitalize()


def decline(payment: PaymentView) -> str:
    """Return that a payment was declined, with the reason where customers can use it."""
    why = _DECLINES.get(payment.code or "")
    name = gateway_labels.title(payment.gateway)
    if why is None:
        return _("{gateway} declined this payment. Nothing was charged.").format(gateway=name)
    text = _("{gateway} declined this payment: {reason}. Nothing was charged.")
    return text.format(gateway=name, reason=_(why))


def fault(error: InvalidInput, currency: str | None = None) -> str:
    """Return the sentence for what is wrong with a field; `currency` is that of its amounts."""
    if error.reason in {"below_minimum", "above_maximum"} and currency is not None:
        limit = error.values.get("minimum") or error.values.get("maximum") or 0
        shown = formats.money(Money(int(limit), currency))
        if error.reason == "below_minimum":
            return _("Minimum is {amount}.").format(amount=shown)
        return _("Maximum is {amount}.").format(amount=shown)
    if error.field == "amount" and (of_amount := _of_amount(error, currency)):
        return of_amount
    text = _FAULTS.get((error.field, error.reason)) or _BY_REASON.get(error.reason)
    if text is None and error.field == "tax_code":
        text = N_("The tax code is not valid in this country. Check its digits.")
    return _(text or N_("Check this field.")).format(**error.values)


def _of_amount(error: InvalidInput, currency: str | None) -> str | None:
    """Return what is wrong with a typed amount, where its currency says it better."""
    named = str(error.values.get("currency") or currency or "")
    if error.reason == "ambiguous":
        readings = (
            formats.amount(Money(int(error.values[name]), named))
            for name in ("first_micros", "second_micros")
        )
        text = _("The amount is ambiguous. Enter it as {first} or {second} {currency}.")
        first, second = readings
        return text.format(first=first, second=second, currency=named)
    if error.reason == "too_many_decimals" and named:
        decimals = currency_exponent(named)
        text = (
            _("Enter an amount with at most {count} decimals.")
            if decimals
            else _("Enter a whole number: {currency} has no decimals.")
        )
        return text.format(count=decimals, currency=named)
    if error.reason == "not_a_number" and named:
        example = formats.amount(Money.from_minor_units(_EXAMPLE_COINS, named))
        return _("Enter an amount in digits, such as {example}.").format(example=example)
    return None


def _of_gateway(error: GatewayUnavailable | GatewayRefused) -> str:
    if isinstance(error, GatewayUnavailable):
        text = _("{gateway} is not responding. Nothing was charged. Try again.")
    else:
        text = _("{gateway} did not accept this payment. Nothing was charged.")
    return text.format(gateway=gateway_labels.title(error.gateway))


def refusal(error: BillingError, currency: str | None = None) -> str:
    """Return the sentence for why a payment cannot be begun."""
    if isinstance(error, InvalidInput):
        return fault(error, currency)
    if isinstance(error, GatewayUnavailable | GatewayRefused):
        return _of_gateway(error)
    if isinstance(error, RefundRefused):
        text = _("{gateway} declined the refund. The credit was restored.")
        return text.format(gateway=gateway_labels.title(error.gateway))
    if error.code == "rate_limited":
        return wait_text(getattr(error, "retry_after_seconds", 0))
    conflict = _CONFLICTS.get(getattr(error, "reason", "")) or _CODES.get(error.code)
    return _(conflict) if conflict else error_labels.text_of(error)
