"""The only door from pages and routes to the database, and the only place that commits."""

from __future__ import annotations

import logging
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from db.engine import make_engine, make_sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

_ATTEMPTS = 4
_RETRIED = frozenset(("40001", "40P01"))
"""SQLSTATEs of a transaction that PostgreSQL ended so that another could go on."""

_READING = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""All queries of one read see one moment, so that the figures of a page agree."""

# Streamlit drops this project's modules from sys.modules when a watched file changes, and pages
# import them anew. A module without a file is not dropped: routes, jobs and pages share what it
# holds for as long as the process lives.
_process: Any = sys.modules.setdefault("_portal_process", ModuleType("_portal_process"))
_process.__dict__.setdefault("lock", threading.Lock())
_process.__dict__.setdefault("engine", None)


def connect(
    database_url: str, *, pool_size: int = 10, statement_timeout_seconds: int = 60
) -> Engine:
    """Give this process its engine; the engine of another database is closed first."""
    with _process.lock:
        current: Engine | None = _process.engine
        if current is not None:
            if current.url == make_url(database_url):
                return current
            current.dispose()
        made = make_engine(
            database_url,
            pool_size=pool_size,
            max_overflow=pool_size,
            statement_timeout_seconds=statement_timeout_seconds,
        )
        _process.engine = made
        return made


def disconnect() -> None:
    """Close this process's engine, if it has one."""
    with _process.lock:
        if _process.engine is not None:
            _process.engine.dispose()
            _process.engine = None


def engine() -> Engine:
    """Return the one engine of this process. Raises RuntimeError before `connect`."""
    current: Engine | None = _process.engine
    if current is None:
        raise RuntimeError("the portal has not been started: portal.startup.prepare connects it")
    return current


def sessions() -> sessionmaker[Session]:
    """Return the factory of sessions, for services that make transactions of their own."""
    return make_sessions(engine())


def read(query: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what the query finds, in a transaction that sees one moment and cannot write."""
    with sessions()() as session:
        session.connection(execution_options=_READING)
        return query(session, *args, **kwargs)


def write(service: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run the service in one transaction, commit it, and return its result.

    A transaction that lost a deadlock or a race is run again, a few times, from its beginning.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with sessions().begin() as session:
                return service(session, *args, **kwargs)
        except DBAPIError as error:
            if attempt == _ATTEMPTS or _sqlstate(error) not in _RETRIED:
                raise
            _log.info("transaction of %r is run again: %s", service, _sqlstate(error))
    raise AssertionError("unreachable: the last attempt returns or raises")


def _sqlstate(error: DBAPIError) -> str | None:
    code: str | None = getattr(error.orig, "pgcode", None)
    return code
