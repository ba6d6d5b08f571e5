"""One ASGI application for all sandboxes, each under its own path."""

from __future__ import annotations

import importlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from sandbox.webhook_sender import WebhookSender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from sandbox.store import Store

GATEWAYS = ("vnpay", "stripe", "stripe_cards", "paypal")


@dataclass(frozen=True, slots=True)
class Context:
    """The values that the sandboxes share.

    `base_url` is where this application is reached, `portal_url` where webhooks are sent. `folder`
    is for files that a sandbox creates once, such as a certificate.
    """

    base_url: str
    portal_url: str
    store: Store
    sender: WebhookSender
    folder: Path

    def now(self) -> datetime:
        """Return the present moment in UTC."""
        return datetime.now(UTC)


def make_app(base_url: str, portal_url: str, store: Store, folder: Path) -> Starlette:
    """Return the application: a path for each gateway, and /health."""
    context = Context(base_url.rstrip("/"), portal_url.rstrip("/"), store, WebhookSender(), folder)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await context.sender.close()
        store.close()

    mounts = [
        Mount(f"/{name}", routes=importlib.import_module(f"sandbox.{name}").routes(context))
        for name in GATEWAYS
    ]
    return Starlette(routes=[Route("/health", _health), *mounts], lifespan=lifespan)


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok")
