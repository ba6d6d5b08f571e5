"""Record rejected money as due back until the gateway or a person reports its return.

It was never credited, so it has no credit grant: between rejection and return it is a payable
(2150) against what the gateway holds for us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from db.models import Payment, PaymentReview, Refund
from db.models.payments import ReturnState, ReviewState
from domain import audit, clock
from domain.errors import AlreadyDecided, Conflict, InvalidInput, NotFound
from domain.gateways.interface import GatewayPaymentState, RefundState
from domain.ledger import chart_of_accounts as chart
from domain.money import Money
from domain.payments.records import (
    GATEWAY_ACTOR,
    add_event,
    cash_account,
    lock_payment,
    post_gateway_money,
)
from domain.payments.review_cases import RETURN_FAILED, SECOND_MONEY, case_of, open_cases
from domain.permissions import require
from domain.validation import check_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.interface import PaymentUpdate, RefundUpdate
    from domain.payments.review_cases import ReviewCase

_MAX_LENGTH = 200


def record_liability(session: Session, payment: Payment, review: PaymentReview) -> None:
    """Record that the money of a rejected review is due back to the payer.

    Where the gateway never stated how much it was, nothing can be posted: the debt is recorded
    here.
    """
    review.return_state = ReturnState.DUE
    received = _received(review)
    if received is None:
        return
    post_gateway_money(
        session,
        payment,
        kind="unapplied_receipt",
        debit=cash_account(payment),
        credit=chart.REFUNDS_PAYABLE.code,
        amount=received,
        key=f"unapplied:{review.id}",
        actor=GATEWAY_ACTOR,
    )


def review_of(payment: Payment, case: ReviewCase, **decision: str | datetime) -> PaymentReview:
    """Return a new review of a case; `decision` is what was requested or decided."""
    return PaymentReview(
        account_id=payment.account_id,
        payment_id=payment.id,
        case_id=case.id,
        case_reason=case.reason,
        gateway_payment_id=case.gateway_payment_id,
        received_micros=None if case.amount is None else case.amount.micros,
        received_currency=None if case.amount is None else case.amount.currency,
        **decision,
    )


def refused_money(
    session: Session, payment: Payment, gateway_payment_id: str | None
) -> PaymentReview | None:
    """Return the review that rejected this money of the payment.

    Money without an id was rejected as the money received, so an id stated later refers to the same
    money. Money that was rejected again, after the gateway had denied it for a while, belongs to
    the last review.
    """
    if gateway_payment_id is None:
        return None
    return session.scalars(
        select(PaymentReview)
        .where(
            PaymentReview.payment_id == payment.id,
            PaymentReview.return_state.is_not(None),
            or_(
                PaymentReview.gateway_payment_id == gateway_payment_id,
                PaymentReview.gateway_payment_id.is_(None),
            ),
        )
        .order_by(PaymentReview.id.desc())
    ).first()


def was_denied_before(review: PaymentReview, update: PaymentUpdate) -> bool:
    """Return whether rejected money, reported as never received before, was paid since."""
    denied_at = review.returned_at if review.return_state == ReturnState.NOT_RECEIVED else None
    if denied_at is None or update.occurred_at is None:
        return False
    return update.state is GatewayPaymentState.PAID and update.occurred_at > denied_at


def settle_by_failure(session: Session, payment: Payment, update: PaymentUpdate) -> bool:
    """Close what is open about money now reported as never received; return whether any was.

    Rejected money is no longer due, and a second payment that waits for a decision needs none.
    """
    name = update.gateway_payment_id
    if name is None:
        return False
    waiting = _waiting_second_money(session, payment, name)
    if waiting is None:
        review = refused_money(session, payment, name)
    else:
        review = _reject(session, payment, waiting, reason="not_received")
    if review is None or review.return_state != ReturnState.DUE:
        return False
    _settle(
        session,
        payment,
        review,
        state=ReturnState.NOT_RECEIVED,
        actor=GATEWAY_ACTOR,
        reference=update.code,
    )
    return True


def settle_by_refunds(session: Session, payment: Payment, gateway_payment_id: str | None) -> None:
    """Treat refunds without credit as the return of money that was rejected, or will be.

    Together they cover all of it, or more: a partial return is left to staff. Money received beside
    a credited payment and already refunded by the gateway needs no decision.
    """
    for review in _owed(session, payment, gateway_payment_id):
        last = _last_of_return(session, payment, review.gateway_payment_id, _received(review))
        if last is not None:
            _settle_by(session, payment, review, last)
            return
    if refused_money(session, payment, gateway_payment_id) is not None:
        return
    case = _waiting_second_money(session, payment, gateway_payment_id)
    if case is None:
        return
    last = _last_of_return(session, payment, gateway_payment_id, case.amount)
    if last is not None:
        review = _reject(session, payment, case, reason="refunded_at_gateway")
        _settle_by(session, payment, review, last)


def restore_liability(
    session: Session,
    payment: Payment,
    *,
    gateway_refund_id: str,
    gateway_payment_id: str | None,
) -> bool:
    """Restore rejected money as due where its return failed after all; return whether it is due.

    It stays returned where other refunds cover all of it, or where staff returned it otherwise.
    """
    for review in _returned(session, payment):
        received = _received(review)
        is_named = review.return_reference == gateway_refund_id
        is_part = gateway_payment_id is not None and (
            review.gateway_payment_id == gateway_payment_id
            and review.returned_by == audit.actor_name(GATEWAY_ACTOR)
        )
        if not (is_named or is_part) or received is None:
            continue
        if _last_of_return(session, payment, review.gateway_payment_id, received) is None:
            details = {
                "gateway_payment": review.gateway_payment_id,
                "amount": [received.micros, received.currency],
                "gateway_refund": gateway_refund_id,
            }
            step = add_event(session, payment, RETURN_FAILED, actor=GATEWAY_ACTOR, details=details)
            session.flush()
            _reject(session, payment, case_of(step), reason=RETURN_FAILED)
            return True
    return False


def is_return(session: Session, payment: Payment, refund: Refund) -> bool:
    """Return whether a refund without credit returns rejected money, or is going to."""
    if any(row.return_reference == refund.gateway_refund_id for row in _returned(session, payment)):
        return True
    owed = _owed(session, payment, refund.gateway_payment_id)
    amount = Money(refund.pay_micros, payment.pay_currency)
    is_whole = any(_is_all(amount, _received(row)) for row in owed)
    return is_whole and refund.state == RefundState.PENDING.value


def name_of_return(session: Session, payment: Payment, update: RefundUpdate) -> str | None:
    """Return which money a refund returns: the money that is due, where the refund names none.

    Other money may be credited for the payment later, which this refund then does not concern.
    """
    if update.gateway_payment_id is not None:
        return update.gateway_payment_id
    owed = _owed(session, payment, None)
    return next(
        (row.gateway_payment_id for row in owed if _is_all(update.amount, _received(row))), None
    )


def _returned(session: Session, payment: Payment) -> list[PaymentReview]:
    """Return rejected money that was returned: by the last review of each."""
    rows = session.scalars(
        select(PaymentReview)
        .where(PaymentReview.payment_id == payment.id, PaymentReview.return_state.is_not(None))
        .order_by(PaymentReview.id)
    )
    last = {row.gateway_payment_id: row for row in rows}
    return [row for row in last.values() if row.return_state == ReturnState.RETURNED]


def _owed(
    session: Session, payment: Payment, gateway_payment_id: str | None
) -> Sequence[PaymentReview]:
    """Return the rejected money with this id that is due, or all of it where there is no id.

    Money without an id that was refunded from a credited payment belongs to the credit.
    """
    if gateway_payment_id is not None:
        review = refused_money(session, payment, gateway_payment_id)
        return [review] if review is not None and review.return_state == ReturnState.DUE else []
    if payment.grant_number is not None:
        return []
    return session.scalars(
        select(PaymentReview)
        .where(
            PaymentReview.payment_id == payment.id, PaymentReview.return_state == ReturnState.DUE
        )
        .order_by(PaymentReview.id)
    ).all()


def _last_of_return(
    session: Session, payment: Payment, gateway_payment_id: str | None, received: Money | None
) -> Refund | None:
    """Return the last paid refund of money without credit where together they cover all of it."""
    kept = session.scalars(
        select(Refund)
        .where(
            Refund.payment_id == payment.id,
            Refund.state == RefundState.SUCCEEDED.value,
            Refund.outflow_micros == 0,
            or_(
                Refund.gateway_payment_id == gateway_payment_id,
                Refund.gateway_payment_id.is_(None),
            ),
        )
        .order_by(Refund.id)
    ).all()
    gone = Money(sum(refund.pay_micros for refund in kept), payment.pay_currency)
    return kept[-1] if kept and _is_all(gone, received) else None


def _is_all(gone: Money, received: Money | None) -> bool:
    """Return whether all of it was returned; an unknown amount received is left to staff."""
    return (
        received is not None
        and gone.currency == received.currency
        and gone.micros >= received.micros
    )


def _waiting_second_money(
    session: Session, payment: Payment, gateway_payment_id: str | None
) -> ReviewCase | None:
    """Return the open case of a second payment with this id, or None."""
    for case in open_cases(session, payment):
        if case.reason == SECOND_MONEY and case.gateway_payment_id == gateway_payment_id:
            return case
    return None


def _reject(session: Session, payment: Payment, case: ReviewCase, *, reason: str) -> PaymentReview:
    """Record money as due back by the gateway's statement, without a person's decision."""
    review = review_of(
        payment,
        case,
        state=ReviewState.REJECTED,
        decided_by=audit.actor_name(GATEWAY_ACTOR),
        decided_at=clock.now(session),
        decision_reason=reason,
    )
    session.add(review)
    session.flush()
    record_liability(session, payment, review)
    return review


def record_return(session: Session, *, review_id: int, reference: str, actor: Actor) -> None:
    """Record the return of rejected money by hand; `reference` is the bank's or gateway's.

    Again with the same reference: no effect. Raises InvalidInput, NotFound, AlreadyDecided where it
    was returned otherwise or never received, and Conflict("nothing_to_return") where nothing is
    due.
    """
    require(actor, "record_return")
    reference = " ".join(reference.split())
    check_text(reference=reference)
    if not 0 < len(reference) <= _MAX_LENGTH:
        raise InvalidInput("reference", "too_long" if reference else "empty", maximum=_MAX_LENGTH)
    found = session.get(PaymentReview, review_id)
    payment = None if found is None else lock_payment(session, found.payment_id)
    if found is None or payment is None:
        raise NotFound("review")
    require(actor, "record_return", payment.account_id)
    session.refresh(found)
    is_mine = found.returned_by == audit.actor_name(actor) and found.return_reference == reference
    if found.return_state == ReturnState.RETURNED and is_mine:
        return
    if found.return_state is None:
        raise Conflict("nothing_to_return")
    if found.return_state != ReturnState.DUE:
        raise AlreadyDecided(
            found.return_state, found.returned_by, found.returned_at, "nothing_to_return"
        )
    _settle(session, payment, found, state=ReturnState.RETURNED, actor=actor, reference=reference)
    details = {"payment": payment.id, "review": found.id}
    audit.record(
        session,
        action="record_return",
        actor=actor,
        account_id=payment.account_id,
        details=details,
    )


def _settle_by(session: Session, payment: Payment, review: PaymentReview, refund: Refund) -> None:
    name = refund.gateway_refund_id
    _settle(
        session, payment, review, state=ReturnState.RETURNED, actor=GATEWAY_ACTOR, reference=name
    )


def _settle(
    session: Session,
    payment: Payment,
    review: PaymentReview,
    *,
    state: str,
    actor: Actor,
    reference: str | None,
) -> None:
    """Clear the payable: the same legs whether the money was returned or never received."""
    review.returned_at = clock.now(session)
    review.return_state = state
    review.returned_by = audit.actor_name(actor)
    review.return_reference = reference
    received = _received(review)
    if received is not None:
        post_gateway_money(
            session,
            payment,
            kind="unapplied_returned",
            debit=chart.REFUNDS_PAYABLE.code,
            credit=cash_account(payment),
            amount=received,
            key=f"unapplied-{state}:{review.id}",
            actor=GATEWAY_ACTOR,
        )
    kind = "money_returned" if state == ReturnState.RETURNED else "money_not_received"
    add_event(session, payment, kind, actor=actor, details={"review": review.id})


def _received(review: PaymentReview) -> Money | None:
    """Return how much was received; None where the gateway never stated it."""
    if review.received_micros is None or review.received_currency is None:
        return None
    return Money(review.received_micros, review.received_currency)
