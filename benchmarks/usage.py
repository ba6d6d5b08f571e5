"""The Usage page of an account of a million entries, beside that of one of a thousand."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from unittest import mock

from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from benchmarks.charging import ACTOR, analyse
from benchmarks.history import fill_account
from domain.actors import MemberRole, user_actor
from domain.metering.queries import spending_outlook, usage_report
from portal.runtime import database
from portal.shell import page_context
from portal.shell.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.yardstick import Pgbench

    _Measure = Callable[[sessionmaker[Session], int], float]

LIGHT = 1_000
HEAVY = 1_000_000
DAYS = 365
REPEATS = 41
MAIN = Path(__file__).resolve().parents[1] / "portal" / "main.py"
_METRICS = 4

_ROLL_UP = text("""
INSERT INTO daily_totals (account_id, day, kind, service, source, amount_micros, entries, calls)
SELECT account_id, CAST(occurred_at AT TIME ZONE 'UTC' AS date), kind, service, source,
  sum(amount_micros), count(*), 0
FROM entries WHERE account_id = :account GROUP BY 1, 2, 3, 4, 5
""")


def run(sessions: sessionmaker[Session], _pgbench: Pgbench) -> None:
    """Fill both accounts over the same year, and print the ratio of the medians."""
    now = datetime.now(UTC)
    accounts = {}
    with sessions() as session:
        for count in (LIGHT, HEAVY):
            minutes = DAYS * 24 * 60
            account = fill_account(session, now, count, minutes_apart=minutes / count)
            session.execute(_ROLL_UP, {"account": account})
            session.commit()
            accounts[count] = account
    analyse(sessions)
    for name, measure in (("reads of the usage page", _read), ("usage page", _PageRun(sessions))):
        light, heavy = (_seconds(measure, sessions, accounts[count]) for count in (LIGHT, HEAVY))
        print(f"{name}, account of 1,000 entries: {light * 1000:.1f} ms")
        print(f"{name}, account of 1,000,000 entries: {heavy * 1000:.1f} ms")
        print(f"{name}, ratio: {heavy / light:.2f} (goal for the page 2)")


def _seconds(measure: _Measure, sessions: sessionmaker[Session], account: int) -> float:
    return median(measure(sessions, account) for _ in range(REPEATS))


def _read(sessions: sessionmaker[Session], account: int) -> float:
    """Return how long the queries take that the page runs for its usual thirty days."""
    last = datetime.now(UTC).date()
    first = last - timedelta(days=29)
    with sessions() as session:
        session.connection()
        started = time.perf_counter()
        usage_report(session, actor=ACTOR, account_id=account, first=first, last=last)
        spending_outlook(session, actor=ACTOR, account_id=account)
        return time.perf_counter() - started


class _PageRun:
    """A run of the whole page as Streamlit does it, reads included."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        database.connect(sessions.kw["bind"].url.render_as_string(hide_password=False))
        self._pages: dict[int, AppTest] = {}

    def __call__(self, _sessions: sessionmaker[Session], account: int) -> float:
        """Return the time of one more run of the account's page."""
        visitor = visitor_of(account)
        with mock.patch.object(page_context, "require_visitor", return_value=visitor):
            page = self._pages.get(account) or self._open(account)
            started = time.perf_counter()
            page.run()
            return time.perf_counter() - started

    def _open(self, account: int) -> AppTest:
        page = AppTest.from_file(str(MAIN), default_timeout=60).run()
        page.switch_page("pages/usage.py").run()
        if page.exception or len(page.metric) != _METRICS:
            raise RuntimeError("the usage page does not show its figures")
        self._pages[account] = page
        return page


def visitor_of(account: int) -> Visitor:
    """Return the owner of an account, signed in."""
    return Visitor(
        user_id=1,
        display_name="Owner",
        email="owner@example.com",
        locale="en",
        time_zone="UTC",
        actor=user_actor(1, memberships={account: MemberRole.OWNER}),
        account_id=account,
        session_id="session",
        form_token="",
    )
