"""Money that came, was refused, and goes back: owed until the gateway or a person says it went.

It was never credited, so no grant stands for it: between refusal and return it is a payable
(2150) against what the gateway holds for us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from db.models import Payment, PaymentReview, Refund
from domain import audit, clock
from domain.errors import Conflict, InvalidInput, NotFound
from domain.gateways.base import PaymentState, RefundState
from domain.money import Money
from domain.payments.doubts import SECOND_MONEY, open_doubts
from domain.payments.outflows import REFUNDS_PAYABLE
from domain.payments.records import (
    GATEWAY_ACTOR,
    cash_account,
    lock_payment,
    note,
    post_gateway_money,
)
from domain.permissions import require
from domain.texts import check_text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.base import PaymentFact, RefundFact
    from domain.payments.doubts import Doubt

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
        debit=cash_account(payment),
        credit=REFUNDS_PAYABLE,
        amount=_came(review),
        key=f"unapplied:{review.id}",
        actor=GATEWAY_ACTOR,
    )


def review_of(payment: Payment, doubt: Doubt, **decision: str | datetime) -> PaymentReview:
    """Return a new review of what is in doubt; `decision` is what was requested or decided."""
    return PaymentReview(
        account_id=payment.account_id,
        payment_id=payment.id,
        doubt_id=doubt.id,
        doubt=doubt.reason,
        gateway_payment_id=doubt.gateway_payment_id,
        came_micros=None if doubt.amount is None else doubt.amount.micros,
        came_currency=None if doubt.amount is None else doubt.amount.currency,
        **decision,
    )


def refused_money(
    session: Session, payment: Payment, gateway_payment_id: str | None
) -> PaymentReview | None:
    """Return the review that refused this money of the payment.

    Money without a name was refused as what came, so that what is named later is the same. Money
    that was refused again, after the gateway had denied it for a while, is that of the last review.
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


def was_denied_before(review: PaymentReview, fact: PaymentFact) -> bool:
    """Whether refused money, of which the gateway had said that it never came, was paid since."""
    denied_at = review.returned_at if review.return_state == "never_came" else None
    if denied_at is None or fact.occurred_at is None:
        return False
    return fact.state is PaymentState.PAID and fact.occurred_at > denied_at


def settle_by_failure(session: Session, payment: Payment, fact: PaymentFact) -> bool:
    """End what is open about money that the gateway now says never came; say whether anything was.

    Rejected money is owed no longer, and a second payment that waits for a decision needs none.
    """
    name = fact.gateway_payment_id
    if name is None:
        return False
    waiting = _waiting_second_money(session, payment, name)
    if waiting is None:
        review = refused_money(session, payment, name)
    else:
        review = _reject_second_money(session, payment, waiting, reason="never_came")
    if review is None or review.return_state != "owed":
        return False
    _settle(session, payment, review, state="never_came", actor=GATEWAY_ACTOR, reference=fact.code)
    return True


def settle_by_refund(session: Session, payment: Payment, fact: RefundFact) -> bool:
    """Take a refund at the gateway for the return of refused money, where it is one; say whether.

    Only a whole return is one: a part of it leaves people to look. What goes back of a second
    money that nobody has decided about rejects it.
    """
    name = fact.gateway_payment_id
    is_other = None not in {name, payment.gateway_payment_id} and name != payment.gateway_payment_id
    if is_other and fact.state is RefundState.SUCCEEDED:
        _owed_review(session, payment, name, fact.amount)
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


def settle_by_kept_refund(
    session: Session, payment: Payment, gateway_payment_id: str | None
) -> None:
    """Take refunds that no credit stands for as the return of money that was rejected, or will be.

    Together they are all of it, or more: a part leaves people to look. Money that came beside a
    credited one, and has gone back by itself, is nobody's to decide.
    """
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
    if not kept:
        return
    amount = Money(sum(refund.pay_micros for refund in kept), payment.pay_currency)
    review = _owed_review(session, payment, gateway_payment_id, amount)
    if review is not None:
        name = kept[-1].gateway_refund_id
        _settle(session, payment, review, state="returned", actor=GATEWAY_ACTOR, reference=name)


def _owed_review(
    session: Session, payment: Payment, gateway_payment_id: str | None, amount: Money
) -> PaymentReview | None:
    """Return the rejected money of this name that is still owed, where all of it went back.

    More than came may have gone back. A second money that nobody has decided about is rejected
    here.
    """
    review = refused_money(session, payment, gateway_payment_id)
    if review is not None:
        is_owed = review.return_state == "owed"
        is_known = review.came_micros is not None
        return review if is_owed and is_known and _is_all(amount, _came(review)) else None
    doubt = _waiting_second_money(session, payment, gateway_payment_id)
    if doubt is None or doubt.amount is None or not _is_all(amount, doubt.amount):
        return None
    return _reject_second_money(session, payment, doubt, reason="refunded_at_gateway")


def _is_all(gone: Money, came: Money) -> bool:
    return gone.currency == came.currency and gone.micros >= came.micros


def _waiting_second_money(
    session: Session, payment: Payment, gateway_payment_id: str | None
) -> Doubt | None:
    """Return the open case of a second payment with this name, or None."""
    for doubt in open_doubts(session, payment):
        if doubt.reason == SECOND_MONEY and doubt.gateway_payment_id == gateway_payment_id:
            return doubt
    return None


def _reject_second_money(
    session: Session, payment: Payment, doubt: Doubt, *, reason: str
) -> PaymentReview:
    review = review_of(
        payment,
        doubt,
        state="refused",
        decided_by=audit.actor_name(GATEWAY_ACTOR),
        decided_at=clock.now(session),
        decision_reason=reason,
    )
    session.add(review)
    session.flush()
    owe(session, payment, review)
    return review


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
            credit=cash_account(payment),
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
