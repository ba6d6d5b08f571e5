"""Money that goes back: credit is taken first, then the gateway is asked, and a failure restores.

A refund that was made at the gateway itself is taken over as it comes. Each is known by the
gateway's id of it, and once that is known, by nothing else.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from db.models import Dispute, Payment, Refund
from domain import audit, clock, ledger
from domain.errors import Conflict, InvalidInput, NotFound, ReversalExceedsOriginal
from domain.gateways.base import (
    GatewayRefused,
    GatewayUnavailable,
    Outcome,
    RefundFact,
    RefundRequest,
    RefundState,
)
from domain.money import Money
from domain.payments.doubts import UNFIT_REFUND
from domain.payments.records import (
    GATEWAY_ACTOR,
    credit_share,
    gateway_clearing,
    grant_terms,
    known,
    lock_payment,
    note,
    note_once,
    post_gateway_money,
)
from domain.payments.returns import REFUNDS_PAYABLE, settle_by_refund
from domain.permissions import require
from domain.texts import check_text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.gateways.base import Gateway

_log = logging.getLogger(__name__)

WAITS = "waits"
"""What became of a refund that is held until the one before it has settled."""

_REFERENCE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_REFERENCE_LENGTH = 20
_LONGEST_REASON = 200
_CHECK_EVERY = timedelta(hours=1)
_RETRY = timedelta(minutes=1)
_ON_ITS_WAY = frozenset({RefundState.PENDING.value, "requested"})


@dataclass(frozen=True, slots=True)
class PlannedRefund:
    """A refund that was written down and waits to be sent."""

    refund_id: int
    entry_sequence: int


@dataclass(frozen=True, slots=True)
class DueRefund:
    """A refund to send, or to ask about where it `is_sent`."""

    refund_id: int
    payment_id: int
    gateway: str
    is_sent: bool


def request_refund(
    session: Session,
    *,
    payment_id: int,
    amount: Money,
    reason: str,
    actor: Actor,
    idempotency_key: str,
) -> PlannedRefund:
    """Take the credit of a refund, and have it sent to the gateway after the commit.

    `amount` is in the currency that was paid. The credit goes at once, so that it cannot be spent
    while the gateway works. Raises ReversalExceedsOriginal where more is asked than is left of the
    payment or of its unspent and spent credit, Conflict while it is disputed.
    """
    require(actor, "refund_payment")
    reason = reason.strip()
    check_text(reason=reason, idempotency_key=idempotency_key)
    if not reason or len(reason) > _LONGEST_REASON:
        raise InvalidInput("reason", "too_long" if reason else "empty")
    payment = lock_payment(session, payment_id)
    if payment is None:
        raise NotFound("payment")
    require(actor, "refund_payment", payment.account_id)
    known_key = f"{payment.reference}:{idempotency_key}"
    repeated = session.scalars(
        select(Refund).where(Refund.payment_id == payment_id, Refund.request_key == known_key)
    ).one_or_none()
    if repeated is not None and repeated.entry_sequence is not None:
        return PlannedRefund(repeated.id, repeated.entry_sequence)
    if payment.state != "succeeded":
        raise Conflict("not_paid")
    if _has_open_dispute(session, payment_id):
        raise Conflict("payment_is_disputed")
    if amount.currency != payment.pay_currency:
        raise InvalidInput("amount", "wrong_currency", currency=payment.pay_currency)
    amount.to_minor_units()
    refund = _write_down(
        session,
        payment,
        pay_micros=amount.micros,
        state="requested",
        reason=reason,
        actor=actor,
        reference="".join(secrets.choice(_REFERENCE_ALPHABET) for _ in range(_REFERENCE_LENGTH)),
        request_key=known_key,
    )
    refund.next_check_at = clock.now(session)
    if refund.entry_sequence is None:
        raise RuntimeError("a refund takes credit")
    return PlannedRefund(refund.id, refund.entry_sequence)


def _has_open_dispute(session: Session, payment_id: int) -> bool:
    found = select(Dispute.id).where(Dispute.payment_id == payment_id, Dispute.state == "open")
    return session.scalars(found.limit(1)).first() is not None


def _left_to_refund(payment: Payment) -> int:
    """Return what was neither given back nor asked back by a bank."""
    return payment.pay_micros - payment.refunded_micros - payment.disputed_micros


def _write_down(
    session: Session,
    payment: Payment,
    *,
    pay_micros: int,
    state: str,
    reason: str,
    actor: Actor,
    reference: str | None = None,
    request_key: str | None = None,
    gateway_refund_id: str | None = None,
) -> Refund:
    """Write a refund and take its credit; raise ReversalExceedsOriginal where too much is asked."""
    left = _left_to_refund(payment)
    if not 0 < pay_micros <= left:
        raise ReversalExceedsOriginal(pay_micros, left)
    before = payment.refunded_micros + payment.disputed_micros
    credit_micros = max(credit_share(payment, before, before + pay_micros), 1)
    refund = Refund(
        account_id=payment.account_id,
        payment_id=payment.id,
        gateway=payment.gateway,
        reference=reference,
        request_key=request_key,
        gateway_refund_id=gateway_refund_id,
        state=state,
        pay_micros=pay_micros,
        credit_micros=credit_micros,
        reason=reason,
        requested_by=audit.actor_name(actor),
        requested_at=clock.now(session),
    )
    session.add(refund)
    session.flush()
    refund.entry_sequence = _take_credit(session, payment, refund, actor)
    payment.refunded_micros += pay_micros
    details = {"refund": refund.id, "entry": refund.entry_sequence, "state": state}
    note(session, payment, "refund_requested", actor=actor, details=details)
    return refund


def _take_credit(session: Session, payment: Payment, refund: Refund, actor: Actor) -> int:
    if payment.grant_number is None:
        raise Conflict("not_paid")
    return ledger.take_back(
        session,
        account_id=payment.account_id,
        kind="refund",
        grant_number=_grant_to_take(session, payment),
        amount_micros=refund.credit_micros,
        source=payment.gateway,
        actor=actor,
        idempotency_key=f"refund:{refund.id}",
        description_parameters={"origin": payment.reference},
    )


def _grant_to_take(session: Session, payment: Payment) -> int:
    """Return the grant that holds the payment's credit: the newest that a failure restored."""
    restored = session.scalars(
        select(Refund.restored_grant_number)
        .where(Refund.payment_id == payment.id, Refund.restored_grant_number.is_not(None))
        .order_by(Refund.id.desc())
        .limit(1)
    ).one_or_none()
    number = restored or payment.grant_number
    if number is None:
        raise Conflict("not_paid")
    return number


# ── The gateway ───────────────────────────────────────────────────────────────────────────────
def send_refund(sessions: sessionmaker[Session], *, gateway: Gateway, refund_id: int) -> str:
    """Ask the gateway for a refund that was written down; return its state, or WAITS.

    Asked again, the gateway knows it by its reference. Where it does not answer, the refund waits
    and is sent again later; so it does for the one before it at a gateway that tells of one only.
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
        fact = gateway.refund(request)
    except GatewayUnavailable as error:
        _log.warning("refund %d waits: %s", refund_id, error)
        with sessions.begin() as session:
            session.get_one(Refund, refund_id).next_check_at = clock.now(session) + _RETRY
        return "requested"
    except GatewayRefused as error:
        return _refused(sessions, refund_id, error)
    with sessions.begin() as session:
        refund = session.get_one(Refund, refund_id)
        locked = lock_payment(session, refund.payment_id)
        if locked is None:
            raise NotFound("payment")
        apply_refund(session, locked, fact, actor=GATEWAY_ACTOR, asked_for=refund_id)
        return session.get_one(Refund, refund_id).state


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
    """Whether another refund of the payment, older or sent already, has not come to its end."""
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
    """Have a refund wait for the one before it, and tell staff so once."""
    refund.next_check_at = clock.now(session) + _RETRY
    details = {"refund": refund.id}
    note_once(session, payment, "refund_waits", actor=GATEWAY_ACTOR, details=details)


def _refused(sessions: sessionmaker[Session], refund_id: int, error: GatewayRefused) -> str:
    with sessions.begin() as session:
        refund = session.get_one(Refund, refund_id)
        payment = lock_payment(session, refund.payment_id)
        session.refresh(refund)
        if payment is not None and refund.state == "requested":
            _fail(session, payment, refund, GATEWAY_ACTOR, error.reason)
        return refund.state


def apply_refund(
    session: Session,
    payment: Payment,
    fact: RefundFact,
    *,
    actor: Actor,
    asked_for: int | None = None,
) -> Outcome:
    """Bring a refund of a locked payment to where the gateway says that it stands."""
    refund = _find(session, payment, fact, asked_for)
    if refund is None:
        if fact.state is RefundState.FAILED:
            return Outcome.REPEATED
        if settle_by_refund(session, payment, fact):
            return Outcome.RECORDED
        refund = _take_over(session, payment, fact, actor)
        if refund is None:
            return Outcome.RECORDED
    elif refund.gateway_refund_id is None:
        refund.gateway_refund_id = fact.gateway_refund_id
    if refund.state in {fact.state.value, RefundState.FAILED.value}:
        return Outcome.REPEATED
    if fact.state is RefundState.SUCCEEDED:
        _settle(session, payment, refund, actor)
    elif fact.state is RefundState.FAILED:
        _fail(session, payment, refund, actor, "gateway")
    elif refund.state == "requested":
        refund.state = RefundState.PENDING.value
        refund.next_check_at = clock.now(session) + _CHECK_EVERY
        note(session, payment, "refund_pending", actor=actor, details={"refund": refund.id})
    else:
        return Outcome.REPEATED  # money that was given back does not wait again
    return Outcome.RECORDED


def _find(
    session: Session, payment: Payment, fact: RefundFact, asked_for: int | None
) -> Refund | None:
    names = [Refund.gateway_refund_id == fact.gateway_refund_id]
    if fact.reference:
        names.append(Refund.reference == fact.reference)
    if asked_for is not None:
        names.append(Refund.id == asked_for)
    return session.scalars(
        select(Refund)
        .where(Refund.payment_id == payment.id, or_(*names))
        .order_by(Refund.id)
        .with_for_update()
    ).first()


def _take_over(session: Session, payment: Payment, fact: RefundFact, actor: Actor) -> Refund | None:
    """Write down a refund that somebody made at the gateway, as far as money is left for it."""
    left = _left_to_refund(payment)
    is_same = fact.amount.currency == payment.pay_currency
    if payment.grant_number is None or not is_same or not 0 < fact.amount.micros <= left:
        details = {"gateway_refund": fact.gateway_refund_id, "amount": fact.amount.micros}
        note(session, payment, UNFIT_REFUND, actor=actor, details=details)
        _log.error("payment %d was refunded for more than is left of it", payment.id)
        return None
    return _write_down(
        session,
        payment,
        pay_micros=fact.amount.micros,
        state="requested",
        reason="gateway",
        actor=actor,
        gateway_refund_id=fact.gateway_refund_id,
    )


def _settle(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    refund.state = RefundState.SUCCEEDED.value
    refund.settled_at = clock.now(session)
    refund.next_check_at = None
    post_gateway_money(
        session,
        payment,
        kind="refund_paid",
        debit=REFUNDS_PAYABLE,
        credit=gateway_clearing(payment),
        amount=Money(refund.pay_micros, payment.pay_currency),
        key=f"refund-paid:{refund.id}",
        actor=actor,
    )
    note(session, payment, "refund_succeeded", actor=actor, details={"refund": refund.id})


def _fail(session: Session, payment: Payment, refund: Refund, actor: Actor, code: str) -> None:
    """Give the credit again: the money did not go back.

    The new credit's money stands in clearing, where the refund's posting below puts it right:
    together they leave what there was before the refund was asked for.
    """
    was_paid = refund.state == RefundState.SUCCEEDED.value
    refund.state = RefundState.FAILED.value
    refund.settled_at = clock.now(session)
    refund.next_check_at = None
    posted = ledger.add_grant(
        session,
        account_id=payment.account_id,
        terms=grant_terms(payment, refund.credit_micros, refund.pay_micros),
        source=payment.gateway,
        actor=actor,
        idempotency_key=f"refund-failed:{refund.id}",
        description_parameters={"reason": "refund_failed"},
    )
    refund.restored_grant_number = posted.grant_number
    payment.refunded_micros -= refund.pay_micros
    if not was_paid:
        post_gateway_money(
            session,
            payment,
            kind="refund_paid",
            debit=REFUNDS_PAYABLE,
            credit=gateway_clearing(payment),
            amount=Money(refund.pay_micros, payment.pay_currency),
            key=f"refund-failed:{refund.id}",
            actor=actor,
        )
    details = {"refund": refund.id, "entry": posted.entry_sequence, "code": code}
    note(session, payment, "refund_failed", actor=actor, details=details)


def due_refunds(session: Session, *, limit: int) -> tuple[DueRefund, ...]:
    """Return the refunds whose time to be sent, or asked about, has come."""
    rows = session.scalars(
        select(Refund)
        .where(Refund.next_check_at <= clock.now(session), Refund.state.in_(_ON_ITS_WAY))
        .order_by(Refund.next_check_at)
        .limit(limit)
    )
    return tuple(
        DueRefund(row.id, row.payment_id, row.gateway, is_sent=row.state != "requested")
        for row in rows
    )


def ask_later(session: Session, *, refund_id: int) -> None:
    """Leave a refund that was sent alone for an hour."""
    refund = session.get_one(Refund, refund_id)
    refund.next_check_at = clock.now(session) + _CHECK_EVERY
