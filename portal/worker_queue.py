"""Threads for one kind of request, and bounds on how many requests may wait for them."""

from __future__ import annotations

from collections import Counter
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

    Of one origin, such as a network, no more than `max_of_one` run or wait where that is given:
    who sends very many leaves room for the others. It belongs to the event loop in which it is
    made.
    """

    def __init__(self, threads: int, max_waiting: int, max_of_one: int | None = None) -> None:
        self._limiter = CapacityLimiter(threads)
        self._max_admitted = threads + max_waiting
        self._max_of_one = max_of_one or self._max_admitted
        self._admitted: Counter[str] = Counter()

    async def run(
        self,
        function: Callable[[Unpack[Arguments]], T],
        *args: *Arguments,
        origin: str = "",
    ) -> T:
        """Return what the function returns. Raises QueueFull, and whatever the function raises."""
        # Counted here: the limiter itself counts one that waits only after other tasks had a turn,
        # and all that come at one moment would pass.
        is_full = self._admitted.total() >= self._max_admitted
        if is_full or self._admitted[origin] >= self._max_of_one:
            raise QueueFull
        self._admitted[origin] += 1
        try:
            return await to_thread.run_sync(function, *args, limiter=self._limiter)
        finally:
            self._admitted[origin] -= 1
            if not self._admitted[origin]:
                del self._admitted[origin]
