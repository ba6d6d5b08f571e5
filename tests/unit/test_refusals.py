"""What is remembered of who has to wait: until when, how much of it, and how many are delayed."""

from __future__ import annotations

import asyncio
import time

from portal.routes import refusals
from portal.routes.refusals import Refusals
from tests.support.loops import run_async


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_is_refused_until_its_time_is_over() -> None:
    clock = Clock()
    known = Refusals(clock)
    assert known.seconds_left("192.0.2.1") == 0
    known.remember("192.0.2.1", 30)
    clock.now = 29.5
    assert known.seconds_left("192.0.2.1") == 1
    assert known.seconds_left("192.0.2.2") == 0
    clock.now = 30
    assert known.seconds_left("192.0.2.1") == 0
    assert not known._until


def test_no_more_is_remembered_than_there_is_room_for() -> None:
    clock = Clock()
    known = Refusals(clock)
    for number in range(refusals.MAX_REMEMBERED):
        known.remember(f"old {number}", 10)
    known.remember("newest", 20)
    assert len(known._until) == refusals.MAX_REMEMBERED // 2 + 1
    assert known.seconds_left("newest") == 20
    for number in range(refusals.MAX_REMEMBERED // 2 - 1):
        known.remember(f"new {number}", 100)
    clock.now = 15
    known.remember("after the old ones", 5)
    assert len(known._until) == refusals.MAX_REMEMBERED // 2 + 1, "those whose time is over went"


def test_more_than_a_bounded_number_are_not_delayed() -> None:
    async def all_at_once() -> tuple[int, float]:
        known = Refusals()
        started = time.monotonic()
        tasks = [asyncio.create_task(known.delay()) for _ in range(refusals.MAX_DELAYED + 7)]
        done, _rest = await asyncio.wait(tasks, timeout=0)
        while len(done) < 7:
            await asyncio.sleep(0)
            done = {task for task in tasks if task.done()}
        at_once = len(done)
        await asyncio.gather(*tasks)
        assert known._delayed == 0
        return at_once, time.monotonic() - started

    at_once, took = run_async(all_at_once())
    assert at_once == 7
    assert took >= refusals.DELAY_SECONDS
