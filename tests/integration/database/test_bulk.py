"""Statements that go to the driver itself: what goes wrong with them is told like any other's."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from prometheus_client.exposition import generate_latest
from sqlalchemy import literal, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from db.bulk import (
    copy_query,
    copy_rows,
    fetch_rows,
    insert_statement,
    run_together,
    stream_query,
    update_statement,
)
from db.models import User
from domain.identity import create_user
from portal.runtime import database, metrics
from portal.ui.labels import errors as error_labels
from tests.factories import SYSTEM, make_account
from tests.support.connections import end_connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session, sessionmaker

LOCK = "SELECT id FROM accounts WHERE id = %(account)s FOR UPDATE"
EVERY_USE: dict[str, Callable[[Session], object]] = {
    "fetch_rows": lambda session: fetch_rows(session, "SELECT 1"),
    "copy_rows": lambda session: copy_rows(session, "users", ["email"], [["a@example.com"]]),
    "run_together": lambda session: run_together(session, [("SELECT 1", ())]),
    "copy_query": lambda session: copy_query(session, select(literal(1)), lambda _row: None),
    "stream_query": lambda session: list(stream_query(session, select(literal(1)), 1)),
}


@pytest.fixture
def connected(database_url: str) -> Iterator[None]:
    database.connect(database_url, pool_size=5, statement_timeout_seconds=1)
    yield
    database.disconnect()


def errors_counted(reason: str) -> float:
    name = f'portal_query_errors_total{{reason="{reason}"}}'
    lines = generate_latest(metrics._all().registry).decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_a_deadlock_is_tried_again(session: Session, database_url: str) -> None:
    accounts = make_account(session), make_account(session)
    session.commit()
    both_hold_one = threading.Barrier(2)
    runs: tuple[list[int], list[int]] = ([], [])
    ended: list[int] = []

    def lock_both(session: Session, *, order: tuple[int, int], own: list[int]) -> None:
        own.append(1)
        fetch_rows(session, LOCK, account=order[0])
        if len(own) == 1:
            both_hold_one.wait(timeout=120)
        fetch_rows(session, LOCK, account=order[1])

    def write(order: tuple[int, int], own: list[int]) -> None:
        database.transaction(lock_both, order=order, own=own)
        ended.append(1)

    database.connect(database_url)
    counted = errors_counted("deadlock")
    threads = [
        threading.Thread(target=write, args=arguments)
        for arguments in zip((accounts, accounts[::-1]), runs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.disconnect()
    assert max(len(own) for own in runs) > 1
    assert len(ended) == 2
    assert errors_counted("deadlock") > counted


@pytest.mark.usefixtures("connected")
def test_a_lock_that_is_waited_for_too_long_is_told_as_passing(session: Session) -> None:
    account = make_account(session)
    session.commit()
    fetch_rows(session, LOCK, account=account)
    counted = errors_counted("lock_timeout")
    with pytest.raises(OperationalError) as caught:
        database.transaction(lambda other: fetch_rows(other, LOCK, account=account))
    assert error_labels.is_passing(caught.value)
    assert error_labels.text_of_failure(caught.value, "7").startswith("This request took too long")
    assert errors_counted("lock_timeout") == counted + 1


@pytest.mark.parametrize("use", EVERY_USE.values(), ids=EVERY_USE)
@pytest.mark.usefixtures("connected")
def test_a_connection_that_is_lost_leaves_the_pool(
    use: Callable[[Session], object], sessions: sessionmaker[Session]
) -> None:
    def cut_off(session: Session) -> None:
        session.execute(text("SELECT 1"))
        end_connections(sessions)
        use(session)

    with pytest.raises(OperationalError) as caught:
        database.transaction(cut_off)
    assert caught.value.connection_invalidated
    assert database.transaction(lambda session: session.execute(text("SELECT 1")).scalar_one()) == 1


def test_a_stream_that_breaks_while_it_is_read_is_told_too(
    session: Session, sessions: sessionmaker[Session]
) -> None:
    numbers = select(text("n FROM generate_series(1, 9) AS n"))
    stream = stream_query(session, numbers, 1)
    next(stream)
    end_connections(sessions)
    with pytest.raises(DBAPIError) as caught:
        list(stream)
    assert caught.value.connection_invalidated


def test_an_error_never_tells_the_values_in_a_statement(session: Session) -> None:
    wrong = select(text("1 / 0")).where(literal("my secret") == literal("my secret"))
    with pytest.raises(DBAPIError) as caught:
        copy_query(session, wrong, lambda _row: None)
    assert "division by zero" in str(caught.value)
    assert "my secret" not in str(caught.value)


def test_a_row_that_is_there_twice_is_refused_as_by_any_insert(session: Session) -> None:
    columns, row = ["email", "display_name", "password_hash"], ["a@example.com", "A", "x"]
    with pytest.raises(IntegrityError):
        copy_rows(session, "users", columns, [row, row])


@pytest.mark.parametrize(
    ("value", "fault"), [("\ud800", UnicodeEncodeError), ({"a": object()}, TypeError)]
)
def test_a_row_that_cannot_be_written_is_no_fault_of_the_database(
    value: object, fault: type[Exception], session: Session
) -> None:
    with pytest.raises(fault):
        copy_rows(session, "users", ["email"], [[value]])
    with pytest.raises(fault):
        run_together(session, [insert_statement("users", ["email"], [[value]])])


VALUES = (
    (1, "100 % of 'it'\n\t\\ and \"more\"", True, Decimal("0.000000000000000001"), None),
    (2, "", False, Decimal("-3E+5"), {"a": Decimal("1.50"), "b": ["'", "\\", "ế"]}),
)
MORE_VALUES = (
    (datetime(2026, 3, 1, 9, 30, 0, 1, UTC), date(2026, 3, 1), b"\x00'\\", ["a", 'b"\\', "%s"]),
    (None, None, b"", ()),
)


def test_rows_written_together_are_those_that_copy_writes(session: Session) -> None:
    session.execute(
        text("CREATE TEMP TABLE first (n int, words text, yes bool, amount numeric, facts jsonb)")
    )
    session.execute(
        text("CREATE TEMP TABLE second (at timestamptz, day date, raw bytea, list text[])")
    )
    first, second = ("n", "words", "yes", "amount", "facts"), ("at", "day", "raw", "list")
    tables = (("first", first, VALUES), ("second", second, MORE_VALUES))
    run_together(session, [insert_statement(*table) for table in tables])
    for name, columns, rows in tables:
        together = fetch_rows(session, f"SELECT * FROM {name} ORDER BY 1")  # noqa: S608 - as above
        session.execute(text(f"TRUNCATE {name}"))
        copy_rows(session, name, columns, rows)
        assert fetch_rows(session, f"SELECT * FROM {name} ORDER BY 1") == together  # noqa: S608
        assert len(together) == 2


def test_statements_run_together_are_refused_together(session: Session) -> None:
    session.execute(text("CREATE TEMP TABLE one (n int PRIMARY KEY)"))
    one = insert_statement("one", ["n"], [[1]])
    session.commit()
    with pytest.raises(IntegrityError):
        run_together(session, [one, insert_statement("one", ["n"], [[2], [2]])])
    session.rollback()
    assert fetch_rows(session, "SELECT * FROM one") == []


def test_row_that_changed_is_written_once(session: Session) -> None:
    user = create_user(
        session,
        email="a@example.com",
        display_name="Before",
        password="correct horse battery",
        staff_role=None,
        actor=SYSTEM,
    )
    session.commit()
    written = "SELECT display_name, email_verified_at FROM users WHERE id = %(id)s"
    before = fetch_rows(session, written, id=user)
    row = session.get_one(User, user)
    row.display_name, row.email_verified_at = "After", (verified_at := datetime.now(UTC))
    run_together(session, [update_statement(row)])
    assert not session.is_modified(row)
    assert fetch_rows(session, written, id=user) == [("After", verified_at)]
    session.rollback()
    assert fetch_rows(session, written, id=user) == before
    assert row.display_name == "Before"


def test_row_that_is_not_in_the_database_cannot_be_updated() -> None:
    with pytest.raises(ValueError, match="not in the database"):
        update_statement(User(display_name="New"))
