"""What somebody may do now, whatever they might when their page was drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain import clock
from domain.actors import MemberRole, StaffRole
from domain.errors import NotAuthorised

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

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


def with_present_rights(session: Session | Connection, actor: Actor) -> Actor:
    """Return the actor with the roles that the database has for them in this transaction.

    A part of the product has no roles that anybody could take away. Raises NotAuthorised where
    the person was disabled, or the session that they act in has ended.
    """
    if actor.is_system:
        return actor
    given = session.info.get(clock.CLOCK)
    row = session.execute(
        _RIGHTS,
        {
            "user": actor.user_id,
            "session": bytes.fromhex(actor.session_id) if actor.session_id else None,
            "now": given() if given is not None else None,
        },
    ).one_or_none()
    if row is None:
        raise NotAuthorised
    memberships = {int(key): MemberRole(role) for key, role in (row.memberships or {}).items()}
    return replace(
        actor,
        staff_role=StaffRole(row.staff_role) if row.staff_role else None,
        memberships=memberships,
    )


def has_lost_rights(before: Actor, now: Actor) -> bool:
    """Whether somebody has another role in an account, or as staff, than they had before."""
    return before.staff_role is not now.staff_role or any(
        now.memberships.get(account_id) is not role
        for account_id, role in before.memberships.items()
    )
