"""Brings a database to the newest version of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from db.engine import make_engine

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection


def alembic_config() -> Config:
    """Return Alembic's settings: alembic.ini, which its own command reads, is not installed."""
    config = Config()
    config.set_main_option("script_location", "db:migrations")
    config.set_main_option("path_separator", "os")
    return config


class UnknownVersionError(CommandError):
    """The database has a version that this code does not know; the message states what to do."""

    def __init__(self, version: str, data_directory: Path | None = None) -> None:
        """`data_directory` is the folder of the built-in PostgreSQL, where it is that one's."""
        database, advice = "The database", "create an empty database and set DATABASE_URL to it"
        if data_directory is not None:
            database = "The built-in database"
            advice = f"remove the folder {data_directory} to start with an empty one"
        super().__init__(
            f"{database} has version {version}, of a development version before the first release"
            f" or of a newer portal, and cannot be migrated: {advice}."
        )


def migrate(url: str, *, data_directory: Path | None = None) -> str:
    """Run every missing migration on a database, as its owner.

    Args:
        url: The database's address.
        data_directory: The folder of the built-in PostgreSQL, where the database is in it.

    Returns:
        The version that the database has then.

    Raises:
        UnknownVersionError: it has a version that is not among the migrations; nothing is changed.
    """
    engine = make_engine(url, role=None, statement_timeout_seconds=0)
    try:
        with engine.begin() as connection:
            check_version(connection, data_directory)
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return _version(connection)
    finally:
        engine.dispose()


def newest_version() -> str:
    """Return the version that this code expects."""
    return _scripts().get_current_head() or ""


def check_version(connection: Connection, data_directory: Path | None = None) -> None:
    """Raise UnknownVersionError where the database has a version that no migration leads to."""
    version = _version(connection)
    known = {script.revision for script in _scripts().walk_revisions()}
    if version and version not in known:
        raise UnknownVersionError(version, data_directory)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())


def _version(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""
