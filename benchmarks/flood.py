"""The cost of a flood from outside for the people who are signed in.

Twenty people click on the pages of an account, first alone, then while 300 sockets without a
session reconnect whenever they are closed, and 40 connections submit the sign-up form without a
pause, all from one address. What they measure alone is the yardstick. FLOOD_SECONDS sets how long
each part is measured.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from statistics import quantiles
from typing import TYPE_CHECKING

import httpx2
from websockets.exceptions import InvalidHandshake, WebSocketException

from benchmarks.charging import analyse
from benchmarks.clicking import click_around
from benchmarks.history import fill_account
from benchmarks.sessions import PASSWORD, add_person, portal_environment, server, sign_in_all
from tests.security.streamlit_client import open_page

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.sessions import Server
    from benchmarks.yardstick import Pgbench

SECONDS = float(os.environ.get("FLOOD_SECONDS", "20"))
PEOPLE, SOCKETS, SIGN_UPS = 20, 300, 40
ENTRIES = 2_000
THINK_SECONDS = 4.0
COMES_AGAIN_SECONDS = 1.0
REST_SECONDS = 15.0


def run(sessions: sessionmaker[Session], _pgbench: Pgbench) -> None:
    """Print the p95 of a run of a page during the flood as a ratio, and what memory it leaves."""
    with sessions() as session:
        account = fill_account(session, datetime.now(UTC), ENTRIES)
        people = [add_person(session, account, number) for number in range(PEOPLE)]
        session.commit()
    analyse(sessions)
    with server(["-m", "portal", "serve", "--port"], portal_environment(sessions)) as portal:
        cookies = sign_in_all(portal.address, people)
        asyncio.run(_measure(portal, cookies, REST_SECONDS))  # warms up
        alone = asyncio.run(_measure(portal, cookies, SECONDS))
        before = portal.process.memory_info().rss
        flood = subprocess.Popen(  # noqa: S603 - this module
            [sys.executable, "-m", "benchmarks.flood", portal.address, str(SECONDS + 5)]
        )
        flooded = asyncio.run(_measure(portal, cookies, SECONDS))
        flood.wait()
        time.sleep(REST_SECONDS)  # noqa: TID251 - the server is to forget closed connections
        after = portal.process.memory_info().rss
    quiet, loud = (quantiles(each, n=100)[94] * 1000 for each in (alone, flooded))
    print(
        f"flood, p95 of a page: {quiet:.0f} ms alone, {loud:.0f} ms beside {SOCKETS} sockets and"
        f" {SIGN_UPS} sign-ups, {loud / quiet:.1f} x (goal 3); {len(alone)} and {len(flooded)} runs"
    )
    print(f"flood, memory: {before / 1e6:.0f} to {after / 1e6:.0f} MB (goal 1.1 x)")


async def _measure(portal: Server, cookies: list[str], seconds: float) -> list[float]:
    """Return the seconds of each run of a page."""
    return await click_around(portal.address, cookies, seconds=seconds, think_seconds=THINK_SECONDS)


# ── The flood, in a process of its own ────────────────────────────────────────────────────────
async def flood(address: str, seconds: float) -> None:
    """Open sockets without a session, and sign up, for a time."""
    until = time.monotonic() + seconds

    async def hold_socket() -> None:
        while time.monotonic() < until:
            with suppress(OSError, WebSocketException, InvalidHandshake, TimeoutError):
                async with open_page(address) as page:
                    await page.until_closed()
            await asyncio.sleep(COMES_AGAIN_SECONDS)

    async def sign_up(number: int, statuses: dict[int, int]) -> None:
        async with httpx2.AsyncClient(base_url=address, timeout=60) as browser:
            form = (await browser.get("/sign-up")).text
            found = re.search(r'name="form_token" value="([0-9a-f]+)"', form)
            fields = {
                "form_token": found[1] if found else "",
                "display_name": "Minh",
                "password": PASSWORD,
                "account_name": "Lab",
                "country": "VN",
                "currency": "VND",
            }
            sent = 0
            while time.monotonic() < until:
                sent += 1
                fields["email"] = f"flood-{number}-{sent}@example.com"
                with suppress(httpx2.HTTPError):
                    answer = await browser.post(
                        "/sign-up", data=fields, headers={"Origin": address}
                    )
                    statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

    statuses: dict[int, int] = {}
    async with asyncio.TaskGroup() as group:
        for _ in range(SOCKETS):
            group.create_task(hold_socket())
        for number in range(SIGN_UPS):
            group.create_task(sign_up(number, statuses))
    print(f"flood, answers to sign-ups: {dict(sorted(statuses.items()))}")


if __name__ == "__main__":
    asyncio.run(flood(sys.argv[1], float(sys.argv[2])))
