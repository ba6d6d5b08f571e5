"""Migrations make what the models declare, also from a shell, and refuse unknown versions."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Column, MetaData, Text, text

from db.engine import ADDRESS_FORM, make_engine, psycopg2_url
from db.migrate import UnknownVersionError, migrate, newest_version
from db.models import Base
from tests.conftest import database_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

ROOT = Path(__file__).resolve().parents[3]
OF_DEVELOPMENT = "0033"
"""The last version before the migrations of development became one."""

# All that Alembic does not compare: CHECKs, the text of indexes, how tables are stored. A table is
# made by the models in a schema of its own, whose name is left out.
DESCRIBED = """
SELECT relname, conname, pg_get_constraintdef(c.oid)
FROM pg_constraint c JOIN pg_class t ON t.oid = conrelid
WHERE t.relnamespace = to_regnamespace(:schema) AND contype IN ('c', 'f', 'p', 'u')
UNION ALL
SELECT tablename, indexname, replace(indexdef, ' ON ' || :schema || '.', ' ON ')
FROM pg_indexes WHERE schemaname = :schema
UNION ALL
SELECT relname, 'options', array_to_string(reloptions, ' ')
FROM pg_class WHERE relnamespace = to_regnamespace(:schema) AND relkind = 'r'
"""


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A connection to a migrated database as its owner; what it changes is rolled back."""
    with opened(database_url) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def empty_url(server_url: str, run_on_server: Callable[[str], None]) -> Iterator[str]:
    """The URL of a database with nothing in it, in the form that people write."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    run_on_server(f'CREATE DATABASE "{name}"')
    yield database_on(server_url, name).replace("postgresql+psycopg2://", "postgresql://")
    run_on_server(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def development_url(empty_url: str) -> str:
    """The URL of a database that a development version made; nothing else is in it."""
    with opened(empty_url) as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
        version = text("INSERT INTO alembic_version VALUES (:version)")
        connection.execute(version, {"version": OF_DEVELOPMENT})
    return empty_url


@contextmanager
def opened(url: str) -> Iterator[Connection]:
    engine = make_engine(psycopg2_url(url), role=None)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def copied_models() -> MetaData:
    """Return models that a test may change."""
    copied = MetaData(naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.sorted_tables:
        table.to_metadata(copied)
    return copied


# ── Migrations and models ─────────────────────────────────────────────────────────────────────
def differences(connection: Connection, models: MetaData) -> list[Any]:
    """Return what Alembic would change so that the database is as the models say."""
    options = {"compare_type": True, "compare_server_default": True}
    found: list[Any] = compare_metadata(
        MigrationContext.configure(connection, opts=options), models
    )
    return found


def described(connection: Connection, schema: str) -> set[tuple[str, str, str]]:
    connection.execute(text(f"SET LOCAL search_path = {schema}, public"))
    rows = connection.execute(text(DESCRIBED), {"schema": schema})
    return {(row[0], row[1], row[2]) for row in rows if row[0] != "alembic_version"}


def undeclared(connection: Connection, models: MetaData) -> set[tuple[str, str, str]]:
    """Return the constraints, indexes and options that only one of database and models has."""
    migrated = described(connection, "public")
    connection.execute(text("CREATE SCHEMA models"))
    connection.execute(text("SET LOCAL search_path = models, public"))
    models.create_all(connection, checkfirst=False)
    return migrated ^ described(connection, "models")


def test_migrations_make_the_tables_of_the_models(connection: Connection) -> None:
    assert differences(connection, Base.metadata) == []


def test_migrations_make_the_constraints_and_indexes_of_the_models(connection: Connection) -> None:
    assert undeclared(connection, Base.metadata) == set()


def test_column_of_models_alone_is_found(connection: Connection) -> None:
    models = copied_models()
    assert differences(connection, models) == []
    models.tables["accounts"].append_column(Column("colour", Text))
    [(change, _schema, table, column)] = differences(connection, models)
    assert (change, table, column.name) == ("add_column", "accounts", "colour")


@pytest.mark.parametrize(
    ("statement", "change"),
    [
        ("ALTER TABLE accounts ADD COLUMN colour text", "remove_column"),
        ("ALTER TABLE daily_totals DROP COLUMN calls CASCADE", "add_column"),
        ("CREATE TABLE colours (name text)", "remove_table"),
        ("DROP INDEX ix_users_staff", "add_index"),
        ("ALTER TABLE services ALTER COLUMN position TYPE bigint", "modify_type"),
        ("ALTER TABLE services ALTER COLUMN position SET DEFAULT 7", "modify_default"),
        ("ALTER TABLE services ALTER COLUMN position DROP NOT NULL", "modify_nullable"),
    ],
)
def test_other_table_in_the_database_is_found(
    connection: Connection, statement: str, change: str
) -> None:
    connection.execute(text(statement))
    [found] = differences(connection, Base.metadata)
    [found] = found if isinstance(found, list) else [found]
    assert found[0] == change


def test_check_of_models_alone_is_found(connection: Connection) -> None:
    models = copied_models()
    models.tables["accounts"].append_constraint(CheckConstraint("name <> ''", name="named"))
    [(table, name, check)] = undeclared(connection, models)
    assert (table, name) == ("accounts", "ck_accounts_named")
    assert check == "CHECK ((name <> ''::text))"


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("ALTER TABLE accounts DROP CONSTRAINT ck_accounts_status", "accounts"),
        ("ALTER TABLE accounts ADD CONSTRAINT named CHECK (name <> '')", "accounts"),
        ("CREATE INDEX colours ON users (staff_role) WHERE staff_role = 'admin'", "users"),
        ("ALTER TABLE grant_balances RESET (fillfactor)", "grant_balances"),
    ],
)
def test_other_constraint_in_the_database_is_found(
    connection: Connection, statement: str, table: str
) -> None:
    connection.execute(text(statement))
    assert {row[0] for row in undeclared(connection, Base.metadata)} == {table}


def test_migrating_again_changes_nothing(database_url: str, connection: Connection) -> None:
    tables = "SELECT oid, xmin::text FROM pg_class WHERE oid >= 16384 ORDER BY 1"
    before = connection.execute(text(tables)).all()
    assert migrate(database_url) == newest_version() == "20261130_baseline"
    assert connection.execute(text(tables)).all() == before


# ── Versions that are not among the migrations ────────────────────────────────────────────────
REFUSED = (
    "{} has version 0033, of a development version before the first release or of a newer portal,"
    " and cannot be migrated: {}."
)


@pytest.mark.parametrize(
    ("folder", "database", "advice"),
    [
        (None, "The database", "create an empty database and set DATABASE_URL to it"),
        (
            Path("/srv/portal/data"),
            "The built-in database",
            "remove the folder /srv/portal/data to start with an empty one",
        ),
    ],
    ids=["given", "built-in"],
)
def test_database_of_a_development_version_is_refused_and_not_changed(
    development_url: str, folder: Path | None, database: str, advice: str
) -> None:
    with pytest.raises(UnknownVersionError) as refused:
        migrate(psycopg2_url(development_url), data_directory=folder)
    assert str(refused.value) == REFUSED.format(database, advice)
    with opened(development_url) as connection:
        tables = text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert connection.execute(tables).scalars().all() == ["alembic_version"]
        version = text("SELECT version_num FROM alembic_version")
        assert connection.execute(version).scalars().all() == [OF_DEVELOPMENT]


# ── From a shell ──────────────────────────────────────────────────────────────────────────────
def alembic(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Alembic as people do in the root of the project."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")
    }
    return subprocess.run(  # noqa: S603 - our own arguments
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_alembic_upgrades_the_database_of_the_environment(empty_url: str, scheme: str) -> None:
    url = empty_url.replace("postgresql://", f"{scheme}://")
    before = alembic("current", DATABASE_URL=url)
    assert (before.returncode, before.stdout) == (0, "")
    assert alembic("upgrade", "head", DATABASE_URL=url).returncode == 0
    after = alembic("current", DATABASE_URL=url)
    assert (after.returncode, after.stdout) == (0, f"{newest_version()} (head)\n")
    assert alembic("check", DATABASE_URL=url).returncode == 0


def test_alembic_works_as_the_owner_of_the_tables(empty_url: str) -> None:
    nobody = "postgresql://nobody@127.0.0.1:1/nothing"
    settings = {"DATABASE_URL": nobody, "MIGRATION_DATABASE_URL": empty_url}
    assert alembic("upgrade", "head", **settings).returncode == 0
    assert alembic("current", **settings).stdout == f"{newest_version()} (head)\n"


@pytest.mark.parametrize("command", [("upgrade", "head"), ("current",)])
def test_alembic_without_a_database_says_what_to_set(command: tuple[str, ...]) -> None:
    for given in ({}, {"DATABASE_URL": " "}):
        refused = alembic(*command, **given)
        assert refused.returncode != 0
        assert "Traceback" not in refused.stdout + refused.stderr
        assert (
            "Set DATABASE_URL to the database that Alembic shall work on, such as"
            f" {ADDRESS_FORM}." in refused.stdout + refused.stderr
        )


@pytest.mark.parametrize("address", ["mysql://a:secret@b/c", "secret", "postgresql://a@b:secret/c"])
def test_alembic_with_another_address_shows_the_form_and_no_secret(address: str) -> None:
    refused = alembic("current", DATABASE_URL=address)
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert f"DATABASE_URL looks like {ADDRESS_FORM}." in said
    assert "Traceback" not in said
    assert "secret" not in said


def test_alembic_refuses_a_development_version(development_url: str) -> None:
    refused = alembic("upgrade", "head", DATABASE_URL=development_url)
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert "The database has version 0033" in said
    assert "Traceback" not in said
