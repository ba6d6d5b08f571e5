"""Money that goes back, by our wish or against it, and what becomes of the credit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, text
from sqlalchemy import update as sql_update

from db.models import Dispute, Payment, PaymentEvent, Refund
from domain import ledger
from domain.actors import StaffRole, user_actor
from domain.errors import Conflict, InvalidInput, NotAuthorised, ReversalExceedsOriginal
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    GatewayRefused,
    InboundMessage,
    Outcome,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
    Snapshot,
    WebhookEvent,
)
from domain.money import Money
from domain.payments import check_due, check_payment, process_webhook, request_refund
from domain.payments.check_schedule import next_check
from domain.payments.records import lock_payment
from domain.security.payload_encryption import Vault
from domain.transactions import run_transaction
from tests.factories import SYSTEM, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, away, dong, paid
from tests.support.paid_payments import CREDIT, FINANCE, Paid, payment

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.gateways.interface import GatewayUpdate

__all__ = ["payment"]

VAULT = Vault(b"the-secret-key-of-these-tests-0123456789")


# ── Refunds ───────────────────────────────────────────────────────────────────────────────────
def test_credit_goes_when_a_refund_is_asked_for_and_money_when_it_is_paid(payment: Paid) -> None:
    refund = payment.ask(CREDIT)
    assert payment.balance() == 0
    assert payment.legs() == {"1110.vnpay": 550_000, "2150": -550_000}
    assert payment.send(refund) == "succeeded"
    assert payment.legs() == {}
    assert payment.row().refunded_micros == CREDIT.micros


def test_what_was_spent_is_owed(payment: Paid) -> None:
    payment.spend(200_000)
    payment.send(payment.ask(CREDIT))
    assert payment.balance() == -200_000


def test_parts_never_sum_to_more_than_was_paid(payment: Paid) -> None:
    for amount in (200_000, 300_000):
        payment.send(payment.ask(dong(amount)))
    with pytest.raises(ReversalExceedsOriginal):
        payment.ask(dong(50_001))
    payment.send(payment.ask(dong(50_000)))
    assert payment.balance() == 0
    assert payment.legs() == {}


def test_the_same_request_is_one_refund(payment: Paid) -> None:
    assert payment.ask(dong(100), key="again") == payment.ask(dong(100), key="again")
    assert payment.balance() == 549_900


def test_a_refund_that_the_gateway_refuses_gives_the_credit_again(payment: Paid) -> None:
    payment.gateway.failure = GatewayRefused("vnpay", "95")
    assert payment.send(payment.ask(CREDIT)) == "failed"
    assert payment.balance() == 550_000
    assert payment.row().refunded_micros == 0
    assert payment.legs() == {"1110.vnpay": 550_000, "2100": -500_000, "2400": -50_000}
    payment.gateway.failure = None
    assert payment.send(payment.ask(CREDIT)) == "succeeded"
    assert payment.legs() == {}


def test_a_refund_that_nobody_answered_is_sent_again_by_the_clock(payment: Paid) -> None:
    payment.gateway.failure = away()
    refund = payment.ask(CREDIT)
    assert payment.send(refund) == "requested"
    payment.gateway.failure = None
    with payment.sessions.begin() as session:
        session.execute(sql_update(Refund).values(next_check_at=datetime(2026, 1, 1, tzinfo=UTC)))
    message = check_due(payment.sessions, gateways={"vnpay": payment.gateway}, actor=GATEWAYS)
    assert message.endswith("1 refunds sent")
    sent = [asked for asked in payment.gateway.asked if asked.startswith("refund")]
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert [row.state for row in payment.all_of(Refund)] == ["succeeded"]


def test_a_refund_that_waits_at_the_gateway_is_asked_about(payment: Paid) -> None:
    payment.gateway.refunded = RefundUpdate("r1", RefundState.PENDING, CREDIT)
    assert payment.send(payment.ask(CREDIT)) == "pending"
    payment.gateway.snapshot = Snapshot(
        PaymentUpdate(GatewayPaymentState.OPEN),
        (payment.refund_update("r1", RefundState.SUCCEEDED, CREDIT),),
    )
    with payment.sessions.begin() as session:
        session.execute(sql_update(Refund).values(next_check_at=datetime(2026, 1, 1, tzinfo=UTC)))
        session.execute(sql_update(Payment).values(next_check_at=None))
    check_due(payment.sessions, gateways={"vnpay": payment.gateway}, actor=GATEWAYS)
    assert [row.state for row in payment.all_of(Refund)] == ["succeeded"]
    assert payment.legs() == {}


class _OneAtATime:
    """A gateway as VNPay is: it tells of the latest refund alone, and pays them later."""

    def __init__(self, payment: Paid) -> None:
        self.payment, self.gateway = payment, payment.gateway
        self.gateway.tells_latest_refund_only = True
        self.gateway.refunded = RefundUpdate("r1", RefundState.PENDING, CREDIT)

    def sent(self) -> list[str]:
        return [asked for asked in self.gateway.asked if asked.startswith("refund")]

    def later(self) -> None:
        with self.payment.sessions.begin() as session:
            session.execute(
                sql_update(Refund).values(next_check_at=datetime(2026, 1, 1, tzinfo=UTC))
            )
            session.execute(sql_update(Payment).values(next_check_at=None))
        check_due(self.payment.sessions, gateways={"vnpay": self.gateway}, actor=GATEWAYS)

    def waits(self) -> int:
        return [row.kind for row in self.payment.all_of(PaymentEvent)].count("refund_waits")


@pytest.mark.parametrize("end", [RefundState.SUCCEEDED, RefundState.FAILED])
def test_the_next_refund_waits_until_the_one_before_it_has_settled(
    payment: Paid, end: RefundState
) -> None:
    only_latest, part = _OneAtATime(payment), dong(100_000)
    first, second = payment.ask(part), payment.ask(part)
    assert payment.send(second) == "waits"
    assert payment.send(first) == "pending"
    for _ in range(2):
        assert payment.send(second) == "waits"
    assert payment.balance() == 350_000
    assert (len(only_latest.sent()), only_latest.waits()) == (1, 1)
    snapshot = Snapshot(
        PaymentUpdate(GatewayPaymentState.OPEN),
        (payment.refund_update("r1", RefundState.PENDING, part),),
    )
    payment.gateway.snapshot = snapshot
    only_latest.later()
    assert len(only_latest.sent()) == 1
    payment.gateway.snapshot = replace(snapshot, refunds=(payment.refund_update("r1", end, part),))
    payment.gateway.refunded = RefundUpdate("r2", RefundState.SUCCEEDED, part)
    only_latest.later()
    only_latest.later()
    assert len(only_latest.sent()) == 2
    assert [row.state for row in payment.all_of(Refund)] == [end.value, "succeeded"]
    assert [row.gateway_refund_id for row in payment.all_of(Refund)] == ["r1", "r2"]


def test_a_refund_that_nobody_answered_is_before_the_next_too(payment: Paid) -> None:
    only_latest = _OneAtATime(payment)
    first, second = payment.ask(dong(100_000)), payment.ask(dong(100_000))
    payment.gateway.failure = away()
    assert payment.send(first) == "requested"
    payment.gateway.failure = None
    assert payment.send(second) == "waits"
    assert len(only_latest.sent()) == 1


def test_where_every_refund_is_told_none_waits_for_another(payment: Paid) -> None:
    payment.gateway.refunded = RefundUpdate("r1", RefundState.PENDING, CREDIT)
    assert payment.send(payment.ask(dong(100_000))) == "pending"
    payment.gateway.refunded = RefundUpdate("r2", RefundState.PENDING, CREDIT)
    assert payment.send(payment.ask(dong(100_000))) == "pending"


def test_the_gateway_is_told_the_names_of_the_other_refunds(payment: Paid) -> None:
    payment.gateway.refunded = RefundUpdate("r1", RefundState.SUCCEEDED, CREDIT)
    payment.send(payment.ask(dong(100_000)))
    payment.gateway.refunded = RefundUpdate("r2", RefundState.SUCCEEDED, CREDIT)
    payment.send(payment.ask(dong(100_000)))
    first, second = payment.gateway.refund_requests
    assert (first.others, second.others) == (frozenset(), frozenset({"r1"}))


def test_a_refund_that_failed_after_it_was_paid_restores_too(payment: Paid) -> None:
    payment.gateway.refunded = RefundUpdate("r1", RefundState.SUCCEEDED, CREDIT)
    payment.send(payment.ask(CREDIT))
    update = payment.refund_update("r1", RefundState.FAILED, CREDIT)
    assert payment.apply(update) is Outcome.RECORDED
    assert payment.apply(update) is Outcome.REPEATED
    assert payment.balance() == 550_000
    assert payment.legs() == {"1110.vnpay": 550_000, "2100": -500_000, "2400": -50_000}


def test_refunds_made_at_the_gateway_are_taken_over_once_each(payment: Paid) -> None:
    for name, amount in (("r1", 100_000), ("r2", 150_000)):
        update = payment.refund_update(name, RefundState.SUCCEEDED, dong(amount))
        assert payment.apply(update) is Outcome.RECORDED
        assert payment.apply(update) is Outcome.REPEATED
    assert payment.balance() == 300_000
    assert payment.legs()["1110.vnpay"] == 300_000


def test_a_refund_of_more_than_is_left_takes_what_there_is_and_is_reported(payment: Paid) -> None:
    too_much = payment.refund_update("r1", RefundState.SUCCEEDED, dong(550_001))
    assert payment.apply(too_much) is Outcome.RECORDED
    assert payment.balance() == 0
    assert payment.legs() == {"1110.vnpay": -1, "2150": 1}
    (row,) = payment.all_of(Refund)
    assert row.outflow_micros - row.clawed_back_micros == dong(1).micros


def test_our_refund_that_the_gateway_tells_first_is_one_refund(payment: Paid) -> None:
    refund = payment.ask(dong(100_000))
    (row,) = payment.all_of(Refund)
    update = RefundUpdate(
        "r9",
        RefundState.SUCCEEDED,
        dong(100_000),
        gateway_payment_id=payment.money,
        reference=row.reference,
    )
    assert payment.apply(update) is Outcome.RECORDED
    assert payment.send(refund) == "succeeded"
    assert len(payment.all_of(Refund)) == 1
    assert payment.balance() == 450_000


def test_only_finance_refunds_and_only_what_was_paid(payment: Paid) -> None:
    support = user_actor(901, staff_role=StaffRole.SUPPORT)
    asking: dict[str, Any] = {"payment_id": payment.payment_id, "reason": "x"}
    with payment.sessions() as session:
        for actor in (support, GATEWAYS):
            with pytest.raises(NotAuthorised):
                request_refund(
                    session, **asking, amount=CREDIT, actor=actor, idempotency_key=next_key()
                )
        for amount, reason in [(Money.from_minor_units(1, "USD"), InvalidInput)]:
            with pytest.raises(reason):
                request_refund(
                    session, **asking, amount=amount, actor=FINANCE, idempotency_key=next_key()
                )


# ── Disputes ──────────────────────────────────────────────────────────────────────────────────
def test_a_dispute_freezes_and_takes_nothing_yet(payment: Paid) -> None:
    assert payment.apply(payment.dispute_update(DisputeState.OPEN)) is Outcome.RECORDED
    assert payment.apply(payment.dispute_update(DisputeState.OPEN)) is Outcome.REPEATED
    assert payment.status() == "frozen"
    assert payment.balance() == 550_000
    assert payment.legs() == {"1120": 550_000, "2100": -500_000, "2400": -50_000}
    with pytest.raises(Conflict):
        payment.ask(CREDIT)


def test_a_dispute_that_was_won_restores_everything(payment: Paid) -> None:
    payment.apply(payment.dispute_update(DisputeState.OPEN))
    assert payment.apply(payment.dispute_update(DisputeState.WON)) is Outcome.RECORDED
    assert payment.apply(payment.dispute_update(DisputeState.WON)) is Outcome.REPEATED
    assert payment.status() == "active"
    assert payment.legs() == {"1110.vnpay": 550_000, "2100": -500_000, "2400": -50_000}
    payment.send(payment.ask(CREDIT))
    assert payment.balance() == 0


def test_a_dispute_that_was_lost_takes_the_unspent_and_the_rest_is_debt(payment: Paid) -> None:
    payment.spend(165_000)
    payment.apply(payment.dispute_update(DisputeState.OPEN))
    assert payment.apply(payment.dispute_update(DisputeState.LOST)) is Outcome.RECORDED
    assert payment.apply(payment.dispute_update(DisputeState.LOST)) is Outcome.REPEATED
    assert payment.balance() == -165_000
    assert payment.legs()["1300"] == 165_000
    assert "1120" not in payment.legs()
    assert payment.status() == "active"


def test_a_dispute_may_be_lost_before_it_was_opened(payment: Paid) -> None:
    assert payment.apply(payment.dispute_update(DisputeState.LOST)) is Outcome.RECORDED
    assert payment.balance() == 0
    assert [row.state for row in payment.all_of(Dispute)] == ["lost"]


def test_a_dispute_that_was_won_after_it_was_lost_gives_the_credit_again(payment: Paid) -> None:
    payment.apply(payment.dispute_update(DisputeState.LOST))
    assert payment.apply(payment.dispute_update(DisputeState.WON)) is Outcome.RECORDED
    assert payment.balance() == 550_000
    assert payment.legs() == {"1110.vnpay": 550_000, "2100": -500_000, "2400": -50_000}


def test_a_dispute_lost_after_a_whole_refund_takes_no_credit_and_is_reported(payment: Paid) -> None:
    payment.send(payment.ask(CREDIT))
    assert payment.apply(payment.dispute_update(DisputeState.LOST)) is Outcome.RECORDED
    assert payment.balance() == 0
    assert payment.legs() == {"1110.vnpay": -550_000, "2150": 550_000}
    assert "dispute_exceeds_payment" in {row.kind for row in payment.all_of(PaymentEvent)}
    payment.apply(payment.dispute_update(DisputeState.WON))
    assert payment.legs() == {}


def test_a_reversal_and_a_dispute_of_one_money_take_it_once(payment: Paid) -> None:
    payment.apply(payment.dispute_update(DisputeState.LOST))
    reversed_too = payment.refund_update("reversal-1", RefundState.SUCCEEDED, CREDIT)
    payment.apply(replace(reversed_too, is_reversal=True))
    assert payment.balance() == 0
    assert [row.state for row in payment.all_of(Refund)] == []


@pytest.mark.parametrize("is_reversal_first", [True, False])
def test_a_reversal_of_more_than_the_dispute_stands_beside_it(
    payment: Paid, *, is_reversal_first: bool
) -> None:
    reversal = payment.refund_update("reversal-1", RefundState.SUCCEEDED, CREDIT)
    updates: list[GatewayUpdate] = [
        replace(reversal, is_reversal=True),
        payment.dispute_update(DisputeState.LOST, amount=dong(330_000)),
    ]
    for update in updates if is_reversal_first else reversed(updates):
        payment.apply(update)
    assert payment.balance() == 0
    assert payment.legs() == {"1110.vnpay": -330_000, "2150": 330_000}
    assert {"refund_of_too_much", "dispute_exceeds_payment"} & {
        row.kind for row in payment.all_of(PaymentEvent)
    }


def test_a_reversal_that_comes_after_its_dispute_was_won_takes_nothing(payment: Paid) -> None:
    moment = datetime.now(UTC)
    reversal = payment.refund_update("reversal-1", RefundState.SUCCEEDED, CREDIT)
    for seconds, state in ((1, DisputeState.OPEN), (2, DisputeState.WON)):
        stated_at = moment + timedelta(seconds=seconds)
        payment.apply(replace(payment.dispute_update(state), stated_at=stated_at))
    payment.apply(replace(reversal, is_reversal=True, stated_at=moment))
    assert payment.balance() == 550_000


def test_a_dispute_is_known_by_the_name_that_it_had_before(payment: Paid) -> None:
    alone = replace(payment.dispute_update(DisputeState.OPEN, "PP-1"), other_dispute_id="PP-1:C1")
    payment.apply(alone)
    one_of_two = payment.dispute_update(DisputeState.LOST, "PP-1:C1", dong(330_000))
    payment.apply(replace(one_of_two, other_dispute_id="PP-1"))
    assert [(row.state, row.lost_micros) for row in payment.all_of(Dispute)] == [
        ("lost", 330_000_000_000)
    ]
    assert payment.balance() == 220_000
    assert payment.status() == "active"


def test_a_refund_is_of_the_payment_whose_money_it_names(payment: Paid) -> None:
    other = Paid(payment.sessions)
    update = payment.refund_update("r1", RefundState.SUCCEEDED, CREDIT)
    payment.apply(replace(update, payment_reference=other.reference))
    assert (payment.balance(), other.balance()) == (0, 550_000)
    dispute = payment.dispute_update(DisputeState.OPEN)
    payment.apply(replace(dispute, payment_reference=other.reference))
    assert (payment.status(), other.status()) == ("frozen", "active")


def test_an_inquiry_is_told_to_staff_and_moves_nothing(payment: Paid) -> None:
    before = payment.legs()
    for state in (DisputeState.INQUIRY, DisputeState.INQUIRY_CLOSED):
        assert payment.apply(payment.dispute_update(state)) is Outcome.RECORDED
        assert payment.apply(payment.dispute_update(state)) is Outcome.REPEATED
    assert payment.status() == "active"
    assert payment.legs() == before
    assert payment.all_of(Dispute) == []
    message = [row.kind for row in payment.all_of(PaymentEvent)]
    assert message[-2:] == ["dispute_inquiry", "dispute_inquiry_closed"]
    payment.send(payment.ask(CREDIT))
    assert payment.balance() == 0


def test_an_inquiry_that_becomes_a_dispute_acts_in_full(payment: Paid) -> None:
    payment.apply(payment.dispute_update(DisputeState.INQUIRY))
    assert payment.apply(payment.dispute_update(DisputeState.OPEN)) is Outcome.RECORDED
    assert payment.status() == "frozen"
    assert payment.legs() == {"1120": 550_000, "2100": -500_000, "2400": -50_000}
    # What was said before it and comes late changes nothing.
    assert payment.apply(payment.dispute_update(DisputeState.INQUIRY)) is Outcome.REPEATED
    assert payment.apply(payment.dispute_update(DisputeState.LOST)) is Outcome.RECORDED
    assert payment.balance() == 0


def test_a_dispute_that_was_won_is_not_opened_by_what_comes_late(payment: Paid) -> None:
    payment.apply(payment.dispute_update(DisputeState.WON))
    assert payment.apply(payment.dispute_update(DisputeState.OPEN)) is Outcome.REPEATED
    assert payment.status() == "active"


def test_the_account_stays_frozen_until_the_last_dispute_is_over(payment: Paid) -> None:
    half = dong(275_000)
    for name in ("dp_1", "dp_2"):
        payment.apply(payment.dispute_update(DisputeState.OPEN, name, half))
    payment.apply(payment.dispute_update(DisputeState.WON, "dp_1", half))
    assert payment.status() == "frozen"
    payment.apply(payment.dispute_update(DisputeState.WON, "dp_2", half))
    assert payment.status() == "active"


def test_nothing_new_is_held_while_it_is_frozen(payment: Paid) -> None:
    payment.apply(payment.dispute_update(DisputeState.OPEN))
    with payment.sessions.begin() as session:
        held = ledger.place_hold(
            session,
            account_id=payment.account,
            service="ai-inference",
            source="test",
            amount_micros=1_000_000,
            expires_at=datetime.now(UTC) + timedelta(hours=1),
            actor=SYSTEM,
            idempotency_key=next_key(),
        )
    assert held.hold_number is None


# ── What a gateway says of another time, or of two payments ───────────────────────────────────
AHEAD = (timedelta(days=30), timedelta(days=300), timedelta(days=365 * 70))


class Telling(ScriptedGateway):
    """A gateway whose webhooks tell a fact."""

    def __init__(self, update: GatewayUpdate) -> None:
        super().__init__()
        self.update = update

    def parse_webhook(self, message: InboundMessage) -> WebhookEvent:
        return WebhookEvent(message.raw_query, "event", (self.update,))


def tell(payment: Paid, update: GatewayUpdate) -> Outcome:
    message = InboundMessage("POST", {}, (), next_key("event"), b"", datetime.now(UTC))
    outcome, _ = process_webhook(
        payment.sessions, gateway=Telling(update), message=message, vault=VAULT
    )
    return outcome


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_dispute_told_with_a_date_ahead_ends_when_its_end_is_told(
    payment: Paid, ahead: timedelta
) -> None:
    opened = payment.dispute_update(DisputeState.OPEN)
    tell(payment, replace(opened, stated_at=datetime.now(UTC) + ahead))
    assert payment.status() == "frozen"
    tell(payment, replace(payment.dispute_update(DisputeState.WON), stated_at=datetime.now(UTC)))
    assert payment.status() == "active"
    assert payment.balance() == 550_000


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize(
    ("first", "last", "left"),
    [
        (RefundState.SUCCEEDED, RefundState.FAILED, 550_000),
        (RefundState.FAILED, RefundState.SUCCEEDED, 0),
    ],
)
def test_a_refund_told_with_a_date_ahead_stands_as_it_is_told_last(
    payment: Paid, first: RefundState, last: RefundState, left: int, ahead: timedelta
) -> None:
    for state, later in ((first, ahead), (last, timedelta())):
        at = datetime.now(UTC) + later
        tell(payment, replace(payment.refund_update("re_1", state, CREDIT), stated_at=at))
    assert payment.balance() == left


@pytest.mark.parametrize("ahead", AHEAD)
def test_money_denied_with_a_date_ahead_counts_again_once_it_is_paid(
    payment: Paid, ahead: timedelta
) -> None:
    now = datetime.now(UTC)
    denied = PaymentUpdate(
        GatewayPaymentState.FAILED,
        reference=payment.reference,
        gateway_payment_id=payment.money,
        occurred_at=now + ahead,
    )
    tell(payment, denied)
    assert payment.balance() == 0
    again = paid(payment.reference, CREDIT, number=payment.money)
    tell(payment, replace(again, occurred_at=datetime.now(UTC)))
    assert payment.balance() == 550_000


@pytest.mark.parametrize("ahead", AHEAD)
def test_what_the_gateway_answers_ends_what_it_told_with_a_date_ahead(
    payment: Paid, ahead: timedelta
) -> None:
    opened = payment.dispute_update(DisputeState.OPEN)
    tell(payment, replace(opened, stated_at=datetime.now(UTC) + ahead))
    for state, at in ((DisputeState.OPEN, datetime.now(UTC) + ahead), (DisputeState.WON, None)):
        payment.gateway.snapshot = Snapshot(
            paid(payment.reference, CREDIT, number=payment.money),
            disputes=(replace(payment.dispute_update(state), stated_at=at),),
        )
        with payment.sessions.begin() as session:
            session.execute(sql_update(Dispute).values(stated_at=func.now() - timedelta(hours=1)))
        check_payment(
            payment.sessions, gateway=payment.gateway, payment_id=payment.payment_id, actor=SYSTEM
        )
    assert payment.status() == "active"


def test_a_refund_that_has_another_payment_is_for_people(payment: Paid) -> None:
    other = Paid(payment.sessions)
    update = payment.refund_update("re_1", RefundState.SUCCEEDED, CREDIT)
    assert payment.apply(update) is Outcome.RECORDED
    of_both = replace(update, gateway_payment_id=other.money)
    assert tell(other, of_both) is Outcome.RECORDED
    assert tell(other, of_both) is Outcome.REPEATED
    assert tell(other, replace(of_both, state=RefundState.FAILED)) is Outcome.REPEATED
    assert (payment.balance(), other.balance()) == (0, 550_000)
    (found,) = other.discrepancies()
    assert (found.reason, found.amount, found.other_payment, found.gateway_refund_id) == (
        "refund_of_another_payment",
        CREDIT,
        payment.reference,
        "re_1",
    )
    assert payment.discrepancies() == ()


def test_a_dispute_that_has_another_payment_is_for_people(payment: Paid) -> None:
    other = Paid(payment.sessions)
    payment.apply(payment.dispute_update(DisputeState.OPEN))
    of_both = replace(payment.dispute_update(DisputeState.OPEN), gateway_payment_id=other.money)
    assert tell(other, of_both) is Outcome.RECORDED
    assert tell(other, of_both) is Outcome.REPEATED
    assert (payment.status(), other.status()) == ("frozen", "active")
    (found,) = other.discrepancies()
    assert (found.reason, found.other_payment, found.gateway_dispute_id) == (
        "dispute_of_another_payment",
        payment.reference,
        "dp_1",
    )


def unclear(payment: Paid, state: DisputeState = DisputeState.OPEN) -> DisputeUpdate:
    return replace(
        payment.dispute_update(state), unknown_outcome="A_NEW_CODE", stated_at=datetime.now(UTC)
    )


@pytest.mark.parametrize("was_told_before", [True, False])
@pytest.mark.parametrize(("is_lost", "left"), [(True, 0), (False, 550_000)])
def test_a_dispute_whose_end_cannot_be_read_is_ended_by_finance(
    payment: Paid, *, is_lost: bool, left: int, was_told_before: bool
) -> None:
    if was_told_before:
        payment.apply(payment.dispute_update(DisputeState.OPEN))
    for outcome in (Outcome.RECORDED, Outcome.REPEATED):
        assert tell(payment, unclear(payment)) is outcome
    assert payment.status() == "frozen"
    (found,) = payment.discrepancies()
    assert (found.reason, found.amount, found.code) == (
        "dispute_outcome_unknown",
        CREDIT,
        "A_NEW_CODE",
    )
    with pytest.raises(InvalidInput):
        payment.review(found.id)
    for _ in range(2):
        payment.review(found.id, is_lost=is_lost)
    assert (payment.status(), payment.balance()) == ("active", left)
    assert tell(payment, unclear(payment)) is Outcome.REPEATED
    assert (payment.status(), payment.balance()) == ("active", left)
    assert payment.discrepancies() == ()


def test_a_dispute_closed_under_its_other_id_is_ended_by_finance(payment: Paid) -> None:
    first = replace(payment.dispute_update(DisputeState.OPEN, "PP-1"), other_dispute_id="PP-1:C1")
    payment.apply(first)
    closed = replace(unclear(payment), gateway_dispute_id="PP-1:C1", other_dispute_id="PP-1")
    assert tell(payment, closed) is Outcome.RECORDED
    (found,) = payment.discrepancies()
    assert found.gateway_dispute_id == "PP-1"
    payment.review(found.id, is_lost=False)
    assert (payment.status(), payment.balance()) == ("active", 550_000)


def test_a_dispute_that_ended_in_known_words_meanwhile_needs_no_end_from_finance(
    payment: Paid,
) -> None:
    tell(payment, unclear(payment))
    tell(payment, replace(payment.dispute_update(DisputeState.WON), stated_at=datetime.now(UTC)))
    (found,) = payment.discrepancies()
    payment.review(found.id)
    assert (payment.status(), payment.balance()) == ("active", 550_000)


def test_the_gateway_is_asked_daily_while_a_dispute_is_open(payment: Paid) -> None:
    late = datetime.now(UTC) + timedelta(days=200)
    assert next_check(payment.row(), late) is None
    payment.apply(payment.dispute_update(DisputeState.OPEN))
    assert next_check(payment.row(), late) == late + timedelta(days=1)
    payment.apply(payment.dispute_update(DisputeState.WON))
    assert next_check(payment.row(), late) is None


def test_who_writes_of_a_payment_does_not_wait_for_its_lock(payment: Paid) -> None:
    with payment.sessions.begin() as session, payment.sessions.begin() as other:
        assert lock_payment(session, payment.payment_id) is not None
        other.execute(text("SET LOCAL lock_timeout = '2s'"))
        other.add(
            PaymentEvent(
                account_id=payment.account,
                payment_id=payment.payment_id,
                kind="opened",
                actor="tests",
                details={},
            )
        )
        other.flush()
        other.rollback()


def test_who_was_slower_to_write_a_unique_name_runs_again(payment: Paid) -> None:
    names = iter(("taken", "taken", "free"))

    def work(session: Session) -> str:
        name = next(names)
        session.execute(
            text(
                "INSERT INTO idempotency_keys (account_id, key, operation, request_hash, answer)"
                " VALUES (:account, :key, 'test', '', '{}')"
            ),
            {"account": payment.account, "key": name},
        )
        return name

    assert [run_transaction(payment.sessions, work) for _ in range(2)] == ["taken", "free"]
