"""Changes that take two administrators: who may, when they take effect, and what ends them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier, Event
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from db.models import OutboxMessage, StaffRoleRequest, User
from domain.actors import StaffRole, user_actor
from domain.errors import (
    AlreadyDecided,
    BillingError,
    Conflict,
    InvalidInput,
    NotAuthorised,
    NotFound,
)
from domain.jobs import standard_jobs
from domain.outbox import Mail
from domain.staff import (
    REQUEST_LIFETIME,
    SOLE_ADMIN_DELAY,
    RequestState,
    RoleRequest,
    approve_role_request,
    change_staff_role,
    create_person,
    disable_user,
    end_due_role_requests,
    find_person,
    list_possible_changes,
    list_role_requests,
    object_to_role_request,
    reject_role_request,
    reset_second_factors,
    withdraw_role_request,
)
from domain.staff.notices import TEMPLATE
from domain.staff.person_notice import TEMPLATE as OWN_TEMPLATE
from domain.support.queries import waiting_counts
from portal.runtime import mail
from tests.factories import SYSTEM, make_account
from tests.support.keys import parameters_of
from tests.support.people import join_before
from tests.support.staff_actions import make_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from tests.conftest import TestClock

    Make = Callable[[StaffRole], Actor]

__all__ = ["make_person"]

SUPPORT, FINANCE, ADMIN = StaffRole.SUPPORT, StaffRole.FINANCE, StaffRole.ADMIN
REMARK = "Not agreed"


def change(session: Session, who: Actor, role: StaffRole | None, by: Actor) -> RoleRequest | None:
    return change_staff_role(session, user_id=who.user_id or 0, role=role, reason="moved", actor=by)


def disable(
    session: Session, who: Actor, by: Actor, *, is_disabled: bool = True
) -> RoleRequest | None:
    return disable_user(
        session, user_id=who.user_id or 0, is_disabled=is_disabled, reason="left", actor=by
    )


def ask(session: Session, who: Actor, role: StaffRole | None, by: Actor) -> RoleRequest:
    request = change(session, who, role, by)
    assert request is not None
    assert request.state is RequestState.REQUESTED
    return request


def approve(session: Session, request: RoleRequest, by: Actor) -> RoleRequest:
    return approve_role_request(session, request_id=request.request_id, actor=by)


def reject(session: Session, request: RoleRequest, by: Actor) -> RoleRequest:
    return reject_role_request(session, request_id=request.request_id, reason=REMARK, actor=by)


def withdraw(session: Session, request: RoleRequest, by: Actor) -> RoleRequest:
    return withdraw_role_request(session, request_id=request.request_id, actor=by)


def object_to(session: Session, request: RoleRequest, by: Actor) -> RoleRequest:
    return object_to_role_request(session, request_id=request.request_id, actor=by)


def pass_time(session: Session) -> int:
    return end_due_role_requests(session, actor=SYSTEM)


def standing(session: Session, who: Actor) -> tuple[str | None, bool]:
    row = session.get_one(User, who.user_id, populate_existing=True)
    return row.staff_role, row.disabled_at is not None


def state(session: Session, request: RoleRequest) -> tuple[str, str | None, str | None]:
    row = session.get_one(StaffRoleRequest, request.request_id, populate_existing=True)
    return row.state, row.decided_by, row.remark


def join(session: Session, who: Actor) -> int:
    account = make_account(session)
    join_before(session, account_id=account, user_id=who.user_id or 0)
    return account


def address(session: Session, who: Actor) -> str:
    return session.scalars(select(User.email).where(User.id == who.user_id)).one()


def mails(session: Session) -> list[tuple[str, str]]:
    """Return the step and the recipient of each mail about staff, in their order."""
    rows = session.scalars(
        select(OutboxMessage).where(OutboxMessage.template == TEMPLATE).order_by(OutboxMessage.id)
    )
    return [(parameters_of(session, row)["step"], row.recipient) for row in rows]


# ── Which changes wait ─────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("before", "after", "is_member", "is_waiting"),
    [
        (SUPPORT, ADMIN, False, True),
        (FINANCE, ADMIN, False, True),
        (ADMIN, None, False, True),
        (ADMIN, SUPPORT, False, True),
        (SUPPORT, FINANCE, False, True),
        (FINANCE, SUPPORT, False, False),
        (FINANCE, None, False, False),
        (FINANCE, SUPPORT, True, True),
        (SUPPORT, None, True, False),
    ],
)
def test_change_role_waits_where_it_takes_two(
    session: Session,
    make_person: Make,
    *,
    before: StaffRole,
    after: StaffRole | None,
    is_member: bool,
    is_waiting: bool,
) -> None:
    first, _second, person = make_person(ADMIN), make_person(ADMIN), make_person(before)
    if is_member:
        join(session, person)
    request = change(session, person, after, first)
    assert (request is not None) is is_waiting
    assert standing(session, person)[0] == (before if is_waiting else after)


def test_give_role_to_member_waits_and_to_stranger_does_not(
    session: Session, make_person: Make
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    member, stranger = make_person(SUPPORT), make_person(SUPPORT)
    for each in (member, stranger):
        change(session, each, None, first)
    join(session, member)
    assert change(session, stranger, SUPPORT, first) is None
    request = ask(session, member, SUPPORT, first)
    assert standing(session, member)[0] is None
    approve(session, request, second)
    assert standing(session, member)[0] == "support"


@pytest.mark.parametrize("role", list(StaffRole))
def test_disable_waits_for_administrators_and_enable_for_finance_too(
    session: Session, make_person: Make, role: StaffRole
) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(role)
    for is_disabled in (True, False):
        request = disable(session, person, first, is_disabled=is_disabled)
        assert (request is not None) is (role is ADMIN or (role is FINANCE and not is_disabled))
        if request is not None:
            assert standing(session, person)[1] is not is_disabled
            approve(session, request, second)
        assert standing(session, person)[1] is is_disabled


def test_finance_for_who_is_disabled_waits_too(session: Session, make_person: Make) -> None:
    """Whoever approves that they are enabled would not be told that the role is new."""
    first, _second, person = make_person(ADMIN), make_person(ADMIN), make_person(SUPPORT)
    assert disable(session, person, first) is None
    assert change(session, person, FINANCE, first) is not None
    assert standing(session, person)[0] == "support"


def test_change_by_the_system_is_at_once_and_mailed(session: Session, make_person: Make) -> None:
    first, person = make_person(ADMIN), make_person(SUPPORT)
    assert change(session, person, ADMIN, SYSTEM) is None
    assert standing(session, person)[0] == "admin"
    assert mails(session) == [
        ("applied", address(session, first)),
        ("applied", address(session, person)),
    ]


def test_membership_that_came_meanwhile_makes_a_change_wait(
    session: Session, make_person: Make
) -> None:
    first, _second, person = make_person(ADMIN), make_person(ADMIN), make_person(SUPPORT)
    email = address(session, person)
    change(session, person, None, first)
    seen = find_person(session, email=email, actor=first)
    account = join(session, person)
    request = ask(session, user_actor(seen.user_id), SUPPORT, first)
    # A membership that went again changes nothing about the request.
    session.execute(text("DELETE FROM account_members WHERE account_id = :id"), {"id": account})
    assert state(session, request)[0] == "requested"


@pytest.mark.parametrize("is_alone", [False, True], ids=["several", "alone"])
@pytest.mark.parametrize("is_member", [False, True], ids=["stranger", "member"])
@pytest.mark.parametrize("role", [None, *StaffRole])
def test_possible_changes_wait_as_they_say(
    session: Session, make_person: Make, *, role: StaffRole | None, is_member: bool, is_alone: bool
) -> None:
    first, person = make_person(ADMIN), make_person(SUPPORT)
    change(session, person, role, SYSTEM)
    if not is_alone:
        make_person(ADMIN)
    if is_member:
        join(session, person)
    possible = list_possible_changes(session, user_id=person.user_id or 0, actor=first)
    assert len({each.after for each in possible}) == len(StaffRole) + 1
    for each in possible:
        savepoint = session.begin_nested()
        if each.after.is_disabled:
            made = disable(session, person, first)
        else:
            made = change(session, person, each.after.role, first)
        assert (made is not None) is (each.sensitivity is not None)
        if made is not None:
            assert (made.effective_at is None) is each.has_decider
        savepoint.rollback()
        session.expire_all()


def test_possible_changes_are_for_administrators(session: Session, make_person: Make) -> None:
    person = make_person(SUPPORT)
    with pytest.raises(NotAuthorised):
        list_possible_changes(session, user_id=person.user_id or 0, actor=make_person(FINANCE))
    with pytest.raises(NotFound):
        list_possible_changes(session, user_id=999_999, actor=make_person(ADMIN))


# ── Two administrators ─────────────────────────────────────────────────────────────────────────
def test_request_is_carried_out_by_the_approval_of_another(
    session: Session, make_person: Make
) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    session.execute(
        text(
            "INSERT INTO user_sessions (token_digest, user_id, expires_at, address, user_agent)"
            " VALUES ('x', :id, now() + interval '1 day', '', '')"
        ),
        {"id": person.user_id},
    )
    request = ask(session, person, ADMIN, first)
    assert request.effective_at is None
    assert request.expires_at - request.requested_at == REQUEST_LIFETIME
    done = approve(session, request, second)
    assert (done.state, done.decided_by) == (RequestState.APPLIED, f"user:{second.user_id}")
    assert standing(session, person) == ("admin", False)
    assert session.scalars(text("SELECT revoked_at FROM user_sessions")).one() is not None
    found = find_person(session, email=address(session, person), actor=first)
    assert (found.given_by, found.approved_by) == (
        f"user:{first.user_id}",
        f"user:{second.user_id}",
    )
    rows = session.execute(
        text("SELECT action, actor FROM audit_log WHERE action LIKE '%role%' ORDER BY id")
    ).all()
    assert [tuple(row) for row in rows] == [
        ("request_role_change", f"user:{first.user_id}"),
        ("change_staff_role", f"user:{second.user_id}"),
        ("apply_role_change", f"user:{second.user_id}"),
    ]


def test_decision_is_for_another_administrator_alone(session: Session, make_person: Make) -> None:
    first, second, third = (make_person(ADMIN) for _ in range(3))
    finance, agent = make_person(FINANCE), make_person(SUPPORT)
    request = ask(session, second, None, first)
    for nobody in (first, second, finance, agent, user_actor(999), SYSTEM):
        for decide in (approve, reject):
            with pytest.raises(NotAuthorised):
                decide(session, request, nobody)
    for nobody in (second, third, finance, SYSTEM):
        with pytest.raises(NotAuthorised):
            withdraw(session, request, nobody)
    assert state(session, request)[0] == "requested"
    approve(session, request, third)
    assert standing(session, second)[0] is None


def test_decision_by_who_lost_the_role_is_refused(session: Session, make_person: Make) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    make_person(ADMIN)
    request = ask(session, person, ADMIN, first)
    change(session, second, FINANCE, SYSTEM)
    for decide in (approve, reject):  # the page of the second one is still open
        with pytest.raises(NotAuthorised):
            decide(session, request, second)


def test_reject_needs_a_reason_and_changes_nothing(session: Session, make_person: Make) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, first)
    with pytest.raises(InvalidInput, match="reason"):
        reject_role_request(session, request_id=request.request_id, reason=" ", actor=second)
    for _ in range(2):
        done = reject(session, request, second)
        assert (done.state, done.remark) == (RequestState.REJECTED, REMARK)
    assert standing(session, person)[0] == "finance"
    assert [step for step, _who in mails(session)] == ["requested"] * 2 + ["rejected"] * 2


def test_decision_after_another_says_what_happened(session: Session, make_person: Make) -> None:
    first, second, third = (make_person(ADMIN) for _ in range(3))
    done: dict[str, Callable[[Session, RoleRequest, Actor], RoleRequest]] = {
        "applied": approve,
        "rejected": reject,
        "withdrawn": withdraw,
    }
    for name, decide in done.items():
        request = ask(session, make_person(FINANCE), ADMIN, first)
        by = first if decide is withdraw else second
        ended = decide(session, request, by)
        assert decide(session, request, by) == ended, "the same again changes nothing"
        for late, who in ((approve, third), (reject, third), (withdraw, first)):
            if late is decide and who is by:
                continue
            with pytest.raises(AlreadyDecided) as caught:
                late(session, request, who)
            assert (caught.value.state, caught.value.decided_by) == (name, f"user:{by.user_id}")


def test_request_again_is_the_same_and_another_one_is_refused(
    session: Session, make_person: Make
) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, first)
    assert ask(session, person, ADMIN, first) == request
    for by, role in ((first, None), (second, ADMIN)):
        if role is None:
            join(session, person)
            role = SUPPORT  # noqa: PLW2901 - another change that takes two
        with pytest.raises(Conflict, match="role_request_open"):
            change(session, person, role, by)
    assert [step for step, _who in mails(session)] == ["requested"] * 2
    withdraw(session, request, first)
    assert ask(session, person, ADMIN, second).request_id != request.request_id


def test_waiting_requests_are_counted_for_who_may_decide(
    session: Session, make_person: Make
) -> None:
    first, second, third = (make_person(ADMIN) for _ in range(3))
    finance = make_person(FINANCE)
    request = ask(session, second, None, first)

    def counted() -> list[int]:
        people = (first, second, third, finance)
        return [waiting_counts(session, actor=each).roles for each in people]

    assert counted() == [0, 0, 1, 0]
    reject(session, request, third)
    assert counted() == [0, 0, 0, 0]
    assert [each.request_id for each in list_role_requests(session, actor=finance)] == [
        request.request_id
    ]


# ── Nobody else who may decide: 24 hours ───────────────────────────────────────────────────────
def test_sole_administrator_waits_24_hours(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    admin, person = make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, admin)
    assert request.effective_at == request.requested_at + SOLE_ADMIN_DELAY
    with pytest.raises(NotAuthorised):
        approve(session, request, admin)
    clock.advance(hours=23, minutes=59)
    assert pass_time(session) == 0
    assert standing(session, person)[0] == "finance"
    clock.advance(minutes=1)
    assert pass_time(session) == 1
    assert pass_time(session) == 0
    assert standing(session, person)[0] == "admin"
    assert state(session, request) == ("applied", "system:tests", None)
    found = find_person(session, email=address(session, person), actor=admin)
    assert (found.given_by, found.approved_by) == (f"user:{admin.user_id}", "system:tests")


def test_one_of_two_administrators_is_removed_after_24_hours(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    """Else nobody could ever decide about the second one, who left."""
    first, second = make_person(ADMIN), make_person(ADMIN)
    request = disable(session, second, first)
    assert request is not None
    assert request.effective_at is not None
    assert address(session, second) in {who for _step, who in mails(session)}
    with pytest.raises(NotAuthorised):
        reject(session, request, second)
    clock.advance(hours=24)
    pass_time(session)
    assert standing(session, second) == ("admin", True)


@pytest.mark.parametrize("what", ["remove", "lower", "disable"])
def test_objection_by_person_concerned_ends_request_and_is_mailed(
    session: Session, make_person: Make, clock: TestClock, what: str
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)

    def requested() -> RoleRequest:
        if what != "disable":
            return ask(session, second, None if what == "remove" else SUPPORT, first)
        found = disable(session, second, first)
        assert found is not None
        return found

    request = requested()
    assert request.is_open_to_objection
    clock.advance(hours=23)
    for _ in range(2):  # again, it changes nothing
        done = object_to(session, request, second)
        assert (done.state, done.decided_by) == (RequestState.OBJECTED, f"user:{second.user_id}")
        assert not done.is_open_to_objection
    clock.advance(hours=30)
    assert pass_time(session) == 0
    assert standing(session, second) == ("admin", False)
    everybody = [address(session, each) for each in (first, second)]
    steps = ("requested", "objected")
    assert mails(session) == [(step, who) for step in steps for who in everybody]
    actions = session.scalars(
        text("SELECT action FROM audit_log WHERE action LIKE '%role_change' ORDER BY id")
    ).all()
    assert actions == ["request_role_change", "object_to_role_change"]
    # The next day the same is requested again, and objected to again.
    again = requested()
    assert again.request_id != request.request_id
    assert object_to(session, again, second).state is RequestState.OBJECTED


def test_objection_is_for_person_concerned_alone(session: Session, make_person: Make) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    finance, agent = make_person(FINANCE), make_person(SUPPORT)
    request = ask(session, second, None, first)
    for nobody in (first, finance, agent, user_actor(999), SYSTEM):
        with pytest.raises(NotAuthorised):
            object_to(session, request, nobody)
    third = make_person(ADMIN)
    with pytest.raises(NotAuthorised):
        object_to(session, request, third)
    assert state(session, request)[0] == "requested"


def test_objection_stops_no_second_administrator(session: Session, make_person: Make) -> None:
    """Else whoever has the session of one could keep two others from removing them."""
    first, second, third = (make_person(ADMIN) for _ in range(3))
    request = ask(session, second, None, first)
    assert not request.is_open_to_objection
    with pytest.raises(NotAuthorised):
        object_to(session, request, second)
    approve(session, request, third)
    assert standing(session, second)[0] is None


def test_objection_is_to_what_takes_away_alone(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    admin, other, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    disable(session, other, SYSTEM)
    given = ask(session, person, ADMIN, admin)
    enabled = disable(session, other, admin, is_disabled=False)
    assert enabled is not None
    for request, who in ((given, person), (enabled, other)):
        assert request.effective_at is not None
        assert not request.is_open_to_objection
        with pytest.raises(NotAuthorised):
            object_to(session, request, who)
    clock.advance(hours=24)
    assert pass_time(session) == 2
    assert standing(session, person) == standing(session, other) == ("admin", False)


def test_objection_by_who_administers_no_more_is_refused(
    session: Session, make_person: Make
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    request = ask(session, second, None, first)
    disable(session, second, SYSTEM)
    with pytest.raises(NotAuthorised):
        object_to(session, request, second)


def test_objection_after_the_end_says_what_happened(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    request = ask(session, second, None, first)
    withdraw(session, request, first)
    with pytest.raises(AlreadyDecided) as caught:
        object_to(session, request, second)
    assert caught.value.state == "withdrawn"
    request = ask(session, second, None, first)
    object_to(session, request, second)
    third = make_person(ADMIN)
    for late, who in ((withdraw, first), (approve, third), (reject, third)):
        with pytest.raises(AlreadyDecided) as caught:
            late(session, request, who)
        assert caught.value.state == "objected"
    clock.advance(days=8)
    assert pass_time(session) == 0


def test_withdrawn_request_does_not_take_effect(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    admin, person = make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, admin)
    withdraw(session, request, admin)
    clock.advance(hours=30)
    assert pass_time(session) == 0
    assert standing(session, person)[0] == "finance"


@pytest.mark.parametrize("decide", [approve, reject])
def test_administrator_who_came_meanwhile_decides(
    session: Session,
    make_person: Make,
    clock: TestClock,
    decide: Callable[[Session, RoleRequest, Actor], RoleRequest],
) -> None:
    admin, person = make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, admin)
    clock.advance(hours=1)
    decide(session, request, make_person(ADMIN))
    assert standing(session, person)[0] == ("admin" if decide is approve else "finance")
    clock.advance(hours=30)
    assert pass_time(session) == 0


# ── What does not fit any more ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("is_by_time", [False, True], ids=["approval", "time"])
@pytest.mark.parametrize("what", ["role", "disabled"])
def test_request_of_who_administers_no_more_ends(
    session: Session,
    make_person: Make,
    clock: TestClock,
    *,
    is_by_time: bool,
    what: str,
) -> None:
    first, person = make_person(ADMIN), make_person(FINANCE)
    second = None if is_by_time else make_person(ADMIN)
    request = ask(session, person, ADMIN, first)
    third = make_person(ADMIN)
    if what == "role":
        change(session, first, FINANCE, SYSTEM)
    else:
        disable(session, first, SYSTEM)
    if second is None:
        clock.advance(hours=24)
        assert pass_time(session) == 0
    else:
        with pytest.raises(AlreadyDecided) as caught:
            approve(session, request, second)
        assert caught.value.state == "lapsed"
    assert state(session, request)[::2] == ("lapsed", "requester_not_admin")
    assert standing(session, person)[0] == "finance"
    last = [(step, who) for step, who in mails(session) if step == "lapsed"]
    assert ("lapsed", address(session, third)) in last


@pytest.mark.parametrize("is_by_time", [False, True], ids=["approval", "time"])
def test_request_about_who_was_changed_meanwhile_ends(
    session: Session,
    make_person: Make,
    clock: TestClock,
    *,
    is_by_time: bool,
) -> None:
    first, person = make_person(ADMIN), make_person(FINANCE)
    second = None if is_by_time else make_person(ADMIN)
    request = ask(session, person, ADMIN, first)
    # What takes one person alone is possible meanwhile: above all to disable.
    assert disable(session, person, first) is None
    if second is None:
        clock.advance(hours=24)
        assert pass_time(session) == 0
    else:
        with pytest.raises(AlreadyDecided) as caught:
            approve(session, request, second)
        assert caught.value.state == "lapsed"
    assert state(session, request)[::2] == ("lapsed", "changed_meanwhile")
    assert standing(session, person) == ("finance", True)


def test_change_ends_at_once_what_cannot_be_carried_out_any_more(
    session: Session, make_person: Make
) -> None:
    """Of the person and by the person alone; with a mail, and by whom in the audit log."""
    first, second, third = (make_person(ADMIN) for _ in range(3))
    one, other = make_person(FINANCE), make_person(FINANCE)
    about = ask(session, one, ADMIN, first)
    asked_by = ask(session, other, ADMIN, second)
    removal = ask(session, second, FINANCE, first)
    stays = disable(session, third, first)
    assert stays is not None
    change(session, one, SUPPORT, third)
    assert state(session, about) == ("lapsed", f"user:{third.user_id}", "changed_meanwhile")
    assert [state(session, each)[0] for each in (asked_by, removal, stays)] == ["requested"] * 3
    approve(session, removal, third)
    assert state(session, asked_by) == ("lapsed", f"user:{third.user_id}", "requester_not_admin")
    assert state(session, stays)[0] == "requested"
    waiting = [
        each.request_id
        for each in list_role_requests(session, actor=first)
        if each.state is RequestState.REQUESTED
    ]
    assert waiting == [stays.request_id]
    assert [step for step, _who in mails(session)].count("lapsed") == 3 + 2
    rows = session.scalars(
        text("SELECT details ->> 'remark' FROM audit_log WHERE action = 'lapse_role_change'")
    ).all()
    assert rows == ["changed_meanwhile", "requester_not_admin"]


def test_change_that_changes_nothing_ends_no_request(session: Session, make_person: Make) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, first)
    assert change(session, person, FINANCE, second) is None
    assert disable(session, person, second, is_disabled=False) is None
    assert state(session, request)[0] == "requested"


def test_request_that_does_not_fit_gives_way_to_another(
    session: Session, make_person: Make
) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, first)
    change(session, person, SUPPORT, first)
    again = ask(session, person, ADMIN, second)
    assert state(session, request)[::2] == ("lapsed", "changed_meanwhile")
    approve(session, again, first)


def test_request_that_nobody_decided_ends_after_seven_days(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, first)
    clock.advance(days=6, hours=23)
    assert pass_time(session) == 0
    clock.advance(hours=1)
    assert approve(session, request, second).state is RequestState.LAPSED
    assert state(session, request)[::2] == ("lapsed", "not_decided")
    later = ask(session, person, ADMIN, first)
    clock.advance(days=8)
    assert ask(session, person, ADMIN, first).request_id != later.request_id
    clock.advance(days=8)
    assert pass_time(session) == 1
    assert standing(session, person)[0] == "finance"


def test_change_whose_time_came_while_no_job_ran_expires(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    admin, person = make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, admin)
    clock.advance(days=8)
    pass_time(session)
    assert state(session, request)[::2] == ("lapsed", "not_decided")
    assert standing(session, person)[0] == "finance"


def test_job_of_the_clock_carries_out_what_waited(
    session: Session, sessions: sessionmaker[Session], make_person: Make
) -> None:
    admin, person = make_person(ADMIN), make_person(FINANCE)
    session.info["clock"] = lambda: datetime.now(UTC) - timedelta(hours=25)
    ask(session, person, ADMIN, admin)
    session.commit()
    jobs = standard_jobs(sessions, actor=SYSTEM, deliver_mail=None)
    (job,) = [each for each in jobs if each.name == "end_role_requests"]
    assert [job.run(Event()) for _ in range(2)] == ["1 ended", "0 ended"]
    assert standing(session, person)[0] == "admin"


# ── At once ────────────────────────────────────────────────────────────────────────────────────
def at_once(*works: Callable[[], Any]) -> list[str]:
    """Do things side by side; return what came of each."""
    start = Barrier(len(works))

    def run(work: Callable[[], Any]) -> str:
        start.wait()
        try:
            work()
        except BillingError as error:
            return getattr(error, "reason", error.code)
        return "done"

    with ThreadPoolExecutor(len(works)) as pool:
        return sorted(pool.map(run, works))


def test_two_requests_at_once_leave_one(
    session: Session, sessions: sessionmaker[Session], make_person: Make
) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    session.commit()

    def requesting(by: Actor) -> Callable[[], None]:
        def work() -> None:
            with sessions.begin() as mine:
                ask(mine, person, ADMIN, by)

        return work

    assert at_once(requesting(first), requesting(second)) == ["done", "role_request_open"]
    # Whose it is asks again, twice; to the other one it stays another's.
    assert len(set(at_once(requesting(first), requesting(first)))) == 1
    assert len(list_role_requests(session, actor=first)) == 1


def test_approval_and_withdrawal_at_once_leave_one(
    session: Session, sessions: sessionmaker[Session], make_person: Make
) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, first)
    session.commit()

    def deciding(decide: Callable[..., RoleRequest], by: Actor) -> Callable[[], None]:
        def work() -> None:
            with sessions.begin() as mine:
                decide(mine, request, by)

        return work

    found = at_once(deciding(approve, second), deciding(withdraw, first))
    assert found == ["already_decided", "done"]
    is_applied = state(session, request)[0] == "applied"
    assert standing(session, person)[0] == ("admin" if is_applied else "finance")


def test_objection_and_the_clock_at_once_leave_one(
    session: Session, sessions: sessionmaker[Session], make_person: Make
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    session.info["clock"] = lambda: datetime.now(UTC) - timedelta(hours=25)
    request = ask(session, second, None, first)
    session.commit()

    def objecting() -> None:
        with sessions.begin() as mine:
            object_to(mine, request, second)

    def passing() -> None:
        with sessions.begin() as mine:
            pass_time(mine)

    found = at_once(objecting, passing)
    ended = state(session, request)[0]
    assert (ended, standing(session, second)[0]) in {("objected", "admin"), ("applied", None)}
    assert found == ["done", "done"] if ended == "objected" else found[1] == "not_authorised"


# ── Mails ──────────────────────────────────────────────────────────────────────────────────────
def test_mails_go_to_all_administrators(session: Session, make_person: Make) -> None:
    first, second, third = (make_person(ADMIN) for _ in range(3))
    make_person(FINANCE)
    request = ask(session, third, None, first)
    approve(session, request, second)
    everybody = [address(session, each) for each in (first, second, third)]
    assert mails(session) == [("requested", who) for who in everybody] + [
        ("applied", who) for who in everybody[:2]
    ]
    assert [row.recipient for row, _letter in own_letters(session)] == everybody[2:]


def own_letters(session: Session) -> list[tuple[OutboxMessage, mail.Letter]]:
    """Return the mails to people who were changed, and what they say."""
    rows = session.scalars(
        select(OutboxMessage)
        .where(OutboxMessage.template == OWN_TEMPLATE)
        .order_by(OutboxMessage.id)
    )
    return [(row, letter_of(session, row)) for row in rows]


def test_who_may_object_reads_that_it_is_about_them(session: Session, make_person: Make) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    ask(session, second, SUPPORT, first)
    rows = session.scalars(select(OutboxMessage).where(OutboxMessage.template == TEMPLATE))
    shown = {row.recipient: letter_of(session, row) for row in rows}
    own, others = shown[address(session, second)], shown[address(session, first)]
    assert own.subject == "Staff: a change of your role or access takes effect in 24 hours"
    assert "unless you object on the Staff page" in own.text
    assert f"Requested by: {address(session, first)}" in own.text
    assert "contact the other administrators" in own.text
    assert others.subject == "Staff: a change takes effect in 24 hours"
    assert (
        f"{address(session, second)} objects or you withdraw the request on the Staff page"
        in others.text
    )


def test_sole_administrator_reads_of_no_approval_and_what_is_the_next_day(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    admin, agent, other = make_person(ADMIN), make_person(SUPPORT), make_person(SUPPORT)
    ask(session, agent, FINANCE, admin)
    withdraw(session, ask(session, other, FINANCE, admin), admin)
    clock.advance(hours=24)
    pass_time(session)
    rows = session.scalars(
        select(OutboxMessage).where(OutboxMessage.template == TEMPLATE).order_by(OutboxMessage.id)
    ).all()
    assert {row.recipient for row in rows} == {address(session, admin)}
    requested, _again, withdrawn, applied = (letter_of(session, row) for row in rows)
    assert requested.subject == "Staff: a change takes effect in 24 hours"
    assert "unless you withdraw the request on the Staff page." in requested.text
    assert "Withdrawn by you. Nothing was changed." in withdrawn.text
    assert applied.subject == "Staff: a change took effect"
    assert f"{address(session, agent)} is Finance now (before: Support)." in applied.text
    assert "The change took effect 24 hours after the request." in applied.text
    for letter in (requested, withdrawn, applied):
        assert "Requested by: you" in letter.text
        assert "administrators" not in letter.text, "there is no other administrator"
        assert "approv" not in letter.text.lower()
        assert "If this was not you, change your password now" in letter.text


def letter_of(session: Session, row: OutboxMessage) -> mail.Letter:
    waiting = Mail(
        row.id, row.recipient, row.template, parameters_of(session, row), "en", row.created_at, 0
    )
    return mail.render(waiting, base_url="https://pay.example")


def test_who_is_changed_reads_what_when_and_whom_to_ask_and_not_why(
    session: Session, make_person: Make
) -> None:
    first, person = make_person(ADMIN), make_person(FINANCE)
    session.get_one(User, person.user_id).locale = "vi"
    who = address(session, first)
    for _ in range(2):  # the same again is no change, and no mail
        change(session, person, SUPPORT, first)
    disable(session, person, first)
    disable(session, person, first, is_disabled=False)
    change(session, person, None, first)
    disable(session, person, first)  # a customer by now, who asks support
    disable(session, person, first, is_disabled=False)
    change(session, person, SUPPORT, SYSTEM)
    found = own_letters(session)
    assert {(row.recipient, row.locale) for row, _letter in found} == {
        (address(session, person), "vi")
    }
    shown = [letter.text for _row, letter in found]
    assert [letter.subject for _row, letter in found] == [
        "Your role was changed",
        "Your sign-in was disabled",
        "Your sign-in was enabled again",
        "Your role was changed",
        "Your sign-in was disabled",
        "Your sign-in was enabled again",
        "You are now staff: role Support",
    ]
    assert "your role in the billing portal was changed from Finance to Support on " in shown[0]
    assert "cannot sign in" in shown[1]
    assert "your role Support in the billing portal was removed on " in shown[3]
    assert "your role in the billing portal has been Support since " in shown[6]
    assert all(f"ask {who}." in each for each in shown[:4])
    assert all("contact support." in each for each in shown[4:6])
    assert "ask an administrator." in shown[6]
    assert all(" UTC" in each for each in shown)
    assert not [each for each in shown if " moved" in each or " left" in each]


@pytest.mark.parametrize("is_by_time", [False, True], ids=["approval", "time"])
def test_who_is_changed_by_request_is_told_when_it_takes_effect_and_not_before(
    session: Session, make_person: Make, clock: TestClock, *, is_by_time: bool
) -> None:
    first, person = make_person(ADMIN), make_person(FINANCE)
    second = None if is_by_time else make_person(ADMIN)
    withdraw(session, ask(session, person, ADMIN, first), first)
    request = ask(session, person, ADMIN, first)
    assert own_letters(session) == []
    if second is None:
        clock.advance(hours=24)
        pass_time(session)
    else:
        approve(session, request, second)
    ((_row, letter),) = own_letters(session)
    assert "from Finance to Administrator on " in letter.text
    assert f"ask {address(session, first)}." in letter.text


def test_mail_says_who_what_by_whom_and_why_and_no_display_name(
    session: Session, make_person: Make
) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    session.execute(
        text("UPDATE users SET display_name = 'Your bank' WHERE id = :id"), {"id": person.user_id}
    )
    request = ask(session, person, ADMIN, first)
    reject(session, request, second)
    rows = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id))
    letters = [letter_of(session, row) for row in rows]
    own, requested, rejected, own_rejected = letters
    who = address(session, person)
    assert own.subject == "Staff: your request is waiting for approval"
    assert "Requested by: you" in own.text
    assert f"Rejected by you: {REMARK}" in own_rejected.text
    assert requested.subject == "Staff: a change is waiting for approval"
    assert f"Change role of {who} from Finance to Administrator." in requested.text
    assert f"Requested by: {address(session, first)}" in requested.text
    assert "Reason: moved" in requested.text
    assert "https://pay.example/staff" in requested.text.splitlines()
    assert f"Rejected by {address(session, second)}: {REMARK}" in rejected.text
    assert all("Your bank" not in each.text for each in letters)


def test_administrator_of_the_command_line_is_mailed(session: Session, make_person: Make) -> None:
    first = make_person(ADMIN)
    for role in (ADMIN, FINANCE, None):
        create_person(
            session,
            email=f"new-{role}@example.com",
            display_name="New Person",
            password="a long word of these tests",
            role=role,
            actor=SYSTEM,
        )
    assert mails(session) == [
        ("created", address(session, first)),
        ("created", "new-admin@example.com"),
    ]
    created = select(OutboxMessage).where(OutboxMessage.template == TEMPLATE)
    for row in session.scalars(created):
        message = letter_of(session, row).text
        assert "new-admin@example.com was created with the role Administrator." in message
        assert "Requested by: the system (command line)" in message
        assert "create-user" not in message
        assert "Reason" not in message
    with pytest.raises(NotAuthorised):
        create_person(
            session, email="x@example.com", display_name="X", password="", role=None, actor=first
        )


# ── Each check is what stops it ────────────────────────────────────────────────────────────────
def test_without_the_sense_of_what_is_sensitive_one_makes_an_administrator(
    session: Session, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    monkeypatch.setattr("domain.staff.roles.find_sensitivity", lambda *_: None)
    assert change(session, person, ADMIN, first) is None
    assert standing(session, person)[0] == "admin"


@pytest.mark.parametrize("where", ["roles", "role_requests"])
def test_without_the_look_after_a_change_requests_would_wait_for_nothing(
    session: Session, make_person: Make, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    first, second, third = (make_person(ADMIN) for _ in range(3))
    one, other = make_person(FINANCE), make_person(FINANCE)
    about, asked_by = ask(session, one, ADMIN, first), ask(session, other, ADMIN, second)
    removal = ask(session, second, SUPPORT, first)
    monkeypatch.setattr(f"domain.staff.{where}.lapse_unfit_requests", lambda *_, **__: None)
    if where == "roles":
        change(session, one, SUPPORT, third)
    else:
        approve(session, removal, third)
    left = about if where == "roles" else asked_by
    assert state(session, left)[0] == "requested"
    # The last look, before it would be carried out, still ends it.
    assert approve(session, left, third).state is RequestState.LAPSED


def test_without_the_check_of_another_the_database_stops_it(
    session: Session, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _second, person = make_person(ADMIN), make_person(ADMIN), make_person(FINANCE)
    request = ask(session, person, ADMIN, first)
    monkeypatch.setattr("domain.staff.role_requests._check_decider", lambda *_: None)
    with pytest.raises(IntegrityError, match="two_people"):
        approve(session, request, first)


def test_without_the_check_of_oneself_the_database_stops_it(
    session: Session, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    make_person(ADMIN)
    request = ask(session, second, FINANCE, first)
    monkeypatch.setattr("domain.staff.role_requests._check_decider", lambda *_: None)
    with pytest.raises(IntegrityError, match="not_about_oneself"):
        approve(session, request, second)


def test_without_the_check_who_objects_the_database_stops_it(
    session: Session, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    request = ask(session, second, None, first)
    monkeypatch.setattr("domain.staff.role_requests._check_objector", lambda *_: None)
    with pytest.raises(IntegrityError, match="objected_by_person"):
        object_to(session, request, first)


def test_without_the_check_of_what_is_objected_to_the_database_stops_it(
    session: Session, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    make_person(ADMIN)
    request = ask(session, second, None, first)
    monkeypatch.setattr("domain.staff.RoleRequest.is_open_to_objection", True)
    with pytest.raises(IntegrityError, match="objected_by_person"):
        object_to(session, request, second)


def test_without_the_24_hours_the_database_stops_it(
    session: Session, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, person = make_person(ADMIN), make_person(FINANCE)
    monkeypatch.setattr("domain.staff.role_requests.SOLE_ADMIN_DELAY", timedelta(hours=1))
    with pytest.raises(IntegrityError, match="effective"):
        ask(session, person, ADMIN, admin)


def test_request_applied_before_its_time_is_stopped_by_the_database(
    session: Session, make_person: Make
) -> None:
    admin, person = make_person(ADMIN), make_person(FINANCE)
    ask(session, person, ADMIN, admin)
    with pytest.raises(IntegrityError, match="second_person_or_time"):
        session.execute(
            text(
                "UPDATE staff_role_requests SET state = 'applied', decided_by = 'system:jobs',"
                " decided_at = requested_at"
            )
        )


def test_without_the_check_at_the_end_both_of_two_would_remove_each_other(
    session: Session, make_person: Make, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    ask(session, second, None, first)
    ask(session, first, None, second)
    clock.advance(hours=24)
    monkeypatch.setattr("domain.staff.role_requests._lapse_reason", lambda *_: None)
    # The change itself checks once more.
    savepoint = session.begin_nested()
    with pytest.raises(Conflict, match="last_admin"):
        pass_time(session)
    savepoint.rollback()
    monkeypatch.setattr("domain.staff.changes.removes_last_admin", lambda *_: False)
    pass_time(session)
    assert standing(session, first)[0] is standing(session, second)[0] is None


@pytest.mark.parametrize("role", list(StaffRole))
def test_reset_of_second_factors_is_mailed_to_all_administrators(
    session: Session, make_person: Make, role: StaffRole
) -> None:
    first, second, person = make_person(ADMIN), make_person(ADMIN), make_person(role)
    for _ in range(2):
        reset_second_factors(
            session, user_id=person.user_id or 0, reason="lost the phone", actor=first
        )
    people = (first, second, person) if role is ADMIN else (first, second)
    everybody = [("second_factor_reset", address(session, each)) for each in people]
    assert mails(session) == everybody * 2
    own = select(OutboxMessage.recipient).where(OutboxMessage.template == "second_factor_changed")
    assert session.scalars(own).all() == [address(session, person)] * 2


def test_reset_of_second_factors_by_who_may_not_mails_nobody(
    session: Session, make_person: Make
) -> None:
    first, finance, second = make_person(ADMIN), make_person(FINANCE), make_person(ADMIN)
    for by, reason in ((first, "own"), (finance, "lost"), (second, " ")):
        with pytest.raises((NotAuthorised, InvalidInput)):
            reset_second_factors(session, user_id=first.user_id or 0, reason=reason, actor=by)
    assert mails(session) == []
