"""Who works here: roles given and taken away, and the last administrator."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, text

from db.models import User
from domain import audit
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import AlreadyDecided, Conflict, InvalidInput, NotAuthorised, NotFound
from domain.identity import AuthPolicy, Client, create_session
from domain.staff import (
    REVIEWED,
    DutyPair,
    FlagKind,
    approve_role_request,
    change_staff_role,
    disable_user,
    end_due_role_requests,
    end_sessions,
    find_person,
    list_access_flags,
    list_account_roles,
    list_activity,
    list_staff,
)
from domain.staff.access_review import PAIRS
from tests.factories import SYSTEM, make_account
from tests.support.people import join_before
from tests.support.staff_actions import make_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.staff import RoleRequest

__all__ = ["make_person"]

ROOT = Path(__file__).parents[3]
RULES = AuthPolicy(key=b"a key of the tests")


def change(session: Session, who: Actor, role: StaffRole | None, by: Actor) -> RoleRequest | None:
    return change_staff_role(session, user_id=who.user_id or 0, role=role, reason="moved", actor=by)


def role_of(session: Session, who: Actor) -> str | None:
    return session.scalars(select(User.staff_role).where(User.id == who.user_id)).one()


def admins(session: Session) -> int:
    is_admin = (User.staff_role == "admin") & User.disabled_at.is_(None)
    return session.scalars(select(func.count()).where(is_admin)).one()


def test_an_administrator_changes_a_role_with_both_in_the_log(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin, agent = make_person(StaffRole.ADMIN), make_person(StaffRole.FINANCE)
    change(session, agent, StaffRole.SUPPORT, admin)
    change(session, agent, StaffRole.SUPPORT, admin)
    assert role_of(session, agent) == "support"
    details = session.scalars(
        text("SELECT details FROM audit_log WHERE action = 'change_staff_role'")
    ).all()
    assert details == [
        {"user_id": agent.user_id, "from": "finance", "to": "support", "reason": "moved"}
    ]
    (found,) = [each for each in list_staff(session, actor=admin) if each.user_id == agent.user_id]
    assert (found.role, found.given_by) == (StaffRole.SUPPORT, f"user:{admin.user_id}")


def test_nobody_changes_their_own_place(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin = make_person(StaffRole.ADMIN)
    make_person(StaffRole.ADMIN)
    with pytest.raises(NotAuthorised):
        change(session, admin, StaffRole.FINANCE, admin)
    with pytest.raises(NotAuthorised):
        disable(session, admin, admin)


def disable(
    session: Session, who: Actor, by: Actor, *, is_disabled: bool = True
) -> RoleRequest | None:
    return disable_user(
        session, user_id=who.user_id or 0, is_disabled=is_disabled, reason="left", actor=by
    )


@pytest.mark.parametrize("role", [None, StaffRole.SUPPORT])
def test_the_last_administrator_stays(
    session: Session, make_person: Callable[[StaffRole], Actor], role: StaffRole | None
) -> None:
    admin = make_person(StaffRole.ADMIN)
    with pytest.raises(Conflict, match="last_admin"):
        change(session, admin, role, SYSTEM)
    with pytest.raises(Conflict, match="last_admin"):
        disable(session, admin, SYSTEM)
    other = make_person(StaffRole.ADMIN)
    disable(session, other, SYSTEM)
    with pytest.raises(Conflict, match="last_admin"):
        change(session, admin, role, SYSTEM)
    disable(session, other, SYSTEM, is_disabled=False)
    change(session, admin, role, SYSTEM)
    assert admins(session) == 1


@pytest.mark.parametrize("pairs", [1, 4])
def test_of_two_administrators_who_remove_each_other_at_once_one_stays(
    session: Session,
    sessions: sessionmaker[Session],
    make_person: Callable[[StaffRole], Actor],
    pairs: int,
) -> None:
    """Of a pair alone by time, of several each with the approval of one of the next pair."""
    people = [make_person(StaffRole.ADMIN) for _ in range(2 * pairs)]
    session.commit()
    requests: dict[int, int] = {}

    def ask(number: int) -> None:
        victim, by = people[number ^ 1], people[number]
        with sessions.begin() as mine:
            asked = disable(mine, victim, by) if number % 2 else change(mine, victim, None, by)
            assert asked is not None
            requests[number] = asked.request_id

    def decide(number: int) -> None:
        with sessions.begin() as mine, suppress(NotAuthorised, AlreadyDecided):
            if pairs == 1:
                mine.info["clock"] = lambda: datetime.now(UTC) + timedelta(hours=25)
                end_due_role_requests(mine, actor=SYSTEM)
            else:
                approver = people[(number + 2) % len(people)]
                approve_role_request(mine, request_id=requests[number], actor=approver)

    with ThreadPoolExecutor(2 * pairs) as pool:
        list(pool.map(ask, range(2 * pairs)))
        list(pool.map(decide, range(2 * pairs)))
    session.rollback()
    is_admin = (User.staff_role == "admin") & User.disabled_at.is_(None)
    left = set(session.scalars(select(User.id).where(is_admin)))
    for first, second in zip(people[::2], people[1::2], strict=True):
        assert left & {first.user_id, second.user_id}
    if pairs == 1:
        assert len(left) == 1


def test_who_is_changed_is_signed_out(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin, agent = make_person(StaffRole.ADMIN), make_person(StaffRole.SUPPORT)
    session.execute(
        text(
            "INSERT INTO user_sessions (token_digest, user_id, expires_at, address, user_agent)"
            " VALUES ('x', :id, now() + interval '1 day', '', '')"
        ),
        {"id": agent.user_id},
    )
    change(session, agent, None, admin)
    assert session.scalars(text("SELECT revoked_at FROM user_sessions")).one() is not None


def test_who_lost_the_role_while_they_waited_changes_nobody(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    _first, second, third = (make_person(StaffRole.ADMIN) for _ in range(3))
    change(session, second, None, SYSTEM)
    with pytest.raises(NotAuthorised):
        change(session, third, None, second)
    with pytest.raises(NotAuthorised):
        disable(session, third, second)
    with pytest.raises(NotAuthorised):
        end_sessions(session, user_id=third.user_id or 0, reason="left", actor=second)
    assert admins(session) == 2


def test_sessions_are_ended_and_the_person_may_come_back(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin, agent = make_person(StaffRole.ADMIN), make_person(StaffRole.SUPPORT)
    signed_in(session, agent)

    def end() -> int:
        return end_sessions(session, user_id=agent.user_id or 0, reason="lost laptop", actor=admin)

    assert end() == 1
    assert end() == 0
    signed_in(session, agent)
    details = session.scalars(
        text("SELECT details FROM audit_log WHERE action = 'end_sessions' ORDER BY id")
    ).all()
    assert [each["sessions"] for each in details] == [1, 0]


def signed_in(session: Session, person: Actor) -> None:
    client = Client("192.0.2.1")
    create_session(session, user_id=person.user_id or 0, client=client, policy=RULES)


def test_the_last_sign_in_is_known_when_its_session_is_long_forgotten(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin, agent = make_person(StaffRole.ADMIN), make_person(StaffRole.SUPPORT)
    signed_in(session, agent)
    session.execute(text("DELETE FROM user_sessions"))
    seen = {each.user_id: each.signed_in_at for each in list_staff(session, actor=admin)}
    at = text("SELECT recorded_at FROM audit_log WHERE action = 'sign_in'")
    assert seen == {admin.user_id: None, agent.user_id: session.scalars(at).one()}


def test_a_review_names_the_accounts_of_staff_and_who_let_them_in(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin, agent = make_person(StaffRole.ADMIN), make_person(StaffRole.SUPPORT)
    added, invited = make_account(session), make_account(session)
    place = {"user_id": agent.user_id}
    join_before(session, account_id=added, user_id=agent.user_id or 0)
    audit.record(session, action="add_member", actor=SYSTEM, account_id=added, details=place)
    owner = user_actor(500, memberships={invited: MemberRole.OWNER})
    one = {"invitation_id": 7}
    audit.record(session, action="invite_member", actor=owner, account_id=invited, details=one)
    session.execute(
        text("INSERT INTO account_members (account_id, user_id, role) VALUES (:at, :who, 'owner')"),
        {"at": invited, "who": agent.user_id},
    )
    both = {**one, "user_id": agent.user_id}
    audit.record(session, action="accept_invitation", actor=agent, account_id=invited, details=both)
    places = list_account_roles(session, actor=admin)
    assert [(each.user_id, each.account_id, each.role, each.given_by) for each in places] == [
        (agent.user_id, added, MemberRole.READER, "system:tests"),
        (agent.user_id, invited, MemberRole.OWNER, "user:500"),
    ]
    assert all(each.given_at is not None for each in places)


def test_people_are_found_by_their_address(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin, agent = make_person(StaffRole.ADMIN), make_person(StaffRole.SUPPORT)
    email = session.scalars(select(User.email).where(User.id == agent.user_id)).one()
    found = find_person(session, email=f" {email.upper()} ", actor=admin)
    assert (found.user_id, found.role) == (agent.user_id, StaffRole.SUPPORT)
    change(session, agent, None, admin)
    found = find_person(session, email=email, actor=admin)
    assert (found.role, found.given_by) == (None, f"user:{admin.user_id}")
    with pytest.raises(NotFound):
        find_person(session, email="nobody@example.com", actor=admin)
    with pytest.raises(InvalidInput):
        find_person(session, email=" ", actor=admin)
    with pytest.raises(NotFound):
        change(session, user_actor(999), StaffRole.SUPPORT, admin)
    with pytest.raises(InvalidInput, match="reason"):
        change_staff_role(session, user_id=agent.user_id or 0, role=None, reason=" ", actor=admin)


def test_a_review_counts_what_people_did(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin, agent = make_person(StaffRole.ADMIN), make_person(StaffRole.SUPPORT)
    for _ in range(3):
        audit.record(session, action="look_at_account", actor=agent, account_id=1)
    audit.record(session, action="look_at_account", actor=user_actor(12_345), account_id=1)
    found = [
        (each.user_id, each.action, each.times) for each in list_activity(session, actor=admin)
    ]
    assert found == [(agent.user_id, "look_at_account", 3)]


# ── Flags ──────────────────────────────────────────────────────────────────────────────────────
def flags(session: Session, reader: Actor, kind: FlagKind) -> list[tuple[int, str | None]]:
    found = list_access_flags(session, actor=reader)
    return [(each.user_id, each.pair) for each in found if each.kind is kind]


def did(session: Session, who: Actor, *actions: str) -> None:
    for action in actions:
        audit.record(session, action=action, actor=who)


def test_review_flags_staff_who_belong_to_an_account(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin, agent = make_person(StaffRole.ADMIN), make_person(StaffRole.SUPPORT)
    account = make_account(session)
    join_before(session, account_id=account, user_id=agent.user_id or 0)
    (found,) = list_access_flags(session, actor=admin)
    assert (found.kind, found.user_id, found.account_id) == (
        FlagKind.CUSTOMER_MEMBER,
        agent.user_id,
        account,
    )


@pytest.mark.parametrize(
    ("actions", "pair"),
    [
        (("request_rate", "record_transfer"), DutyPair.RATES_AND_TRANSFERS),
        (("approved_rate", "record_transfer"), DutyPair.RATES_AND_TRANSFERS),
        (("request_campaign", "decide_campaign"), DutyPair.CAMPAIGNS),
        (("change_staff_role", "refund_payment"), DutyPair.PEOPLE_AND_MONEY),
        (("apply_role_change", "approved_transfer"), DutyPair.PEOPLE_AND_MONEY),
        (("record_transfer", "approved_transfer"), None),
        (("request_rate", "approved_transfer"), None),
        (("request_campaign", "look_at_account"), None),
    ],
)
def test_review_flags_who_did_both_sides_of_a_pair(
    session: Session,
    make_person: Callable[[StaffRole], Actor],
    actions: tuple[str, str],
    pair: DutyPair | None,
) -> None:
    admin, person = make_person(StaffRole.ADMIN), make_person(StaffRole.FINANCE)
    one, other = make_person(StaffRole.FINANCE), make_person(StaffRole.FINANCE)
    did(session, person, *actions)
    did(session, one, actions[0])
    did(session, other, actions[1])
    expected = [] if pair is None else [(person.user_id, pair)]
    assert flags(session, admin, FlagKind.DID_BOTH) == expected
    # Also of who has no role any more, and not of what is longer ago.
    change(session, person, None, admin)
    assert flags(session, admin, FlagKind.DID_BOTH) == expected
    session.info["clock"] = lambda: datetime.now(UTC) + REVIEWED + timedelta(minutes=1)
    assert flags(session, admin, FlagKind.DID_BOTH) == []


def test_review_flags_who_could_do_both_sides_by_their_role(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin, finance = make_person(StaffRole.ADMIN), make_person(StaffRole.FINANCE)
    make_person(StaffRole.SUPPORT)
    away = make_person(StaffRole.FINANCE)
    disable(session, away, admin)
    assert flags(session, admin, FlagKind.COULD_DO_BOTH) == [
        (finance.user_id, DutyPair.RATES_AND_TRANSFERS),
        (finance.user_id, DutyPair.CAMPAIGNS),
    ]


def test_flags_are_for_who_reviews_access(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    with pytest.raises(NotAuthorised):
        list_access_flags(session, actor=make_person(StaffRole.SUPPORT))


def test_actions_of_the_pairs_are_actions_that_services_record() -> None:
    """So that a renamed action does not silence a flag."""
    files = (ROOT / "domain").rglob("*.py")
    others = "".join(
        path.read_text("utf-8")
        for path in files
        if path.name not in {"access_review.py", "rate_limit.py", "permissions.py"}
    )
    of_states = {"approved_rate", "approved_transfer"}  # made of a state and a suffix
    for sides in PAIRS.values():
        for action in {each for side in sides for each in side.actions}:
            assert f'"{action}"' in others or action in of_states, action
