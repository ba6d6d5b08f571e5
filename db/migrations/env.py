"""Alembic's environment: one transaction for all migrations, and no long wait for a lock."""

from __future__ import annotations

import os

from alembic import context
from alembic.util import CommandError
from sqlalchemy import text

from db.engine import ADDRESS_FORM, make_engine, psycopg2_url
from db.migrate import check_version
from db.models import Base

LOCK_TIMEOUT = "5s"
"""A migration that cannot get its lock gives up, rather than queue every reader behind it."""

MIGRATION_LOCK = 7_203_101
"""Two processes that start together migrate one after the other."""


def run() -> None:
    """Migrate over the connection given by `db.migrate`, or by the environment from the shell."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        migrate(connection)
        return
    engine = make_engine(url_from_environment(), role=None, statement_timeout_seconds=0)
    with engine.begin() as own:
        check_version(own)
        migrate(own)
    engine.dispose()


def url_from_environment() -> str:
    """Return the address of the database as its tables' owner. Raises CommandError without one."""
    for name in ("MIGRATION_DATABASE_URL", "DATABASE_URL"):
        given = os.environ.get(name, "").strip()
        if given:
            try:
                return psycopg2_url(given)
            except ValueError as error:
                raise CommandError(f"{name} looks like {ADDRESS_FORM}.") from error
    raise CommandError(
        f"Set DATABASE_URL to the database that Alembic shall work on, such as {ADDRESS_FORM}."
    )


def migrate(connection) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Run what Alembic was asked for on `connection`."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
