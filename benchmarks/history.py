"""The first page of Credit History with filters, in a small ledger and in one of ten million."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from sqlalchemy import text

from benchmarks.charging import ACTOR, analyse
from domain.accounts import open_account
from domain.history.pages import PAGE_SIZE, history_page
from domain.history.rows import HistoryFilter

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.yardstick import Pgbench

SMALL = 10_000
LARGE = 10_000_000
HEAVY = 1_000_000
OTHERS = 2_000
REPEATS = 41

_FILL = text("""
INSERT INTO entries (account_id, account_sequence, kind, service, source, description_code,
                     description_parameters, amount_micros, balance_after_micros, occurred_at,
                     posted_at, accounting_date, actor)
SELECT :account, n, 'charge',
       (ARRAY['ai-inference', 'gpu-vm', 'gpu-container', 'ai-notebook', 'model-hub'])[n % 5 + 1],
       'model-' || n % 40, 'usage',
       jsonb_build_object('calls', n % 60 + 1, 'quantities', jsonb_build_object(
         'input-tokens', n % 90000 * 11, 'output-tokens', n % 7000)),
       -1000, -1000 * n,
       CAST(:now AS timestamptz) - make_interval(secs => (:count - n) * :seconds_apart),
       :now, CAST(:now AS date), 'system:benchmark'
FROM generate_series(1, :count) AS n
""")


def run(sessions: sessionmaker[Session], _pgbench: Pgbench) -> None:
    """Fill, read, fill much more, read again, and print the ratio of the medians."""
    now = datetime.now(UTC)
    with sessions() as session:
        small = fill_account(session, now, SMALL)
    analyse(sessions)
    before = _page_seconds(sessions, small, now)
    with sessions() as session:
        heavy = fill_account(session, now, HEAVY)
        for _ in range(OTHERS):
            fill_account(session, now, (LARGE - HEAVY) // OTHERS)
    analyse(sessions)
    after = _page_seconds(sessions, heavy, now)
    print(f"history, 10,000 entries: {before * 1000:.1f} ms a filtered first page")
    print(f"history, 10,000,000 entries, account of 1,000,000: {after * 1000:.1f} ms (goal 20)")
    print(f"history, ratio: {after / before:.2f} (goal 1.5)")


def fill_account(session: Session, now: datetime, count: int, *, minutes_apart: float = 1) -> int:
    """Open an account with so many charges, the newest now; return its id."""
    account = open_account(
        session, site_code="global", name=f"{count} entries", currency="USD", actor=ACTOR
    )
    rows = {"account": account, "count": count, "now": now, "seconds_apart": minutes_apart * 60}
    session.execute(_FILL, rows)
    session.commit()
    return account


def _page_seconds(sessions: sessionmaker[Session], account: int, now: datetime) -> float:
    """Return the median over the filters of the median time of a first page."""
    filters = [
        HistoryFilter(),
        HistoryFilter(services=frozenset({"gpu-vm"})),
        HistoryFilter(
            services=frozenset({"gpu-vm"}),
            kinds=frozenset({"charge"}),
            occurred_from=now - timedelta(days=5),
        ),
    ]
    return median(_median_seconds(sessions, account, requested) for requested in filters)


def _median_seconds(
    sessions: sessionmaker[Session], account: int, requested: HistoryFilter
) -> float:
    times = []
    for _ in range(REPEATS):
        with sessions() as session:
            session.connection()
            started = time.perf_counter()
            page = history_page(session, actor=ACTOR, account_id=account, filters=requested)
            times.append(time.perf_counter() - started)
            if len(page.rows) != PAGE_SIZE:
                message = f"a page of {len(page.rows)} rows measures nothing"
                raise RuntimeError(message)
    return median(times)
