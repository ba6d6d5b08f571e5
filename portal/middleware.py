"""What happens to every request, Streamlit's pages included: headers, and the way to sign in."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser

from portal import cookies
from portal.routes.web import redirect, sign_in_path
from portal.settings import settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self';"
    " worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self';"
    " frame-ancestors 'none'"
)
"""What Streamlit's own pages need, and no more; the forms of our own routes set a stricter one."""

_STREAMLIT_PREFIXES = ("/_stcore/", "/media/", "/component/", "/static/", "/app/static/")
_YEAR_SECONDS = 31_536_000


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
