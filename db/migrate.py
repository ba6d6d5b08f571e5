"""Brings a database to the newest version of its tables."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from db.engine import make_engine

_INI = Path(__file__).resolve().parent.parent / "alembic.ini"


def migrate(url: str) -> str:
    """Run every missing migration on the database at `url`, as its owner; return the version."""
    engine = make_engine(url, role=None, statement_timeout_seconds=0)
    try:
        with engine.begin() as connection:
            config = Config(str(_INI))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return _version(connection)
    finally:
        engine.dispose()


def newest_version() -> str:
    """Return the version that this code expects."""
    return ScriptDirectory.from_config(Config(str(_INI))).get_current_head() or ""


def _version(connection) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    return MigrationContext.configure(connection).get_current_revision() or ""
