"""What happens to every request, Streamlit's pages included: an id, headers, the way to sign in."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.routing import Match

from portal import cookies, logs, metrics
from portal.routes.web import apologise, redirect, sign_in_path
from portal.settings import settings

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

_STREAMLIT_PREFIXES = ("/_stcore/", "/media/", "/component/", "/static/", "/app/static/")
_YEAR_SECONDS = 31_536_000


class Observed:
    """Give every request an id, count and time it, and write a line about it.

    The line names the route's template and no address: a mailed link's token stands in one.
    """

    def __init__(self, app: ASGIApp, own_routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._own_routes = tuple(own_routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer back with its id."""
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

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if status:
                raise
            await apologise(Request(scope), error)(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            route = self._template(scope)
            metrics.request_answered(scope["method"], route, status, seconds)
            # Streamlit's own files are many, and nobody asks who had them.
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
        """Return the path of the route that answered, without what was filled in."""
        for route in self._own_routes:
            if route.matches(scope)[0] is not Match.NONE:
                return str(getattr(route, "path", "own"))
        path: str = scope["path"]
        for prefix in _STREAMLIT_PREFIXES:
            if path.startswith(prefix):
                return f"{prefix}*"
        return "page"


class SecurityHeaders:
    """Tell browsers what this portal never does: run foreign code, be framed, leak addresses."""

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


class SignInFirst:
    """Send a browser without a session cookie to sign in, before a page is loaded for nothing.

    This saves time and protects nothing: pages ask the database who is signed in, and services
    check what they may do.
    """

    def __init__(self, app: ASGIApp, own_paths: frozenset[str]) -> None:
        self._app = app
        self._own_paths = own_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a redirect, or pass the request on."""
        if scope["type"] == "http" and self._is_page(scope) and not _has_session_cookie(scope):
            await redirect(sign_in_path(_target(scope)))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_page(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return (
            scope["method"] in {"GET", "HEAD"}
            and path not in self._own_paths
            and not path.startswith(_STREAMLIT_PREFIXES)
            and "text/html" in Headers(scope=scope).get("accept", "")
        )


def _has_session_cookie(scope: Scope) -> bool:
    sent = cookie_parser(Headers(scope=scope).get("cookie", ""))
    return bool(sent.get(cookies.session_cookie(settings())))


def _target(scope: Scope) -> str:
    path = quote(scope["path"], safe="/")
    query = scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
