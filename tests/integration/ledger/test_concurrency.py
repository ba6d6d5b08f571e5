"""Many threads on real PostgreSQL: no overdraft, no loss, no deadlock that anyone sees."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain import ledger
from tests.factories import SYSTEM, UNIT, grant, make_account, make_charge, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

THREADS = 16


def post(sessions: sessionmaker[Session], charges: list[ledger.Charge]) -> list[str]:
    with sessions() as session:
        outcomes = ledger.charge_batch(session, charges=charges, actor=SYSTEM)
        session.commit()
    return [outcome.status for outcome in outcomes]


def run_together(sessions: sessionmaker[Session], work: list[list[ledger.Charge]]) -> list[str]:
    with ThreadPoolExecutor(THREADS) as threads:
        results = threads.map(lambda charges: post(sessions, charges), work)
        return [status for statuses in results for status in statuses]


def assert_sound(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        assert ledger.verify_ledger(session, actor=SYSTEM) == []


def test_sixteen_threads_on_one_account_never_overdraw_it(
    sessions: sessionmaker[Session],
) -> None:
    with sessions() as session:
        account = make_account(session)
        grant(session, account, 30, kind="voucher", services=("ai-inference",))
        grant(session, account, 70)
        session.commit()
    at = datetime.now(UTC) - timedelta(minutes=1)
    unique = [make_charge(account, 1, occurred_at=at, event_id=f"one-{n}") for n in range(160)]
    doubled = [*unique, *unique[::2]]
    random.Random(1).shuffle(doubled)
    statuses = run_together(sessions, [[charge] for charge in doubled])
    assert statuses.count("charged") == 100
    assert statuses.count("refused") == 60
    assert statuses.count("replayed") == 80
    with sessions() as session:
        row = session.execute(
            text("SELECT balance_micros FROM account_balances WHERE account_id = :id"),
            {"id": account},
        )
        assert row.scalar_one() == 0
    assert_sound(sessions)


def test_sixteen_threads_on_many_accounts_lose_nothing(sessions: sessionmaker[Session]) -> None:
    chance = random.Random(2)
    with sessions() as session:
        accounts = [make_account(session) for _ in range(12)]
        for account in accounts:
            grant(session, account, 1_000)
        session.commit()
    at = datetime.now(UTC) - timedelta(minutes=1)
    unique = [
        make_charge(chance.choice(accounts), 1, occurred_at=at, event_id=f"many-{n}")
        for n in range(800)
    ]
    doubled = [*unique, *chance.sample(unique, 200)]
    chance.shuffle(doubled)
    batches = [doubled[start : start + 20] for start in range(0, len(doubled), 20)]
    statuses = run_together(sessions, batches)
    assert statuses.count("charged") == 800
    assert statuses.count("replayed") == 200
    with sessions() as session:
        total = session.execute(text("SELECT sum(balance_micros)::bigint FROM account_balances"))
        assert total.scalar_one() == (12 * 1_000 - 800) * UNIT
    assert_sound(sessions)


def test_one_grant_key_from_sixteen_threads_grants_once(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        account = make_account(session)
        session.commit()
    key = next_key("race")

    def give(_: int) -> int:
        with sessions() as session:
            number = grant(session, account, 5, key=key)
            session.commit()
            return number

    with ThreadPoolExecutor(THREADS) as threads:
        numbers = set(threads.map(give, range(THREADS)))
    assert numbers == {1}
    assert_sound(sessions)


def test_holds_race_for_the_last_credit_and_one_wins(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        account = make_account(session)
        grant(session, account, 10)
        session.commit()
    expires_at = datetime.now(UTC) + timedelta(hours=1)

    def hold(number: int) -> bool:
        with sessions() as session:
            outcome = ledger.place_hold(
                session,
                account_id=account,
                service="gpu-vm",
                amount_micros=10 * UNIT,
                expires_at=expires_at,
                source="vm",
                actor=SYSTEM,
                idempotency_key=f"hold-{number}",
            )
            session.commit()
            return outcome.hold_number is not None

    with ThreadPoolExecutor(THREADS) as threads:
        assert sum(threads.map(hold, range(THREADS))) == 1
    assert_sound(sessions)
