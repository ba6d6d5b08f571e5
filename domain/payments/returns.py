"""Money that came, was refused, and goes back: owed until the gateway or a person says it went.

It was never credited, so no grant stands for it: between refusal and return it is a payable
(2150) against what the gateway holds for us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from db.models import Payment, PaymentReview
from domain import audit, clock
from domain.errors import Conflict, InvalidInput, NotFound
from domain.gateways.base import RefundState
from domain.money import Money
from domain.payments.records import (
    GATEWAY_ACTOR,
    gateway_clearing,
    lock_payment,
    note,
    post_gateway_money,
)
from domain.permissions import require
from domain.texts import check_text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.base import PaymentFact, RefundFact

REFUNDS_PAYABLE = "2150"
_LONGEST = 200


def owe(session: Session, payment: Payment, review: PaymentReview) -> None:
    """Write down that the money of a refused review has to be given back.

    Where the gateway never said how much it was, nothing can be posted: the debt stands here.
    """
    review.return_state = "owed"
    if review.came_micros is None:
        return
    post_gateway_money(
        session,
        payment,
        kind="unapplied_receipt",
        debit=gateway_clearing(payment),
        credit=REFUNDS_PAYABLE,
        amount=_came(review),
        key=f"unapplied:{review.id}",
        actor=GATEWAY_ACTOR,
    )


def refused_money(
    session: Session, payment: Payment, gateway_payment_id: str | None
) -> PaymentReview | None:
    """Return the review that refused this money of the payment.

    Money without a name was refused as what came, so that what is named later is the same.
    """
    if gateway_payment_id is None:
        return None
    return session.scalars(
        select(PaymentReview).where(
            PaymentReview.payment_id == payment.id,
            PaymentReview.return_state.is_not(None),
            or_(
                PaymentReview.gateway_payment_id == gateway_payment_id,
                PaymentReview.gateway_payment_id.is_(None),
            ),
        )
    ).first()


def settle_by_failure(session: Session, payment: Payment, fact: PaymentFact) -> bool:
    """Take back what is owed for money that the gateway now says never came; say whether."""
    review = refused_money(session, payment, fact.gateway_payment_id)
    if review is None or review.return_state != "owed":
        return False
    _settle(session, payment, review, state="never_came", actor=GATEWAY_ACTOR, reference=fact.code)
    return True


def settle_by_refund(session: Session, payment: Payment, fact: RefundFact) -> bool:
    """Take a refund at the gateway for the return of refused money, where it is one; say whether.

    Only a whole return is one: a part of it leaves people to look.
    """
    rows = session.scalars(
        select(PaymentReview)
        .where(PaymentReview.payment_id == payment.id, PaymentReview.return_state.is_not(None))
        .order_by(PaymentReview.id)
    ).all()
    if any(row.return_reference == fact.gateway_refund_id for row in rows):
        return True
    for row in rows:
        is_named = fact.gateway_payment_id is not None and (
            fact.gateway_payment_id == row.gateway_payment_id
        )
        is_same = is_named or (payment.grant_number is None and fact.gateway_payment_id is None)
        if row.return_state != "owed" or not is_same or row.came_micros != fact.amount.micros:
            continue
        if row.came_currency != fact.amount.currency:
            continue
        if fact.state is RefundState.SUCCEEDED:
            name = fact.gateway_refund_id
            _settle(session, payment, row, state="returned", actor=GATEWAY_ACTOR, reference=name)
        return True
    return False


def record_return(session: Session, *, review_id: int, reference: str, actor: Actor) -> None:
    """Write down that refused money was given back by hand; `reference` is the bank's or gateway's.

    Again with the same reference: no effect. Raises InvalidInput, NotFound, and
    Conflict("nothing_to_return") where nothing is owed or it went back otherwise.
    """
    require(actor, "record_return")
    reference = " ".join(reference.split())
    check_text(reference=reference)
    if not 0 < len(reference) <= _LONGEST:
        raise InvalidInput("reference", "too_long" if reference else "empty", maximum=_LONGEST)
    found = session.get(PaymentReview, review_id)
    payment = None if found is None else lock_payment(session, found.payment_id)
    if found is None or payment is None:
        raise NotFound("review")
    require(actor, "record_return", payment.account_id)
    session.refresh(found)
    is_mine = found.returned_by == audit.actor_name(actor) and found.return_reference == reference
    if found.return_state == "returned" and is_mine:
        return
    if found.return_state != "owed":
        raise Conflict("nothing_to_return")
    _settle(session, payment, found, state="returned", actor=actor, reference=reference)
    details = {"payment": payment.id, "review": found.id}
    audit.record(
        session,
        action="record_return",
        actor=actor,
        account_id=payment.account_id,
        details=details,
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
    """Close what is owed: the same legs whether the money went back or never came."""
    review.returned_at = clock.now(session)
    review.return_state = state
    review.returned_by = audit.actor_name(actor)
    review.return_reference = reference
    if review.came_micros is not None:
        post_gateway_money(
            session,
            payment,
            kind="unapplied_returned",
            debit=REFUNDS_PAYABLE,
            credit=gateway_clearing(payment),
            amount=_came(review),
            key=f"unapplied-{state}:{review.id}",
            actor=GATEWAY_ACTOR,
        )
    kind = "money_returned" if state == "returned" else "money_never_came"
    note(session, payment, kind, actor=actor, details={"review": review.id})


def _came(review: PaymentReview) -> Money:
    if review.came_micros is None or review.came_currency is None:
        raise RuntimeError("nobody knows how much came")
    return Money(review.came_micros, review.came_currency)
