"""Actors: a person with a role, or a part of the product. Their rights are in permissions.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class ActorKind(StrEnum):
    """A person, or the product itself."""

    USER = "user"
    SYSTEM = "system"


class StaffRole(StrEnum):
    """The role of a member of staff."""

    SUPPORT = "support"
    FINANCE = "finance"
    ADMIN = "admin"


class MemberRole(StrEnum):
    """The role of a member in an account: own it, handle its money, or look at it."""

    OWNER = "owner"
    BILLING = "billing"
    READER = "reader"


_NO_MEMBERSHIPS: Mapping[int, MemberRole] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Actor:
    """The person or the part of the system that makes a request.

    `memberships` gives the role by account id, as the database has it now. `label` names a part
    of the system, such as "jobs". `ip` is the address that the request came from. `session_id`
    names the session in which the person is signed in, where there is one, and does not open it.
    """

    kind: ActorKind
    user_id: int | None
    staff_role: StaffRole | None = None
    memberships: Mapping[int, MemberRole] = field(
        default_factory=lambda: _NO_MEMBERSHIPS, hash=False
    )
    label: str = ""
    ip: str | None = None
    session_id: str | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a person without an id, and a system with the rights of a person."""
        if self.kind is ActorKind.USER:
            if self.user_id is None:
                raise ValueError("a user needs an id")
        elif self.user_id is not None or self.staff_role is not None or self.memberships:
            raise ValueError("a system has no user, no staff role and no memberships")
        elif not self.label:
            raise ValueError("a system needs a label")

    @property
    def is_system(self) -> bool:
        """Whether the product itself acts."""
        return self.kind is ActorKind.SYSTEM

    @property
    def is_staff(self) -> bool:
        """Whether this is a person with a staff role."""
        return self.staff_role is not None

    def reads_as_staff(self, account_id: int) -> bool:
        """Return whether only a staff role opens this account: such a look is worth a log line."""
        return self.is_staff and account_id not in self.memberships


def user_actor(
    user_id: int,
    *,
    staff_role: StaffRole | None = None,
    memberships: Mapping[int, MemberRole] = _NO_MEMBERSHIPS,
    ip: str | None = None,
    session_id: str | None = None,
) -> Actor:
    """Return the actor of a signed-in person."""
    return Actor(ActorKind.USER, user_id, staff_role, memberships, ip=ip, session_id=session_id)


def system_actor(label: str) -> Actor:
    """Return the actor of a part of the product, such as "jobs", "import" or "demo"."""
    return Actor(ActorKind.SYSTEM, None, label=label)
