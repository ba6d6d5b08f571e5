"""Money that goes back, by our wish or against it, and what becomes of the credit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text, update

from db.models import Account, Dispute, Payment, PaymentEvent, Refund
from domain import ledger
from domain.actors import StaffRole, user_actor
from domain.errors import Conflict, InvalidInput, NotAuthorised, ReversalExceedsOriginal
from domain.gateways.base import (
    DisputeFact,
    DisputeState,
    GatewayRefused,
    Outcome,
    PaymentFact,
    PaymentState,
    RefundFact,
    RefundState,
    Snapshot,
)
from domain.money import Money
from domain.payments import check_due, request_refund, send_refund
from domain.payments.facts import apply_facts
from tests.factories import SYSTEM, charge, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, away, begin, dong, paid, payer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.gateways.base import Fact

CREDIT = dong(550_000)
FINANCE = user_actor(900, staff_role=StaffRole.FINANCE)


class Paid:
    """A payment of 550,000 dong that was credited."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions
        self.gateway = ScriptedGateway()
        with sessions.begin() as session:
            self.account, owner = payer(session)
            started = begin(session, self.gateway, self.account, owner, CREDIT)
        self.payment_id, self.reference = started.payment_id, started.reference
        self.money = f"money-of-{self.reference}"
        assert self.apply(paid(self.reference, CREDIT, number=self.money)) is Outcome.RECORDED

    def apply(self, fact: Fact) -> Outcome:
        with self.sessions.begin() as session:
            outcome, _ = apply_facts(session, gateway=self.gateway, facts=(fact,), actor=GATEWAYS)
        return outcome

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

    def send(self, refund_id: int) -> str:
        return send_refund(self.sessions, gateway=self.gateway, refund_id=refund_id)

    def spend(self, amount: int) -> None:
        with self.sessions.begin() as session:
            charge(session, self.account, amount, occurred_at=datetime.now(UTC))

    def refund_fact(self, name: str, state: RefundState, amount: Money) -> RefundFact:
        return RefundFact(name, state, amount, gateway_payment_id=self.money)

    def dispute_fact(
        self, state: DisputeState, name: str = "dp_1", amount: Money = CREDIT
    ) -> DisputeFact:
        return DisputeFact(name, state, amount, gateway_payment_id=self.money)

    def balance(self) -> int:
        query = text("SELECT balance_micros FROM account_balances WHERE account_id = :id")
        with self.sessions() as session:
            return int(session.execute(query, {"id": self.account}).scalar_one() / 1_000_000)

    def status(self) -> str:
        with self.sessions() as session:
            return session.get_one(Account, self.account).status

    def row(self) -> Payment:
        with self.sessions() as session:
            return session.get_one(Payment, self.payment_id)

    def all_of(self, model: Any) -> list[Any]:
        with self.sessions() as session:
            return list(session.scalars(select(model).order_by(model.id)))

    def legs(self) -> dict[str, int]:
        """Return what stands on each account of the chart, in dong."""
        rows = text(
            "SELECT ledger_code, sum(amount_micros)::bigint / 1000000 FROM journal"
            " WHERE account_id = :id GROUP BY 1 HAVING sum(amount_micros) <> 0"
        )
        with self.sessions() as session:
            found = session.execute(rows, {"id": self.account}).all()
        return {row[0]: row[1] for row in found}


@pytest.fixture
def payment(sessions: sessionmaker[Session]) -> Any:
    made = Paid(sessions)
    yield made
    unbalanced = text(
        "SELECT account_id, currency FROM journal GROUP BY 1, 2 HAVING sum(amount_micros) <> 0"
    )
    with sessions() as session:
        assert ledger.verify_ledger(session, actor=SYSTEM) == []
        assert session.execute(unbalanced).all() == []


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
        session.execute(update(Refund).values(next_check_at=datetime(2026, 1, 1, tzinfo=UTC)))
    told = check_due(payment.sessions, gateways={"vnpay": payment.gateway}, actor=GATEWAYS)
    assert told.endswith("1 refunds sent")
    sent = [asked for asked in payment.gateway.asked if asked.startswith("refund")]
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert [row.state for row in payment.all_of(Refund)] == ["succeeded"]


def test_a_refund_that_waits_at_the_gateway_is_asked_about(payment: Paid) -> None:
    payment.gateway.refunded = RefundFact("r1", RefundState.PENDING, CREDIT)
    assert payment.send(payment.ask(CREDIT)) == "pending"
    payment.gateway.snapshot = Snapshot(
        PaymentFact(PaymentState.OPEN),
        (payment.refund_fact("r1", RefundState.SUCCEEDED, CREDIT),),
    )
    with payment.sessions.begin() as session:
        session.execute(update(Refund).values(next_check_at=datetime(2026, 1, 1, tzinfo=UTC)))
        session.execute(update(Payment).values(next_check_at=None))
    check_due(payment.sessions, gateways={"vnpay": payment.gateway}, actor=GATEWAYS)
    assert [row.state for row in payment.all_of(Refund)] == ["succeeded"]
    assert payment.legs() == {}


class _OneAtATime:
    """A gateway as VNPay is: it tells of the latest refund alone, and pays them later."""

    def __init__(self, payment: Paid) -> None:
        self.payment, self.gateway = payment, payment.gateway
        self.gateway.tells_latest_refund_only = True
        self.gateway.refunded = RefundFact("r1", RefundState.PENDING, CREDIT)

    def sent(self) -> list[str]:
        return [asked for asked in self.gateway.asked if asked.startswith("refund")]

    def later(self) -> None:
        with self.payment.sessions.begin() as session:
            session.execute(update(Refund).values(next_check_at=datetime(2026, 1, 1, tzinfo=UTC)))
            session.execute(update(Payment).values(next_check_at=None))
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
        PaymentFact(PaymentState.OPEN), (payment.refund_fact("r1", RefundState.PENDING, part),)
    )
    payment.gateway.snapshot = snapshot
    only_latest.later()
    assert len(only_latest.sent()) == 1
    payment.gateway.snapshot = replace(snapshot, refunds=(payment.refund_fact("r1", end, part),))
    payment.gateway.refunded = RefundFact("r2", RefundState.SUCCEEDED, part)
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
    payment.gateway.refunded = RefundFact("r1", RefundState.PENDING, CREDIT)
    assert payment.send(payment.ask(dong(100_000))) == "pending"
    payment.gateway.refunded = RefundFact("r2", RefundState.PENDING, CREDIT)
    assert payment.send(payment.ask(dong(100_000))) == "pending"


def test_the_gateway_is_told_the_names_of_the_other_refunds(payment: Paid) -> None:
    payment.gateway.refunded = RefundFact("r1", RefundState.SUCCEEDED, CREDIT)
    payment.send(payment.ask(dong(100_000)))
    payment.gateway.refunded = RefundFact("r2", RefundState.SUCCEEDED, CREDIT)
    payment.send(payment.ask(dong(100_000)))
    first, second = payment.gateway.refund_requests
    assert (first.others, second.others) == (frozenset(), frozenset({"r1"}))


def test_a_refund_that_failed_after_it_was_paid_restores_too(payment: Paid) -> None:
    payment.gateway.refunded = RefundFact("r1", RefundState.SUCCEEDED, CREDIT)
    payment.send(payment.ask(CREDIT))
    fact = payment.refund_fact("r1", RefundState.FAILED, CREDIT)
    assert payment.apply(fact) is Outcome.RECORDED
    assert payment.apply(fact) is Outcome.REPEATED
    assert payment.balance() == 550_000
    assert payment.legs() == {"1110.vnpay": 550_000, "2100": -500_000, "2400": -50_000}


def test_refunds_made_at_the_gateway_are_taken_over_once_each(payment: Paid) -> None:
    for name, amount in (("r1", 100_000), ("r2", 150_000)):
        fact = payment.refund_fact(name, RefundState.SUCCEEDED, dong(amount))
        assert payment.apply(fact) is Outcome.RECORDED
        assert payment.apply(fact) is Outcome.REPEATED
    assert payment.balance() == 300_000
    assert payment.legs()["1110.vnpay"] == 300_000


def test_a_refund_of_more_than_is_left_takes_what_there_is_and_is_reported(payment: Paid) -> None:
    too_much = payment.refund_fact("r1", RefundState.SUCCEEDED, dong(550_001))
    assert payment.apply(too_much) is Outcome.RECORDED
    assert payment.balance() == 0
    assert payment.legs() == {"1110.vnpay": -1, "2150": 1}
    (row,) = payment.all_of(Refund)
    assert row.outflow_micros - row.clawed_back_micros == dong(1).micros


def test_our_refund_that_the_gateway_tells_first_is_one_refund(payment: Paid) -> None:
    refund = payment.ask(dong(100_000))
    (row,) = payment.all_of(Refund)
    fact = RefundFact(
        "r9",
        RefundState.SUCCEEDED,
        dong(100_000),
        gateway_payment_id=payment.money,
        reference=row.reference,
    )
    assert payment.apply(fact) is Outcome.RECORDED
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
    assert payment.apply(payment.dispute_fact(DisputeState.OPEN)) is Outcome.RECORDED
    assert payment.apply(payment.dispute_fact(DisputeState.OPEN)) is Outcome.REPEATED
    assert payment.status() == "frozen"
    assert payment.balance() == 550_000
    assert payment.legs() == {"1120": 550_000, "2100": -500_000, "2400": -50_000}
    with pytest.raises(Conflict):
        payment.ask(CREDIT)


def test_a_dispute_that_was_won_restores_everything(payment: Paid) -> None:
    payment.apply(payment.dispute_fact(DisputeState.OPEN))
    assert payment.apply(payment.dispute_fact(DisputeState.WON)) is Outcome.RECORDED
    assert payment.apply(payment.dispute_fact(DisputeState.WON)) is Outcome.REPEATED
    assert payment.status() == "active"
    assert payment.legs() == {"1110.vnpay": 550_000, "2100": -500_000, "2400": -50_000}
    payment.send(payment.ask(CREDIT))
    assert payment.balance() == 0


def test_a_dispute_that_was_lost_takes_the_unspent_and_the_rest_is_debt(payment: Paid) -> None:
    payment.spend(165_000)
    payment.apply(payment.dispute_fact(DisputeState.OPEN))
    assert payment.apply(payment.dispute_fact(DisputeState.LOST)) is Outcome.RECORDED
    assert payment.apply(payment.dispute_fact(DisputeState.LOST)) is Outcome.REPEATED
    assert payment.balance() == -165_000
    assert payment.legs()["1300"] == 165_000
    assert "1120" not in payment.legs()
    assert payment.status() == "active"


def test_a_dispute_may_be_lost_before_it_was_opened(payment: Paid) -> None:
    assert payment.apply(payment.dispute_fact(DisputeState.LOST)) is Outcome.RECORDED
    assert payment.balance() == 0
    assert [row.state for row in payment.all_of(Dispute)] == ["lost"]


def test_a_dispute_that_was_won_after_it_was_lost_gives_the_credit_again(payment: Paid) -> None:
    payment.apply(payment.dispute_fact(DisputeState.LOST))
    assert payment.apply(payment.dispute_fact(DisputeState.WON)) is Outcome.RECORDED
    assert payment.balance() == 550_000
    assert payment.legs() == {"1110.vnpay": 550_000, "2100": -500_000, "2400": -50_000}


def test_a_dispute_lost_after_a_whole_refund_takes_no_credit_and_is_reported(payment: Paid) -> None:
    payment.send(payment.ask(CREDIT))
    assert payment.apply(payment.dispute_fact(DisputeState.LOST)) is Outcome.RECORDED
    assert payment.balance() == 0
    assert payment.legs() == {"1110.vnpay": -550_000, "2150": 550_000}
    assert "dispute_exceeds_payment" in {row.kind for row in payment.all_of(PaymentEvent)}
    payment.apply(payment.dispute_fact(DisputeState.WON))
    assert payment.legs() == {}


def test_a_reversal_and_a_dispute_of_one_money_take_it_once(payment: Paid) -> None:
    payment.apply(payment.dispute_fact(DisputeState.LOST))
    reversed_too = payment.refund_fact("reversal-1", RefundState.SUCCEEDED, CREDIT)
    payment.apply(replace(reversed_too, is_reversal=True))
    assert payment.balance() == 0
    assert [row.state for row in payment.all_of(Refund)] == []


@pytest.mark.parametrize("is_reversal_first", [True, False])
def test_a_reversal_of_more_than_the_dispute_stands_beside_it(
    payment: Paid, *, is_reversal_first: bool
) -> None:
    reversal = payment.refund_fact("reversal-1", RefundState.SUCCEEDED, CREDIT)
    facts: list[Fact] = [
        replace(reversal, is_reversal=True),
        payment.dispute_fact(DisputeState.LOST, amount=dong(330_000)),
    ]
    for fact in facts if is_reversal_first else reversed(facts):
        payment.apply(fact)
    assert payment.balance() == 0
    assert payment.legs() == {"1110.vnpay": -330_000, "2150": 330_000}
    assert {"refund_of_too_much", "dispute_exceeds_payment"} & {
        row.kind for row in payment.all_of(PaymentEvent)
    }


def test_a_reversal_that_comes_after_its_dispute_was_won_takes_nothing(payment: Paid) -> None:
    moment = datetime.now(UTC)
    reversal = payment.refund_fact("reversal-1", RefundState.SUCCEEDED, CREDIT)
    for seconds, state in ((1, DisputeState.OPEN), (2, DisputeState.WON)):
        stated_at = moment + timedelta(seconds=seconds)
        payment.apply(replace(payment.dispute_fact(state), stated_at=stated_at))
    payment.apply(replace(reversal, is_reversal=True, stated_at=moment))
    assert payment.balance() == 550_000


def test_a_dispute_is_known_by_the_name_that_it_had_before(payment: Paid) -> None:
    alone = replace(payment.dispute_fact(DisputeState.OPEN, "PP-1"), other_dispute_id="PP-1:C1")
    payment.apply(alone)
    one_of_two = payment.dispute_fact(DisputeState.LOST, "PP-1:C1", dong(330_000))
    payment.apply(replace(one_of_two, other_dispute_id="PP-1"))
    assert [(row.state, row.lost_micros) for row in payment.all_of(Dispute)] == [
        ("lost", 330_000_000_000)
    ]
    assert payment.balance() == 220_000
    assert payment.status() == "active"


def test_a_refund_is_of_the_payment_whose_money_it_names(payment: Paid) -> None:
    other = Paid(payment.sessions)
    fact = payment.refund_fact("r1", RefundState.SUCCEEDED, CREDIT)
    payment.apply(replace(fact, payment_reference=other.reference))
    assert (payment.balance(), other.balance()) == (0, 550_000)
    dispute = payment.dispute_fact(DisputeState.OPEN)
    payment.apply(replace(dispute, payment_reference=other.reference))
    assert (payment.status(), other.status()) == ("frozen", "active")


def test_an_inquiry_is_told_to_staff_and_moves_nothing(payment: Paid) -> None:
    before = payment.legs()
    for state in (DisputeState.INQUIRY, DisputeState.INQUIRY_CLOSED):
        assert payment.apply(payment.dispute_fact(state)) is Outcome.RECORDED
        assert payment.apply(payment.dispute_fact(state)) is Outcome.REPEATED
    assert payment.status() == "active"
    assert payment.legs() == before
    assert payment.all_of(Dispute) == []
    told = [row.kind for row in payment.all_of(PaymentEvent)]
    assert told[-2:] == ["dispute_inquiry", "dispute_inquiry_closed"]
    payment.send(payment.ask(CREDIT))
    assert payment.balance() == 0


def test_an_inquiry_that_becomes_a_dispute_acts_in_full(payment: Paid) -> None:
    payment.apply(payment.dispute_fact(DisputeState.INQUIRY))
    assert payment.apply(payment.dispute_fact(DisputeState.OPEN)) is Outcome.RECORDED
    assert payment.status() == "frozen"
    assert payment.legs() == {"1120": 550_000, "2100": -500_000, "2400": -50_000}
    # What was said before it and comes late changes nothing.
    assert payment.apply(payment.dispute_fact(DisputeState.INQUIRY)) is Outcome.REPEATED
    assert payment.apply(payment.dispute_fact(DisputeState.LOST)) is Outcome.RECORDED
    assert payment.balance() == 0


def test_a_dispute_that_was_won_is_not_opened_by_what_comes_late(payment: Paid) -> None:
    payment.apply(payment.dispute_fact(DisputeState.WON))
    assert payment.apply(payment.dispute_fact(DisputeState.OPEN)) is Outcome.REPEATED
    assert payment.status() == "active"


def test_the_account_stays_frozen_until_the_last_dispute_is_over(payment: Paid) -> None:
    half = dong(275_000)
    for name in ("dp_1", "dp_2"):
        payment.apply(payment.dispute_fact(DisputeState.OPEN, name, half))
    payment.apply(payment.dispute_fact(DisputeState.WON, "dp_1", half))
    assert payment.status() == "frozen"
    payment.apply(payment.dispute_fact(DisputeState.WON, "dp_2", half))
    assert payment.status() == "active"


def test_nothing_new_is_held_while_it_is_frozen(payment: Paid) -> None:
    payment.apply(payment.dispute_fact(DisputeState.OPEN))
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
