"""Alembic's environment: one transaction for all migrations, and no long wait for a lock."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import text

from db.engine import make_engine
from db.models import Base

LOCK_TIMEOUT = "5s"
"""A migration that cannot get its lock gives up, rather than queue every reader behind it."""

MIGRATION_LOCK = 7_203_101
"""Two processes that start together migrate one after the other."""


def run() -> None:
    """Migrate over the connection given by `db.migrate`, or by DATABASE_URL from the shell."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        migrate(connection)
        return
    url = os.environ.get("MIGRATION_DATABASE_URL") or os.environ["DATABASE_URL"]
    engine = make_engine(url, role=None, statement_timeout_seconds=0)
    with engine.begin() as own:
        migrate(own)
    engine.dispose()


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
