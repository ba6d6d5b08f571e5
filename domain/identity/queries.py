"""The names of people, where facts keep only who they are, as `user:12`."""

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
    """Return, for staff, the addresses of people by how facts name them, as no two are the same."""
    return {name: email for name, (_shown, email) in _people(session, actor, actors).items()}


def names_of(session: Session, *, actor: Actor, actors: Iterable[str | None]) -> dict[str, str]:
    """Return, for staff, what people are called, by how facts name them.

    Parts of the system are left out: `system:jobs` has no name but this.
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
