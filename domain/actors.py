"""Who asks, and what they may do. Every service checks its actor here, whatever a page hides."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from domain.errors import NotAuthorised, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping


class ActorKind(StrEnum):
    """A person, or the product itself."""

    USER = "user"
    SYSTEM = "system"


class StaffRole(StrEnum):
    """What a member of staff does."""

    SUPPORT = "support"
    FINANCE = "finance"
    ADMIN = "admin"


class MemberRole(StrEnum):
    """What a customer may do with an account: own it, handle its money, or look at it."""

    OWNER = "owner"
    BILLING = "billing"
    READER = "reader"


_NO_MEMBERSHIPS: Mapping[int, MemberRole] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever asks for something.

    `memberships` gives the role by account id, as the database has it now. `label` names a part
    of the system, such as "jobs". `ip` is the address that the request came from.
    """

    kind: ActorKind
    user_id: int | None
    staff_role: StaffRole | None = None
    memberships: Mapping[int, MemberRole] = field(
        default_factory=lambda: _NO_MEMBERSHIPS, hash=False
    )
    label: str = ""
    ip: str | None = None

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
        """Whether only a staff role opens this account: such a look is worth a log line."""
        return self.is_staff and account_id not in self.memberships


def user_actor(
    user_id: int,
    *,
    staff_role: StaffRole | None = None,
    memberships: Mapping[int, MemberRole] = _NO_MEMBERSHIPS,
    ip: str | None = None,
) -> Actor:
    """Return the actor of a signed-in person."""
    return Actor(ActorKind.USER, user_id, staff_role, memberships, ip=ip)


def system_actor(label: str) -> Actor:
    """Return the actor of a part of the product, such as "jobs", "import" or "demo"."""
    return Actor(ActorKind.SYSTEM, None, label=label)


def require_account_reader(actor: Actor, account_id: int) -> None:
    """Let any member, any staff and the system pass; raise NotFound for everyone else."""
    if actor.is_system or actor.is_staff or account_id in actor.memberships:
        return
    raise NotFound("account")


def require_account_billing(actor: Actor, account_id: int) -> None:
    """Let those pass who may handle the account's money: its owner and billing members.

    Raises NotFound where the actor may not see the account, NotAuthorised where they may see
    it and no more (readers, and staff, who act through services of their own).
    """
    _require_member(actor, account_id, MemberRole.OWNER, MemberRole.BILLING)


def require_account_owner(actor: Actor, account_id: int) -> None:
    """Let the account's owner and the system pass; raise as `require_account_billing` does."""
    _require_member(actor, account_id, MemberRole.OWNER)


def require_staff(actor: Actor, *roles: StaffRole) -> None:
    """Let a person pass who has one of the roles, or any staff role where none is named.

    The system does not pass: what needs a person's judgement is not done by a job.
    Raises NotAuthorised.
    """
    if not actor.is_staff or (roles and actor.staff_role not in roles):
        raise NotAuthorised


def require_other_account(actor: Actor, account_id: int) -> None:
    """Stop staff who belong to the account: nobody moves credit to their own advantage.

    Raises NotAuthorised.
    """
    if actor.is_staff and account_id in actor.memberships:
        raise NotAuthorised


def require_system(actor: Actor) -> None:
    """Let only the product itself pass: what meters and clocks do is nobody's to do by hand.

    Raises NotAuthorised.
    """
    if not actor.is_system:
        raise NotAuthorised


def require_system_or_staff(actor: Actor, *roles: StaffRole) -> None:
    """Let the system pass, and whoever passes `require_staff`. Raises NotAuthorised."""
    if not actor.is_system:
        require_staff(actor, *roles)


def _require_member(actor: Actor, account_id: int, *roles: MemberRole) -> None:
    require_account_reader(actor, account_id)
    if not actor.is_system and actor.memberships.get(account_id) not in roles:
        raise NotAuthorised
