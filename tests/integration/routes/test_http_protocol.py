"""Connections that never finish what they began are closed; all others are answered."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from websockets.sync.client import connect

from portal.routes import payments, requests, uploads
from portal.runtime import http_protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.websockets import WebSocket

SOON_SECONDS = 0.5
NORMAL_CLOSURE = b"\x88\x02\x03\xe8"
"""The frame by which a WebSocket is closed as it should be (RFC 6455, 1000)."""

PATIENCE_SECONDS = 60
SMALL_BUFFER_BYTES = 4096
LARGE_BYTES = 16 * 1024 * 1024
TAIL_BYTES = 80_000
"""More than small buffers of the system hold, by less than asyncio reports to a protocol."""


async def slow_answer(request: Request) -> PlainTextResponse:
    body = await request.body()
    await asyncio.sleep(2 * SOON_SECONDS)  # the limit is on what comes in
    return PlainTextResponse(f"{len(body)}")


async def unread(request: Request) -> PlainTextResponse:
    return PlainTextResponse("answered", int(request.query_params.get("status", "200")))


async def in_parts(request: Request) -> StreamingResponse:
    """Begin an answer, and end it when the client has sent its body."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"begun"
        async for _ in request.stream():
            pass
        yield b"ended"

    return StreamingResponse(parts())


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await asyncio.sleep(2 * SOON_SECONDS)
    await websocket.send_text("still here")
    await websocket.close()


async def torrent(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_bytes(b"x" * 100_000)


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs: its port, and what it has open."""

    port: int
    server: uvicorn.Server

    def is_idle(self) -> bool:
        """Wait until no connection and no answer is left; return whether that came."""
        state = self.server.server_state
        return eventually(lambda: not state.connections and not state.tasks)


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait until something is true; return whether it came to be."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)  # noqa: TID251 - a poll with a deadline
    return condition()


@contextmanager
def serving(folder: Path, send_buffer_bytes: int | None = None) -> Iterator[Served]:
    """Serve a small application as the portal is served."""
    large = folder / "large"
    with large.open("wb") as file:
        file.truncate(LARGE_BYTES)
    routes = [
        Route("/", slow_answer, methods=["GET", "POST"]),
        Route("/unread", unread, methods=["GET", "POST", "PUT"]),
        Route("/tail", lambda _: Response(b"x" * TAIL_BYTES)),
        Route("/parts", in_parts),
        Route("/large", lambda _: FileResponse(large)),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/torrent", torrent),
    ]
    config = uvicorn.Config(
        Starlette(routes=routes),
        http=http_protocol.TimeLimitedHTTP,
        ws=http_protocol.TimeLimitedWebSocket,
        log_level="critical",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if send_buffer_bytes is not None:
            # Connections have it from their listener.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Served(listener.getsockname()[1], server)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[int]:
    """The port of a server as it is."""
    with serving(tmp_path) as served:
        yield served.port


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short limits for all servers."""
    for limit in ("HEADER_SECONDS", "BODY_SECONDS", "UNREAD_BODY_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(http_protocol, limit, SOON_SECONDS)


@pytest.fixture
def served(tmp_path: Path, impatient: None) -> Iterator[Served]:  # noqa: ARG001 - short limits
    """A server whose patience is short."""
    with serving(tmp_path) as served:
        yield served


@pytest.fixture
def tight(tmp_path: Path, impatient: None) -> Iterator[Served]:  # noqa: ARG001 - short limits
    """The same where the system takes little of an answer before its client reads it."""
    with serving(tmp_path, 4 * SMALL_BUFFER_BYTES) as served:
        yield served


@pytest.fixture
def port(served: Served) -> int:
    """The port of the server whose patience is short."""
    return served.port


def client_of(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)


def slow_client_of(port: int) -> socket.socket:
    """Connect with so small a buffer that what is not read waits at the server."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    client.settimeout(PATIENCE_SECONDS)
    client.connect(("127.0.0.1", port))
    return client


def is_closed(client: socket.socket, *, dripping: bytes = b"") -> bool:
    """Wait until the server hangs up, and send it a bit now and then; return whether it did."""
    end = time.monotonic() + PATIENCE_SECONDS
    client.settimeout(SOON_SECONDS / 5)
    while time.monotonic() < end:
        try:
            client.sendall(dripping)
            if not client.recv(4096):
                return True
        except TimeoutError:
            pass
        except ConnectionError:
            return True
    return False


def read_answer(client: socket.socket, ending: bytes) -> bytes:
    """Read until an answer ends in a known way."""
    answer = b""
    while not answer.endswith(ending):
        part = client.recv(65536)
        assert part, answer
        answer += part
    return answer


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a"],
)
def test_a_header_that_does_not_end_is_not_waited_for(port: int, sent: bytes) -> None:
    with client_of(port) as client:
        client.sendall(sent)
        assert client.recv(100) == b""


def test_so_is_the_second_header_of_a_connection(port: int) -> None:
    with client_of(port) as client:
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


@pytest.mark.parametrize("text", ["hello", "x" * 8_000_000], ids=["short", "waits to be read"])
def test_an_open_page_is_not_closed(port: int, text: str) -> None:
    with connect(f"ws://127.0.0.1:{port}/echo", max_size=None, compression=None) as page:
        page.send(text)
        assert [page.recv(), page.recv()] == [text, "still here"]


ANSWERED = [
    b"GET /unread HTTP/1.1",
    b"GET /nothing-here HTTP/1.1",
    b"PUT / HTTP/1.1",
    b"POST /unread?status=413 HTTP/1.1",
    b"GET /unread HTTP/1.1\r\nExpect: 100-continue",
]
"""Requests that are answered before their body has come."""

BODIES = [
    (b"Content-Length: 60000", b"x"),
    (b"Transfer-Encoding: chunked", b"1\r\nx\r\n"),
    (b"Transfer-Encoding: chunked", b"0"),
]
"""How a body is announced, and what is sent of it: the last is part of a chunk's header."""


@pytest.mark.parametrize("drips", [False, True], ids=["once", "dripping"])
@pytest.mark.parametrize(("header", "sent"), BODIES, ids=["length", "chunks", "part of a chunk"])
def test_the_rest_of_an_answered_request_is_not_waited_for(
    served: Served, header: bytes, sent: bytes, *, drips: bool
) -> None:
    for request in ANSWERED:
        with client_of(served.port) as client:
            client.sendall(request + b"\r\nHost: x\r\n" + header + b"\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 ")
            client.sendall(sent)  # ends uvicorn's own wait for the next request
            assert is_closed(client, dripping=sent if drips else b""), request
    assert served.is_idle()


@pytest.mark.parametrize("dripping", [b"", b"x"], ids=["once", "dripping"])
@pytest.mark.parametrize(
    "request_line",
    [
        b"POST / HTTP/1.1",
        b"GET /parts HTTP/1.1",
        b"GET /unread HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1",
    ],
    ids=["read", "read while answering", "behind another"],
)
def test_a_body_that_the_application_waits_for_has_a_time(
    served: Served, request_line: bytes, dripping: bytes
) -> None:
    with client_of(served.port) as client:
        client.sendall(request_line + b"\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
        assert is_closed(client, dripping=dripping)
        assert served.is_idle()


def test_routes_answer_before_the_connection_is_closed() -> None:
    limits = [routes._BODY_SECONDS for routes in (payments, uploads, requests)]
    assert max(limits) < http_protocol.BODY_SECONDS


def test_an_invalid_body_ends_the_connection_and_no_more(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (b"/unread", b"/parts"):
        with client_of(served.port) as client:
            client.sendall(
                b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            client.sendall(b"no chunk\r\n\r\n")
            assert is_closed(client)
    assert served.is_idle()
    assert [line for line in caplog.records if line.levelno >= logging.ERROR] == []


def test_a_body_that_ends_in_time_leaves_the_connection_open(patient: int) -> None:
    with client_of(patient) as client:
        for _ in range(3):
            client.sendall(b"PUT /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
            read_answer(client, b"answered")
            client.sendall(b"x" * 200_000)


def test_requests_may_come_together(patient: int) -> None:
    with client_of(patient) as client:
        client.sendall(b"GET /unread HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        answers = b""
        while answers.count(b"answered") < 3:
            answers += client.recv(4096)
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxxGET /unread")
        client.sendall(b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"\r\n\r\n2" in read_answer(client, b"answered")


def test_a_client_that_asks_first_is_told_to_continue(patient: int) -> None:
    with client_of(patient) as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 100")
        client.sendall(b"12345")
        assert read_answer(client, b"\r\n\r\n5").startswith(b"HTTP/1.1 200")


def test_large_bodies_pass_in_both_directions(patient: int) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{patient}", timeout=PATIENCE_SECONDS) as client:
        for _ in range(2):
            assert client.post("/", content=b"x" * 8 * 1024 * 1024).text == str(8 * 1024 * 1024)
            assert len(client.get("/large").content) == LARGE_BYTES


def test_a_client_that_reads_nothing_is_not_waited_for(served: Served) -> None:
    clients = [slow_client_of(served.port) for _ in range(5)]
    for client in clients:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    assert eventually(lambda: len(served.server.server_state.connections) == len(clients))
    assert served.is_idle()
    for client in clients:
        client.close()


def test_nor_is_one_that_leaves_the_end_of_an_answer(tight: Served) -> None:
    with slow_client_of(tight.port) as client:
        client.sendall(b"GET /tail HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        assert tight.is_idle()


def test_nor_is_one_that_reads_next_to_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "MIN_SENT_BYTES", LARGE_BYTES)
    with slow_client_of(served.port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        open_here = served.server.server_state.connections
        assert eventually(lambda: client.recv(256) != b"" and not open_here)
        assert served.is_idle()


def test_a_slow_client_gets_all_of_a_long_download(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "MIN_SENT_BYTES", 1)
    monkeypatch.setattr(http_protocol, "STALLED_SECONDS", 4 * SOON_SECONDS)
    checks = []
    check = http_protocol.TimeLimitedHTTP._check_sending

    def counted(protocol: http_protocol.TimeLimitedHTTP, unsent_before: int) -> None:
        check(protocol, unsent_before)
        checks.append(unsent_before)

    monkeypatch.setattr(http_protocol.TimeLimitedHTTP, "_check_sending", counted)
    with slow_client_of(served.port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = 0
        while part := client.recv(256 if len(checks) < 3 else 65536):
            received += len(part)
            if len(checks) < 3:
                time.sleep(0.02)  # noqa: TID251 - what is tested is a client that reads slowly
    assert received > LARGE_BYTES
    assert len(checks) >= 3


def upgrade(path: bytes, header: bytes = b"X: x") -> bytes:
    """Return a request for a WebSocket."""
    return (
        b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n" + header + b"\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )


def test_a_page_that_reads_nothing_is_not_waited_for(served: Served) -> None:
    with slow_client_of(served.port) as client:
        client.sendall(upgrade(b"/torrent"))
        assert client.recv(12) == b"HTTP/1.1 101"
        assert served.is_idle()


def test_nor_is_one_that_was_opened_behind_an_answer_that_is_not_read(tight: Served) -> None:
    with slow_client_of(tight.port) as client:
        client.sendall(b"GET /tail HTTP/1.1\r\nHost: x\r\n\r\n" + upgrade(b"/echo"))
        assert client.recv(12) == b"HTTP/1.1 200"
        assert tight.is_idle()


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        (b"Content-Length: 60000", b""),
        (b"Transfer-Encoding: chunked", b""),
        (b"Cookie: " + b"a" * 10_000, b"HTTP/1.1 431"),
        (b"\r\n".join([b"X: x"] * 200), b"HTTP/1.1 431"),
    ],
    ids=["length", "chunked", "long", "many"],
)
def test_a_request_that_can_be_no_page_is_not_waited_for(
    served: Served, header: bytes, answer: bytes
) -> None:
    with client_of(served.port) as client:
        client.sendall(upgrade(b"/echo", header))
        assert client.recv(12) == answer
        assert is_closed(client, dripping=b"x")
        assert served.is_idle()


def test_a_page_stays_open_when_what_waited_before_it_is_read(tight: Served) -> None:
    with slow_client_of(tight.port) as client:
        client.sendall(b"GET /tail HTTP/1.1\r\nHost: x\r\n\r\n" + upgrade(b"/echo"))
        answers = b""
        while b"HTTP/1.1 101" not in answers or not answers.endswith(b"\r\n\r\n"):
            part = client.recv(65536)
            assert part
            answers += part
        client.sendall(b"\x81\x85" + bytes(4) + b"hello")
        # With the frame that closes the page: it may come in one piece with what is before it.
        assert b"hello" in read_answer(client, b"still here" + NORMAL_CLOSURE)
