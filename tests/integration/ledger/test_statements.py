"""Monthly statements tie to the ledger, month to month and line by line."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from domain import ledger
from domain.actors import MemberRole, StaffRole, system_actor, user_actor
from domain.errors import InvalidInput, NotFound
from domain.ledger import statements
from domain.ledger.statements import Statement, monthly_statement, parse_month, statement_months
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.conftest import TestClock

MARCH = date(2026, 3, 1)


@pytest.fixture
def account(session: Session, clock: TestClock) -> int:
    """Three months of credit, usage, expiry and a reversal in Tokyo, to the middle of May."""
    account = make_account(session, site="jp", currency="JPY")
    grant(session, account, 10_000)
    grant(session, account, 500, kind="voucher", expires_at=datetime(2026, 4, 20, tzinfo=UTC))
    for number in range(40):
        at = clock.advance(days=1, hours=15 if number % 2 else 0)
        service = ("ai-inference", "gpu-vm", "model-hub")[number % 3]
        done = charge(session, account, number + 1, occurred_at=at, service=service)
        ledger.expire_grants(session, actor=SYSTEM)
    ledger.reverse_entry(
        session,
        account_id=account,
        entry_sequence=done.entry_sequence or 0,
        reason="outage",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    clock.advance(hours=1)
    return account


def all_statements(session: Session, account: int) -> list[Statement]:
    months = statement_months(session, actor=SYSTEM, account_id=account)
    return [
        monthly_statement(session, actor=SYSTEM, account_id=account, month=month)
        for month in reversed(months)
    ]


def assert_ties(session: Session, account: int) -> None:
    found = all_statements(session, account)
    assert [each.month for each in found] == [MARCH, date(2026, 4, 1), date(2026, 5, 1)]
    assert found[0].opening_micros == 0
    for each in found:
        moved = sum(line.amount_micros for line in each.lines)
        assert each.opening_micros + moved == each.closing_micros
        assert sum(micros for _, micros in each.totals) == moved
        assert sum(line.entries for line in each.lines) == each.entries
        assert each.lines[-1].balance_micros == each.closing_micros
        assert [line.day for line in each.lines] == sorted(line.day for line in each.lines)
        assert all(line.day.replace(day=1) == each.month for line in each.lines)
    for before, after in itertools.pairwise(found):
        assert before.closing_micros == after.opening_micros
    ledger_says = session.execute(
        text(
            "SELECT balance_micros, last_entry_sequence FROM account_balances"
            " WHERE account_id = :id"
        ),
        {"id": account},
    ).one()
    assert (found[-1].closing_micros, sum(each.entries for each in found)) == tuple(ledger_says)
    assert [each.is_finished for each in found] == [True, True, False]


def test_statements_tie_to_the_ledger_entry_by_entry(session: Session, account: int) -> None:
    assert_ties(session, account)
    for each in all_statements(session, account):
        assert not each.is_summed
        balance = each.opening_micros
        for line in each.lines:
            balance += line.amount_micros
            assert line.balance_micros == balance


def test_statements_of_many_entries_tie_day_by_day(
    session: Session, account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "LISTED_ENTRIES", 1)
    assert_ties(session, account)
    for each in all_statements(session, account):
        assert each.is_summed
        balance = each.opening_micros
        for line in each.lines:
            balance += line.amount_micros
            if line.balance_micros is not None:
                assert line.balance_micros == balance


def test_many_entries_of_a_day_become_one_line_a_kind_and_service(
    session: Session, clock: TestClock
) -> None:
    account = make_account(session)
    grant(session, account, 1_000)
    at = clock.instant - timedelta(minutes=1)
    for number in range(statements.LISTED_ENTRIES + 20):
        service = "gpu-vm" if number % 2 else "ai-inference"
        charge(session, account, 1, occurred_at=at, service=service)
    found = monthly_statement(session, actor=SYSTEM, account_id=account, month=MARCH)
    assert found.is_summed
    message = {
        (line.kind, line.service): (line.entries, line.amount_micros) for line in found.lines
    }
    assert message == {
        ("charge", "ai-inference"): (60, -60 * UNIT),
        ("charge", "gpu-vm"): (60, -60 * UNIT),
        ("top_up", "bank"): (1, 1_000 * UNIT),
    }


def test_a_month_ends_at_midnight_of_the_site(session: Session, clock: TestClock) -> None:
    account = make_account(session, site="jp", currency="JPY")
    tokyo = ZoneInfo("Asia/Tokyo")
    clock.instant = datetime(2026, 3, 31, 23, 59, tzinfo=tokyo)
    grant(session, account, 100)
    clock.instant = datetime(2026, 4, 1, 0, 1, tzinfo=tokyo)
    grant(session, account, 7)
    march, april = all_statements(session, account)
    assert (march.opening_micros, march.closing_micros) == (0, 100 * UNIT)
    assert (april.opening_micros, april.closing_micros) == (100 * UNIT, 107 * UNIT)
    assert march.as_of == datetime(2026, 4, 1, tzinfo=tokyo)


def test_an_account_without_entries_has_an_empty_statement(
    session: Session, clock: TestClock
) -> None:
    account = make_account(session)
    assert statement_months(session, actor=SYSTEM, account_id=account) == (MARCH,)
    found = monthly_statement(session, actor=SYSTEM, account_id=account, month=MARCH)
    assert (found.opening_micros, found.closing_micros, found.lines) == (0, 0, ())
    assert found.as_of <= clock.instant
    with pytest.raises(NotFound):
        monthly_statement(session, actor=SYSTEM, account_id=account, month=date(2026, 4, 1))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "2026",
        "2026-13",
        "2026-00",
        "0000-01",
        "26-03",
        "2026-3",
        "2026-3x",
        "2026-03-1",
        "9999-12",
    ],
)
def test_what_is_no_month_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        parse_month(name)


def test_the_month_in_an_address_is_its_first_day() -> None:
    assert parse_month("2026-03") == MARCH


def test_members_and_staff_read_statements_and_nobody_else(session: Session, account: int) -> None:
    stranger = user_actor(7, memberships={account + 1: MemberRole.OWNER})
    for read in (
        lambda actor: monthly_statement(session, actor=actor, account_id=account, month=MARCH),
        lambda actor: statement_months(session, actor=actor, account_id=account),
    ):
        with pytest.raises(NotFound):
            read(stranger)
        for actor in (
            user_actor(8, memberships={account: MemberRole.READER}),
            user_actor(9, staff_role=StaffRole.SUPPORT),
            system_actor("tests"),
        ):
            assert read(actor)
