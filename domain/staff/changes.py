"""Carry out changes of members of staff, and decide which of them take two people.

Every change takes one lock first, so that each sees what the ones before it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, select, text, update

from db.models import AccountMember, User, UserSession
from domain import audit, clock
from domain.actors import StaffRole
from domain.errors import Conflict, NotAuthorised, NotFound
from domain.identity.sessions import end_pending_sign_ins
from domain.permissions import require_another
from domain.staff.person_notice import mail_person

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from domain.actors import Actor

TAKEN_BY_TWO = frozenset((StaffRole.ADMIN, StaffRole.FINANCE))
"""The roles that take two administrators to give, whoever gets them."""

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('staff', 0))")


class Sensitivity(StrEnum):
    """Why a change takes two administrators.

    It makes, removes, disables or enables an administrator, lets a person move money, or gives a
    role to a member of a customer's account.
    """

    ADMINISTRATOR = "administrator"
    FINANCE = "finance"
    CUSTOMER_MEMBER = "customer_member"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a person is as staff: their role, and whether they are let in at all."""

    role: StaffRole | None
    is_disabled: bool

    @property
    def is_active_admin(self) -> bool:
        """Whether the person administers now."""
        return self.role is StaffRole.ADMIN and not self.is_disabled


def get_standing(person: User) -> Standing:
    """Return what a person is at this moment."""
    role = StaffRole(person.staff_role) if person.staff_role else None
    return Standing(role, person.disabled_at is not None)


def lock_staff(session: Session, user_id: int) -> tuple[tuple[int, ...], User]:
    """Return the ids of the active administrators, and the person, in a lock of all changes.

    Raises NotFound("user").
    """
    session.execute(_LOCK)
    person = session.get(User, user_id, with_for_update=True, populate_existing=True)
    if person is None:
        raise NotFound("user")
    return list_admins(session), person


def lock_admins(session: Session) -> tuple[int, ...]:
    """Return the ids of the active administrators, in a lock of all changes."""
    session.execute(_LOCK)
    return list_admins(session)


def list_admins(session: Session) -> tuple[int, ...]:
    """Return the ids of the active administrators."""
    active = select(User.id).where(User.staff_role == StaffRole.ADMIN, User.disabled_at.is_(None))
    return tuple(session.scalars(active.order_by(User.id)))


def check_changer(actor: Actor, person: User, admins: tuple[int, ...]) -> None:
    """Raise NotAuthorised about oneself, and for an actor who lost the role while waiting."""
    require_another(actor, f"user:{person.id}")
    if not actor.is_system and actor.user_id not in admins:
        raise NotAuthorised


def find_sensitivity(session: Session, person: User, after: Standing) -> Sensitivity | None:
    """Return why a change takes two administrators; None where one is enough."""
    before = get_standing(person)
    if StaffRole.ADMIN in {before.role, after.role}:
        return Sensitivity.ADMINISTRATOR
    is_enabled = before.is_disabled and not after.is_disabled
    if after.role is StaffRole.FINANCE and (is_enabled or before.role is not StaffRole.FINANCE):
        return Sensitivity.FINANCE
    if before.is_disabled != after.is_disabled:
        return None
    is_member = select(exists().where(AccountMember.user_id == person.id))
    if after.role is not None and session.scalars(is_member).one():
        return Sensitivity.CUSTOMER_MEMBER
    return None


def takes_away(before: Standing, after: Standing) -> bool:
    """Return whether a change takes away a role, or access, that the person has."""
    is_disabling = after.is_disabled and not before.is_disabled
    return is_disabling or (before.role is not None and after.role is None)


def removes_last_admin(person: User, after: Standing, admins: tuple[int, ...]) -> bool:
    """Return whether no administrator would be left after the change."""
    return admins == (person.id,) and not after.is_active_admin


def apply_change(
    session: Session,
    person: User,
    after: Standing,
    *,
    reason: str,
    actor: Actor,
    request: Mapping[str, Any] | None = None,
) -> None:
    """Change a locked person, who signs in again and gets a mail.

    `request` is what the log keeps of the request or invitation behind it. Raises
    Conflict("last_admin").
    """
    if removes_last_admin(person, after, list_admins(session)):
        raise Conflict("last_admin")
    before, now = get_standing(person), clock.now(session)
    person.staff_role = after.role
    if before.is_disabled != after.is_disabled:
        person.disabled_at = now if after.is_disabled else None
    session.flush()
    sign_out(session, person.id)
    action, old, new = _named(before, after)
    details = {"user_id": person.id, "from": old, "to": new, "reason": reason, **(request or {})}
    audit.record(session, action=action, actor=actor, details=details)
    changed_by = str(details.get("requested_by", audit.actor_name(actor)))
    mail_person(session, person, before=before, after=after, changed_by=changed_by)


def _named(before: Standing, after: Standing) -> tuple[str, str | None, str | None]:
    """Return the action of the audit log, and what was before and after."""
    if before.is_disabled == after.is_disabled:
        return "change_staff_role", before.role, after.role
    action = "disable_user" if after.is_disabled else "enable_user"
    names = ("active", "disabled") if after.is_disabled else ("disabled", "active")
    return action, *names


def sign_out(session: Session, user_id: int) -> int:
    """End all sessions of a person, and sign-ins under way; return how many sessions there were."""
    end_pending_sign_ins(session, user_id)
    ended = session.execute(
        update(UserSession)
        .where(UserSession.user_id == user_id, UserSession.revoked_at.is_(None))
        .values(revoked_at=clock.now(session))
        .returning(UserSession.user_id)
    )
    return len(ended.all())
