"""The ASGI application: Streamlit's pages and the portal's own routes in one process.

`streamlit run app.py` and `uvicorn app:app` both serve it.
"""

from __future__ import annotations

import gc
import logging
import secrets
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from portal import startup
from portal.i18n import _
from portal.middleware import SecurityHeaders, SignInFirst
from portal.routes import health, invitations, mailbox, security, sign_in, statements
from portal.settings import SettingsError, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.routing import BaseRoute

_log = logging.getLogger("portal")


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Have a database and everything else running while the process serves."""
    running = await run_in_threadpool(startup.prepare, settings())
    try:
        # What start-up made stays for good: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        yield {}
    finally:
        await run_in_threadpool(running.stop)


def show_script_error(error: Exception) -> bool:
    """Say that something went wrong, with an id that the log has too, and no detail."""
    error_id = secrets.token_hex(4)
    _log.error("error %s on a page", error_id, exc_info=error)
    text = _("Something went wrong. If it happens again, tell us this number: {id}")
    st.error(text.format(id=error_id))
    return True


class PathsWithoutQueries(logging.Filter):
    """Keeps the access log free of what stands behind the path: a mailed link's token does."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Cut the query off the line's path, and let the line pass."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                value.partition("?")[0] if isinstance(value, str) else value
                for value in record.args
            )
        return True


def _middleware(own_routes: list[BaseRoute]) -> list[Middleware]:
    own_paths = frozenset(getattr(route, "path", "") for route in own_routes)
    stack = [Middleware(SecurityHeaders), Middleware(SignInFirst, own_paths=own_paths)]
    proxies = settings().trusted_proxies
    if proxies:
        stack.insert(0, Middleware(ProxyHeadersMiddleware, trusted_hosts=list(proxies)))
    return stack


try:
    settings()
except SettingsError as problem:
    sys.exit(f"The settings need a change:\n{problem}")

logging.getLogger("uvicorn.access").addFilter(PathsWithoutQueries())

_routes = [
    *sign_in.routes(),
    *security.routes(),
    *invitations.routes(),
    *statements.routes(),
    *mailbox.routes(),
    *health.routes(),
]

app = st.App(
    Path(__file__).resolve().parent / "portal" / "main.py",
    routes=_routes,
    middleware=_middleware(_routes),
    lifespan=lifespan,
    on_script_error=show_script_error,
)
