"""Refunds of payments: within a person's limit of the day alone, above it with somebody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from db.models import Payment, Refund, StaffAct
from domain.actors import MemberRole, StaffRole, user_actor
from domain.clock import CLOCK
from domain.errors import Conflict, NotAuthorised, NotFound, ReversalExceedsOriginal
from domain.ledger.balances import account_summary
from domain.support import (
    CompletedAction,
    PendingApproval,
    RefundPayment,
    approve_request,
    get_maker_roles,
    perform_or_request,
    preview_action,
    reject_request,
)
from domain.support.queries import list_requests
from tests.factories import SYSTEM, UNIT, charge, next_key
from tests.gateways import dong
from tests.support.refunds import PAID, maker, pay, refund
from tests.support.staff_actions import agent, checker, make_person

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

__all__ = ["agent", "checker", "make_person", "maker"]


def balance(session: Session, payment: Payment) -> int:
    found = account_summary(session, actor=SYSTEM, account_id=payment.account_id)
    return found.balance_micros // UNIT


def test_refund_within_the_limit_is_requested_at_once(session: Session, maker: Actor) -> None:
    payment = pay(session)
    done = refund(session, payment, maker, key="one")
    assert isinstance(done, CompletedAction)
    assert refund(session, payment, maker, key="one") == done
    row = session.scalars(select(Refund)).one()
    assert (row.id, row.state, row.pay_micros) == (done.refund_id, "requested", PAID.micros)
    assert session.scalars(select(StaffAct.refund_id)).all() == [row.id]
    assert balance(session, payment) == 0


def test_refund_limit_is_on_the_sum_over_all_accounts(session: Session, maker: Actor) -> None:
    first, second = pay(session), pay(session)
    now = datetime.now(UTC)
    session.info[CLOCK] = lambda: now
    assert isinstance(refund(session, first, maker), CompletedAction)
    waiting = refund(session, second, maker, dong(100_001))
    assert isinstance(waiting, PendingApproval)
    assert balance(session, second) == 500_000
    assert isinstance(refund(session, second, maker, dong(100_000)), CompletedAction)
    session.info[CLOCK] = lambda: now + timedelta(hours=24, minutes=1)
    assert isinstance(refund(session, second, maker, dong(400_000)), CompletedAction)


def test_refund_above_the_limit_is_decided_by_another_person_of_finance(
    session: Session, maker: Actor, checker: Actor, agent: Actor
) -> None:
    refund(session, pay(session), maker)
    payment = pay(session)
    waiting = refund(session, payment, maker)
    assert isinstance(waiting, PendingApproval)
    for actor in (maker, agent, user_actor(7, staff_role=StaffRole.ADMIN)):
        with pytest.raises(NotAuthorised):
            approve_request(session, request_id=waiting.request_id, actor=actor)
    (request,) = list_requests(session, actor=checker, account_id=payment.account_id)
    assert (request.amount, request.payment_reference) == (PAID, payment.reference)
    done = approve_request(session, request_id=waiting.request_id, actor=checker)
    assert approve_request(session, request_id=waiting.request_id, actor=checker) == done
    row = session.get_one(Refund, done.refund_id)
    assert row.requested_by == f"user:{maker.user_id}"
    kept = session.scalars(select(StaffAct).where(StaffAct.refund_id == row.id)).one()
    assert (kept.maker, kept.checker) == (row.requested_by, f"user:{checker.user_id}")
    assert balance(session, payment) == 0


def test_the_very_same_is_not_requested_twice_while_it_waits(
    session: Session, maker: Actor, checker: Actor
) -> None:
    refund(session, pay(session), maker)
    payment = pay(session)
    waiting = refund(session, payment, maker, dong(200_000))
    assert isinstance(waiting, PendingApproval)
    with pytest.raises(Conflict, match="already_requested"):
        refund(session, payment, maker, dong(200_000))
    assert isinstance(refund(session, payment, maker, dong(150_000)), PendingApproval)
    reject_request(session, request_id=waiting.request_id, reason="Not yet", actor=checker)
    assert isinstance(refund(session, payment, maker, dong(200_000)), PendingApproval)


def test_refund_request_is_judged_again_when_it_is_approved(
    session: Session, maker: Actor, checker: Actor
) -> None:
    refund(session, pay(session), maker)
    payment = pay(session)
    waiting = refund(session, payment, maker)
    refund(session, payment, checker, dong(1))
    with pytest.raises(ReversalExceedsOriginal):
        approve_request(session, request_id=waiting.request_id, actor=checker)
    assert balance(session, payment) == 499_999
    session.execute(
        text("UPDATE users SET staff_role = 'support' WHERE id = :id"), {"id": maker.user_id}
    )
    with pytest.raises(Conflict, match="maker_may_not"):
        approve_request(session, request_id=waiting.request_id, actor=checker)
    reject_request(session, request_id=waiting.request_id, reason="Too late", actor=checker)


def test_refund_that_cannot_be_made_is_not_requested(
    session: Session, maker: Actor, agent: Actor
) -> None:
    payment, other = pay(session), pay(session)
    with pytest.raises(ReversalExceedsOriginal):
        refund(session, payment, maker, dong(500_001))
    with pytest.raises(NotAuthorised):
        refund(session, payment, agent)
    insider = user_actor(
        maker.user_id or 0,
        staff_role=StaffRole.FINANCE,
        memberships={payment.account_id: MemberRole.READER},
    )
    with pytest.raises(NotAuthorised):
        refund(session, payment, insider)
    with pytest.raises(NotFound):
        perform_or_request(
            session,
            account_id=other.account_id,
            action=RefundPayment(payment.id, PAID.micros, "VND"),
            reason="Another account",
            actor=maker,
            idempotency_key=next_key(),
        )
    assert list_requests(session, actor=maker) == ()
    assert session.scalars(select(Refund)).all() == []


def test_preview_of_a_refund_shows_what_it_claws_back(session: Session, maker: Actor) -> None:
    payment = pay(session)
    charge(session, payment.account_id, 400_000, occurred_at=datetime.now(UTC))
    wish = RefundPayment(payment.id, dong(300_000).micros, "VND")
    found = preview_action(session, account_id=payment.account_id, action=wish, actor=maker)
    assert found.amount == dong(300_000)
    assert (found.before.balance_micros, found.after.balance_micros) == (
        dong(100_000).micros,
        dong(-200_000).micros,
    )
    assert (found.before.due_micros, found.after.due_micros) == (0, dong(200_000).micros)
    assert session.scalars(select(Refund)).all() == []
    assert balance(session, payment) == 100_000


def test_only_finance_has_a_limit_of_refunds() -> None:
    assert get_maker_roles("refund_payment") == (StaffRole.FINANCE,)
    assert get_maker_roles("give_goodwill") == (StaffRole.SUPPORT, StaffRole.FINANCE)
