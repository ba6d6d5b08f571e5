"""HTTP and WebSockets as uvicorn speaks them, with a limit on how long a client is waited for.

Uvicorn waits for ever for the rest of a header or of a body, and for a client that does not read
its answer: enough such clients take every connection that the process may have. A proxy in front
has limits of its own.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if sys.platform != "win32":
    import fcntl
    import termios

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

HEADER_SECONDS = 20.0

BODY_SECONDS = 360.0
"""The longest that the body of any request may take. Routes that read a body have limits of their
own, which are shorter: those answer, this one only closes the connection.
"""

UNREAD_BODY_SECONDS = 5.0
"""How long the rest of a body may take whose request is answered. A client that is still sending
gets the answer in this time; closing at once could discard it.
"""

STALLED_SECONDS = 60.0
MIN_SENT_BYTES = 8 * 1024
"""What a client has to read in `STALLED_SECONDS`: an eighth of what a line of 1 kB/s carries."""


class _StalledClients(asyncio.Protocol):
    """A connection that is closed where its client hardly reads the data sent to it."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _stalled_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have all buffered bytes reported: by default the last 64 kB are not."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=0)
        if self.transport.get_write_buffer_size():
            self._watch_sending()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_watching_sending()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to watch how much the client reads."""
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        """Stop watching: all is sent."""
        self._stop_watching_sending()
        super().resume_writing()

    def _watch_sending(self) -> None:
        self._stop_watching_sending()
        self._stalled_timer = self.loop.call_later(
            STALLED_SECONDS, self._check_sending, unsent_bytes(self.transport)
        )

    def _check_sending(self, unsent_before: int) -> None:
        if unsent_before - unsent_bytes(self.transport) < MIN_SENT_BYTES:
            # To close would be to wait until all is sent.
            self.transport.abort()
        else:
            self._watch_sending()

    def _stop_watching_sending(self) -> None:
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None


class TimeLimitedHTTP(_StalledClients, H11Protocol):
    """An HTTP connection that is closed where a request does not end or an answer is not read."""

    _timer: asyncio.TimerHandle | None = None
    _awaited: tuple[object, RequestResponseCycle | None, float] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch_request()

    def data_received(self, data: bytes) -> None:
        """Pass the data on, and set a timeout for the rest of the request."""
        super().data_received(data)
        self._watch_request()

    def on_response_complete(self) -> None:
        """Set a shorter timeout for the rest of a request that has been answered."""
        super().on_response_complete()
        self._watch_request()

    def send_400_response(self, msg: str) -> None:
        """Answer data that is not HTTP; where an answer is in progress or sent, only disconnect."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over: its header has been received."""
        self._stop_watching_sending()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_watching_request()
        super().connection_lost(exc)

    def _watch_request(self) -> None:
        """Set a timeout for the data that the client has to send now, which no byte extends."""
        seconds = self._seconds_for_request()
        if seconds is None:
            self._stop_watching_request()
            return
        awaited = (self.conn.their_state, self.cycle, seconds)
        if awaited != self._awaited:
            self._stop_watching_request()
            self._awaited = awaited
            self._timer = self.loop.call_later(seconds, self.transport.close)

    def _seconds_for_request(self) -> float | None:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return None
        if self.conn.their_state is h11.IDLE:
            return HEADER_SECONDS
        if self.conn.their_state is h11.SEND_BODY:
            return UNREAD_BODY_SECONDS if self.cycle.response_complete else BODY_SECONDS
        return None

    def _stop_watching_request(self) -> None:
        self._awaited = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TimeLimitedWebSocket(_StalledClients, WebSocketsSansIOProtocol):
    """A WebSocket that is closed where its client does not read, or opens it with a body.

    Uvicorn closes one whose pings are not answered, but first waits until all is sent.
    """

    def data_received(self, data: bytes) -> None:
        """Pass the data on, and close what cannot become a WebSocket.

        The first data are a whole header. Where websockets refuses it (for a body that it
        announces, or for its size), uvicorn waits for another one, which is never read.
        """
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Return how many bytes the client has not received yet.

    The system's own buffer takes minutes of a slow line before it asks for more; only Linux tells
    how much is in it.
    """
    unsent = transport.get_write_buffer_size()
    if sys.platform != "win32":
        with suppress(OSError):
            queued = fcntl.ioctl(transport.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4))
            unsent += int.from_bytes(queued, sys.byteorder)
    return unsent
