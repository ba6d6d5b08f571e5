"""Refund payments: claw the credit back first, then request the refund from the gateway.

A refund that was made at the gateway itself is recorded as it is reported. Each is matched by the
gateway's id, by our reference, or as the one of its amount that still waits.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from db.models import Payment, PaymentCredit, PaymentEvent, PaymentState, Refund
from domain import audit, clock
from domain.errors import (
    AlreadyDecided,
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    ReversalExceedsOriginal,
)
from domain.gateways.interface import (
    GatewayRefused,
    GatewayUnavailable,
    RefundRequest,
    RefundState,
    RefundUpdate,
)
from domain.gateways.registry import BANK
from domain.ledger.idempotency import request_digest
from domain.money import Money
from domain.payments.outflows import lock_account
from domain.payments.records import GATEWAY_ACTOR, add_event_once, known, lock_payment
from domain.payments.refund_states import (
    ON_ITS_WAY,
    book,
    fail,
    has_open_dispute,
    refundable_micros,
    succeed,
)
from domain.payments.refund_updates import apply_refund
from domain.permissions import require
from domain.transactions import run_transaction
from domain.validation import check_text, checked_reason

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.gateways.interface import Gateway

_log = logging.getLogger(__name__)

WAITS = "waits"
"""What became of a refund that is held until the one before it has settled."""

CANCELLED = "cancelled"
"""Why a refund failed that finance gave up."""


_REFERENCE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_REFERENCE_LENGTH = 20
_MAX_REASON_LENGTH = 200
_MAX_BANK_REFERENCE_LENGTH = 200
_RETRY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class PlannedRefund:
    """A refund that was recorded and waits to be sent, and the entry of its clawback.

    There is no entry where its money was without credit.
    """

    refund_id: int
    entry_sequence: int | None


# ── Our own ───────────────────────────────────────────────────────────────────────────────────
def request_refund(
    session: Session,
    *,
    payment_id: int,
    amount: Money,
    reason: str,
    actor: Actor,
    idempotency_key: str,
) -> PlannedRefund:
    """Claw back the credit of a refund, and have it sent to the gateway after the commit.

    `amount` is in the currency that was paid. The credit is clawed back at once, so that it cannot
    be spent while the gateway works. The refund of a bank transfer waits until its payout is
    recorded. Raises ReversalExceedsOriginal where more is requested than is left of the payment,
    Conflict while it is disputed, and IdempotencyMismatch where the key was used for another
    refund.
    """
    require(actor, "refund_payment")
    reason = reason.strip()
    check_text(reason=reason, idempotency_key=idempotency_key)
    if not reason or len(reason) > _MAX_REASON_LENGTH:
        raise InvalidInput("reason", "too_long" if reason else "empty")
    payment = lock_payment(session, payment_id)
    if payment is None:
        raise NotFound("payment")
    require(actor, "refund_payment", payment.account_id)
    key = f"{payment.reference}:{idempotency_key}"
    digest = request_digest({"amount": [amount.micros, amount.currency], "reason": reason})
    repeated = session.scalars(
        select(Refund).where(Refund.payment_id == payment_id, Refund.request_key == key)
    ).one_or_none()
    if repeated is not None:
        if repeated.request_hash is None or bytes(repeated.request_hash) != digest:
            raise IdempotencyMismatch(idempotency_key)
        return _planned(session, repeated)
    lock_account(session, payment.account_id)
    _check_refundable(session, payment, amount)
    refund = Refund(
        account_id=payment.account_id,
        payment_id=payment.id,
        gateway=payment.gateway,
        gateway_payment_id=payment.gateway_payment_id,
        reference="".join(secrets.choice(_REFERENCE_ALPHABET) for _ in range(_REFERENCE_LENGTH)),
        request_key=key,
        request_hash=digest,
        state="requested",
        pay_micros=amount.micros,
        reason=reason,
        requested_by=audit.actor_name(actor),
        requested_at=clock.now(session),
        next_check_at=None if payment.gateway == BANK else clock.now(session),
    )
    book(session, payment, refund, actor)
    return _planned(session, refund)


def _planned(session: Session, refund: Refund) -> PlannedRefund:
    sequence = session.scalars(
        select(PaymentCredit.entry_sequence)
        .where(
            PaymentCredit.account_id == refund.account_id,
            PaymentCredit.payment_id == refund.payment_id,
            PaymentCredit.refund_id == refund.id,
        )
        .order_by(PaymentCredit.number)
    ).first()
    return PlannedRefund(refund.id, sequence)


def _check_refundable(session: Session, payment: Payment, amount: Money) -> None:
    if payment.state != PaymentState.SUCCEEDED:
        raise Conflict("not_paid")
    if has_open_dispute(session, payment):
        raise Conflict("payment_is_disputed")
    if amount.currency != payment.pay_currency:
        raise InvalidInput("amount", "wrong_currency", currency=payment.pay_currency)
    amount.to_minor_units()
    left = refundable_micros(payment)
    if not 0 < amount.micros <= left:
        raise ReversalExceedsOriginal(amount.micros, left)


def record_payout(session: Session, *, refund_id: int, reference: str, actor: Actor) -> None:
    """Record that finance paid a refund itself; `reference` is the bank's or the gateway's.

    That completes a refund of a bank transfer, and one that a gateway never answered. Again with
    the same reference: no effect. Raises InvalidInput, NotFound, AlreadyDecided where it ended
    otherwise, and Conflict("refund_is_sent") while the gateway works on it.
    """
    reference = " ".join(reference.split())
    check_text(reference=reference)
    if not 0 < len(reference) <= _MAX_BANK_REFERENCE_LENGTH:
        raise InvalidInput(
            "reference",
            "too_long" if reference else "empty",
            maximum=_MAX_BANK_REFERENCE_LENGTH,
        )
    require(actor, "record_payout")
    payment, refund = _locked_refund(session, refund_id)
    require(actor, "record_payout", payment.account_id)
    if refund.state == "succeeded" and refund.gateway_refund_id == reference:
        return
    _check_waits_for_people(session, payment, refund)
    taken = select(Refund.id).where(
        Refund.gateway == refund.gateway, Refund.gateway_refund_id == reference
    )
    if session.scalars(taken).first() is not None:
        raise Conflict("line_is_taken")
    refund.gateway_refund_id = reference
    succeed(session, payment, refund, actor)
    details = {"payment": payment.id, "refund": refund.id}
    audit.record(
        session,
        action="record_payout",
        actor=actor,
        account_id=payment.account_id,
        details=details,
    )


def cancel_refund(session: Session, *, refund_id: int, reason: str, actor: Actor) -> None:
    """Cancel a refund that was not paid, and grant its credit again; again by the same: no effect.

    Raises as `record_payout` does. A later report of the gateway that it was paid prevails.
    """
    reason = checked_reason(reason)
    require(actor, "cancel_refund")
    payment, refund = _locked_refund(session, refund_id)
    require(actor, "cancel_refund", payment.account_id)
    try:
        _check_waits_for_people(session, payment, refund)
    except AlreadyDecided as decided:
        if (decided.state, decided.decided_by) == (CANCELLED, audit.actor_name(actor)):
            return
        raise
    fail(session, payment, refund, actor, CANCELLED)
    details = {"payment": payment.id, "refund": refund.id, "reason": reason}
    audit.record(
        session,
        action="cancel_refund",
        actor=actor,
        account_id=payment.account_id,
        details=details,
    )


def _locked_refund(session: Session, refund_id: int) -> tuple[Payment, Refund]:
    """Return a refund's payment and the refund, both locked; raise NotFound."""
    found = session.get(Refund, refund_id)
    payment = None if found is None else lock_payment(session, found.payment_id)
    if found is None or payment is None:
        raise NotFound("refund")
    lock_account(session, payment.account_id)
    session.refresh(found)
    return payment, found


def _check_waits_for_people(session: Session, payment: Payment, refund: Refund) -> None:
    """Raise AlreadyDecided, with who ended a refund when, or Conflict while it is being sent."""
    if refund.state in ON_ITS_WAY:
        if refund.next_check_at is not None:
            raise Conflict("refund_is_sent")
        return
    step = session.scalars(
        select(PaymentEvent)
        .where(
            PaymentEvent.account_id == payment.account_id,
            PaymentEvent.payment_id == payment.id,
            PaymentEvent.kind == f"refund_{refund.state}",
            PaymentEvent.details.contains({"refund": refund.id}),
        )
        .order_by(PaymentEvent.id.desc())
    ).first()
    is_cancelled = step is not None and step.details.get("code") == CANCELLED
    raise AlreadyDecided(
        CANCELLED if is_cancelled else f"refund_{refund.state}",
        None if step is None else step.actor,
        refund.settled_at,
        "refund_is_settled",
    )


# ── The gateway ───────────────────────────────────────────────────────────────────────────────
def send_refund(sessions: sessionmaker[Session], *, gateway: Gateway, refund_id: int) -> str:
    """Request a recorded refund from the gateway; return its state, or WAITS.

    On a retry, the gateway recognises it by its reference. Where it does not respond, the refund
    waits and is sent again later; at a gateway that reports only the latest refund, it also waits
    for the one before it.
    """
    with sessions.begin() as session:
        payment = lock_payment(session, session.get_one(Refund, refund_id).payment_id)
        refund = session.get_one(Refund, refund_id, populate_existing=True)
        if payment is None or refund.state != "requested" or refund.reference is None:
            return refund.state
        if gateway.tells_latest_refund_only and _has_one_before(session, refund):
            _hold(session, payment, refund)
            return WAITS
        request = _request(session, payment, refund, refund.reference)
    try:
        update = gateway.refund(request)
    except GatewayUnavailable as error:
        _log.warning("refund %d waits: %s", refund_id, error)
        with sessions.begin() as session:
            session.get_one(Refund, refund_id).next_check_at = clock.now(session) + _RETRY
        return "requested"
    except GatewayRefused as error:
        reason = error.reason
        return run_transaction(sessions, lambda session: _refused(session, refund_id, reason))
    return run_transaction(sessions, lambda session: _answered(session, refund_id, update))


def _answered(session: Session, refund_id: int, update: RefundUpdate) -> str:
    refund = session.get_one(Refund, refund_id)
    payment = lock_payment(session, refund.payment_id)
    if payment is None:
        raise NotFound("payment")
    apply_refund(session, payment, update, actor=GATEWAY_ACTOR, asked_for=refund_id)
    return refund.state


def _request(session: Session, payment: Payment, refund: Refund, reference: str) -> RefundRequest:
    others = session.scalars(
        select(Refund.gateway_refund_id).where(
            Refund.payment_id == payment.id,
            Refund.id != refund.id,
            Refund.gateway_refund_id.is_not(None),
        )
    )
    return RefundRequest(
        payment=known(session, payment),
        reference=reference,
        amount=Money(refund.pay_micros, payment.pay_currency),
        is_whole=refund.pay_micros == payment.pay_micros,
        actor="".join(char for char in refund.requested_by if char.isalnum()),
        requested_at=refund.requested_at,
        others=frozenset(name for name in others if name is not None),
    )


def _has_one_before(session: Session, refund: Refund) -> bool:
    """Return whether another refund of the payment, older or sent already, is still open."""
    found = select(Refund.id).where(
        Refund.payment_id == refund.payment_id,
        Refund.id != refund.id,
        or_(
            Refund.state == RefundState.PENDING.value,
            and_(Refund.state == "requested", Refund.id < refund.id),
        ),
    )
    return session.scalars(found.limit(1)).first() is not None


def _hold(session: Session, payment: Payment, refund: Refund) -> None:
    """Postpone a refund until the one before it ends, and inform staff of that once."""
    refund.next_check_at = clock.now(session) + _RETRY
    details = {"refund": refund.id}
    add_event_once(session, payment, "refund_waits", actor=GATEWAY_ACTOR, details=details)


def _refused(session: Session, refund_id: int, reason: str) -> str:
    refund = session.get_one(Refund, refund_id)
    payment = lock_payment(session, refund.payment_id)
    if payment is not None:
        lock_account(session, payment.account_id)
        session.refresh(refund)
        if refund.state == "requested":
            fail(session, payment, refund, GATEWAY_ACTOR, reason)
    return refund.state
