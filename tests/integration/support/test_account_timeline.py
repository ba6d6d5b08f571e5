"""Everything that happened to an account, in the order in which it happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from domain import audit, support
from domain.actors import MemberRole, StaffRole, user_actor
from domain.clock import CLOCK
from domain.errors import NotAuthorised, NotFound
from domain.gateways.interface import DisputeState, DisputeUpdate, RefundState, RefundUpdate
from domain.payments.gateway_updates import apply_updates
from domain.payments.reviews import record_return, reject_payment, reviews_of
from domain.support import (
    GiveGoodwill,
    IssueVoucher,
    RefundPayment,
    approve_request,
    perform_or_request,
)
from domain.support.account_timeline import account_timeline
from tests.factories import UNIT, charge, grant, make_account
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer
from tests.support.campaigns import campaign, customer
from tests.support.staff_actions import agent, checker, make_person

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.gateways.interface import GatewayUpdate
    from domain.support.account_timeline import TimelineItem

__all__ = ["agent", "checker", "make_person"]

ASKED = dong(550_000)


def do(session: Session, account: int, wish: Any, actor: Actor, key: str) -> Any:
    return perform_or_request(
        session,
        account_id=account,
        action=wish,
        reason="Slow answers",
        actor=actor,
        idempotency_key=key,
    )


def timeline(session: Session, actor: Actor, account: int) -> list[TimelineItem]:
    return list(account_timeline(session, actor=actor, account_id=account).items)


def test_everything_is_on_one_line(session: Session, agent: Actor, checker: Actor) -> None:
    account, _ = customer(session)
    grant(session, account, 100)
    charge(session, account, 60, occurred_at=datetime.now(UTC))
    do(session, account, GiveGoodwill(10 * UNIT, 30), agent, "small")
    waiting = do(session, account, GiveGoodwill(500 * UNIT, 30), agent, "large")
    approve_request(session, request_id=waiting.request_id, actor=checker)
    do(session, account, IssueVoucher(campaign(session, is_for_support=True)), agent, "voucher")
    support.add_note(
        session, account_id=account, text="Calls back", actor=agent, idempotency_key="n"
    )
    audit.record(session, action="save_preferences", actor=checker, account_id=account)
    audit.record(session, action="look_at_account", actor=checker, account_id=account)

    items = timeline(session, agent, account)

    found = [(each.kind, each.code, each.amount_micros) for each in items]
    assert sorted(found, key=str) == sorted(
        [
            ("entry", "top_up", 100 * UNIT),
            ("entry", "adjustment", 10 * UNIT),
            ("entry", "adjustment", 500 * UNIT),
            ("usage", "usage", -60 * UNIT),
            ("request", "give_goodwill", None),
            ("act", "issue_voucher", None),
            ("note", "note", None),
            ("change", "save_preferences", None),
        ],
        key=str,
    )
    moments = [each.at for each in items]
    assert moments == sorted(moments, reverse=True)
    (large,) = (each for each in items if each.amount_micros == 500 * UNIT and each.kind == "entry")
    assert (large.actor, large.checker) == (f"user:{agent.user_id}", f"user:{checker.user_id}")
    assert large.details["reason"] == "Slow answers"
    (asked,) = (each for each in items if each.kind == "request")
    assert asked.details["state"] == "approved"
    assert asked.details["amount"] == [500 * UNIT, "USD"]
    (issued,) = (each for each in items if each.kind == "act")
    assert issued.details["amount"] == [50 * UNIT, "USD"]
    assert timeline(session, agent, make_account(session)) == []
    without = account_timeline(session, actor=agent, account_id=account, with_usage=False).items
    assert [each for each in items if each.kind != "usage"] == list(without)


class Told:
    """A payment of 550,000 dong, and what an account's timeline tells of it, the oldest first."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions
        self.gateway = ScriptedGateway()
        with sessions.begin() as session:
            self.account, owner = payer(session)
            begun = begin(session, self.gateway, self.account, owner, ASKED)
        self.payment_id, self.reference = begun.payment_id, begun.reference

    def apply(self, *updates: GatewayUpdate) -> None:
        for update in updates:
            with self.sessions.begin() as session:
                apply_updates(session, gateway=self.gateway, updates=[update], actor=GATEWAYS)

    def refund(self, state: RefundState, at: datetime) -> RefundUpdate:
        return RefundUpdate(
            "refund-1", state, ASKED, payment_reference=self.reference, stated_at=at
        )

    def dispute(self, state: DisputeState, at: datetime) -> DisputeUpdate:
        return DisputeUpdate(
            "dispute-1",
            state,
            ASKED,
            gateway_payment_id=None,
            payment_reference=self.reference,
            stated_at=at,
        )

    def items(self) -> list[tuple[str, str, int | None]]:
        with self.sessions() as session:
            found = timeline(session, user_actor(1, staff_role=StaffRole.SUPPORT), self.account)
        return [
            (each.kind, each.code, each.amount_micros)
            for each in reversed(found)
            if each.code not in {"open_account", "save_billing_profile"}
        ]


CREATED = ("payment", "created", None)
PAID = ("entry", "top_up", ASKED.micros)


def test_requested_amount_is_no_money(sessions: sessionmaker[Session]) -> None:
    message = Told(sessions)
    assert message.items() == [CREATED]
    with sessions() as session:
        viewer = user_actor(1, staff_role=StaffRole.SUPPORT)
        (created,) = (
            each for each in timeline(session, viewer, message.account) if each.kind == "payment"
        )
    assert created.details["amount"] == [ASKED.micros, "VND"]


def test_payment_and_its_refund_are_told_once(sessions: sessionmaker[Session]) -> None:
    message = Told(sessions)
    now = datetime.now(UTC)
    message.apply(
        paid(message.reference, ASKED),
        message.refund(RefundState.PENDING, now),
        message.refund(RefundState.FAILED, now + timedelta(minutes=1)),
        message.refund(RefundState.SUCCEEDED, now + timedelta(minutes=2)),
    )
    assert message.items() == [
        CREATED,
        PAID,
        ("entry", "refund", -ASKED.micros),
        ("entry", "refund_failed", ASKED.micros),
        ("entry", "refund", -ASKED.micros),
    ]


def test_dispute_is_told_once(sessions: sessionmaker[Session]) -> None:
    message = Told(sessions)
    now = datetime.now(UTC)
    message.apply(
        paid(message.reference, ASKED),
        message.dispute(DisputeState.OPEN, now),
        message.dispute(DisputeState.LOST, now + timedelta(minutes=1)),
        message.dispute(DisputeState.WON, now + timedelta(minutes=2)),
    )
    assert message.items() == [
        CREATED,
        PAID,
        ("payment", "dispute_opened", None),
        ("entry", "dispute", -ASKED.micros),
        ("entry", "dispute_won", ASKED.micros),
    ]


def test_decisions_of_finance_are_told_once(
    sessions: sessionmaker[Session], checker: Actor
) -> None:
    message = Told(sessions)
    message.apply(paid(message.reference, dong(330_000), number="money-1"))
    with sessions.begin() as session:
        (case,) = reviews_of(session, payment_id=message.payment_id, actor=checker).waiting
        reject_payment(
            session,
            payment_id=message.payment_id,
            case_id=case.case.id,
            reason="Seen",
            actor=checker,
        )
    with sessions.begin() as session:
        (decided,) = reviews_of(session, payment_id=message.payment_id, actor=checker).decided
        record_return(session, review_id=decided.review_id, reference="FT 1", actor=checker)
    assert message.items() == [
        CREATED,
        ("payment", "wrong_amount", None),
        ("payment", "rejected_by_staff", None),
        ("payment", "money_returned", None),
    ]


def test_refund_of_finance_is_told_once(sessions: sessionmaker[Session], checker: Actor) -> None:
    message = Told(sessions)
    message.apply(paid(message.reference, ASKED))
    wish = RefundPayment(message.payment_id, ASKED.micros, ASKED.currency)
    with sessions.begin() as session:
        do(session, message.account, wish, checker, "refund")
    assert message.items() == [CREATED, PAID, ("entry", "refund", -ASKED.micros)]


def test_pages_give_everything_once(session: Session, agent: Actor) -> None:
    account = make_account(session)
    start = datetime.now(UTC) - timedelta(days=20)
    session.info[CLOCK] = lambda: start  # the same moment for all: only their numbers differ
    for number in range(7):
        grant(session, account, 1 + number)
    for number in range(6):
        charge(session, account, 1, occurred_at=start + timedelta(days=number % 3 - 5))
    for number in range(5):
        support.add_note(
            session, account_id=account, text=f"{number}", actor=agent, idempotency_key=f"{number}"
        )
    seen: list[TimelineItem] = []
    older = None
    while not seen or older is not None:
        page = account_timeline(
            session, actor=agent, account_id=account, older_than=older, page_size=2
        )
        assert len(page.items) <= 2
        seen += page.items
        older = page.older
    assert seen == timeline(session, agent, account)
    assert len({(each.kind, each.number) for each in seen}) == len(seen) == 7 + 3 + 5


def test_staff_alone_see_it(session: Session, agent: Actor) -> None:
    account = make_account(session)
    owner = user_actor(agent.user_id or 0, memberships={account: MemberRole.OWNER})
    with pytest.raises(NotAuthorised):
        account_timeline(session, actor=owner, account_id=account)
    for role in StaffRole:
        assert timeline(session, user_actor(1, staff_role=role), account) == []
    with pytest.raises(NotFound):
        account_timeline(session, actor=agent, account_id=99)
