"""Reversals, refunds, disputes and written-off debt."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from domain import ledger
from domain.errors import (
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    PeriodClosed,
    ReversalExceedsOriginal,
)
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, next_key
from tests.support.grants import remaining

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.conftest import TestClock


@pytest.fixture
def account(session: Session, clock: TestClock) -> int:
    session.info["clock"] = clock
    return make_account(session)


def kinds(session: Session, account_id: int) -> list[str]:
    rows = session.execute(
        text("SELECT kind FROM entries WHERE account_id = :id ORDER BY account_sequence"),
        {"id": account_id},
    )
    return list(rows.scalars())


def reverse(
    session: Session,
    account_id: int,
    sequence: int | None,
    amount: int | None = None,
    key: str | None = None,
) -> int:
    assert sequence is not None
    return ledger.reverse_entry(
        session,
        account_id=account_id,
        entry_sequence=sequence,
        amount_micros=None if amount is None else amount * UNIT,
        reason="mistake",
        actor=SYSTEM,
        idempotency_key=key or next_key(),
    )


def take_back(session: Session, account_id: int, kind: str, number: int, amount: int) -> int:
    return ledger.claw_back_credit(
        session,
        account_id=account_id,
        kind=kind,
        grant_numbers=[number],
        amount_micros=amount * UNIT,
        source="stripe",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )


def write_off(session: Session, account_id: int, amount: int) -> int:
    return ledger.write_off_debt(
        session,
        account_id=account_id,
        amount_micros=amount * UNIT,
        reason="bankrupt",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )


def test_a_reversed_charge_gives_back_in_the_opposite_order(
    session: Session, clock: TestClock, account: int
) -> None:
    voucher = grant(session, account, 3, kind="voucher")
    top_up = grant(session, account, 4)
    spent = charge(session, account, 9, occurred_at=clock.instant, refusable=False)
    expected = [{0: 0, voucher: 0, top_up: 1}, {0: 0, voucher: 2, top_up: 4}]
    reverse(session, account, spent.entry_sequence, 3)
    assert remaining(session, account) == expected[0]
    reverse(session, account, spent.entry_sequence, 5)
    assert remaining(session, account) == expected[1]
    reverse(session, account, spent.entry_sequence)
    assert remaining(session, account) == {0: 0, voucher: 3, top_up: 4}


def test_partial_reversals_never_sum_above_the_original(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10)
    spent = charge(session, account, 5, occurred_at=clock.instant).entry_sequence
    reverse(session, account, spent, 3)
    with pytest.raises(ReversalExceedsOriginal) as refused:
        reverse(session, account, spent, 3)
    assert (refused.value.requested_micros, refused.value.reversible_micros) == (3 * UNIT, 2 * UNIT)
    reverse(session, account, spent, 2)
    with pytest.raises(ReversalExceedsOriginal):
        reverse(session, account, spent)
    assert remaining(session, account) == {0: 0, 1: 10}


def test_a_repeated_reversal_is_one_reversal(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10)
    spent = charge(session, account, 5, occurred_at=clock.instant).entry_sequence
    first = reverse(session, account, spent, 2, key="again")
    assert reverse(session, account, spent, 2, key="again") == first
    with pytest.raises(IdempotencyMismatch):
        reverse(session, account, spent, 1, key="again")
    assert remaining(session, account) == {0: 0, 1: 7}


def test_what_reaches_an_expired_grant_expires_again_at_once(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10, expires_at=clock.instant + timedelta(hours=1))
    spent = charge(session, account, 4, occurred_at=clock.instant).entry_sequence
    clock.advance(hours=3)
    assert ledger.expire_grants(session, actor=SYSTEM) == 1
    reverse(session, account, spent)
    assert kinds(session, account) == ["top_up", "charge", "expiry", "reversal", "expiry"]
    assert remaining(session, account) == {0: 0, 1: 0}


def test_what_reaches_an_expired_grant_in_its_grace_stays_until_the_job(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10, expires_at=clock.instant + timedelta(hours=1))
    spent = charge(session, account, 4, occurred_at=clock.instant).entry_sequence
    clock.advance(hours=1, minutes=30)
    reverse(session, account, spent)
    assert remaining(session, account) == {0: 0, 1: 10}


def test_a_charge_whose_debt_was_settled_goes_back_to_who_settled_it(
    session: Session, clock: TestClock, account: int
) -> None:
    owed = charge(session, account, 9, occurred_at=clock.instant, refusable=False).entry_sequence
    first = grant(session, account, 4)
    second = grant(session, account, 10)
    assert remaining(session, account) == {0: 0, first: 0, second: 5}
    reverse(session, account, owed, 6)
    assert remaining(session, account) == {0: 0, first: 1, second: 10}
    reverse(session, account, owed)
    assert remaining(session, account) == {0: 0, first: 4, second: 10}


def test_debt_that_was_written_off_is_not_given_back(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 4)
    spent = charge(session, account, 9, occurred_at=clock.instant, refusable=False).entry_sequence
    write_off(session, account, 5)
    reverse(session, account, spent)
    assert remaining(session, account) == {0: 0, 1: 4}


def test_debt_is_written_off_oldest_first_and_never_above_what_is_owed(
    session: Session, clock: TestClock, account: int
) -> None:
    charge(session, account, 3, occurred_at=clock.instant, refusable=False, service="gpu-vm")
    clock.advance(hours=1)
    charge(session, account, 3, occurred_at=clock.instant, refusable=False)
    with pytest.raises(InvalidInput):
        write_off(session, account, 7)
    write_off(session, account, 4)
    debts = session.execute(text("SELECT service, due_micros FROM debts ORDER BY 1"))
    assert [tuple(row) for row in debts] == [("ai-inference", 2 * UNIT), ("gpu-vm", 0)]


def test_a_reversed_credit_takes_what_is_free_and_the_rest_is_owed(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10)
    charge(session, account, 4, occurred_at=clock.instant)
    reverse(session, account, 1, 7)
    assert remaining(session, account) == {0: -1, 1: 0}
    with pytest.raises(ReversalExceedsOriginal):
        reverse(session, account, 1, 4)
    reverse(session, account, 1)
    assert remaining(session, account) == {0: -4, 1: 0}


def test_expired_credit_is_neither_reversed_nor_refunded_but_a_bank_takes_it(
    session: Session, clock: TestClock, account: int
) -> None:
    number = grant(session, account, 10, expires_at=clock.instant + timedelta(hours=1))
    charge(session, account, 4, occurred_at=clock.instant)
    clock.advance(hours=3)
    ledger.expire_grants(session, actor=SYSTEM)
    with pytest.raises(ReversalExceedsOriginal):
        reverse(session, account, 1, 5)
    with pytest.raises(ReversalExceedsOriginal):
        take_back(session, account, "refund", number, 5)
    take_back(session, account, "dispute", number, 10)
    assert remaining(session, account) == {0: -10, number: 0}


def test_reversals_refunds_and_disputes_together_stay_below_the_grant(
    session: Session, account: int
) -> None:
    number = grant(session, account, 10)
    take_back(session, account, "refund", number, 3)
    take_back(session, account, "dispute", number, 3)
    for too_much in (5, 10):
        with pytest.raises(ReversalExceedsOriginal):
            reverse(session, account, 1, too_much)
    reverse(session, account, 1)
    with pytest.raises(ReversalExceedsOriginal):
        take_back(session, account, "refund", number, 1)
    assert remaining(session, account) == {0: 0, number: 0}


def test_some_entries_are_not_reversed(session: Session, clock: TestClock, account: int) -> None:
    grant(session, account, 10)
    spent = charge(session, account, 4, occurred_at=clock.instant).entry_sequence
    with pytest.raises(InvalidInput):
        reverse(session, account, reverse(session, account, spent))
    with pytest.raises(NotFound):
        reverse(session, account, 99)
    with pytest.raises(NotFound):
        take_back(session, account, "refund", 0, 1)
    nothing = charge(session, account, 0, occurred_at=clock.instant).entry_sequence
    with pytest.raises(ReversalExceedsOriginal):
        reverse(session, account, nothing)


def test_a_dispute_never_takes_held_credit(
    session: Session, clock: TestClock, account: int
) -> None:
    number = grant(session, account, 10)
    ledger.place_hold(
        session,
        account_id=account,
        service="gpu-vm",
        amount_micros=6 * UNIT,
        expires_at=clock.instant + timedelta(hours=1),
        source="vm",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    take_back(session, account, "dispute", number, 10)
    assert remaining(session, account) == {0: -6, number: 6}


def void_hold(session: Session, account_id: int) -> None:
    ledger.void_hold(
        session, account_id=account_id, hold_number=1, actor=SYSTEM, idempotency_key=next_key()
    )


def test_a_reversed_charge_pays_for_the_credit_that_was_withdrawn(
    session: Session, clock: TestClock, account: int
) -> None:
    voucher = grant(session, account, 100, kind="voucher")
    spent = charge(session, account, 50, occurred_at=clock.instant).entry_sequence
    reverse(session, account, 1)
    assert remaining(session, account) == {0: -50, voucher: 0}
    reverse(session, account, spent, 20)
    assert remaining(session, account) == {0: -30, voucher: 0}
    reverse(session, account, spent)
    assert remaining(session, account) == {0: 0, voucher: 0}
    assert ledger.verify_ledger(session, actor=SYSTEM, account_ids=[account]) == []


def test_a_scoped_plan_that_was_refunded_pays_its_own_refund_only(
    session: Session, clock: TestClock, account: int
) -> None:
    other = grant(session, account, 30)
    plan = grant(
        session, account, 100, kind="plan", services=("gpu-vm",), consideration_micros=100 * UNIT
    )
    spent = charge(session, account, 50, occurred_at=clock.instant, service="gpu-vm")
    take_back(session, account, "refund", plan, 80)
    assert remaining(session, account) == {0: 0, other: 0, plan: 0}
    reverse(session, account, spent.entry_sequence, 10)
    assert remaining(session, account) == {0: 0, other: 0, plan: 10}
    reverse(session, account, spent.entry_sequence, 25)
    assert remaining(session, account) == {0: 0, other: 15, plan: 20}
    reverse(session, account, spent.entry_sequence)
    assert remaining(session, account) == {0: 0, other: 30, plan: 20}
    assert ledger.verify_ledger(session, actor=SYSTEM, account_ids=[account]) == []


def test_credit_that_was_taken_under_a_hold_pays_when_the_hold_ends(
    session: Session, clock: TestClock, account: int
) -> None:
    voucher = grant(session, account, 10, kind="voucher")
    ledger.place_hold(
        session,
        account_id=account,
        service="gpu-vm",
        amount_micros=6 * UNIT,
        expires_at=clock.instant + timedelta(hours=1),
        source="vm",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    reverse(session, account, 1)
    assert remaining(session, account) == {0: -6, voucher: 6}
    void_hold(session, account)
    assert remaining(session, account) == {0: 0, voucher: 0}


def test_withdrawn_credit_undoes_the_write_off_of_its_debt(
    session: Session, clock: TestClock, account: int
) -> None:
    voucher = grant(session, account, 10, kind="voucher")
    spent = charge(session, account, 10, occurred_at=clock.instant).entry_sequence
    reverse(session, account, 1)
    write_off(session, account, 3)
    write_off(session, account, 4)
    reverse(session, account, spent, 5)
    assert remaining(session, account) == {0: 0, voucher: 0}
    reverse(session, account, spent)
    assert remaining(session, account) == {0: 0, voucher: 0}
    undone = session.execute(
        text(
            "SELECT e.reverses_sequence, e.amount_micros FROM entries e JOIN entries w"
            " ON w.account_id = e.account_id AND w.account_sequence = e.reverses_sequence"
            " WHERE e.account_id = :id AND w.kind = 'write_off' ORDER BY e.account_sequence"
        ),
        {"id": account},
    ).all()
    assert undone == [(5, -2 * UNIT), (5, -2 * UNIT), (4, -3 * UNIT)]
    assert ledger.verify_ledger(session, actor=SYSTEM, account_ids=[account]) == []


def test_promotional_credit_never_settles_a_disputes_debt(
    session: Session, clock: TestClock, account: int
) -> None:
    number = grant(session, account, 10)
    charge(session, account, 10, occurred_at=clock.instant)
    take_back(session, account, "dispute", number, 10)
    voucher = grant(session, account, 5, kind="voucher")
    scoped = grant(session, account, 5, services=("gpu-vm",))
    assert remaining(session, account) == {0: -10, number: 0, voucher: 5, scoped: 5}
    paid = grant(session, account, 7)
    assert remaining(session, account) == {0: -3, number: 0, voucher: 5, scoped: 5, paid: 0}


def test_scoped_credit_settles_only_its_services_debt(
    session: Session, clock: TestClock, account: int
) -> None:
    for service in ("gpu-vm", "ai-inference"):
        charge(session, account, 3, occurred_at=clock.instant, refusable=False, service=service)
    scoped = grant(session, account, 5, kind="voucher", services=("ai-inference",))
    assert remaining(session, account) == {0: -3, scoped: 2}


def close(session: Session, month: date) -> None:
    session.execute(
        text("INSERT INTO accounting_periods VALUES ('global', :month, true, 1, now(), 'tests')"),
        {"month": month},
    )


def test_what_occurred_in_a_closed_month_is_booked_today(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10)
    late = clock.instant - timedelta(days=20)
    close(session, date(2026, 2, 1))
    spent = charge(session, account, 1, occurred_at=late, refusable=False)
    row = session.execute(
        text("SELECT occurred_at, accounting_date FROM entries WHERE account_sequence = :n"),
        {"n": spent.entry_sequence},
    ).one()
    assert tuple(row) == (late, date(2026, 3, 10))
    close(session, date(2026, 3, 1))
    with pytest.raises(PeriodClosed):
        charge(session, account, 1, occurred_at=late, refusable=False)


def test_an_open_month_keeps_the_day_it_occurred(
    session: Session, clock: TestClock, account: int
) -> None:
    late = clock.instant - timedelta(days=20)
    charge(session, account, 1, occurred_at=late, refusable=False)
    booked = session.execute(text("SELECT accounting_date FROM entries"))
    assert booked.scalar_one() == late.date()
