"""The current rights of a person, looked up in the transaction that uses them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, exists, select, text

from db.models import StaffRoleRequest
from domain import clock
from domain.actors import MemberRole, StaffRole
from domain.errors import NotAuthorised

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from domain.actors import Actor

_RIGHTS = text("""
SELECT staff_role,
  (SELECT json_object_agg(account_id, role) FROM account_members WHERE user_id = u.id)
    AS memberships
FROM users u
WHERE id = :user AND disabled_at IS NULL AND (
  CAST(:session AS bytea) IS NULL OR EXISTS (
    SELECT FROM user_sessions
    WHERE token_digest = :session AND user_id = u.id AND revoked_at IS NULL
      AND expires_at > coalesce(CAST(:now AS timestamptz), clock_timestamp())
  )
)
""")


def is_role_requested(user_id: int | InstrumentedAttribute[int]) -> ColumnElement[bool]:
    """Return whether a role as staff is requested for a person: the condition of a query."""
    return exists().where(
        StaffRoleRequest.user_id == user_id,
        StaffRoleRequest.state == "requested",
        StaffRoleRequest.role_after.is_not(None),
    )


def waits_for_role(session: Session, user_id: int) -> bool:
    """Whether a role as staff is requested for a person and waits for approval, or for its time."""
    return session.scalars(select(is_role_requested(user_id))).one()


def with_current_rights(session: Session | Connection, actor: Actor) -> Actor:
    """Return the actor with their current roles in the database.

    System actors pass unchanged: their rights cannot be revoked. Raises NotAuthorised where the
    person was disabled, or their session was revoked or expired.
    """
    if actor.is_system:
        return actor
    row = session.execute(
        _RIGHTS,
        {
            "user": actor.user_id,
            "session": bytes.fromhex(actor.session_id) if actor.session_id else None,
            "now": clock.given(session),
        },
    ).one_or_none()
    if row is None:
        raise NotAuthorised
    staff_role, memberships = roles_of(row)
    return replace(actor, staff_role=staff_role, memberships=memberships)


def roles_of(row: Row[Any]) -> tuple[StaffRole | None, dict[int, MemberRole]]:
    """Return the roles in a row: as staff (`staff_role`), and by account id (`memberships`)."""
    memberships = {int(key): MemberRole(role) for key, role in (row.memberships or {}).items()}
    return StaffRole(row.staff_role) if row.staff_role else None, memberships


def has_lost_rights(before: Actor, now: Actor) -> bool:
    """Return whether a role of `before`, as staff or in an account, has changed or ended."""
    return before.staff_role is not now.staff_role or any(
        now.memberships.get(account_id) is not role
        for account_id, role in before.memberships.items()
    )
