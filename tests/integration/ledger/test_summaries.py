"""The sums of all accounts: what postings queue, and what the job makes of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from domain import ledger
from domain.accounts import open_account
from domain.jobs import standard_jobs
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, make_charge
from tests.support.locks import wait_for_a_lock

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from tests.conftest import TestClock

SUMS = text("""
SELECT site_code, country, currency, day::text, kind, service, sum(amount_micros)::bigint,
  sum(entries)::int
FROM (SELECT site_code, country, currency, day, kind, service, amount_micros, entries
      FROM site_totals
      UNION ALL
      SELECT site_code, country, currency, day, kind, service, amount_micros, entries
      FROM total_changes) each_time
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
""")
QUEUED = text("SELECT count(*) FROM total_changes")


def sums(session: Session) -> list[tuple[object, ...]]:
    return [tuple(row) for row in session.execute(SUMS)]


@pytest.fixture
def accounts(session: Session, clock: TestClock) -> list[int]:
    """Two accounts of Japan, one of them with a country, with credit and a batch of charges."""
    named = open_account(
        session, site_code="jp", name="Named", currency="JPY", country="JP", actor=SYSTEM
    )
    found = [make_account(session, site="jp", currency="JPY"), named]
    for account in found:
        grant(session, account, 100)
    charges = [
        make_charge(account, amount, occurred_at=clock.instant, service=service)
        for account in found
        for amount, service in ((1, "gpu-vm"), (2, "gpu-vm"), (4, "ai-notebook"))
    ]
    ledger.charge_batch(session, charges=charges, actor=SYSTEM)
    session.commit()
    return found


def of_country(country: str) -> list[tuple[object, ...]]:
    key = ("jp", country, "JPY", "2026-03-10")
    return [
        (*key, "charge", "ai-notebook", -4 * UNIT, 1),
        (*key, "charge", "gpu-vm", -3 * UNIT, 2),
        (*key, "top_up", "", 100 * UNIT, 1),
    ]


@pytest.mark.usefixtures("accounts")
def test_sums_are_the_same_before_and_after_they_are_folded(session: Session) -> None:
    expected = [*of_country(""), *of_country("JP")]
    assert sums(session) == expected
    assert session.execute(QUEUED).scalar_one() == 6
    assert ledger.fold_totals(session, actor=SYSTEM) == 6
    assert session.execute(QUEUED).scalar_one() == 0
    assert sums(session) == expected
    assert ledger.fold_totals(session, actor=SYSTEM) == 0
    assert ledger.verify_ledger(session, actor=SYSTEM) == []


def test_what_is_folded_is_added_to_what_was(
    session: Session, clock: TestClock, accounts: list[int]
) -> None:
    ledger.fold_totals(session, actor=SYSTEM)
    charge(session, accounts[0], 5, occurred_at=clock.instant, service="gpu-vm")
    assert ledger.fold_totals(session, actor=SYSTEM) == 1
    assert ("jp", "", "JPY", "2026-03-10", "charge", "gpu-vm", -8 * UNIT, 3) in sums(session)
    assert ledger.verify_ledger(session, actor=SYSTEM) == []


def test_a_batch_queues_what_accounts_of_one_place_add_together(
    session: Session, clock: TestClock
) -> None:
    charges = [
        make_charge(make_account(session), amount, occurred_at=clock.instant, refusable=False)
        for amount in (1, 2, 4)
    ]
    ledger.charge_batch(session, charges=charges, actor=SYSTEM)
    assert session.execute(QUEUED).scalar_one() == 1
    assert sums(session) == [
        ("global", "", "USD", "2026-03-10", "charge", "ai-inference", -7 * UNIT, 3)
    ]


@pytest.mark.usefixtures("accounts")
def test_a_round_takes_the_oldest_and_no_more_than_its_limit(session: Session) -> None:
    expected = sums(session)
    oldest = session.execute(text("SELECT min(change_number) FROM total_changes")).scalar_one()
    assert ledger.fold_totals(session, actor=SYSTEM, limit=2) == 2
    left = session.execute(text("SELECT min(change_number) FROM total_changes")).scalar_one()
    assert left == oldest + 2
    assert sums(session) == expected


@pytest.mark.usefixtures("accounts")
def test_two_at_once_lose_and_double_nothing(sessions: sessionmaker[Session]) -> None:
    with sessions() as first:
        expected = sums(first)
        assert ledger.fold_totals(first, actor=SYSTEM, limit=4) == 4
        found: list[int] = []

        def fold() -> None:
            with sessions.begin() as second:
                found.append(ledger.fold_totals(second, actor=SYSTEM))

        other = threading.Thread(target=fold)
        other.start()
        wait_for_a_lock(sessions)
        first.commit()
        other.join()
    assert found == [2]
    with sessions() as session:
        assert sums(session) == expected
        assert session.execute(QUEUED).scalar_one() == 0
        assert ledger.verify_ledger(session, actor=SYSTEM) == []


def test_a_change_that_commits_late_is_folded_by_the_next_run(
    sessions: sessionmaker[Session], session: Session, clock: TestClock, accounts: list[int]
) -> None:
    charge(session, accounts[0], 1, occurred_at=clock.instant, service="gpu-vm")  # not committed
    with sessions.begin() as other:
        other.info["clock"] = clock
        charge(other, accounts[1], 1, occurred_at=clock.instant, service="gpu-vm")
        assert ledger.fold_totals(other, actor=SYSTEM) == 7
    session.commit()
    assert session.execute(QUEUED).scalar_one() == 1
    assert ledger.fold_totals(session, actor=SYSTEM) == 1
    assert ledger.verify_ledger(session, actor=SYSTEM) == []


@pytest.mark.usefixtures("accounts")
def test_the_job_folds_until_nothing_is_left(sessions: sessionmaker[Session]) -> None:
    found = standard_jobs(sessions, actor=SYSTEM, deliver_mail=None)
    (job,) = [job for job in found if job.name == "fold_totals"]
    assert job.run(threading.Event()) == "6 folded"
    assert job.run(threading.Event()) == "0 folded"


@pytest.mark.usefixtures("clock")
def test_the_sum_of_accounts_may_be_more_than_one_can_hold(session: Session) -> None:
    most = 9_000_000_000_000
    for _ in range(2):
        grant(session, make_account(session), most)
    ledger.fold_totals(session, actor=SYSTEM)
    whole = session.execute(text("SELECT sum(amount_micros) FROM site_totals")).scalar_one()
    assert whole == 2 * most * UNIT > 2**63
