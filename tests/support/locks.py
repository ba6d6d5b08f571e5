"""Wait until a session waits for a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker


def wait_for_a_lock(sessions: sessionmaker[Session]) -> None:
    """Return once somebody waits for another's transaction; the test's own limit ends the wait."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with sessions() as session:
        while not session.execute(waiting).scalar_one():
            session.rollback()
