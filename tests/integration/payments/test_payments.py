"""Money in, once: what follows from what gateways say, on a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text
from sqlalchemy import update as sql_update
from sqlalchemy.orm import sessionmaker

from db.engine import make_engine, make_sessions
from db.models import OPEN_PAYMENT_STATES, GatewayMessage, Payment, PaymentEvent
from domain import clock, ledger
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import (
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    NotAuthorised,
    NotFound,
    RateLimited,
)
from domain.gateways.interface import (
    GatewayPaymentState,
    GatewayRefused,
    GatewayUnavailable,
    Outcome,
    PaymentUpdate,
    Snapshot,
)
from domain.gateways.vnpay.client import VNPay
from domain.money import Money
from domain.payments import check_due, check_payment, give_up, open_checkout, process_webhook
from domain.payments.queries import find_payment, find_payments, payment_page
from domain.payments.timeline import payment_timeline
from tests.factories import SYSTEM, make_account, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, away, begin, dong, paid, payer
from tests.support.begun_payments import CREDIT, SETTINGS, VAULT, Begun, begun, ipn, take, vnpay

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.interface import Checkout, CheckoutRequest
    from domain.payments import StartedPayment

__all__ = ["begun"]


def entries(sessions: sessionmaker[Session], account: int) -> list[tuple[str, int]]:
    rows = text(
        "SELECT kind, amount_micros FROM entries WHERE account_id = :id ORDER BY account_sequence"
    )
    with sessions() as session:
        return [tuple(row) for row in session.execute(rows, {"id": account})]


def legs(sessions: sessionmaker[Session], account: int) -> dict[tuple[str, str], int]:
    """Return the sum of the journal's legs of an account by ledger code and currency."""
    rows = text(
        "SELECT ledger_code, currency, sum(amount_micros)::bigint FROM journal"
        " WHERE account_id = :id GROUP BY 1, 2 HAVING sum(amount_micros) <> 0"
    )
    with sessions() as session:
        found = session.execute(rows, {"id": account})
        return {(code, currency): amount for code, currency, amount in found}


def check_ledger(sessions: sessionmaker[Session]) -> None:
    unbalanced = text(
        "SELECT account_id, currency, sum(amount_micros) FROM journal GROUP BY 1, 2"
        " HAVING sum(amount_micros) <> 0"
    )
    with sessions() as session:
        assert ledger.verify_ledger(session, actor=SYSTEM) == []
        assert session.execute(unbalanced).all() == []


# ── Beginning ─────────────────────────────────────────────────────────────────────────────────
def test_the_same_click_twice_is_one_payment(begun: Begun) -> None:
    with begun.sessions.begin() as session:
        first = begin(session, vnpay(), begun.account, begun.owner, CREDIT, key="click")
    with begun.sessions.begin() as session:
        assert begin(session, vnpay(), begun.account, begun.owner, CREDIT, key="click") == first
        with pytest.raises(IdempotencyMismatch):
            begin(session, vnpay(), begun.account, begun.owner, dong(600_000), key="click")


def test_two_clicks_at_once_are_one_payment(begun: Begun) -> None:
    barrier = Barrier(2)

    def click() -> StartedPayment:
        barrier.wait()
        with begun.sessions.begin() as session:
            return begin(session, vnpay(), begun.account, begun.owner, CREDIT, key="twice")

    with ThreadPoolExecutor(2) as pool:
        first, second = [future.result() for future in [pool.submit(click) for _ in range(2)]]
    assert first == second


def test_what_may_be_paid_is_decided_here(session: Session) -> None:
    account, owner = payer(session)
    for credit, reason in [
        (dong(499_999), "below_minimum"),
        (dong(10**12), "above_maximum"),
        (Money.from_minor_units(100_000, "USD"), "wrong_currency"),
    ]:
        with pytest.raises(InvalidInput) as caught:
            begin(session, vnpay(), account, owner, credit)
        assert caught.value.reason == reason
    with pytest.raises(InvalidInput) as caught:
        begin(session, ScriptedGateway("stripe"), account, owner, CREDIT)
    assert caught.value.reason == "not_in_this_country"
    with pytest.raises(InvalidInput) as caught:
        begin(session, ScriptedGateway("paypal"), account, owner, CREDIT)
    assert caught.value.reason == "not_in_this_country"


def test_only_those_pay_who_may(session: Session) -> None:
    account, _owner = payer(session)
    other, _ = payer(session)
    reader = user_actor(1, memberships={account: MemberRole.READER})
    finance = user_actor(2, staff_role=StaffRole.FINANCE)
    stranger = user_actor(3, memberships={other: MemberRole.OWNER})
    for actor, refusal in [
        (reader, NotAuthorised),
        (finance, NotAuthorised),
        (stranger, NotFound),
    ]:
        with pytest.raises(refusal):
            begin(session, vnpay(), account, actor, CREDIT)


def test_without_a_billing_profile_nothing_is_paid(session: Session) -> None:
    account = make_account(session, site="vn", currency="VND")
    owner = user_actor(4, memberships={account: MemberRole.OWNER})
    with pytest.raises(Conflict):
        begin(session, vnpay(), account, owner, CREDIT)


def test_nobody_fills_the_table_with_payments(begun: Begun) -> None:
    with begun.sessions() as session:
        for _ in range(29):
            begin(session, vnpay(), begun.account, begun.owner, CREDIT)
        with pytest.raises(RateLimited):
            begin(session, vnpay(), begun.account, begun.owner, CREDIT)


def open_it(begun: Begun, gateway: ScriptedGateway) -> str:
    return open_checkout(
        begun.sessions,
        gateway=gateway,
        payment_id=begun.started.payment_id,
        return_url="https://portal.example/payments/return/vnpay",
        cancel_url="https://portal.example/payment",
        customer_ip="203.0.113.7",
        actor=begun.owner,
    )


def test_a_checkout_is_opened_once_and_found_again(begun: Begun) -> None:
    gateway = ScriptedGateway()
    url = open_it(begun, gateway)
    assert open_it(begun, gateway) == url
    assert gateway.asked == [f"create {begun.reference}"]
    assert begun.row().state == "pending"


def test_a_gateway_that_does_not_answer_is_asked_again_for_the_same(begun: Begun) -> None:
    gateway = ScriptedGateway(failure=away())
    with pytest.raises(GatewayUnavailable):
        open_it(begun, gateway)
    assert begun.row().state == "created"
    gateway.failure = None
    open_it(begun, gateway)
    assert gateway.asked == [f"create {begun.reference}"] * 2


def test_a_gateway_that_refuses_ends_the_payment(begun: Begun) -> None:
    with pytest.raises(GatewayRefused):
        open_it(begun, ScriptedGateway(failure=GatewayRefused("vnpay", "03")))
    assert (begun.row().state, begun.row().code) == ("failed", "03")


# ── Credit ────────────────────────────────────────────────────────────────────────────────────
def test_a_verified_success_gives_the_credit_with_the_legs_of_the_books(begun: Begun) -> None:
    assert take(begun.sessions, ipn(begun.reference)) is Outcome.RECORDED
    assert entries(begun.sessions, begun.account) == [("top_up", CREDIT.micros)]
    row = begun.row()
    assert (row.state, row.gateway_payment_id) == ("succeeded", "14422574")
    tax = CREDIT.micros - round(CREDIT.micros * 10 / 11)
    assert legs(begun.sessions, begun.account) == {
        ("1110.vnpay", "VND"): CREDIT.micros,
        ("2100", "VND"): tax - CREDIT.micros,
        ("2400", "VND"): -tax,
    }
    check_ledger(begun.sessions)


def test_the_same_again_changes_nothing(begun: Begun) -> None:
    take(begun.sessions, ipn(begun.reference))
    assert take(begun.sessions, ipn(begun.reference)) is Outcome.REPEATED
    assert len(entries(begun.sessions, begun.account)) == 1
    with begun.sessions() as session:
        outcomes = session.scalars(select(GatewayMessage.outcome)).all()
    assert outcomes == ["recorded"]


def test_twenty_parallel_duplicates_give_one_entry(begun: Begun) -> None:
    barrier = Barrier(20)

    def send() -> Outcome:
        barrier.wait()
        return take(begun.sessions, ipn(begun.reference))

    with ThreadPoolExecutor(20) as pool:
        outcomes = [future.result() for future in [pool.submit(send) for _ in range(20)]]
    assert outcomes.count(Outcome.RECORDED) == 1
    assert outcomes.count(Outcome.REPEATED) == 19
    assert len(entries(begun.sessions, begun.account)) == 1


def test_a_webhook_before_our_create_call_has_returned(begun: Begun) -> None:
    class Hasty(ScriptedGateway):
        def create_checkout(self, request: CheckoutRequest) -> Checkout:
            assert take(begun.sessions, ipn(begun.reference)) is Outcome.RECORDED
            return super().create_checkout(request)

    assert open_it(begun, Hasty()).endswith(begun.reference)
    assert begun.row().state == "succeeded"


def test_an_unknown_reference_is_told_and_kept(begun: Begun) -> None:
    assert take(begun.sessions, ipn("ABCDEFGH")) is Outcome.UNKNOWN_PAYMENT
    assert entries(begun.sessions, begun.account) == []


def test_a_wrong_signature_changes_nothing_and_is_kept_as_evidence(begun: Begun) -> None:
    for _ in range(3):
        message = ipn(begun.reference, secret="guessed")
        assert take(begun.sessions, message) is Outcome.BAD_SIGNATURE
    assert begun.row().state == "created"
    with begun.sessions() as session:
        kept = session.scalars(select(GatewayMessage)).all()
        assert {row.reason for row in kept} == {"signature"}
        opened = VAULT.open(session, account_id=0, sealed=bytes(kept[0].payload))
    assert begun.reference.encode() in opened
    assert begun.reference.encode() not in bytes(kept[0].payload)


@pytest.mark.parametrize("amount", ["50000100", "100", "5000000000"])
def test_an_amount_that_is_signed_and_not_ours_waits_for_a_person(
    begun: Begun, amount: str
) -> None:
    assert take(begun.sessions, ipn(begun.reference, Amount=amount)) is Outcome.WRONG_AMOUNT
    assert (begun.row().state, begun.row().code) == ("under_review", "wrong_amount")
    assert entries(begun.sessions, begun.account) == []


def test_the_right_amount_is_credited_after_a_wrong_one(begun: Begun) -> None:
    take(begun.sessions, ipn(begun.reference, Amount="100"))
    assert take(begun.sessions, ipn(begun.reference)) is Outcome.RECORDED
    assert begun.row().state == "succeeded"


def test_money_that_was_suspected_is_not_credited(begun: Begun) -> None:
    message = ipn(begun.reference, ResponseCode="07", TransactionStatus="07")
    assert take(begun.sessions, message) is Outcome.RECORDED
    assert begun.row().state == "under_review"
    assert entries(begun.sessions, begun.account) == []


def test_a_failure_after_the_success_is_ignored(begun: Begun) -> None:
    take(begun.sessions, ipn(begun.reference))
    late = ipn(begun.reference, ResponseCode="24", TransactionStatus="02", TransactionNo="0")
    assert take(begun.sessions, late) is Outcome.REPEATED
    assert begun.row().state == "succeeded"


def test_money_that_the_gateway_denies_after_the_credit_is_told_to_people(begun: Begun) -> None:
    begun.apply(paid(begun.reference, CREDIT, number="capture-1"))
    denied = PaymentUpdate(
        GatewayPaymentState.FAILED, reference=begun.reference, gateway_payment_id="capture-1"
    )
    assert begun.apply(denied) is Outcome.RECORDED
    assert begun.apply(denied) is Outcome.REPEATED
    assert begun.row().state == "succeeded"
    staff = user_actor(5, staff_role=StaffRole.FINANCE)
    with begun.sessions() as session:
        steps = payment_timeline(session, actor=staff, reference=begun.reference).steps
    assert [step.kind for step in steps].count("denied_after_credit") == 1


@pytest.mark.parametrize("state", ["expired", "cancelled", "failed"])
def test_a_late_success_is_honoured(begun: Begun, state: str) -> None:
    with begun.sessions.begin() as session:
        session.execute(sql_update(Payment).values(state=state))
    assert take(begun.sessions, ipn(begun.reference)) is Outcome.RECORDED
    assert entries(begun.sessions, begun.account) == [("top_up", CREDIT.micros)]


def test_success_after_the_customer_came_back_without_paying(begun: Begun) -> None:
    with begun.sessions.begin() as session:
        give_up(session, reference=begun.reference, actor=begun.owner)
    assert begun.row().state == "cancelled"
    assert take(begun.sessions, ipn(begun.reference)) is Outcome.RECORDED
    assert begun.row().state == "succeeded"


def test_two_open_attempts_that_are_both_paid_are_both_credited(begun: Begun) -> None:
    other = begun.another()
    take(begun.sessions, ipn(begun.reference))
    take(begun.sessions, ipn(other.reference, TransactionNo="999"))
    assert len(entries(begun.sessions, begun.account)) == 2


def test_one_money_credits_one_payment(begun: Begun) -> None:
    other = begun.another()
    take(begun.sessions, ipn(begun.reference))
    assert take(begun.sessions, ipn(other.reference)) is Outcome.WRONG_AMOUNT
    assert len(entries(begun.sessions, begun.account)) == 1


def test_a_second_money_for_one_payment_is_reported_and_not_credited(begun: Begun) -> None:
    take(begun.sessions, ipn(begun.reference))
    assert take(begun.sessions, ipn(begun.reference, TransactionNo="777")) is Outcome.RECORDED
    assert len(entries(begun.sessions, begun.account)) == 1
    staff = user_actor(5, staff_role=StaffRole.FINANCE)
    with begun.sessions() as session:
        steps = payment_timeline(session, actor=staff, reference=begun.reference).steps
    assert "second_money" in {step.kind for step in steps}


def test_a_sandbox_cannot_pay_for_real(begun: Begun) -> None:
    sandbox = VNPay(replace(SETTINGS, is_sandbox=True))
    assert take(begun.sessions, ipn(begun.reference), sandbox) is Outcome.UNKNOWN_PAYMENT
    assert entries(begun.sessions, begun.account) == []


def test_without_a_database_the_gateway_is_asked_to_come_again() -> None:
    engine = make_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none", role=None)
    answer = process_webhook(
        make_sessions(engine),
        gateway=vnpay(),
        message=ipn("ABCDEFGH"),
        vault=VAULT,
    )
    assert answer[0] is Outcome.UNAVAILABLE
    assert b'"99"' in answer[1].body
    engine.dispose()


# ── Waiting ───────────────────────────────────────────────────────────────────────────────────
def test_a_promise_to_pay_keeps_the_payment_open_until_its_day(begun: Begun) -> None:
    day = datetime.now(UTC) + timedelta(days=3)
    update = PaymentUpdate(
        GatewayPaymentState.AWAITING, reference=begun.reference, method="konbini", pay_by=day
    )
    assert begun.apply(update) is Outcome.RECORDED
    assert begun.apply(update) is Outcome.REPEATED
    row = begun.row()
    assert (row.state, row.pay_by) == ("awaiting", day)
    assert row.next_check_at is not None
    assert row.next_check_at < day  # a store may have told of it before, and the word been lost
    assert begun.apply(paid(begun.reference, CREDIT)) is Outcome.RECORDED


def test_the_money_may_come_before_the_promise(begun: Begun) -> None:
    begun.apply(paid(begun.reference, CREDIT))
    late = PaymentUpdate(GatewayPaymentState.AWAITING, reference=begun.reference)
    assert begun.apply(late) is Outcome.REPEATED
    assert begun.row().state == "succeeded"


def test_polling_mends_a_webhook_that_never_came(begun: Begun) -> None:
    gateway = ScriptedGateway(snapshot=Snapshot(paid(begun.reference, CREDIT)))
    make_due(begun)
    message = check_due(begun.sessions, gateways={"vnpay": gateway}, actor=GATEWAYS)
    assert message == "1 asked about, 1 of them closed, 0 refunds sent"
    assert entries(begun.sessions, begun.account) == [("top_up", CREDIT.micros)]
    row = begun.row()
    assert row.credited_at is not None
    assert row.next_check_at == row.credited_at + timedelta(minutes=1)  # its fee is not known yet


def test_whoever_may_pay_can_have_the_gateway_asked_and_is_credited(begun: Begun) -> None:
    gateway = ScriptedGateway(snapshot=Snapshot(paid(begun.reference, CREDIT)))
    state = check_payment(
        begun.sessions, gateway=gateway, payment_id=begun.started.payment_id, actor=begun.owner
    )
    assert state == "succeeded"
    assert entries(begun.sessions, begun.account) == [("top_up", CREDIT.micros)]


def make_due(begun: Begun) -> None:
    with begun.sessions.begin() as session:
        session.execute(sql_update(Payment).values(next_check_at=datetime(2026, 1, 1, tzinfo=UTC)))


class Capturing:
    """A payment whose gateway refuses to take what was approved, at a time that can pass."""

    def __init__(self, begun: Begun) -> None:
        self.payment_id, self.gateway = begun.started.payment_id, ScriptedGateway()
        self.later = timedelta(0)
        self.sessions = sessionmaker(
            **{**begun.sessions.kw, "info": {clock.CLOCK: lambda: datetime.now(UTC) + self.later}}
        )

    def check(self, state: GatewayPaymentState, attempt: int) -> int:
        """Have the gateway refuse an attempt; return which it was asked for."""
        update = PaymentUpdate(state, code="INSTRUMENT_DECLINED", refusal=attempt)
        self.gateway.snapshot = Snapshot(update)
        check_payment(
            self.sessions, gateway=self.gateway, payment_id=self.payment_id, actor=GATEWAYS
        )
        return self.gateway.attempts[-1]

    def refusals(self) -> int:
        of_it = PaymentEvent.payment_id == self.payment_id
        with self.sessions() as session:
            kinds = session.scalars(select(PaymentEvent.kind).where(of_it)).all()
        return list(kinds).count("attempt_refused")


def test_instrument_declined_then_a_second_try_is_a_new_attempt(begun: Begun) -> None:
    capturing = Capturing(begun)
    # Two that asked at once asked for one attempt, and were refused as one.
    assert [capturing.check(GatewayPaymentState.OPEN, 0) for _ in range(2)] == [0, 1]
    assert capturing.refusals() == 1
    assert [capturing.check(GatewayPaymentState.OPEN, 1) for _ in range(2)] == [1, 2]
    assert capturing.refusals() == 2
    assert begun.row().state in OPEN_PAYMENT_STATES


def test_what_is_offered_again_is_asked_for_ever_more_seldom(begun: Begun) -> None:
    capturing = Capturing(begun)
    assert [capturing.check(GatewayPaymentState.APPROVED, 0) for _ in range(3)] == [0, 0, 0]
    assert capturing.refusals() == 1
    capturing.later += timedelta(seconds=61)
    assert [capturing.check(GatewayPaymentState.APPROVED, 1) for _ in range(2)] == [1, 1]
    assert capturing.refusals() == 2
    capturing.later += timedelta(seconds=61)
    assert capturing.check(GatewayPaymentState.APPROVED, 2) == 2


def test_a_gateway_that_is_away_is_asked_again_later(begun: Begun) -> None:
    make_due(begun)
    gateway = ScriptedGateway(failure=away())
    check_due(begun.sessions, gateways={"vnpay": gateway}, actor=GATEWAYS)
    row = begun.row()
    assert row.state == "created"
    assert row.next_check_at is not None
    assert row.next_check_at > datetime.now(UTC)


def test_a_payment_that_nobody_made_expires_and_is_looked_at_a_few_times_more(
    begun: Begun,
) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    with begun.sessions.begin() as session:
        session.execute(sql_update(Payment).values(expires_at=long_ago))
    make_due(begun)
    gateway = ScriptedGateway(snapshot=Snapshot(PaymentUpdate(GatewayPaymentState.UNKNOWN)))
    check_due(begun.sessions, gateways={"vnpay": gateway}, actor=GATEWAYS)
    row = begun.row()
    assert row.state == "expired"
    assert row.next_check_at == long_ago + timedelta(hours=6)


def test_an_unknown_payment_is_not_given_up_before_its_time(begun: Begun) -> None:
    make_due(begun)
    gateway = ScriptedGateway(snapshot=Snapshot(PaymentUpdate(GatewayPaymentState.UNKNOWN)))
    check_due(begun.sessions, gateways={"vnpay": gateway}, actor=GATEWAYS)
    assert begun.row().state == "created"


def test_a_payment_of_a_gateway_that_is_not_set_up_is_left_alone(begun: Begun) -> None:
    make_due(begun)
    assert check_due(begun.sessions, gateways={}, actor=GATEWAYS).startswith("0 asked")
    assert begun.row().state == "created"


def test_who_may_ask_the_gateway(begun: Begun) -> None:
    gateway = ScriptedGateway()
    asking = {"gateway": gateway, "payment_id": begun.started.payment_id}
    support = user_actor(6, staff_role=StaffRole.SUPPORT)
    for actor in (begun.owner, support, GATEWAYS):
        assert check_payment(begun.sessions, **asking, actor=actor) == "created"  # type: ignore[arg-type]
    stranger = user_actor(7, memberships={begun.account + 10_000: MemberRole.OWNER})
    with pytest.raises(NotFound):
        check_payment(begun.sessions, **asking, actor=stranger)  # type: ignore[arg-type]


# ── Reading ───────────────────────────────────────────────────────────────────────────────────
def test_a_payment_is_seen_by_its_members_and_by_staff_alone(begun: Begun) -> None:
    stranger = user_actor(8, memberships={begun.account + 10_000: MemberRole.OWNER})
    support = user_actor(9, staff_role=StaffRole.SUPPORT)
    reading: dict[str, Any] = {"reference": begun.reference}
    with begun.sessions() as session:
        for actor in (begun.owner, support):
            found = find_payment(session, actor=actor, **reading)
            assert (found.account_id, found.email) == (begun.account, "lan@example.com")
            assert not found.has_receipt
        with pytest.raises(NotFound):
            find_payment(session, actor=stranger, **reading)
        with pytest.raises(NotFound):
            payment_page(session, actor=stranger, account_id=begun.account)
        with pytest.raises(NotAuthorised):
            payment_timeline(session, actor=begun.owner, **reading)


def test_staff_find_a_payment_by_any_of_its_names(begun: Begun) -> None:
    take(begun.sessions, ipn(begun.reference))
    support = user_actor(11, staff_role=StaffRole.SUPPORT)
    with begun.sessions() as session:
        for search_text in (f" {begun.reference.lower()} ", "14422574", str(begun.account), ""):
            found = find_payments(session, actor=support, search_text=search_text)
            assert [row.reference for row in found] == [begun.reference], search_text
        assert find_payments(session, actor=support, search_text="nothing") == ()
        with pytest.raises(NotAuthorised):
            find_payments(session, actor=begun.owner, search_text=begun.reference)


def test_the_history_goes_back_page_by_page(begun: Begun) -> None:
    support: Actor = user_actor(10, staff_role=StaffRole.SUPPORT)
    with begun.sessions.begin() as session:
        first = session.get_one(Payment, begun.started.payment_id)
        copied = {
            column.name: getattr(first, column.name)
            for column in Payment.__table__.columns
            if column.name != "id"
        }
        for number in range(60):
            moved = first.created_at - timedelta(minutes=number + 1)
            fresh = {"reference": f"COPY{number}", "idempotency_key": next_key()}
            session.add(Payment(**{**copied, **fresh, "created_at": moved}))
    with begun.sessions() as session:
        page = payment_page(session, actor=support, account_id=begun.account)
        assert len(page.rows) == 50
        rest = payment_page(
            session, actor=support, account_id=begun.account, older_than=page.older_than
        )
    references = [row.reference for row in (*page.rows, *rest.rows)]
    assert references == [begun.reference, *(f"COPY{number}" for number in range(60))]
    assert rest.older_than is None


def test_an_ipn_of_the_same_money_with_another_amount_is_for_people(begun: Begun) -> None:
    assert take(begun.sessions, ipn(begun.reference)) is Outcome.RECORDED
    other = ipn(begun.reference, Amount="60000000")
    assert [take(begun.sessions, other) for _ in range(2)] == [Outcome.RECORDED, Outcome.REPEATED]
    assert [amount for _, amount in entries(begun.sessions, begun.account)] == [500_000_000_000]
    with begun.sessions() as session:
        kinds = session.scalars(select(PaymentEvent.kind).order_by(PaymentEvent.id)).all()
    assert kinds.count("amount_changed") == 1
