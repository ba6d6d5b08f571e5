"""What is left of a limit: told before an action and after it, and the same that decides it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from domain.actors import MemberRole, StaffRole, user_actor
from domain.clock import CLOCK
from domain.errors import AlreadyDecided, InvalidInput, NotAuthorised, NotFound
from domain.money import Money
from domain.support import (
    Allowance,
    CompletedAction,
    PendingApproval,
    allowances,
    approve_request,
    get_allowance,
    list_request_allowances,
    reject_request,
)
from tests.factories import SYSTEM, UNIT, make_account
from tests.gateways import dong
from tests.support.campaigns import dollars
from tests.support.refunds import LIMIT as REFUND_LIMIT
from tests.support.refunds import PAID, maker, pay, refund
from tests.support.staff_actions import LIMIT, agent, checker, do, goodwill, make_person

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import TextClause
    from sqlalchemy.orm import Session

    from domain.actors import Actor

__all__ = ["agent", "checker", "make_person", "maker"]

START = datetime(2027, 3, 1, 9, tzinfo=UTC)


def allowance(session: Session, account: int, actor: Actor, action: str = "give_goodwill") -> Any:
    return get_allowance(session, action=action, account_id=account, currency="USD", actor=actor)


def of(limit: int, used: int) -> Allowance:
    return Allowance(dollars(limit), dollars(used), is_by_account=True)


def test_allowance_goes_down_by_what_was_given(session: Session, agent: Actor) -> None:
    account, other = make_account(session), make_account(session)
    assert allowance(session, account, agent) == of(LIMIT, 0)
    done = do(session, account, goodwill(30), agent, "first")
    assert done.allowance == allowance(session, account, agent) == of(LIMIT, 30)
    assert done.allowance.left == dollars(20)
    second = do(session, account, goodwill(15), agent)
    assert second.allowance.left == dollars(5)
    waiting = do(session, account, goodwill(10), agent, "third")
    assert isinstance(waiting, PendingApproval)
    assert waiting.allowance == allowance(session, account, agent) == of(LIMIT, 45)
    assert allowance(session, other, agent) == of(LIMIT, 0)
    assert allowance(session, account, agent, "issue_voucher").used == dollars(0)
    # The same key has the first answer, whatever happened since.
    assert isinstance(do(session, account, goodwill(5), agent), CompletedAction)
    assert do(session, account, goodwill(30), agent, "first") == done
    assert do(session, account, goodwill(10), agent, "third") == waiting


def test_what_two_people_did_is_no_part_of_it(
    session: Session, agent: Actor, checker: Actor
) -> None:
    account = make_account(session)
    waiting = do(session, account, goodwill(LIMIT + 1), agent)
    done = approve_request(session, request_id=waiting.request_id, actor=checker)
    assert done.allowance is None
    assert approve_request(session, request_id=waiting.request_id, actor=checker) == done
    for person in (agent, checker):
        assert allowance(session, account, person).used == dollars(0)


def test_lowered_limit_leaves_nothing(session: Session, agent: Actor) -> None:
    account = make_account(session)
    do(session, account, goodwill(30), agent)
    session.execute(text("UPDATE action_limits SET daily_micros = :micros"), {"micros": 20 * UNIT})
    found = allowance(session, account, agent)
    assert (found, found.left) == (of(20, 30), dollars(0))
    assert isinstance(do(session, account, goodwill(1), agent), PendingApproval)


def test_currency_without_a_limit_leaves_nothing(session: Session, agent: Actor) -> None:
    found = get_allowance(
        session,
        action="give_goodwill",
        account_id=make_account(session),
        currency="KWD",
        actor=agent,
    )
    assert found == Allowance(Money.zero("KWD"), Money.zero("KWD"), is_by_account=True)
    assert not found.covers(Money(1, "KWD"))


def test_allowance_of_refunds_is_over_all_accounts(session: Session, maker: Actor) -> None:
    first, second = pay(session), pay(session)
    done = refund(session, first, maker)
    assert done.allowance == Allowance(REFUND_LIMIT, PAID, is_by_account=False)
    found = get_allowance(
        session,
        action="refund_payment",
        account_id=second.account_id,
        currency="VND",
        actor=maker,
    )
    assert found == done.allowance
    assert found.left == dong(100_000)
    waiting = refund(session, second, maker, dong(100_001))
    assert (waiting.allowance, list_request_allowances(session, actor=maker)) == (
        found,
        {waiting.request_id: found},
    )


def test_only_who_may_act_asks_for_an_allowance(session: Session, agent: Actor) -> None:
    account = make_account(session)
    own = user_actor(
        agent.user_id or 0, staff_role=StaffRole.SUPPORT, memberships={account: MemberRole.READER}
    )
    for actor in (own, SYSTEM, user_actor(1, staff_role=StaffRole.ADMIN)):
        with pytest.raises(NotAuthorised):
            allowance(session, account, actor)
    with pytest.raises(NotAuthorised):
        allowance(session, account, agent, "refund_payment")
    with pytest.raises(NotFound):
        allowance(session, account, user_actor(1))
    with pytest.raises(InvalidInput):
        allowance(session, account, agent, "write_off")
    for actor in (SYSTEM, user_actor(1, memberships={account: MemberRole.OWNER})):
        with pytest.raises(NotAuthorised):
            list_request_allowances(session, actor=actor)


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ("UPDATE users SET staff_role = 'finance' WHERE id = :maker", None),
        ("UPDATE users SET staff_role = NULL WHERE id = :maker", 0),
        ("UPDATE users SET disabled_at = now() WHERE id = :maker", 0),
    ],
)
def test_approver_reads_what_the_maker_may_do_now(
    session: Session, agent: Actor, checker: Actor, change: str, limit: int | None
) -> None:
    account, other = make_account(session), make_account(session)
    do(session, account, goodwill(45), agent)
    one, two = do(session, account, goodwill(10), agent), do(session, other, goodwill(500), agent)
    refused = do(session, other, goodwill(501), agent)
    reject_request(session, request_id=refused.request_id, reason="Too much", actor=checker)
    assert list_request_allowances(session, actor=checker) == {
        one.request_id: of(LIMIT, 45),
        two.request_id: of(LIMIT, 0),
    }
    session.execute(text(change), {"maker": agent.user_id})
    found = list_request_allowances(session, actor=checker)[one.request_id]
    finance = allowance(session, account, checker).limit
    assert (found.limit, found.used) == (
        finance if limit is None else dollars(limit),
        dollars(45),
    )


# ── For every history ─────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Give:
    """Somebody gives an account an amount."""

    who: int
    account: int
    amount: int


@dataclass(frozen=True)
class Decide:
    """Finance decides about the oldest request that waits."""

    is_approved: bool


@dataclass(frozen=True)
class Wait:
    """Hours go by."""

    hours: int


Step = Give | Decide | Wait


@pytest.fixture
def agents(make_person: Callable[[StaffRole], Actor]) -> list[Actor]:
    """Two people of support."""
    return [make_person(StaffRole.SUPPORT) for _ in range(2)]


STEPS = st.lists(
    st.builds(
        Give, st.integers(0, 1), st.integers(0, 1), st.sampled_from([1, 10, 25, LIMIT, LIMIT + 1])
    )
    | st.builds(Decide, st.booleans())
    | st.builds(Wait, st.sampled_from([1, 12, 24, 25, 200])),
    max_size=14,
)


@dataclass
class Model:
    """Knows the rule and nothing of the product: who gave what alone, and when."""

    now: datetime = START
    given: list[tuple[int, int, int, datetime]] = field(default_factory=list)
    waiting: list[tuple[int, datetime]] = field(default_factory=list)

    def used(self, who: int, account: int) -> int:
        return sum(
            amount
            for by, to, amount, at in self.given
            if (by, to) == (who, account) and self.now - at < timedelta(hours=24)
        )


def check_history(
    session: Session, agents: Sequence[Actor], checker: Actor, steps: Sequence[Step]
) -> None:
    """Carry out the steps, and compare what is told before and after each with the model."""
    accounts = [make_account(session), make_account(session)]
    model = Model()
    session.info[CLOCK] = lambda: model.now
    for step in steps:
        if isinstance(step, Wait):
            model.now += timedelta(hours=step.hours)
        elif isinstance(step, Decide):
            decide_oldest(session, model, checker, is_approved=step.is_approved)
        else:
            give(session, model, step, agents[step.who], accounts[step.account])
        for who, person in enumerate(agents):
            for number, account in enumerate(accounts):
                found = allowance(session, account, person)
                assert found == of(LIMIT, model.used(who, number))
                assert found.left + found.used == found.limit


def give(session: Session, model: Model, step: Give, person: Actor, account: int) -> None:
    before = allowance(session, account, person)
    became = do(session, account, goodwill(step.amount), person)
    used = model.used(step.who, step.account)
    if used + step.amount <= LIMIT:
        assert isinstance(became, CompletedAction)
        assert became.allowance == of(LIMIT, used + step.amount)
        model.given.append((step.who, step.account, step.amount, model.now))
    else:
        assert isinstance(became, PendingApproval)
        assert became.allowance == before
        assert list_request_allowances(session, actor=person)[became.request_id] == before
        model.waiting.append((became.request_id, became.expires_at))


def decide_oldest(session: Session, model: Model, checker: Actor, *, is_approved: bool) -> None:
    if not model.waiting:
        return
    number, expires_at = model.waiting.pop(0)

    def decide() -> None:
        if is_approved:
            approve_request(session, request_id=number, actor=checker)
        else:
            reject_request(session, request_id=number, reason="Too much", actor=checker)

    if model.now < expires_at:
        decide()
    else:
        with pytest.raises(AlreadyDecided):
            decide()


@settings(
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_allowance_left_and_what_was_given_are_the_limit_in_every_history(
    session: Session, agents: list[Actor], checker: Actor, steps: list[Step]
) -> None:
    savepoint = session.begin_nested()
    check_history(session, agents, checker, steps)
    savepoint.rollback()


REVEALING: list[Step] = [
    Give(0, 0, 10),
    Give(1, 0, 25),
    Give(0, 1, LIMIT + 1),
    Decide(is_approved=True),
    Wait(12),
    Give(0, 0, 40),
    Wait(12),
    Give(0, 0, 10),
    Give(0, 0, 1),
]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("a.maker = w.maker AND", ""),
        ("a.checker IS NULL AND", ""),
        ("a.acted_at > :since", "a.acted_at >= :since"),
        ("OR a.account_id = w.account_id", "OR true"),
        ("l.role, l.currency) = (w.action, w.role", "l.role, l.currency) = (w.action, 'finance'"),
    ],
)
def test_wrong_sum_is_seen(  # noqa: PLR0917 - fixtures, by name
    session: Session,
    agents: list[Actor],
    checker: Actor,
    monkeypatch: pytest.MonkeyPatch,
    right: str,
    wrong: str,
) -> None:
    check_history(session, agents, checker, REVEALING)
    read: TextClause = allowances._READ
    assert right in read.text
    monkeypatch.setattr(allowances, "_READ", text(read.text.replace(right, wrong)))
    with pytest.raises(AssertionError):
        check_history(session, agents, checker, REVEALING)
