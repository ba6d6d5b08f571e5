"""Databases of tests: what one leaves behind, the next does not find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from tests.support.databases import FreshDatabases

WRITE = "INSERT INTO users (email, display_name, password_hash) VALUES ('a@example.com', 'A', 'x')"

STATE = """
SELECT pg_backend_pid(), current_setting('lock_timeout'), current_user,
  to_regclass('left_over') IS NULL, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')
"""


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = create_engine(url)
    with engine.begin() as connection:
        answer = connection.execute(text(statement))
        rows = [tuple(row) for row in answer] if answer.returns_rows else []
    engine.dispose()
    return rows


def after(databases: FreshDatabases, statement: str) -> tuple[str, str]:
    """Run a statement in a fresh database, and return its URL and that of the next."""
    first = databases.take()
    run(first, statement)
    databases.refund_attempt(first)
    return first, databases.take()


def test_rows_and_numbers_of_one_test_are_gone_in_the_next(fresh_databases: FreshDatabases) -> None:
    first, second = after(fresh_databases, WRITE)
    assert second == first, "it was used again"
    assert run(second, "SELECT * FROM users") == []
    assert run(second, f"{WRITE} RETURNING id") == [(1,)]
    fresh_databases.refund_attempt(second)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit_log (actor, action, details) VALUES ('tests', 'try', '{}')",
        "UPDATE sites SET legal_entity = 'Another', expiry_grace = '2 hours'",
        "INSERT INTO tax_policies SELECT 'vn', '2099-01-01', 'USAGE', 0, ''",
    ],
)
def test_reference_rows_are_as_they_were(fresh_databases: FreshDatabases, statement: str) -> None:
    kept = "SELECT t::text FROM {} AS t ORDER BY 1"
    tables = ("audit_log", "sites", "tax_policies")
    url = fresh_databases.take()
    before = [run(url, kept.format(table)) for table in tables]
    assert all(before)
    fresh_databases.refund_attempt(url)
    first, second = after(fresh_databases, statement)
    assert second == first, "it was used again"
    assert [run(second, kept.format(table)) for table in tables] == before
    fresh_databases.refund_attempt(second)


def test_database_of_another_schema_is_dropped(fresh_databases: FreshDatabases) -> None:
    for statement in (
        "ALTER TABLE entries DISABLE TRIGGER USER",
        "CREATE TABLE left_over (id int)",
    ):
        first, second = after(fresh_databases, statement)
        assert second != first, statement
        fresh_databases.refund_attempt(second)


def test_database_that_somebody_is_connected_to_is_left(fresh_databases: FreshDatabases) -> None:
    url = fresh_databases.take()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
        fresh_databases.refund_attempt(url)
        other = fresh_databases.take()
        assert other != url
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()
    fresh_databases.refund_attempt(other)


def test_connection_is_used_again_as_if_it_were_new(fresh_databases: FreshDatabases) -> None:
    url = fresh_databases.take()
    engine = create_engine(url)
    with engine.begin() as connection:
        before = connection.execute(text(STATE)).one()
        connection.execute(text("SET lock_timeout = '7s'"))
        connection.execute(text("SET ROLE credit_portal_runtime"))
        connection.execute(text("SELECT pg_advisory_lock(7)"))
        connection.execute(text("CREATE TEMP TABLE left_over (id int)"))
        assert connection.execute(text(STATE)).one() != before
    engine.dispose()
    [again] = run(url, STATE)
    assert again == tuple(before), "also of the same process"
    fresh_databases.refund_attempt(url)


def test_connection_that_the_server_ended_is_not_used_again(
    fresh_databases: FreshDatabases,
) -> None:
    url = fresh_databases.take()
    [(process,)] = run(url, "SELECT pg_backend_pid()")
    other = create_engine(url)
    with other.connect(), other.connect() as connection:  # the first is the one that was kept
        connection.execute(text(f"SELECT pg_terminate_backend({process}, 10000)"))
    other.dispose()
    [(next_process,)] = run(url, "SELECT pg_backend_pid()")
    assert next_process != process
    fresh_databases.refund_attempt(url)
