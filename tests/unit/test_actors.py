from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from domain.actors import Actor, ActorKind, MemberRole, StaffRole, system_actor, user_actor

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = 7
OWNER = user_actor(1, memberships={ACCOUNT: MemberRole.OWNER})
SUPPORT = user_actor(5, staff_role=StaffRole.SUPPORT)
OWNING_STAFF = user_actor(7, staff_role=StaffRole.SUPPORT, memberships={ACCOUNT: MemberRole.OWNER})
JOBS = system_actor("jobs")


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
