"""Importing a file of calls: rated, charged, one entry an account, model and minute."""

from __future__ import annotations

import gc
import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.charging import ACTOR, fill
from domain.metering.usage import import_usage

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.yardstick import Pgbench

CALLS = 60_000
ACCOUNTS = 100
ROUNDS = 3


def run(sessions: sessionmaker[Session], pgbench: Pgbench) -> None:
    """Print calls a second as a ratio to pgbench, the median of rounds that take turns."""
    with sessions() as session:
        accounts = fill(session)[:ACCOUNTS]
        session.commit()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            yard = pgbench.measure()
            path = Path(folder) / f"calls-{number}.csv"
            _write_calls(path, seed=number)
            gc.collect()
            gc.freeze()  # as the command does, and
            gc.set_threshold(50_000)  # this too
            started = time.perf_counter()
            import_usage(
                sessions,
                path=path,
                accounts=accounts,
                rejects_path=path.with_suffix(".rejects.csv"),
                actor=ACTOR,
                report=lambda _done, _total: None,
            )
            ratios.append(CALLS / (time.perf_counter() - started) / yard)
    print(f"importing calls: {median(ratios):.1f} x pgbench (goal 10)")


def _write_calls(path: Path, seed: int) -> None:
    """Write an hour of calls, some thousands a minute, as the production trace has them."""
    chance = random.Random(seed)
    start = datetime.now(UTC) - timedelta(hours=2 + seed)
    offsets = sorted(chance.randrange(3_600_000_000) for _ in range(CALLS))
    with path.open("w", encoding="utf-8") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for offset in offsets:
            at = start + timedelta(microseconds=offset)
            tokens = f"{chance.randrange(1, 7_500)},{chance.randrange(1, 900)}"
            file.write(f"{at:%Y-%m-%d %H:%M:%S.%f}0,{tokens}\n")
