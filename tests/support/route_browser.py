"""Our own routes as a browser sees them, in this process and on the test's database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.testclient import TestClient

from portal.routes import health, mailbox, second_factor, security, sign_in, two_factor
from portal.routes.middleware import SecurityHeaders
from portal.routes.session_gate import SessionGate
from portal.runtime import database
from portal.runtime.settings import settings
from portal.shell.open_pages import OpenPages
from tests.support.keys import TEST_DIGEST_KEY, TEST_VAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from httpx2 import Response

HERE = "http://localhost:8501"


@pytest.fixture
def configure_portal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Set environment variables, and have the settings read anew."""

    def configure_portal(**environment: str) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()

    for name in ("DATABASE_URL", "BASE_URL", "DEMO", "SMTP_HOST", "PORT", "TRUSTED_PROXIES"):
        monkeypatch.delenv(name, raising=False)
    configure_portal()
    yield configure_portal
    settings.cache_clear()


@pytest.fixture
def portal_database(database_url: str, configure_portal: Callable[..., None]) -> Iterator[None]:
    configure_portal()
    database.connect(database_url, pool_size=20, vault=TEST_VAULT)
    database.use_digest_key(TEST_DIGEST_KEY)
    yield
    database.disconnect()


def browser(
    base_url: str = HERE,
    address: str = "127.0.0.1",
    also: Iterable[ModuleType] = (),
    **options: Any,
) -> TestClient:
    """A browser at `address`, on our routes with Streamlit's catch-all behind them."""
    modules = (sign_in, second_factor, security, two_factor, mailbox, health, *also)
    own = [route for module in modules for route in module.routes()]
    shell = Mount("/", app=PlainTextResponse("the page shell"))
    app = Starlette(
        routes=[*own, shell],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(SessionGate, own_routes=own, pages=OpenPages()),
        ],
    )
    return TestClient(
        app,
        base_url=base_url,
        client=(address, 50_000),
        follow_redirects=False,
        headers={"accept": "text/html", "origin": base_url},
        **options,
    )


def form_token(page: Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', page.text)
    assert found, page.text
    return found.group(1)


def post(client: TestClient, path: str, page: str | None = None, **fields: str) -> Response:
    """Open the form, fill it in and send it."""
    token = form_token(client.get(page or path))
    return client.post(path.partition("?")[0], data={"form_token": token, **fields})
