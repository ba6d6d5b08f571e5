"""Who works here: administrators give roles and take them away, and somebody always can.

The last administrator stays one, and nobody changes their own place. Whoever has their role changed
signs in again, so that no open page goes on with what they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text, update

from db.models import User, UserSession
from domain import audit, clock
from domain.actors import StaffRole
from domain.errors import Conflict, InvalidInput, NotFound
from domain.permissions import require, require_another
from domain.texts import checked_reason

if TYPE_CHECKING:
    from datetime import datetime

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
_DONE = text("""
SELECT actor, action, count(*) AS times, max(recorded_at) AS last_at FROM audit_log
WHERE actor LIKE 'user:%' AND actor = ANY (:names) AND recorded_at >= :since
GROUP BY actor, action ORDER BY actor, action
""")


@dataclass(frozen=True, slots=True)
class StaffMember:
    """A person with a role here; `given_by` and `given_at` are of the last change of it."""

    user_id: int
    display_name: str
    email: str
    role: StaffRole
    is_disabled: bool
    last_seen_at: datetime | None
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
    seen = (
        select(UserSession.user_id, func.max(UserSession.last_seen_at).label("at"))
        .group_by(UserSession.user_id)
        .subquery()
    )
    rows = session.execute(
        select(User, seen.c.at)
        .outerjoin(seen, seen.c.user_id == User.id)
        .where(User.staff_role.is_not(None))
        .order_by(User.staff_role, User.display_name, User.id)
        .execution_options(populate_existing=True)
    ).all()
    given = _given(session, [person.id for person, _seen in rows])
    return tuple(
        StaffMember(
            user_id=person.id,
            display_name=person.display_name,
            email=person.email,
            role=StaffRole(person.staff_role),
            is_disabled=person.disabled_at is not None,
            last_seen_at=seen_at,
            given_by=given[person.id][0] if person.id in given else None,
            given_at=given[person.id][1] if person.id in given else None,
        )
        for person, seen_at in rows
    )


def _given(session: Session, ids: list[int]) -> dict[int, tuple[str, datetime]]:
    newest = {row.id: row.user_id for row in session.execute(_GIVEN, {"ids": ids})}
    wanted = text("SELECT id, actor, recorded_at FROM audit_log WHERE id = ANY (:ids)")
    rows = session.execute(wanted, {"ids": list(newest)})
    return {newest[row.id]: (row.actor, row.recorded_at) for row in rows}


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
    admins = session.scalars(_LOCK_ADMINS).all()
    person = _locked(session, user_id)
    require_another(actor, f"user:{person.id}")
    before = person.staff_role
    if before == role:
        return
    if list(admins) == [person.id]:
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
    admins = session.scalars(_LOCK_ADMINS).all()
    person = _locked(session, user_id)
    require_another(actor, f"user:{person.id}")
    if (person.disabled_at is not None) == is_disabled:
        return
    if is_disabled and list(admins) == [person.id]:
        raise Conflict("last_admin")
    now = clock.now(session)
    person.disabled_at = now if is_disabled else None
    session.flush()
    _sign_out(session, person.id)
    audit.record(
        session,
        action="disable_user" if is_disabled else "enable_user",
        actor=actor,
        details={"user_id": person.id, "reason": reason},
    )


def find_person(session: Session, *, email: str, actor: Actor) -> int:
    """Return who has an address, to give them a role. Raises NotFound("user"), InvalidInput."""
    require(actor, "manage_people")
    tidy = email.strip().lower()
    if not tidy:
        raise InvalidInput("email", "empty")
    user_id = session.scalars(select(User.id).where(User.email == tidy)).one_or_none()
    if user_id is None:
        raise NotFound("user")
    return user_id


def _locked(session: Session, user_id: int) -> User:
    person = session.get(User, user_id, with_for_update=True, populate_existing=True)
    if person is None:
        raise NotFound("user")
    return person


def _sign_out(session: Session, user_id: int) -> None:
    session.execute(
        update(UserSession)
        .where(UserSession.user_id == user_id, UserSession.revoked_at.is_(None))
        .values(revoked_at=clock.now(session))
    )
