"""Examples of the rules of docs/payments.md, computed by hand, against the model of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
)
from domain.money import Money
from tests.properties.payment_model import Account, Payment

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def yen(micros: int) -> Money:
    return Money(micros, "JPY")


def paid(micros: int = 100, money: str = "m1") -> PaymentUpdate:
    return PaymentUpdate(
        GatewayPaymentState.PAID, reference="R", gateway_payment_id=money, amount=yen(micros)
    )


def refund(
    name: str, micros: int, state: RefundState = RefundState.SUCCEEDED, second: int = 0
) -> RefundUpdate:
    return RefundUpdate(
        name,
        state,
        yen(micros),
        gateway_payment_id="m1",
        payment_reference="R",
        stated_at=NOON + timedelta(seconds=second),
    )


def dispute(
    name: str, micros: int, state: DisputeState, second: int = 0, lost: int | None = None
) -> DisputeUpdate:
    return DisputeUpdate(
        name,
        state,
        yen(micros),
        lost=None if lost is None else yen(lost),
        gateway_payment_id="m1",
        payment_reference="R",
        stated_at=NOON + timedelta(seconds=second),
    )


def credited() -> tuple[Account, Payment]:
    account = Account([Payment("R", yen(100))])
    account.state(paid())
    return account, account.payments[0]


def books(payment: Payment) -> tuple[int, int, int, int]:
    """Return clearing, disputed funds, refunds payable, and the credit that is left."""
    found = payment.books()
    return found["clearing"], found["1120"], found["2150"], payment.credited


def test_money_paid_is_credited_once() -> None:
    account, payment = credited()
    account.state(paid())
    account.state(paid(money="m2"))
    assert books(payment) == (100, 0, 0, 100)


def test_other_amount_is_not_credited() -> None:
    account = Account([Payment("R", yen(100))])
    account.state(paid(99))
    assert books(account.payments[0]) == (0, 0, 0, 0)


def test_refund_requested_claws_back_at_once_and_pays_later() -> None:
    account, payment = credited()
    payment.request_refund("OURS", 40)
    assert books(payment) == (100, 0, -40, 60)
    account.state(replace(refund("r1", 40), reference="OURS"))
    assert books(payment) == (60, 0, 0, 60)
    account.state(refund("r1", 40, RefundState.FAILED, 1))
    assert books(payment) == (100, 0, 0, 100)
    account.state(refund("r1", 40, RefundState.SUCCEEDED, 2))
    assert books(payment) == (60, 0, 0, 60)


def test_refund_without_our_reference_is_ours_of_same_amount_that_waits() -> None:
    account, payment = credited()
    payment.request_refund("OURS", 40)
    account.state(refund("r1", 40))
    assert books(payment) == (60, 0, 0, 60)
    account.state(refund("r2", 40))
    assert books(payment) == (20, 0, 0, 20)


def test_refund_of_more_than_was_left_is_excess_until_credit_is_free() -> None:
    account, payment = credited()
    account.state(refund("r1", 70))
    account.state(refund("r2", 50))
    assert (books(payment), payment.excess) == ((-20, 0, 20, 0), 20)
    account.state(refund("r1", 70, RefundState.FAILED, 1))
    assert (books(payment), payment.excess) == ((50, 0, 0, 50), 0)


def test_reversed_credit_is_unapplied_and_covers_first() -> None:
    account, payment = credited()
    payment.reverse(30)
    assert (books(payment), payment.unapplied) == ((100, 0, -30, 70), 30)
    account.state(refund("r1", 50))
    assert (books(payment), payment.unapplied) == ((50, 0, 0, 50), 0)
    account.state(refund("r1", 50, RefundState.FAILED, 1))
    assert (books(payment), payment.unapplied) == ((100, 0, -30, 70), 30)


def test_dispute_is_held_then_lost_in_part_then_appealed_and_won() -> None:
    account, payment = credited()
    account.state(dispute("d1", 80, DisputeState.OPEN))
    assert (books(payment), account.is_frozen) == ((20, 80, 0, 100), True)
    account.state(dispute("d1", 80, DisputeState.LOST, 1, lost=30))
    assert (books(payment), account.is_frozen) == ((70, 0, 0, 70), False)
    account.state(dispute("d1", 80, DisputeState.OPEN, 2))
    assert (books(payment), account.is_frozen) == ((20, 50, 0, 70), True)
    account.state(dispute("d1", 80, DisputeState.WON, 3))
    assert (books(payment), account.is_frozen) == ((100, 0, 0, 100), False)


def test_older_statement_is_ignored_and_end_counts_more_at_same_time() -> None:
    account, payment = credited()
    account.state(dispute("d1", 100, DisputeState.WON, 5))
    account.state(dispute("d1", 100, DisputeState.LOST, 4))
    account.state(dispute("d1", 100, DisputeState.OPEN, 5))
    assert (books(payment), account.is_frozen) == ((100, 0, 0, 100), False)
    account.state(replace(dispute("d1", 100, DisputeState.OPEN), stated_at=None))
    assert not account.is_frozen
    account.state(dispute("d1", 100, DisputeState.OPEN, 6))
    assert account.is_frozen


def test_reversal_before_dispute_becomes_part_of_it() -> None:
    account, payment = credited()
    reversal = replace(refund("v1", 100), is_reversal=True)
    account.state(reversal)
    assert books(payment) == (0, 0, 0, 0)
    account.state(dispute("d1", 100, DisputeState.OPEN, 1))
    assert (books(payment), account.is_frozen) == ((0, 0, 0, 0), True)
    account.state(reversal)
    account.state(dispute("d1", 100, DisputeState.WON, 2))
    assert books(payment) == (100, 0, 0, 100)
    account.state(reversal)
    assert books(payment) == (100, 0, 0, 100)


def test_reversal_after_dispute_is_part_of_it_already() -> None:
    account, payment = credited()
    account.state(dispute("d1", 100, DisputeState.OPEN))
    account.state(replace(refund("v1", 100, second=1), is_reversal=True))
    assert books(payment) == (0, 100, 0, 100)
    account.state(dispute("d1", 100, DisputeState.LOST, 2))
    assert books(payment) == (0, 0, 0, 0)


def test_capture_denied_after_credit_is_a_lost_dispute() -> None:
    account, payment = credited()
    for _ in range(2):
        account.state(replace(paid(), state=GatewayPaymentState.FAILED))
        account.state(paid())
    assert (books(payment), account.is_frozen) == ((0, 0, 0, 0), False)
    assert [one.name for one in payment.disputes] == ["denied:m1"]


def test_refund_and_dispute_before_success_take_their_credit_with_it() -> None:
    account = Account([Payment("R", yen(100))])
    account.state(refund("r1", 30))
    account.state(dispute("d1", 50, DisputeState.LOST))
    assert books(account.payments[0]) == (0, 0, 0, 0)
    account.state(paid())
    assert books(account.payments[0]) == (20, 0, 0, 20)


def test_another_money_never_touches_the_credit() -> None:
    account, payment = credited()
    account.state(replace(refund("r1", 100), gateway_payment_id="m2"))
    account.state(replace(dispute("d1", 100, DisputeState.LOST), gateway_payment_id="m2"))
    assert books(payment) == (100, 0, 0, 100)


def test_freed_credit_covers_refunds_before_disputes_oldest_first() -> None:
    account, payment = credited()
    account.state(refund("r1", 100))
    account.state(dispute("d1", 60, DisputeState.LOST))
    account.state(refund("r2", 50))
    account.state(refund("r3", 40))
    assert payment.excess == 150
    account.state(refund("r1", 100, RefundState.FAILED, 1))
    assert [part.excess for part in payment.outflows] == [0, 0, 0, 50]
    assert books(payment) == (-50, 0, 50, 0)


def test_refused_money_is_owed_until_it_goes_back() -> None:
    account = Account([Payment("R", yen(100))])
    payment = account.payments[0]
    payment.reject_money("m1", 70)
    assert books(payment) == (70, 0, -70, 0)
    account.state(paid(100))
    assert books(payment) == (70, 0, -70, 0)
    account.state(refund("r1", 70))
    assert books(payment) == (0, 0, 0, 0)


def test_amount_due_is_what_is_held_or_spent_beyond_the_credit() -> None:
    account, payment = credited()
    account.charged, account.held = 60, 30
    assert account.amount_due(account.balance(payment.credited)) == 0
    account.state(refund("r1", 50))
    balance = account.balance(payment.credited)
    assert (balance, account.amount_due(balance)) == (-10, 40)
    account.granted = 50
    balance = account.balance(payment.credited)
    assert (balance, account.amount_due(balance)) == (40, 0)
