from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from domain.actors import (
    Actor,
    ActorKind,
    MemberRole,
    StaffRole,
    require_account_billing,
    require_account_owner,
    require_account_reader,
    require_staff,
    require_system_or_staff,
    system_actor,
    user_actor,
)
from domain.errors import BillingError, NotAuthorised, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = 7
OWNER = user_actor(1, memberships={ACCOUNT: MemberRole.OWNER})
BILLING = user_actor(2, memberships={ACCOUNT: MemberRole.BILLING})
READER = user_actor(3, memberships={ACCOUNT: MemberRole.READER})
STRANGER = user_actor(4, memberships={ACCOUNT + 1: MemberRole.OWNER})
SUPPORT = user_actor(5, staff_role=StaffRole.SUPPORT)
ADMIN = user_actor(6, staff_role=StaffRole.ADMIN)
OWNING_STAFF = user_actor(7, staff_role=StaffRole.SUPPORT, memberships={ACCOUNT: MemberRole.OWNER})
JOBS = system_actor("jobs")

Check = type[BillingError] | None


def refusal(check: Callable[[], None]) -> type[BillingError] | None:
    try:
        check()
    except BillingError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("actor", "read", "bill", "own"),
    [
        (OWNER, None, None, None),
        (BILLING, None, None, NotAuthorised),
        (READER, None, NotAuthorised, NotAuthorised),
        (STRANGER, NotFound, NotFound, NotFound),
        (SUPPORT, None, NotAuthorised, NotAuthorised),
        (ADMIN, None, NotAuthorised, NotAuthorised),
        (OWNING_STAFF, None, None, None),
        (JOBS, None, None, None),
    ],
)
def test_who_may_do_what_with_an_account(
    actor: Actor, read: Check, bill: Check, own: Check
) -> None:
    assert refusal(lambda: require_account_reader(actor, ACCOUNT)) is read
    assert refusal(lambda: require_account_billing(actor, ACCOUNT)) is bill
    assert refusal(lambda: require_account_owner(actor, ACCOUNT)) is own


@pytest.mark.parametrize(
    ("actor", "roles", "staff", "system_or_staff"),
    [
        (SUPPORT, [], None, None),
        (SUPPORT, [StaffRole.SUPPORT, StaffRole.FINANCE], None, None),
        (SUPPORT, [StaffRole.FINANCE], NotAuthorised, NotAuthorised),
        (ADMIN, [StaffRole.FINANCE], NotAuthorised, NotAuthorised),
        (OWNER, [], NotAuthorised, NotAuthorised),
        (JOBS, [], NotAuthorised, None),
        (JOBS, [StaffRole.FINANCE], NotAuthorised, None),
    ],
)
def test_staff_roles(
    actor: Actor, roles: list[StaffRole], staff: Check, system_or_staff: Check
) -> None:
    assert refusal(lambda: require_staff(actor, *roles)) is staff
    assert refusal(lambda: require_system_or_staff(actor, *roles)) is system_or_staff


def test_a_look_that_only_a_staff_role_opens() -> None:
    assert SUPPORT.reads_as_staff(ACCOUNT)
    assert not OWNING_STAFF.reads_as_staff(ACCOUNT)
    assert not OWNER.reads_as_staff(ACCOUNT)
    assert not JOBS.reads_as_staff(ACCOUNT)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Actor(ActorKind.USER, None), id="a person without an id"),
        pytest.param(lambda: Actor(ActorKind.SYSTEM, 1, label="jobs"), id="a system with an id"),
        pytest.param(
            lambda: Actor(ActorKind.SYSTEM, None, StaffRole.ADMIN, label="jobs"),
            id="a system with a staff role",
        ),
        pytest.param(
            lambda: Actor(ActorKind.SYSTEM, None, memberships={1: MemberRole.OWNER}, label="jobs"),
            id="a system with memberships",
        ),
        pytest.param(lambda: system_actor(""), id="a system without a label"),
    ],
)
def test_a_person_has_an_id_and_a_system_has_a_label(make: Callable[[], Actor]) -> None:
    with pytest.raises(ValueError, match=r"needs|has no"):
        make()
