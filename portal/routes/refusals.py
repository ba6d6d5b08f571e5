"""Repeated refusals of a client that has to wait, without a thread, the database or a drawn page.

A counter in the database says that a network may make no attempt before some moment. Until then the
answer to it is known, and is given after a second: a client that sends as fast as it is answered is
slowed down, and does not affect the people who are signed in.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from anyio import sleep

if TYPE_CHECKING:
    from collections.abc import Callable

DELAY_SECONDS = 1.0
MAX_REMEMBERED = 10_000
MAX_DELAYED = 200
"""More answers than that do not wait: who is delayed holds a connection, and gets a page."""


class Refusals:
    """The networks that a form refuses for now, and until when. Of one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._delayed = 0

    def remember(self, network: str, seconds: int) -> None:
        """Keep that a network is refused for so long."""
        if len(self._until) >= MAX_REMEMBERED:
            self._forget_some()
        self._until[network] = self._clock() + seconds

    def seconds_left(self, network: str) -> int:
        """Return how long a network is refused still; 0 where it is not known to be."""
        until = self._until.get(network)
        if until is None:
            return 0
        left = math.ceil(until - self._clock())
        if left <= 0:
            del self._until[network]
        return max(left, 0)

    async def delay(self) -> bool:
        """Let a second pass before a refusal is repeated; False at once where very many wait."""
        if self._delayed >= MAX_DELAYED:
            return False
        self._delayed += 1
        try:
            await sleep(DELAY_SECONDS)
        finally:
            self._delayed -= 1
        return True

    def _forget_some(self) -> None:
        """Make room: remove expired entries, or the older half where there are none."""
        now = self._clock()
        left = {network: until for network, until in self._until.items() if until > now}
        if len(left) >= MAX_REMEMBERED:
            left = dict(list(left.items())[MAX_REMEMBERED // 2 :])
        self._until = left
