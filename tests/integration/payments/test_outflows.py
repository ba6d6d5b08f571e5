"""Credit follows the money of a payment: faults that were met once, each by its name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from db.models import Dispute, Payment, PaymentReview, Refund
from domain import ledger
from domain.actors import StaffRole, user_actor
from domain.errors import AlreadyDecided, Conflict, IdempotencyMismatch
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    GatewayRefused,
    Outcome,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
)
from domain.money import Money
from domain.payments import cancel_refund, record_payout, refund_states, request_refund
from domain.payments import refunds as refund_service
from domain.payments.bank_transfers import Evidence, decide_transfer, record_transfer
from domain.payments.discrepancies import get_exceptions
from domain.payments.exchange_rates import decide_rate, make_quote, request_rate
from domain.payments.gateway_updates import apply_updates
from domain.payments.payout_queries import list_payouts
from domain.payments.reviews import count_waiting
from portal.runtime import database
from tests.factories import next_key
from tests.gateways import GATEWAYS, ScriptedGateway, away, begin, dong, paid, payer
from tests.support.at_once import AtOnce
from tests.support.owner import as_owner
from tests.support.paid_payments import CREDIT, FINANCE, Paid, payment
from tests.support.people import register

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

__all__ = ["payment"]

START = datetime(2026, 11, 1, tzinfo=UTC)
CHECKER = user_actor(901, staff_role=StaffRole.FINANCE)
ADMIN = user_actor(902, staff_role=StaffRole.ADMIN)


def at(hours: int) -> datetime:
    return START + timedelta(hours=hours)


def reverse_top_up(payment: Paid, amount: int) -> None:
    with payment.sessions.begin() as session:
        row = session.get_one(Payment, payment.payment_id)
        assert row.entry_sequence is not None
        ledger.reverse_entry(
            session,
            account_id=payment.account,
            entry_sequence=row.entry_sequence,
            amount_micros=dong(amount).micros,
            reason="recorded too high",
            actor=FINANCE,
            idempotency_key=next_key(),
        )


def dispute(payment: Paid, state: DisputeState, hours: int, name: str = "dp_1") -> Outcome:
    return payment.apply(replace(payment.dispute_update(state, name), stated_at=at(hours)))


# ── Restored credit ───────────────────────────────────────────────────────────────────────────
def test_dispute_lost_after_refused_refund_takes_all_grants(payment: Paid) -> None:
    payment.gateway.failure = GatewayRefused("vnpay", "95")
    payment.send(payment.ask(dong(200_000)))
    payment.spend(50_000)
    assert payment.apply(payment.dispute_update(DisputeState.LOST)) is Outcome.RECORDED
    assert payment.balance() == -50_000
    assert payment.status() == "active"
    assert payment.legs()["1300"] == 50_000


def test_refund_after_lost_and_won_dispute_takes_restored_credit(payment: Paid) -> None:
    payment.apply(payment.dispute_update(DisputeState.LOST))
    payment.apply(payment.dispute_update(DisputeState.WON))
    assert payment.balance() == 550_000
    assert payment.send(payment.ask(CREDIT)) == "succeeded"
    assert payment.balance() == 0
    assert payment.legs() == {}


def test_second_dispute_after_lost_and_won_takes_restored_credit(payment: Paid) -> None:
    payment.apply(payment.dispute_update(DisputeState.LOST))
    payment.apply(payment.dispute_update(DisputeState.WON))
    payment.apply(payment.dispute_update(DisputeState.LOST, "dp_2"))
    assert payment.balance() == 0
    assert payment.legs() == {}


def test_refund_at_gateway_after_reversal_of_one_dong_leaves_nothing(payment: Paid) -> None:
    reverse_top_up(payment, 1)
    assert payment.legs()["2150"] == -1
    payment.apply(payment.refund_update("r1", RefundState.SUCCEEDED, CREDIT))
    assert payment.balance() == 0
    assert payment.legs() == {}


def test_refund_after_reversal_gives_back_reversed_money_first(payment: Paid) -> None:
    reverse_top_up(payment, 100_000)
    payment.send(payment.ask(dong(100_000)))
    assert payment.balance() == 450_000
    (row,) = payment.all_of(Refund)
    assert (row.unapplied_micros, row.clawed_back_micros) == (dong(100_000).micros, 0)


# ── Order ─────────────────────────────────────────────────────────────────────────────────────
def test_dispute_changes_its_end_and_back_each_once(payment: Paid) -> None:
    for hours, state, balance in (
        (1, DisputeState.OPEN, 550_000),
        (2, DisputeState.WON, 550_000),
        (3, DisputeState.LOST, 0),
        (4, DisputeState.WON, 550_000),
        (5, DisputeState.LOST, 0),
    ):
        assert dispute(payment, state, hours) is Outcome.RECORDED
        assert dispute(payment, state, hours) is Outcome.REPEATED
        assert payment.balance() == balance
    assert dispute(payment, DisputeState.WON, 4) is Outcome.REPEATED
    assert dispute(payment, DisputeState.OPEN, 1) is Outcome.REPEATED
    assert payment.balance() == 0


def test_dated_answer_reopens_a_dispute_that_ended_without_a_date(payment: Paid) -> None:
    payment.apply(payment.dispute_update(DisputeState.WON))
    assert payment.status() == "active"
    payment.apply(replace(payment.dispute_update(DisputeState.OPEN), stated_at=at(1)))
    assert payment.status() == "frozen"


def test_appeal_of_a_won_dispute_freezes_and_holds_again(payment: Paid) -> None:
    dispute(payment, DisputeState.OPEN, 1)
    dispute(payment, DisputeState.WON, 2)
    assert payment.status() == "active"
    dispute(payment, DisputeState.OPEN, 3)
    assert payment.status() == "frozen"
    assert payment.legs()["1120"] == 550_000
    dispute(payment, DisputeState.LOST, 4)
    assert (payment.status(), payment.balance(), payment.legs()) == ("active", 0, {})


def test_appeal_of_a_lost_dispute_keeps_the_loss_until_it_is_won(payment: Paid) -> None:
    dispute(payment, DisputeState.LOST, 1)
    dispute(payment, DisputeState.OPEN, 2)
    assert (payment.status(), payment.balance(), payment.legs()) == ("frozen", 0, {})
    dispute(payment, DisputeState.WON, 3)
    assert (payment.status(), payment.balance()) == ("active", 550_000)


def test_dispute_lost_in_part_takes_that_part(payment: Paid) -> None:
    dispute(payment, DisputeState.OPEN, 1)
    part = replace(payment.dispute_update(DisputeState.LOST), lost=dong(150_000), stated_at=at(2))
    payment.apply(part)
    assert payment.balance() == 400_000
    assert payment.legs()["1110.vnpay"] == 400_000
    assert "1120" not in payment.legs()
    payment.apply(replace(part, lost=dong(350_000), stated_at=at(3)))
    assert payment.balance() == 200_000
    payment.apply(replace(part, lost=dong(50_000), stated_at=at(4)))
    assert payment.balance() == 500_000


def test_dispute_opened_while_a_refund_waits_is_no_loss_when_it_fails(payment: Paid) -> None:
    payment.gateway.refunded = RefundUpdate("r1", RefundState.PENDING, CREDIT)
    payment.send(payment.ask(CREDIT))
    dispute(payment, DisputeState.OPEN, 1)
    payment.apply(payment.refund_update("r1", RefundState.FAILED, CREDIT))
    assert payment.balance() == 550_000
    dispute(payment, DisputeState.LOST, 2)
    assert (payment.balance(), payment.legs()) == (0, {})


def test_reversal_before_its_dispute_is_a_part_of_it(payment: Paid) -> None:
    reversal = replace(
        payment.refund_update("rev", RefundState.SUCCEEDED, CREDIT), is_reversal=True
    )
    payment.apply(reversal)
    assert payment.balance() == 0
    dispute(payment, DisputeState.OPEN, 1)
    assert payment.balance() == 0
    assert [row.state for row in payment.all_of(Refund)] == ["merged"]
    dispute(payment, DisputeState.WON, 2)
    assert payment.balance() == 550_000
    payment.apply(reversal)
    assert payment.balance() == 550_000


def test_refund_told_before_the_payment_takes_its_credit_with_it(
    sessions: sessionmaker[Session],
) -> None:
    gateway = ScriptedGateway()
    with sessions.begin() as session:
        account, owner = payer(session)
        started = begin(session, gateway, account, owner, CREDIT)
    early = RefundUpdate(
        "r1",
        RefundState.SUCCEEDED,
        dong(200_000),
        gateway_payment_id="m1",
        payment_reference=started.reference,
    )
    lost = DisputeUpdate(
        "d1",
        DisputeState.LOST,
        dong(300_000),
        gateway_payment_id="m1",
        payment_reference=started.reference,
    )
    with sessions.begin() as session:
        for update in (early, lost):
            apply_updates(session, gateway=gateway, updates=(update,), actor=GATEWAYS)
        assert session.execute(text("SELECT count(*) FROM journal")).scalar_one() == 0
        money = paid(started.reference, CREDIT, number="m1")
        apply_updates(session, gateway=gateway, updates=(money,), actor=GATEWAYS)
    with sessions() as session:
        balance = text("SELECT balance_micros FROM account_balances WHERE account_id = :id")
        assert session.execute(balance, {"id": account}).scalar_one() == dong(50_000).micros
        assert ledger.verify_ledger(session, actor=GATEWAYS) == []


def test_denied_capture_takes_its_credit_and_gives_it_back(payment: Paid) -> None:
    now = datetime.now(UTC)
    denied = PaymentUpdate(
        GatewayPaymentState.FAILED,
        reference=payment.reference,
        gateway_payment_id=payment.money,
        amount=CREDIT,
        occurred_at=now + timedelta(minutes=1),
        code="DENIED",
    )
    assert payment.apply(denied) is Outcome.RECORDED
    assert payment.apply(denied) is Outcome.REPEATED
    assert (payment.balance(), payment.legs()) == (0, {})
    again = replace(denied, state=GatewayPaymentState.PAID, code=None)
    assert payment.apply(again) is Outcome.REPEATED
    assert payment.apply(replace(again, occurred_at=now + timedelta(minutes=2))) is Outcome.RECORDED
    assert payment.balance() == 550_000


def test_refund_of_a_second_money_never_takes_the_first_ones_credit(payment: Paid) -> None:
    second = paid(payment.reference, CREDIT, number="second")
    back = RefundUpdate("r2", RefundState.SUCCEEDED, CREDIT, gateway_payment_id="second")
    payment.apply(second)
    payment.apply(replace(back, payment_reference=payment.reference))
    assert payment.balance() == 550_000
    (review,) = payment.all_of(PaymentReview)
    assert (review.state, review.return_state) == ("rejected", "returned")


def test_second_money_told_after_its_refund_is_not_on_the_work_list(payment: Paid) -> None:
    back = RefundUpdate(
        "r2",
        RefundState.SUCCEEDED,
        CREDIT,
        gateway_payment_id="second",
        payment_reference=payment.reference,
    )
    payment.apply(back)
    payment.apply(paid(payment.reference, CREDIT, number="second"))
    assert payment.balance() == 550_000
    (review,) = payment.all_of(PaymentReview)
    assert (review.state, review.return_state) == ("rejected", "returned")


def test_refund_called_failed_that_succeeds_later_takes_its_credit(payment: Paid) -> None:
    payment.gateway.failure = GatewayRefused("vnpay", "95")
    payment.send(payment.ask(dong(100_000)))
    assert payment.balance() == 550_000
    (row,) = payment.all_of(Refund)
    late = replace(
        payment.refund_update("r1", RefundState.SUCCEEDED, dong(100_000)), reference=row.reference
    )
    assert payment.apply(late) is Outcome.RECORDED
    assert payment.balance() == 450_000
    assert payment.apply(late) is Outcome.REPEATED


def test_refund_first_told_of_when_it_had_failed_takes_nothing_later(payment: Paid) -> None:
    update = RefundUpdate(
        "r1",
        RefundState.FAILED,
        dong(200_000),
        payment_reference=payment.reference,
        stated_at=at(2),
    )
    assert payment.apply(update) is Outcome.RECORDED
    assert payment.apply(update) is Outcome.REPEATED
    older = replace(update, state=RefundState.SUCCEEDED, stated_at=at(1))
    assert payment.apply(older) is Outcome.REPEATED
    assert payment.balance() == 550_000
    assert payment.apply(replace(older, stated_at=at(3))) is Outcome.RECORDED
    assert payment.balance() == 350_000


def test_refund_that_fails_after_it_succeeded_gives_its_credit_back(payment: Paid) -> None:
    payment.apply(payment.refund_update("r1", RefundState.SUCCEEDED, dong(100_000)))
    payment.apply(payment.refund_update("r1", RefundState.FAILED, dong(100_000)))
    assert payment.balance() == 550_000
    assert payment.legs()["1110.vnpay"] == 550_000


# ── Ours, told by the gateway ─────────────────────────────────────────────────────────────────
def test_refund_told_without_our_reference_is_the_one_that_waits(payment: Paid) -> None:
    payment.gateway.failure = away()
    refund = payment.ask(dong(100_000))
    payment.send(refund)
    payment.apply(payment.refund_update("r1", RefundState.SUCCEEDED, dong(100_000)))
    assert len(payment.all_of(Refund)) == 1
    assert payment.balance() == 450_000


def test_another_refund_of_the_same_amount_is_a_second_one(payment: Paid) -> None:
    payment.ask(dong(100_000))
    payment.apply(payment.refund_update("made-by-hand", RefundState.SUCCEEDED, dong(100_000)))
    (row,) = payment.all_of(Refund)
    ours = replace(
        payment.refund_update("r1", RefundState.SUCCEEDED, dong(100_000)), reference=row.reference
    )
    payment.apply(ours)
    payment.apply(ours)
    assert payment.balance() == 350_000
    assert len(payment.all_of(Refund)) == 2


def test_refund_key_reused_for_another_amount_is_refused(payment: Paid) -> None:
    payment.ask(dong(100), key="again")
    with pytest.raises(IdempotencyMismatch):
        payment.ask(dong(101), key="again")
    assert payment.balance() == 549_900


# ── The work list ─────────────────────────────────────────────────────────────────────────────
def work_list(payment: Paid) -> tuple[int, int, int, int]:
    """Return how many payments wait, and of this one what money, credit and refunds wait."""
    with payment.sessions() as session:
        found = get_exceptions(session, payment_id=payment.payment_id, actor=FINANCE)
        count = count_waiting(session, actor=FINANCE)
        refunds = list_payouts(session, actor=FINANCE, payment_id=payment.payment_id)
    unit = 1_000_000
    return (
        count,
        found.money_without_credit.micros // unit,
        found.credit_without_money.micros // unit,
        len(refunds),
    )


def test_reversed_credit_is_on_the_work_list_until_its_money_went_back(payment: Paid) -> None:
    assert work_list(payment) == (0, 0, 0, 0)
    reverse_top_up(payment, 30_000)
    assert work_list(payment) == (1, 30_000, 0, 0)
    payment.apply(payment.refund_update("r1", RefundState.SUCCEEDED, dong(20_000)))
    assert work_list(payment) == (1, 10_000, 0, 0)
    payment.apply(payment.refund_update("r2", RefundState.SUCCEEDED, dong(10_000)))
    assert work_list(payment) == (0, 0, 0, 0)
    assert payment.balance() == 520_000


def test_money_out_beyond_the_payment_is_on_the_work_list(payment: Paid) -> None:
    payment.apply(payment.refund_update("r1", RefundState.SUCCEEDED, dong(500_000)))
    dispute(payment, DisputeState.LOST, 1)
    assert work_list(payment) == (1, 0, 500_000, 0)
    dispute(payment, DisputeState.WON, 2)
    assert work_list(payment) == (0, 0, 0, 0)
    assert payment.balance() == 50_000


def test_refund_of_a_bank_transfer_is_on_the_work_list(sessions: sessionmaker[Session]) -> None:
    transfer = Transfer(sessions)
    refund = transfer.ask(dong(220_000))
    assert work_list(transfer) == (1, 0, 0, 1)
    with sessions.begin() as session:
        record_payout(session, refund_id=refund, reference="FT 1", actor=FINANCE)
    assert work_list(transfer) == (0, 0, 0, 0)


# ── Two currencies ────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "parts",
    [
        ("3.33", "3.33", "3.34"),
        ("0.01", "9.98", "0.01"),
        ("7.77", "-7.77", "1.11", "8.89"),
        ("5.00", "-5.00", "10.00"),
    ],
)
def test_foreign_refunds_leave_no_position(
    sessions: sessionmaker[Session], parts: tuple[str, ...]
) -> None:
    foreign = Foreign(sessions)
    for number, part in enumerate(parts):
        foreign.refund(number, part)
    assert foreign.legs() == {}
    assert foreign.balance() == 0


@pytest.mark.parametrize("reversed_micros", [1, 77_777, 123_456_789_012])
def test_foreign_reversal_then_refund_leaves_no_position(
    sessions: sessionmaker[Session], reversed_micros: int
) -> None:
    foreign = Foreign(sessions)
    foreign.reverse(reversed_micros)
    foreign.refund(1, "4.56")
    foreign.refund(2, "5.44")
    assert foreign.legs() == {}
    assert foreign.balance() == 0


class Foreign:
    """253,333.333333 dong of credit that were paid with 10 dollars."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions, self.gateway = sessions, ScriptedGateway("paypal")
        with sessions.begin() as session:
            self.account, owner = payer(session)
            rate = request_rate(
                session,
                base_currency="USD",
                quote_currency="VND",
                rate=Decimal("25333.3333333"),
                margin_basis_points=0,
                source="of this test",
                as_of=datetime.now(UTC) - timedelta(minutes=5),
                actor=FINANCE,
            )
            decide_rate(session, rate_id=rate, is_approved=True, actor=ADMIN)
            usual, odd = (
                make_quote(
                    session,
                    account_id=self.account,
                    credit=credit,
                    pay_currency="USD",
                    actor=owner,
                )
                for credit in (CREDIT, Money(253_333_333_333, "VND"))
            )
            started = begin(session, self.gateway, self.account, owner, CREDIT, quote_id=usual.id)
            row = session.get_one(Payment, started.payment_id)
            with as_owner(session):  # nobody tops up a part of a dong
                row.quote_id = odd.id
                row.pay_micros, row.credit_micros = odd.pay.micros, odd.credit.micros
            assert odd.pay == Money(10_000_000, "USD")
            money = paid(started.reference, odd.pay, number="capture")
            apply_updates(session, gateway=self.gateway, updates=(money,), actor=GATEWAYS)

    def refund(self, number: int, amount: str) -> None:
        """Give so many dollars back; a negative amount: the one before it failed."""
        failed = amount.startswith("-")
        update = RefundUpdate(
            f"r{number - 1 if failed else number}",
            RefundState.FAILED if failed else RefundState.SUCCEEDED,
            Money.parse(amount.removeprefix("-"), "USD"),
            gateway_payment_id="capture",
        )
        with self.sessions.begin() as session:
            apply_updates(session, gateway=self.gateway, updates=(update,), actor=GATEWAYS)

    def reverse(self, micros: int) -> None:
        with self.sessions.begin() as session:
            ledger.reverse_entry(
                session,
                account_id=self.account,
                entry_sequence=1,
                amount_micros=micros,
                reason="a mistake",
                actor=user_actor(901, staff_role=StaffRole.FINANCE),
                idempotency_key=next_key(),
            )

    def legs(self) -> dict[Any, int]:
        rows = text(
            "SELECT ledger_code, currency, sum(amount_micros) FROM journal"
            " WHERE account_id = :id GROUP BY 1, 2 HAVING sum(amount_micros) <> 0"
        )
        with self.sessions() as session:
            assert ledger.verify_ledger(session, actor=GATEWAYS) == []
            found = session.execute(rows, {"id": self.account}).all()
        return {(row[0], row[1]): int(row[2]) for row in found}

    def balance(self) -> int:
        query = text("SELECT balance_micros FROM account_balances WHERE account_id = :id")
        with self.sessions() as session:
            return int(session.execute(query, {"id": self.account}).scalar_one())


# ── Asking after the credit ───────────────────────────────────────────────────────────────────
def test_credited_payment_is_asked_about_again_though_its_fee_is_known(
    sessions: sessionmaker[Session],
) -> None:
    gateway = ScriptedGateway()
    with sessions.begin() as session:
        account, owner = payer(session)
        started = begin(session, gateway, account, owner, CREDIT)
        money = replace(paid(started.reference, CREDIT), fee=dong(5_000))
        apply_updates(session, gateway=gateway, updates=(money,), actor=GATEWAYS)
        assert session.get_one(Payment, started.payment_id).next_check_at is not None


# ── Fees, and refunds that people end ─────────────────────────────────────────────────────────
def test_fee_that_changes_is_posted_by_its_difference(payment: Paid) -> None:
    for fee in (dong(0), dong(7_000), dong(6_500), dong(7_000), dong(6_500), Money(30_000, "USD")):
        payment.apply(replace(paid(payment.reference, CREDIT, number=payment.money), fee=fee))
    rows = text(
        "SELECT currency, sum(amount_micros) FROM journal WHERE ledger_code = '6100' GROUP BY 1"
    )
    with payment.sessions() as session:
        assert {row[0]: row[1] for row in session.execute(rows)} == {"VND": 0, "USD": 30_000}


def test_dispute_fee_is_posted_once_and_its_difference_later(payment: Paid) -> None:
    for hours, fee in ((1, 15_000), (2, 15_000), (3, 0), (4, 15_000)):
        update = replace(
            payment.dispute_update(DisputeState.OPEN), fee=dong(fee), stated_at=at(hours)
        )
        payment.apply(update)
        assert payment.legs().get("6110", 0) == fee


def test_dispute_fee_is_posted_whatever_money_is_disputed(payment: Paid) -> None:
    payment.apply(paid(payment.reference, CREDIT, number="second"))
    update = replace(
        payment.dispute_update(DisputeState.WON, name="dp_2"),
        fee=dong(15_000),
        gateway_payment_id="second",
        payment_reference=payment.reference,
        stated_at=at(2),
    )
    payment.apply(update)
    assert payment.legs()["6110"] == 15_000
    payment.apply(replace(update, fee=dong(9_000), stated_at=at(1)))  # older: it knew less
    assert payment.legs()["6110"] == 15_000


def test_refund_of_a_bank_transfer_ends_with_its_payout(sessions: sessionmaker[Session]) -> None:
    transfer = Transfer(sessions)
    refund = transfer.ask(dong(220_000))
    assert transfer.legs() == {"1010": 550_000, "2100": -300_000, "2400": -30_000, "2150": -220_000}
    for _ in range(2):
        with sessions.begin() as session:
            record_payout(session, refund_id=refund, reference="FT 1", actor=FINANCE)
    assert transfer.legs() == {"1010": 330_000, "2100": -300_000, "2400": -30_000}
    with sessions.begin() as session, pytest.raises(Conflict):
        cancel_refund(session, refund_id=refund, reason="too late", actor=FINANCE)


def test_one_reference_of_two_payouts_at_once_counts_for_one(
    sessions: sessionmaker[Session], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refunds = [Transfer(sessions, f"FT 0{number}").ask(dong(220_000)) for number in range(2)]
    # Both have looked for the reference and found none when either writes it down.
    monkeypatch.setattr(refund_service, "succeed", AtOnce(refund_states.succeed))
    database.connect(database_url)
    database.transaction(register, FINANCE)

    def pay_out(refund: int) -> str:
        try:
            database.transaction(record_payout, refund_id=refund, reference="FT 1", actor=FINANCE)
        except Conflict as refusal:
            return refusal.reason
        return "recorded"

    with ThreadPoolExecutor(2) as pool:
        shown = sorted(pool.map(pay_out, refunds))
    database.disconnect()
    assert shown == ["line_is_taken", "recorded"]


def test_refund_of_a_bank_transfer_can_be_cancelled(sessions: sessionmaker[Session]) -> None:
    transfer = Transfer(sessions)
    refund = transfer.ask(CREDIT)
    for _ in range(2):
        with sessions.begin() as session:
            cancel_refund(session, refund_id=refund, reason="wrong account", actor=FINANCE)
    assert transfer.legs() == {"1010": 550_000, "2100": -500_000, "2400": -50_000}
    with sessions.begin() as session, pytest.raises(Conflict):
        record_payout(session, refund_id=refund, reference="FT 2", actor=FINANCE)


def test_cancelled_refund_tells_another_person_who_cancelled_it(
    sessions: sessionmaker[Session],
) -> None:
    transfer = Transfer(sessions)
    refund = transfer.ask(CREDIT)
    with sessions.begin() as session:
        cancel_refund(session, refund_id=refund, reason="wrong account", actor=FINANCE)
    with sessions() as session, pytest.raises(AlreadyDecided) as caught:
        cancel_refund(session, refund_id=refund, reason="no longer wanted", actor=CHECKER)
    decided = caught.value
    assert (decided.state, decided.decided_by) == ("cancelled", f"user:{FINANCE.user_id}")
    assert decided.decided_at is not None


class Transfer(Paid):
    """550,000 dong that came on the bank account."""

    def __init__(self, sessions: sessionmaker[Session], bank_reference: str = "FT 0") -> None:
        super().__init__(sessions)
        with sessions.begin() as session:
            self.account, _owner = payer(session)
            transfer = record_transfer(
                session,
                account_id=self.account,
                amount=CREDIT,
                bank_reference=bank_reference,
                received_on=date(2026, 1, 15),
                evidence=Evidence("slip.pdf", b"%PDF-1.7 a slip"),
                remark="",
                actor=FINANCE,
            )
            payment_id = decide_transfer(
                session, transfer_id=transfer, is_approved=True, actor=CHECKER
            )
            assert payment_id is not None
            self.reference = session.get_one(Payment, payment_id).reference
        self.payment_id = payment_id
        self.gateway = ScriptedGateway("bank")

    def ask(self, amount: Money, *, key: str | None = None) -> int:
        with self.sessions.begin() as session:
            return request_refund(
                session,
                payment_id=self.payment_id,
                amount=amount,
                reason="Paid twice",
                actor=FINANCE,
                idempotency_key=key or next_key("refund"),
            ).refund_id


def test_disputes_of_one_row_count_once(payment: Paid) -> None:
    for state in (DisputeState.OPEN, DisputeState.LOST):
        for _ in range(3):
            payment.apply(payment.dispute_update(state))
    assert len(payment.all_of(Dispute)) == 1
    assert payment.legs() == {}
