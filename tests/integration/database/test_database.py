"""The door to the database: reads see one moment, writes commit as a whole, one engine for all."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from sqlalchemy import QueuePool, event, make_url, text
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
)

from db.engine import make_sessions
from db.migrate import newest_version
from domain.security.digests import DIGEST_KEY, digest_key, keyed_digest
from domain.transactions import MAX_ATTEMPTS
from portal import startup
from portal.runtime import database
from portal.runtime.settings import load_settings
from portal.ui.labels import errors as error_labels
from tests.support.connections import end_connections, one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session, sessionmaker


@pytest.fixture
def connected(database_url: str) -> Iterator[str]:
    database.connect(database_url, pool_size=5)
    yield database_url
    database.disconnect()


def count_users(session: Session) -> int:
    return int(session.execute(text("SELECT count(*) FROM users")).scalar_one())


def add_user(session: Session, *, email: str) -> str:
    statement = "INSERT INTO users (email, display_name, password_hash) VALUES (:email, 'x', 'x')"
    session.execute(text(statement), {"email": email})
    return email


@pytest.mark.usefixtures("connected")
def test_a_write_is_committed_and_its_result_returned() -> None:
    assert database.transaction(add_user, email="a@example.com") == "a@example.com"
    assert database.read_snapshot(count_users) == 1


@pytest.mark.usefixtures("connected")
def test_a_write_that_fails_leaves_nothing() -> None:
    def fail(session: Session) -> None:
        add_user(session, email="a@example.com")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        database.transaction(fail)
    assert database.read_snapshot(count_users) == 0


@pytest.mark.usefixtures("connected")
def test_a_read_cannot_write() -> None:
    with pytest.raises(InternalError, match="read-only transaction"):
        database.read_snapshot(add_user, email="a@example.com")
    assert database.read_snapshot(count_users) == 0
    database.transaction(add_user, email="a@example.com")


@pytest.mark.usefixtures("connected")
def test_a_read_sees_one_moment() -> None:
    def look_twice(session: Session) -> tuple[int, int]:
        first = count_users(session)
        database.transaction(add_user, email="meanwhile@example.com")
        return first, count_users(session)

    assert database.read_snapshot(look_twice) == (0, 0)
    assert database.read_snapshot(count_users) == 1


@pytest.mark.usefixtures("connected")
def test_both_sides_of_a_deadlock_succeed() -> None:
    for email in ("a@example.com", "b@example.com"):
        database.transaction(add_user, email=email)
    both_hold_one = threading.Barrier(2)

    def rename(session: Session, *, order: tuple[str, str], runs: list[int]) -> None:
        runs.append(1)
        statement = text("UPDATE users SET display_name = display_name || '+' WHERE email = :email")
        session.execute(statement, {"email": order[0]})
        if len(runs) == 1:
            both_hold_one.wait(timeout=120)
        session.execute(statement, {"email": order[1]})

    emails = ("a@example.com", "b@example.com")
    runs: tuple[list[int], list[int]] = ([], [])
    threads = [
        threading.Thread(
            target=database.transaction, args=(rename,), kwargs={"order": order, "runs": own}
        )
        for order, own in zip((emails, emails[::-1]), runs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(len(own) for own in runs) > 1
    names = database.read_snapshot(
        lambda s: set(s.execute(text("SELECT display_name FROM users")).scalars())
    )
    assert names == {"x++"}


@pytest.mark.usefixtures("connected")
def test_a_transaction_that_always_loses_is_given_up() -> None:
    runs: list[int] = []

    def lose(session: Session) -> None:
        runs.append(1)
        session.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    with pytest.raises(DBAPIError):
        database.transaction(lose)
    assert len(runs) == 4


@pytest.mark.usefixtures("connected")
def test_other_errors_of_the_database_are_not_tried_again() -> None:
    runs: list[int] = []

    def divide(session: Session) -> None:
        runs.append(1)
        session.execute(text("SELECT 1 / 0"))

    with pytest.raises(DBAPIError):
        database.transaction(divide)
    assert len(runs) == 1


@pytest.mark.usefixtures("connected")
def test_a_name_that_stays_taken_is_not_tried_for_ever() -> None:
    runs: list[int] = []

    def add_twice(session: Session) -> None:
        runs.append(1)
        add_user(session, email="a@example.com")
        add_user(session, email="a@example.com")

    with pytest.raises(IntegrityError):
        database.transaction(add_twice)
    assert len(runs) == MAX_ATTEMPTS


def test_pages_imported_anew_share_the_engine(connected: str) -> None:
    engine = database.engine()
    kept = sys.modules.pop("portal.runtime.database")
    try:
        again = importlib.import_module("portal.runtime.database")
        assert again is not database
        assert again.engine() is engine
        assert again.connect(connected) is engine
    finally:
        sys.modules["portal.runtime.database"] = kept


def test_without_a_start_there_is_no_engine() -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        database.engine()


def test_connecting_elsewhere_leaves_the_first_database(connected: str, server_url: str) -> None:
    first = database.engine()
    assert database.connect(server_url) is not first
    assert database.engine().url != first.url
    assert first.url == make_url(connected)


def digest_of_lan(session: Session) -> bytes | None:
    return keyed_digest(session, "email", "lan@example.com")


def test_starting_brings_the_database_up_to_date_and_stopping_lets_go(database_url: str) -> None:
    with_own_roof = load_settings({"DATABASE_URL": database_url, "DEMO": "1", "JOBS": "0"})
    running = startup.prepare(with_own_roof)
    try:
        version = "SELECT version_num FROM alembic_version"
        assert (
            database.read_snapshot(lambda s: s.execute(text(version)).scalar_one())
            == newest_version()
        )
        sites = "SELECT array_agg(code ORDER BY code) FROM sites"
        found = database.read_snapshot(lambda s: s.execute(text(sites)).scalar_one())
        assert found == ["global", "jp", "vn"]
        with make_sessions(
            database.engine(), {DIGEST_KEY: digest_key(with_own_roof.secret_key.encode())}
        )() as session:
            expected = digest_of_lan(session)
        assert expected is not None
        with database.sessions()() as session:
            assert digest_of_lan(session) == expected
        assert (
            database.read_snapshot(digest_of_lan) == database.transaction(digest_of_lan) == expected
        )
    finally:
        running.stop()
    running.stop()
    with pytest.raises(RuntimeError):
        database.engine()


# ── Connections that are lost in the pool ──────────────────────────────────────────────────────


ASKS = pytest.mark.parametrize(
    "ask",
    [database.read_snapshot, database.read_one, database.transaction],
    ids=["read", "look_up", "write"],
)


def cut(session: Session) -> None:
    """Cut the connection of a session off, as a network does: neither side is told."""
    connection: Any = session.connection().connection.dbapi_connection
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def checked_out() -> int:
    pool = database.engine().pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


@pytest.mark.usefixtures("connected")
def test_an_answer_that_came_counts_also_where_its_connection_is_lost_then() -> None:
    def ask_and_lose(session: Session) -> int:
        found = one(session)
        cut(session)
        return found

    for _ in range(15):  # more than there are places in the pool
        assert database.read_snapshot(one) == 1  # so that the connection has been at another level
        assert database.read_one(ask_and_lose) == 1
        assert checked_out() == 0


@ASKS
@pytest.mark.usefixtures("connected")
def test_a_connection_that_is_lost_meanwhile_is_told_in_sqlalchemy_s_words(
    ask: Callable[[Callable[[Session], int]], int],
) -> None:
    def lose_and_ask(session: Session) -> int:
        one(session)
        cut(session)
        return one(session)

    for _ in range(15):  # more than there are places in the pool
        with pytest.raises(DBAPIError) as caught:
            ask(lose_and_ask)
        assert caught.value.connection_invalidated
        assert error_labels.is_passing(caught.value)
        assert checked_out() == 0
    assert ask(one) == 1


@ASKS
def test_a_database_that_is_away_is_told_in_sqlalchemy_s_words(
    ask: Callable[[Callable[[Session], int]], int],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    database.connect(f"postgresql+psycopg2://portal@127.0.0.1:{port}/portal")
    try:
        with pytest.raises(OperationalError) as caught:
            ask(one)
    finally:
        database.disconnect()
    assert error_labels.is_passing(caught.value)


@ASKS
@pytest.mark.usefixtures("connected")
def test_driver_s_own_error_is_told_as_sqlalchemy_s(
    ask: Callable[[Callable[[Session], int]], int],
) -> None:
    def fail(_session: Session) -> int:
        raise psycopg2.InterfaceError("the connection is gone")

    with pytest.raises(InterfaceError) as caught:
        ask(fail)
    assert error_labels.is_passing(caught.value)


@pytest.mark.usefixtures("connected")
def test_statements_that_are_looked_up_are_transactions_of_their_own() -> None:
    identity = text("SELECT txid_current()")

    def look_twice(session: Session) -> bool:
        first, second = (session.execute(identity).scalar_one() for _ in range(2))
        return bool(first != second)

    assert database.read_one(look_twice)
    assert not database.transaction(look_twice)


@ASKS
@pytest.mark.usefixtures("connected")
def test_a_connection_that_was_lost_in_the_pool_is_replaced(
    ask: Callable[[Callable[[Session], int]], int], sessions: sessionmaker[Session]
) -> None:
    assert ask(one) == 1
    end_connections(sessions)
    assert ask(one) == 1


@pytest.mark.usefixtures("connected")
def test_a_transaction_of_a_service_begins_on_a_connection_that_lives(
    sessions: sessionmaker[Session],
) -> None:
    """All connections of the pool are lost, and not just the first that is taken from it."""
    pooled = [database.engine().connect() for _ in range(3)]
    for connection in pooled:
        connection.close()
    end_connections(sessions)
    for _ in pooled:
        with database.sessions()() as first, database.sessions()() as second:
            assert (one(first), one(second)) == (1, 1)


@pytest.mark.usefixtures("connected")
def test_a_service_commits_what_it_did_on_a_replaced_connection(
    sessions: sessionmaker[Session],
) -> None:
    assert database.read_snapshot(one) == 1
    end_connections(sessions)
    with database.sessions().begin() as session:
        add_user(session, email="a@example.com")
        timeout = session.execute(text("SHOW statement_timeout")).scalar_one()
    assert timeout == "1h"
    assert database.read_snapshot(count_users) == 1


@pytest.mark.usefixtures("connected")
def test_forms_take_seconds_and_jobs_an_hour() -> None:
    """Many wait behind a form that waits."""
    names = ("statement_timeout", "lock_timeout")
    bounds = {}
    for made in (database.form_sessions(), database.sessions()):
        with made.begin() as session:
            bounds[made] = [session.execute(text(f"SHOW {name}")).scalar_one() for name in names]
    assert list(bounds.values()) == [["10s", "5s"], ["1h", "30min"]]


@pytest.mark.usefixtures("connected")
def test_reads_and_writes_are_not_asked_whether_they_live() -> None:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(database.engine(), "before_cursor_execute", note)
    made = database.sessions()
    assert database.read_snapshot(count_users) == 0
    database.transaction(add_user, email="a@example.com")
    assert "SELECT 1" not in statements
    with made() as session:
        count_users(session)
    assert "SELECT 1" in statements


@pytest.mark.usefixtures("connected")
def test_a_write_whose_connection_is_lost_within_is_not_run_again(
    sessions: sessionmaker[Session],
) -> None:
    begun = []

    def cut_off(session: Session) -> None:
        begun.append(one(session))
        end_connections(sessions)
        one(session)

    with pytest.raises(DBAPIError) as caught:
        database.transaction(cut_off)
    assert caught.value.connection_invalidated
    assert begun == [1]
