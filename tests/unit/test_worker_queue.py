"""Threads for one kind of request: how many work, how many wait, and who is turned away."""

from __future__ import annotations

import asyncio
import threading

import pytest

from portal.runtime.worker_queue import QueueFull, WorkerQueue
from tests.support.loops import run_async


def test_of_requests_that_come_at_one_moment_no_more_wait_than_may() -> None:
    go_on = threading.Event()
    working = threading.Semaphore(0)
    running: list[int] = []

    def work() -> str:
        running.append(1)
        working.release()
        go_on.wait()
        return "done"

    async def all_at_once() -> list[object]:
        queue = WorkerQueue(threads=2, max_waiting=3)
        tasks = [asyncio.create_task(queue.run(work)) for _ in range(10)]
        turned_away, _held = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        assert {type(task.exception()) for task in turned_away} == {QueueFull}
        assert await asyncio.to_thread(lambda: working.acquire() and working.acquire())
        assert len(running) == 2
        with pytest.raises(QueueFull):
            await queue.run(work)
        go_on.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        # There is room again.
        assert await queue.run(work) == "done"
        return [answer if isinstance(answer, str) else type(answer) for answer in answers]

    assert run_async(all_at_once()) == ["done"] * 5 + [QueueFull] * 5


def test_origins_take_turns_and_the_largest_makes_room() -> None:
    go_on = threading.Event()
    served: list[str] = []

    def serve(origin: str) -> str:
        go_on.wait()
        served.append(origin)
        return origin

    async def from_three_origins() -> list[object]:
        queue = WorkerQueue(threads=1, max_waiting=4)
        tasks = [
            asyncio.create_task(queue.run(serve, origin, origin=origin)) for origin in "aaaaaabbcc"
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        go_on.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        # There is room again.
        assert await asyncio.gather(*(queue.run(serve, "a", origin="a") for _ in "123")) == [*"aaa"]
        return [answer if isinstance(answer, str) else type(answer) for answer in answers]

    # The first is served at once, four wait, and one more is told to come again. Then those of
    # others take the places of the last ones of the largest, until none has two more than they.
    full = QueueFull
    answers = run_async(from_three_origins())
    assert answers == ["a", "a", full, full, full, full, "b", "b", "c", full]
    assert served[:5] == ["a", "a", "b", "c", "b"]


def test_what_fails_or_is_given_up_makes_room() -> None:
    async def fail_and_leave() -> None:
        queue = WorkerQueue(threads=1, max_waiting=0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await queue.run(lambda: 1 // 0)
        go_on = threading.Event()
        task = asyncio.create_task(queue.run(go_on.wait))
        await asyncio.sleep(0)
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await queue.run(lambda: 1) == 1

    run_async(fail_and_leave())
