"""A client of a portal's pages by hand: it signs in by the form, and speaks Streamlit's protocol.

What is sent are the protobuf messages of the installed Streamlit (streamlit/proto/BackMsg.proto and
ForwardMsg.proto) over a websocket; nothing of a browser hides what the portal answers.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from streamlit.proto.WidgetStates_pb2 import WidgetState
    from websockets.asyncio.client import ClientConnection

ANSWER_SECONDS = 120.0
NO_SUBPROTOCOL_TOKEN = "no-token"


def sign_in(address: str, email: str, password: str) -> str:
    """Return the cookies of a new session, as a browser sends them. Raises RuntimeError."""
    with requests.Session() as browser:
        form = browser.get(f"{address}/sign-in", timeout=ANSWER_SECONDS).text
        token = re.search(r'name="form_token" value="([0-9a-f]+)"', form)
        if token is None:
            raise RuntimeError("the sign-in page has no form")
        answer = browser.post(
            f"{address}/sign-in",
            data={"form_token": token[1], "email": email, "password": password, "next": "/"},
            headers={"Origin": address},
            allow_redirects=False,
            timeout=ANSWER_SECONDS,
        )
        if answer.status_code != requests.codes.see_other:
            raise RuntimeError(f"{email} could not sign in: {answer.status_code}")
        return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())


@dataclass
class Run:
    """What one run of a page sent: its messages, the session's id, and whether it ended well."""

    messages: list[ForwardMsg] = field(default_factory=list)

    @property
    def session_id(self) -> str:
        """Streamlit's id of the page."""
        return next(
            message.new_session.initialize.session_id
            for message in self.messages
            if message.WhichOneof("type") == "new_session"
        )

    @property
    def text(self) -> str:
        """Everything that was sent, to look for words in."""
        return "\n".join(str(message) for message in self.messages)

    @property
    def drawn(self) -> int:
        """How many elements were drawn."""
        return sum(message.WhichOneof("type") in {"delta", "ref_hash"} for message in self.messages)

    @property
    def has_failed(self) -> bool:
        """Whether the page says that something went wrong, or could not be run."""
        last = self.messages[-1].script_finished if self.messages else None
        return (
            not self.drawn
            or last == ForwardMsg.FINISHED_WITH_COMPILE_ERROR
            or any(_tells_an_error(message) for message in self.messages)
        )

    def widgets(self) -> Iterator[Any]:
        """Return the elements that have an id: those by which a browser says something."""
        for message in self.messages:
            if message.WhichOneof("type") == "delta":
                element = message.delta.new_element
                kind = element.WhichOneof("type")
                widget = getattr(element, kind) if kind else None
                if getattr(widget, "id", ""):
                    yield widget

    def widget_ids(self) -> list[str]:
        """Return the ids of all widgets, each once, in the order in which they were drawn."""
        return list(dict.fromkeys(str(widget.id) for widget in self.widgets()))

    def widget_id(self, label: str) -> str:
        """Return the id of the widget with this label. Raises LookupError."""
        for widget in self.widgets():
            if getattr(widget, "label", None) == label:
                return str(widget.id)
        raise LookupError(label)

    def fragment_of(self, label: str) -> str:
        """Return the fragment or dialog that drew the widget with this label."""
        for message in self.messages:
            if message.WhichOneof("type") == "delta" and label in str(message.delta.new_element):
                return str(message.delta.fragment_id)
        raise LookupError(label)


class StreamlitPage:
    """One open page."""

    def __init__(self, connection: ClientConnection, address: str) -> None:
        self._connection = connection
        self._address = address

    async def run(
        self,
        path: str = "/",
        query: str = "",
        *,
        widgets: Iterable[WidgetState] = (),
        fragment_id: str = "",
    ) -> Run:
        """Run a page, or a fragment of it, with these states of its widgets; return what came.

        Raises ConnectionClosed where the portal ends the page, and TimeoutError.
        """
        message = BackMsg()
        rerun = message.rerun_script
        rerun.query_string = query
        rerun.page_name = path.strip("/")
        rerun.fragment_id = fragment_id
        rerun.is_history_navigation = True
        rerun.widget_states.widgets.extend(widgets)
        rerun.context_info.timezone = "Asia/Tokyo"
        rerun.context_info.locale = "en-US"
        rerun.context_info.url = f"{self._address}{path}"
        await self.send(message.SerializeToString())
        run = Run()
        while True:
            answer = await self.receive()
            run.messages.append(answer)
            # A run that gives way to another one is not the answer yet.
            if answer.WhichOneof("type") == "script_finished" and (
                answer.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN
            ):
                return run

    async def send(self, data: bytes | str) -> None:
        """Send a frame as it is."""
        await self._connection.send(data)

    async def receive(self) -> ForwardMsg:
        """Return the next message. Raises ConnectionClosed and TimeoutError."""
        async with asyncio.timeout(ANSWER_SECONDS):
            data = await self._connection.recv()
        message = ForwardMsg()
        message.ParseFromString(data if isinstance(data, bytes) else data.encode())
        return message

    async def until_closed(self) -> tuple[list[ForwardMsg], int | None]:
        """Return what still comes, and the code with which the portal closes the page."""
        messages = []
        while True:
            try:
                messages.append(await self.receive())
            except ConnectionClosed as closed:
                return messages, closed.rcvd.code if closed.rcvd else None


@asynccontextmanager
async def open_page(
    address: str,
    cookies: str = "",
    *,
    origin: str | None = None,
    session_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[StreamlitPage]:
    """Open a page's websocket, as whoever these cookies sign in.

    `session_id` asks for a page that was open before. Raises InvalidStatus where it is refused.
    """
    named = [] if session_id is None else [Subprotocol(session_id)]
    async with connect(
        f"ws://{urlsplit(address).netloc}/_stcore/stream",
        subprotocols=[Subprotocol("streamlit"), Subprotocol(NO_SUBPROTOCOL_TOKEN), *named],
        additional_headers={**(headers or {}), **({"Cookie": cookies} if cookies else {})},
        origin=Origin(origin or address),
        max_size=None,
        compression=None,
        ping_interval=None,
        open_timeout=ANSWER_SECONDS,
    ) as connection:
        yield StreamlitPage(connection, address)


def _tells_an_error(message: ForwardMsg) -> bool:
    if message.WhichOneof("type") != "delta":
        return False
    element = message.delta.new_element
    kind = element.WhichOneof("type")
    return kind == "exception" or (kind == "alert" and element.alert.format == element.alert.ERROR)
