"""Money that goes back: credit is clawed back first, then the gateway is asked.

A refund that was made at the gateway itself is taken over as it comes. Each is known by the
gateway's id of it, by our reference, or as the one of its amount that still waits.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from db.models import (
    OPEN_PAYMENT_STATES,
    Dispute,
    Payment,
    PaymentCredit,
    PaymentEvent,
    PaymentState,
    Refund,
)
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
    Outcome,
    RefundRequest,
    RefundState,
    RefundUpdate,
)
from domain.ledger.idempotency import request_digest
from domain.money import Money
from domain.payments.outflows import (
    STANDING_REFUNDS,
    change_outflow,
    is_booked,
    is_same_money,
    lock_account,
    post_refund_paid,
)
from domain.payments.records import (
    BANK,
    GATEWAY_ACTOR,
    add_event,
    add_event_once,
    entry_details,
    known,
    lock_payment,
    report_discrepancy,
)
from domain.payments.review_cases import (
    REFUND_AMOUNT_CHANGED,
    REFUND_IN_OTHER_CURRENCY,
    REFUND_OF_ANOTHER,
    UNFIT_REFUND,
)
from domain.payments.unapplied_receipts import (
    is_return,
    name_of_return,
    owe_again,
    settle_by_refunds,
)
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

REVERSAL_OF_DISPUTE = "reversal_of_dispute"
"""The step that tells of money which a dispute took, told a second time."""

_REFERENCE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_REFERENCE_LENGTH = 20
_MAX_REASON_LENGTH = 200
_MAX_BANK_REFERENCE_LENGTH = 200
_CHECK_EVERY = timedelta(hours=1)
_RETRY = timedelta(minutes=1)
_ON_ITS_WAY = frozenset({RefundState.PENDING.value, "requested"})
_RANKS = {"requested": 0, "pending": 1, "succeeded": 2, "failed": 3}
"""Of two statements of the same moment, the later stage counts."""


@dataclass(frozen=True, slots=True)
class PlannedRefund:
    """A refund that was written down and waits to be sent, and the entry of its clawback.

    There is none where its money was without credit.
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
    """Claw the credit of a refund back, and have it sent to the gateway after the commit.

    `amount` is in the currency that was paid. The credit goes at once, so that it cannot be spent
    while the gateway works. One of a bank transfer waits until its payout is recorded. Raises
    ReversalExceedsOriginal where more is asked than is left of the payment, Conflict while it is
    disputed, and IdempotencyMismatch where the key was used for another refund.
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
    _book(session, payment, refund, actor)
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
    if _has_open_dispute(session, payment):
        raise Conflict("payment_is_disputed")
    if amount.currency != payment.pay_currency:
        raise InvalidInput("amount", "wrong_currency", currency=payment.pay_currency)
    amount.to_minor_units()
    left = refundable_micros(payment)
    if not 0 < amount.micros <= left:
        raise ReversalExceedsOriginal(amount.micros, left)


def _has_open_dispute(session: Session, payment: Payment) -> bool:
    rows = session.scalars(
        select(Dispute).where(Dispute.payment_id == payment.id, Dispute.state == "open")
    )
    return any(is_booked(payment, row) for row in rows)


def refundable_micros(payment: Payment) -> int:
    """Return what was neither given back nor asked back by a bank, in what was paid."""
    return max(payment.pay_micros - payment.refunded_micros - payment.disputed_micros, 0)


def _book(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    """Write a new refund down; where its money was credited, claw the credit back."""
    session.add(refund)
    session.flush()
    entry = None
    if is_booked(payment, refund):
        entry = change_outflow(session, payment, refund, refund.pay_micros, actor=actor)
    details = {
        "refund": refund.id,
        "amount": [refund.pay_micros, payment.pay_currency],
        "state": refund.state,
        **entry_details(entry),
    }
    add_event(session, payment, "refund_requested", actor=actor, details=details)
    _report_excess(session, payment, refund, actor)


def _report_excess(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    """Say so where more went back than the payment had: a person has to find out why."""
    excess = refund.outflow_micros - refund.unapplied_micros - refund.clawed_back_micros
    if excess > 0:
        _report_unfit(session, payment, refund, excess, actor)


def _report_unexplained(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    """Say so where what went back was neither credited nor rejected."""
    if is_booked(payment, refund) or payment.state in OPEN_PAYMENT_STATES:
        return
    if not is_return(session, payment, refund):
        _report_unfit(session, payment, refund, refund.pay_micros, actor)


def _report_unfit(
    session: Session, payment: Payment, refund: Refund, micros: int, actor: Actor
) -> None:
    details = {"refund": refund.id, "amount": [micros, payment.pay_currency]}
    add_event_once(session, payment, UNFIT_REFUND, actor=actor, details=details)
    _log.error("payment %d was refunded for more than was credited", payment.id)


def record_payout(session: Session, *, refund_id: int, reference: str, actor: Actor) -> None:
    """Record that finance paid a refund itself; `reference` is the bank's or the gateway's.

    That is the end of a refund of a bank transfer, and of one that a gateway never answered. Again
    with the same reference: no effect. Raises InvalidInput, NotFound, AlreadyDecided where it
    ended otherwise, and Conflict("refund_is_sent") while the gateway works on it.
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
    _succeed(session, payment, refund, actor)
    details = {"payment": payment.id, "refund": refund.id}
    audit.record(
        session,
        action="record_payout",
        actor=actor,
        account_id=payment.account_id,
        details=details,
    )


def cancel_refund(session: Session, *, refund_id: int, reason: str, actor: Actor) -> None:
    """Give up a refund that was not paid, and grant its credit again; again by the same: no effect.

    Raises as `record_payout` does. Should the gateway say later that it paid, that counts.
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
    _fail(session, payment, refund, actor, CANCELLED)
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
    if refund.state in _ON_ITS_WAY:
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
    add_event_once(session, payment, "refund_waits", actor=GATEWAY_ACTOR, details=details)


def _refused(session: Session, refund_id: int, reason: str) -> str:
    refund = session.get_one(Refund, refund_id)
    payment = lock_payment(session, refund.payment_id)
    if payment is not None:
        lock_account(session, payment.account_id)
        session.refresh(refund)
        if refund.state == "requested":
            _fail(session, payment, refund, GATEWAY_ACTOR, reason)
    return refund.state


# ── What the gateway says ─────────────────────────────────────────────────────────────────────
def apply_refund(
    session: Session,
    payment: Payment,
    update: RefundUpdate,
    *,
    actor: Actor,
    asked_for: int | None = None,
) -> Outcome:
    """Bring a refund of a locked payment to where the gateway says that it stands."""
    lock_account(session, payment.account_id)
    refund = _find(session, payment, update, asked_for)
    if refund is not None:
        return _advance(session, payment, refund, update, actor)
    other = _other_payment(session, payment, update)
    if other is not None:
        return _report_of_another(session, payment, update, other, actor)
    if update.state is RefundState.FAILED:
        return _keep_failure(session, payment, update, actor)
    if update.is_reversal and _is_part_of_dispute(session, payment, update):
        details = {"gateway_refund": update.gateway_refund_id, "amount": update.amount.micros}
        is_new = add_event_once(session, payment, REVERSAL_OF_DISPUTE, actor=actor, details=details)
        return Outcome.RECORDED if is_new else Outcome.REPEATED
    return _take_over(session, payment, update, actor)


def _find(
    session: Session, payment: Payment, update: RefundUpdate, asked_for: int | None
) -> Refund | None:
    """Return our row of a refund: by the gateway's id, our reference, or as the one that waits.

    One that has our reference and another id is a second refund, which took the first one's place.
    """
    rows = session.scalars(
        select(Refund)
        .where(Refund.payment_id == payment.id)
        .order_by(Refund.id)
        .execution_options(populate_existing=True)
    ).all()
    by_id = [row for row in rows if row.gateway_refund_id == update.gateway_refund_id]
    if by_id:
        return by_id[0]
    ours = [
        row
        for row in rows
        if row.id == asked_for or (update.reference and row.reference == update.reference)
    ]
    if ours:
        return ours[0] if _has_no_other_id(ours[0]) else None
    if update.reference is not None or update.is_reversal:
        return None
    waiting = (row for row in rows if _may_be(payment, row, update))
    return next(waiting, None)


def _other_payment(session: Session, payment: Payment, update: RefundUpdate) -> str | None:
    """Return the reference of another payment that has the refund, or None."""
    return session.scalars(
        select(Payment.reference)
        .join(Refund, Refund.payment_id == Payment.id)
        .where(
            Refund.gateway == payment.gateway,
            Refund.gateway_refund_id == update.gateway_refund_id,
            Refund.payment_id != payment.id,
        )
    ).first()


def _report_of_another(
    session: Session, payment: Payment, update: RefundUpdate, other: str, actor: Actor
) -> Outcome:
    """Have finance review a refund that is booked on another payment.

    One that failed moved no money.
    """
    if update.state is RefundState.FAILED:
        return Outcome.REPEATED
    details = {**_discrepancy(update, None), "other_payment": other}
    is_new = report_discrepancy(session, payment, REFUND_OF_ANOTHER, actor=actor, details=details)
    return Outcome.RECORDED if is_new else Outcome.REPEATED


def _has_no_other_id(refund: Refund) -> bool:
    """Whether the gateway has not named it yet: until it does, our reference may stand there."""
    return refund.gateway_refund_id in {None, refund.reference}


def _may_be(payment: Payment, refund: Refund, update: RefundUpdate) -> bool:
    """Whether a refund that the gateway tells without our reference may be one of ours."""
    return (
        refund.state in _ON_ITS_WAY
        and refund.reference is not None
        and _has_no_other_id(refund)
        and refund.pay_micros == update.amount.micros
        and payment.pay_currency == update.amount.currency
        and update.gateway_payment_id in {None, refund.gateway_payment_id}
    )


def _is_part_of_dispute(session: Session, payment: Payment, update: RefundUpdate) -> bool:
    """Whether a dispute of the same money, and of as much, carries this reversal out.

    One that was won does where the reversal is from before its end.
    """
    rows = session.scalars(select(Dispute).where(Dispute.payment_id == payment.id))
    return any(
        is_same_money(row.gateway_payment_id, update.gateway_payment_id)
        and (row.state != "won" or _is_before_end(row, update))
        and (
            row.pay_micros >= update.amount.micros or update.amount.currency != payment.pay_currency
        )
        for row in rows
    )


def _is_before_end(dispute: Dispute, update: RefundUpdate) -> bool:
    if update.stated_at is None or dispute.stated_at is None:
        return False
    return update.stated_at <= dispute.stated_at


def _take_over(session: Session, payment: Payment, update: RefundUpdate, actor: Actor) -> Outcome:
    """Write down a refund that somebody made at the gateway."""
    if not _is_fit(payment, update):
        kind, details = REFUND_IN_OTHER_CURRENCY, _discrepancy(update, None)
        is_new = report_discrepancy(session, payment, kind, actor=actor, details=details)
        return Outcome.RECORDED if is_new else Outcome.REPEATED
    refund = _of_gateway(session, payment, update, actor)
    refund.next_check_at = clock.now(session) + _CHECK_EVERY
    _book(session, payment, refund, actor)
    if update.state is RefundState.SUCCEEDED:
        _succeed(session, payment, refund, actor)
    _report_unexplained(session, payment, refund, actor)
    return Outcome.RECORDED


def _discrepancy(update: RefundUpdate, expected: Money | None) -> dict[str, object]:
    """Return what the timeline keeps of an amount of a refund that the books do not have."""
    return {
        "gateway_refund": update.gateway_refund_id,
        "gateway_payment": update.gateway_payment_id,
        "amount": [update.amount.micros, update.amount.currency],
        "expected": None if expected is None else [expected.micros, expected.currency],
    }


def _keep_failure(
    session: Session, payment: Payment, update: RefundUpdate, actor: Actor
) -> Outcome:
    """Write down a refund whose first statement says that it failed.

    A statement that is delivered later may be older, and must not take the credit. A failure
    without a date cannot be compared with it.
    """
    is_owed = owe_again(
        session,
        payment,
        gateway_refund_id=update.gateway_refund_id,
        gateway_payment_id=update.gateway_payment_id,
    )
    if update.stated_at is None or not _is_fit(payment, update):
        return Outcome.RECORDED if is_owed else Outcome.REPEATED
    refund = _of_gateway(session, payment, update, actor)
    refund.state = RefundState.FAILED.value
    refund.settled_at = clock.now(session)
    session.add(refund)
    session.flush()
    details = {"refund": refund.id, "amount": [refund.pay_micros, payment.pay_currency]}
    add_event(
        session, payment, "refund_requested", actor=actor, details={**details, "state": "failed"}
    )
    add_event(
        session, payment, "refund_failed", actor=actor, details={**details, "code": "gateway"}
    )
    return Outcome.RECORDED


def _is_fit(payment: Payment, update: RefundUpdate) -> bool:
    """Whether a refund has an amount in the currency that was paid."""
    return update.amount.currency == payment.pay_currency and update.amount.micros > 0


def _of_gateway(session: Session, payment: Payment, update: RefundUpdate, actor: Actor) -> Refund:
    """Return a new row for a refund that was made at the gateway."""
    return Refund(
        account_id=payment.account_id,
        payment_id=payment.id,
        gateway=payment.gateway,
        gateway_payment_id=name_of_return(session, payment, update),
        gateway_refund_id=update.gateway_refund_id,
        is_reversal=update.is_reversal,
        state="pending",
        pay_micros=update.amount.micros,
        reason="gateway",
        requested_by=audit.actor_name(actor),
        requested_at=clock.now(session),
        stated_at=update.stated_at,
    )


def _advance(
    session: Session, payment: Payment, refund: Refund, update: RefundUpdate, actor: Actor
) -> Outcome:
    """Take a statement about a refund that we know, unless a newer one was taken before.

    Its amount stays what it was: another one is for people to look into.
    """
    if _has_no_other_id(refund):
        refund.gateway_refund_id = update.gateway_refund_id
    booked = Money(refund.pay_micros, payment.pay_currency)
    kind, details = REFUND_AMOUNT_CHANGED, _discrepancy(update, booked)
    is_restated = update.amount != booked and report_discrepancy(
        session, payment, kind, actor=actor, details=details
    )
    if refund.state == "merged" or not _is_news(refund, update):
        return Outcome.RECORDED if is_restated else Outcome.REPEATED
    if update.stated_at is not None:
        refund.stated_at = update.stated_at
    if update.state is RefundState.SUCCEEDED:
        _succeed(session, payment, refund, actor)
        _report_unexplained(session, payment, refund, actor)
    elif update.state is RefundState.FAILED:
        _fail(session, payment, refund, actor, "gateway")
        owe_again(
            session,
            payment,
            gateway_refund_id=update.gateway_refund_id,
            gateway_payment_id=refund.gateway_payment_id,
        )
    else:
        refund.state = RefundState.PENDING.value
        refund.next_check_at = clock.now(session) + _CHECK_EVERY
        add_event(session, payment, "refund_pending", actor=actor, details={"refund": refund.id})
    return Outcome.RECORDED


def _is_news(refund: Refund, update: RefundUpdate) -> bool:
    if refund.state == update.state.value:
        if update.stated_at is not None and refund.stated_at is not None:
            refund.stated_at = max(refund.stated_at, update.stated_at)
        return False
    if update.state is RefundState.PENDING:
        return refund.state == "requested"  # money that came or went does not wait again
    if update.stated_at is None or refund.stated_at is None:
        return True
    if update.stated_at == refund.stated_at:
        return _RANKS[update.state.value] > _RANKS[refund.state]
    return update.stated_at > refund.stated_at


def _succeed(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    """Take it that the money left; where the refund had failed, its credit goes again."""
    settled = {
        "state": RefundState.SUCCEEDED.value,
        "settled_at": clock.now(session),
        "next_check_at": None,
    }
    entry = None
    if refund.state not in STANDING_REFUNDS and is_booked(payment, refund):
        entry = change_outflow(session, payment, refund, refund.pay_micros, actor=actor, **settled)
        _report_excess(session, payment, refund, actor)
    else:
        for name, value in settled.items():
            setattr(refund, name, value)
    if refund.outflow_micros:
        post_refund_paid(session, payment, refund, refund.pay_micros, actor)
    else:
        session.flush()
        settle_by_refunds(session, payment, refund.gateway_payment_id)
    details = {"refund": refund.id, **entry_details(entry)}
    add_event(session, payment, "refund_succeeded", actor=actor, details=details)


def _fail(session: Session, payment: Payment, refund: Refund, actor: Actor, code: str) -> None:
    """Grant the credit again: the money did not go back, or came back."""
    if refund.state == RefundState.SUCCEEDED.value and refund.outflow_micros:
        post_refund_paid(session, payment, refund, -refund.pay_micros, actor)
    entry = change_outflow(
        session,
        payment,
        refund,
        0,
        actor=actor,
        state=RefundState.FAILED.value,
        settled_at=clock.now(session),
        next_check_at=None,
    )
    details = {"refund": refund.id, "code": code, **entry_details(entry)}
    add_event(session, payment, "refund_failed", actor=actor, details=details)


def apply_kept_refund(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    """Book a refund that was told before its payment was credited."""
    change_outflow(session, payment, refund, refund.pay_micros, actor=actor)
    if refund.state == RefundState.SUCCEEDED.value:
        post_refund_paid(session, payment, refund, refund.pay_micros, actor)
    _report_excess(session, payment, refund, actor)
