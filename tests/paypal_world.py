"""The stand-in for PayPal on a real port, and the adapter that speaks to it."""

from __future__ import annotations

import queue
import socket
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from domain.gateways.interface import InboundMessage, WebhookEvent
from domain.gateways.paypal.client import PayPal
from domain.gateways.paypal.settings import PayPalSettings
from sandbox import paypal as stand_in
from sandbox.app import Context
from sandbox.store import Store
from sandbox.webhook_sender import WebhookSender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

WAIT_SECONDS = 120


@dataclass(frozen=True)
class Later(Context):
    """A context whose clock somebody puts forward."""

    clock: list[timedelta]

    def now(self) -> datetime:
        return datetime.now(UTC) + self.clock[0]


@dataclass(frozen=True)
class World:
    """A stand-in at an address, the messages that it sends, and the gateway that asks it."""

    base_url: str
    messages: queue.Queue[InboundMessage]
    gateway: PayPal
    recorder: Recorder
    clock: list[timedelta]

    def message(self) -> WebhookEvent:
        """Return the next webhook, verified."""
        return self.gateway.parse_webhook(self.messages.get(timeout=WAIT_SECONDS))

    def sent_until(self, event_type: str) -> WebhookEvent:
        """Return the next webhook of a kind; those before it are verified too."""
        while True:
            found = self.message()
            if found.event_type == event_type:
                return found

    def choose(self, url: str, outcome: str, delivery: str = "normal") -> httpx2.Response:
        """Press a button of the page to pay at."""
        assert httpx2.get(url).status_code == 200
        return httpx2.post(url, data={"outcome": outcome, "delivery": delivery})

    def operate(self, action: str, number: str, amount: str = "") -> httpx2.Response:
        """Press a button of the operator's page."""
        form = {"action": action, "id": number, "amount": amount}
        return httpx2.post(f"{self.base_url}/paypal/dashboard", data=form)


class Recorder(httpx2.BaseTransport):
    """Passes requests on, keeps what went over the wire, and loses answers when told to."""

    def __init__(self) -> None:
        self.inner = httpx2.HTTPTransport()
        self.seen: list[tuple[httpx2.Request, int, bytes]] = []
        self.loses: set[str] = set()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self.inner.handle_request(request)
        content = answer.read()
        self.seen.append((request, answer.status_code, content))
        for end in self.loses:
            if request.url.path.endswith(end):
                self.loses.remove(end)
                raise httpx2.ReadTimeout("lost", request=request)
        return httpx2.Response(answer.status_code, headers=answer.headers, content=content)

    def close(self) -> None:
        self.inner.close()


def settings(base_url: str) -> PayPalSettings:
    return PayPalSettings(
        client_id=stand_in.DEMO_CLIENT_ID,
        client_secret=stand_in.DEMO_CLIENT_SECRET,
        webhook_id=stand_in.DEMO_WEBHOOK_ID,
        api_base=f"{base_url}/paypal",
        is_sandbox=True,
        brand_name="Credit portal",
    )


@contextmanager
def run_stand_in(folder: Path) -> Iterator[World]:
    """Run the stand-in, with its certificate in a folder; it tells itself what it would tell us."""
    listener = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    messages: queue.Queue[InboundMessage] = queue.Queue()

    async def take(request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.body()
        messages.put(InboundMessage("POST", headers, (), "", body, context.now()))
        return PlainTextResponse("")

    clock = [timedelta(0)]
    store = Store()
    context = Later(base_url, base_url, store, WebhookSender(), folder, clock)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await context.sender.close()

    app = Starlette(
        routes=[
            Mount("/paypal", routes=stand_in.routes(context)),
            Route("/webhooks/paypal", take, methods=["POST"]),
        ],
        lifespan=lifespan,
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    recorder = Recorder()
    gateway = PayPal(settings(base_url), transport=recorder)
    try:
        yield World(base_url, messages, gateway, recorder, clock)
    finally:
        recorder.close()
        server.should_exit = True
        thread.join()
        store.close()
