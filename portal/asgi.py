"""The ASGI application: Streamlit's pages and the portal's own routes in one process."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from streamlit.runtime.pages_manager import PagesManager

from portal import startup
from portal.routes import (
    exports,
    files,
    health,
    invitations,
    mailbox,
    payments,
    proxies,
    receipts,
    second_factor,
    security,
    sign_in,
    staff_invitations,
    statements,
    two_factor,
    uploads,
)
from portal.routes.middleware import Observed, SecurityHeaders
from portal.routes.session_gate import SessionGate
from portal.runtime import logs
from portal.runtime.settings import SettingsError, settings
from portal.shell import page_runs
from portal.shell.open_pages import open_pages, watch
from portal.ui.sent_values import check_sent_values

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.routing import BaseRoute

MAIN = Path(__file__).with_name("main.py")
"""The script that every run of every page begins with."""

_ROUTES = (
    sign_in,
    second_factor,
    security,
    two_factor,
    invitations,
    staff_invitations,
    statements,
    exports,
    files,
    uploads,
    payments,
    receipts,
    mailbox,
    health,
)
_MAX_TURN_SECONDS = 0.0005
"""How long a page may compute while others wait. At Python's own 5 ms, whoever comes back from the
database stands in line for as long as the question took, again and again."""


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Have a database and everything else running while the process serves."""
    # Once more: Streamlit and uvicorn have set up logs of their own since this was imported.
    logs.set_up(settings())
    running = await run_in_threadpool(startup.prepare, settings())
    try:
        # Objects created at start-up stay for good: the collector need not scan them again.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(_MAX_TURN_SECONDS)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch(open_pages()))
            yield {}
            watching.cancel()
    finally:
        await run_in_threadpool(running.stop)


def own_routes() -> list[BaseRoute]:
    """Return every route of our own, in the order in which they are tried."""
    return [route for module in _ROUTES for route in module.routes()]


def middleware(own_routes: list[BaseRoute]) -> list[Middleware]:
    """Return the middleware of every request, before it reaches a page or one of these routes."""
    stack = [
        # Outermost: answers of the other middleware have these headers too.
        Middleware(SecurityHeaders),
        Middleware(Observed, own_routes=own_routes),
        Middleware(SessionGate, own_routes=own_routes, pages=open_pages()),
    ]
    trusted = settings().trusted_proxies
    if trusted is not None or not proxies.server_reads_headers():
        own = proxies.THIS_COMPUTER if trusted is None else trusted
        stack.insert(0, Middleware(proxies.ForwardedClient, trusted=own))
    return stack


def _check_settings() -> None:
    """Raise SettingsError where the settings, or the server beside them, cannot be used."""
    if settings().trusted_proxies is not None and proxies.server_reads_headers():
        raise SettingsError((proxies.TWO_READERS,))


def create_app() -> st.App:
    """Return the application of these settings. Raises SettingsError."""
    return st.App(MAIN, **app_options())


def app_options() -> dict[str, Any]:
    """Return the options of `streamlit.App` besides `MAIN`. Raises SettingsError."""
    _check_settings()
    logs.set_up(settings())
    check_sent_values()
    # Streamlit would run a page directly, without portal/main.py before it, for the first request
    # after a start that uses a page's address: there is a folder of that name.
    PagesManager.uses_pages_directory = False
    routes = own_routes()
    return {
        "routes": routes,
        "middleware": middleware(routes),
        "lifespan": lifespan,
        "on_script_error": page_runs.show_error,
    }
