"""Names of people, for facts that hold only an identifier such as `user:12`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import User
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from domain.actors import Actor

_PREFIX = "user:"


def emails_of(session: Session, *, actor: Actor, actors: Iterable[str | None]) -> dict[str, str]:
    """Return, for staff, the unique email addresses of people by identifier."""
    return {name: email for name, (_shown, email) in _people(session, actor, actors).items()}


def names_of(session: Session, *, actor: Actor, actors: Iterable[str | None]) -> dict[str, str]:
    """Return, for staff, the names of people by identifier.

    Parts of the system are left out: `system:jobs` has no other name.
    """
    people = _people(session, actor, actors)
    return {name: shown or email for name, (shown, email) in people.items()}


def _people(
    session: Session, actor: Actor, actors: Iterable[str | None]
) -> dict[str, tuple[str, str]]:
    require(actor, "see_people")
    user_ids = {
        int(each.removeprefix(_PREFIX)) for each in actors if each and each.startswith(_PREFIX)
    }
    if not user_ids:
        return {}
    rows = session.execute(
        select(User.id, User.display_name, User.email).where(User.id.in_(sorted(user_ids)))
    )
    return {f"{_PREFIX}{row.id}": (row.display_name, row.email) for row in rows}
