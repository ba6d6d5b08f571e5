"""How long pages stand still when the database restarts.

Twelve people click on the pages of an account, about once a second each. The benchmark's own server
is shut down and started again. A page may fail meanwhile, with a message. The yardstick is how long
the database did not answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from benchmarks.charging import analyse
from benchmarks.clicking import click_around
from benchmarks.history import fill_account
from benchmarks.sessions import add_person, portal_environment, server, sign_in_all

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.sessions import Server
    from benchmarks.yardstick import Pgbench

PEOPLE, ENTRIES = 12, 2_000
SECONDS, BEFORE_SECONDS = 60.0, 15.0
ASKED_EVERY_SECONDS = 0.05
THINK_SECONDS = 1.0
_STARTED_AT = text("SELECT pg_postmaster_start_time()")


def run(sessions: sessionmaker[Session], _pgbench: Pgbench) -> None:
    """Print the longest run of a page, and how long the database was away."""
    if os.environ.get("BENCH_DATABASE_URL"):
        print("restart: left out, as it restarts a server of its own only")
        return
    with sessions() as session:
        account = fill_account(session, datetime.now(UTC), ENTRIES)
        people = [add_person(session, account, number) for number in range(PEOPLE)]
        session.commit()
    analyse(sessions)
    with server(["-m", "portal", "serve", "--port"], portal_environment(sessions)) as portal:
        cookies = sign_in_all(portal.address, people)
        away, took = asyncio.run(_measure(sessions, portal, cookies))
    usual = sorted(took)[len(took) // 2]
    print(
        f"restart, {PEOPLE} people: longest run of a page {max(took):.1f} s, database away"
        f" {away:.1f} s, {max(took) / away:.1f} x (goal 2); a usual run {usual * 1000:.0f} ms"
    )


async def _measure(
    sessions: sessionmaker[Session], portal: Server, cookies: list[str]
) -> tuple[float, list[float]]:
    """Return how long the database was away, and the seconds of each run of a page."""
    clicking = asyncio.create_task(
        click_around(
            portal.address,
            cookies,
            seconds=SECONDS,
            think_seconds=THINK_SECONDS,
            may_fail=True,
        )
    )
    await asyncio.sleep(BEFORE_SECONDS)
    away = await asyncio.to_thread(_restart, sessions)
    return away, await clicking


def _restart(sessions: sessionmaker[Session]) -> float:
    """Shut the server down at once, and return after how many seconds it answers again."""
    with sessions() as session:
        folder = session.execute(text("SHOW data_directory")).scalar_one()
        before = session.execute(_STARTED_AT).scalar_one()
    process = int((Path(folder) / "postmaster.pid").read_text("utf-8").split("\n", 1)[0])
    started = time.perf_counter()
    os.kill(process, signal.SIGINT)
    while True:
        time.sleep(ASKED_EVERY_SECONDS)  # noqa: TID251 - a poll; the benchmark ends it
        try:
            with sessions() as session:
                now = session.execute(_STARTED_AT).scalar_one()
        except DBAPIError:
            continue
        if now != before:
            return time.perf_counter() - started
