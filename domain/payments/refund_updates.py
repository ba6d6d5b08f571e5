"""Apply what a gateway reports about refunds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import Dispute, Payment, Refund
from domain import audit, clock
from domain.gateways.interface import Outcome, RefundState, RefundUpdate
from domain.payments.outflows import change_outflow, is_same_money, lock_account, post_refund_paid
from domain.payments.records import add_event, add_event_once, report_discrepancy
from domain.payments.refund_states import (
    CHECK_EVERY,
    ON_ITS_WAY,
    advance,
    book,
    discrepancy,
    has_no_other_id,
    report_excess,
    report_unexplained,
    succeed,
)
from domain.payments.review_cases import REFUND_IN_OTHER_CURRENCY, REFUND_OF_ANOTHER
from domain.payments.unapplied_receipts import name_of_return, restore_liability

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

REVERSAL_OF_DISPUTE = "reversal_of_dispute"
"""The step that tells of money which a dispute took, told a second time."""


def apply_refund(
    session: Session,
    payment: Payment,
    update: RefundUpdate,
    *,
    actor: Actor,
    asked_for: int | None = None,
) -> Outcome:
    """Move a refund of a locked payment to the state that the gateway reports."""
    lock_account(session, payment.account_id)
    refund = _find(session, payment, update, asked_for)
    if refund is not None:
        return advance(session, payment, refund, update, actor)
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

    One that has our reference and another id is a second refund, which replaced the first one.
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
        return ours[0] if has_no_other_id(ours[0]) else None
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
    details = {**discrepancy(update, None), "other_payment": other}
    is_new = report_discrepancy(session, payment, REFUND_OF_ANOTHER, actor=actor, details=details)
    return Outcome.RECORDED if is_new else Outcome.REPEATED


def _may_be(payment: Payment, refund: Refund, update: RefundUpdate) -> bool:
    """Return whether a refund reported without our reference may be one of ours."""
    return (
        refund.state in ON_ITS_WAY
        and refund.reference is not None
        and has_no_other_id(refund)
        and refund.pay_micros == update.amount.micros
        and payment.pay_currency == update.amount.currency
        and update.gateway_payment_id in {None, refund.gateway_payment_id}
    )


def _is_part_of_dispute(session: Session, payment: Payment, update: RefundUpdate) -> bool:
    """Return whether a dispute of the same money and amount carries this reversal out.

    A dispute that was won does where the reversal is from before its end.
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
    """Record a refund that was made at the gateway itself."""
    if not _is_fit(payment, update):
        kind, details = REFUND_IN_OTHER_CURRENCY, discrepancy(update, None)
        is_new = report_discrepancy(session, payment, kind, actor=actor, details=details)
        return Outcome.RECORDED if is_new else Outcome.REPEATED
    refund = _of_gateway(session, payment, update, actor)
    refund.next_check_at = clock.now(session) + CHECK_EVERY
    book(session, payment, refund, actor)
    if update.state is RefundState.SUCCEEDED:
        succeed(session, payment, refund, actor)
    report_unexplained(session, payment, refund, actor)
    return Outcome.RECORDED


def _keep_failure(
    session: Session, payment: Payment, update: RefundUpdate, actor: Actor
) -> Outcome:
    """Record a refund whose first statement reports that it failed.

    A statement that is delivered later may be older, and must not claw back the credit. A failure
    without a date cannot be compared with it.
    """
    is_owed = restore_liability(
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
    """Return whether a refund has an amount in the currency that was paid."""
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


def apply_kept_refund(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    """Book a refund that was reported before its payment was credited."""
    change_outflow(session, payment, refund, refund.pay_micros, actor=actor)
    if refund.state == RefundState.SUCCEEDED.value:
        post_refund_paid(session, payment, refund, refund.pay_micros, actor)
    report_excess(session, payment, refund, actor)
