"""The pages that are open in browsers: their users, and closing those of an ended session.

A page that is open talks over a websocket, and each of its runs looks the session up. A page that
is only viewed runs nothing: so open pages are also checked on a schedule.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from domain import identity
from portal.runtime import database
from portal.runtime.process_state import shared
from portal.runtime.settings import settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from starlette.types import Message, Receive, Send

MAX_PAGES = 50
"""How many pages one person may have open: each takes memory for as long as it is."""

LOOK_EVERY_SECONDS = 20.0
"""How often it is asked whose session has ended: its pages are closed within a minute."""

POLICY_VIOLATION, UNSUPPORTED_DATA, TRY_AGAIN_LATER = 1008, 1003, 1013
"""Codes of RFC 6455, section 7.4.1, and of the registry that it founded."""

_log = logging.getLogger(__name__)


def reload_message() -> bytes:
    """Return the message that reloads a page's own address, which redirects to sign-in.

    Streamlit's page goes where `auth_redirect` says; an empty address is that of the page.
    """
    message = ForwardMsg()
    message.auth_redirect.url = ""
    message.auth_redirect.SetInParent()
    return bytes(message.SerializeToString())


class OpenPage:
    """One page's websocket: Streamlit talks through it until the page or the session ends."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_accepted = False
        self._is_closed = False

    async def receive(self) -> Message:
        """Return the browser's next message; after the end, a disconnect."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return message
        if not self._is_closed and message.get("bytes") is None:
            # Streamlit's page sends no text, and Streamlit would log a traceback for each.
            await self._close(UNSUPPORTED_DATA)
        if self._is_closed:
            return {"type": "websocket.disconnect", "code": POLICY_VIOLATION}
        return message

    async def send(self, message: Message) -> None:
        """Pass on Streamlit's messages; after the end, drop them."""
        if self._is_closed:
            return
        self._is_accepted = self._is_accepted or message["type"] == "websocket.accept"
        self._is_closed = message["type"] == "websocket.close"
        await self._send(message)

    async def end(self) -> None:
        """Have the browser reload the page, and ignore its further messages."""
        if self._is_accepted and not self._is_closed:
            await self._send({"type": "websocket.send", "bytes": reload_message()})
        await self._close(POLICY_VIOLATION)

    async def _close(self, code: int) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._send({"type": "websocket.close", "code": code})


class OpenPages:
    """All open pages of this process, by session. Used in the event loop alone."""

    def __init__(self) -> None:
        self._by_session: defaultdict[str, set[OpenPage]] = defaultdict(set)
        self._count_by_person: defaultdict[int, int] = defaultdict(int)

    def has_room(self, user_id: int) -> bool:
        """Return whether a person may have one more page open."""
        return self._count_by_person.get(user_id, 0) < MAX_PAGES

    @contextmanager
    def opened(self, page: OpenPage, *, session_id: str, user_id: int) -> Iterator[None]:
        """Know the page for as long as the block lasts."""
        self._by_session[session_id].add(page)
        self._count_by_person[user_id] += 1
        try:
            yield
        finally:
            self._by_session[session_id].discard(page)
            if not self._by_session[session_id]:
                del self._by_session[session_id]
            self._count_by_person[user_id] -= 1
            if not self._count_by_person[user_id]:
                del self._count_by_person[user_id]

    def session_ids(self) -> frozenset[str]:
        """Return the sessions that have a page open."""
        return frozenset(self._by_session)

    async def end_all(self, session_ids: Collection[str]) -> None:
        """End the pages of these sessions."""
        pages = [page for each in session_ids for page in self._by_session.get(each, ())]
        for page, answer in zip(
            pages,
            await asyncio.gather(*(page.end() for page in pages), return_exceptions=True),
            strict=True,
        ):
            if isinstance(answer, Exception):
                # The browser has just disconnected: there is nothing to close any more.
                _log.debug("%r was closed already: %s", page, answer)


def open_pages() -> OpenPages:
    """Return the open pages of this process."""
    return shared("open_pages", OpenPages)


async def close_ended(pages: OpenPages) -> None:
    """Ask once which of the open pages' sessions have ended, and end their pages."""
    session_ids = pages.session_ids()
    if not session_ids:
        return
    alive = await run_in_threadpool(
        database.read_one, identity.live_sessions, session_ids=session_ids, policy=settings().policy
    )
    await pages.end_all(session_ids - alive)


async def watch(pages: OpenPages) -> None:
    """Look through the open pages by the clock, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        try:
            await close_ended(pages)
        except Exception as error:  # noqa: BLE001 - it is checked again soon, and by each run too
            _log.warning("open pages could not be looked through: %s", error)
