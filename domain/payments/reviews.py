"""Decide on payments under review: credit the money received, or refund it.

Crediting takes two people, as a bank transfer does: one requests it, another approves it. The
amount credited follows from what the gateway verified, at the payment's own price: no one types an
amount. Rejecting takes one person, since it grants nothing. Each decision is about one case under
review: where the gateway has reported more since, the case has to be reviewed again. An amount that
differs from the ledger is reviewed by one person, who records what was found: that moves no money,
unless it closes a dispute whose outcome cannot be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exists, func, select, union_all
from sqlalchemy.orm import aliased

from db.models import Payment, PaymentEvent, PaymentReview, PaymentState
from db.models.payments import ReturnState, ReviewState
from domain import audit, clock
from domain.approvals import record_decision
from domain.errors import AlreadyDecided, Conflict, InvalidInput, NotAuthorised, NotFound
from domain.gateways.interface import GatewayPaymentState, PaymentUpdate
from domain.money import Money
from domain.payments import discrepancies, review_cases
from domain.payments.crediting import credit_money
from domain.payments.disputes import end_dispute, find_open_dispute
from domain.payments.records import GATEWAY_ACTOR, add_event, lock_payment
from domain.payments.unapplied_receipts import (
    record_liability,
    record_return,
    review_of,
    settle_by_refunds,
)
from domain.permissions import require, require_another
from domain.validation import checked_reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from db.models import Dispute
    from domain.actors import Actor
    from domain.payments.review_cases import ReviewCase

__all__ = [
    "Decision",
    "OpenReview",
    "PaymentReviews",
    "approve_payment",
    "count_waiting",
    "needs_decision",
    "record_return",
    "reject_payment",
    "request_acceptance",
    "review_discrepancy",
    "reviews_of",
]


@dataclass(frozen=True, slots=True)
class OpenReview:
    """A case under review that waits for a decision, and what approving it would credit.

    `obstacle` is the slug of why it cannot be approved, and `credit` None then.
    """

    case: ReviewCase
    credit: Money | None
    obstacle: str | None
    requested_by: str | None
    requested_at: datetime | None
    request_reason: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on a case under review, or the finding on a discrepancy.

    `return_state` is owed, returned or not_received, or None.
    """

    review_id: int
    reason: str
    state: str
    requested_by: str | None
    request_reason: str | None
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    received: Money | None
    gateway_payment_id: str | None
    return_state: str | None
    returned_by: str | None
    return_reference: str | None


@dataclass(frozen=True, slots=True)
class PaymentReviews:
    """The open reviews and cases of a payment, and the decisions on earlier ones.

    `ends_dispute` are the ids of the discrepancies whose review closes an open dispute.
    """

    waiting: tuple[OpenReview, ...]
    discrepancies: tuple[ReviewCase, ...]
    ends_dispute: frozenset[int]
    decided: tuple[Decision, ...]


# ── Reading ───────────────────────────────────────────────────────────────────────────────────
def reviews_of(session: Session, *, payment_id: int, actor: Actor) -> PaymentReviews:
    """Return the open cases of a payment and the earlier decisions, for staff. Raises NotFound."""
    require(actor, "look_up_payments")
    payment = session.get(Payment, payment_id)
    if payment is None:
        raise NotFound("payment")
    rows = session.scalars(
        select(PaymentReview)
        .where(PaymentReview.payment_id == payment_id)
        .order_by(PaymentReview.id)
    ).all()
    proposals = {row.case_id: row for row in rows if row.state == ReviewState.REQUESTED}
    waiting = tuple(
        _open(session, payment, case, proposals.get(case.id))
        for case in review_cases.open_cases(session, payment)
    )
    discrepancies = review_cases.open_discrepancies(session, payment)
    return PaymentReviews(
        waiting,
        discrepancies,
        frozenset(one.id for one in discrepancies if _dispute_to_end(session, payment, one)),
        tuple(_decision(row) for row in rows if row.decided_by),
    )


def _open(
    session: Session, payment: Payment, case: ReviewCase, proposal: PaymentReview | None
) -> OpenReview:
    credit, obstacle = None, None
    try:
        credit = Money(_credit_of(session, payment, case)[1], payment.credit_currency)
    except Conflict as conflict:
        obstacle = conflict.reason
    return OpenReview(
        case=case,
        credit=credit,
        obstacle=obstacle,
        requested_by=None if proposal is None else proposal.requested_by,
        requested_at=None if proposal is None else proposal.requested_at,
        request_reason=None if proposal is None else proposal.request_reason,
    )


def _decision(row: PaymentReview) -> Decision:
    received = None
    if row.received_micros is not None and row.received_currency is not None:
        received = Money(row.received_micros, row.received_currency)
    return Decision(
        review_id=row.id,
        reason=row.case_reason,
        state=row.state,
        requested_by=row.requested_by,
        request_reason=row.request_reason,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        decision_reason=row.decision_reason,
        received=received,
        gateway_payment_id=row.gateway_payment_id,
        return_state=row.return_state,
        returned_by=row.returned_by,
        return_reference=row.return_reference,
    )


def needs_decision() -> ColumnElement[bool]:
    """Return the condition of payments that wait for staff to decide, or to refund money."""
    reviewed = exists().where(
        PaymentReview.case_id == PaymentEvent.id, PaymentReview.state == ReviewState.REJECTED
    )
    about = aliased(Payment)
    number = PaymentEvent.details["gateway_payment"].astext
    # Each part has an index of its own, which a single condition for all would not use.
    return Payment.id.in_(
        union_all(
            select(about.id).where(about.state == "under_review"),
            select(PaymentReview.payment_id).where(PaymentReview.return_state == ReturnState.DUE),
            select(PaymentEvent.payment_id)
            .join(about, about.id == PaymentEvent.payment_id)
            .where(
                PaymentEvent.kind == review_cases.SECOND_MONEY,
                ~reviewed,
                number.is_distinct_from(about.gateway_payment_id),
            ),
            select(PaymentEvent.payment_id).where(review_cases.is_open_discrepancy()),
            *discrepancies.payments_with_exceptions(),
        )
    )


def count_waiting(session: Session, *, actor: Actor) -> int:
    """Return how many payments wait for staff."""
    require(actor, "look_up_payments")
    return session.scalars(select(func.count(Payment.id)).where(needs_decision())).one()


# ── Deciding ──────────────────────────────────────────────────────────────────────────────────
def request_acceptance(
    session: Session, *, payment_id: int, case_id: int, reason: str, actor: Actor
) -> None:
    """Request that the money received be credited, for another person to approve.

    Repeated by the same person, it has no effect. Raises Conflict with the obstacle where the money
    cannot be credited ("ask_gateway_first" where the gateway has not reported how much was
    received), "case_is_closed" where the gateway has reported more since, and
    "requested_by_another" where another person has requested it.
    """
    payment, reason = _checked(session, payment_id, reason, actor)
    row = _review(session, case_id)
    name = audit.actor_name(actor)
    if row is not None and row.requested_by == name:
        return
    case = _open_case(session, payment, case_id)
    if row is not None:
        raise Conflict("requested_by_another")
    _, credit_micros = _credit_of(session, payment, case)
    row = review_of(
        payment,
        case,
        state=ReviewState.REQUESTED,
        requested_by=name,
        requested_at=clock.now(session),
        request_reason=reason,
    )
    session.add(row)
    session.flush()
    details = {"review": row.id, "case": case.reason, "credit": credit_micros}
    _record(session, payment, "acceptance_requested", actor, details)


def approve_payment(
    session: Session, *, payment_id: int, case_id: int, reason: str, actor: Actor
) -> None:
    """Credit the money received, as another person requested; again by the same: no effect.

    The payment's amount is from then on the amount received. Raises NotAuthorised for the person
    who requested it, Conflict as `request_acceptance` does and "not_requested".
    """
    payment, reason = _checked(session, payment_id, reason, actor)
    row, name = _review(session, case_id), audit.actor_name(actor)
    if row is not None and row.state == ReviewState.APPROVED and row.decided_by == name:
        return
    case = _open_case(session, payment, case_id)
    if row is None or row.state != ReviewState.REQUESTED:
        raise Conflict("not_requested")
    require_another(actor, row.requested_by or "")
    received, credit_micros = _credit_of(session, payment, case)
    row.decision_reason = reason
    record_decision(session, row, ReviewState.APPROVED, actor)
    details = {
        "review": row.id,
        "requested_by": row.requested_by,
        "asked": [payment.pay_micros, payment.pay_currency, payment.credit_micros],
        "received": [received.micros, received.currency, credit_micros],
    }
    payment.pay_micros, payment.credit_micros = received.micros, credit_micros
    session.flush()
    _record(session, payment, "acceptance_approved", actor, details)
    update = PaymentUpdate(
        state=GatewayPaymentState.PAID,
        reference=payment.reference,
        gateway_payment_id=case.gateway_payment_id,
        amount=received,
        occurred_at=case.since,
        asking_tells_instrument=True,
    )
    credit_money(session, payment, update, GATEWAY_ACTOR)


def reject_payment(
    session: Session, *, payment_id: int, case_id: int, reason: str, actor: Actor
) -> None:
    """Reject the money received, so that it is due back; again by the same: no effect.

    A payment under review fails; one that was credited already stays, and only its other money is
    rejected. Raises NotAuthorised for the person who requested to credit it, and
    Conflict("case_is_closed").
    """
    payment, reason = _checked(session, payment_id, reason, actor)
    row, name = _review(session, case_id), audit.actor_name(actor)
    if row is not None and row.state == ReviewState.REJECTED and row.decided_by == name:
        return
    case = _open_case(session, payment, case_id)
    if row is None:
        row = review_of(payment, case)
        session.add(row)
    elif row.requested_by == name:
        raise NotAuthorised
    row.decision_reason = reason
    record_decision(session, row, ReviewState.REJECTED, actor)
    if case.has_money:
        record_liability(session, payment, row)
        settle_by_refunds(session, payment, case.gateway_payment_id)
    if case.reason != review_cases.SECOND_MONEY:
        payment.state, payment.code = PaymentState.FAILED, review_cases.REJECTED_BY_STAFF
        payment.pay_by = payment.next_check_at = None
    details = {**review_cases.statement_of_case(case), "review": row.id, "return": row.return_state}
    _record(session, payment, review_cases.REJECTED_BY_STAFF, actor, details)


def review_discrepancy(
    session: Session,
    *,
    payment_id: int,
    case_id: int,
    reason: str,
    actor: Actor,
    is_lost: bool | None = None,
) -> None:
    """Record that a person reviewed an amount that differs from the ledger; again: no effect.

    `reason` states what was found and done. A dispute whose outcome could not be read is closed by
    this: `is_lost` states whether the customer got the money. Raises AlreadyDecided where another
    person reviewed it, Conflict("case_is_closed") where there is no such discrepancy, and
    InvalidInput where a dispute waits for its outcome and `is_lost` is not given.
    """
    payment, reason = _checked(session, payment_id, reason, actor)
    row, name = _review(session, case_id), audit.actor_name(actor)
    if row is not None and row.state == ReviewState.REVIEWED:
        if row.decided_by == name:
            return
        raise AlreadyDecided(row.state, row.decided_by, row.decided_at)
    case = _discrepancy(session, payment, case_id)
    dispute = _dispute_to_end(session, payment, case)
    if dispute is not None and is_lost is None:
        raise InvalidInput("is_lost", "missing")
    row = review_of(
        payment,
        case,
        state=ReviewState.REVIEWED,
        decided_by=name,
        decided_at=clock.now(session),
        decision_reason=reason,
    )
    session.add(row)
    session.flush()
    details = {"review": row.id, "discrepancy": case.reason, "reason": reason}
    _record(session, payment, "discrepancy_reviewed", actor, details)
    if dispute is not None:
        end_dispute(session, payment, dispute, is_lost=bool(is_lost), actor=GATEWAY_ACTOR)


def _dispute_to_end(session: Session, payment: Payment, case: ReviewCase) -> Dispute | None:
    """Return the open dispute that the review of a discrepancy closes, or None."""
    name = case.gateway_dispute_id
    if case.reason != review_cases.UNKNOWN_OUTCOME or name is None:
        return None
    return find_open_dispute(session, payment, name)


def _discrepancy(session: Session, payment: Payment, case_id: int) -> ReviewCase:
    for case in review_cases.open_discrepancies(session, payment):
        if case.id == case_id:
            return case
    raise Conflict("case_is_closed")


def _checked(session: Session, payment_id: int, reason: str, actor: Actor) -> tuple[Payment, str]:
    """Return the payment, locked, and the reason, trimmed; raise where the actor may not decide."""
    require(actor, "decide_payment")
    reason = checked_reason(reason)
    payment = lock_payment(session, payment_id)
    if payment is None:
        raise NotFound("payment")
    require(actor, "decide_payment", payment.account_id)
    return payment, reason


def _review(session: Session, case_id: int) -> PaymentReview | None:
    return session.scalars(
        select(PaymentReview)
        .where(PaymentReview.case_id == case_id)
        .execution_options(populate_existing=True)
    ).one_or_none()


def _open_case(session: Session, payment: Payment, case_id: int) -> ReviewCase:
    for case in review_cases.open_cases(session, payment):
        if case.id == case_id:
            return case
    raise Conflict("case_is_closed")


def _credit_of(session: Session, payment: Payment, case: ReviewCase) -> tuple[Money, int]:
    """Return the amount received and the micros of credit it buys.

    Raises Conflict with the obstacle where it cannot be credited.
    """
    if case.reason == review_cases.SECOND_MONEY:
        raise Conflict("second_money_goes_back")
    number, received = case.gateway_payment_id, case.amount
    is_of_another = case.reason == review_cases.MONEY_OF_ANOTHER
    if is_of_another or (number and review_cases.is_credited_elsewhere(session, payment, number)):
        raise Conflict("money_is_of_another")
    if not case.has_money or number is None or received is None or received.micros <= 0:
        raise Conflict("ask_gateway_first")
    if received.currency != payment.pay_currency:
        raise Conflict("money_in_other_currency")
    if review_cases.went_back(session, payment, number):
        raise Conflict("money_went_back")
    # More may have been received than was requested; the fraction of a micro left over is ours.
    credit_micros = payment.credit_micros * received.micros // payment.pay_micros
    if credit_micros <= 0:
        raise Conflict("money_buys_nothing")
    return received, credit_micros


def _record(
    session: Session, payment: Payment, step: str, actor: Actor, details: Mapping[str, object]
) -> None:
    add_event(session, payment, step, actor=actor, details=details)
    audit.record(
        session,
        action=step,
        actor=actor,
        account_id=payment.account_id,
        details={"payment": payment.id, **details},
    )
