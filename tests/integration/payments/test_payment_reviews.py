"""Money that came and is not clear: two people credit it, one refuses it, none of it is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text
from sqlalchemy import update as sql_update
from sqlalchemy.exc import IntegrityError

from db.models import Payment, PaymentEvent, PaymentReview
from domain import ledger
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import AlreadyDecided, Conflict, InvalidInput, NotAuthorised
from domain.gateways.interface import (
    GatewayPaymentState,
    Outcome,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
    Snapshot,
)
from domain.money import Money
from domain.payments import check_due, check_payment, request_refund
from domain.payments.exchange_rates import decide_rate, make_quote, request_rate
from domain.payments.gateway_updates import apply_updates
from domain.payments.queries import find_payments
from domain.payments.review_queries import list_discrepancies
from domain.payments.reviews import (
    approve_payment,
    count_waiting,
    record_return,
    reject_payment,
    request_acceptance,
    review_discrepancy,
    reviews_of,
)
from tests.factories import SYSTEM
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.gateways.interface import GatewayUpdate
    from domain.payments.reviews import PaymentReviews

ASKED, RECEIVED = dong(550_000), dong(330_000)
MAKER = user_actor(900, staff_role=StaffRole.FINANCE)
CHECKER = user_actor(901, staff_role=StaffRole.FINANCE)
ADMIN = user_actor(902, staff_role=StaffRole.ADMIN)
SUPPORT = user_actor(903, staff_role=StaffRole.SUPPORT)


class Doubted:
    """A payment of 550,000 dong that was begun, and what people and its gateway do."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions
        self.gateway = ScriptedGateway()
        with sessions.begin() as session:
            self.account, self.owner = payer(session)
            started = begin(session, self.gateway, self.account, self.owner, ASKED)
        self.payment_id, self.reference = started.payment_id, started.reference

    def apply(self, *updates: GatewayUpdate) -> Outcome:
        with self.sessions.begin() as session:
            outcome, _ = apply_updates(
                session, gateway=self.gateway, updates=updates, actor=GATEWAYS
            )
        return outcome

    def update(
        self, state: GatewayPaymentState, number: str | None, amount: Money | None
    ) -> PaymentUpdate:
        return PaymentUpdate(
            state, reference=self.reference, gateway_payment_id=number, amount=amount, code="07"
        )

    def suspect(self, number: str = "money-1") -> None:
        self.apply(self.update(GatewayPaymentState.UNDER_REVIEW, number, ASKED))

    def pay(self, amount: Money, number: str = "money-1") -> Outcome:
        return self.apply(paid(self.reference, amount, number=number))

    def refund(self, name: str) -> RefundUpdate:
        return RefundUpdate(
            name,
            RefundState.SUCCEEDED,
            ASKED,
            gateway_payment_id="money-1",
            payment_reference=self.reference,
        )

    def reviews(self) -> PaymentReviews:
        with self.sessions() as session:
            return reviews_of(session, payment_id=self.payment_id, actor=SUPPORT)

    def case(self) -> int:
        return self.reviews().waiting[0].case.id

    def do(
        self, action: Any, actor: Actor, *, case: int | None = None, reason: str = "Seen"
    ) -> None:
        case_id = case or self.case()
        with self.sessions.begin() as session:
            action(session, payment_id=self.payment_id, case_id=case_id, reason=reason, actor=actor)

    def accept(self) -> None:
        case = self.case()
        self.do(request_acceptance, MAKER, case=case)
        self.do(approve_payment, CHECKER, case=case)

    def refuse(self) -> int:
        self.do(reject_payment, MAKER)
        return self.reviews().decided[-1].review_id

    def refund_attempt(self, review_id: int, actor: Actor = MAKER, reference: str = "FT 1") -> None:
        with self.sessions.begin() as session:
            record_return(session, review_id=review_id, reference=reference, actor=actor)

    def row(self) -> Payment:
        with self.sessions() as session:
            return session.get_one(Payment, self.payment_id)

    def state(self) -> tuple[str, str | None]:
        row = self.row()
        return row.state, row.code

    def steps(self) -> list[tuple[str, str]]:
        with self.sessions() as session:
            rows = session.scalars(
                select(PaymentEvent)
                .where(PaymentEvent.payment_id == self.payment_id)
                .order_by(PaymentEvent.id)
            )
            return [(row.kind, row.actor) for row in rows]

    def kinds(self) -> list[str]:
        return [kind for kind, _actor in self.steps()]

    def balance(self) -> int:
        query = text("SELECT balance_micros FROM account_balances WHERE account_id = :id")
        with self.sessions() as session:
            return int(session.execute(query, {"id": self.account}).scalar_one() / 1_000_000)

    def legs(self) -> dict[str, int]:
        """Return what stands on each account of the chart, in dong."""
        rows = text(
            "SELECT ledger_code, sum(amount_micros)::bigint / 1000000 FROM journal"
            " WHERE account_id = :id GROUP BY 1 HAVING sum(amount_micros) <> 0"
        )
        with self.sessions() as session:
            return {row[0]: row[1] for row in session.execute(rows, {"id": self.account})}

    def audited(self) -> list[tuple[str, str]]:
        rows = text(
            "SELECT action, actor FROM audit_log WHERE account_id = :id AND actor LIKE 'user:90%'"
            " ORDER BY id"
        )
        with self.sessions() as session:
            return [(row[0], row[1]) for row in session.execute(rows, {"id": self.account})]

    def waiting(self) -> int:
        with self.sessions() as session:
            return count_waiting(session, actor=SUPPORT)


@pytest.fixture
def payment(sessions: sessionmaker[Session]) -> Any:
    made = Doubted(sessions)
    yield made
    unbalanced = text(
        "SELECT account_id, currency FROM journal GROUP BY 1, 2 HAVING sum(amount_micros) <> 0"
    )
    with sessions() as session:
        assert ledger.verify_ledger(session, actor=SYSTEM) == []
        assert session.execute(unbalanced).all() == []


def conflict(act: Any, *given: Any, **named: Any) -> str:
    with pytest.raises(Conflict) as caught:
        act(*given, **named)
    return caught.value.reason


# ── Accepting ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("received", [RECEIVED, dong(700_000)])
def test_what_really_came_is_credited_by_two_people(payment: Doubted, received: Money) -> None:
    payment.pay(received)
    assert payment.state() == ("under_review", "wrong_amount")
    assert payment.legs() == {}
    (waiting,) = payment.reviews().waiting
    assert (waiting.case.amount, waiting.credit, waiting.obstacle) == (received, received, None)
    payment.accept()
    row = payment.row()
    assert (row.state, row.pay_micros, row.credit_micros) == (
        "succeeded",
        received.micros,
        received.micros,
    )
    whole = received.micros // 1_000_000
    assert payment.balance() == whole
    assert payment.legs()["1110.vnpay"] == whole
    assert ("acceptance_requested", "user:900") in payment.steps()
    assert ("acceptance_approved", "user:901") in payment.steps()
    assert payment.audited() == [
        ("acceptance_requested", "user:900"),
        ("acceptance_approved", "user:901"),
    ]
    (decided,) = payment.reviews().decided
    assert (decided.requested_by, decided.decided_by) == ("user:900", "user:901")
    assert (payment.waiting(), payment.reviews().waiting) == (0, ())


def test_what_was_accepted_can_be_refunded_up_to_what_came(payment: Doubted) -> None:
    payment.pay(RECEIVED)
    payment.accept()
    with payment.sessions.begin() as session:
        request_refund(
            session,
            payment_id=payment.payment_id,
            amount=RECEIVED,
            reason="Asked",
            actor=MAKER,
            idempotency_key="all",
        )
    assert payment.balance() == 0


def test_dollars_buy_by_the_payment_s_own_price(sessions: sessionmaker[Session]) -> None:
    gateway = ScriptedGateway("paypal")
    with sessions.begin() as session:
        account, owner = payer(session)
        rate = request_rate(
            session,
            base_currency="USD",
            quote_currency="VND",
            rate=Decimal(25000),
            margin_basis_points=0,
            source="bank",
            as_of=datetime.now(UTC) - timedelta(minutes=1),
            actor=MAKER,
        )
        decide_rate(session, rate_id=rate, is_approved=True, actor=ADMIN)
        quote = make_quote(
            session, account_id=account, credit=dong(1_000_000), pay_currency="USD", actor=owner
        )
        started = begin(session, gateway, account, owner, dong(1_000_000), quote_id=quote.id)
    assert quote.pay == Money.parse("40", "USD", locale="en")
    received = Money.parse("25.50", "USD", locale="en")
    with sessions.begin() as session:
        update = paid(started.reference, received, number="capture-1")
        apply_updates(session, gateway=gateway, updates=(update,), actor=GATEWAYS)
    for action, actor in ((request_acceptance, MAKER), (approve_payment, CHECKER)):
        with sessions.begin() as session:
            waiting = reviews_of(session, payment_id=started.payment_id, actor=actor).waiting[0]
            assert waiting.credit == dong(637_500)
            action(
                session,
                payment_id=started.payment_id,
                case_id=waiting.case.id,
                reason="Came",
                actor=actor,
            )
    with sessions() as session:
        rows = session.execute(
            text("SELECT ledger_code, currency, sum(amount_micros)::bigint FROM journal"
                 " GROUP BY 1, 2")
        ).all()  # fmt: skip
        assert ("1110.paypal", "USD", received.micros) in [tuple(row) for row in rows]
        assert ledger.verify_ledger(session, actor=SYSTEM) == []


def test_suspected_money_is_credited_by_two_people(payment: Doubted) -> None:
    payment.suspect()
    payment.accept()
    assert payment.state() == ("succeeded", None)
    assert payment.balance() == 550_000
    assert payment.apply(payment.update(GatewayPaymentState.UNDER_REVIEW, "money-1", ASKED)) is (
        Outcome.REPEATED
    )
    assert payment.pay(ASKED) is Outcome.REPEATED
    assert payment.balance() == 550_000


def test_nobody_accepts_alone(payment: Doubted) -> None:
    payment.pay(RECEIVED)
    assert conflict(payment.do, approve_payment, CHECKER) == "not_requested"
    payment.do(request_acceptance, MAKER)
    payment.do(request_acceptance, MAKER)
    assert conflict(payment.do, request_acceptance, CHECKER) == "requested_by_another"
    for action in (approve_payment, reject_payment):
        with pytest.raises(NotAuthorised):
            payment.do(action, MAKER)
    assert payment.state() == ("under_review", "wrong_amount")
    payment.do(approve_payment, CHECKER)
    assert payment.balance() == 330_000


def test_the_database_itself_wants_two_people(payment: Doubted) -> None:
    payment.pay(RECEIVED)
    payment.do(request_acceptance, MAKER)
    with payment.sessions() as session, pytest.raises(IntegrityError):
        session.execute(
            sql_update(PaymentReview).values(
                state="approved",
                decided_by="user:900",
                decided_at=datetime.now(UTC),
                decision_reason="x",
            )
        )


def test_each_decision_again_has_no_effect(payment: Doubted) -> None:
    payment.pay(RECEIVED)
    case = payment.case()
    payment.accept()
    payment.do(approve_payment, CHECKER, case=case)
    payment.do(request_acceptance, MAKER, case=case)
    assert conflict(payment.do, reject_payment, CHECKER, case=case) == "case_is_closed"
    assert payment.balance() == 330_000
    assert payment.kinds().count("acceptance_approved") == 1


def test_what_the_gateway_did_not_say_is_asked_first(payment: Doubted) -> None:
    payment.apply(payment.update(GatewayPaymentState.UNDER_REVIEW, None, None))
    assert conflict(payment.do, request_acceptance, MAKER) == "ask_gateway_first"
    payment.gateway.snapshot = Snapshot(
        payment.update(GatewayPaymentState.UNDER_REVIEW, "money-1", ASKED)
    )
    check_payment(
        payment.sessions, gateway=payment.gateway, payment_id=payment.payment_id, actor=MAKER
    )
    payment.accept()
    assert payment.balance() == 550_000


def test_a_failure_of_another_amount_brings_no_money(payment: Doubted) -> None:
    for _ in range(2):
        payment.apply(payment.update(GatewayPaymentState.FAILED, None, RECEIVED))
        assert payment.state() == ("failed", "07")
        assert payment.waiting() == 0
    assert payment.legs() == {}


def test_money_in_another_currency_is_not_credited(payment: Doubted) -> None:
    payment.pay(Money.parse("20", "USD", locale="en"))
    assert conflict(payment.do, request_acceptance, MAKER) == "money_in_other_currency"
    payment.refuse()
    assert payment.reviews().decided[0].return_state == "due"


def test_money_of_another_payment_is_not_credited_twice_and_not_given_back(
    payment: Doubted,
) -> None:
    payment.pay(ASKED)
    with payment.sessions.begin() as session:
        other = begin(session, payment.gateway, payment.account, payment.owner, ASKED)
    first, payment.payment_id, payment.reference = (
        payment.payment_id,
        other.payment_id,
        other.reference,
    )
    assert payment.pay(ASKED) is Outcome.WRONG_AMOUNT
    assert conflict(payment.do, request_acceptance, MAKER) == "money_is_of_another"
    payment.refuse()
    assert payment.reviews().decided[0].return_state is None
    assert payment.balance() == 550_000
    assert payment.payment_id != first


def test_money_that_went_back_already_is_not_credited(payment: Doubted) -> None:
    payment.pay(RECEIVED)
    back = RefundUpdate("r1", RefundState.SUCCEEDED, RECEIVED, payment_reference=payment.reference)
    payment.apply(back)
    assert conflict(payment.do, request_acceptance, MAKER) == "money_went_back"


# ── Refusing ──────────────────────────────────────────────────────────────────────────────────
def test_refused_money_is_owed_until_it_went_back(payment: Doubted) -> None:
    payment.pay(RECEIVED)
    review = payment.refuse()
    assert payment.state() == ("failed", "rejected_by_staff")
    assert payment.balance() == 0
    assert payment.legs() == {"1110.vnpay": 330_000, "2150": -330_000}
    assert payment.waiting() == 1
    payment.refund_attempt(review)
    payment.refund_attempt(review)
    assert payment.legs() == {}
    assert payment.waiting() == 0
    assert conflict(payment.refund_attempt, review, CHECKER) == "nothing_to_return"
    (decided,) = payment.reviews().decided
    assert (decided.return_state, decided.return_reference) == ("returned", "FT 1")
    assert [kind for kind, actor in payment.steps() if actor == "user:900"] == [
        "rejected_by_staff",
        "money_returned",
    ]
    assert payment.audited() == [("rejected_by_staff", "user:900"), ("record_return", "user:900")]


def test_the_second_person_may_refuse_what_was_proposed(payment: Doubted) -> None:
    payment.suspect()
    case = payment.case()
    payment.do(request_acceptance, MAKER)
    payment.do(reject_payment, CHECKER)
    payment.do(reject_payment, CHECKER, case=case)
    assert payment.state() == ("failed", "rejected_by_staff")
    assert payment.legs() == {"1110.vnpay": 550_000, "2150": -550_000}
    (decided,) = payment.reviews().decided
    assert (decided.requested_by, decided.decided_by) == ("user:900", "user:901")


def test_what_was_refused_is_never_credited_later(payment: Doubted) -> None:
    payment.suspect()
    payment.refuse()
    assert payment.pay(ASKED) is Outcome.REPEATED
    payment.suspect()
    payment.apply(payment.update(GatewayPaymentState.UNDER_REVIEW, None, None))
    assert payment.state() == ("failed", "rejected_by_staff")
    assert payment.balance() == 0
    assert payment.legs() == {"1110.vnpay": 550_000, "2150": -550_000}


def test_a_refund_at_the_gateway_is_the_return(payment: Doubted) -> None:
    payment.suspect()
    payment.refuse()
    back = RefundUpdate("r1", RefundState.PENDING, ASKED, payment_reference=payment.reference)
    payment.apply(back)
    assert payment.reviews().decided[0].return_state == "due"
    for _ in range(2):
        payment.apply(replace(back, state=RefundState.SUCCEEDED))
    assert payment.reviews().decided[0].return_state == "returned"
    assert payment.legs() == {}
    assert payment.kinds().count("money_returned") == 1
    assert "refund_of_too_much" not in payment.kinds()


def test_a_part_that_went_back_leaves_people_to_look(payment: Doubted) -> None:
    payment.suspect()
    payment.refuse()
    payment.apply(
        RefundUpdate("r1", RefundState.SUCCEEDED, RECEIVED, payment_reference=payment.reference)
    )
    assert payment.reviews().decided[0].return_state == "due"
    assert "refund_of_too_much" in payment.kinds()


def test_money_that_went_back_twice_is_not_owed_once_it_is_refused(payment: Doubted) -> None:
    payment.suspect()
    for name in ("r1", "r2"):
        payment.apply(
            RefundUpdate(name, RefundState.SUCCEEDED, ASKED, payment_reference=payment.reference)
        )
    payment.refuse()
    assert payment.reviews().decided[0].return_state == "returned"
    assert payment.legs() == {}
    assert "refund_of_too_much" in payment.kinds()


@pytest.mark.parametrize("is_reported_before", [False, True])
def test_refused_money_is_owed_again_where_its_refund_fails_late(
    payment: Doubted, *, is_reported_before: bool
) -> None:
    payment.suspect()
    back = payment.refund("r1")
    if is_reported_before:
        payment.apply(back)
    payment.refuse()
    payment.apply(back)
    for _ in range(2):  # it fails late, succeeds after all, and fails again
        for _ in range(2):
            payment.apply(replace(back, state=RefundState.FAILED))
        assert payment.reviews().decided[-1].return_state == "due"
        assert payment.legs() == {"1110.vnpay": 550_000, "2150": -550_000}
        assert payment.waiting() == 1
        for _ in range(2):
            payment.apply(back)
        assert payment.reviews().decided[-1].return_state == "returned"
        assert payment.legs() == {}
        assert payment.waiting() == 0
    assert payment.kinds().count("return_failed") == 2


def test_refused_money_stays_returned_while_another_refund_is_all_of_it(payment: Doubted) -> None:
    payment.suspect()
    payment.apply(payment.refund("r1"))
    payment.apply(payment.refund("r2"))
    payment.refuse()
    payment.apply(replace(payment.refund("r2"), state=RefundState.FAILED))
    assert payment.legs() == {}
    payment.apply(replace(payment.refund("r1"), state=RefundState.FAILED))
    assert payment.legs() == {"1110.vnpay": 550_000, "2150": -550_000}
    payment.apply(replace(payment.refund("r3"), state=RefundState.FAILED))
    assert payment.legs() == {"1110.vnpay": 550_000, "2150": -550_000}


def test_a_return_that_people_recorded_fails_only_by_its_own_name(payment: Doubted) -> None:
    payment.suspect()
    review = payment.refuse()
    payment.refund_attempt(review)
    payment.apply(replace(payment.refund("r1"), state=RefundState.FAILED))
    assert payment.legs() == {}
    failed = replace(payment.refund("FT 1"), state=RefundState.FAILED)
    assert payment.apply(failed) is Outcome.RECORDED
    assert payment.apply(failed) is Outcome.REPEATED
    assert payment.legs() == {"1110.vnpay": 550_000, "2150": -550_000}


def test_a_refund_without_its_money_s_name_stays_that_of_what_was_refused(
    payment: Doubted,
) -> None:
    payment.suspect()
    payment.refuse()
    payment.apply(replace(payment.refund("r1"), gateway_payment_id=None))
    assert payment.legs() == {}
    payment.pay(ASKED, "money-2")
    payment.accept()
    assert payment.balance() == 550_000
    payment.apply(replace(payment.refund("r1"), state=RefundState.FAILED, gateway_payment_id=None))
    assert payment.balance() == 550_000
    assert payment.legs()["2150"] == -550_000


def test_refused_money_that_never_came_is_not_owed(payment: Doubted) -> None:
    payment.suspect()
    payment.refuse()
    denied = payment.update(GatewayPaymentState.FAILED, "money-1", ASKED)
    assert payment.apply(denied) is Outcome.RECORDED
    assert payment.apply(denied) is Outcome.REPEATED
    assert payment.reviews().decided[0].return_state == "not_received"
    assert payment.legs() == {}


def test_wrong_money_that_failed_is_nobody_s_to_decide(payment: Doubted) -> None:
    assert payment.pay(RECEIVED) is Outcome.WRONG_AMOUNT
    denied = payment.update(GatewayPaymentState.FAILED, "money-1", RECEIVED)
    for _ in range(2):
        payment.apply(denied)
        assert payment.state() == ("failed", "07")
        assert payment.waiting() == 0


def test_second_money_that_failed_is_nobody_s_to_decide(payment: Doubted) -> None:
    payment.pay(ASKED)
    payment.pay(ASKED, "money-2")
    denied = payment.update(GatewayPaymentState.FAILED, "money-2", ASKED)
    assert payment.apply(denied) is Outcome.RECORDED
    assert payment.apply(denied) is Outcome.REPEATED
    assert payment.pay(ASKED, "money-2") is Outcome.REPEATED
    assert payment.waiting() == 0
    assert payment.state() == ("succeeded", None)
    assert "2150" not in payment.legs()


def test_refused_money_that_is_paid_after_its_denial_comes_back_to_people(
    payment: Doubted,
) -> None:
    payment.pay(ASKED)
    payment.pay(ASKED, "money-2")
    payment.refuse()
    payment.apply(payment.update(GatewayPaymentState.FAILED, "money-2", ASKED))
    assert payment.waiting() == 0
    stale = paid(payment.reference, ASKED, number="money-2")
    later = replace(stale, occurred_at=datetime.now(UTC) + timedelta(minutes=1))
    assert payment.apply(stale) is Outcome.REPEATED
    assert payment.apply(later) is Outcome.RECORDED
    assert payment.apply(later) is Outcome.REPEATED
    assert payment.waiting() == 1
    payment.refuse()
    assert payment.legs()["2150"] == -550_000
    assert payment.apply(later) is Outcome.REPEATED
    assert payment.balance() == 550_000


def test_other_money_after_a_refusal_is_people_s_to_decide_again(payment: Doubted) -> None:
    payment.suspect()
    payment.refuse()
    assert payment.pay(ASKED, "money-2") is Outcome.RECORDED
    assert payment.pay(ASKED, "money-2") is Outcome.REPEATED
    assert payment.state() == ("under_review", "money_after_refusal")
    assert payment.balance() == 0
    payment.accept()
    assert payment.balance() == 550_000


def test_second_money_goes_back_and_the_first_stays(payment: Doubted) -> None:
    payment.pay(ASKED)
    assert payment.pay(ASKED, "money-2") is Outcome.RECORDED
    assert payment.pay(ASKED, "money-2") is Outcome.REPEATED
    assert payment.waiting() == 1
    assert conflict(payment.do, request_acceptance, MAKER) == "second_money_goes_back"
    payment.refuse()
    assert payment.state() == ("succeeded", None)
    assert payment.legs()["2150"] == -550_000
    back = RefundUpdate("r1", RefundState.SUCCEEDED, ASKED, gateway_payment_id="money-2",
                      payment_reference=payment.reference)  # fmt: skip
    payment.apply(back)
    assert "2150" not in payment.legs()
    assert payment.balance() == 550_000
    assert payment.waiting() == 0


# ── Who may ───────────────────────────────────────────────────────────────────────────────────
def test_who_may_not(payment: Doubted) -> None:
    payment.pay(RECEIVED)
    insider = user_actor(
        904, staff_role=StaffRole.FINANCE, memberships={payment.account: MemberRole.READER}
    )
    for action in (request_acceptance, approve_payment, reject_payment):
        for actor in (SUPPORT, payment.owner, SYSTEM, insider):
            with pytest.raises(NotAuthorised):
                payment.do(action, actor)
    with payment.sessions() as session:
        for actor in (payment.owner, SYSTEM):
            with pytest.raises(NotAuthorised):
                reviews_of(session, payment_id=payment.payment_id, actor=actor)
            with pytest.raises(NotAuthorised):
                count_waiting(session, actor=actor)
    payment.do(request_acceptance, MAKER)
    with pytest.raises(NotAuthorised):
        payment.do(approve_payment, insider)
    review = payment.reviews()
    assert review.waiting[0].requested_by == "user:900"
    payment.do(reject_payment, CHECKER)
    for actor in (SUPPORT, payment.owner, SYSTEM, insider):
        with pytest.raises(NotAuthorised):
            payment.refund_attempt(payment.reviews().decided[0].review_id, actor)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201, "a\0b"])
def test_a_reason_is_needed(payment: Doubted, reason: str) -> None:
    payment.pay(RECEIVED)
    for action in (request_acceptance, approve_payment, reject_payment):
        with pytest.raises(InvalidInput):
            payment.do(action, MAKER, reason=reason)


def test_staff_find_what_waits(payment: Doubted) -> None:
    assert payment.waiting() == 0
    payment.suspect()
    assert payment.waiting() == 1
    with payment.sessions.begin() as session:
        begin(session, payment.gateway, payment.account, payment.owner, ASKED)
    with payment.sessions() as session:
        found = find_payments(session, actor=SUPPORT, search_text="", only_waiting=True)
    assert [row.reference for row in found] == [payment.reference]


# ── What the gateway says later ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize("number", ["money-1", None])
def test_a_failure_ends_the_gateway_s_doubt(payment: Doubted, number: str | None) -> None:
    payment.suspect()
    payment.do(request_acceptance, MAKER)
    case = payment.case()
    assert (
        payment.apply(payment.update(GatewayPaymentState.FAILED, number, None)) is Outcome.RECORDED
    )
    assert payment.state() == ("failed", "07")
    assert conflict(payment.do, approve_payment, CHECKER, case=case) == "case_is_closed"
    assert payment.balance() == 0


def test_the_right_money_ends_the_gateway_s_doubt(payment: Doubted) -> None:
    payment.suspect()
    assert payment.pay(ASKED) is Outcome.RECORDED
    assert payment.state() == ("succeeded", None)
    assert payment.balance() == 550_000
    assert payment.waiting() == 0


def test_the_right_money_does_not_hide_the_wrong(payment: Doubted) -> None:
    payment.pay(RECEIVED, "money-1")
    payment.pay(ASKED, "money-2")
    assert payment.balance() == 550_000
    (waiting,) = payment.reviews().waiting
    assert (waiting.case.gateway_payment_id, waiting.case.amount) == ("money-1", RECEIVED)
    payment.refuse()
    assert payment.legs()["2150"] == -330_000


def test_another_wrong_money_does_not_hide_the_first(payment: Doubted) -> None:
    payment.pay(RECEIVED, "money-1")
    payment.pay(dong(1), "money-2")
    payment.pay(RECEIVED, "money-1")
    numbers = [each.case.gateway_payment_id for each in payment.reviews().waiting]
    assert numbers == ["money-2", "money-1"]
    payment.pay(ASKED, "money-1")
    assert payment.balance() == 550_000
    (waiting,) = payment.reviews().waiting
    assert waiting.case.gateway_payment_id == "money-2"
    payment.refuse()
    payment.refund_attempt(payment.reviews().decided[-1].review_id)
    assert payment.waiting() == 0


@pytest.mark.parametrize(
    "update",
    [
        (GatewayPaymentState.FAILED, "another-try", None),
        (GatewayPaymentState.FAILED, None, None),
        (GatewayPaymentState.FAILED, "another-try", dong(7)),
        (GatewayPaymentState.OPEN, None, None),
        (GatewayPaymentState.UNKNOWN, None, None),
        (GatewayPaymentState.CANCELLED, None, None),
        (GatewayPaymentState.EXPIRED, None, None),
        (GatewayPaymentState.UNDER_REVIEW, None, None),
    ],
)
def test_what_is_of_another_try_leaves_paid_money_to_people(
    payment: Doubted, update: tuple[GatewayPaymentState, str | None, Money | None]
) -> None:
    payment.pay(RECEIVED)
    case = payment.case()
    payment.apply(payment.update(*update))
    assert payment.state() == ("under_review", "wrong_amount")
    assert payment.case() == case


def test_the_clock_asks_a_gateway_that_doubts(payment: Doubted) -> None:
    payment.suspect()
    assert payment.row().next_check_at is not None
    for answer, state in (
        (payment.update(GatewayPaymentState.UNDER_REVIEW, "money-1", ASKED), "under_review"),
        (paid(payment.reference, ASKED, number="money-1"), "succeeded"),
    ):
        with payment.sessions.begin() as session:
            session.execute(
                sql_update(Payment).values(next_check_at=datetime(2026, 1, 1, tzinfo=UTC))
            )
        payment.gateway.snapshot = Snapshot(answer)
        check_due(payment.sessions, gateways={"vnpay": payment.gateway}, actor=GATEWAYS)
        assert payment.row().state == state
    assert payment.balance() == 550_000


def test_a_decision_and_a_late_fact_at_once_credit_once(payment: Doubted) -> None:
    payment.suspect()
    case = payment.case()
    payment.do(request_acceptance, MAKER)
    barrier = Barrier(8)

    def race(number: int) -> None:
        barrier.wait()
        with suppress(Conflict):
            if number % 2:
                payment.pay(ASKED)
            else:
                payment.do(approve_payment, CHECKER, case=case)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(race, number) for number in range(8)]:
            future.result()
    assert payment.state() == ("succeeded", None)
    assert payment.balance() == 550_000


def test_a_refusal_and_a_late_fact_at_once_are_one_of_the_two(payment: Doubted) -> None:
    payment.suspect()
    case = payment.case()
    barrier = Barrier(6)

    def race(number: int) -> None:
        barrier.wait()
        with suppress(Conflict):
            if number % 2:
                payment.pay(ASKED)
            else:
                payment.do(reject_payment, (MAKER, CHECKER)[number % 4 // 2], case=case)

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(race, number) for number in range(6)]:
            future.result()
    credited = payment.row().state == "succeeded"
    assert payment.balance() == (550_000 if credited else 0)
    assert (payment.legs().get("2150") is None) == credited


# ── Amounts that differ from the books ────────────────────────────────────────────────────────
DOLLARS = Money.from_minor_units(2_200, "USD")


def refund_of(payment: Doubted, amount: Money, **changes: Any) -> RefundUpdate:
    refund = RefundUpdate(
        "refund-1", RefundState.SUCCEEDED, amount, payment_reference=payment.reference
    )
    return replace(refund, **changes)


def refund_in_other_currency(payment: Doubted) -> tuple[Money | None, Money]:
    payment.pay(ASKED)
    for _ in range(2):
        payment.apply(refund_of(payment, DOLLARS))
    return None, DOLLARS


def refund_of_another_amount(payment: Doubted) -> tuple[Money | None, Money]:
    payment.pay(ASKED)
    payment.apply(refund_of(payment, RECEIVED))
    for _ in range(2):
        payment.apply(refund_of(payment, ASKED))
    return RECEIVED, ASKED


def refund_of_another_amount_that_fails(payment: Doubted) -> tuple[Money | None, Money]:
    payment.pay(ASKED)
    payment.apply(refund_of(payment, RECEIVED))
    payment.apply(refund_of(payment, DOLLARS, state=RefundState.FAILED))
    return RECEIVED, DOLLARS


def credited_money_of_another_amount(payment: Doubted) -> tuple[Money | None, Money]:
    payment.pay(ASKED)
    for _ in range(2):
        payment.pay(RECEIVED)
    return ASKED, RECEIVED


def accepted_money_of_another_amount(payment: Doubted) -> tuple[Money | None, Money]:
    payment.pay(RECEIVED)
    payment.accept()
    payment.pay(RECEIVED)
    payment.pay(ASKED)
    return RECEIVED, ASKED


DIFFERENCES = pytest.mark.parametrize(
    ("tell", "reason"),
    [
        (refund_in_other_currency, "refund_in_other_currency"),
        (refund_of_another_amount, "refund_amount_changed"),
        (refund_of_another_amount_that_fails, "refund_amount_changed"),
        (credited_money_of_another_amount, "amount_changed"),
        (accepted_money_of_another_amount, "amount_changed"),
    ],
)


def reviewed(payment: Doubted, actor: Actor = MAKER, reason: str = "Seen at the gateway") -> None:
    (found,) = payment.reviews().discrepancies
    payment.do(review_discrepancy, actor, case=found.id, reason=reason)


@DIFFERENCES
def test_amount_that_differs_waits_until_finance_reviewed_it(
    payment: Doubted, tell: Any, reason: str
) -> None:
    expected, stated = tell(payment)
    legs, balance = payment.legs(), payment.balance()
    (found,) = payment.reviews().discrepancies
    assert (found.reason, found.expected, found.amount) == (reason, expected, stated)
    assert payment.waiting() == 1
    with payment.sessions() as session:
        (shown,) = find_payments(session, actor=SUPPORT, search_text="", only_waiting=True)
        (listed,) = list_discrepancies(session, actor=SUPPORT)
    assert shown.reference == payment.reference == listed.payment_reference
    assert listed.discrepancy == found
    for _ in range(2):
        payment.do(review_discrepancy, MAKER, case=found.id, reason="Seen at the gateway")
    assert (payment.waiting(), payment.reviews().discrepancies) == (0, ())
    decided = payment.reviews().decided[-1]
    assert (decided.state, decided.reason, decided.received) == ("reviewed", reason, stated)
    assert (decided.decided_by, decided.decision_reason) == ("user:900", "Seen at the gateway")
    assert payment.audited()[-1:] == [("discrepancy_reviewed", "user:900")]
    assert payment.steps().count(("discrepancy_reviewed", "user:900")) == 1
    assert (payment.legs(), payment.balance()) == (legs, balance)


@pytest.mark.parametrize("tell", [refund_of_another_amount, credited_money_of_another_amount])
def test_amount_that_was_reviewed_waits_again_only_for_another_one(
    payment: Doubted, tell: Any
) -> None:
    tell(payment)
    reviewed(payment)
    tell(payment)
    assert payment.waiting() == 0
    payment.pay(dong(1_000))
    assert payment.waiting() == 1


@pytest.mark.parametrize("actor", [SUPPORT, ADMIN])
def test_others_than_finance_review_no_amount(payment: Doubted, actor: Actor) -> None:
    credited_money_of_another_amount(payment)
    with pytest.raises(NotAuthorised):
        reviewed(payment, actor)
    assert payment.waiting() == 1


def test_nobody_reviews_an_amount_of_their_own_account(payment: Doubted) -> None:
    credited_money_of_another_amount(payment)
    member = user_actor(
        900, staff_role=StaffRole.FINANCE, memberships={payment.account: MemberRole.READER}
    )
    with pytest.raises(NotAuthorised):
        reviewed(payment, member)
    with pytest.raises(InvalidInput):
        reviewed(payment, reason=" ")
    assert payment.waiting() == 1


def test_two_people_at_once_review_an_amount_once(payment: Doubted) -> None:
    credited_money_of_another_amount(payment)
    (found,) = payment.reviews().discrepancies
    barrier = Barrier(2)

    def review(actor: Actor) -> str:
        barrier.wait()
        try:
            payment.do(review_discrepancy, actor, case=found.id)
        except AlreadyDecided as decided:
            return f"{decided.state} by {decided.decided_by}"
        return "done"

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(review, (MAKER, CHECKER)))
    (decided,) = payment.reviews().decided
    assert answers == ["done", f"reviewed by {decided.decided_by}"]


def test_amount_that_differs_can_neither_be_credited_nor_rejected(payment: Doubted) -> None:
    credited_money_of_another_amount(payment)
    (found,) = payment.reviews().discrepancies
    for act in (request_acceptance, approve_payment, reject_payment):
        assert conflict(payment.do, act, MAKER, case=found.id) == "case_is_closed"
    payment.pay(ASKED, "money-2")
    assert conflict(payment.do, review_discrepancy, MAKER) == "case_is_closed"
