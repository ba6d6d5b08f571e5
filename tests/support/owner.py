"""What the portal's own role may not do, for tests that arrange what no service would."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.engine import RUNTIME_ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session


@contextmanager
def as_owner(session: Session) -> Iterator[None]:
    """Let a session do within what the tables' owner may; what it changed is flushed at the end."""
    session.execute(text("SET LOCAL ROLE NONE"))
    yield
    session.flush()
    session.execute(text(f"SET LOCAL ROLE {RUNTIME_ROLE}"))
