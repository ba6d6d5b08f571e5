"""A gateway that says what a test tells it to, for what follows from facts; and sample payers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from domain.actors import MemberRole, system_actor, user_actor
from domain.billing_profiles import BillingProfile, ProfileKind, save_profile
from domain.gateways.interface import (
    Acknowledgement,
    Checkout,
    GatewayPaymentState,
    GatewayUnavailable,
    KnownName,
    Limits,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
    Snapshot,
    WebhookEvent,
)
from domain.money import Money
from domain.payments import CONSENT_VERSION, StartedPayment, start_payment
from tests.factories import make_account, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.interface import (
        CheckoutRequest,
        Gateway,
        InboundMessage,
        KnownPayment,
        Outcome,
        RefundRequest,
    )

GATEWAYS = system_actor("gateways")
_numbers = itertools.count(1)
_COUNTRIES = {"vn": "VN", "jp": "JP", "global": "FR"}
_CURRENCIES = {"vn": "VND", "jp": "JPY", "global": "USD"}


@dataclass
class ScriptedGateway:
    """Answers what it was given; what it was asked stands in `asked`."""

    name: str = "vnpay"
    is_sandbox: bool = False
    tells_latest_refund_only: bool = False
    snapshot: Snapshot = field(
        default_factory=lambda: Snapshot(PaymentUpdate(GatewayPaymentState.OPEN))
    )
    refunded: RefundUpdate | None = None
    failure: Exception | None = None
    asked: list[str] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    refund_requests: list[RefundRequest] = field(default_factory=list)

    def limits(self, currency: str) -> Limits | None:
        return Limits() if currency in {"VND", "JPY", "USD", "EUR"} else None

    def create_checkout(self, request: CheckoutRequest) -> Checkout:
        self.asked.append(f"create {request.reference}")
        self._fail()
        return Checkout(
            f"https://pay.example.com/{request.reference}",
            f"checkout-{request.reference}",
            request.expires_at + timedelta(minutes=5),
        )

    def parse_return(self, message: InboundMessage) -> KnownName:
        return KnownName(reference=dict(message.query).get("reference"))

    def parse_webhook(self, message: InboundMessage) -> WebhookEvent:
        raise NotImplementedError

    def acknowledge(self, outcome: Outcome) -> Acknowledgement:
        return Acknowledgement(200, outcome.value.encode())

    def fetch_payment(self, payment: KnownPayment) -> Snapshot:
        self.asked.append(f"fetch {payment.reference}")
        self._fail()
        return self.snapshot

    def complete_payment(self, payment: KnownPayment) -> Snapshot:
        self.attempts.append(payment.refusals)
        return self.fetch_payment(payment)

    def refund(self, request: RefundRequest) -> RefundUpdate:
        self.asked.append(f"refund {request.reference}")
        self.refund_requests.append(request)
        self._fail()
        message = self.refunded or RefundUpdate(
            gateway_refund_id=f"refund-{next(_numbers)}",
            state=RefundState.SUCCEEDED,
            amount=request.amount,
        )
        return replace(
            message,
            reference=request.reference,
            payment_reference=request.payment.reference,
            amount=request.amount,
        )

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


def away(gateway: str = "vnpay") -> GatewayUnavailable:
    return GatewayUnavailable(gateway, "away")


def payer(session: Session, *, site: str = "vn") -> tuple[int, Actor]:
    """Return an account with a billing profile, and its owner."""
    currency = _CURRENCIES[site]
    account_id = make_account(session, site=site, currency=currency)
    save_profile(
        session,
        account_id=account_id,
        profile=BillingProfile(
            kind=ProfileKind.PERSONAL,
            name="Lan Tran",
            email="lan@example.com",
            address="1 Sample Street",
            country=_COUNTRIES[site],
        ),
        currency=None,
        expected_version=0,
        actor=system_actor("tests"),
        idempotency_key=next_key("profile"),
    )
    return account_id, user_actor(70_000 + account_id, memberships={account_id: MemberRole.OWNER})


def begin(
    session: Session,
    gateway: Gateway,
    account_id: int,
    actor: Actor,
    credit: Money,
    *,
    quote_id: int | None = None,
    key: str | None = None,
) -> StartedPayment:
    """Write a payment down."""
    return start_payment(
        session,
        account_id=account_id,
        gateway=gateway,
        credit=credit,
        quote_id=quote_id,
        consent_version=CONSENT_VERSION,
        language="en",
        actor=actor,
        idempotency_key=key or next_key("payment"),
    )


def dong(amount: int) -> Money:
    return Money.from_minor_units(amount, "VND")


def paid(reference: str, amount: Money, *, number: str | None = None) -> PaymentUpdate:
    """Return the fact that a payment was paid."""
    return PaymentUpdate(
        state=GatewayPaymentState.PAID,
        reference=reference,
        gateway_payment_id=number or f"money-{next(_numbers)}",
        amount=amount,
    )
