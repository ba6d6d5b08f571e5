"""Requests as an attacker's own client sends them, at an ASGI application in this process.

No HTTP client stands between: paths of any bytes, lengths that lie, headers twice, methods that
nobody knows, and people who hang up within a body. What escapes the application is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import anyio

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

Headers = tuple[tuple[bytes, bytes], ...]
SERVER = ("localhost", 8501)
_PEER = ("127.0.0.1", 50_000)
_CHUNK_BYTES = 60_000
_MAX_WAIT_SECONDS = 120
"""Far more than any answer takes: what hangs fails by its number, not with the whole run."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as its bytes are; `hangs_up` within the body, before its end."""

    method: str
    path: bytes
    query: bytes = b""
    headers: Headers = ()
    body: bytes = b""
    hangs_up: bool = False

    def scope(self) -> dict[str, Any]:
        """Return what uvicorn makes of it."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": SERVER,
            "client": _PEER,
            "scheme": "http",
            "method": self.method,
            "root_path": "",
            "path": unquote(self.path.decode("ascii")),
            "raw_path": self.path,
            "query_string": self.query,
            "headers": list(self.headers),
            "state": {},
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `error` is what the application raised instead of answering for it."""

    status: int
    headers: Headers
    body: bytes
    error: Exception | None = None

    def header(self, name: bytes) -> bytes | None:
        """Return a header's first value, or None."""
        return next((value for each, value in self.headers if each.lower() == name), None)

    def headers_called(self, name: bytes) -> list[bytes]:
        """Return every value of a header."""
        return [value for each, value in self.headers if each.lower() == name]


async def call(app: ASGIApp, sent: Sent) -> Answer:
    """Send one request, and return its whole answer."""
    step = max(_CHUNK_BYTES, len(sent.body) // 20)
    chunks = [sent.body[at : at + step] for at in range(0, len(sent.body), step)] or [b""]
    waiting = list(enumerate(chunks, 1))
    started: list[Message] = []
    body = bytearray()

    async def receive() -> Message:
        if waiting:
            number, chunk = waiting.pop(0)
            more = number < len(chunks) or sent.hangs_up
            return {"type": "http.request", "body": chunk, "more_body": more}
        if not sent.hangs_up:
            await anyio.sleep_forever()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.append(message)
        else:
            body.extend(message.get("body", b""))

    error = None
    try:
        with anyio.fail_after(_MAX_WAIT_SECONDS):
            await app(sent.scope(), receive, send)
    except Exception as raised:  # noqa: BLE001 - whatever escapes is what a test looks for
        error = raised
    if not started:
        return Answer(0, (), bytes(body), error or RuntimeError("no answer"))
    headers = tuple((bytes(name), bytes(value)) for name, value in started[0]["headers"])
    return Answer(started[0]["status"], headers, bytes(body), error)
