"""Liveness and readiness of this process: for load balancers and watchdogs."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from db.migrate import newest_version
from portal.routes.responses import plain_answer
from portal.runtime import database

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

_OK = 200
_UNAVAILABLE = 503


def routes() -> list[BaseRoute]:
    """Return /health (the process answers) and /ready (so does a database of this version)."""
    return [Route("/health", Probe(None)), Route("/ready", Probe(_readiness))]


class Probe:
    """The ASGI application behind one check that is answered by a word.

    Without a check it is "ok", at once: however long others wait for a thread.
    """

    def __init__(self, ask: Callable[[], str] | None) -> None:
        self._ask = ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 200 where the word is "ok", else 503."""
        if Request(scope).method not in {"GET", "HEAD"}:
            await plain_answer(405, {"Allow": "GET, HEAD"})(scope, receive, send)
            return
        status = "ok" if self._ask is None else await run_in_threadpool(self._ask)
        code = _OK if status == "ok" else _UNAVAILABLE
        response = JSONResponse({"status": status}, code, {"Cache-Control": "no-store"})
        await response(scope, receive, send)


def _readiness() -> str:
    try:
        version = database.read_snapshot(_database_version)
    except (SQLAlchemyError, RuntimeError):
        return "database unreachable"
    return "ok" if version == _expected_version() else "database not migrated"


def _database_version(session: Session) -> str | None:
    version: str | None = session.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar_one_or_none()
    return version


@cache
def _expected_version() -> str:
    return newest_version()
