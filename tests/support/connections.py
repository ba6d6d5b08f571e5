"""Connections that outlive their test, to databases that are used again.

A new connection costs 15 ms, and its server process starts with empty caches: what a test asks
first is planned from nothing. What a closed connection had set, locked or begun is undone.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extensions import (
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INERROR,
    TRANSACTION_STATUS_INTRANS,
    connection,
)
from sqlalchemy import Engine, event, text

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sqlalchemy import Dialect
    from sqlalchemy.orm import Session, sessionmaker


CONNECTS_ITSELF = "connects_itself"
"""An attribute of the dialect of an engine whose connections are of a kind of their own."""

_MAX_PER_KIND = 3
_AT_REST = {TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR}
_UNDO = "SELECT pg_advisory_unlock_all(); DISCARD TEMP; UNLISTEN *"


class _Connection(connection):
    """A connection that is kept, where it may be, when its engine closes it."""

    kept: KeptConnections | None = None
    kind: Hashable = None

    def close(self) -> None:
        if self.kept is None or not self.kept.take_back(self):
            super().close()


class KeptConnections:
    """Give SQLAlchemy's engines connections again that others have closed.

    `start_keeping` names a database, `stop_keeping` closes what is kept of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, dict[Hashable, list[_Connection]]] = {}
        event.listen(Engine, "do_connect", self._connect)

    def start_keeping(self, database: str) -> None:
        """Keep connections to a database from now on."""
        with self._lock:
            self._kept.setdefault(database, {})

    def stop_keeping(self, database: str) -> None:
        """Close the kept connections of a database, and keep no more."""
        with self._lock:
            kinds = self._kept.pop(database, {})
        for kept in kinds.values():
            for each in kept:
                each.kept = None
                each.close()

    def process_ids(self, database: str) -> list[int]:
        """Return the server's processes of the kept connections of a database."""
        with self._lock:
            kinds = self._kept.get(database, {})
            return [each.info.backend_pid for kept in kinds.values() for each in kept]

    def take_back(self, closed: _Connection) -> bool:
        """Keep a connection that was closed, as it was when it was new; False if it is none."""
        if closed.closed or closed.info.transaction_status not in _AT_REST:
            return False
        try:
            closed.reset()
            closed.set_session("default", "default", "default", autocommit=True)
            with closed.cursor() as cursor:
                cursor.execute(_UNDO)
            closed.autocommit = False
        except psycopg2.Error:
            return False
        del closed.notices[:], closed.notifies[:]
        with self._lock:
            kinds = self._kept.get(closed.info.dbname)
            if kinds is None or len(kinds.setdefault(closed.kind, [])) >= _MAX_PER_KIND:
                return False
            kinds[closed.kind].append(closed)
        return True

    def _connect(
        self, dialect: Dialect, _record: object, _args: object, parameters: dict[str, Any]
    ) -> connection | None:
        """Answer SQLAlchemy's event `do_connect`; None: let it connect itself."""
        if hasattr(dialect, CONNECTS_ITSELF):
            return None
        kind = tuple(sorted((name, str(value)) for name, value in parameters.items()))
        database = str(parameters.get("dbname"))
        while True:
            with self._lock:
                if database not in self._kept:
                    return None
                kept = self._kept[database].get(kind)
                found = kept.pop() if kept else None
            if found is None:
                break
            if _is_alive(found):
                return found
        made: _Connection = psycopg2.connect(**parameters, connection_factory=_Connection)
        made.kept, made.kind = self, kind
        return made


def _is_alive(kept: _Connection) -> bool:
    """Whether the server still has this connection: a test may have ended it, or the server."""
    try:
        with kept.cursor() as cursor:
            cursor.execute("SELECT")
        kept.rollback()
    except psycopg2.Error:
        return False
    return True


def end_connections(sessions: sessionmaker[Session]) -> None:
    """End every connection but the one that says so, as a restarted server does."""
    with sessions() as session:
        session.execute(text("RESET ROLE"))
        # The database's own workers are nobody's connections, and not ours to end.
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        session.execute(text(others))


def one(session: Session) -> int:
    found: int = session.execute(text("SELECT 1")).scalar_one()
    return found
