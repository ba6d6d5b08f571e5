"""Outgoing webhooks: sent after a delay, retried where the receiver fails, or never sent."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_log = logging.getLogger(__name__)

_MAX_CONCURRENT = 5
_LATE_SECONDS = 10.0
_TIMEOUT_SECONDS = 10.0


class Delivery(StrEnum):
    """The delivery of a webhook, as chosen on the payment page."""

    NORMAL = "normal"
    DUPLICATE = "duplicate"
    LATE = "late"
    NEVER = "never"
    FORGED = "forged"


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A request to send. `make` is called for each attempt, as signatures contain their time."""

    make: Callable[[], Message]
    is_taken: Callable[[int, bytes], bool]
    waits_seconds: Sequence[float] = (2, 5, 15, 60, 300)


@dataclass(frozen=True, slots=True)
class Message:
    """An outgoing HTTP request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class WebhookSender:
    """Sends requests from the event loop that the sandboxes run in."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = httpx2.AsyncClient(timeout=_TIMEOUT_SECONDS, follow_redirects=False)

    async def close(self) -> None:
        """Give up the requests in progress."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def send(self, webhook: WebhookRequest, delivery: Delivery = Delivery.NORMAL) -> None:
        """Send a request as chosen; call it from the event loop. NEVER sends nothing."""
        if delivery is Delivery.NEVER:
            return
        copies = _MAX_CONCURRENT if delivery is Delivery.DUPLICATE else 1
        wait = _LATE_SECONDS if delivery is Delivery.LATE else 0.0
        for _ in range(copies):
            task = asyncio.get_running_loop().create_task(self._carry(webhook, wait))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, webhook: WebhookRequest, first_wait: float) -> None:
        for wait in (first_wait, *webhook.waits_seconds):
            await asyncio.sleep(wait)
            if await self._is_taken(webhook):
                return
        _log.warning("a webhook was given up")

    async def _is_taken(self, webhook: WebhookRequest) -> bool:
        message = webhook.make()
        try:
            answer = await self._client.request(
                message.method, message.url, headers=dict(message.headers), content=message.body
            )
        except httpx2.HTTPError as error:
            _log.info("nobody takes a webhook: %s", type(error).__name__)
            return False
        return webhook.is_taken(answer.status_code, answer.content)
