"""Move refunds from state to state, and book what each step requires."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import OPEN_PAYMENT_STATES, Dispute, Payment, Refund
from domain import clock
from domain.gateways.interface import Outcome, RefundState, RefundUpdate
from domain.money import Money
from domain.payments.outflows import STANDING_REFUNDS, change_outflow, is_booked, post_refund_paid
from domain.payments.records import add_event, add_event_once, entry_details, report_discrepancy
from domain.payments.review_cases import REFUND_AMOUNT_CHANGED, UNFIT_REFUND
from domain.payments.unapplied_receipts import is_return, restore_liability, settle_by_refunds

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

_log = logging.getLogger(__name__)
CHECK_EVERY = timedelta(hours=1)
RANKS = {"requested": 0, "pending": 1, "succeeded": 2, "failed": 3}
"""Of two statements of the same moment, the later stage counts."""


ON_ITS_WAY = frozenset({RefundState.PENDING.value, "requested"})


def has_open_dispute(session: Session, payment: Payment) -> bool:
    """Return whether a dispute of a payment is open."""
    rows = session.scalars(
        select(Dispute).where(Dispute.payment_id == payment.id, Dispute.state == "open")
    )
    return any(is_booked(payment, row) for row in rows)


def refundable_micros(payment: Payment) -> int:
    """Return the amount neither refunded nor disputed, in the currency that was paid."""
    return max(payment.pay_micros - payment.refunded_micros - payment.disputed_micros, 0)


def book(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    """Record a new refund; where its money was credited, claw the credit back."""
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
    report_excess(session, payment, refund, actor)


def report_excess(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    """Report, for staff to investigate, that more was refunded than the payment had."""
    excess = refund.outflow_micros - refund.unapplied_micros - refund.clawed_back_micros
    if excess > 0:
        _report_unfit(session, payment, refund, excess, actor)


def report_unexplained(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    """Report that a refund concerns money that was neither credited nor rejected."""
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


def advance(
    session: Session, payment: Payment, refund: Refund, update: RefundUpdate, actor: Actor
) -> Outcome:
    """Apply a statement about a known refund, unless a newer one was applied before.

    Its amount is not changed: staff review a statement of another amount.
    """
    if has_no_other_id(refund):
        refund.gateway_refund_id = update.gateway_refund_id
    booked = Money(refund.pay_micros, payment.pay_currency)
    kind, details = REFUND_AMOUNT_CHANGED, discrepancy(update, booked)
    is_restated = update.amount != booked and report_discrepancy(
        session, payment, kind, actor=actor, details=details
    )
    if refund.state == "merged" or not is_news(refund, update):
        return Outcome.RECORDED if is_restated else Outcome.REPEATED
    if update.stated_at is not None:
        refund.stated_at = update.stated_at
    if update.state is RefundState.SUCCEEDED:
        succeed(session, payment, refund, actor)
        report_unexplained(session, payment, refund, actor)
    elif update.state is RefundState.FAILED:
        fail(session, payment, refund, actor, "gateway")
        restore_liability(
            session,
            payment,
            gateway_refund_id=update.gateway_refund_id,
            gateway_payment_id=refund.gateway_payment_id,
        )
    else:
        refund.state = RefundState.PENDING.value
        refund.next_check_at = clock.now(session) + CHECK_EVERY
        add_event(session, payment, "refund_pending", actor=actor, details={"refund": refund.id})
    return Outcome.RECORDED


def succeed(session: Session, payment: Payment, refund: Refund, actor: Actor) -> None:
    """Record that the money was paid out; claw the credit back again if the refund had failed."""
    settled = {
        "state": RefundState.SUCCEEDED.value,
        "settled_at": clock.now(session),
        "next_check_at": None,
    }
    entry = None
    if refund.state not in STANDING_REFUNDS and is_booked(payment, refund):
        entry = change_outflow(session, payment, refund, refund.pay_micros, actor=actor, **settled)
        report_excess(session, payment, refund, actor)
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


def fail(session: Session, payment: Payment, refund: Refund, actor: Actor, code: str) -> None:
    """Grant the credit again: the money was not paid out, or was returned."""
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


def has_no_other_id(refund: Refund) -> bool:
    """Whether the gateway has not named it yet: until it does, our reference may stand there."""
    return refund.gateway_refund_id in {None, refund.reference}


def discrepancy(update: RefundUpdate, expected: Money | None) -> dict[str, object]:
    """Return what the timeline keeps of an amount of a refund that the ledger does not have."""
    return {
        "gateway_refund": update.gateway_refund_id,
        "gateway_payment": update.gateway_payment_id,
        "amount": [update.amount.micros, update.amount.currency],
        "expected": None if expected is None else [expected.micros, expected.currency],
    }


def is_news(refund: Refund, update: RefundUpdate) -> bool:
    """Return whether an update states more than is known of a refund; note when it was stated."""
    if refund.state == update.state.value:
        if update.stated_at is not None and refund.stated_at is not None:
            refund.stated_at = max(refund.stated_at, update.stated_at)
        return False
    if update.state is RefundState.PENDING:
        return refund.state == "requested"  # money received or paid out does not wait again
    if update.stated_at is None or refund.stated_at is None:
        return True
    if update.stated_at == refund.stated_at:
        return RANKS[update.state.value] > RANKS[refund.state]
    return update.stated_at > refund.stated_at
