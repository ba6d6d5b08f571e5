"""Databases of tests: what one leaves behind, the next does not find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from tests.support.databases import FreshDatabases

WRITE = "INSERT INTO users (email, display_name, password_hash) VALUES ('a@example.com', 'A', 'x')"


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
    databases.give_back(first)
    return first, databases.take()


def test_rows_and_numbers_of_one_test_are_gone_in_the_next(fresh_databases: FreshDatabases) -> None:
    first, second = after(fresh_databases, WRITE)
    assert second == first, "it was used again"
    assert run(second, "SELECT * FROM users") == []
    assert run(second, f"{WRITE} RETURNING id") == [(1,)]
    fresh_databases.give_back(second)


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
    fresh_databases.give_back(url)
    first, second = after(fresh_databases, statement)
    assert second == first, "it was used again"
    assert [run(second, kept.format(table)) for table in tables] == before
    fresh_databases.give_back(second)


def test_database_of_another_schema_is_dropped(fresh_databases: FreshDatabases) -> None:
    for statement in (
        "ALTER TABLE entries DISABLE TRIGGER USER",
        "CREATE TABLE left_over (id int)",
    ):
        first, second = after(fresh_databases, statement)
        assert second != first, statement
        fresh_databases.give_back(second)


def test_database_that_somebody_is_connected_to_is_left(fresh_databases: FreshDatabases) -> None:
    url = fresh_databases.take()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
        fresh_databases.give_back(url)
        other = fresh_databases.take()
        assert other != url
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()
    fresh_databases.give_back(other)
