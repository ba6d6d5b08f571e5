"""Charging: burn order, scopes, refusals, debt, carry, replay."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from domain import ledger
from domain.errors import IdempotencyMismatch
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, make_charge, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.conftest import TestClock


def balance(session: Session, account_id: int) -> int:
    row = session.execute(
        text("SELECT balance_micros FROM account_balances WHERE account_id = :id"),
        {"id": account_id},
    )
    return int(row.scalar_one())


def paid_by(session: Session, account_id: int, sequence: int | None) -> dict[int, int]:
    rows = session.execute(
        text(
            "SELECT grant_number, sum(amount_micros)::bigint FROM allocations"
            " WHERE account_id = :id AND account_sequence = :sequence GROUP BY grant_number"
        ),
        {"id": account_id, "sequence": sequence},
    )
    return {number: amount for number, amount in rows}  # noqa: C416 - rows are not pairs


def test_plan_then_voucher_then_goodwill_then_top_up(session: Session, clock: TestClock) -> None:
    account = make_account(session)
    top_up = grant(session, account, 10)
    goodwill = grant(session, account, 10, kind="adjustment")
    voucher = grant(session, account, 10, kind="voucher", expires_at=clock.instant + timedelta(9))
    plan = grant(session, account, 10, kind="plan", expires_at=clock.instant + timedelta(30))
    outcome = charge(session, account, 35, occurred_at=clock.instant)
    assert outcome.status == "charged"
    assert paid_by(session, account, outcome.entry_sequence) == {
        plan: -10 * UNIT,
        voucher: -10 * UNIT,
        goodwill: -10 * UNIT,
        top_up: -5 * UNIT,
    }
    assert balance(session, account) == 5 * UNIT


def test_inside_a_kind_soonest_expiry_then_oldest_then_lowest(
    session: Session, clock: TestClock
) -> None:
    account = make_account(session)
    late = grant(session, account, 1, kind="voucher", expires_at=clock.instant + timedelta(20))
    never = grant(session, account, 1, kind="voucher")
    soon = grant(session, account, 1, kind="voucher", expires_at=clock.instant + timedelta(10))
    also_late = grant(session, account, 1, kind="voucher", expires_at=clock.instant + timedelta(20))
    outcome = charge(session, account, 2, occurred_at=clock.instant)
    expected = {soon: -UNIT, late: -UNIT}
    assert paid_by(session, account, outcome.entry_sequence) == expected
    outcome = charge(session, account, 2, occurred_at=clock.instant)
    assert paid_by(session, account, outcome.entry_sequence) == {also_late: -UNIT, never: -UNIT}


def test_a_scoped_grant_pays_only_for_its_services(session: Session, clock: TestClock) -> None:
    account = make_account(session)
    scoped = grant(session, account, 10, kind="voucher", services=("ai-notebook",))
    top_up = grant(session, account, 10)
    outcome = charge(session, account, 4, occurred_at=clock.instant, service="gpu-vm")
    assert paid_by(session, account, outcome.entry_sequence) == {top_up: -4 * UNIT}
    outcome = charge(session, account, 12, occurred_at=clock.instant, service="ai-notebook")
    assert paid_by(session, account, outcome.entry_sequence) == {
        scoped: -10 * UNIT,
        top_up: -2 * UNIT,
    }


def test_a_charge_above_the_credit_is_refused_whole(session: Session, clock: TestClock) -> None:
    account = make_account(session)
    grant(session, account, 5)
    at = clock.instant
    outcome = charge(session, account, "5.000001", occurred_at=at, event_id="e1")
    assert (outcome.status, outcome.reason) == ("refused", "insufficient_credit")
    assert balance(session, account) == 5 * UNIT
    again = charge(session, account, "5.000001", occurred_at=at, event_id="e1")
    assert (again.status, again.refusal_number) == ("replayed", outcome.refusal_number)
    assert session.execute(text("SELECT count(*) FROM refusals")).scalar_one() == 1


def test_usage_that_happened_becomes_debt_and_the_next_credit_settles_it(
    session: Session, clock: TestClock
) -> None:
    account = make_account(session)
    grant(session, account, 5)
    charge(session, account, 8, occurred_at=clock.instant, refusable=False)
    assert balance(session, account) == -3 * UNIT
    number = grant(session, account, 10)
    assert balance(session, account) == 7 * UNIT
    remaining = session.execute(
        text("SELECT grant_number, remaining_micros FROM grant_balances ORDER BY 1")
    ).all()
    assert [tuple(row) for row in remaining] == [(0, 0), (1, 0), (number, 7 * UNIT)]


def test_the_fraction_of_a_micro_is_carried(session: Session, clock: TestClock) -> None:
    account = make_account(session)
    grant(session, account, 5)
    for _ in range(10):
        charge(session, account, Decimal("0.0000003"), occurred_at=clock.instant)
    assert balance(session, account) == 5 * UNIT - 3


def test_a_repeated_key_answers_the_first_result_and_another_request_is_an_error(
    session: Session, clock: TestClock
) -> None:
    account = make_account(session)
    grant(session, account, 5)
    at = clock.instant
    first = charge(session, account, 1, occurred_at=at, event_id="same")
    again = charge(session, account, 1, occurred_at=at, event_id="same")
    assert again.status == "replayed"
    assert again.entry_sequence == first.entry_sequence
    with pytest.raises(IdempotencyMismatch):
        charge(session, account, 2, occurred_at=at, event_id="same")
    assert balance(session, account) == 4 * UNIT


def test_a_duplicate_inside_one_batch_counts_once(session: Session, clock: TestClock) -> None:
    account = make_account(session)
    grant(session, account, 5)
    one = make_charge(account, 1, occurred_at=clock.instant, event_id="twice")
    outcomes = ledger.charge_batch(session, charges=[one, one], actor=SYSTEM)
    assert [outcome.status for outcome in outcomes] == ["charged", "replayed"]
    assert balance(session, account) == 4 * UNIT


def test_held_credit_is_not_spent_and_a_capture_spends_it(
    session: Session, clock: TestClock
) -> None:
    account = make_account(session)
    grant(session, account, 10)
    hold = ledger.place_hold(
        session,
        account_id=account,
        service="gpu-vm",
        amount_micros=6 * UNIT,
        expires_at=clock.instant + timedelta(hours=1),
        source="vm-1",
        actor=SYSTEM,
        idempotency_key=next_key("hold"),
    )
    refused = charge(session, account, 5, occurred_at=clock.instant)
    assert refused.status == "refused"
    captured = charge(
        session,
        account,
        7,
        occurred_at=clock.instant,
        service="gpu-vm",
        refusable=False,
        hold_number=hold.hold_number,
    )
    assert captured.status == "charged"
    assert balance(session, account) == 3 * UNIT
    held = session.execute(text("SELECT held_micros FROM account_balances")).scalar_one()
    assert held == 0
