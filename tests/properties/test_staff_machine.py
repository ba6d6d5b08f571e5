"""Administrators who change each other, for every history: never none, and never by one alone.

The model below knows the rule and nothing of the product: who administers, what waits, and since
when. Each step goes to both, and both must answer and end alike.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from db.engine import make_engine, make_sessions
from db.models import StaffRoleRequest, User
from domain.accounts import add_member
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import AlreadyDecided, Conflict, NotAuthorised
from domain.staff import (
    approve_role_request,
    change_staff_role,
    disable_user,
    end_due_role_requests,
    object_to_role_request,
    reject_role_request,
    withdraw_role_request,
)
from tests.factories import SYSTEM, make_account
from tests.support.keys import KNOWS_VAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor

_SHARED: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}
PROFILES = {
    "ci": settings(max_examples=100, stateful_step_count=30, derandomize=True, **_SHARED),
    "deep": settings(max_examples=2_000, stateful_step_count=60, **_SHARED),
}
PROFILE = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "ci")]
# A broken product needs no smallest example.
BROKEN = settings(
    max_examples=300,
    stateful_step_count=30,
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    **_SHARED,
)

Machine = TypeVar("Machine", bound="StaffMachine")
SUPPORT, FINANCE, ADMIN = "support", "finance", "admin"
START = (ADMIN, ADMIN, ADMIN, FINANCE, None)
"""Three administrators, one of finance, and a customer who belongs to an account."""

MEMBER = 4
DAY, WEEK = timedelta(hours=24), timedelta(days=7)


# ── The model ──────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Is:
    """What somebody is."""

    role: str | None
    is_out: bool = False


@dataclass
class Asked:
    """A change that was asked for, and what became of it."""

    who: int
    before: Is
    after: Is
    by: int
    at: datetime
    is_for_time: bool
    state: str = "requested"
    ended_by: int | None = None


@dataclass
class Model:
    """Everybody, and everything that was asked for."""

    people: list[Is] = field(default_factory=lambda: [Is(role) for role in START])
    members: set[int] = field(default_factory=lambda: {MEMBER})
    asked: list[Asked] = field(default_factory=list)

    def admins(self) -> set[int]:
        return {n for n, each in enumerate(self.people) if each == Is(ADMIN)}

    def takes_two(self, who: int, after: Is) -> bool:
        before = self.people[who]
        if ADMIN in {before.role, after.role}:
            return True
        is_enabled = before.is_out and not after.is_out
        if after.role == FINANCE and (is_enabled or before.role != FINANCE):
            return True
        return before.is_out == after.is_out and who in self.members and after.role is not None

    def is_stale(self, asked: Asked, now: datetime) -> bool:
        return (
            now >= asked.at + WEEK
            or self.people[asked.who] != asked.before
            or asked.by not in self.admins()
        )

    def drop_stale(self, now: datetime) -> None:
        """End what cannot be carried out after a change of somebody."""
        for each in self.asked:
            if each.state == "requested" and self.is_stale(each, now):
                each.state = "lapsed"

    def change(self, by: int | None, who: int, after: Is, now: datetime) -> str:
        """Change somebody, or ask for it; None is the product itself."""
        if by is not None and (by == who or by not in self.admins()):
            return "denied"
        if self.admins() == {who} and after != Is(ADMIN):
            return "last_admin"
        if self.people[who] == after:
            return "done"
        if by is None or not self.takes_two(who, after):
            self.people[who] = after
            self.drop_stale(now)
            return "done"
        return self.ask(by, who, after, now)

    def ask(self, by: int, who: int, after: Is, now: datetime) -> str:
        for waiting in self.asked:
            if waiting.who == who and waiting.state == "requested":
                if self.is_stale(waiting, now):
                    waiting.state = "lapsed"
                elif waiting.by == by and waiting.after == after:
                    return "waits"
                else:
                    return "role_request_open"
        alone = not self.admins() - {by, who}
        self.asked.append(Asked(who, self.people[who], after, by, now, alone))
        return "waits"

    def decide(self, by: int, asked: Asked, wish: str, now: datetime) -> str:
        """Approve ("applied"), reject or withdraw."""
        is_own = wish == "withdrawn"
        if by not in self.admins() or is_own != (asked.by == by) or (by == asked.who):
            return "denied"
        if asked.state == wish and asked.ended_by == by:
            return wish
        if asked.state != "requested":
            return "late"
        if wish == "applied":
            return self.apply(asked, by, now)
        asked.state, asked.ended_by = wish, by
        return wish

    def object(self, by: int, asked: Asked) -> str:
        """End what would take one's own place as administrator by time alone."""
        if by != asked.who or by not in self.admins():
            return "denied"
        if asked.state not in {"requested", "objected"}:
            return "late"
        if not asked.is_for_time or asked.before != Is(ADMIN):
            return "denied"
        asked.state, asked.ended_by = "objected", by
        return "objected"

    def apply(self, asked: Asked, by: int | None, now: datetime) -> str:
        if self.is_stale(asked, now):
            asked.state = "lapsed"
        else:
            self.people[asked.who] = asked.after
            asked.state, asked.ended_by = "applied", by
            self.drop_stale(now)
        return asked.state

    def clock(self, now: datetime) -> int:
        """Do what is due; return how much that was."""
        due = [
            each
            for each in self.asked
            if each.state == "requested"
            and (now >= each.at + WEEK or (each.is_for_time and now >= each.at + DAY))
        ]
        for each in due:
            if each.state == "requested":  # else one before it ended it
                self.apply(each, None, now)
        return len(due)


# ── Both side by side ──────────────────────────────────────────────────────────────────────────
people = st.integers(0, len(START) - 1)
admins_mostly = st.sampled_from((0, 0, 1, 1, 2, 2, 3, 4))
roles = st.sampled_from((None, SUPPORT, FINANCE, ADMIN, ADMIN))
picks = st.integers(0, 30)


class StaffMachine(RuleBasedStateMachine):
    """Every step goes to the product and to the model."""

    sessions: sessionmaker[Session]

    def __init__(self) -> None:
        super().__init__()
        self.session = self.sessions()
        self.now = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
        self.session.info["clock"] = lambda: self.now
        self.model = Model()
        self.ids: list[int] = []
        self.requests: list[int] = []
        self.seen = set(self.model.admins())

    def teardown(self) -> None:
        self.session.rollback()
        self.session.close()

    @initialize()
    def hire(self) -> None:
        insert = text(
            "INSERT INTO users (email, display_name, password_hash, staff_role)"
            " VALUES (:email, 'Sample Person', 'x', :role) RETURNING id"
        )
        for number, role in enumerate(START):
            asked = {"email": f"machine-{number}@example.com", "role": role}
            self.ids.append(self.session.execute(insert, asked).scalar_one())
        add_member(
            self.session,
            account_id=make_account(self.session),
            user_id=self.ids[MEMBER],
            role=MemberRole.READER,
            actor=SYSTEM,
        )

    def stale_actor(self, number: int) -> Actor:
        """Return a person as an administrator, which they may be no more."""
        return user_actor(self.ids[number], staff_role=StaffRole.ADMIN)

    def do(self, work: Callable[[], str]) -> str:
        savepoint = self.session.begin_nested()
        try:
            answer = work()
        except NotAuthorised:
            answer = "denied"
        except AlreadyDecided:
            answer = "late"
        except Conflict as refusal:
            answer = refusal.reason
        else:
            savepoint.commit()
            return answer
        savepoint.rollback()
        return answer

    # ── Rules ────────────────────────────────────────────────────────────────────────────────
    @rule(by=admins_mostly, who=people, role=roles)
    def change_role(self, by: int, who: int, role: str | None) -> None:
        after = replace(self.model.people[who], role=role)
        self.compare_change(by, who, after, lambda: self.set_role(self.stale_actor(by), who, role))

    @rule(by=admins_mostly, who=people, is_out=st.booleans())
    def disable(self, by: int, who: int, is_out: bool) -> None:  # noqa: FBT001 - Hypothesis calls it
        after = replace(self.model.people[who], is_out=is_out)
        self.compare_change(by, who, after, lambda: self.set_out(self.stale_actor(by), who, is_out))

    @rule(who=people, role=roles)
    def change_by_command_line(self, who: int, role: str | None) -> None:
        after = replace(self.model.people[who], role=role)
        expected = self.model.change(None, who, after, self.now)
        assert self.do(lambda: self.set_role(SYSTEM, who, role)) == expected
        self.seen = self.admins()

    def compare_change(self, by: int, who: int, after: Is, work: Callable[[], str]) -> None:
        known = len(self.model.asked)
        expected = self.model.change(by, who, after, self.now)
        assert self.do(work) == expected
        self.note_request(known)
        assert self.admins() == self.seen, "one person alone made or removed an administrator"

    def note_request(self, known: int) -> None:
        """Remember the request that came, where there are more now than were known."""
        if len(self.model.asked) > known:
            newest = select(StaffRoleRequest.id).order_by(StaffRoleRequest.id.desc()).limit(1)
            self.requests.append(self.session.scalars(newest).one())

    def set_role(self, actor: Actor, who: int, role: str | None) -> str:
        found = change_staff_role(
            self.session,
            user_id=self.ids[who],
            role=StaffRole(role) if role else None,
            reason="moved",
            actor=actor,
        )
        return "done" if found is None else "waits"

    def set_out(self, actor: Actor, who: int, is_out: bool) -> str:  # noqa: FBT001 - as above
        found = disable_user(
            self.session, user_id=self.ids[who], is_disabled=is_out, reason="left", actor=actor
        )
        return "done" if found is None else "waits"

    @precondition(lambda self: self.requests)
    @rule(by=admins_mostly, pick=picks)
    def approve(self, by: int, pick: int) -> None:
        asked = self.decide(by, pick, "applied", approve_role_request)
        if self.admins() != self.seen:
            assert by not in {asked.by, asked.who}, "one person alone"
            self.seen = self.admins()

    @precondition(lambda self: self.requests)
    @rule(by=admins_mostly, pick=picks)
    def reject(self, by: int, pick: int) -> None:
        self.decide(by, pick, "rejected", reject_role_request, reason="no")
        assert self.admins() == self.seen

    @precondition(lambda self: self.requests)
    @rule(by=admins_mostly, pick=picks)
    def withdraw(self, by: int, pick: int) -> None:
        self.decide(by, pick, "withdrawn", withdraw_role_request)
        assert self.admins() == self.seen

    @precondition(lambda self: self.requests)
    @rule(by=st.none() | admins_mostly, pick=picks)
    def object(self, by: int | None, pick: int) -> None:
        """Object as anybody, or (None) as the person concerned."""
        asked, request_id = self.picked(pick)
        person = asked.who if by is None else by
        expected = self.model.object(person, asked)
        actor = self.stale_actor(person)
        found = self.do(
            lambda: str(
                object_to_role_request(self.session, request_id=request_id, actor=actor).state
            )
        )
        assert found == expected
        assert self.admins() == self.seen

    def picked(self, pick: int) -> tuple[Asked, int]:
        place = len(self.requests) - 1 - pick % len(self.requests)  # the newest are the liveliest
        return self.model.asked[place], self.requests[place]

    def decide(
        self, by: int, pick: int, wish: str, service: Callable[..., Any], **given: str
    ) -> Asked:
        asked, request_id = self.picked(pick)
        expected = self.model.decide(by, asked, wish, self.now)
        actor = self.stale_actor(by)

        def work() -> str:
            found = service(self.session, request_id=request_id, actor=actor, **given)
            return str(found.state)

        assert self.do(work) == expected
        return asked

    @rule(hours=st.sampled_from((1, 12, 23, 24, 30, 170)))
    def pass_time(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        asked = [replace(each) for each in self.model.asked]
        expected = self.model.clock(self.now)
        assert end_due_role_requests(self.session, actor=SYSTEM) == expected
        if self.admins() != self.seen:
            ended = [
                now
                for before, now in zip(asked, self.model.asked, strict=True)
                if before.state != now.state and now.state == "applied"
            ]
            assert ended
            assert all(self.now >= each.at + DAY for each in ended), "within 24 hours"
            self.seen = self.admins()

    # ── What always holds ────────────────────────────────────────────────────────────────────
    def standings(self) -> Iterator[Is]:
        rows = {
            row.id: row
            for row in self.session.scalars(
                select(User).where(User.id.in_(self.ids)).execution_options(populate_existing=True)
            )
        }
        for number in self.ids:
            yield Is(rows[number].staff_role, rows[number].disabled_at is not None)

    def admins(self) -> set[int]:
        return {number for number, each in enumerate(self.standings()) if each == Is(ADMIN)}

    @invariant()
    def somebody_administers(self) -> None:
        if self.ids:
            assert self.admins()

    @invariant()
    def nothing_waits_that_cannot_be(self) -> None:
        """Nothing but time may have ended a request that waits."""
        for each in self.model.asked:
            if each.state == "requested":
                assert self.model.people[each.who] == each.before
                assert each.by in self.model.admins()

    @invariant()
    def both_are_alike(self) -> None:
        if not self.ids:
            return
        assert list(self.standings()) == self.model.people
        rows = select(StaffRoleRequest.state).where(StaffRoleRequest.id.in_(self.requests))
        states = self.session.scalars(rows.order_by(StaffRoleRequest.id)).all()
        assert states == [each.state for each in self.model.asked]


@contextmanager
def connected(machine: type[Machine], database_url: str) -> Iterator[type[Machine]]:
    """Give a machine the sessions of a database."""
    engine = make_engine(database_url)
    machine.sessions = make_sessions(engine, KNOWS_VAULT)
    yield machine
    engine.dispose()


@pytest.fixture
def machine(database_url: str) -> Iterator[type[StaffMachine]]:
    with connected(StaffMachine, database_url) as machine:
        yield machine


@pytest.mark.timeout(0 if PROFILE is PROFILES["deep"] else 600)
def test_administrators_are_never_none_and_never_made_by_one_alone(
    machine: type[StaffMachine],
) -> None:
    run_state_machine_as_test(machine, settings=PROFILE)


_NO = lambda *_: False  # noqa: E731 - a check that says no, whatever it is asked
_NOTHING = lambda *_: None  # noqa: E731 - a check that lets everybody pass


@pytest.mark.parametrize(
    "broken",
    [
        {"roles.find_sensitivity": _NOTHING},
        {"roles.removes_last_admin": _NO, "changes.removes_last_admin": _NO},
        {"roles.check_changer": _NOTHING},
        {"role_requests._check_decider": _NOTHING},
        {"role_requests._check_objector": _NOTHING},
        {"role_requests.RoleRequest.is_open_to_objection": True},
        {"role_requests._lapse_reason": _NOTHING},
        {"roles.lapse_unfit_requests": lambda *_, **__: None},
        {"role_requests.check_open": _NOTHING},
        {"role_requests.SOLE_ADMIN_DELAY": timedelta(hours=48)},
        {"role_requests.REQUEST_LIFETIME": timedelta(days=8)},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_machine_finds_a_check_that_is_missing(
    machine: type[StaffMachine], monkeypatch: pytest.MonkeyPatch, broken: dict[str, object]
) -> None:
    for place, instead in broken.items():
        monkeypatch.setattr(f"domain.staff.{place}", instead)
    with pytest.raises((AssertionError, IntegrityError, Conflict)):
        run_state_machine_as_test(machine, settings=BROKEN)
