"""People whom the database knows, for what looks up what somebody may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from domain.actors import MemberRole
from tests.support.owner import as_owner

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

_PERSON = text("""
INSERT INTO users (id, email, display_name, password_hash, staff_role)
OVERRIDING SYSTEM VALUE VALUES (:id, :email, 'Sample Person', 'x', :staff_role)
ON CONFLICT (id) DO UPDATE SET staff_role = excluded.staff_role, disabled_at = NULL
""")
_MEMBER = text("""
INSERT INTO account_members (account_id, user_id, role) VALUES (:account, :id, :role)
ON CONFLICT (account_id, user_id) DO UPDATE SET role = excluded.role
""")
_NUMBERS = text("""
SELECT setval(seq, greatest((SELECT max(id) FROM users WHERE id < 1000), nextval(seq) - 1))
FROM pg_get_serial_sequence('users', 'id') AS seq
""")


def join_before(
    session: Session, *, account_id: int, user_id: int, role: MemberRole = MemberRole.READER
) -> None:
    """Make somebody of staff a member as only long ago: services refuse it, and these stay."""
    session.execute(_MEMBER, {"id": user_id, "account": account_id, "role": role})


def register(session: Session, actor: Actor) -> None:
    """Have the database know a person with the roles that they have as this actor."""
    person = {"id": actor.user_id, "email": f"person-{actor.user_id}@example.com"}
    with as_owner(session):
        session.execute(_PERSON, {**person, "staff_role": actor.staff_role})
        for account_id, role in actor.memberships.items():
            session.execute(_MEMBER, {"id": actor.user_id, "account": account_id, "role": role})
        # Whoever is made after this is another person.
        session.execute(_NUMBERS)
