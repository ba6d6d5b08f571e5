"""The day that the books give to money: in the site's zone, while its month is open."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from db.models import Entry, FinanceEntry, Payment
from domain.ledger.journal import JournalLine, post_journal_entry
from domain.payments.gateway_updates import apply_updates
from tests.factories import SYSTEM, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.conftest import TestClock

LATE_EVENING = datetime(2026, 1, 31, 18, 0, tzinfo=UTC)
"""In Viet Nam it is 1 February then."""


def close(session: Session, month: date) -> None:
    session.execute(
        text("INSERT INTO accounting_periods VALUES ('vn', :month, true, 1, now(), 'tests')"),
        {"month": month},
    )


def post(session: Session) -> date:
    posting = post_journal_entry(
        session,
        site_code="vn",
        kind="payout",
        reference="PO 1",
        lines=(JournalLine("1010", 5, "VND"), JournalLine("1110.vnpay", -5, "VND")),
        occurred_at=LATE_EVENING,
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    rows = select(FinanceEntry.accounting_date).where(FinanceEntry.posting_id == posting)
    (day,) = set(session.scalars(rows))
    return day


def test_finance_posting_has_the_day_of_its_site(session: Session, clock: TestClock) -> None:
    assert clock.instant > LATE_EVENING
    assert post(session) == date(2026, 2, 1)


def test_finance_posting_into_a_closed_month_has_the_day_of_today(
    session: Session, clock: TestClock
) -> None:
    close(session, date(2026, 2, 1))
    assert post(session) == clock.instant.date()
    close(session, date(2026, 1, 1))
    assert post(session) == clock.instant.date()


def date_of_top_up(session: Session, clock: TestClock) -> date:
    """Return the accounting date of a top-up that was begun and paid late on 31 January."""
    gateway = ScriptedGateway()
    clock.instant = LATE_EVENING.replace(hour=16)
    account, owner = payer(session)
    started = begin(session, gateway, account, owner, dong(550_000))
    money = paid(started.reference, dong(550_000))
    reported_at = datetime(2026, 2, 3, 1, tzinfo=UTC)
    clock.instant = reported_at
    apply_updates(
        session,
        gateway=gateway,
        updates=(replace(money, occurred_at=LATE_EVENING.replace(hour=16, minute=30)),),
        actor=GATEWAYS,
    )
    session.flush()
    assert session.get_one(Payment, started.payment_id).credited_at is not None
    return session.get_one(Entry, (account, 1)).accounting_date


def test_top_up_has_the_day_on_which_it_was_paid(session: Session, clock: TestClock) -> None:
    assert date_of_top_up(session, clock) == date(2026, 1, 31)


def test_top_up_paid_in_a_closed_month_has_the_day_of_its_credit(
    session: Session, clock: TestClock
) -> None:
    close(session, date(2026, 1, 1))
    assert date_of_top_up(session, clock) == date(2026, 2, 3)
