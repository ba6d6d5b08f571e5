"""A payment at each gateway, told of by webhook, polling and return page."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import stripe

from domain.gateways.interface import InboundMessage
from domain.gateways.paypal.client import PayPal
from domain.gateways.paypal.settings import PayPalSettings
from domain.gateways.stripe.client import StripeCheckout
from domain.gateways.stripe.settings import StripeSettings
from domain.gateways.vnpay.client import VNPay
from domain.gateways.vnpay.fields import hash_data, sign
from domain.gateways.vnpay.settings import VNPaySettings
from domain.money import Money
from domain.security.payload_encryption import Vault
from sandbox.paypal_certificates import load_or_make
from tests.gateways import dong

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

    from domain.gateways.interface import Gateway
    from sandbox.paypal_certificates import Identity


VAULT = Vault(b"the-secret-key-of-these-tests-0123456789")


@dataclass
class VnpayShop:
    """VNPay tells by IPN how a payment went, and nothing of what follows."""

    site: str = "vn"
    credit: Money = field(default_factory=lambda: dong(500_000))
    settings: VNPaySettings = field(
        default_factory=lambda: VNPaySettings(
            "TESTTMN1",
            "secret-of-tests",
            "https://pay.example.com",
            "https://api.example.com",
            is_sandbox=False,
        )
    )

    def gateway(self) -> Gateway:
        return VNPay(self.settings)

    def message(self, update: str, reference: str) -> InboundMessage:
        codes = {"paid": "00", "failed": "24", "under review": "07"}
        status = {"paid": "00", "failed": "02", "under review": "07"}
        given = {
            "vnp_TmnCode": self.settings.tmn_code,
            "vnp_Amount": str(self.credit.to_minor_units() * 100),
            "vnp_PayDate": "20260115093312",
            "vnp_ResponseCode": codes[update],
            "vnp_TransactionNo": "0" if update == "failed" else "14422574",
            "vnp_TransactionStatus": status[update],
            "vnp_TxnRef": reference,
        }
        signature = sign(self.settings.hash_secret, hash_data(given.items()))
        pairs = [*given.items(), ("vnp_SecureHash", signature)]
        return InboundMessage("GET", {}, pairs, urlencode(pairs), b"", datetime.now(UTC))


@dataclass
class StripeShop:
    """Stripe tells of sessions, refunds and disputes, each event in its second."""

    site: str = "jp"
    credit: Money = field(default_factory=lambda: Money.from_minor_units(5_000, "JPY"))
    secret: str = "whsec_ofTheseTests"

    def gateway(self) -> Gateway:
        settings = StripeSettings(
            "sk_test_x", (self.secret,), "https://api.example.com", is_sandbox=True
        )
        return StripeCheckout(settings)

    def message(self, update: str, reference: str) -> InboundMessage:
        events: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
            "paid": ("checkout.session.completed", self.session),
            "paid again": ("payment_intent.succeeded", self.intent),
            "expired": ("checkout.session.expired", self.session),
            "refunded": ("refund.created", self.refund),
            "refund failed": ("refund.failed", self.refund),
            "disputed": ("charge.dispute.created", self.dispute),
            "lost": ("charge.dispute.closed", self.dispute),
            "won": ("charge.dispute.closed", self.dispute),
        }
        second = list(events).index(update)
        kind, describe = events[update]
        about = describe(reference) | self.changes(update)
        event = {
            "id": f"evt_{second}_{reference}",
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": 1_768_450_000 + second,
            "data": {"object": about},
            "livemode": False,
            "type": kind,
        }
        body = json.dumps(event).encode()
        header: str = stripe.WebhookSignature.generate_signature_header(
            body.decode(), self.secret, timestamp=int(time.time())
        )
        return InboundMessage("POST", {"stripe-signature": header}, (), "", body, datetime.now(UTC))

    def changes(self, update: str) -> dict[str, Any]:
        changes: dict[str, dict[str, Any]] = {
            "expired": {"payment_status": "unpaid", "status": "expired", "payment_intent": None},
            "refund failed": {"status": "failed"},
            "lost": {"status": "lost"},
            "won": {"status": "won"},
        }
        return changes.get(update, {})

    def session(self, reference: str) -> dict[str, Any]:
        return {
            "id": f"cs_test_{reference}",
            "object": "checkout.session",
            "amount_total": self.credit.to_minor_units(),
            "client_reference_id": reference,
            "currency": "jpy",
            "expires_at": int((datetime.now(UTC) + timedelta(hours=2)).timestamp()),
            "metadata": {"payment_reference": reference},
            "payment_intent": f"pi_{reference}",
            "payment_method_options": {},
            "payment_method_types": ["card"],
            "payment_status": "paid",
            "status": "complete",
        }

    def intent(self, reference: str) -> dict[str, Any]:
        return {
            "id": f"pi_{reference}",
            "object": "payment_intent",
            "amount": self.credit.to_minor_units(),
            "amount_received": self.credit.to_minor_units(),
            "currency": "jpy",
            "last_payment_error": None,
            "latest_charge": f"ch_{reference}",
            "metadata": {"payment_reference": reference},
            "status": "succeeded",
        }

    def refund(self, reference: str) -> dict[str, Any]:
        return {
            "id": f"re_{reference}",
            "object": "refund",
            "amount": 2_000,
            "created": 1_768_449_000,
            "currency": "jpy",
            "metadata": {},
            "payment_intent": f"pi_{reference}",
            "status": "succeeded",
        }

    def dispute(self, reference: str) -> dict[str, Any]:
        return {
            "id": f"du_{reference}",
            "object": "dispute",
            "amount": self.credit.to_minor_units(),
            "balance_transactions": [],
            "created": 1_768_449_000,
            "currency": "jpy",
            "evidence_details": {"due_by": 1_769_050_000},
            "metadata": {},
            "payment_intent": f"pi_{reference}",
            "reason": "fraudulent",
            "status": "needs_response",
        }


@dataclass
class Certificates:
    """The certificate that these messages are signed with, and its root."""

    identity: Identity

    def fetch(self, url: str) -> bytes:
        assert self.identity.name in url
        return self.identity.certificate_pem()

    def anchors(self) -> Sequence[x509.Certificate]:
        return [self.identity.root]


@dataclass
class PaypalShop:
    """PayPal tells of captures, refunds, reversals and disputes."""

    identity: Identity
    site: str = "global"
    credit: Money = field(default_factory=lambda: Money.from_minor_units(5_000, "USD"))

    def gateway(self) -> Gateway:
        settings = PayPalSettings(
            client_id="client",
            client_secret="secret",
            webhook_id="1JE4291016473214C",
            api_base="https://api.example.com",
            is_sandbox=True,
            brand_name="Credit Portal",
        )
        return PayPal(settings, Certificates(self.identity))

    def message(self, update: str, reference: str) -> InboundMessage:
        events: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
            "approved": ("CHECKOUT.ORDER.APPROVED", self.order),
            "pending": ("PAYMENT.CAPTURE.PENDING", self.capture),
            "paid": ("PAYMENT.CAPTURE.COMPLETED", self.capture),
            "refunded": ("PAYMENT.CAPTURE.REFUNDED", self.refund),
            "reversed": ("PAYMENT.CAPTURE.REVERSED", self.refund),
            "disputed": ("CUSTOMER.DISPUTE.CREATED", self.dispute),
            "lost": ("CUSTOMER.DISPUTE.RESOLVED", self.dispute),
            "won": ("CUSTOMER.DISPUTE.RESOLVED", self.dispute),
            "denied": ("PAYMENT.CAPTURE.DENIED", self.capture),
        }
        second = list(events).index(update)
        moment = f"2026-01-15T02:33:{second:02}Z"
        kind, describe = events[update]
        about = {"update_time": moment} | describe(reference) | self.changes(update)
        event = {
            "id": f"WH-{second}-{reference}",
            "event_type": kind,
            "create_time": moment,
            "resource": about,
        }
        body = json.dumps(event).encode()
        sent_at = datetime.now(UTC).isoformat()
        headers = {
            "paypal-transmission-id": f"t-{second}-{reference}",
            "paypal-transmission-time": sent_at,
            "paypal-transmission-sig": self.identity.sign(
                f"t-{second}-{reference}", sent_at, "1JE4291016473214C", body
            ),
            "paypal-cert-url": "https://api.sandbox.paypal.com/v1/notifications/certs/"
            + self.identity.name,
            "paypal-auth-algo": "SHA256withRSA",
        }
        return InboundMessage("POST", headers, (), "", body, datetime.now(UTC))

    def changes(self, update: str) -> dict[str, Any]:
        def resolved(outcome: str) -> dict[str, Any]:
            return {"status": "RESOLVED", "dispute_outcome": {"outcome_code": outcome}}

        changes: dict[str, dict[str, Any]] = {
            "pending": {"status": "PENDING"},
            "denied": {"status": "DECLINED"},
            "reversed": {"id": "REVERSAL1", "amount": self.amount()},
            "lost": resolved("RESOLVED_BUYER_FAVOUR"),
            "won": resolved("RESOLVED_SELLER_FAVOUR"),
        }
        return changes.get(update, {})

    def amount(self, cents: int | None = None) -> dict[str, str]:
        count = self.credit.to_minor_units() if cents is None else cents
        return {"currency_code": "USD", "value": f"{count // 100}.{count % 100:02}"}

    def order(self, reference: str) -> dict[str, Any]:
        unit = {"reference_id": "default", "custom_id": reference, "amount": self.amount()}
        return {"id": f"ORDER{reference[:9]}", "status": "APPROVED", "purchase_units": [unit]}

    def capture(self, reference: str) -> dict[str, Any]:
        return {
            "id": f"CAPTURE{reference[:9]}",
            "status": "COMPLETED",
            "amount": self.amount(),
            "custom_id": reference,
        }

    def refund(self, reference: str) -> dict[str, Any]:
        capture = f"https://api.paypal.com/v2/payments/captures/CAPTURE{reference[:9]}"
        return {
            "id": f"REFUND{reference[:9]}",
            "status": "COMPLETED",
            "amount": self.amount(2_000),
            "links": [{"rel": "up", "href": capture}],
        }

    def dispute(self, reference: str) -> dict[str, Any]:
        return {
            "dispute_id": f"PP-D-{reference[:9]}",
            "create_time": "2026-01-15T02:33:05Z",
            "status": "OPEN",
            "dispute_life_cycle_stage": "CHARGEBACK",
            "dispute_amount": self.amount(),
            "disputed_transactions": [
                {
                    "seller_transaction_id": f"CAPTURE{reference[:9]}",
                    "custom": reference,
                    "gross_amount": self.amount(),
                }
            ],
        }


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """One certificate for all tests: making it takes long."""
    return load_or_make(tmp_path_factory.mktemp("keys"))
