"""Many people at once on the Billing page of an account with a million entries.

Each speaks Streamlit's own protocol over a websocket of their own, signed in through the portal's
sign-in route. They think, click, and wait until the page is drawn. A trivial page on a server of
its own, with as many people, is the yardstick. SESSIONS_SECONDS sets how long the portal is
measured; the yardstick takes a minute at most.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import mean, quantiles
from typing import TYPE_CHECKING

import psutil
import requests
from sqlalchemy import text

from benchmarks.charging import ACTOR, analyse
from benchmarks.history import HEAVY, fill_account
from domain import accounts, identity, ledger
from domain.actors import MemberRole
from tests.security.streamlit_client import open_page, sign_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.yardstick import Pgbench
    from tests.security.streamlit_client import StreamlitPage

PEOPLE = int(os.environ.get("SESSIONS_PEOPLE", "200"))
SECONDS = float(os.environ.get("SESSIONS_SECONDS", "60"))
YARDSTICK_SECONDS = min(SECONDS, 60.0)
THINK_SECONDS = 5.0
WARM_UP_SECONDS = 15.0
MEMORY_EVERY_SECONDS = 5.0
START_SECONDS = 120.0
ANSWER_SECONDS = 60.0
PASSWORD = "violet-kettle-9-march"  # noqa: S105 - of users that exist during the benchmark
OUTSIDE_DEMO = {
    "DEMO": "0",
    "SECRET_KEY": "the-benchmark-signs-with-these-words",
    "TRUSTED_PROXIES": "none",
}
VIEWS = ("", "tab=history", "tab=history&service=gpu-vm", "tab=history&row=e{entry}")
"""What people look at, one after the other: a tab, the other, filtered, and one row of it."""


@dataclass
class Figures:
    """Measurements of one server: seconds of each rerun by view, and its memory in bytes."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    first_seconds: list[float] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)
    processor_share: float = 0.0
    failures: int = 0

    @property
    def all_seconds(self) -> list[float]:
        """The reruns of all views."""
        return [one for each in self.seconds.values() for one in each]


def run(sessions: sessionmaker[Session], _pgbench: Pgbench) -> None:
    """Print the p95 of a rerun as a ratio to the trivial page's, and how memory went."""
    now = datetime.now(UTC)
    with sessions() as session:
        account = fill_account(session, now, HEAVY)
        _add_credit(session, account, now)
        people = [add_person(session, account, number) for number in range(PEOPLE)]
        session.commit()
    analyse(sessions)
    trivial_command = ["-m", "uvicorn", "benchmarks.trivial_app:app", "--log-level", "warning"]
    with server([*trivial_command, "--ws", "websockets-sansio", "--port"], {}) as trivial_server:
        trivial = asyncio.run(_measure(trivial_server, [""] * PEOPLE, ("",), YARDSTICK_SECONDS))
    with server(["-m", "portal", "serve", "--port"], portal_environment(sessions)) as portal:
        cookies = sign_in_all(portal.address, people)
        billing = asyncio.run(_measure(portal, cookies, VIEWS, SECONDS))
    _report("trivial page", trivial)
    _report("billing page", billing)
    p95, yard = _percentile(billing.all_seconds, 95), _percentile(trivial.all_seconds, 95)
    print(
        f"sessions, p95 rerun: {p95 * 1000:.0f} ms, {p95 / yard:.1f} x trivial (goal 100 ms or 3)"
    )


def portal_environment(sessions: sessionmaker[Session]) -> dict[str, str]:
    """Return the environment that a portal on this database is started with."""
    return {
        "DATABASE_URL": sessions.kw["bind"].url.render_as_string(hide_password=False),
        **OUTSIDE_DEMO,
        "JOBS": "0",
    }


# ── The ledger ────────────────────────────────────────────────────────────────────────────────
def _add_credit(session: Session, account: int, now: datetime) -> None:
    """Give the account credit of each kind after its charges, which the filling left unpaid."""
    session.execute(
        text("UPDATE account_balances SET last_entry_sequence = :last WHERE account_id = :account"),
        {"last": HEAVY, "account": account},
    )
    expiry = (now + timedelta(days=60)).replace(second=0, microsecond=0)
    for kind, expires_at in (("plan", expiry), ("voucher", expiry), ("top_up", None)):
        ledger.add_grant(
            session,
            account_id=account,
            terms=ledger.GrantTerms(
                kind=kind,
                amount_micros=500_000_000,
                consideration_micros=0 if kind == "voucher" else 500_000_000,
                expires_at=expires_at,
            ),
            source="bank" if kind == "top_up" else kind,
            actor=ACTOR,
            idempotency_key=f"sessions-{kind}",
        )


def add_person(session: Session, account: int, number: int) -> str:
    """Add a person who can read the account; return their email."""
    email = f"person-{number}@example.com"
    user = identity.create_user(
        session,
        email=email,
        display_name=f"Person {number}",
        password=PASSWORD,
        staff_role=None,
        actor=ACTOR,
        locale="en",
        time_zone="Asia/Tokyo",
    )
    accounts.add_member(
        session, account_id=account, user_id=user, role=MemberRole.READER, actor=ACTOR
    )
    return email


# ── Servers ───────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Server:
    """A server of its own, and its process."""

    port: int
    process: psutil.Process

    @property
    def address(self) -> str:
        """Where it is reached."""
        return f"http://localhost:{self.port}"


@contextmanager
def server(arguments: Sequence[str], environment: dict[str, str]) -> Iterator[Server]:
    """Run a server of its own until the block ends; the last argument is its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    process = subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, *arguments, str(port)],
        env={**os.environ, "BASE_URL": f"http://localhost:{port}", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(port, psutil.Process(process.pid))
    try:
        _wait_until_it_answers(server, process)
        yield server
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"{server.address}/_stcore/health", timeout=5).ok:
                return
        except (requests.ConnectionError, requests.Timeout):  # not yet, or on a busy machine
            time.sleep(0.1)  # noqa: TID251 - a poll with a deadline
    raise RuntimeError("the server did not start")


def sign_in_all(address: str, people: Sequence[str]) -> list[str]:
    """Return a session's cookie header for each, got as a browser gets it."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda email: sign_in(address, email, PASSWORD), people))


# ── People ────────────────────────────────────────────────────────────────────────────────────
async def _measure(
    server: Server, cookies: Sequence[str], views: Sequence[str], seconds: float
) -> Figures:
    """Connect everyone within the warm-up, then click for the measured time."""
    figures = Figures()
    measured_from = time.monotonic() + WARM_UP_SECONDS + THINK_SECONDS
    until = measured_from + seconds
    processor_before = sum(server.process.cpu_times()[:2])
    async with asyncio.TaskGroup() as group:
        for number, cookie in enumerate(cookies):
            person = Person(server, cookie, views, number, figures)
            group.create_task(person.user(measured_from, until))
        group.create_task(_watch_memory(server, figures, measured_from, until))
    spent = sum(server.process.cpu_times()[:2]) - processor_before
    figures.processor_share = spent / (seconds + WARM_UP_SECONDS + THINK_SECONDS)
    return figures


async def _watch_memory(
    server: Server, figures: Figures, measured_from: float, until: float
) -> None:
    await asyncio.sleep(max(0, measured_from - time.monotonic()))
    while time.monotonic() < until:
        figures.memory_bytes.append(server.process.memory_info().rss)
        await asyncio.sleep(MEMORY_EVERY_SECONDS)


class Person:
    """A browser: it opens the page, then clicks, waits until all is drawn, and pauses."""

    def __init__(
        self, server: Server, cookie: str, views: Sequence[str], number: int, figures: Figures
    ) -> None:
        self._server = server
        self._cookie = cookie
        self._views = views
        self._number = number
        self._figures = figures
        self._chance = random.Random(number)

    async def user(self, measured_from: float, until: float) -> None:
        """Come, look and click until the time is over."""
        await asyncio.sleep(WARM_UP_SECONDS * self._number / PEOPLE)
        async with open_page(self._server.address, self._cookie) as page:
            self._figures.first_seconds.append(await self._load(page, self._views[0]))
            turn = self._number
            while True:
                await asyncio.sleep(self._chance.expovariate(1 / THINK_SECONDS))
                if time.monotonic() >= until:
                    return
                turn += 1
                view = self._views[turn % len(self._views)]
                took = await self._load(page, view)
                if time.monotonic() >= measured_from:
                    self._figures.seconds.setdefault(view, []).append(took)

    async def _load(self, page: StreamlitPage, view: str) -> float:
        """Request a run and return the seconds until the whole page has arrived."""
        started = time.perf_counter()
        run = await page.run(query=view.format(entry=self._chance.randrange(1, HEAVY)))
        took = time.perf_counter() - started
        self._figures.failures += run.has_failed
        return took


# ── Figures ───────────────────────────────────────────────────────────────────────────────────
def _percentile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100)[percent - 1]


def _report(name: str, figures: Figures) -> None:
    for view, seconds in sorted(figures.seconds.items()):
        print(f"  {name} {view or '-'}: {_spread(seconds)}, {len(seconds)} reruns")
    memory = figures.memory_bytes
    third = max(1, len(memory) // 3)
    begin, end = mean(memory[:third]) / 1e6, mean(memory[-third:]) / 1e6
    print(
        f"sessions, {name}: {PEOPLE} people, rerun {_spread(figures.all_seconds)},"
        f" first run {_spread(figures.first_seconds)}, {figures.failures} failures,"
        f" processor {figures.processor_share:.0%}, memory {begin:.0f} to {end:.0f} MB"
    )


def _spread(seconds: Sequence[float]) -> str:
    half, most = (_percentile(seconds, percent) * 1000 for percent in (50, 95))
    return f"p50 {half:.0f} ms, p95 {most:.0f} ms"
