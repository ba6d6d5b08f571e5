"""Holds: placed, captured below, at and above, voided, expired; never in debt."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from domain import ledger
from domain.errors import HoldNotOpen, IdempotencyMismatch, InvalidInput, NotFound
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.conftest import TestClock


@pytest.fixture
def account(session: Session, clock: TestClock) -> int:
    session.info["clock"] = clock
    return make_account(session)


def hold(
    session: Session, account_id: int, amount: int, clock: TestClock, key: str | None = None
) -> ledger.HoldOutcome:
    return ledger.place_hold(
        session,
        account_id=account_id,
        service="gpu-vm",
        amount_micros=amount * UNIT,
        expires_at=clock.instant.replace(minute=0, second=0, microsecond=0) + timedelta(hours=2),
        source="vm",
        actor=SYSTEM,
        idempotency_key=key or next_key(),
    )


def void(session: Session, account_id: int, number: int | None, key: str | None = None) -> None:
    assert number is not None
    ledger.void_hold(
        session,
        account_id=account_id,
        hold_number=number,
        actor=SYSTEM,
        idempotency_key=key or next_key(),
    )


def capture(
    session: Session,
    account_id: int,
    amount: int,
    number: int | None,
    clock: TestClock,
    *,
    service: str = "gpu-vm",
) -> ledger.ChargeOutcome:
    return charge(
        session,
        account_id,
        amount,
        occurred_at=clock.instant,
        service=service,
        hold_number=number,
        refusable=False,
    )


def balances(session: Session, account_id: int) -> tuple[float, float]:
    """The balance and what is held of it, in currency units."""
    row = session.execute(
        text("SELECT balance_micros, held_micros FROM account_balances WHERE account_id = :id"),
        {"id": account_id},
    ).one()
    return row[0] / UNIT, row[1] / UNIT


@pytest.mark.parametrize("amount", [4, 6, 9, 0])
def test_a_capture_spends_what_it_says_and_releases_the_rest(
    session: Session, clock: TestClock, account: int, amount: int
) -> None:
    grant(session, account, 10)
    number = hold(session, account, 6, clock).hold_number
    assert balances(session, account) == (10, 6)
    captured = capture(session, account, amount, number, clock)
    assert balances(session, account) == (10 - amount, 0)
    ended = session.execute(text("SELECT outcome, entry_sequence FROM hold_resolutions"))
    assert tuple(ended.one()) == ("captured", captured.entry_sequence)


def test_a_capture_spends_what_was_set_aside_even_where_other_credit_burns_first(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10)
    number = hold(session, account, 6, clock).hold_number
    grant(session, account, 10, kind="plan")
    capture(session, account, 8, number, clock)
    left = session.execute(
        text("SELECT remaining_micros FROM grant_balances WHERE grant_number > 0 ORDER BY 1")
    )
    assert list(left.scalars()) == [4 * UNIT, 8 * UNIT]


def test_a_capture_after_the_hold_charges_normally(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10)
    number = hold(session, account, 6, clock).hold_number
    void(session, account, number)
    assert capture(session, account, 6, number, clock).status == "charged"
    assert balances(session, account) == (4, 0)
    assert list(session.execute(text("SELECT outcome FROM hold_resolutions")).scalars()) == [
        "voided"
    ]


def test_a_capture_above_everything_is_debt(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10)
    number = hold(session, account, 6, clock).hold_number
    capture(session, account, 12, number, clock)
    assert balances(session, account) == (-2, 0)


def test_another_service_does_not_capture_the_hold(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10)
    number = hold(session, account, 6, clock).hold_number
    with pytest.raises(InvalidInput):
        capture(session, account, 6, number, clock, service="ai-notebook")


def test_a_capture_is_never_refusable(session: Session, clock: TestClock, account: int) -> None:
    grant(session, account, 10)
    number = hold(session, account, 6, clock).hold_number
    with pytest.raises(InvalidInput):
        charge(session, account, 6, occurred_at=clock.instant, hold_number=number)


def test_a_hold_takes_in_burn_order_and_only_what_serves_it(
    session: Session, clock: TestClock, account: int
) -> None:
    top_up = grant(session, account, 5)
    grant(session, account, 5, kind="voucher", services=("ai-notebook",))
    voucher = grant(session, account, 4, kind="voucher")
    hold(session, account, 7, clock)
    rows = session.execute(text("SELECT grant_number, amount_micros FROM hold_allocations"))
    assert {tuple(row) for row in rows} == {(voucher, 4 * UNIT), (top_up, 3 * UNIT)}
    refused = hold(session, account, 3, clock)
    assert refused.reason == "insufficient_credit"
    available = session.execute(text("SELECT available_micros FROM refusals")).scalar_one()
    assert available == 2 * UNIT


def test_an_account_in_debt_gets_no_hold(session: Session, clock: TestClock, account: int) -> None:
    charge(session, account, 3, occurred_at=clock.instant, refusable=False)
    grant(session, account, 9, kind="voucher", services=("gpu-vm",))
    assert hold(session, account, 1, clock).reason == "in_debt"
    assert balances(session, account) == (6, 0)


def test_debt_that_free_credit_can_pay_is_paid_before_a_hold_is_judged(
    session: Session, clock: TestClock, account: int
) -> None:
    charge(session, account, 3, occurred_at=clock.instant, refusable=False)
    grant(session, account, 9, starts_at=clock.instant + timedelta(minutes=5))
    assert hold(session, account, 1, clock).reason == "in_debt"
    clock.advance(minutes=10)
    assert hold(session, account, 6, clock).hold_number == 1
    assert balances(session, account) == (6, 6)


def test_a_frozen_account_gets_no_hold(session: Session, clock: TestClock, account: int) -> None:
    grant(session, account, 9)
    session.execute(text("UPDATE accounts SET status = 'frozen'"))
    assert hold(session, account, 1, clock).reason == "account_frozen"


def test_a_repeated_hold_is_one_hold(session: Session, clock: TestClock, account: int) -> None:
    grant(session, account, 10)
    first = hold(session, account, 6, clock, key="once")
    assert hold(session, account, 6, clock, key="once") == first
    with pytest.raises(IdempotencyMismatch):
        hold(session, account, 5, clock, key="once")
    assert balances(session, account) == (10, 6)


def test_a_hold_ends_once(session: Session, clock: TestClock, account: int) -> None:
    grant(session, account, 10)
    number = hold(session, account, 6, clock).hold_number
    void(session, account, number, key="once")
    void(session, account, number, key="once")
    with pytest.raises(HoldNotOpen) as ended:
        void(session, account, number)
    assert ended.value.status == "voided"
    with pytest.raises(NotFound):
        void(session, account, 9)
    assert balances(session, account) == (10, 0)


def test_a_hold_whose_time_is_over_is_released(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10)
    hold(session, account, 6, clock)
    clock.advance(minutes=89)
    assert ledger.expire_holds(session, actor=SYSTEM) == 0
    clock.advance(minutes=2)
    assert ledger.expire_holds(session, actor=SYSTEM) == 1
    assert ledger.expire_holds(session, actor=SYSTEM) == 0
    assert balances(session, account) == (10, 0)


def test_credit_that_a_hold_releases_pays_what_is_owed(
    session: Session, clock: TestClock, account: int
) -> None:
    grant(session, account, 10)
    number = hold(session, account, 6, clock).hold_number
    charge(session, account, 7, occurred_at=clock.instant, refusable=False)
    debt = text("SELECT remaining_micros FROM grant_balances WHERE grant_number = 0")
    assert session.execute(debt).scalar_one() == -3 * UNIT
    void(session, account, number)
    assert session.execute(debt).scalar_one() == 0
    assert balances(session, account) == (3, 0)
