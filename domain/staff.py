"""Who works here: administrators give roles and take them away, and somebody always can.

The last administrator stays one, and nobody changes their own place. Whoever has their role changed
signs in again, so that no open page goes on with what they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text, update

from db.models import User, UserSession
from domain import audit, clock
from domain.actors import MemberRole, StaffRole
from domain.errors import Conflict, InvalidInput, NotAuthorised, NotFound
from domain.permissions import require, require_another
from domain.texts import checked_reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from domain.actors import Actor

REVIEWED = timedelta(days=90)
"""How far back an access review looks at what people did."""

# All of them, in one order: two who would take the other's place away wait for each other.
_LOCK_ADMINS = text("""
SELECT id FROM users WHERE staff_role = 'admin' AND disabled_at IS NULL ORDER BY id FOR UPDATE
""")
_GIVEN = text("""
SELECT CAST(details ->> 'user_id' AS bigint) AS user_id, max(id) AS id FROM audit_log
WHERE action IN ('create_user', 'change_staff_role')
  AND CAST(details ->> 'user_id' AS bigint) = ANY (:ids)
GROUP BY 1
""")
# A person's newest acts are few back to the sign-in before them, which the log never forgets.
_PEOPLE = """
SELECT u.id, u.display_name, u.email, u.staff_role, u.disabled_at,
       (SELECT a.recorded_at FROM audit_log a
        WHERE a.actor LIKE 'user:%' AND a.actor = 'user:' || u.id AND a.action = 'sign_in'
        ORDER BY a.recorded_at DESC LIMIT 1) AS signed_in_at
FROM users u WHERE {which} ORDER BY u.staff_role, u.display_name, u.id
"""
_ALL_STAFF = text(_PEOPLE.format(which="u.staff_role IS NOT NULL"))
_OF_ADDRESS = text(_PEOPLE.format(which="u.email = :email"))
_PLACES = text("""
SELECT m.user_id, u.email, m.account_id, c.name, m.role, given.actor, given.recorded_at
FROM users u JOIN account_members m ON m.user_id = u.id JOIN accounts c ON c.id = m.account_id
LEFT JOIN LATERAL (
    SELECT coalesce(
        (SELECT i.actor FROM audit_log i
         WHERE i.account_id = a.account_id AND i.action = 'invite_member'
           AND i.details ->> 'invitation_id' = a.details ->> 'invitation_id'
         ORDER BY i.id DESC LIMIT 1), a.actor) AS actor, a.recorded_at
    FROM audit_log a
    WHERE a.account_id = m.account_id
      AND a.action IN ('add_member', 'accept_invitation', 'change_role')
      AND CAST(a.details ->> 'user_id' AS bigint) = m.user_id
    ORDER BY a.id DESC LIMIT 1
) given ON true
WHERE u.staff_role IS NOT NULL ORDER BY u.email, m.account_id
""")
_DONE = text("""
SELECT actor, action, count(*) AS times, max(recorded_at) AS last_at FROM audit_log
WHERE actor LIKE 'user:%' AND actor = ANY (:names) AND recorded_at >= :since
GROUP BY actor, action ORDER BY actor, action
""")


@dataclass(frozen=True, slots=True)
class StaffMember:
    """A person, with a role here or without; `given_by` and `given_at` are of its last change."""

    user_id: int
    display_name: str
    email: str
    role: StaffRole | None
    is_disabled: bool
    signed_in_at: datetime | None
    given_by: str | None
    given_at: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """A role on an account that a member of staff holds besides, who gave it and when."""

    user_id: int
    email: str
    account_id: int
    account_name: str
    role: MemberRole
    given_by: str | None
    given_at: datetime | None


@dataclass(frozen=True, slots=True)
class Deed:
    """How often a member of staff did something lately, and when last."""

    user_id: int
    action: str
    times: int
    last_at: datetime


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
            given_by=given[row.id][0] if row.id in given else None,
            given_at=given[row.id][1] if row.id in given else None,
        )
        for row in rows
    )


def _given(session: Session, ids: list[int]) -> dict[int, tuple[str, datetime]]:
    newest = {row.id: row.user_id for row in session.execute(_GIVEN, {"ids": ids})}
    wanted = text("SELECT id, actor, recorded_at FROM audit_log WHERE id = ANY (:ids)")
    rows = session.execute(wanted, {"ids": list(newest)})
    return {newest[row.id]: (row.actor, row.recorded_at) for row in rows}


def list_places(session: Session, *, actor: Actor) -> tuple[Place, ...]:
    """Return the accounts that members of staff belong to, with what they may do there."""
    require(actor, "review_access")
    return tuple(
        Place(
            user_id=row.user_id,
            email=row.email,
            account_id=row.account_id,
            account_name=row.name,
            role=MemberRole(row.role),
            given_by=row.actor,
            given_at=row.recorded_at,
        )
        for row in session.execute(_PLACES)
    )


def list_deeds(session: Session, *, actor: Actor) -> tuple[Deed, ...]:
    """Return what members of staff did in the time that an access review looks at."""
    require(actor, "review_access")
    ids = session.scalars(select(User.id).where(User.staff_role.is_not(None))).all()
    asked = {
        "names": [f"user:{user_id}" for user_id in ids],
        "since": clock.now(session) - REVIEWED,
    }
    return tuple(
        Deed(int(row.actor.removeprefix("user:")), row.action, row.times, row.last_at)
        for row in session.execute(_DONE, asked)
    )


def record_review(session: Session, *, actor: Actor) -> None:
    """Write down that somebody takes an access review away."""
    require(actor, "review_access")
    audit.record(session, action="export_access_review", actor=actor)


def change_staff_role(
    session: Session, *, user_id: int, role: StaffRole | None, reason: str, actor: Actor
) -> None:
    """Give a person a role, another one, or (None) none any more; again, it changes nothing.

    Raises NotAuthorised, also about oneself; NotFound("user"); InvalidInput("reason"); and
    Conflict("last_admin").
    """
    require(actor, "manage_people")
    reason = checked_reason(reason)
    admins, person = _locked(session, user_id, actor)
    before = person.staff_role
    if before == role:
        return
    if admins == [person.id]:
        raise Conflict("last_admin")
    person.staff_role = role
    session.flush()
    _sign_out(session, person.id)
    details = {"user_id": person.id, "from": before, "to": role, "reason": reason}
    audit.record(session, action="change_staff_role", actor=actor, details=details)


def disable_user(
    session: Session, *, user_id: int, is_disabled: bool, reason: str, actor: Actor
) -> None:
    """Sign a person out everywhere and let them in no more, or let them in again.

    Repeated, it changes nothing. Raises as `change_staff_role` does.
    """
    require(actor, "manage_people")
    reason = checked_reason(reason)
    admins, person = _locked(session, user_id, actor)
    if (person.disabled_at is not None) == is_disabled:
        return
    if is_disabled and admins == [person.id]:
        raise Conflict("last_admin")
    now = clock.now(session)
    person.disabled_at = now if is_disabled else None
    session.flush()
    _sign_out(session, person.id)
    audit.record(
        session,
        action="disable_user" if is_disabled else "enable_user",
        actor=actor,
        details={
            "user_id": person.id,
            "from": "active" if is_disabled else "disabled",
            "to": "disabled" if is_disabled else "active",
            "reason": reason,
        },
    )


def end_sessions(session: Session, *, user_id: int, reason: str, actor: Actor) -> int:
    """Sign a person out everywhere, who may sign in again; return how many sessions ended.

    Raises as `change_staff_role` does.
    """
    require(actor, "manage_people")
    reason = checked_reason(reason)
    _admins, person = _locked(session, user_id, actor)
    ended = _sign_out(session, person.id)
    details = {"user_id": person.id, "sessions": ended, "reason": reason}
    audit.record(session, action="end_sessions", actor=actor, details=details)
    return ended


def find_person(session: Session, *, email: str, actor: Actor) -> StaffMember:
    """Return who has an address, with a role or without. Raises NotFound("user"), InvalidInput."""
    require(actor, "manage_people")
    tidy = email.strip().lower()
    if not tidy:
        raise InvalidInput("email", "empty")
    found = _people(session, session.execute(_OF_ADDRESS, {"email": tidy}).all())
    if not found:
        raise NotFound("user")
    return found[0]


def _locked(session: Session, user_id: int, actor: Actor) -> tuple[list[int], User]:
    """Return who administers, and the person, both locked.

    The actor may have lost their role while they waited. Raises NotFound and NotAuthorised.
    """
    admins = list(session.scalars(_LOCK_ADMINS))
    person = session.get(User, user_id, with_for_update=True, populate_existing=True)
    if person is None:
        raise NotFound("user")
    require_another(actor, f"user:{person.id}")
    if not actor.is_system and actor.user_id not in admins:
        raise NotAuthorised
    return admins, person


def _sign_out(session: Session, user_id: int) -> int:
    ended = session.execute(
        update(UserSession)
        .where(UserSession.user_id == user_id, UserSession.revoked_at.is_(None))
        .values(revoked_at=clock.now(session))
        .returning(UserSession.user_id)
    )
    return len(ended.all())
