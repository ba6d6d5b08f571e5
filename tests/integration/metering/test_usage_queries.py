"""What was spent, by day, service and resource, and how long credit lasts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from domain import ledger
from domain.actors import MemberRole, user_actor
from domain.errors import InvalidInput, NotFound
from domain.ledger.balances import account_summary
from domain.metering.queries import UsageReport, spending_outlook, usage_report
from domain.metering.usage import UsageEvent, record_usage
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.conftest import TestClock

TODAY = date(2026, 3, 10)
DAY = timedelta(days=1)


@pytest.fixture
def account(session: Session, clock: TestClock) -> int:
    """An account in Japan, where a day begins at 15:00 UTC of the day before."""
    account = make_account(session, site="jp", currency="JPY")
    grant(session, account, 100)
    for days, amount, service in ((0, 5, "gpu-vm"), (1, 7, "gpu-vm"), (1, 3, "ai-notebook")):
        charge(session, account, amount, occurred_at=clock.instant - days * DAY, service=service)
    late = datetime(2026, 3, 7, 15, 30, tzinfo=UTC)
    charge(session, account, 4, occurred_at=late, service="gpu-vm")
    return account


def report(
    session: Session, account: int, first: date = TODAY - 6 * DAY, **options: str
) -> UsageReport:
    return usage_report(
        session, actor=SYSTEM, account_id=account, first=first, last=TODAY, **options
    )


def test_spending_is_told_by_day_of_the_site_and_by_service(session: Session, account: int) -> None:
    found = report(session, account)
    assert found.zone == "Asia/Tokyo"
    assert [(one.begins, one.service, one.spent_micros // UNIT) for one in found.spendings] == [
        (date(2026, 3, 8), "gpu-vm", 4),
        (date(2026, 3, 9), "ai-notebook", 3),
        (date(2026, 3, 9), "gpu-vm", 7),
        (date(2026, 3, 10), "gpu-vm", 5),
    ]
    assert [(one.service, one.spent_micros // UNIT) for one in found.resources] == [
        ("gpu-vm", 16),
        ("ai-notebook", 3),
    ]
    assert found.spent_micros == 19 * UNIT


def test_weeks_begin_on_monday_and_months_on_their_first(session: Session, account: int) -> None:
    weeks = report(session, account, grain="week").spendings
    assert {one.begins for one in weeks} == {date(2026, 3, 2), date(2026, 3, 9)}
    months = report(session, account, grain="month").spendings
    assert {one.begins for one in months} == {date(2026, 3, 1)}
    assert sum(one.spent_micros for one in months) == 19 * UNIT


def test_a_reversed_charge_was_not_spent(session: Session, account: int, clock: TestClock) -> None:
    spent = charge(session, account, 9, occurred_at=clock.instant, service="gpu-vm")
    assert spent.entry_sequence is not None
    ledger.reverse_entry(
        session,
        account_id=account,
        entry_sequence=spent.entry_sequence,
        reason="mistake",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    assert report(session, account).spent_micros == 19 * UNIT


def test_the_period_before_is_as_long_and_ends_the_day_before(
    session: Session, account: int
) -> None:
    found = report(session, account, first=TODAY)
    assert found.spent_before == {"gpu-vm": 7 * UNIT, "ai-notebook": 3 * UNIT}
    assert found.before_micros == 10 * UNIT


def test_balances_go_back_from_today(session: Session, account: int) -> None:
    found = report(session, account)
    summary = account_summary(session, actor=SYSTEM, account_id=account)
    assert found.balances[-1] == (TODAY, summary.balance_micros)
    message = {day: micros // UNIT for day, micros in found.balances}
    # The top-up is of today; what it paid occurred before.
    assert message == {
        date(2026, 3, 4): 0, date(2026, 3, 5): 0, date(2026, 3, 6): 0, date(2026, 3, 7): 0,
        date(2026, 3, 8): -4, date(2026, 3, 9): -14, TODAY: 81,
    }  # fmt: skip


def test_quantities_are_exact_sums_by_meter(
    session: Session, account: int, clock: TestClock
) -> None:
    events = [
        UsageEvent(account, "tests", f"call-{number}", "ai-inference", clock.instant,
                   {"input-tokens": 1_000 + number, "output-tokens": 7}, "llama-3.1-8b-instruct")
        for number in range(3)
    ]  # fmt: skip
    record_usage(session, events=events, actor=SYSTEM)
    [resource] = [one for one in report(session, account).resources if one.calls]
    assert (resource.source, resource.calls) == ("llama-3.1-8b-instruct", 3)
    assert resource.quantities == {"input-tokens": Decimal(3_003), "output-tokens": Decimal(21)}


def test_the_outlook_spends_at_the_average_by_the_rule_of_charges(
    session: Session, account: int, clock: TestClock
) -> None:
    expires = (clock.instant + 2 * DAY).replace(second=0, microsecond=0)
    grant(session, account, 40, kind="voucher", services=("gpu-vm",), expires_at=expires)
    outlook = spending_outlook(session, actor=SYSTEM, account_id=account)
    assert outlook is not None
    # 19 in the three days since the first: 16 / 3 and 3 / 3 a day.
    assert outlook.days == 3
    assert outlook.daily_micros == -(-16 * UNIT // 3) + UNIT
    # The voucher pays GPU VM for two days, and the rest of it lapses.
    lapses = 40 * UNIT - 2 * -(-16 * UNIT // 3)
    assert outlook.forecast.lapses_micros == lapses
    left_for_both = 81 * UNIT - 2 * UNIT
    assert outlook.forecast.lasts_days == 2 + left_for_both // outlook.daily_micros
    assert len(outlook.forecast.balances_micros) == outlook.forecast.lasts_days


@pytest.mark.usefixtures("clock")
def test_without_spending_there_is_no_outlook(session: Session) -> None:
    account = make_account(session)
    assert spending_outlook(session, actor=SYSTEM, account_id=account) is None
    grant(session, account, 5)
    assert spending_outlook(session, actor=SYSTEM, account_id=account) is None


def test_another_account_is_not_found(session: Session, account: int) -> None:
    other = user_actor(7, memberships={account + 1: MemberRole.OWNER})
    with pytest.raises(NotFound):
        usage_report(session, actor=other, account_id=account, first=TODAY, last=TODAY)
    with pytest.raises(NotFound):
        spending_outlook(session, actor=other, account_id=account)
    with pytest.raises(NotFound):
        report(session, account + 1)


def test_a_period_that_makes_no_sense_is_refused(session: Session, account: int) -> None:
    with pytest.raises(InvalidInput):
        report(session, account, first=TODAY + DAY)
    with pytest.raises(InvalidInput):
        report(session, account, first=TODAY - timedelta(days=1_100))
    with pytest.raises(InvalidInput):
        report(session, account, grain="hour")
