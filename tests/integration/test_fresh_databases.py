"""Databases of tests: what one leaves behind, the next does not find."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def test_database_that_is_another_than_before_is_dropped(fresh_databases: FreshDatabases) -> None:
    for statement in (
        "ALTER TABLE entries DISABLE TRIGGER USER",
        "CREATE TABLE left_over (id int)",
        "UPDATE sites SET legal_entity = 'Another'",
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
