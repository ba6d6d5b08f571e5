"""Whoever is not signed in holds no connection of the running portal open."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

PATIENCE_SECONDS = 120
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nContent-Length: 60000"
)
REQUESTS = [
    (b"GET /health", b"Content-Length: 60000", b"x"),
    (b"GET /sign-in", b"Content-Length: 60000", b"x"),
    (b"GET /sign-in", b"Transfer-Encoding: chunked", b"1\r\nx\r\n"),
    (b"GET /sign-in", b"Transfer-Encoding: chunked", b"0"),
    (b"PUT /sign-in", b"Content-Length: 60000", b"x"),
    (b"POST /sign-in", b"Content-Length: 60000000", b"x"),
    (b"GET /", b"Content-Length: 60000", b"x"),
    (b"GET /static/nothing.js", b"Content-Length: 60000", b"x"),
    (b"POST /uploads/evidence/x", b"Content-Length: 60000", b"x"),
    (b"PUT /_stcore/upload_file/a/b", b"Content-Length: 60000", b"x"),
    (b"GET /_stcore/stream", UPGRADE, b"x"),
]
"""Requests whose body never ends, with what is sent of it once they are answered."""


def is_closed(client: socket.socket) -> bool:
    """Wait until the portal hangs up; return whether it did."""
    end = time.monotonic() + PATIENCE_SECONDS
    client.settimeout(PATIENCE_SECONDS)
    try:
        while time.monotonic() < end:
            if not client.recv(65536):
                return True
    except ConnectionError:
        return True
    except TimeoutError:
        pass
    return False


@pytest.mark.long
def test_no_body_that_never_ends_holds_a_connection(portal_url: str) -> None:
    where = (urlsplit(portal_url).hostname, urlsplit(portal_url).port)
    with ExitStack() as opened:
        clients = []
        for request, header, sent in REQUESTS:
            client = opened.enter_context(socket.create_connection(where, PATIENCE_SECONDS))
            client.sendall(request + b" HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n")
            if header != UPGRADE:
                assert client.recv(4096).startswith(b"HTTP/1.1 "), request
                client.sendall(sent)
            clients.append(client)
        held = [
            request
            for (request, *_), client in zip(REQUESTS, clients, strict=True)
            if not is_closed(client)
        ]
    assert held == []
