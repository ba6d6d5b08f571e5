"""The only door from pages and routes to the database, and the only place that commits."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from db.engine import (
    each_by_itself,
    is_unkeepable_text,
    make_engine,
    make_sessions,
    wrapping_driver_errors,
)
from domain.actors import Actor
from domain.errors import InvalidInput, NotAuthorised
from domain.rights import has_lost_rights, with_current_rights
from domain.security.digests import DIGEST_KEY
from domain.security.payload_encryption import VAULT
from domain.transactions import MAX_ATTEMPTS, RETRIED_SQLSTATES, sqlstate
from portal.runtime import metrics
from portal.runtime.process_state import shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection, Engine

    from domain.security.digests import DigestKey
    from domain.security.payload_encryption import Vault

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

_READING = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""All queries of one read see one moment, so that the figures of a page agree."""

_ACTING = "acting"
"""The key in a session's info of the person whose rights each of its transactions looks up."""

_BOUND_SECONDS = "bound_seconds"
"""The key in a session's info of how long its statements may take, where that is not a job's."""

_FORM_SECONDS = 10
"""Many wait behind the one that is served: nobody is served by a form that waits for a lock."""

_BOUNDS = text("""
SELECT set_config('statement_timeout', :statement_milliseconds, true),
       set_config('lock_timeout', :lock_milliseconds, true)
""")


class _State:
    """The state that all threads share: the engine, its sessions, the statement timeouts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.engine: Engine | None = None
        self.sessions: sessionmaker[Session] | None = None
        self.info: dict[str, object] = {}
        self.write_seconds = 0
        self.job_seconds = 0


_process = shared("database", _State)


def connect(
    database_url: str,
    *,
    pool_size: int = 10,
    pool_overflow: int | None = None,
    pool_wait_seconds: int = 5,
    read_timeout_seconds: int | None = None,
    statement_timeout_seconds: int = 60,
    job_timeout_seconds: int = 3600,
    vault: Vault | None = None,
) -> Engine:
    """Create this process's engine; close the engine of another database first.

    A statement may take `read_timeout_seconds` in a read, `statement_timeout_seconds` in a write
    (and in a read without a timeout of its own), and `job_timeout_seconds` in the sessions of
    services that make transactions of their own; 0 is no limit. A lock is waited for half as long.
    `pool_overflow` defaults to `pool_size`. Every session has `vault`, which seals the values of
    mails.
    """
    if read_timeout_seconds is None:
        read_timeout_seconds = statement_timeout_seconds
    with _process.lock:
        current = _process.engine
        if current is not None:
            if current.url == make_url(database_url):
                return current
            current.dispose()
        made = make_engine(
            database_url,
            pool_size=pool_size,
            max_overflow=pool_size if pool_overflow is None else pool_overflow,
            pool_wait_seconds=pool_wait_seconds,
            # Applies to every connection: reads are many, and need no statement to set it.
            statement_timeout_seconds=read_timeout_seconds,
            pool_class=metrics.MeasuredPool,
            # `read_snapshot`, `read_one` and `transaction` retry where a connection is lost,
            # instead of checking it each time; `sessions` does check it each time.
            pool_pre_ping=False,
        )
        metrics.measure(made)
        _process.engine = made
        _process.info = {} if vault is None else {VAULT: vault}
        _process.sessions = _sessions_on(made, _process.info)
        _process.write_seconds = statement_timeout_seconds
        _process.job_seconds = job_timeout_seconds
        return made


def use_digest_key(key: DigestKey) -> None:
    """Set the key of the digests that compare what accounts share, for all sessions from now on."""
    with _process.lock:
        _process.info = {**_process.info, DIGEST_KEY: key}
        _process.sessions = _sessions_on(_current(_process.engine), _process.info)


def disconnect() -> None:
    """Close this process's engine, if it has one."""
    with _process.lock:
        if _process.engine is not None:
            _process.engine.dispose()
            _process.engine = None
            _process.sessions = None


def engine() -> Engine:
    """Return the one engine of this process. Raises RuntimeError before `connect`."""
    return _current(_process.engine)


def _current(made: T | None) -> T:
    if made is None:
        raise RuntimeError("the portal has not been started: portal.startup.prepare connects it")
    return made


def sessions(acting: Actor | None = None) -> sessionmaker[Session]:
    """Return the factory of sessions, for services that make transactions of their own.

    Those are jobs and imports: their statements may take as long as a job's. Such a transaction is
    not retried, and so its connection is checked before it begins. With `acting`, no transaction
    begins once that person has lost a right, or was signed out: it raises NotAuthorised.
    """
    made = _current(_process.sessions)
    return made if acting is None else _knowing(made, _ACTING, acting)


def form_sessions() -> sessionmaker[Session]:
    """Return the factory of sessions for the sign-in and sign-up forms.

    Their statements take seconds at most, and wait for a lock half as long.
    """
    return _knowing(_current(_process.sessions), _BOUND_SECONDS, _FORM_SECONDS)


def _knowing(made: sessionmaker[Session], key: str, value: object) -> sessionmaker[Session]:
    """Return a factory of the same sessions with one more entry in their info."""
    return sessionmaker(class_=made.class_, **{**made.kw, "info": {**_process.info, key: value}})


def _sessions_on(made: Engine, info: Mapping[str, object]) -> sessionmaker[Session]:
    # The same pool; listeners of this engine do not listen to the engine of `read_snapshot`,
    # `read_one` and `transaction`.
    asked_first = made.execution_options()
    event.listen(asked_first, "engine_connect", _replace_if_lost)
    factory = make_sessions(asked_first, info)
    event.listen(factory, "after_begin", _begin)
    return factory


def _replace_if_lost(connection: Connection) -> None:
    """Have a connection that was lost in the pool connect anew, and with it all of its age."""
    try:
        connection.exec_driver_sql("SELECT 1")
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
    connection.rollback()


def _begin(session: Session, _transaction: object, connection: Connection) -> None:
    """Give a transaction its time, and one of a person the rights that they have now."""
    _bound(connection, session.info.get(_BOUND_SECONDS, _process.job_seconds))
    acting: Actor | None = session.info.get(_ACTING)
    if acting is not None and has_lost_rights(acting, with_current_rights(connection, acting)):
        raise NotAuthorised


def _bound(executor: Connection | Session, seconds: int) -> None:
    """Give the statements of the transaction so long, and half of it for a lock."""
    milliseconds = {
        "statement_milliseconds": str(seconds * 1000),
        "lock_milliseconds": str(seconds * 500),
    }
    executor.execute(_BOUNDS, milliseconds)


def read_snapshot(
    query: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Return the query's result, from a read-only transaction that sees one snapshot.

    A connection that was lost while it lay in the pool is replaced.
    """

    def question(session: Session) -> T:
        session.connection(execution_options=_READING)
        return query(session, *args, **kwargs)

    return _ask(question)


def read_one(
    query: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Return the result of a single SELECT, cheaper than `read_snapshot`: for every page run.

    It takes one round trip instead of three: a statement by itself sees one moment as it is, and
    needs no BEGIN and no ROLLBACK around it.
    """

    def question(session: Session) -> T:
        with each_by_itself(session):
            return query(session, *args, **kwargs)

    return _ask(question)


def _ask(question: Callable[[Session], T]) -> T:
    def ask() -> T:
        with (
            _refusing_unkeepable_text(),
            wrapping_driver_errors(),
            Session(engine(), expire_on_commit=False, info=_process.info) as session,
        ):
            return question(session)

    try:
        return ask()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        return ask()


@contextmanager
def _refusing_unkeepable_text() -> Iterator[None]:
    """Raise InvalidInput where a text reached the database that the database cannot store."""
    try:
        yield
    except (DBAPIError, ValueError) as error:
        if not is_unkeepable_text(error):
            raise
        _log.warning("a text that cannot be kept was given: %s", type(error).__name__)
        raise InvalidInput("text", "control_characters") from None


def transaction(
    service: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run the service in one transaction, commit it, and return its result.

    A transaction that lost a deadlock or a race is run again, a few times, from its beginning; so
    is one whose connection was lost before the service began. A person passed as `actor` acts with
    the rights that they have in this transaction, whatever page they are on: NotAuthorised where
    they were disabled or signed out.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        has_begun = False
        try:
            with (
                _refusing_unkeepable_text(),
                wrapping_driver_errors(),
                Session(engine(), expire_on_commit=False, info=_process.info) as session,
                session.begin(),
            ):
                _bound(session, _process.write_seconds)
                has_begun = True
                actor = kwargs.get("actor")
                if isinstance(actor, Actor):
                    kwargs["actor"] = with_current_rights(session, actor)
                return service(session, *args, **kwargs)
        except DBAPIError as error:
            was_gone = error.connection_invalidated and not has_begun
            if attempt == MAX_ATTEMPTS or not (was_gone or sqlstate(error) in RETRIED_SQLSTATES):
                raise
            _log.info("transaction of %r is run again: %s", service, sqlstate(error))
    raise AssertionError("unreachable: the last attempt returns or raises")
