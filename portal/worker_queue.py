"""Threads for one kind of request, and a bound on how many requests may wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

from anyio import CapacityLimiter, to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")


class QueueFull(Exception):  # noqa: N818 - as domain.errors
    """As many requests wait as may: this one is to come again."""


class WorkerQueue:
    """Runs functions in threads, `threads` at a time, while at most `max_waiting` wait.

    It belongs to the event loop in which it is made.
    """

    def __init__(self, threads: int, max_waiting: int) -> None:
        self._limiter = CapacityLimiter(threads)
        self._max_admitted = threads + max_waiting
        self._admitted = 0

    async def run(self, function: Callable[[Unpack[Arguments]], T], *args: *Arguments) -> T:
        """Return what the function returns. Raises QueueFull, and whatever the function raises."""
        # Counted here: the limiter itself counts one that waits only after other tasks had a turn,
        # and all that come at one moment would pass.
        if self._admitted >= self._max_admitted:
            raise QueueFull
        self._admitted += 1
        try:
            return await to_thread.run_sync(function, *args, limiter=self._limiter)
        finally:
            self._admitted -= 1
