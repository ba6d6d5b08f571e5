"""verify-ledger: a healthy ledger proves itself, and each kind of damage is named."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

from domain import ledger
from domain.actors import StaffRole, user_actor
from domain.errors import NotAuthorised
from domain.ledger.journal import JournalLine, post_journal_entry
from domain.ledger.verify_checks import CHECKS
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, next_key
from tests.support.mutations import disarm

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.conftest import TestClock


def meter(
    session: Session, account_id: int, exact: str, clock: TestClock, event_id: str
) -> ledger.ChargeOutcome:
    item = ledger.ChargeItem(
        origin="trace",
        event_id=event_id,
        exact_micros=Decimal(exact),
        occurred_at=clock.instant,
        model="m",
        quantities={"tokens": 7},
        catalogue_version=1,
    )
    one = ledger.Charge(
        account_id=account_id, service="ai-inference", source="m", items=(item,), refusable=False
    )
    return ledger.charge(session, charge=one, actor=SYSTEM)


def hold(session: Session, account_id: int, clock: TestClock) -> int | None:
    return ledger.place_hold(
        session,
        account_id=account_id,
        service="gpu-vm",
        amount_micros=2 * UNIT,
        expires_at=clock.instant + timedelta(hours=1),
        source="vm",
        actor=SYSTEM,
        idempotency_key=next_key(),
    ).hold_number


@pytest.fixture
def lived_in(session: Session, clock: TestClock) -> int:
    """An account in which everything has happened once, committed."""
    account = make_account(session, site="jp", currency="JPY")
    day = timedelta(days=1)
    grant(session, account, 10)  # entry 1, grant 1
    grant(session, account, 7, kind="voucher", expires_at=clock.instant + day)  # 2, 2
    grant(session, account, 10, kind="plan", consideration_micros=8 * UNIT)  # 3, 3
    meter(session, account, "1000000.25", clock, "e1")  # 4
    meter(session, account, "2000000.5", clock, "e2")  # 5
    charge(session, account, 100, occurred_at=clock.instant, service="gpu-vm")  # refusal 1
    captured, open_now = hold(session, account, clock), hold(session, account, clock)
    assert (captured, open_now) == (1, 2)
    charge(
        session,
        account,
        1,
        occurred_at=clock.instant,
        service="gpu-vm",
        hold_number=captured,
        refusable=False,
    )  # 6
    ledger.reverse_entry(
        session,
        account_id=account,
        entry_sequence=5,
        amount_micros=UNIT,
        reason="late",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )  # 7
    clock.advance(days=2)
    assert ledger.expire_grants(session, actor=SYSTEM) == 1  # 8
    charge(
        session,
        account,
        40,
        occurred_at=clock.instant,
        service="gpu-container",
        refusable=False,
    )  # 9
    ledger.claw_back_credit(
        session,
        account_id=account,
        kind="refund",
        grant_numbers=[1],
        amount_micros=2 * UNIT,
        source="bank",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )  # 10
    grant(session, account, 3, kind="adjustment", services=("gpu-container",))  # 11, 12
    post_journal_entry(
        session,
        site_code="jp",
        kind="payout",
        reference="po",
        lines=[JournalLine("1010", 5, "JPY"), JournalLine("1110.stripe", -5, "JPY")],
        occurred_at=clock.instant,
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    session.commit()
    return account


def test_a_healthy_ledger_has_no_difference(session: Session, lived_in: int) -> None:
    assert ledger.verify_ledger(session, actor=SYSTEM) == []
    assert ledger.verify_ledger(session, actor=SYSTEM, account_ids=[lived_in]) == []
    entries = session.execute(text("SELECT kind, amount_micros FROM entries ORDER BY 2")).all()
    assert len({kind for kind, _ in entries}) == 9


DAMAGE = {
    "entry_amount": "UPDATE entries SET amount_micros = -1000001 WHERE account_sequence = 4",
    "entry_sequence": "UPDATE entries SET account_sequence = 20 WHERE account_sequence = 12",
    "balance_after": "UPDATE entries SET balance_after_micros = 5 WHERE account_sequence = 4",
    "accounting_date": "UPDATE entries SET accounting_date = '2026-02-28' WHERE"
    " account_sequence = 4",
    "reversal": "UPDATE entries SET reverses_sequence = 3 WHERE account_sequence = 7",
    "balance_of_entries": "UPDATE account_balances SET balance_micros = balance_micros + 1",
    "balance_of_grants": "UPDATE grant_balances SET remaining_micros = remaining_micros + 1"
    " WHERE grant_number = 1",
    "account_row": "DELETE FROM account_balances",
    "last_entry_sequence": "UPDATE account_balances SET last_entry_sequence = 11",
    "last_grant_number": "UPDATE account_balances SET last_grant_number = 7",
    "last_hold_number": "DELETE FROM holds WHERE hold_number = 1",
    "last_refusal_number": "UPDATE account_balances SET last_refusal_number = 0",
    "grant_remaining": "UPDATE grant_balances SET remaining_micros = remaining_micros + 1"
    " WHERE grant_number = 1",
    "remaining_after": "UPDATE allocations SET remaining_after_micros = 3"
    " WHERE account_sequence = 4",
    "below_zero": "ALTER TABLE grant_balances DROP CONSTRAINT"
    " ck_grant_balances_only_overdraft_below_zero;"
    "UPDATE grant_balances SET remaining_micros = -1 WHERE grant_number = 3",
    "grant_is_open": "UPDATE grant_balances SET is_open = true WHERE grant_number = 2",
    "grant_terms": "UPDATE grant_balances SET expires_at = now() WHERE grant_number = 1",
    "grant_entry": "UPDATE grants SET entry_sequence = 4 WHERE grant_number = 1",
    "taken_back": "UPDATE grants SET amount_micros = 1 WHERE grant_number = 1",
    "grant_gone": "UPDATE grant_balances SET expired_micros = 1 WHERE grant_number = 2",
    "free_after_taking": "UPDATE grant_balances SET clawed_back_micros = 10000000,"
    " remaining_micros = 1 WHERE grant_number = 1",
    "consideration": "UPDATE allocations SET consideration_micros = consideration_micros + 1"
    " WHERE account_sequence = 4",
    "tax": "UPDATE allocations SET tax_micros = tax_micros - 1 WHERE account_sequence = 4",
    "debt_tax": "UPDATE allocations SET tax_micros = 7 WHERE account_sequence = 12"
    " AND grant_number = 0",
    "debt": "UPDATE debts SET due_micros = due_micros + 1 WHERE cause = 'usage'",
    "debt_total": "UPDATE debts SET due_micros = due_micros + 1 WHERE cause = 'usage'",
    "grant_held": "UPDATE grant_balances SET held_micros = held_micros - 1 WHERE held_micros > 0",
    "account_held": "UPDATE account_balances SET held_micros = held_micros + 1",
    "hold_amount": "UPDATE holds SET amount_micros = 9 WHERE hold_number = 1",
    "open_hold": "DELETE FROM open_holds",
    "captured_hold": "UPDATE hold_resolutions SET entry_sequence = 1",
    "usage_event_entry": "UPDATE usage_events SET account_sequence = 6 WHERE event_id = 'e1'",
    "usage_event_once": "UPDATE usage_events SET event_id = 'e1'",
    "usage_event_key": "UPDATE usage_keys SET account_sequence = 5 WHERE event_id = 'e1'",
    "usage_key_entry": "UPDATE usage_keys SET account_sequence = 99 WHERE event_id = 'e1'",
    "usage_key_refusal": "DELETE FROM refusals",
    "carry": 'UPDATE account_balances SET carries = carries || \'{"ai-inference": "0.5"}\'',
    "daily_totals": "UPDATE daily_totals SET calls = calls + 1 WHERE kind = 'charge'",
    "site_totals": "UPDATE total_changes SET amount_micros = amount_micros + 1"
    " WHERE kind = 'expiry'",
    "daily_quantities": "UPDATE daily_quantities SET quantity = quantity + 0.001",
    "finance_balance": "UPDATE finance_entries SET amount_micros = 6 WHERE line_number = 1",
    "finance_code": "UPDATE finance_entries SET ledger_code = '1110' WHERE line_number = 2",
    "finance_lines": "DELETE FROM finance_entries",
    "journal_balance": "DELETE FROM allocations WHERE account_sequence = 12 AND grant_number = 0",
    "journal_debt": "UPDATE allocations SET grant_number = 0, debt_cause = 'usage',"
    " debt_service = '' WHERE account_sequence = 4",
    "journal_liability": "UPDATE allocations SET consideration_micros = consideration_micros + 1"
    " WHERE account_sequence = 4",
}


def test_damage_is_of_checks_that_are_made() -> None:
    assert DAMAGE.keys() <= CHECKS.keys()


@pytest.mark.parametrize("check", DAMAGE)
def test_damage_is_found_and_named(
    session: Session, database_url: str, lived_in: int, check: str
) -> None:
    owner = create_engine(database_url)
    with owner.begin() as connection:
        disarm(connection)
        connection.execute(text(DAMAGE[check]))
    owner.dispose()
    found = ledger.verify_ledger(session, actor=SYSTEM)
    named = [difference for difference in found if difference.check == check]
    assert named
    assert {difference.account_id for difference in named} <= {lived_in, None}
    assert all(difference.expected != difference.found for difference in named)
    if named[0].account_id is not None:
        of_account = ledger.verify_ledger(session, actor=SYSTEM, account_ids=[lived_in])
        assert set(named) <= set(of_account)
        assert ledger.verify_ledger(session, actor=SYSTEM, account_ids=[lived_in + 1]) == []


@pytest.mark.usefixtures("lived_in")
def test_a_missing_entry_and_a_missing_allocation_are_named(
    session: Session, database_url: str
) -> None:
    owner = create_engine(database_url)
    with owner.begin() as connection:
        disarm(connection)
        connection.execute(text("DELETE FROM entries WHERE account_sequence = 4"))
        connection.execute(text("DELETE FROM allocations WHERE account_sequence = 5"))
        connection.execute(text("DELETE FROM grant_balances WHERE grant_number = 2"))
    owner.dispose()
    found = ledger.verify_ledger(session, actor=SYSTEM)
    named = {(difference.check, difference.key) for difference in found}
    assert {
        ("entry_amount", "entry 4"),
        ("entry_amount", "entry 5"),
        ("entry_sequence", "entry 5"),
        ("last_entry_sequence", "last_entry_sequence"),
        ("grant_remaining", "grant 2"),
        ("usage_key_entry", "key trace e1"),
    } <= named


def test_the_carry_is_the_exact_sum_less_what_was_charged(session: Session, lived_in: int) -> None:
    carry = session.execute(
        text("SELECT (carries ->> :s)::numeric FROM account_balances WHERE account_id = :id"),
        {"id": lived_in, "s": "ai-inference"},
    )
    assert carry.scalar_one() == Decimal("0.75")


def test_only_staff_and_the_system_verify(session: Session) -> None:
    with pytest.raises(NotAuthorised):
        ledger.verify_ledger(session, actor=user_actor(1))


def test_top_up_without_payment_is_listed_with_its_origin(session: Session) -> None:
    account = make_account(session)
    grant(session, account, 12, origin="ledger of 2025")
    grant(session, account, 7, kind="voucher")
    (found,) = ledger.top_ups_without_payment(session, actor=SYSTEM)
    assert (found.account_id, found.entry_sequence, found.amount_micros, found.currency) == (
        account,
        1,
        12 * UNIT,
        "USD",
    )
    assert (found.origin, found.actor) == ("ledger of 2025", "system:tests")


def test_top_up_by_a_person_without_payment_is_a_difference(session: Session) -> None:
    account = make_account(session)
    finance = user_actor(900, staff_role=StaffRole.FINANCE)
    ledger.add_grant(
        session,
        account_id=account,
        terms=ledger.GrantTerms(kind="top_up", amount_micros=UNIT, consideration_micros=UNIT),
        source="bank",
        actor=finance,
        idempotency_key=next_key(),
    )
    (difference,) = ledger.verify_ledger(session, actor=SYSTEM)
    assert (difference.check, difference.key) == ("entry_without_payment", "entry 1")
