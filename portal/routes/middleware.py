"""Middleware of every request, Streamlit's pages included: an id, a log line, headers."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from portal.routes.responses import apologise, plain_answer
from portal.routes.session_gate import PAGE_FILES, STREAMLIT_PREFIXES, own_route
from portal.runtime import logs, metrics
from portal.runtime.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = "X-Request-Id"

_log = logging.getLogger(__name__)

PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self';"
    " worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self';"
    " frame-ancestors 'none'"
)
"""What Streamlit's own pages need, and no more; the forms of our own routes set a stricter one."""

_YEAR_SECONDS = 31_536_000


class Observed:
    """Give every request an id, count and time it, and log a line about it.

    The line names the route's template and no address: an address may contain a mailed link's
    token.
    """

    def __init__(self, app: ASGIApp, own_routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._own_routes = tuple(own_routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer back with its id."""
        scope = _readable(scope)
        if scope["type"] == "websocket":
            with metrics.websocket_open():
                await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        activity = logs.begin()
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = activity.id
            await send(message)

        # Characters beyond ASCII are escaped in an address, and Starlette relies on that; not every
        # server that Streamlit or uvicorn may run under enforces it.
        app = self._app if scope["query_string"].isascii() else plain_answer(400)
        try:
            await app(scope, receive, send_with_id)
        except Exception as error:
            if status:
                raise
            await apologise(Request(scope), error)(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            route = self._template(scope)
            metrics.request_answered(scope["method"], route, status, seconds)
            # Streamlit's own files are many, and their requests are of no interest.
            level = logging.DEBUG if route.endswith("*") else logging.INFO
            _log.log(
                level,
                "%s %s %d in %d ms",
                scope["method"],
                route,
                status,
                seconds * 1000,
                extra={
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "duration_milliseconds": round(seconds * 1000, 1),
                },
            )

    def _template(self, scope: Scope) -> str:
        """Return the path of the route that answered, without its parameters."""
        route = own_route(scope, self._own_routes)
        if route is not None:
            return str(getattr(route, "path", "own"))
        path: str = scope["path"]
        for prefix in (PAGE_FILES, *STREAMLIT_PREFIXES):
            if path.startswith(prefix):
                return f"{prefix}*"
        return "page"


def _readable(scope: Scope) -> Scope:
    """Return a request without headers that are expensive to parse.

    No cookie of ours has a backslash. Reading them, Python before 3.11.10 and 3.12.6 takes the
    square of their number.
    """
    headers = scope.get("headers", ())
    if not any(name == b"cookie" and b"\\" in value for name, value in headers):
        return scope
    plain = [
        (name, value.replace(b"\\", b"") if name == b"cookie" else value) for name, value in headers
    ]
    return {**scope, "headers": plain}


class SecurityHeaders:
    """Forbid in browsers what this portal never does: foreign code, framing, leaking addresses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = {
            "Content-Security-Policy": PAGE_POLICY,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            # Not no-referrer: with it browsers send forms with the origin "null".
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        }
        if settings().secure_cookies:
            self._headers["Strict-Transport-Security"] = f"max-age={_YEAR_SECONDS}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers that the answer does not have yet."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
