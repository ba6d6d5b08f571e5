"""Charging from Python: a thousand charges a batch, each with an entry of its own."""

from __future__ import annotations

import gc
import random
import time
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.bulk import copy_rows
from domain.actors import system_actor
from domain.ledger import Charge, ChargeItem, charge_batch, verify_ledger

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.yardstick import Pgbench

ACCOUNTS = 10_000
GRANTS = 4
BATCH = 1_000
BATCHES = 20
ROUNDS = 3
ACTOR = system_actor("benchmark")
Row = tuple[Any, ...]

_ROLL_UP = text("""
INSERT INTO daily_totals (account_id, day, kind, service, source, amount_micros, entries, calls)
SELECT account_id, accounting_date, kind, '', source, sum(amount_micros), count(*), 0
FROM entries WHERE account_id >= :first GROUP BY 1, 2, 3, 5
""")

_SUM_UP = text("""
INSERT INTO site_totals
  (site_code, country, currency, day, kind, service, amount_micros, entries, calls)
SELECT 'global', '', 'USD', day, kind, service, sum(amount_micros), sum(entries), sum(calls)
FROM daily_totals WHERE account_id >= :first GROUP BY day, kind, service
""")


def fill(session: Session) -> list[int]:
    """Open the accounts with four grants each: a scoped voucher, two that expire, a top-up."""
    first = session.execute(text("SELECT coalesce(max(id), 1000) + 1 FROM accounts")).scalar_one()
    ids = list(range(first, first + ACCOUNTS))
    session.execute(
        text(
            "INSERT INTO accounts (site_code, name, currency)"
            " SELECT 'global', 'Account ' || n, 'USD' FROM generate_series(1, :n) AS n"
        ),
        {"n": ACCOUNTS},
    )
    now = datetime.now(UTC)
    expiry = (now + timedelta(days=90)).replace(second=0, microsecond=0)
    kinds = [
        ("overdraft", 0, None, None, 90),
        ("voucher", 2_000, "{ai-notebook}", expiry, 20),
        ("plan", 3_000, None, expiry, 10),
        ("voucher", 2_000, None, expiry, 20),
        ("top_up", 100_000_000_000, None, None, 30),
    ]
    grants: list[Row] = []
    balances: list[Row] = []
    entries: list[Row] = []
    allocations: list[Row] = []
    for account in ids:
        balance = 0
        for number, (kind, amount, services, expires_at, priority) in enumerate(kinds):
            paid = amount if kind in {"plan", "top_up"} else 0
            sequence = number or None
            grants.append((account, number, kind, amount, paid, services, expires_at, priority,
                           "USAGE", Decimal(0), "ZZ", now, sequence))  # fmt: skip
            balances.append((account, number, kind, amount, paid, 0, services, expires_at, priority,
                             now, amount, True))  # fmt: skip
            if number:
                balance += amount
                entries.append((account, number, kind, "bank", kind, {}, amount, balance, now, now,
                                now.date(), "system:benchmark"))  # fmt: skip
                allocations.append((account, number, 1, number, amount, amount, paid, 0))
    _copy(session, ids, entries=entries, grants=grants, balances=balances, allocations=allocations)
    session.execute(_ROLL_UP, {"first": first})
    session.execute(_SUM_UP, {"first": first})
    return ids


def _copy(
    session: Session,
    ids: list[int],
    *,
    entries: list[Row],
    grants: list[Row],
    balances: list[Row],
    allocations: list[Row],
) -> None:
    total = sum(row[3] for row in balances[: GRANTS + 1])
    copy_rows(
        session,
        "account_balances",
        ("account_id", "balance_micros", "last_entry_sequence", "last_grant_number"),
        [(account, total, GRANTS, GRANTS) for account in ids],
    )
    copy_rows(
        session,
        "entries",
        ("account_id", "account_sequence", "kind", "source", "description_code",
         "description_parameters", "amount_micros", "balance_after_micros", "occurred_at",
         "posted_at", "accounting_date", "actor"),
        entries,
    )  # fmt: skip
    copy_rows(
        session,
        "grants",
        ("account_id", "grant_number", "kind", "amount_micros", "consideration_micros", "services",
         "expires_at", "priority", "tax_point", "tax_rate", "place_of_supply", "granted_at",
         "entry_sequence"),
        grants,
    )  # fmt: skip
    copy_rows(
        session,
        "grant_balances",
        ("account_id", "grant_number", "kind", "amount_micros", "consideration_micros",
         "rate_millionths", "services", "expires_at", "priority", "granted_at",
         "remaining_micros", "is_open"),
        balances,
    )  # fmt: skip
    copy_rows(
        session,
        "allocations",
        ("account_id", "account_sequence", "line_number", "grant_number", "amount_micros",
         "remaining_after_micros", "consideration_micros", "tax_micros"),
        allocations,
    )  # fmt: skip


def analyse(sessions: sessionmaker[Session]) -> None:
    """Give the planner the statistics that a database in use has."""
    with sessions() as session:
        session.execute(text("RESET ROLE"))
        session.execute(text("ANALYZE"))
        session.commit()


def charges_a_second(sessions: sessionmaker[Session], accounts: list[int], seed: int) -> float:
    """Charge `BATCHES` batches, a commit each, over the accounts; return charges a second."""
    chance = random.Random(seed)
    batches = [[_charge(chance, accounts) for _ in range(BATCH)] for _ in range(BATCHES)]
    gc.collect()
    gc.freeze()  # the benchmark's own data; the server does the same once it has started
    started = time.perf_counter()
    for batch in batches:
        with sessions() as session:
            charge_batch(session, charges=batch, actor=ACTOR)
            session.commit()
    return BATCH * BATCHES / (time.perf_counter() - started)


def _charge(chance: random.Random, accounts: list[int]) -> Charge:
    item = ChargeItem(
        origin="benchmark",
        event_id=uuid.UUID(int=chance.getrandbits(128)).hex,
        exact_micros=Decimal(chance.randrange(1, 10**9)).scaleb(-6),
        occurred_at=datetime.now(UTC) - timedelta(seconds=chance.randrange(3600)),
    )
    service = chance.choice(("ai-inference", "ai-notebook", "gpu-vm"))
    return Charge(accounts[chance.randrange(len(accounts))], service, "benchmark", (item,))


def run(sessions: sessionmaker[Session], pgbench: Pgbench) -> None:
    """Print the two ratios, medians of rounds in which yardstick and product take turns."""
    with sessions() as session:
        accounts = fill(session)
        session.commit()
    analyse(sessions)
    spread, hot, yard = [], [], []
    for number in range(ROUNDS):
        yard.append(pgbench.measure())
        spread.append(charges_a_second(sessions, accounts, seed=2 * number) / yard[-1])
        hot.append(charges_a_second(sessions, accounts[:1], seed=2 * number + 1) / yard[-1])
    with sessions() as session:
        differences = verify_ledger(session, actor=ACTOR)
    print(f"pgbench -N -c 1: {median(yard):,.0f} tps")
    print(f"charging, 10,000 accounts: {median(spread):.1f} x pgbench (goal 6)")
    print(f"charging, one hot account: {median(hot):.1f} x pgbench (goal 12)")
    print(f"ledger verified afterwards: {len(differences)} differences")
