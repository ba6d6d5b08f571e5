"""Polling: what is asked when, of whom, and what one payment, gateway or answer does to others."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select
from sqlalchemy import update as sql_update
from sqlalchemy.orm import sessionmaker

from db.models import Account, Dispute, Payment, PaymentEvent, Refund
from domain.errors import NotAuthorised
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    GatewayRefused,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
    Snapshot,
)
from domain.payments import check_due, check_payment, give_up, polling
from domain.payments.check_schedule import MAX_REFUND_CHECKS, next_check
from domain.payments.gateway_updates import apply_updates
from tests.factories import next_key
from tests.gateways import GATEWAYS, ScriptedGateway, away, begin, dong, paid, payer
from tests.support.keys import KNOWS_VAULT
from tests.support.owner import as_owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from domain.actors import Actor
    from domain.gateways.interface import Gateway, GatewayUpdate, KnownPayment, RefundRequest

CREDIT = dong(500_000)
START = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
PATIENCE_SECONDS = 120
OPEN = Snapshot(PaymentUpdate(GatewayPaymentState.OPEN))


@dataclass
class ManyGateway(ScriptedGateway):
    """Answers about each payment by its reference: a snapshot, an exception, or a function."""

    answers: dict[str, Any] = field(default_factory=dict)

    def fetch_payment(self, payment: KnownPayment) -> Snapshot:
        self.asked.append(payment.reference)
        answer = self.answers.get(payment.reference, self.snapshot)
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer()
        assert isinstance(answer, Snapshot)
        return answer


class World:
    """Payments of one account, at a time that tests move."""

    def __init__(self, engine: Engine) -> None:
        self.now = START
        self.lock = threading.Lock()
        info: dict[str, object] = {**KNOWS_VAULT, "clock": self.clock}
        self.sessions = sessionmaker(engine, expire_on_commit=False, info=info)
        self.failures: list[str] = []
        with self.sessions.begin() as session:
            self.account, self.owner = payer(session)

    def clock(self) -> datetime:
        with self.lock:
            self.now += timedelta(microseconds=1)
            return self.now

    def begin(self, **values: Any) -> str:
        """Begin a payment that is due; return its reference."""
        with self.sessions.begin() as session:
            made = begin(session, ScriptedGateway(), self.account, self.owner, CREDIT)
            row = session.get_one(Payment, made.payment_id)
            with as_owner(session):
                for name, value in {
                    "state": "pending",
                    "next_check_at": self.now,
                    **values,
                }.items():
                    setattr(row, name, value)
            return row.reference

    def credit(self, reference: str, gateway: ScriptedGateway) -> None:
        """Have a payment credited as by a webhook, its fee told."""
        update = paid(reference, CREDIT)
        with self.sessions.begin() as session:
            apply_updates(session, gateway=gateway, updates=(update,), actor=GATEWAYS)
            row = session.scalars(select(Payment).where(Payment.reference == reference)).one()
            row.fee_micros, row.fee_currency = 1_000, "VND"
            row.next_check_at = next_check(row, self.now)

    def row(self, reference: str) -> Payment:
        with self.sessions() as session:
            return session.scalars(select(Payment).where(Payment.reference == reference)).one()

    def set(self, reference: str, **values: Any) -> None:
        with self.sessions.begin() as session:
            statement = sql_update(Payment).where(Payment.reference == reference)
            with as_owner(session):
                session.execute(statement.values(**values))

    def refund(self, reference: str, **values: Any) -> int:
        """Write down a refund that is due to be sent; return its id."""
        payment = self.row(reference)
        with self.sessions.begin() as session:
            refund = Refund(
                account_id=payment.account_id,
                payment_id=payment.id,
                gateway=payment.gateway,
                reference=next_key("refund"),
                state="requested",
                pay_micros=CREDIT.micros,
                reason="Asked",
                requested_by="user:900",
                requested_at=self.now,
                next_check_at=self.now,
            )
            for name, value in values.items():
                setattr(refund, name, value)
            session.add(refund)
            session.flush()
            return refund.id

    def refund_row(self, refund_id: int) -> Refund:
        with self.sessions() as session:
            return session.get_one(Refund, refund_id)

    def poll(self, *gateways: Gateway, **options: Any) -> str:
        return check_due(
            self.sessions,
            gateways={str(number): each for number, each in enumerate(gateways)},
            actor=GATEWAYS,
            on_failure=self.failures.append,
            **options,
        )

    def events(self, reference: str, kind: str) -> list[dict[str, Any]]:
        statement = (
            select(PaymentEvent.details)
            .join(Payment, Payment.id == PaymentEvent.payment_id)
            .where(Payment.reference == reference, PaymentEvent.kind == kind)
            .order_by(PaymentEvent.id)
        )
        with self.sessions() as session:
            return [dict(details) for details in session.scalars(statement)]

    def waits(self, reference: str, gateway: Gateway, count: int) -> list[timedelta]:
        """Poll so many times, each when it is due; return how long each next one was planned."""
        found = []
        for _ in range(count):
            before = self.now
            self.poll(gateway)
            planned = self.row(reference).next_check_at
            if planned is None:
                break
            found.append(timedelta(seconds=round((planned - before).total_seconds())))
            self.now = planned
        return found


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


def minutes(*counts: int) -> list[timedelta]:
    return [timedelta(minutes=count) for count in counts]


# ── One payment alone ─────────────────────────────────────────────────────────────────────────
class Surprise(Exception):  # noqa: N818 - what nobody expected
    """Nothing that the services know."""


def broken_update() -> Snapshot:
    """Return what the services cannot process."""
    number: Any = object()
    return Snapshot(
        PaymentUpdate(GatewayPaymentState.PAID, amount=CREDIT, gateway_payment_id=number)
    )


def raise_surprise() -> Snapshot:
    raise Surprise("the card of Lan Tran")


@pytest.mark.parametrize(
    "answer",
    [raise_surprise, broken_update, away(), GatewayRefused("vnpay", "99"), Snapshot(None)],  # type: ignore[arg-type]
    ids=["exception", "unreadable", "away", "refused", "nothing"],
)
def test_payment_whose_check_fails_does_not_hold_up_the_next(
    world: World, answer: Snapshot | Exception | Callable[[], Snapshot]
) -> None:
    broken, sound = world.begin(), world.begin()
    gateway = ManyGateway(
        answers={broken: answer, sound: Snapshot(paid(sound, CREDIT))}, snapshot=OPEN
    )
    message = world.poll(gateway)
    assert message == "2 asked about, 1 of them closed, 0 refunds sent, 1 failed"
    assert (world.row(broken).state, world.row(sound).state) == ("pending", "succeeded")
    assert world.failures == ["vnpay"]


def test_failed_check_is_told_once_per_error_without_personal_data(world: World) -> None:
    reference = world.begin()
    gateway = ManyGateway(answers={reference: raise_surprise})
    world.waits(reference, gateway, 3)
    (message,) = world.events(reference, "check_failed")
    assert message["error"].startswith("Surprise")
    assert "Lan" not in str(message)
    gateway.answers[reference] = away()
    world.waits(reference, gateway, 2)
    assert [each["error"] for each in world.events(reference, "check_failed")] == [
        message["error"],
        "gateway_unavailable: away",
    ]
    assert world.failures == ["vnpay"] * 5


def test_failed_check_backs_off_and_the_next_good_answer_counts(world: World) -> None:
    reference = world.begin()
    gateway = ManyGateway(answers={reference: raise_surprise})
    assert world.waits(reference, gateway, 6) == minutes(1, 2, 5, 10, 30, 60)
    gateway.answers[reference] = Snapshot(paid(reference, CREDIT))
    world.poll(gateway)
    assert world.row(reference).state == "succeeded"


def test_payment_whose_check_always_fails_is_asked_ever_more_seldom(world: World) -> None:
    reference = world.begin()
    gateway = ManyGateway(answers={reference: raise_surprise})
    waits = world.waits(reference, gateway, 40)
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(days=1)


def test_failed_check_of_a_person_is_told_and_raises_nothing(world: World) -> None:
    reference = world.begin()
    gateway = ManyGateway(answers={reference: raise_surprise})
    payment_id = world.row(reference).id
    for _ in range(2):
        state = check_payment(
            world.sessions, gateway=gateway, payment_id=payment_id, actor=world.owner
        )
        assert state == "pending"
    assert len(world.events(reference, "check_failed")) == 1


def test_crash_during_a_question_leaves_the_payment_backed_off(world: World) -> None:
    reference = world.begin()

    def killed() -> Snapshot:
        raise SystemExit

    gateway = ManyGateway(answers={reference: killed})
    with pytest.raises(SystemExit):
        world.poll(gateway)
    planned = world.row(reference).next_check_at
    assert planned is not None
    assert planned > world.now


# ── Gateways side by side ─────────────────────────────────────────────────────────────────────
def test_gateway_that_hangs_does_not_hold_up_another(world: World) -> None:
    slow, quick = world.begin(gateway="stripe"), world.begin()
    let_go, is_credited = threading.Event(), threading.Event()

    def hang() -> Snapshot:
        assert let_go.wait(PATIENCE_SECONDS)
        return OPEN

    hanging = ManyGateway("stripe", answers={slow: hang})
    other = ManyGateway(answers={quick: Snapshot(paid(quick, CREDIT))})

    def watch() -> None:
        while not is_credited.is_set() and world.row(quick).state != "succeeded":
            is_credited.wait(0.02)
        is_credited.set()
        let_go.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        world.poll(hanging, other)
        assert is_credited.is_set()
    finally:
        is_credited.set()
        let_go.set()
        watcher.join()


def test_pass_ends_at_its_deadline_and_the_rest_stays_due(world: World) -> None:
    references = [world.begin() for _ in range(3)]
    gateway = ManyGateway(snapshot=OPEN)
    world.poll(gateway, deadline_seconds=0)
    assert gateway.asked == []
    world.poll(gateway)
    assert sorted(gateway.asked) == sorted(references)


def test_stopped_pass_asks_no_further(world: World) -> None:
    for _ in range(2):
        world.begin()
    stop = threading.Event()
    gateway = ManyGateway(snapshot=OPEN)

    def stop_now() -> Snapshot:
        stop.set()
        return OPEN

    gateway.answers = {world.begin(next_check_at=START - timedelta(hours=1)): stop_now}
    world.poll(gateway, stop=stop)
    assert len(gateway.asked) == 1


def test_limit_counts_for_each_gateway_by_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling.due_payments, "__kwdefaults__", {"limit": 2})
    for _ in range(3):
        world.begin()
    stripe = [world.begin(gateway="stripe") for _ in range(2)]
    one, other = ManyGateway(snapshot=OPEN), ManyGateway("stripe", snapshot=OPEN)
    world.poll(one, other)
    assert len(one.asked) == 2
    assert sorted(other.asked) == sorted(stripe)


# ── Sandbox and live ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("is_sandbox", [True, False])
def test_gateway_is_not_asked_about_payments_of_its_other_side(
    world: World,
    *,
    is_sandbox: bool,
) -> None:
    leftover = world.begin(is_sandbox=not is_sandbox)
    before = world.row(leftover)
    own = world.begin(is_sandbox=is_sandbox, next_check_at=START + timedelta(seconds=1))
    world.now += timedelta(hours=1)
    refund = world.refund(leftover)
    gateway = ManyGateway(is_sandbox=is_sandbox, snapshot=OPEN)
    world.poll(gateway)
    assert gateway.asked == [own]
    row = world.row(leftover)
    assert (row.checks, row.next_check_at) == (before.checks, before.next_check_at)
    assert world.refund_row(refund).checks == 0


def test_leftovers_of_the_sandbox_do_not_fill_the_batch_of_the_live_gateway(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling.due_payments, "__kwdefaults__", {"limit": 2})
    for _ in range(4):
        world.begin(is_sandbox=True, next_check_at=START - timedelta(days=1))
    live = world.begin()
    gateway = ManyGateway(snapshot=Snapshot(paid(live, CREDIT)))
    world.poll(gateway)
    assert world.row(live).state == "succeeded"


def test_leftover_of_the_sandbox_raises_nothing_where_a_person_asks(world: World) -> None:
    leftover = world.begin(is_sandbox=True)
    gateway = ManyGateway(answers={leftover: raise_surprise})
    state = check_payment(
        world.sessions, gateway=gateway, payment_id=world.row(leftover).id, actor=GATEWAYS
    )
    assert state == "pending"
    assert gateway.asked == []


def test_payment_of_a_gateway_that_is_not_configured_is_not_touched(world: World) -> None:
    reference = world.begin(gateway="stripe")
    refund, before = world.refund(reference), world.row(reference)
    world.poll(ManyGateway(snapshot=OPEN))
    world.poll()
    after = world.row(reference)
    assert (after.next_check_at, after.checks) == (before.next_check_at, 0)
    assert world.refund_row(refund).checks == 0


def test_people_poll_nothing_of_everybody(world: World) -> None:
    owner: Actor = world.owner
    with pytest.raises(NotAuthorised):
        check_due(world.sessions, gateways={}, actor=owner)


# ── The schedule ──────────────────────────────────────────────────────────────────────────────
def test_open_payment_is_asked_soon_then_hourly_then_expires(world: World) -> None:
    reference = world.begin()
    gateway = ManyGateway(snapshot=OPEN)
    assert world.waits(reference, gateway, 5) == minutes(1, 2, 5, 10, 30)
    assert world.row(reference).state == "pending"
    world.waits(reference, gateway, 2)
    assert world.row(reference).state == "expired"


def test_convenience_store_payment_is_asked_a_few_times_a_day_to_its_end(world: World) -> None:
    day = START + timedelta(days=3)
    reference = world.begin(state="awaiting", pay_by=day)
    promised = PaymentUpdate(GatewayPaymentState.AWAITING, pay_by=day)
    gateway = ManyGateway(snapshot=Snapshot(promised))
    hours = [timedelta(hours=count) for count in (1, *(6,) * 11, 5)]
    assert world.waits(reference, gateway, 13) == hours
    assert abs(world.now - day) < timedelta(minutes=1)
    gateway.snapshot = OPEN
    world.now = day + timedelta(hours=1)
    world.waits(reference, gateway, 1)
    assert world.row(reference).state == "expired"


def test_money_of_a_convenience_store_is_found_before_its_deadline(world: World) -> None:
    reference = world.begin(state="awaiting", pay_by=START + timedelta(days=3))
    gateway = ManyGateway(snapshot=Snapshot(PaymentUpdate(GatewayPaymentState.AWAITING)))
    world.waits(reference, gateway, 2)
    gateway.snapshot = Snapshot(paid(reference, CREDIT))
    world.poll(gateway)
    row = world.row(reference)
    assert row.credited_at is not None
    assert row.credited_at < START + timedelta(hours=8)


def test_credited_payment_is_asked_daily_for_a_week_and_at_30_60_and_120_days(
    world: World,
) -> None:
    reference, gateway = world.begin(), ManyGateway()
    world.credit(reference, gateway)
    credited_at = world.row(reference).credited_at
    assert credited_at is not None
    gateway.snapshot = Snapshot(PaymentUpdate(GatewayPaymentState.OPEN))
    days = []
    while (planned := world.row(reference).next_check_at) is not None:
        days.append((planned - credited_at).days)
        world.now = planned
        world.poll(gateway)
    assert days == [1, 2, 3, 4, 5, 6, 7, 30, 60, 120]


def test_fresh_credit_without_its_fee_is_asked_about_after_a_minute(world: World) -> None:
    reference = world.begin()
    gateway = ManyGateway(snapshot=Snapshot(paid(reference, CREDIT)))
    world.poll(gateway)
    row = world.row(reference)
    assert row.credited_at is not None
    assert row.next_check_at == row.credited_at + timedelta(minutes=1)
    world.now = row.next_check_at
    world.set(reference, fee_micros=1_000, fee_currency="VND")
    world.poll(gateway)
    row = world.row(reference)
    assert row.next_check_at == row.credited_at + timedelta(days=1)  # type: ignore[operator]


def test_open_payments_are_asked_before_credited_ones(world: World) -> None:
    gateway = ManyGateway(snapshot=OPEN)
    credited = [world.begin() for _ in range(4)]
    for reference in credited:
        world.credit(reference, gateway)
    world.now += timedelta(days=2)
    closed = world.begin(state="failed", next_check_at=START)
    opened = world.begin()
    world.poll(gateway)
    assert gateway.asked[:2] == [opened, closed]
    assert sorted(gateway.asked[2:]) == sorted(credited)


def test_cancelled_payment_is_asked_about_while_the_gateway_still_takes_it(world: World) -> None:
    reference = world.begin()
    with world.sessions.begin() as session:
        give_up(session, reference=reference, actor=world.owner)
    row = world.row(reference)
    gateway = ManyGateway(snapshot=OPEN)
    asked = []
    while (planned := world.row(reference).next_check_at) is not None:
        if planned > row.created_at + timedelta(hours=3):
            break
        asked.append(round((planned - row.created_at).total_seconds() / 60))
        world.now = planned
        world.poll(gateway)
    assert {10, 30, 60, 120, 170} <= set(asked)


def test_payment_approved_after_it_was_cancelled_is_taken(world: World) -> None:
    reference = world.begin(gateway="paypal")
    with world.sessions.begin() as session:
        give_up(session, reference=reference, actor=world.owner)
    gateway = ManyGateway("paypal", snapshot=OPEN)
    world.waits(reference, gateway, 3)
    gateway.snapshot = Snapshot(paid(reference, CREDIT))
    world.poll(gateway)
    row = world.row(reference)
    assert row.state == "succeeded"
    assert row.credited_at is not None
    assert row.credited_at < row.created_at + timedelta(hours=3)


def test_approval_that_cannot_be_taken_is_not_asked_for_without_end(world: World) -> None:
    reference = world.begin()
    gateway = ManyGateway(snapshot=Snapshot(PaymentUpdate(GatewayPaymentState.APPROVED)))
    assert world.waits(reference, gateway, 4) == minutes(1, 2, 5, 10)


def test_person_who_asks_often_does_not_make_the_clock_ask_seldom(world: World) -> None:
    reference = world.begin()
    gateway = ManyGateway(snapshot=OPEN)
    for _ in range(10):
        check_payment(
            world.sessions, gateway=gateway, payment_id=world.row(reference).id, actor=world.owner
        )
    assert world.row(reference).checks == 0
    assert world.waits(reference, gateway, 1) == minutes(1)


def test_webhook_during_a_question_keeps_the_payment_due(world: World) -> None:
    reference = world.begin()

    def overtaken() -> Snapshot:
        world.set(reference, next_check_at=world.now)  # as a webhook that has the gateway asked
        return OPEN

    world.poll(ManyGateway(answers={reference: overtaken}))
    planned = world.row(reference).next_check_at
    assert planned is not None
    assert planned <= world.now


# ── What a snapshot leaves out ────────────────────────────────────────────────────────────────
def test_snapshot_that_leaves_something_out_counts_and_is_asked_for_again(world: World) -> None:
    reference = world.begin()
    update = paid(reference, CREDIT)
    gateway = ManyGateway(snapshot=Snapshot(update, unread=frozenset({"refunds"})))
    world.poll(gateway)
    row = world.row(reference)
    assert row.state == "succeeded"
    assert row.next_check_at is not None
    world.set(reference, fee_micros=1_000, fee_currency="VND")
    world.now = row.next_check_at
    assert world.waits(reference, gateway, 4) == minutes(1, 2, 5, 10)
    gateway.snapshot = Snapshot(update)
    world.poll(gateway)
    row = world.row(reference)
    assert row.next_check_at == row.credited_at + timedelta(days=1)  # type: ignore[operator]


def test_undated_statement_is_dated_before_the_question(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = world.begin()
    dated_at = START - timedelta(days=1)
    undated = DisputeUpdate("d1", DisputeState.OPEN, CREDIT, payment_reference=reference)
    dated = replace(undated, gateway_dispute_id="d2", stated_at=dated_at)
    refund = RefundUpdate("r1", RefundState.SUCCEEDED, CREDIT, payment_reference=reference)
    received: list[GatewayUpdate] = []
    asked_at: list[datetime] = []

    def keep(_session: object, *, updates: list[GatewayUpdate], **_rest: object) -> None:
        received.extend(updates)

    def answer() -> Snapshot:
        asked_at.append(world.now)
        world.now += timedelta(minutes=1)
        return Snapshot(PaymentUpdate(GatewayPaymentState.OPEN), (refund,), (undated, dated))

    monkeypatch.setattr(polling, "apply_updates", keep)
    world.poll(ManyGateway(answers={reference: answer}))
    message = {getattr(update, "gateway_dispute_id", "refund"): update for update in received}
    stated_at = message["d1"].stated_at  # type: ignore[union-attr]
    assert stated_at is not None
    assert START <= stated_at <= asked_at[0]
    assert message["d2"] == dated
    assert getattr(message["refund"], "stated_at", stated_at) == stated_at


def test_what_is_stated_in_the_second_of_the_question_is_no_older_than_the_answer(
    world: World,
) -> None:
    reference = world.begin()
    gateway = ScriptedGateway()
    world.credit(reference, gateway)
    second = (world.now + timedelta(seconds=1)).replace(microsecond=0)
    world.now = second + timedelta(microseconds=700_000)
    dispute = DisputeUpdate("d1", DisputeState.OPEN, CREDIT, payment_reference=reference)
    gateway.snapshot = Snapshot(paid(reference, CREDIT), (), (dispute,))
    check_payment(
        world.sessions, gateway=gateway, payment_id=world.row(reference).id, actor=GATEWAYS
    )
    # The gateway ends it within the same second, which is all that its date tells.
    ended = replace(dispute, state=DisputeState.LOST, stated_at=second)
    with world.sessions.begin() as session:
        apply_updates(session, gateway=gateway, updates=(ended,), actor=GATEWAYS)
        assert session.scalars(select(Dispute.state)).one() == "lost"
        assert session.get_one(Account, world.account).status == "active"


# ── Refunds ───────────────────────────────────────────────────────────────────────────────────
@dataclass
class UnansweredRefunds(ManyGateway):
    """Raises at each refund."""

    error: Exception = field(default_factory=away)

    def refund(self, request: RefundRequest) -> RefundUpdate:
        self.refund_requests.append(request)
        raise self.error


def paid_payment(world: World) -> str:
    reference = world.begin()
    world.credit(reference, ManyGateway())
    world.set(reference, next_check_at=None)
    return reference


def refund_waits(world: World, refund_id: int, gateway: Gateway, count: int) -> list[timedelta]:
    found = []
    for _ in range(count):
        before = world.now
        world.poll(gateway)
        planned = world.refund_row(refund_id).next_check_at
        if planned is None:
            break
        found.append(timedelta(seconds=round((planned - before).total_seconds())))
        world.now = planned
    return found


@pytest.mark.parametrize("error", [away(), Surprise()], ids=["away", "exception"])
def test_refund_without_an_answer_backs_off_and_ends_after_a_week(
    world: World, error: Exception
) -> None:
    reference = paid_payment(world)
    refund_id = world.refund(reference)
    gateway = UnansweredRefunds(error=error)
    waits = refund_waits(world, refund_id, gateway, 50)
    assert waits[:6] == minutes(1, 5, 30, 60, 360, 1440)
    row = world.refund_row(refund_id)
    assert (row.state, row.next_check_at) == ("requested", None)
    assert world.events(reference, "refund_unanswered") == [{"refund": refund_id}]
    sent = len(gateway.refund_requests)
    world.now += timedelta(days=30)
    world.poll(gateway)
    assert len(gateway.refund_requests) == sent <= MAX_REFUND_CHECKS
    assert {each.reference for each in gateway.refund_requests} == {row.reference}


def test_refund_that_was_never_sent_is_sent_however_old_it_is(world: World) -> None:
    refund_id = world.refund(paid_payment(world))
    world.now += timedelta(days=10)
    gateway = UnansweredRefunds()
    world.poll(gateway)
    assert len(gateway.refund_requests) == 1
    assert world.refund_row(refund_id).next_check_at is not None


def test_refund_that_raises_does_not_hold_up_the_next_and_is_told(world: World) -> None:
    first, second = paid_payment(world), paid_payment(world)
    world.refund(first)
    refund_id = world.refund(second)
    gateway = UnansweredRefunds(error=Surprise())
    message = world.poll(gateway)
    assert message == "0 asked about, 0 of them closed, 0 refunds sent, 2 failed"
    assert len(gateway.refund_requests) == 2
    assert world.failures == ["vnpay"] * 2
    (event,) = world.events(second, "check_failed")
    assert event["refund"] == refund_id


def test_refund_that_waits_for_another_is_not_counted_as_sent(world: World) -> None:
    reference = paid_payment(world)
    world.refund(reference, state="pending", next_check_at=None)
    held = world.refund(reference)
    gateway = UnansweredRefunds(tells_latest_refund_only=True)
    for _ in range(3):
        world.poll(gateway)
        world.now += timedelta(minutes=5, seconds=1)
    assert gateway.refund_requests == []
    row = world.refund_row(held)
    assert row.checks == 0
    assert row.next_check_at is not None


def test_refund_that_was_held_for_days_is_sent_more_than_once(world: World) -> None:
    reference = paid_payment(world)
    before = world.refund(reference, state="pending", next_check_at=None)
    world.refund(reference)
    gateway = UnansweredRefunds(tells_latest_refund_only=True)
    world.poll(gateway)
    world.now += timedelta(days=9)
    with world.sessions.begin() as session:
        session.get_one(Refund, before).state = "failed"
    for _ in range(3):
        world.poll(gateway)
        world.now += timedelta(hours=1)
    assert len(gateway.refund_requests) == 3


def test_pending_refund_is_asked_about_with_backoff(world: World) -> None:
    reference = paid_payment(world)
    refund_id = world.refund(reference, state="pending")
    gateway = ManyGateway(snapshot=OPEN)
    assert refund_waits(world, refund_id, gateway, 6) == minutes(1, 5, 30, 60, 360, 1440)
    assert gateway.asked == [reference] * 6
