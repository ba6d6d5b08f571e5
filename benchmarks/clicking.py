"""People who click on the pages of an account, each over a websocket of their own."""

from __future__ import annotations

import asyncio
import random
import time

from tests.security.streamlit_client import open_page

VIEWS = ("", "tab=history")


async def click_around(
    address: str,
    cookies: list[str],
    *,
    seconds: float,
    think_seconds: float,
    may_fail: bool = False,
) -> list[float]:
    """Have all users click for a time; return the seconds of each run of a page.

    Raises RuntimeError where a page fails, unless pages may.
    """
    took: list[float] = []
    until = time.monotonic() + seconds

    async def click(cookie: str, number: int) -> None:
        chance = random.Random(number)
        async with open_page(address, cookie) as page:
            await page.run()
            while time.monotonic() < until:
                await asyncio.sleep(chance.expovariate(1 / think_seconds))
                number += 1
                started = time.perf_counter()
                run = await page.run(query=VIEWS[number % len(VIEWS)])
                took.append(time.perf_counter() - started)
                if run.has_failed and not may_fail:
                    raise RuntimeError("a page failed")

    async with asyncio.TaskGroup() as group:
        for number, cookie in enumerate(cookies):
            group.create_task(click(cookie, number))
    return took
