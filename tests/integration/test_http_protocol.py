"""Connections that never finish what they began are closed; all others are answered."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from websockets.sync.client import connect

from portal import http_protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.websockets import WebSocket

SOON_SECONDS = 0.5
PATIENCE_SECONDS = 60


async def slow_answer(request: Request) -> PlainTextResponse:
    body = await request.body()
    await asyncio.sleep(2 * SOON_SECONDS)  # the limit is on what comes in
    return PlainTextResponse(f"{len(body)}")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await asyncio.sleep(2 * SOON_SECONDS)
    await websocket.send_text("still here")
    await websocket.close()


@contextmanager
def serving() -> Iterator[int]:
    """Serve a small application as the portal is served; return its port."""
    routes = [Route("/", slow_answer, methods=["GET", "POST"]), WebSocketRoute("/echo", echo)]
    config = uvicorn.Config(
        Starlette(routes=routes),
        http=http_protocol.HeadersInTime,
        ws="websockets-sansio",
        log_level="critical",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server whose patience is short."""
    monkeypatch.setattr(http_protocol, "HEADER_SECONDS", SOON_SECONDS)
    with serving() as port:
        yield port


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a"],
)
def test_a_header_that_does_not_end_is_not_waited_for(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(sent)
        assert client.recv(100) == b""


def test_so_is_the_second_header_of_a_connection(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET / HTTP/1.1\r\nHost")
        while client.recv(4096):
            pass


def test_what_comes_in_time_is_answered_in_its_own_time(port: int) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
        for _ in range(2):
            assert client.get("/").text == "0"
            assert client.post("/", content=b"x" * 1_000_000).text == "1000000"


def test_an_open_page_is_not_closed(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/echo") as page:
        page.send("hello")
        assert [page.recv(), page.recv()] == ["hello", "still here"]
