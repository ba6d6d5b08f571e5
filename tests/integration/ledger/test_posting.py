"""How a posting reads and writes: what it sees after waiting, and small ones beside large ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from domain import ledger
from domain.errors import PeriodClosed
from domain.ledger import posting
from domain.ledger.periods import period_lock_name
from domain.ledger.posting import Posting
from tests.factories import SYSTEM, UNIT, charge, grant, make_account
from tests.support.grants import remaining
from tests.support.locks import wait_for_a_lock

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from tests.conftest import TestClock

_LOCK_MONTH = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_TABLES = (
    "account_balances",
    "allocations",
    "daily_quantities",
    "daily_totals",
    "debts",
    "entries",
    "grant_balances",
    "grants",
    "hold_allocations",
    "hold_resolutions",
    "holds",
    "open_holds",
    "refusals",
)


@pytest.fixture
def account(sessions: sessionmaker[Session]) -> int:
    """A committed account."""
    with sessions.begin() as session:
        return make_account(session)


def give(sessions: sessionmaker[Session], account: int) -> None:
    with sessions.begin() as session:
        grant(session, account, 10)


def test_a_month_that_closes_while_a_posting_waits_for_it_is_closed_to_it(
    sessions: sessionmaker[Session], account: int
) -> None:
    with sessions.begin() as session:
        zone = session.execute(text("SELECT time_zone FROM sites WHERE code = 'global'")).scalar()
        today: date = session.execute(
            text("SELECT (now() AT TIME ZONE :zone)::date"), {"zone": zone}
        ).scalar_one()
    month = today.replace(day=1)
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as closing:
            closing.execute(_LOCK_MONTH, {"name": period_lock_name("global", month)})
            posted = pool.submit(give, sessions, account)
            wait_for_a_lock(sessions)
            closing.execute(
                text(
                    "INSERT INTO accounting_periods (site_code, month, is_closed, changed_by)"
                    " VALUES ('global', :month, true, 'tests')"
                ),
                {"month": month},
            )
        with pytest.raises(PeriodClosed):
            posted.result(timeout=60)


def test_a_posting_that_waited_for_the_account_has_the_time_after_the_wait(
    sessions: sessionmaker[Session], account: int
) -> None:
    def now_of_posting() -> datetime:
        with sessions.begin() as session:
            return Posting(session, [account], SYSTEM).now

    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as first:
            Posting(first, [account], SYSTEM)
            found = pool.submit(now_of_posting)
            wait_for_a_lock(sessions)
            released_at: datetime = first.execute(text("SELECT clock_timestamp()")).scalar_one()
        assert found.result(timeout=60) >= released_at


def test_the_time_of_a_posting_on_many_accounts_is_after_the_last_lock(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        accounts = [make_account(session) for _ in range(3)]

    def now_of_posting() -> datetime:
        with sessions.begin() as session:
            return Posting(session, accounts, SYSTEM).now

    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as first:
            Posting(first, accounts[-1:], SYSTEM)
            found = pool.submit(now_of_posting)
            wait_for_a_lock(sessions)
            released_at: datetime = first.execute(text("SELECT clock_timestamp()")).scalar_one()
        assert found.result(timeout=60) >= released_at


def test_a_posting_on_no_account_has_the_time(session: Session, clock: TestClock) -> None:
    assert Posting(session, [], SYSTEM).now == clock.instant
    del session.info["clock"]
    assert Posting(session, [], SYSTEM).now <= datetime.now(UTC)


def live(session: Session, clock: TestClock) -> int:
    """Lead an account through what a posting can write, and return it."""
    account = make_account(session)
    charge(session, account, 4, occurred_at=clock.instant, refusable=False)
    grant(session, account, 3)  # settles debt in the posting that it comes with
    assert remaining(session, account) == {0: -1, 1: 0}
    paid = grant(session, account, 10)
    voucher = grant(session, account, 5, kind="voucher", services=("ai-inference", "gpu-vm"))
    assert remaining(session, account) == {0: 0, 1: 0, paid: 9, voucher: 5}
    spent = charge(session, account, 7, occurred_at=clock.instant).entry_sequence
    assert spent is not None
    hold = ledger.place_hold(
        session,
        account_id=account,
        amount_micros=2 * UNIT,
        service="gpu-vm",
        source="test-model",
        expires_at=clock.instant + timedelta(hours=1),
        actor=SYSTEM,
        idempotency_key="hold",
    )
    assert hold.hold_number is not None
    ledger.reverse_entry(
        session,
        account_id=account,
        entry_sequence=spent,
        reason="wrong",
        actor=SYSTEM,
        idempotency_key="reversal",
    )
    charge(session, account, 1_000, occurred_at=clock.instant)  # refused
    return account


def written(session: Session, account: int) -> dict[str, list[Any]]:
    found = {}
    for table in _TABLES:
        rows = session.execute(
            text(f"SELECT to_jsonb(t) - 'account_id' FROM {table} t WHERE account_id = :id"),  # noqa: S608 - names above
            {"id": account},
        )
        found[table] = sorted(map(repr, rows.scalars()))
    return found


def test_small_postings_write_the_rows_of_large_ones(
    session: Session, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_at = clock.instant
    small = written(session, live(session, clock))
    session.rollback()
    clock.instant = begun_at
    monkeypatch.setattr(posting, "_MAX_ROWS_TOGETHER", -1)
    large_account = live(session, clock)
    assert small["hold_allocations"]
    assert ledger.verify_ledger(session, actor=SYSTEM) == []
    assert written(session, large_account) == small
