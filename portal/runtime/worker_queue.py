"""Threads for one kind of request, shared fairly among origins."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

from anyio import CapacityLimiter, Event, to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")


class QueueFull(Exception):  # noqa: N818 - as domain.errors
    """The queue is full: this request is to be retried."""


class _Place:
    """The place of a waiting request; `is_lost` where it made room for another one."""

    def __init__(self) -> None:
        self.is_called = False
        self.is_lost = False
        self.decided = Event()


class WorkerQueue:
    """Runs functions in threads, `threads` at a time, while at most `max_waiting` wait.

    Origins, such as networks, take turns, and where all places are taken, one that has fewer
    waiting gets the last place of the one that has most: an origin that sends very many only delays
    itself. It belongs to the event loop in which it is made.
    """

    def __init__(self, threads: int, max_waiting: int) -> None:
        self._limiter = CapacityLimiter(threads)
        self._free = threads
        self._max_waiting = max_waiting
        self._waiting: OrderedDict[str, deque[_Place]] = OrderedDict()
        self._count = 0

    async def run(
        self,
        function: Callable[[Unpack[Arguments]], T],
        *args: *Arguments,
        origin: str = "",
    ) -> T:
        """Return what the function returns. Raises QueueFull, and whatever the function raises."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(origin)
        try:
            return await to_thread.run_sync(function, *args, limiter=self._limiter)
        finally:
            self._call_next()

    async def _wait(self, origin: str) -> None:
        place = self._take_place(origin)
        try:
            await place.decided.wait()
        except BaseException:
            # Abandoned by the caller.
            if place.is_called:
                self._call_next()
            elif not place.is_lost:
                self._leave(origin, place)
            raise
        if place.is_lost:
            raise QueueFull

    def _take_place(self, origin: str) -> _Place:
        if self._count >= self._max_waiting:
            self._make_room(len(self._waiting.get(origin, ())))
        place = _Place()
        self._waiting.setdefault(origin, deque()).append(place)
        self._count += 1
        return place

    def _make_room(self, own: int) -> None:
        largest = max(self._waiting, key=lambda each: len(self._waiting[each]), default=None)
        if largest is None or len(self._waiting[largest]) <= own + 1:
            raise QueueFull
        last = self._waiting[largest][-1]
        self._leave(largest, last)
        last.is_lost = True
        last.decided.set()

    def _leave(self, origin: str, place: _Place) -> None:
        self._waiting[origin].remove(place)
        self._count -= 1
        if not self._waiting[origin]:
            del self._waiting[origin]

    def _call_next(self) -> None:
        """Give the thread to the next origin in turn, or keep it for the next request."""
        origin = next(iter(self._waiting), None)
        if origin is None:
            self._free += 1
            return
        place = self._waiting[origin][0]
        self._leave(origin, place)
        if origin in self._waiting:
            self._waiting.move_to_end(origin)
        place.is_called = True
        place.decided.set()
