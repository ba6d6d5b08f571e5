"""Fresh databases for tests: one that a test has used is emptied for the next, or goes.

To clone the template takes most of a second on a busy machine, to empty a clone a tenth of that.
Only what surely is as it was before is used again: a database with another schema, a client that
stays connected, or many rows to delete, is dropped or left.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from db.embedded.data_directory import OWNER, SUPERUSER, find_place
from tests.support.connections import KeptConnections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from sqlalchemy import URL, Connection

_LEAVING_SECONDS = 2
"""How long a client that has closed its connection may take to be gone."""
_MAX_ROWS = 20_000
"""Deleting more would leave the next test tables that are mostly dead rows."""

# A row of the catalogue that changed was written anew, by another transaction.
_SCHEMA = text("""
SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (
  SELECT 'class' || oid || ':' || xmin AS line FROM pg_class WHERE oid >= 16384
  UNION ALL SELECT 'column' || attrelid || ':' || attnum || ':' || xmin FROM pg_attribute
    WHERE attrelid >= 16384
  UNION ALL SELECT 'constraint' || oid || ':' || xmin FROM pg_constraint WHERE oid >= 16384
  UNION ALL SELECT 'trigger' || oid || ':' || xmin FROM pg_trigger
  UNION ALL SELECT 'function' || oid || ':' || xmin FROM pg_proc WHERE oid >= 16384
  UNION ALL SELECT 'policy' || oid || ':' || xmin FROM pg_policy
  UNION ALL SELECT 'schema' || oid || ':' || xmin FROM pg_namespace
  UNION ALL SELECT 'extension' || oid || ':' || xmin FROM pg_extension
  UNION ALL SELECT 'setting' || setrole || ':' || setconfig::text FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS catalogue
""")
_TABLES = text("""
SELECT quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND pg_class.oid >= 16384 AND nspname NOT LIKE 'pg\\_%' ORDER BY 1
""")
_SEQUENCES = text("""
SELECT quote_ident(schemaname) || '.' || quote_ident(sequencename), start_value, last_value
FROM pg_sequences ORDER BY 1
""")
_CLIENTS = text("""
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
  AND pid <> pg_backend_pid() AND pid <> ALL(:ours)
""")


@dataclass(frozen=True, slots=True)
class _State:
    """What a database is like: its schema, the rows of each table that has some, its sequences."""

    schema: str
    rows: dict[str, tuple[int, str]]  # table: how many, and a digest of them
    sequences: dict[str, tuple[int, int | None]]


def let_owner_turn_triggers_off(data_directory: Path, url: str) -> None:
    """Let the owner of an embedded server of tests, no superuser, delete facts between tests."""
    place = find_place(data_directory)
    assert place is not None
    superuser = make_url(url).set(username=SUPERUSER, password=place.password(SUPERUSER))
    with _connected(superuser) as connection:
        connection.execute(text(f"GRANT SET ON PARAMETER session_replication_role TO {OWNER}"))


class FreshDatabases:
    """Databases that are all like the template; at most one of them lies ready."""

    def __init__(self, clone: Callable[[], str], run: Callable[[str], None]) -> None:
        """`clone` makes one and returns its URL; `run` runs a statement outside any transaction."""
        self._clone = clone
        self._run = run
        self._connections = KeptConnections()
        self._ready: str | None = None
        self._states: dict[str, _State] = {}
        self._copies: dict[str, str] = {}

    def take(self) -> str:
        """Return the URL of a database that is as the template is."""
        url, self._ready = self._ready, None
        if url is None:
            url = self._clone()
            self._connections.start_keeping(_name(url))
            with _connected(url) as connection:
                state = self._states[url] = _state(connection)
                self._copies = self._copies or _copies(connection, state.rows)
        return url

    def refund_attempt(self, url: str) -> None:
        """Make a database ready for the next test, or drop it.

        One that somebody is still connected to is left: to end those is not our business.
        """
        try:
            with _connected(url) as connection:
                if not self._is_free(connection, _name(url)):
                    self._connections.stop_keeping(_name(url))
                    return
                if _restore(connection, self._states[url], self._copies):
                    self._ready = url
        except DBAPIError:
            self._ready = None  # the test dropped it, or closed it to us
        if self._ready is None:
            self._connections.stop_keeping(_name(url))
            self._run(f'DROP DATABASE IF EXISTS "{_name(url)}"')

    def _is_free(self, connection: Connection, database: str) -> bool:
        """Wait until no other client is connected, and say whether that came."""
        until = time.monotonic() + _LEAVING_SECONDS
        while connection.execute(
            _CLIENTS, {"ours": self._connections.process_ids(database)}
        ).scalar_one():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)  # noqa: TID251 - a poll with a deadline
            # A transaction sees the clients as they were at its first look.
            connection.execute(text("SELECT pg_stat_clear_snapshot()"))
        return True


def _name(url: str) -> str:
    name = make_url(url).database
    assert name
    return name


@contextmanager
def _connected(url: str | URL) -> Iterator[Connection]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _state(connection: Connection) -> _State:
    schema = connection.execute(_SCHEMA).scalar_one()
    rows = _rows(connection, connection.execute(_TABLES).scalars())
    sequences = connection.execute(_SEQUENCES)
    return _State(schema, rows, {name: (start, last) for name, start, last in sequences})


def _rows(connection: Connection, tables: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Return how many rows each of these tables has, and a digest of them, where it has some."""
    # Names are those of the catalogue, quoted by the server.
    parts = [
        f"SELECT '{table}', count(*), "  # noqa: S608 - as above
        f"CASE WHEN count(*) <= {_MAX_ROWS}"
        f" THEN md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) ELSE '' END"
        f" FROM {table} AS t"
        for table in tables
    ]
    rows = connection.exec_driver_sql(" UNION ALL ".join(parts))
    return {table: (count, digest) for table, count, digest in rows if count}


def _copies(connection: Connection, tables: Iterable[str]) -> dict[str, str]:
    """Return the rows of each of these tables as JSON."""
    return {
        table: connection.exec_driver_sql(
            f"SELECT json_agg(t)::text FROM {table} AS t"  # noqa: S608 - as above
        ).scalar_one()
        for table in tables
    }


def _restore(connection: Connection, before: _State, copies: Mapping[str, str]) -> bool:
    """Make the database as it was before a test; False where that cannot surely be done."""
    now = _state(connection)
    if now.schema != before.schema:
        return False
    tables = now.rows.keys() | before.rows.keys()
    changed = {table for table in tables if now.rows.get(table) != before.rows.get(table)}
    if sum(now.rows[table][0] for table in changed & now.rows.keys()) > _MAX_ROWS:
        return False
    # Facts may not be deleted: for this transaction their triggers are off.
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    for table in changed:
        connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - as above
    filled = {table: rows for table, rows in before.rows.items() if table in changed}
    for table in filled:
        fill = (
            f"INSERT INTO {table} OVERRIDING SYSTEM VALUE"  # noqa: S608 - as above
            f" SELECT * FROM json_populate_recordset(NULL::{table}, :rows)"
        )
        connection.execute(text(fill), {"rows": copies[table]})
    for name, (start, last) in before.sequences.items():
        if now.sequences[name] != (start, last):
            set_to = {"name": name, "value": start if last is None else last, "is_used": last}
            connection.execute(text("SELECT setval(:name, :value, :is_used IS NOT NULL)"), set_to)
    return not filled or _rows(connection, filled) == filled
