"""Manage staff: administrators grant, change and remove roles, and disable people.

The last administrator cannot be removed, and no one changes themselves. The person changed has to
sign in again, so that no open page continues with their former role. A change that makes or removes
an administrator takes a second one: it becomes a request (role_requests.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.models import User
from domain import audit, identity
from domain.actors import StaffRole
from domain.errors import Conflict, InvalidInput, NotFound
from domain.permissions import require
from domain.staff.changes import (
    Sensitivity,
    Standing,
    apply_change,
    check_changer,
    find_sensitivity,
    get_standing,
    list_admins,
    lock_admins,
    lock_staff,
    removes_last_admin,
    sign_out,
    takes_away,
)
from domain.staff.notices import mail_admins
from domain.staff.rate_limit import check_rate_limit
from domain.staff.role_requests import lapse_unfit_requests, request_change
from domain.validation import checked_reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.staff.role_requests import RoleRequest

_GIVEN = text("""
SELECT CAST(details ->> 'user_id' AS bigint) AS user_id, max(id) AS id FROM audit_log
WHERE action IN ('create_user', 'change_staff_role')
  AND CAST(details ->> 'user_id' AS bigint) = ANY (:ids)
GROUP BY 1
""")
# A person has few actions since their latest sign-in, which the log never deletes.
_PEOPLE = """
SELECT u.id, u.display_name, u.email, u.staff_role, u.disabled_at,
       (SELECT a.recorded_at FROM audit_log a
        WHERE a.actor LIKE 'user:%' AND a.actor = 'user:' || u.id AND a.action = 'sign_in'
        ORDER BY a.recorded_at DESC LIMIT 1) AS signed_in_at,
       EXISTS (SELECT FROM authenticators f
               WHERE f.user_id = u.id AND f.sealed_secret IS NOT NULL)
       OR EXISTS (SELECT FROM passkeys k WHERE k.user_id = u.id) AS has_second_factor
FROM users u WHERE {which} ORDER BY u.staff_role, u.display_name, u.id
"""
_ALL_STAFF = text(_PEOPLE.format(which="u.staff_role IS NOT NULL"))
_OF_ADDRESS = text(_PEOPLE.format(which="u.email = :email"))
_GIVERS = text("""
SELECT id, recorded_at, coalesce(details ->> 'requested_by', actor) AS given_by,
  CASE WHEN details ? 'requested_by' THEN actor END AS approved_by
FROM audit_log WHERE id = ANY (:ids)
""")


@dataclass(frozen=True, slots=True)
class StaffMember:
    """A person, with a role here or without; the last three are of its last change.

    `approved_by` is who approved where it took two people, or the job that waited 24 hours.
    """

    user_id: int
    display_name: str
    email: str
    role: StaffRole | None
    is_disabled: bool
    signed_in_at: datetime | None
    has_second_factor: bool
    given_by: str | None
    given_at: datetime | None
    approved_by: str | None = None


@dataclass(frozen=True, slots=True)
class PossibleChange:
    """What a person may become, and why it takes a second administrator, if it does.

    `has_decider`: there is another administrator who may decide; else it waits 24 hours.
    """

    after: Standing
    sensitivity: Sensitivity | None
    has_decider: bool


def list_staff(session: Session, *, actor: Actor) -> tuple[StaffMember, ...]:
    """Return everybody with a role, by role and name, for administrators and finance."""
    require(actor, "review_access")
    return _people(session, session.execute(_ALL_STAFF).all())


def _people(session: Session, rows: Sequence[Row[Any]]) -> tuple[StaffMember, ...]:
    given = _given(session, [row.id for row in rows])
    return tuple(
        StaffMember(
            user_id=row.id,
            display_name=row.display_name,
            email=row.email,
            role=StaffRole(row.staff_role) if row.staff_role else None,
            is_disabled=row.disabled_at is not None,
            signed_in_at=row.signed_in_at,
            has_second_factor=row.has_second_factor,
            given_by=given[row.id].given_by if row.id in given else None,
            given_at=given[row.id].recorded_at if row.id in given else None,
            approved_by=given[row.id].approved_by if row.id in given else None,
        )
        for row in rows
    )


def _given(session: Session, ids: list[int]) -> dict[int, Row[Any]]:
    """Return the newest change of role by person: who gave it, who approved that, and when."""
    newest = {row.id: row.user_id for row in session.execute(_GIVEN, {"ids": ids})}
    return {newest[row.id]: row for row in session.execute(_GIVERS, {"ids": list(newest)})}


def change_staff_role(
    session: Session, *, user_id: int, role: StaffRole | None, reason: str, actor: Actor
) -> RoleRequest | None:
    """Grant a person a role, change it, or (None) remove it; repeated, it has no effect.

    Return the request that waits where the change takes a second administrator, else None. Raises
    NotAuthorised, also about oneself; NotFound("user"); InvalidInput("reason"); RateLimited beyond
    30 changes in an hour; and Conflict: "last_admin", or "role_request_open" where another change
    of the person waits.
    """
    return _change_role(session, user_id, role, reason=reason, actor=actor)


def give_invited_role(
    session: Session,
    *,
    user_id: int,
    role: StaffRole,
    reason: str,
    actor: Actor,
    invitation_id: int,
) -> RoleRequest | None:
    """Grant the role of an invitation to its acceptor, as the administrator who sent it.

    As `change_staff_role`, but never RateLimited: the invitation was limited when it was mailed.
    """
    return _change_role(
        session, user_id, role, reason=reason, actor=actor, invitation_id=invitation_id
    )


def _change_role(
    session: Session,
    user_id: int,
    role: StaffRole | None,
    *,
    reason: str,
    actor: Actor,
    invitation_id: int | None = None,
) -> RoleRequest | None:
    require(actor, "manage_people")
    change = _Change(checked_reason(reason), actor, invitation_id)
    admins, person = lock_staff(session, user_id)
    check_changer(actor, person, admins)
    after = Standing(role, get_standing(person).is_disabled)
    return _change_or_request(session, person, after, admins, change)


def disable_user(
    session: Session, *, user_id: int, is_disabled: bool, reason: str, actor: Actor
) -> RoleRequest | None:
    """Disable a person, which signs them out everywhere, or enable them again.

    Repeated, it changes nothing. Returns and raises as `change_staff_role` does; disabling a person
    at once is never RateLimited.
    """
    require(actor, "manage_people")
    change = _Change(checked_reason(reason), actor)
    admins, person = lock_staff(session, user_id)
    check_changer(actor, person, admins)
    after = Standing(get_standing(person).role, is_disabled)
    return _change_or_request(session, person, after, admins, change)


def list_possible_changes(
    session: Session, *, user_id: int, actor: Actor
) -> tuple[PossibleChange, ...]:
    """Return the roles that a person may get, and whether they may be disabled or enabled.

    Each says whether it waits, and why, as it would if it was done now. Raises NotFound("user").
    """
    require(actor, "manage_people")
    person = session.get(User, user_id, populate_existing=True)
    if person is None:
        raise NotFound("user")
    before = get_standing(person)
    possible = [Standing(role, before.is_disabled) for role in (*StaffRole, None)]
    possible.append(Standing(before.role, not before.is_disabled))
    has_decider = bool(set(list_admins(session)) - {person.id, actor.user_id})
    return tuple(
        PossibleChange(after, find_sensitivity(session, person, after), has_decider)
        for after in possible
        if after != before
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """Why and by whom a person is changed, and the invitation that it follows from, if any."""

    reason: str
    actor: Actor
    invitation_id: int | None = None


def _change_or_request(
    session: Session, person: User, after: Standing, admins: tuple[int, ...], change: _Change
) -> RoleRequest | None:
    before, reason, actor = get_standing(person), change.reason, change.actor
    if before == after:
        return None
    if removes_last_admin(person, after, admins):
        raise Conflict("last_admin")
    is_for_two = find_sensitivity(session, person, after) is not None
    if is_for_two and not actor.is_system:
        return request_change(
            session,
            person,
            after,
            admins=admins,
            reason=reason,
            actor=actor,
            invitation_id=change.invitation_id,
        )
    origin = None
    if change.invitation_id is not None:
        origin = {"staff_invitation_id": change.invitation_id}
    elif not (after.is_disabled and not before.is_disabled):
        check_rate_limit(session, actor, takes_away=takes_away(before, after))
    apply_change(session, person, after, reason=reason, actor=actor, request=origin)
    if is_for_two:
        mail_admins(
            session,
            "applied",
            person=person,
            before=before,
            after=after,
            requested_by=audit.actor_name(actor),
            reason=reason,
        )
    lapse_unfit_requests(session, actor=actor)
    return None


def end_sessions(session: Session, *, user_id: int, reason: str, actor: Actor) -> int:
    """Sign a person out everywhere, who may sign in again; return how many sessions ended.

    Raises as `change_staff_role` does.
    """
    require(actor, "manage_people")
    reason = checked_reason(reason)
    admins, person = lock_staff(session, user_id)
    check_changer(actor, person, admins)
    ended = sign_out(session, person.id)
    details = {"user_id": person.id, "sessions": ended, "reason": reason}
    audit.record(session, action="end_sessions", actor=actor, details=details)
    return ended


def reset_second_factors(session: Session, *, user_id: int, reason: str, actor: Actor) -> None:
    """Remove the second factors of a person who has lost theirs, and sign them out everywhere.

    All administrators get a mail where the person is a member of staff: anyone with that person's
    password could set up a factor of their own now. Raises as `identity.reset_second_factors` does,
    and RateLimited beyond 30 changes in an hour.
    """
    require(actor, "manage_people")
    lock_admins(session)
    check_rate_limit(session, actor)
    person = session.get(User, user_id, populate_existing=True)
    identity.reset_second_factors(session, user_id=user_id, reason=reason, actor=actor)
    if person is not None and person.staff_role is not None:
        standing = Standing(StaffRole(person.staff_role), person.disabled_at is not None)
        mail_admins(
            session,
            "second_factor_reset",
            person=person,
            before=standing,
            after=standing,
            requested_by=audit.actor_name(actor),
            reason=reason,
        )


def create_person(
    session: Session,
    *,
    email: str,
    display_name: str,
    password: str,
    role: StaffRole | None,
    actor: Actor,
) -> int:
    """Create a person whose address needs no proof, for the command line; return their id.

    All administrators get a mail where the person is an administrator. Raises as
    `identity.create_user` does.
    """
    require(actor, "create_person")
    user_id = identity.create_user(
        session,
        email=email,
        display_name=display_name,
        password=password,
        staff_role=role,
        actor=actor,
    )
    if role is StaffRole.ADMIN:
        mail_admins(
            session,
            "created",
            person=session.get_one(User, user_id),
            before=None,
            after=Standing(role, is_disabled=False),
            requested_by=audit.actor_name(actor),
            reason="create-user",
        )
    return user_id


def find_person(session: Session, *, email: str, actor: Actor) -> StaffMember:
    """Return the person with an address, with a role or without.

    Raises NotFound("user"), InvalidInput.
    """
    require(actor, "manage_people")
    tidy = email.strip().lower()
    if not tidy:
        raise InvalidInput("email", "empty")
    found = _people(session, session.execute(_OF_ADDRESS, {"email": tidy}).all())
    if not found:
        raise NotFound("user")
    return found[0]
