"""Every path of our own is answered by its route: nothing is sent to sign in before."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from portal.routes.session_gate import SessionGate
from portal.runtime.settings import settings
from tests.support.loops import run_async

if TYPE_CHECKING:
    from types import ModuleType

    from starlette.middleware import Middleware
    from starlette.types import Message

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PLACEHOLDER = re.compile(r"\{\w+\}")
FILLED_IN = ("vnpay", "1", "a b", "%2F", "Nạp", "\x00", "x" * 3_000)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is imported where the environment says nothing."""
    for name in ("DATABASE_URL", "BASE_URL", "DEMO", "PORT", "TRUSTED_PROXIES"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    return importlib.import_module("app")


def status_of(middleware: Middleware, method: str, path: str, accept: str = "text/html") -> int:
    """Return the status that a browser without a cookie gets where the application says 200."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"accept", accept.encode())],
    }
    wrapped = middleware.cls(PlainTextResponse("reached"), *middleware.args, **middleware.kwargs)

    async def answer() -> None:
        await wrapped(scope, receive, send)

    run_async(answer())
    status: int = sent[0]["status"]
    return status


def test_every_own_route_is_reached_by_every_method_whatever_a_browser_takes(
    app: ModuleType,
) -> None:
    (gate,) = (one for one in app._options["middleware"] if one.cls is SessionGate)
    paths = {route.path for route in app._options["routes"] if isinstance(route, Route)}
    assert len(paths) == len(app._options["routes"]) > 20
    filled = {word.join(PLACEHOLDER.split(path)) for path in paths for word in FILLED_IN}
    assert "/webhooks/vnpay" in filled
    for path in filled:
        for method in METHODS:
            for accept in ("text/html", "text/html, */*;q=0.1", "*/*"):
                assert status_of(gate, method, path, accept) == 200, (method, path)


def test_only_pages_are_behind_sign_in(app: ModuleType) -> None:
    (gate,) = (one for one in app._options["middleware"] if one.cls is SessionGate)
    for path in ("/", "/payments", "/webhooks", "/webhooks/vnpay/more"):
        assert status_of(gate, "GET", path) == 303
        assert status_of(gate, "POST", path) == 405
        assert status_of(gate, "GET", path, "application/json") == 200
    assert status_of(gate, "GET", "/_stcore/health") == 200
