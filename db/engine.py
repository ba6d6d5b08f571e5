"""Connections: a bounded pool whose sessions run under the role that may not touch facts."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2
from sqlalchemy import Engine, QueuePool, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session, sessionmaker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

_log = logging.getLogger(__name__)

RUNTIME_ROLE = "credit_portal_runtime"
"""Made by the first migration: it may insert facts, and never update or delete them."""

ADDRESS_FORM = "postgresql://user:password@host/database"
"""What the address of a database looks like, for sentences about one that does not."""

_CONNECTIONS_FOR_US = text(
    "SELECT sum(setting::int * CASE name WHEN 'max_connections' THEN 1 ELSE -1 END)::int"
    " FROM pg_settings WHERE name IN"
    " ('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
)
_MAX_IDLE_SECONDS = 300
"""How long a transaction may do nothing: whoever began it is gone, or waits for somebody else."""

# The driver rejects an invalid text first; within JSON the server does.
_NUL, _HALF = "cannot contain NUL", "surrogates not allowed"
_UNKEEPABLE = frozenset(("22021", "22P05"))
_UNREADABLE = "22P02"

_MAY_ASSUME = """
SELECT pg_has_role(
  oid, CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
) FROM pg_roles WHERE rolname = %s
"""


def psycopg2_url(address: str) -> str:
    """Return a database's address with its driver, as `make_engine` takes it.

    Raises:
        ValueError: it is not the address of a PostgreSQL. The message contains none of it.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError(f"not like {ADDRESS_FORM}")
    return url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


def make_engine(
    url: str,
    *,
    pool_size: int = 10,
    max_overflow: int = 10,
    pool_wait_seconds: int = 30,
    statement_timeout_seconds: int = 60,
    role: str | None = RUNTIME_ROLE,
    pool_class: type[QueuePool] = QueuePool,
    pool_pre_ping: bool = True,
) -> Engine:
    """Return an engine on `url` (SQLAlchemy form, driver psycopg2).

    Each connection runs in UTC, takes `role` where the server lets it, and gives up on a statement
    after `statement_timeout_seconds` (0: never) and on a lock after half of that. There are at most
    `pool_size` + `max_overflow` connections; after `pool_wait_seconds` without one, SQLAlchemy's
    TimeoutError is raised. Errors do not contain the values of a statement. Pages that are read out
    of order are priced as memory and solid disks have them: at the default price the planner would
    sooner read a whole table than a batch of its rows.
    """
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=pool_wait_seconds,
        poolclass=pool_class,
        hide_parameters=True,
        pool_pre_ping=pool_pre_ping,
        pool_use_lifo=True,
        connect_args={
            "application_name": "credit-portal",
            "options": f"-c timezone=UTC -c statement_timeout={statement_timeout_seconds * 1000}"
            f" -c lock_timeout={statement_timeout_seconds * 500}"
            f" -c idle_in_transaction_session_timeout={_MAX_IDLE_SECONDS * 1000}"
            " -c random_page_cost=1.1",
        },
    )
    if role is not None:
        event.listen(engine, "connect", _role_setter(role))
    return engine


def connections_for_us(session: Session) -> int:
    """Return how many connections the server has for those who are no superuser."""
    found: int = session.execute(_CONNECTIONS_FOR_US).scalar_one()
    return found


def make_sessions(
    engine: Engine, info: Mapping[str, object] | None = None
) -> sessionmaker[Session]:
    """Return the factory of sessions; a session is one transaction of one request.

    `info` is attached to each of them, such as the key of digests.
    """
    return sessionmaker(engine, expire_on_commit=False, info=dict(info or {}))


@contextmanager
def each_by_itself(session: Session) -> Iterator[None]:
    """Have every statement within the block be a transaction of its own.

    SQLAlchemy's isolation level AUTOCOMMIT asks the server when the connection goes back to the
    pool. Where it is gone by then, an answer that was received is lost, and a place of the pool
    with it.
    """
    connection: Any = session.connection().connection.dbapi_connection
    connection.autocommit = True
    try:
        yield
    finally:
        if not connection.closed:
            connection.autocommit = False


@contextmanager
def wrapping_driver_errors() -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy's, also those that it lets through.

    It does so where it prepares a connection or takes one back: what is wrong then is the
    connection, and the caller may retry.
    """
    try:
        yield
    except psycopg2.Error as error:
        raise DBAPIError.instance(
            None, None, error, psycopg2.Error, hide_parameters=True, connection_invalidated=True
        ) from error


def is_unkeepable_text(error: Exception) -> bool:
    """Whether a statement failed for a text that no database keeps: NUL, or half a character."""
    if isinstance(error, DBAPIError):
        code = getattr(error.orig, "pgcode", None)
        return code in _UNKEEPABLE or (code == _UNREADABLE and "json" in str(error.orig))
    is_half = isinstance(error, UnicodeEncodeError) and error.reason == _HALF
    return is_half or (type(error) is ValueError and _NUL in str(error))


def _role_setter(role: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    warned: list[str] = []

    def set_role(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(_MAY_ASSUME, (role,))
        row = cursor.fetchone()
        if row is not None and row[0]:
            cursor.execute(f'SET ROLE "{role}"')
        elif row is not None and not warned:
            warned.append(role)
            _log.warning(
                "The database user may not become %s: it keeps all its rights over history."
                " Run as its owner: GRANT %s TO that user; see docs/operations.md",
                role,
                role,
            )
        cursor.close()
        connection.commit()

    return set_role
