"""Access to Streamlit's own addresses: which need a session, and whose.

Streamlit itself lets anyone open its websocket, upload files, and fetch files by their address.
Pages ask the database who is signed in at every run, and services check what they may do; this gate
makes sure that no one else has Streamlit hold anything for them, and that no one reaches another
person's page by its id.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.routing import Match

from portal.routes.requests import is_own_origin
from portal.routes.responses import plain_answer, redirect
from portal.runtime import cookies
from portal.runtime.sessions import find_signed_in_user
from portal.runtime.settings import settings
from portal.shell.open_pages import (
    POLICY_VIOLATION,
    TRY_AGAIN_LATER,
    OpenPage,
    OpenPages,
    reload_message,
)
from portal.ui.urls import sign_in_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from domain import identity

STREAM = "/_stcore/stream"
PAGE_FILES = "/static/"
STREAMLIT_PREFIXES = (
    "/_stcore/",
    "/media/",
    "/component/",
    "/app/static/",
    "/auth/",
    "/oauth2callback",
)
"""Where Streamlit itself answers. Nothing of this portal needs any of it but the stream."""

PINGED = frozenset({"/_stcore/health", "/_stcore/host-config"})
"""What an open page asks before it connects again. They say nothing of anybody."""

SESSION_HEADER = "X-Portal-Session"
"""Names the session to Streamlit, which lets no other come back to a page: see
`server.trustedUserHeaders` in `.streamlit/config.toml`. What a browser sends by it is dropped."""

_log = logging.getLogger(__name__)
_SESSION_HEADER_BYTES = SESSION_HEADER.lower().encode()


def own_route(scope: Scope, routes: Sequence[BaseRoute]) -> BaseRoute | None:
    """Return the route of ours that answers a request, if any."""
    return next((each for each in routes if each.matches(scope)[0] is not Match.NONE), None)


class SessionGate:
    """Checks who is signed in before a request reaches Streamlit."""

    def __init__(self, app: ASGIApp, own_routes: Sequence[BaseRoute], pages: OpenPages) -> None:
        self._app = app
        self._own_routes = tuple(own_routes)
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, send its person to sign in, or refuse it."""
        if scope["type"] == "websocket":
            await self._connect(scope, receive, send)
            return
        refusal = await self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        path: str = scope["path"]
        if own_route(scope, self._own_routes) or path in PINGED or path.startswith(PAGE_FILES):
            return None
        if path.startswith(STREAMLIT_PREFIXES):
            return plain_answer(404)
        if scope["method"] not in {"GET", "HEAD"}:
            return plain_answer(405, {"Allow": "GET, HEAD"})
        # Only pages are loaded after a sign-in; other addresses, such as an icon's, belong to no
        # one.
        if (
            "text/html" in Headers(scope=scope).get("accept", "")
            and await _signed_in_user(scope) is None
        ):
            return redirect(sign_in_path(_target(scope)))
        return None

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["path"] != STREAM or ("origin" in headers and not is_own_origin(headers)):
            await _refuse(send, POLICY_VIOLATION)
            return
        try:
            user = await _signed_in_user(scope)
        except Exception as error:  # noqa: BLE001 - the page tries again by itself
            _log.warning("a page could not connect: %s", error)
            await _refuse(send, TRY_AGAIN_LATER)
            return
        if user is None:
            await _send_to_sign_in(headers, receive, send)
        elif not self._pages.has_room(user.user_id):
            _log.warning("user %d has too many pages open", user.user_id)
            await _refuse(send, POLICY_VIOLATION)
        else:
            page = OpenPage(receive, send)
            named = _naming_session(scope, user.session_id)
            with self._pages.opened(page, session_id=user.session_id, user_id=user.user_id):
                await self._app(named, page.receive, page.send)


async def _signed_in_user(scope: Scope) -> identity.SignedInUser | None:
    sent = cookie_parser(Headers(scope=scope).get("cookie", ""))
    token = sent.get(cookies.session_cookie(settings()))
    return await run_in_threadpool(find_signed_in_user, token) if token else None


def _naming_session(scope: Scope, session_id: str) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name != _SESSION_HEADER_BYTES]
    return {**scope, "headers": [*headers, (_SESSION_HEADER_BYTES, session_id.encode())]}


async def _refuse(send: Send, code: int) -> None:
    await send({"type": "websocket.close", "code": code})


async def _send_to_sign_in(headers: Headers, receive: Receive, send: Send) -> None:
    """Have a page that stayed open without a session load anew: a refusal, it would repeat."""
    await receive()
    protocol = headers.get("sec-websocket-protocol", "").partition(",")[0].strip()
    await send({"type": "websocket.accept", "subprotocol": protocol or None})
    await send({"type": "websocket.send", "bytes": reload_message()})
    await _refuse(send, POLICY_VIOLATION)


def _target(scope: Scope) -> str:
    path = quote(scope["path"], safe="/")
    query = scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
