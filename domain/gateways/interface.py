"""Define what every gateway does, in terms of the portal.

A gateway's module translates between these and its provider's protocol. Amounts are `Money` in
whole minor units; moments carry their time zone. Everything that is returned was verified: it was
received under a valid signature, or in the response to an authenticated request of ours. Calls wait
for the network, so no transaction may be open around them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol

from domain.errors import BillingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from domain.money import Money


# ── What we ask ───────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """A payment that a customer is about to make.

    `reference` is ours: 20 characters A to Z and 0 to 9, unique for ever, and the idempotency key
    of what is created. `description` has letters, digits and spaces of ASCII only. The browser
    returns to `return_url`, also after a cancellation. `language` is en, vi or ja.
    """

    reference: str
    amount: Money
    description: str
    return_url: str
    cancel_url: str
    customer_email: str
    customer_ip: str
    language: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Checkout:
    """Where the customer pays. `gateway_reference` is the gateway's own id of it, if it has one.

    `expires_at` is when the gateway itself expires it.
    """

    redirect_url: str
    gateway_reference: str | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class KnownPayment:
    """What is known of a payment to query or refund.

    `refusals` numbers the next attempt to take what was approved: those before it were declined.
    """

    reference: str
    gateway_reference: str | None
    gateway_payment_id: str | None
    amount: Money
    created_at: datetime
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A refund to request. `reference` is ours, unique for ever, and the idempotency key.

    `amount` is in the currency that was paid; `is_whole` states that it is all that was paid.
    `actor` is who requested it, as the gateway may keep it: letters and digits. `others` are the
    gateway's ids of the payment's other refunds, so that none of them is mistaken for this one.
    """

    payment: KnownPayment
    reference: str
    amount: Money
    is_whole: bool
    actor: str
    requested_at: datetime
    others: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """An HTTP request that was sent to us, as it was received.

    `headers` have names in lower case. `query` keeps every pair in the order of the address,
    decoded once; `raw_query` is the same undecoded.
    """

    method: str
    headers: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    raw_query: str
    body: bytes
    received_at: datetime


# ── What is true ──────────────────────────────────────────────────────────────────────────────
class GatewayPaymentState(StrEnum):
    """The state of a payment at its gateway.

    OPEN: the customer has not finished. AWAITING: they have, and the money arrives later (konbini).
    APPROVED: it waits for our capture. UNDER_REVIEW: money was taken and the gateway reviews it.
    UNKNOWN: the gateway has no such payment.
    """

    OPEN = "open"
    AWAITING = "awaiting"
    APPROVED = "approved"
    PAID = "paid"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNDER_REVIEW = "under_review"
    UNKNOWN = "unknown"


class RefundState(StrEnum):
    """The state of a refund at the gateway."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class DisputeState(StrEnum):
    """The state of a dispute: LOST took the money, WON returned it, and an appeal reopens it.

    An INQUIRY asks and takes nothing; it may become a dispute, or end as INQUIRY_CLOSED.
    """

    INQUIRY = "inquiry"
    INQUIRY_CLOSED = "inquiry_closed"
    OPEN = "open"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a payment was made with: a card, or an account at the gateway.

    `identity` is the gateway's own id of it, the same in every payment that it makes; it is never
    stored in clear. `shown` is what staff may see, such as "card …4242".
    """

    identity: str = field(repr=False)
    shown: str


@dataclass(frozen=True, slots=True)
class PaymentUpdate:
    """The state of a payment, as the gateway reports it.

    `reference` is ours as the gateway returned it. `gateway_payment_id` names the money itself
    (VNPay's transaction, Stripe's PaymentIntent, PayPal's capture) and is there wherever the state
    is PAID. `amount` is what was paid. `code` is the gateway's own code of the reason why not.
    `method` is how it was paid, such as "card" or "konbini". `pay_by` is the end of AWAITING, and
    `instructions_url` where the customer reads how to pay until then. `refusal` is the number of an
    attempt to take the money that was declined for good, while the customer may still pay another
    way: APPROVED where the gateway offers the same once more. `instrument` is None where the
    gateway has none that it recognises, and where this message leaves it out,
    `asking_tells_instrument`.
    """

    state: GatewayPaymentState
    reference: str | None = None
    gateway_reference: str | None = None
    gateway_payment_id: str | None = None
    amount: Money | None = None
    fee: Money | None = None
    occurred_at: datetime | None = None
    code: str | None = None
    method: str | None = None
    pay_by: datetime | None = None
    instructions_url: str | None = None
    refusal: int | None = None
    instrument: Instrument | None = None
    asking_tells_instrument: bool = False


@dataclass(frozen=True, slots=True)
class RefundUpdate:
    """Money that was refunded, or is on its way. `reference` is ours where we requested it.

    `gateway_refund_id` is unique at the gateway, and what a refund is recognised by. `is_reversal`
    states that the gateway took the money by itself, as it does for a dispute (PayPal's
    PAYMENT.CAPTURE.REVERSED), and no one refunded it. `stated_at` is when the gateway reported this
    state.
    """

    gateway_refund_id: str
    state: RefundState
    amount: Money
    gateway_payment_id: str | None = None
    payment_reference: str | None = None
    reference: str | None = None
    occurred_at: datetime | None = None
    is_reversal: bool = False
    stated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DisputeUpdate:
    """A payment that the customer's bank disputes. `amount` is what is disputed.

    `lost` is the part that a closed dispute gave to the customer: None for all of it where the
    state is LOST, and nothing where it is WON. `occurred_at` is when it was opened, `stated_at`
    when the gateway reported this state: messages arrive in any order, and the newest counts. `fee`
    is all that the gateway has charged for the dispute so far, None where it does not state it.
    `other_dispute_id` is an earlier ID of it at the gateway, if any. `unknown_outcome` is the code
    of an outcome that is not known here: the dispute stays open until finance closes it.
    """

    gateway_dispute_id: str
    state: DisputeState
    amount: Money
    lost: Money | None = None
    gateway_payment_id: str | None = None
    payment_reference: str | None = None
    reason: str | None = None
    respond_by: datetime | None = None
    occurred_at: datetime | None = None
    stated_at: datetime | None = None
    fee: Money | None = None
    other_dispute_id: str | None = None
    unknown_outcome: str | None = None


GatewayUpdate = PaymentUpdate | RefundUpdate | DisputeUpdate


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A verified message of the gateway.

    `event_id` is unique at the gateway: the same again is a duplicate. `updates` are what it
    reports; `asks_about` names payments (by our reference or the gateway's id) whose present state
    must be fetched, because the message alone does not state it.
    """

    event_id: str
    event_type: str
    updates: tuple[GatewayUpdate, ...] = ()
    asks_about: tuple[KnownName, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownName:
    """A payment as a message names it; at least one of the three ids is there.

    Where the message is about money that goes out again, the id of that money comes first.
    """

    reference: str | None = None
    gateway_reference: str | None = None
    gateway_payment_id: str | None = None
    is_money_first: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the gateway reports about one payment now.

    `unread` names what it did not report this time ("refunds", "disputes"): the payment itself
    counts all the same, and the rest is queried again.
    """

    payment: PaymentUpdate
    refunds: tuple[RefundUpdate, ...] = ()
    disputes: tuple[DisputeUpdate, ...] = ()
    unread: frozenset[str] = frozenset()


# ── How we answer ─────────────────────────────────────────────────────────────────────────────
class Outcome(StrEnum):
    """The outcome of a message, for the response to the gateway.

    BAD_SIGNATURE and MALFORMED are what `parse_webhook` rejects; the others are found when its
    updates are written. UNAVAILABLE: it could not be written, and the gateway must retry.
    """

    RECORDED = "recorded"
    REPEATED = "repeated"
    UNKNOWN_PAYMENT = "unknown_payment"
    WRONG_AMOUNT = "wrong_amount"
    BAD_SIGNATURE = "bad_signature"
    MALFORMED = "malformed"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The HTTP response that a gateway expects."""

    status: int
    body: bytes = b""
    media_type: str = "text/plain"


# ── What goes wrong ───────────────────────────────────────────────────────────────────────────
class GatewayUnavailable(BillingError):  # noqa: N818 - as domain.errors
    """The gateway did not respond as it should: the outcome of the request is unknown."""

    code: ClassVar[str] = "gateway_unavailable"

    def __init__(self, gateway: str, reason: str) -> None:
        """Name the gateway, and why in a few words without any secret."""
        super().__init__(gateway, reason)
        self.gateway = gateway
        self.reason = reason


class GatewayRefused(BillingError):  # noqa: N818 - as domain.errors
    """The gateway rejected the request."""

    code: ClassVar[str] = "gateway_refused"

    def __init__(self, gateway: str, reason: str) -> None:
        """Name the gateway, and its own code of the reason."""
        super().__init__(gateway, reason)
        self.gateway = gateway
        self.reason = reason


class WebhookRefused(BillingError):  # noqa: N818 - as domain.errors
    """The message cannot be trusted, or cannot be read."""

    code: ClassVar[str] = "webhook_refused"

    def __init__(self, outcome: Outcome, reason: str) -> None:
        """Set BAD_SIGNATURE or MALFORMED, and why in a slug such as "old" or "wrong_merchant"."""
        super().__init__(outcome, reason)
        self.outcome = outcome
        self.reason = reason


# ── The protocol ──────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Limits:
    """What a gateway accepts of a currency in one payment; None where it states nothing."""

    minimum: Money | None = None
    maximum: Money | None = None


class Gateway(Protocol):
    """One provider. Network calls raise GatewayUnavailable and GatewayRefused."""

    @property
    def name(self) -> str:
        """The slug that payments, addresses and the journal know it by: vnpay, stripe, paypal."""

    @property
    def is_sandbox(self) -> bool:
        """Whether it connects to a sandbox, so that no money moves."""

    @property
    def tells_latest_refund_only(self) -> bool:
        """Whether it reports only a payment's latest refund: the next one waits for its end."""

    def limits(self, currency: str) -> Limits | None:
        """Return what it accepts of a currency, or None where it does not accept it."""

    def create_checkout(self, request: CheckoutRequest) -> Checkout:
        """Create a checkout at the gateway. Again with the same reference: the same checkout."""

    def parse_return(self, message: InboundMessage) -> KnownName:
        """Return which payment a returning browser names: nothing else in it can be trusted.

        Raises WebhookRefused.
        """

    def parse_webhook(self, message: InboundMessage) -> WebhookEvent:
        """Verify and read a message. Raises WebhookRefused; requests nothing but certificates.

        A message that is genuine and of no interest is a WebhookEvent with no updates.
        """

    def acknowledge(self, outcome: Outcome) -> Acknowledgement:
        """Return the response that the gateway understands."""

    def fetch_payment(self, payment: KnownPayment) -> Snapshot:
        """Fetch the payment's present state, its refunds and disputes included."""

    def complete_payment(self, payment: KnownPayment) -> Snapshot:
        """Capture what the customer approved where that is left to us, then `fetch_payment`."""

    def refund(self, request: RefundRequest) -> RefundUpdate:
        """Refund money. Again with the same reference: the same refund."""
