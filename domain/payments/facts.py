"""What follows from a verified fact of a gateway: credit, once, and every other change of state.

A fact may come twice, late, or in any order. The payment's row is locked, the money has a unique
name, and the credit an idempotency key of its own: each of the three would be enough.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import Payment
from domain import clock, ledger
from domain.gateways.base import (
    DisputeFact,
    KnownName,
    Outcome,
    PaymentFact,
    PaymentState,
    RefundFact,
)
from domain.payments.disputes import apply_dispute
from domain.payments.records import (
    ATTEMPT_REFUSED,
    FIRST_CHECK,
    OPEN_STATES,
    count_steps,
    gateway_clearing,
    grant_terms,
    lock_by_name,
    note,
    pay_amount,
    post_gateway_money,
)
from domain.payments.refunds import apply_refund

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.base import Fact, Gateway

_log = logging.getLogger(__name__)

GATEWAY_REVIEW = "gateway_review"
"""Why a payment is under review where the gateway itself has doubts."""

_TAKEN_BACK = "denied_after_credit"

_CLOSING = {
    PaymentState.FAILED: "failed",
    PaymentState.CANCELLED: "cancelled",
    PaymentState.EXPIRED: "expired",
}


def apply_facts(
    session: Session, *, gateway: Gateway, facts: Iterable[Fact], actor: Actor
) -> tuple[Outcome, Payment | None]:
    """Write what facts of one message change; return the outcome and the payment.

    The outcome is RECORDED where anything changed, else that of the last fact.
    """
    outcome, found = Outcome.REPEATED, None
    for fact in facts:
        payment = lock_by_name(
            session, gateway=gateway.name, is_sandbox=gateway.is_sandbox, name=_name(fact)
        )
        if payment is None:
            became = Outcome.UNKNOWN_PAYMENT
        else:
            found = payment
            became = _apply(session, payment, fact, actor)
        if outcome is not Outcome.RECORDED:
            outcome = became
    return outcome, found


def _name(fact: Fact) -> KnownName:
    if isinstance(fact, PaymentFact):
        return KnownName(fact.reference, fact.gateway_reference, fact.gateway_payment_id)
    return KnownName(fact.payment_reference, None, fact.gateway_payment_id)


def _apply(session: Session, payment: Payment, fact: Fact, actor: Actor) -> Outcome:
    if isinstance(fact, RefundFact):
        return apply_refund(session, payment, fact, actor=actor)
    if isinstance(fact, DisputeFact):
        return apply_dispute(session, payment, fact, actor=actor)
    return apply_payment_fact(session, payment, fact, actor=actor)


def apply_payment_fact(
    session: Session, payment: Payment, fact: PaymentFact, *, actor: Actor
) -> Outcome:
    """Bring a locked payment to where the gateway says that it stands."""
    if fact.state is PaymentState.PAID:
        return _take_money(session, payment, fact, actor)
    if payment.state == "succeeded":
        return _after_the_money(session, payment, fact, actor)
    is_wrong = fact.amount is not None and fact.amount != pay_amount(payment)
    if is_wrong or fact.state is PaymentState.UNDER_REVIEW:
        reason = "wrong_amount" if is_wrong else GATEWAY_REVIEW
        return _doubt(session, payment, reason, fact, actor)
    if fact.refusal is not None:
        return _note_refusal(session, payment, fact, actor)
    says_nothing = fact.state in {PaymentState.OPEN, PaymentState.UNKNOWN}
    if says_nothing or payment.state not in OPEN_STATES:
        return Outcome.REPEATED
    return _step(session, payment, fact, actor)


def _note_refusal(session: Session, payment: Payment, fact: PaymentFact, actor: Actor) -> Outcome:
    """Count a refused attempt, once however many asked for it: the next is a new one."""
    if fact.refusal != count_steps(session, payment, ATTEMPT_REFUSED):
        return Outcome.REPEATED
    details = {"code": fact.code, "is_offered_again": fact.state is PaymentState.APPROVED}
    note(session, payment, ATTEMPT_REFUSED, actor=actor, details=details)
    return Outcome.RECORDED


def _after_the_money(
    session: Session, payment: Payment, fact: PaymentFact, actor: Actor
) -> Outcome:
    """Take what comes after the credit for late, unless the gateway takes its word back."""
    is_same_money = fact.gateway_payment_id == payment.gateway_payment_id
    if fact.state is not PaymentState.FAILED or not is_same_money:
        return Outcome.REPEATED
    if payment.code != _TAKEN_BACK:
        payment.code = _TAKEN_BACK
        _report(session, payment, _TAKEN_BACK, fact, actor)
        return Outcome.RECORDED
    return Outcome.REPEATED


def _step(session: Session, payment: Payment, fact: PaymentFact, actor: Actor) -> Outcome:
    """Carry out a change of an open payment that brings no money."""
    now = clock.now(session)
    _learn(payment, fact)
    if fact.state is PaymentState.AWAITING:
        is_new = payment.state != "awaiting"
        payment.state = "awaiting"
        payment.pay_by = fact.pay_by or payment.pay_by
        payment.next_check_at = now + FIRST_CHECK if payment.pay_by is None else payment.pay_by
    elif fact.state is PaymentState.APPROVED:
        is_new = True
        payment.next_check_at = now
    else:
        is_new = True
        payment.state = _CLOSING[fact.state]
        payment.code = fact.code
        # Money may still be on its way: the gateway is asked once more, later.
        payment.next_check_at = now + FIRST_CHECK
    if not is_new:
        return Outcome.REPEATED
    details = {"code": fact.code, "method": fact.method}
    note(session, payment, fact.state.value, actor=actor, details=details)
    return Outcome.RECORDED


def _take_money(session: Session, payment: Payment, fact: PaymentFact, actor: Actor) -> Outcome:
    if payment.state == "succeeded":
        if fact.gateway_payment_id not in {None, payment.gateway_payment_id}:
            return _second_money(session, payment, fact, actor)
        _book_fee(session, payment, fact, actor)
        return Outcome.REPEATED
    if fact.amount != pay_amount(payment) or fact.gateway_payment_id is None:
        return _doubt(session, payment, "wrong_amount", fact, actor)
    if _is_credited_elsewhere(session, payment, fact.gateway_payment_id):
        return _doubt(session, payment, "money_of_another", fact, actor)
    _credit(session, payment, fact, actor)
    _book_fee(session, payment, fact, actor)
    return Outcome.RECORDED


def _is_credited_elsewhere(session: Session, payment: Payment, gateway_payment_id: str) -> bool:
    other = session.scalars(
        select(Payment.id).where(
            Payment.gateway == payment.gateway,
            Payment.gateway_payment_id == gateway_payment_id,
            Payment.id != payment.id,
        )
    ).first()
    return other is not None


def _credit(session: Session, payment: Payment, fact: PaymentFact, actor: Actor) -> None:
    """Give the credit, in the transaction that says that the money came."""
    now = clock.now(session)
    paid_at = min(fact.occurred_at or now, now)
    was = payment.state
    posted = ledger.add_grant(
        session,
        account_id=payment.account_id,
        terms=grant_terms(payment, payment.credit_micros, payment.pay_micros),
        source=payment.gateway,
        actor=actor,
        idempotency_key=f"payment:{payment.reference}",
        occurred_at=now,
    )
    _learn(payment, fact)
    payment.state = "succeeded"
    payment.gateway_payment_id = fact.gateway_payment_id
    payment.code = None
    payment.pay_by = None
    payment.paid_at = paid_at
    payment.credited_at = now
    payment.entry_sequence = posted.entry_sequence
    payment.grant_number = posted.grant_number
    # Once more for what the gateway tells only after a while, such as its fee.
    payment.next_check_at = None if fact.fee is not None else now + FIRST_CHECK
    details = {"entry": posted.entry_sequence, "was": was, "method": fact.method}
    note(session, payment, "succeeded", actor=actor, details=details)


def _learn(payment: Payment, fact: PaymentFact) -> None:
    payment.method = fact.method or payment.method
    if payment.gateway_reference is None and fact.gateway_reference:
        payment.gateway_reference = fact.gateway_reference


def _book_fee(session: Session, payment: Payment, fact: PaymentFact, actor: Actor) -> None:
    """Post what the gateway keeps of the money, once it says how much that is."""
    if payment.fee_micros is not None or fact.fee is None:
        return
    payment.fee_micros = fact.fee.micros
    if fact.fee.micros <= 0:
        return
    post_gateway_money(
        session,
        payment,
        kind="gateway_fee",
        debit="6100",
        credit=gateway_clearing(payment),
        amount=fact.fee,
        key=f"fee:{payment.reference}",
        actor=actor,
    )


def _doubt(
    session: Session, payment: Payment, reason: str, fact: PaymentFact, actor: Actor
) -> Outcome:
    """Put a payment aside for people: money came, and it is not clear for what."""
    is_known = payment.state == "under_review" and payment.code == reason
    if not is_known:
        payment.state = "under_review"
        payment.code = reason
        payment.next_check_at = None
        _learn(payment, fact)
        _report(session, payment, reason, fact, actor)
    if reason != GATEWAY_REVIEW:
        return Outcome.WRONG_AMOUNT
    return Outcome.REPEATED if is_known else Outcome.RECORDED


def _second_money(session: Session, payment: Payment, fact: PaymentFact, actor: Actor) -> Outcome:
    """Tell people that a payment was paid twice: the second money bought nothing."""
    _report(session, payment, "second_money", fact, actor)
    return Outcome.RECORDED


def _report(
    session: Session, payment: Payment, reason: str, fact: PaymentFact, actor: Actor
) -> None:
    amount = None if fact.amount is None else [fact.amount.micros, fact.amount.currency]
    details = {"gateway_payment": fact.gateway_payment_id, "amount": amount, "code": fact.code}
    note(session, payment, reason, actor=actor, details=details)
    _log.error("payment %d needs a person: %s", payment.id, reason)
