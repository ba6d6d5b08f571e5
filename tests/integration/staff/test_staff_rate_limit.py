"""How many changes of staff one administrator may cause in an hour, and what is never refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import OperationalError

from db.models import AuditRecord, OutboxMessage, User
from domain.actors import StaffRole
from domain.errors import RateLimited
from domain.identity import AuthPolicy, Client
from domain.staff import (
    RequestState,
    RoleRequest,
    accept_staff_invitation,
    approve_role_request,
    change_staff_role,
    disable_user,
    end_sessions,
    invite_staff,
    object_to_role_request,
    reject_role_request,
    reset_second_factors,
    withdraw_role_request,
)
from domain.staff.rate_limit import COUNTED_ACTIONS, MAX_CHANGES, check_rate_limit
from tests.factories import SYSTEM
from tests.support.keys import KNOWS_KEYS, parameters_of
from tests.support.staff_actions import make_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from tests.conftest import TestClock

    Make = Callable[[StaffRole], Actor]

__all__ = ["make_person"]

SUPPORT, FINANCE, ADMIN = StaffRole.SUPPORT, StaffRole.FINANCE, StaffRole.ADMIN
RULES = AuthPolicy(key=b"a key of the tests")


def change(session: Session, who: Actor, role: StaffRole | None, by: Actor) -> RoleRequest | None:
    return change_staff_role(session, user_id=who.user_id or 0, role=role, reason="moved", actor=by)


def ask(session: Session, who: Actor, role: StaffRole | None, by: Actor) -> RoleRequest:
    request = change(session, who, role, by)
    assert request is not None
    return request


def disable(
    session: Session, who: Actor, by: Actor, *, is_disabled: bool = True
) -> RoleRequest | None:
    return disable_user(
        session, user_id=who.user_id or 0, is_disabled=is_disabled, reason="left", actor=by
    )


def reset(session: Session, who: Actor, by: Actor) -> None:
    reset_second_factors(session, user_id=who.user_id or 0, reason="lost", actor=by)


def fill(session: Session, by: Actor, who: Actor, times: int = MAX_CHANGES) -> None:
    """Change somebody back and forth, from Support to no role and back."""
    for number in range(times):
        change(session, who, SUPPORT if number % 2 else None, by)


def exhaust(session: Session, by: Actor, who: Actor) -> None:
    """Change somebody back and forth until it is refused."""
    with suppress(RateLimited):
        fill(session, by, who, MAX_CHANGES + 1)


def counts(session: Session) -> tuple[int, ...]:
    return tuple(
        session.scalars(select(func.count()).select_from(table)).one()
        for table in (AuditRecord, OutboxMessage)
    )


def is_refused(session: Session, act: Callable[[], object]) -> bool:
    """Whether the limit refuses it, with nothing written; it is undone in any case."""
    before, savepoint = counts(session), session.begin_nested()
    refusal = None
    try:
        act()
    except RateLimited as error:
        refusal = error
    if refusal is not None:
        assert 0 < refusal.retry_after_seconds <= 3600
        assert not refusal.is_of_network
        assert counts(session) == before, "refused before anything is written"
    savepoint.rollback()
    return refusal is not None


@pytest.fixture
def admin(make_person: Make) -> Actor:
    make_person(ADMIN)
    return make_person(ADMIN)


@pytest.fixture
def person(make_person: Make) -> Actor:
    return make_person(SUPPORT)


# ── What is counted ────────────────────────────────────────────────────────────────────────────
def test_thirty_changes_pass_and_the_next_is_refused(
    session: Session, admin: Actor, person: Actor
) -> None:
    fill(session, admin, person, MAX_CHANGES - 1)
    assert not is_refused(session, lambda: change(session, person, SUPPORT, admin))
    change(session, person, SUPPORT, admin)
    assert is_refused(session, lambda: change(session, person, FINANCE, admin))


def do_request(session: Session, number: int, by: Actor, make: Make) -> None:
    del number
    request = ask(session, make(SUPPORT), FINANCE, by)
    withdraw_role_request(session, request_id=request.request_id, actor=by)


def do_change(session: Session, number: int, by: Actor, make: Make) -> None:
    del number
    change(session, make(FINANCE), SUPPORT, by)


def do_enable(session: Session, number: int, by: Actor, make: Make) -> None:
    del number
    who = make(SUPPORT)
    disable(session, who, by)
    disable(session, who, by, is_disabled=False)


def do_reset(session: Session, number: int, by: Actor, make: Make) -> None:
    reset(session, make(SUPPORT if number % 2 else FINANCE), by)


COUNTED = {"request": do_request, "change": do_change, "enable": do_enable, "reset": do_reset}


@pytest.mark.parametrize("how", COUNTED)
def test_each_kind_counts_and_all_kinds_together(
    session: Session, admin: Actor, make_person: Make, how: str
) -> None:
    for number in range(MAX_CHANGES - 1):
        COUNTED[how](session, number, admin, make_person)
    for act in COUNTED.values():
        assert not is_refused(session, partial(act, session, 0, admin, make_person))
    COUNTED[how](session, 0, admin, make_person)
    for act in COUNTED.values():
        # The person that `act` makes is made by the system, and is no change of the administrator.
        with pytest.raises(RateLimited), session.begin_nested():
            act(session, 0, admin, make_person)


def test_refusal_writes_nothing_of_any_kind(
    session: Session, admin: Actor, make_person: Make
) -> None:
    person, other, out, boss = (make_person(each) for each in (SUPPORT, SUPPORT, SUPPORT, ADMIN))
    disable(session, out, admin)
    fill(session, admin, other)
    acts: tuple[Callable[[], object], ...] = (
        lambda: change(session, person, FINANCE, admin),
        lambda: change(session, boss, SUPPORT, admin),
        lambda: disable(session, out, admin, is_disabled=False),
        lambda: reset(session, person, admin),
    )
    for act in acts:
        assert is_refused(session, act)


def test_what_takes_away_has_as_much_room_again(
    session: Session, admin: Actor, make_person: Make
) -> None:
    person, other, boss = make_person(SUPPORT), make_person(SUPPORT), make_person(ADMIN)
    acts: tuple[Callable[[], object], ...] = (
        lambda: change(session, person, None, admin),
        lambda: change(session, boss, None, admin),
        lambda: disable(session, boss, admin),
    )
    fill(session, admin, other)
    assert is_refused(session, lambda: change(session, person, FINANCE, admin))
    for act in acts:
        assert not is_refused(session, act)
    # What gives back is refused by now: only what takes away fills the rest.
    for _ in range(MAX_CHANGES - 1):
        change(session, make_person(SUPPORT), None, admin)
    for act in acts:
        assert not is_refused(session, act)
    change(session, make_person(SUPPORT), None, admin)
    for act in acts:
        assert is_refused(session, act)


def test_request_that_lapses_for_another_one_is_left_where_that_is_refused(
    session: Session, admin: Actor, person: Actor, make_person: Make
) -> None:
    other, second = make_person(SUPPORT), make_person(ADMIN)
    ask(session, person, FINANCE, second)
    fill(session, admin, other)
    session.execute(
        text("UPDATE users SET staff_role = NULL WHERE id = :id"), {"id": person.user_id}
    )
    assert is_refused(session, lambda: change(session, person, FINANCE, admin))


def test_pace_is_of_one_hour(
    session: Session, admin: Actor, person: Actor, clock: TestClock
) -> None:
    clock.instant = datetime.now(UTC)  # the log goes by the database's clock
    fill(session, admin, person)
    clock.instant = datetime.now(UTC)
    clock.advance(minutes=59)
    with pytest.raises(RateLimited) as caught, session.begin_nested():
        change(session, person, FINANCE, admin)
    assert caught.value.retry_after_seconds <= 60
    clock.advance(seconds=caught.value.retry_after_seconds)
    change(session, person, FINANCE, admin)


def test_another_administrator_and_the_system_go_on(
    session: Session, admin: Actor, person: Actor, make_person: Make
) -> None:
    other = make_person(ADMIN)
    fill(session, admin, person)
    assert is_refused(session, lambda: change(session, person, FINANCE, admin))
    assert not is_refused(session, lambda: change(session, person, FINANCE, other))
    fill(session, SYSTEM, person, 2 * MAX_CHANGES)
    reset(session, person, SYSTEM)


# ── What is never refused ──────────────────────────────────────────────────────────────────────
def test_what_protects_is_never_refused(session: Session, make_person: Make) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    agent, finance, boss = make_person(SUPPORT), make_person(FINANCE), make_person(SUPPORT)
    own = ask(session, agent, FINANCE, first)
    theirs = [ask(session, each, ADMIN, second) for each in (finance, boss)]
    # Of two administrators, one would be removed by time alone.
    removal = ask(session, first, None, second)
    for admin in (first, second):
        exhaust(session, admin, make_person(SUPPORT))
        assert is_refused(session, partial(reset, session, agent, admin))
    withdrawn = withdraw_role_request(session, request_id=own.request_id, actor=first)
    assert withdrawn.state is RequestState.WITHDRAWN
    rejected = reject_role_request(
        session, request_id=theirs[0].request_id, reason="no", actor=first
    )
    assert rejected.state is RequestState.REJECTED
    objected = object_to_role_request(session, request_id=removal.request_id, actor=first)
    assert objected.state is RequestState.OBJECTED
    end_sessions(session, user_id=agent.user_id or 0, reason="left", actor=first)
    for who in (agent, finance):
        assert disable(session, who, first) is None
        assert session.get_one(User, who.user_id, populate_existing=True).disabled_at is not None
    approved = approve_role_request(session, request_id=theirs[1].request_id, actor=first)
    assert approved.state is RequestState.APPLIED


def test_what_is_repeated_is_answered_as_before(
    session: Session, admin: Actor, make_person: Make
) -> None:
    agent, person = make_person(SUPPORT), make_person(SUPPORT)
    request = ask(session, agent, FINANCE, admin)
    fill(session, admin, person, MAX_CHANGES - 1)
    assert is_refused(session, lambda: change(session, person, FINANCE, admin))
    before = counts(session)
    assert change(session, agent, FINANCE, admin) == request
    assert change(session, agent, SUPPORT, admin) is None
    assert disable(session, agent, admin, is_disabled=False) is None
    assert counts(session) == before


def test_approvals_count_for_who_requested(session: Session, make_person: Make) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    for _ in range(MAX_CHANGES):
        request = ask(session, make_person(SUPPORT), FINANCE, first)
        approve_role_request(session, request_id=request.request_id, actor=second)
    agent = make_person(SUPPORT)
    assert is_refused(session, lambda: change(session, agent, FINANCE, first))
    assert not is_refused(session, lambda: change(session, agent, FINANCE, second))


@pytest.mark.parametrize("role", [SUPPORT, FINANCE])
def test_colleague_who_accepts_is_not_refused_for_what_the_inviter_did(
    sessions: sessionmaker[Session], session: Session, admin: Actor, person: Actor, role: StaffRole
) -> None:
    sessions.configure(info=KNOWS_KEYS)
    email = "lan@example.com"
    invite_staff(session, email=email, role=role, reason="hired", actor=admin, policy=RULES)
    row = session.scalars(
        select(OutboxMessage).where(OutboxMessage.template == "staff_invitation")
    ).one()
    token = str(parameters_of(session, row)["token"])
    fill(session, admin, person, MAX_CHANGES - 1)
    session.commit()
    _signed_in, request = accept_staff_invitation(
        sessions,
        token=token,
        display_name="Lan",
        password="violet-kettle-9-march",
        client=Client("192.0.2.10"),
        policy=RULES,
    )
    assert (request is not None) is (role is FINANCE)
    found = session.scalars(select(User).where(User.email == email)).one()
    assert found.staff_role == (None if role is FINANCE else "support")
    # It counts neither: the inviter has room for one change as before.
    agent = person
    assert not is_refused(session, lambda: change(session, agent, FINANCE, admin))


# ── At the same time, and how it is looked up ──────────────────────────────────────────────────
def test_two_browsers_at_once_make_one_change_where_there_is_room_for_one(
    sessions: sessionmaker[Session], session: Session, admin: Actor, make_person: Make
) -> None:
    fill(session, admin, make_person(SUPPORT), MAX_CHANGES - 1)
    pair, ready = [make_person(SUPPORT), make_person(SUPPORT)], Barrier(2)
    session.commit()

    def one(who: Actor) -> str:
        with sessions() as mine:
            mine.execute(text("SELECT 1"))
            ready.wait()
            try:
                change(mine, who, FINANCE, admin)
            except RateLimited:
                return "refused"
            mine.commit()
            return "done"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(one, pair)) == ["done", "refused"]


def test_count_reads_the_administrators_own_rows_by_an_index(
    session: Session, admin: Actor, make_person: Make
) -> None:
    fill(session, admin, make_person(SUPPORT))
    session.execute(
        text(
            "INSERT INTO audit_log (actor, action, details)"
            " SELECT CASE WHEN n % 2 = 0 THEN 'system:meter' ELSE 'user:' || n % 50 + 1000 END,"
            " 'change_staff_role', '{}' FROM generate_series(1, 20000) n"
        )
    )
    session.commit()
    session.execute(text("SET LOCAL ROLE NONE"))
    session.execute(text("ANALYZE audit_log"))
    asked: list[tuple[str, Any]] = []

    def keep(_c: object, _u: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    engine = session.get_bind()
    event.listen(engine, "before_cursor_execute", keep)
    with pytest.raises(RateLimited):
        check_rate_limit(session, admin)
    event.remove(engine, "before_cursor_execute", keep)
    (counted,) = [each for each in asked if "audit_log" in each[0]]
    plan = session.connection().exec_driver_sql(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {counted[0]}", counted[1]
    )
    (scan,) = scans(json.loads(json.dumps(plan.scalar_one()))[0]["Plan"])
    assert scan["Index Name"] == "ix_audit_log_people_actor"
    assert scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0) <= MAX_CHANGES + 5


def scans(node: dict[str, Any]) -> list[dict[str, Any]]:
    own = [node] if "Relation Name" in node else []
    return own + [each for child in node.get("Plans", ()) for each in scans(child)]


def test_counted_actions_are_actions_that_services_record() -> None:
    """So that a renamed action does not lift the limit."""
    files = (Path(__file__).parents[3] / "domain").rglob("*.py")
    others = "".join(path.read_text("utf-8") for path in files if path.name != "rate_limit.py")
    assert [each for each in COUNTED_ACTIONS if f'"{each}"' not in others] == []


# ── Both ways ──────────────────────────────────────────────────────────────────────────────────
def refused_kinds(session: Session, make: Make) -> set[str]:
    admin, finance = make(ADMIN), make(FINANCE)
    person, other = make(SUPPORT), make(SUPPORT)
    fill(session, admin, other)
    acts: dict[str, Callable[[], object]] = {
        "change": lambda: change(session, finance, SUPPORT, admin),
        "request": lambda: change(session, person, FINANCE, admin),
        "reset": lambda: reset(session, person, admin),
    }
    return {name for name, act in acts.items() if is_refused(session, act)}


@pytest.mark.parametrize(
    ("broken", "refused"),
    [
        ({}, {"change", "request", "reset"}),
        ({"domain.staff.role_requests.check_rate_limit": None}, {"change", "reset"}),
        ({"domain.staff.roles.check_rate_limit": None}, {"request"}),
        ({"domain.staff.rate_limit.MAX_CHANGES": MAX_CHANGES + 1}, set()),
        ({"domain.staff.rate_limit.COUNTED_ACTIONS": ("request_role_change",)}, set()),
    ],
    ids=["whole", "requests", "changes_and_resets", "one_more", "one_action"],
)
def test_without_the_count_changes_would_pass(
    session: Session,
    make_person: Make,
    monkeypatch: pytest.MonkeyPatch,
    broken: dict[str, object],
    refused: set[str],
) -> None:
    for place, instead in broken.items():
        monkeypatch.setattr(place, instead or (lambda *_given, **_named: None))
    assert refused_kinds(session, make_person) == refused


def test_without_the_lock_two_resets_would_pass_where_there_is_room_for_one(
    sessions: sessionmaker[Session],
    session: Session,
    admin: Actor,
    make_person: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reset takes the lock of all changes for the sake of the count alone."""
    fill(session, admin, make_person(SUPPORT), MAX_CHANGES - 1)
    pair = [make_person(SUPPORT), make_person(SUPPORT)]
    session.commit()

    def both() -> list[str]:
        message = []
        first, second = sessions(), sessions()
        for mine, who in ((first, pair[0]), (second, pair[1])):
            mine.execute(text("SET LOCAL lock_timeout = '1s'"))
            try:
                reset(mine, who, admin)
            except RateLimited:
                message.append("refused")
            except OperationalError as error:
                message.append(str(getattr(error.orig, "pgcode", "")))
            else:
                message.append("done")
        for mine in (first, second):
            mine.rollback()
            mine.close()
        return message

    assert both() == ["done", "55P03"], "the second one waits for the first"
    monkeypatch.setattr("domain.staff.roles.lock_admins", lambda _session: ())
    assert both() == ["done", "done"]
