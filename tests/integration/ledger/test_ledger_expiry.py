"""Expiry: the grace for late usage, events that come too late, and what a hold protects."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from domain import ledger
from domain.errors import InvalidInput
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.conftest import TestClock

HOUR = timedelta(hours=1)


@pytest.fixture
def account(session: Session, clock: TestClock) -> int:
    session.info["clock"] = clock
    return make_account(session)


def remaining(session: Session, number: int = 1) -> float:
    row = session.execute(
        text("SELECT remaining_micros FROM grant_balances WHERE grant_number = :number"),
        {"number": number},
    )
    return int(row.scalar_one()) / UNIT


def expire(session: Session) -> int:
    return ledger.expire_grants(session, actor=SYSTEM)


def test_expiry_is_posted_after_the_grace_and_once(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10, expires_at=clock.instant + HOUR)
    clock.advance(minutes=120)  # the expiry was rounded up to a whole minute
    assert expire(session) == 0
    clock.advance(minutes=1)
    assert expire(session) == 1
    assert expire(session) == 0
    entry = session.execute(text("SELECT * FROM entries WHERE kind = 'expiry'")).one()
    assert entry.amount_micros == -10 * UNIT
    assert entry.balance_after_micros == 0
    assert (
        entry.occurred_at
        == session.execute(
            text("SELECT expires_at FROM grants WHERE grant_number = 1")
        ).scalar_one()
    )


def test_the_grace_pays_what_occurred_in_time_and_nothing_newer(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10, expires_at=clock.instant + HOUR)
    in_time = clock.instant + timedelta(minutes=59)
    clock.advance(minutes=90)
    assert charge(session, account, 3, occurred_at=clock.instant).status == "refused"
    assert charge(session, account, 3, occurred_at=in_time).status == "charged"
    assert remaining(session) == 7


def test_an_event_after_the_grace_never_reaches_the_grant_even_before_the_job(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10, expires_at=clock.instant + HOUR)
    in_time = clock.instant
    clock.advance(minutes=121)
    charge(session, account, 3, occurred_at=in_time, refusable=False)
    assert (remaining(session), remaining(session, 0)) == (10, -3)
    assert expire(session) == 1
    assert (remaining(session), remaining(session, 0)) == (0, -3)


def test_a_grant_pays_nothing_that_occurred_before_it_started(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10, starts_at=clock.instant + HOUR)
    before = clock.instant
    assert charge(session, account, 1, occurred_at=before).status == "refused"
    clock.advance(hours=2)
    assert charge(session, account, 1, occurred_at=before).status == "refused"
    assert charge(session, account, 1, occurred_at=clock.instant).status == "charged"


def test_credit_that_starts_later_settles_debt_only_then(
    session: Session, clock: TestClock, account: int
) -> None:
    charge(session, account, 3, occurred_at=clock.instant, refusable=False)
    grant(session, account, 10, starts_at=clock.instant + HOUR)
    assert (remaining(session), remaining(session, 0)) == (10, -3)
    clock.advance(hours=2)
    charge(session, account, 1, occurred_at=clock.instant)
    assert (remaining(session), remaining(session, 0)) == (6, 0)


def test_times_are_whole_minutes_in_the_customers_favour(
    session: Session, clock: TestClock, account: int
) -> None:
    at = clock.instant.replace(second=30)
    grant(session, account, 10, starts_at=at, expires_at=at + HOUR)
    grants = session.execute(
        text("SELECT starts_at, expires_at FROM grants WHERE amount_micros > 0")
    )
    start = at.replace(second=0, microsecond=0)
    assert tuple(grants.one()) == (start, start + HOUR + timedelta(minutes=1))


def test_credit_that_is_over_is_not_granted(
    session: Session, clock: TestClock, account: int
) -> None:
    with pytest.raises(InvalidInput):
        grant(session, account, 10, expires_at=clock.instant - timedelta(hours=2))


def test_what_is_held_does_not_expire_under_the_hold(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10, expires_at=clock.instant + HOUR)
    held = ledger.place_hold(
        session,
        account_id=account,
        service="gpu-vm",
        amount_micros=6 * UNIT,
        expires_at=clock.instant + timedelta(hours=5),
        source="vm",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    clock.advance(hours=3)
    assert expire(session) == 1
    assert remaining(session) == 6
    assert expire(session) == 0
    charge(
        session,
        account,
        4,
        occurred_at=clock.instant,
        service="gpu-vm",
        hold_number=held.hold_number,
        refusable=False,
    )
    assert remaining(session) == 2
    assert expire(session) == 1
    assert remaining(session) == 0


def test_grants_expire_a_limited_number_at_a_time(
    session: Session, clock: TestClock, account: int
) -> None:
    for _ in range(3):
        grant(session, account, 1, expires_at=clock.instant + HOUR)
    clock.advance(hours=3)
    counts = [ledger.expire_grants(session, actor=SYSTEM, limit=2) for _ in range(3)]
    assert counts == [2, 1, 0]
