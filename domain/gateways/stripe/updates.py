"""Translate Stripe's objects and events into updates of payments, refunds and disputes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from domain.gateways.guards import (
    optional_text,
    positive,
    readable,
    required_text,
    sane_moment,
    web_address,
)
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    GatewayUnavailable,
    Instrument,
    KnownName,
    Outcome,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
)
from domain.gateways.stripe.settings import NAME
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.gateways.interface import GatewayUpdate, KnownPayment

KONBINI_CURRENCY = "JPY"
_JAPAN = ZoneInfo("Asia/Tokyo")
_MAX_TIME_LENGTH = 12
PAYMENT_REFERENCE, REFUND_REFERENCE = "payment_reference", "refund_reference"
_NOT_PAID_IN_TIME = "payment_intent_payment_attempt_expired"
BAD_REQUEST, UNAUTHORIZED, _UNAVAILABLE = 400, 401, 503
_INTENT_STATES = {
    "succeeded": GatewayPaymentState.PAID,
    "processing": GatewayPaymentState.AWAITING,
    "requires_action": GatewayPaymentState.AWAITING,
    "requires_payment_method": GatewayPaymentState.FAILED,
    "canceled": GatewayPaymentState.FAILED,
    "requires_capture": GatewayPaymentState.UNDER_REVIEW,
}
_REFUND_STATES = {
    "pending": RefundState.PENDING,
    "requires_action": RefundState.PENDING,
    "succeeded": RefundState.SUCCEEDED,
    "failed": RefundState.FAILED,
    "canceled": RefundState.FAILED,
}
_DISPUTE_STATES = {
    # The bank asks and takes nothing: the same dispute needs a response where it becomes one.
    "warning_needs_response": DisputeState.INQUIRY,
    "warning_under_review": DisputeState.INQUIRY,
    "warning_closed": DisputeState.INQUIRY_CLOSED,
    "won": DisputeState.WON,
    # Settled before it began; what the customer got then is a refund of its own.
    "prevented": DisputeState.WON,
    "lost": DisputeState.LOST,
    # An appeal reopens a lost dispute, and its money stays out meanwhile. Where that is the first
    # report of the dispute, it counts as any open dispute: the account is frozen, and nothing is
    # clawed back before the appeal is decided.
    "appeal_needs_response": DisputeState.OPEN,
    "appeal_under_review": DisputeState.OPEN,
}
_ENDED = frozenset((DisputeState.WON, DisputeState.LOST))
StripeDocument = dict[str, Any]
STATUSES = {
    Outcome.RECORDED: 200,
    Outcome.REPEATED: 200,
    Outcome.UNKNOWN_PAYMENT: 200,
    Outcome.WRONG_AMOUNT: 200,
    Outcome.BAD_SIGNATURE: BAD_REQUEST,
    Outcome.MALFORMED: BAD_REQUEST,
    Outcome.UNAVAILABLE: _UNAVAILABLE,
}


def check_is_about(payment: KnownPayment, reference: str | None) -> None:
    """Raise GatewayUnavailable where an answer is about another payment."""
    if reference != payment.reference:
        raise GatewayUnavailable(NAME, "an answer about another payment")


def read_signed_at(header: str) -> int | None:
    """Return the time in a signature's header, or None where none can be read."""
    parts = dict(part.split("=", 1) for part in reversed(header.split(",")) if "=" in part)
    text = parts.get("t", "")
    is_time = header.isascii() and text.isdigit() and len(text) <= _MAX_TIME_LENGTH
    return int(text) if is_time else None


read_text = required_text


def read_moment(seconds: object) -> datetime:
    """Return a time given in seconds. Raises TypeError, ValueError."""
    if type(seconds) is not int:
        raise TypeError("not a time")
    return sane_moment(datetime.fromtimestamp(seconds, UTC))


def _money(count: int, currency: str) -> Money:
    if count < 0:
        raise ValueError("less than nothing")
    return Money.from_minor_units(count, currency.upper())


def _id_of(value: object) -> str | None:
    """Return the id of an object that was sent as its id, or whole."""
    if value is None:
        return None
    return read_text(value["id"] if isinstance(value, dict) else value)


def read_whole(value: object) -> StripeDocument:
    """Return an object that was sent whole, or nothing of it."""
    return value if isinstance(value, dict) else {}


def read_reference(found: StripeDocument, name: str = PAYMENT_REFERENCE) -> str | None:
    """Return a reference of ours, or None where the object is not one of ours.

    Only our metadata counts: anyone who opens a payment link may write the session's
    `client_reference_id`.
    """
    reference = read_whole(found.get("metadata")).get(name)
    return None if reference is None else read_text(reference)


def names_of_charge(charge: StripeDocument) -> tuple[KnownName, ...]:
    """Return the ids by which a charge names its payment."""
    payment_intent = _id_of(charge.get("payment_intent"))
    reference = read_reference(charge)
    if payment_intent is None and reference is None:
        return ()
    return (KnownName(reference=reference, gateway_payment_id=payment_intent),)


def _session_done(session: StripeDocument, at: datetime) -> PaymentUpdate | None:
    """Read a session that the customer finished, or whose money was received later."""
    if read_reference(session) is None:
        return None
    if session["payment_status"] == "paid":
        return _update(session, GatewayPaymentState.PAID, at=at)
    if session["payment_status"] == "unpaid":
        pay_by = _pay_by(session, at)
        method = None if pay_by is None else "konbini"
        return _update(session, GatewayPaymentState.AWAITING, at=at, pay_by=pay_by, method=method)
    return _update(
        session, GatewayPaymentState.FAILED, at=at, code=read_text(session["payment_status"])
    )


def _session_failed(session: StripeDocument, at: datetime) -> PaymentUpdate | None:
    if read_reference(session) is None:
        return None
    # Only a store is paid later than its session is done, and it fails by not being paid in time.
    is_late = _konbini_options(session) is not None
    state = GatewayPaymentState.EXPIRED if is_late else GatewayPaymentState.FAILED
    return _update(session, state, at=at, code="async_payment_failed")


def _session_expired(session: StripeDocument, at: datetime) -> PaymentUpdate | None:
    if read_reference(session) is None:
        return None
    return _update(session, GatewayPaymentState.EXPIRED, at=at, code="expired")


def _update(
    session: StripeDocument,
    state: GatewayPaymentState,
    *,
    at: datetime | None = None,
    code: str | None = None,
    method: str | None = None,
    pay_by: datetime | None = None,
) -> PaymentUpdate:
    payment_intent = _id_of(session.get("payment_intent"))
    if state is GatewayPaymentState.PAID and payment_intent is None:
        raise ValueError("paid by no payment")
    return PaymentUpdate(
        state=state,
        reference=read_reference(session),
        gateway_reference=read_text(session["id"]),
        gateway_payment_id=payment_intent,
        amount=_money(session["amount_total"], session["currency"]),
        occurred_at=at,
        code=code,
        method=method,
        pay_by=pay_by,
        asking_tells_instrument=state is GatewayPaymentState.PAID,
    )


def _pay_by(session: StripeDocument, at: datetime) -> datetime | None:
    """Return the last second in Japan of the day until which a shop takes the money."""
    days = (_konbini_options(session) or {}).get("expires_after_days")
    if type(days) is not int:
        return None
    day = at.astimezone(_JAPAN) + timedelta(days=days)
    return day.replace(hour=23, minute=59, second=59, microsecond=0).astimezone(UTC)


def _konbini_options(session: StripeDocument) -> StripeDocument | None:
    """Return how a store may be paid; None where the session does not offer one."""
    options = read_whole(session.get("payment_method_options")).get("konbini")
    return options if isinstance(options, dict) else None


def _intent_succeeded(intent: StripeDocument, at: datetime) -> PaymentUpdate | None:
    """Read a succeeded payment intent, which repeats what its session reports."""
    if read_reference(intent) is None:
        return None
    if intent["status"] != "succeeded":
        raise ValueError("succeeded and did not")
    return PaymentUpdate(
        state=GatewayPaymentState.PAID,
        reference=read_reference(intent),
        gateway_payment_id=read_text(intent["id"]),
        amount=_money(intent["amount_received"], intent["currency"]),
        occurred_at=at,
        asking_tells_instrument=True,
    )


def session_update(session: StripeDocument) -> PaymentUpdate:
    """Read a session that was sent with its payment and charge."""
    status = session["status"]
    if status == "open":
        return _update(session, GatewayPaymentState.OPEN)
    if status == "expired":
        return _update(session, GatewayPaymentState.EXPIRED, code="expired")
    intent = session["payment_intent"]
    if not isinstance(intent, dict):
        return _update(
            session, GatewayPaymentState.FAILED, code=read_text(session["payment_status"])
        )
    money = intent_update(intent)
    return PaymentUpdate(
        state=GatewayPaymentState.PAID if session["payment_status"] == "paid" else money.state,
        reference=read_reference(session),
        gateway_reference=read_text(session["id"]),
        gateway_payment_id=money.gateway_payment_id,
        amount=_money(session["amount_total"], session["currency"]),
        fee=money.fee,
        occurred_at=money.occurred_at,
        code=money.code,
        method=money.method,
        pay_by=money.pay_by,
        instructions_url=money.instructions_url,
        instrument=money.instrument,
    )


def intent_update(intent: StripeDocument) -> PaymentUpdate:
    """Read a payment intent that was sent with its charge."""
    state = _INTENT_STATES.get(intent["status"], GatewayPaymentState.OPEN)
    charge = read_whole(intent.get("latest_charge"))
    voucher = read_whole(read_whole(intent.get("next_action")).get("konbini_display_details"))
    fault = read_whole(intent.get("last_payment_error"))
    code = optional_text(fault.get("code")) or read_text(intent["status"])
    if state is GatewayPaymentState.FAILED and code == _NOT_PAID_IN_TIME:
        state = GatewayPaymentState.EXPIRED
    is_paid = state is GatewayPaymentState.PAID
    charged = optional_text(read_whole(charge.get("payment_method_details")).get("type"))
    return PaymentUpdate(
        state=state,
        reference=read_reference(intent),
        gateway_payment_id=read_text(intent["id"]),
        amount=_money(intent["amount_received" if is_paid else "amount"], intent["currency"]),
        fee=readable(lambda: _fee(charge)) if is_paid else None,
        occurred_at=read_moment(charge["created"]) if is_paid and charge else None,
        code=code if state in {GatewayPaymentState.FAILED, GatewayPaymentState.EXPIRED} else None,
        method="konbini" if voucher else charged,
        pay_by=read_moment(voucher["expires_at"]) if voucher else None,
        instructions_url=readable(lambda: web_address(voucher["hosted_voucher_url"]))
        if voucher
        else None,
        instrument=readable(lambda: _instrument(charge)) if is_paid else None,
    )


def _instrument(charge: StripeDocument) -> Instrument | None:
    """Return the card by its fingerprint, which is the same for each account that it pays for.

    Stripe has no identity of those who pay at a store.
    """
    card = read_whole(read_whole(charge.get("payment_method_details")).get("card"))
    fingerprint = card.get("fingerprint")
    if not fingerprint:
        return None
    return Instrument(read_text(fingerprint), f"card …{optional_text(card.get('last4')) or ''}")


def _fee(charge: StripeDocument) -> Money | None:
    """Return Stripe's fee, once it is known, in the currency of the account's balance."""
    transaction = read_whole(charge.get("balance_transaction"))
    return _money(transaction["fee"], transaction["currency"]) if transaction else None


def refund_update(refund: StripeDocument) -> RefundUpdate:
    """Read a refund."""
    return RefundUpdate(
        gateway_refund_id=read_text(refund["id"]),
        state=_REFUND_STATES.get(refund["status"], RefundState.PENDING),
        amount=positive(_money(refund["amount"], refund["currency"])),
        gateway_payment_id=_id_of(refund.get("payment_intent")),
        payment_reference=read_reference(refund),
        reference=read_reference(refund, REFUND_REFERENCE),
        occurred_at=read_moment(refund["created"]),
    )


def dispute_update(dispute: StripeDocument) -> DisputeUpdate:
    """Read a dispute that was sent with its balance transactions."""
    due_by = read_whole(dispute.get("evidence_details")).get("due_by")
    amount = positive(_money(dispute["amount"], dispute["currency"]))
    movements = [one for one in dispute.get("balance_transactions") or [] if isinstance(one, dict)]
    state = _DISPUTE_STATES.get(dispute["status"], DisputeState.OPEN)
    lost = None
    if state is DisputeState.LOST:
        lost = readable(lambda: _part_lost(movements, amount))
        state = DisputeState.WON if lost is not None and not lost.micros else state
    return DisputeUpdate(
        gateway_dispute_id=read_text(dispute["id"]),
        state=state,
        amount=amount,
        lost=lost if state is DisputeState.LOST and lost != amount else None,
        gateway_payment_id=_id_of(dispute.get("payment_intent")),
        payment_reference=read_reference(dispute),
        reason=optional_text(dispute.get("reason")),
        respond_by=None if due_by is None else read_moment(due_by),
        occurred_at=read_moment(dispute["created"]),
        fee=readable(lambda: _dispute_fee(movements)),
    )


def _part_lost(movements: list[StripeDocument], amount: Money) -> Money | None:
    """Return what a lost dispute keeps of its amount, where something of it was reinstated.

    Stripe has no state for that: the balance transactions show it, where they are of the dispute's
    currency. A part is reinstated where the payment had been refunded in part before.
    """
    if any(read_text(one["currency"]).upper() != amount.currency for one in movements):
        return None
    if not any(one["amount"] > 0 for one in movements):
        return None
    gone = max(0, -sum(one["amount"] for one in movements))
    return min(amount, Money.from_minor_units(gone, amount.currency))


def _dispute_fee(movements: list[StripeDocument]) -> Money | None:
    """Return all that Stripe charged for a dispute, less what it refunded of that."""
    currencies = {read_text(one["currency"]) for one in movements}
    if len(currencies) != 1:
        return None
    return _money(max(0, sum(one["fee"] for one in movements)), currencies.pop())


def _refund_changed(refund: StripeDocument, at: datetime) -> RefundUpdate | None:
    update = replace(refund_update(refund), stated_at=at)
    is_nameless = update.gateway_payment_id is None and update.payment_reference is None
    return None if is_nameless else update


def _dispute_changed(dispute: StripeDocument, at: datetime) -> DisputeUpdate | None:
    update = replace(dispute_update(dispute), stated_at=at)
    is_nameless = update.gateway_payment_id is None and update.payment_reference is None
    return None if is_nameless else update


def _funds_reinstated(dispute: StripeDocument, at: datetime) -> DisputeUpdate | None:
    """Read that the money was reinstated: won, unless Stripe reports another outcome.

    It follows the end of a dispute, and of one that was lost where a part was reinstated, as after
    an earlier refund.
    """
    update = _dispute_changed(dispute, at)
    if update is None or update.state in _ENDED:
        return update
    return replace(update, state=DisputeState.WON)


EVENT_READERS: dict[str, Callable[[StripeDocument, datetime], GatewayUpdate | None]] = {
    "checkout.session.completed": _session_done,
    "checkout.session.async_payment_succeeded": _session_done,
    "checkout.session.async_payment_failed": _session_failed,
    "checkout.session.expired": _session_expired,
    "payment_intent.succeeded": _intent_succeeded,
    "refund.created": _refund_changed,
    "refund.updated": _refund_changed,
    "refund.failed": _refund_changed,
    "charge.dispute.created": _dispute_changed,
    # These two report that an inquiry became a dispute.
    "charge.dispute.updated": _dispute_changed,
    "charge.dispute.funds_withdrawn": _dispute_changed,
    "charge.dispute.closed": _dispute_changed,
    "charge.dispute.funds_reinstated": _funds_reinstated,
}
