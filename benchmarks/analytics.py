"""Finance's Analytics over many accounts, beside the same over few."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from sqlalchemy import text

from benchmarks.charging import analyse
from domain.actors import StaffRole, user_actor
from domain.analytics.queries import account_shares, analytics_choices, analytics_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.yardstick import Pgbench

    _Measure = Callable[[Session, date, date], object]

FEW = 20
MANY = 2_000
DAYS = 365
PERIOD = timedelta(days=89)
REPEATS = 21
FINANCE = user_actor(1, staff_role=StaffRole.FINANCE)

_OPEN = text("""
INSERT INTO accounts (site_code, name, country, currency)
SELECT 'global', 'Account ' || n, (ARRAY['SG', 'DE', 'FR', 'US'])[1 + n % 4], 'USD'
FROM generate_series(1, :count) AS n
""")
_USE = text("""
INSERT INTO daily_totals (account_id, day, kind, service, source, amount_micros, entries, calls)
SELECT a.id, CAST(:last AS date) - n, 'charge', s.slug, 'benchmark', -1000000, 5, 5
FROM accounts a, generate_series(0, :days - 1) AS n,
  (VALUES ('ai-inference'), ('gpu-vm'), ('ai-notebook')) AS s (slug)
""")
_SUM_UP = text("""
INSERT INTO site_totals
  (site_code, country, currency, day, kind, service, amount_micros, entries, calls)
SELECT c.site_code, c.country, c.currency, d.day, d.kind, d.service,
  sum(d.amount_micros), sum(d.entries), sum(d.calls)
FROM daily_totals d JOIN accounts c ON c.id = d.account_id GROUP BY 1, 2, 3, 4, 5, 6
""")
_EMPTY = text("TRUNCATE site_totals, daily_totals")


def run(sessions: sessionmaker[Session], _pgbench: Pgbench) -> None:
    """Fill a year of few accounts and of many, and print the ratios of the medians."""
    last = datetime.now(UTC).date()
    measured: dict[str, list[float]] = {name: [] for name in _MEASURES}
    for count in (FEW, MANY):
        _fill(sessions, count, last)
        for name, measure in _MEASURES.items():
            measured[name].append(_seconds(measure, sessions, last))
    for name, (few, many) in measured.items():
        print(f"{name}, {FEW:,} accounts: {few * 1000:.1f} ms")
        print(f"{name}, {MANY:,} accounts: {many * 1000:.1f} ms")
        print(f"{name}, ratio: {many / few:.2f}")


def _fill(sessions: sessionmaker[Session], count: int, last: date) -> None:
    with sessions() as session:
        session.execute(text("RESET ROLE"))
        session.execute(_EMPTY)
        existing = session.execute(text("SELECT count(*) FROM accounts")).scalar_one()
        session.execute(_OPEN, {"count": count - existing})
        session.execute(_USE, {"last": last, "days": DAYS})
        session.execute(_SUM_UP)
        session.commit()
    analyse(sessions)


def _seconds(measure: _Measure, sessions: sessionmaker[Session], last: date) -> float:
    times = []
    for _ in range(REPEATS):
        with sessions() as session:
            session.connection()
            started = time.perf_counter()
            measure(session, last - PERIOD, last)
            times.append(time.perf_counter() - started)
    return median(times)


def _report(session: Session, first: date, last: date) -> object:
    return analytics_report(session, actor=FINANCE, first=first, last=last)


def _choices(session: Session, _first: date, _last: date) -> object:
    return analytics_choices(session, actor=FINANCE)


def _accounts(session: Session, first: date, last: date) -> object:
    return account_shares(session, actor=FINANCE, first=first, last=last, currency="USD")


_MEASURES: dict[str, _Measure] = {
    "analytics report": _report,
    "analytics choices": _choices,
    "accounts that used most": _accounts,
}
