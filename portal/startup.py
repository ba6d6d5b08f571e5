"""From settings to a portal that can serve: its database, its tables, what it is configured by."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

from db import embedded
from db.migrate import migrate
from domain.actors import system_actor
from domain.reference import load_reference
from portal import backend, mail

if TYPE_CHECKING:
    from collections.abc import Callable

    from portal.settings import Settings

_log = logging.getLogger(__name__)


class Running:
    """What `prepare` started; `stop` ends it in the opposite order."""

    def __init__(self, database_url: str, stack: ExitStack) -> None:
        self.database_url = database_url
        self._stack = stack

    def stop(self) -> None:
        """Stop what was started. Again: no effect."""
        self._stack.close()


def prepare(settings: Settings, *, report: Callable[[str], None] = _log.info) -> Running:
    """Start the database if it is the portal's own, bring it up to date, and connect to it.

    `report` is told in plain words what takes long. Raises EmbeddedPostgresError where there can
    be no database of its own, and SQLAlchemy's errors where the given one cannot be used.
    """
    with ExitStack() as stack:
        url = settings.database_url
        if url is None:
            server = embedded.acquire(settings.data_directory, report=report)
            stack.callback(server.release)
            url = server.url
        migrate(settings.migration_database_url or url)
        backend.connect(
            url,
            pool_size=settings.database_pool_size,
            statement_timeout_seconds=settings.statement_timeout_seconds,
        )
        stack.callback(backend.disconnect)
        backend.write(load_reference, actor=system_actor("startup"))
        if mail.make_sender(settings) is None and not settings.demo:
            _log.warning("SMTP_HOST is not set: mail waits in the outbox, and nobody can sign up")
        return Running(url, stack.pop_all())
