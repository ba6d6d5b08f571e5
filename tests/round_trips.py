"""Counting how often a service goes to the database and back, whatever it uses to get there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2.extensions
from sqlalchemy import event

from tests.support.connections import CONNECTS_ITSELF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


class RoundTrips:
    """What was sent to the server while `counting`: statements, BEGIN, COMMIT and ROLLBACK.

    A COPY counts twice: the server answers that it is ready before it takes the rows.
    """

    def __init__(self, engine: Engine) -> None:
        """Count on the connections that the engine opens from now on."""
        self._sent: list[str] | None = None

        def count_on(_dialect: object, _record: object, _args: object, options: Any) -> None:
            options["connection_factory"] = self._connect

        setattr(engine.dialect, CONNECTS_ITSELF, True)
        event.listen(engine, "do_connect", count_on)

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        """Give the list of what is sent within the block."""
        sent: list[str] = []
        self._sent = sent
        yield sent
        self._sent = None

    def note(self, statement: object) -> None:
        """Count one round trip."""
        if self._sent is not None:
            text = statement.decode() if isinstance(statement, bytes) else str(statement)
            self._sent.append(" ".join(text.split()))

    def _connect(self, dsn: str, **options: Any) -> _Connection:
        made = _Connection(dsn, **options)
        made.trips = self
        return made


class _Cursor(psycopg2.extensions.cursor):
    connection: _Connection

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - its name there
        self._note(query)
        super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> None:
        given = list(vars_list)
        for _ in given:
            self._note(query)
        super().executemany(query, given)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        self._note(sql)
        self._note("rows of COPY")
        super().copy_expert(sql, file, size)

    def _note(self, statement: object) -> None:
        connection = self.connection
        if connection.trips is None:
            return
        if connection.status == psycopg2.extensions.STATUS_READY and not connection.autocommit:
            connection.trips.note("BEGIN")
        connection.trips.note(statement)


class _Connection(psycopg2.extensions.connection):
    trips: RoundTrips | None = None

    def cursor(self, *args: Any, **options: Any) -> Any:
        return super().cursor(*args, **{"cursor_factory": _Cursor, **options})

    def commit(self) -> None:
        self._note_end("COMMIT")
        super().commit()

    def rollback(self) -> None:
        self._note_end("ROLLBACK")
        super().rollback()

    def _note_end(self, word: str) -> None:
        if self.trips is not None and self.status != psycopg2.extensions.STATUS_READY:
            self.trips.note(word)
