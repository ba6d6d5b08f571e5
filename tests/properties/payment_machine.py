"""Everything that can happen to payments, in any order, against the model in plain Python.

Each gateway's histories are a test file of their own, so that they run side by side.
One database serves all histories: each is a transaction that is rolled back at its end.
PAYMENT_FUZZ is the number of histories of a longer search, which goes elsewhere each time
(`make fuzz`).
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.providers import HypothesisProvider
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event, text
from sqlalchemy.orm import sessionmaker

from db.engine import make_engine, make_sessions
from domain import ledger
from domain.actors import StaffRole, user_actor
from domain.errors import BillingError
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    GatewayRefused,
    GatewayUnavailable,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
    Snapshot,
)
from domain.ledger.verify import verify_statement
from domain.money import Money
from domain.payments import check_payment, request_refund, send_refund
from domain.payments.exchange_rates import decide_rate, make_quote, request_rate
from domain.payments.gateway_updates import apply_updates
from domain.payments.reviews import (
    approve_payment,
    record_return,
    reject_payment,
    request_acceptance,
    reviews_of,
)
from tests.factories import SYSTEM, charge, grant, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, begin, payer
from tests.properties import payment_model as model
from tests.support.keys import KNOWS_VAULT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.interface import GatewayUpdate, KnownPayment, RefundRequest

Choice = TypeVar("Choice")
_SHARED: dict[str, Any] = {
    "deadline": None,  # a step is as slow as the machine
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}
_FUZZ = int(os.environ.get("PAYMENT_FUZZ", "0"))
_HISTORIES = 2_000
TIMEOUT_SECONDS = 0 if _FUZZ else 1_800
MORNING = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
MAKER = user_actor(900, staff_role=StaffRole.FINANCE)
CHECKER = user_actor(901, staff_role=StaffRole.FINANCE)
ADMIN = user_actor(902, staff_role=StaffRole.ADMIN)
PICKS = st.sampled_from(range(6))
"""Which of several. Integers would depend on what else is imported: Hypothesis mixes in constants
of all local modules, and the histories would be others in a run of one file.
"""
SECONDS = st.sampled_from((0, 1))
TOLD = st.sampled_from((1, 1, 0, 2))
"""How often a statement is delivered at once; it may come again, or at last, at any time."""

PARTS = ("all", "half", "third", "coin", "too much")


# ── The gateway ───────────────────────────────────────────────────────────────────────────────
@dataclass
class Taken:
    """Money that a customer paid. `state` is paid, under_review or failed."""

    name: str
    amount: Money
    state: GatewayPaymentState
    fee: Money | None = None


@dataclass
class GatewayRefund:
    name: str
    money: str
    amount: Money
    state: RefundState
    reference: str | None = None
    is_reversal: bool = False
    stated_at: datetime = MORNING


@dataclass
class GatewayDispute:
    name: str
    money: str
    amount: Money
    state: DisputeState
    lost: Money | None = None
    fee: Money | None = None
    stated_at: datetime = MORNING


@dataclass
class World:
    """A payment as it stands at the gateway, which is what everything told of it comes from."""

    number: int
    payment_id: int
    reference: str
    asked: Money
    moneys: list[Taken] = field(default_factory=list)
    refunds: list[GatewayRefund] = field(default_factory=list)
    disputes: list[GatewayDispute] = field(default_factory=list)

    def is_clear(self) -> bool:
        """Whether what was paid first is what was asked for, and nobody doubted it."""
        return self.moneys[0].fee is not None


@dataclass
class Habits:
    """How a gateway speaks: all of it is possible somewhere."""

    tells_times: bool = True
    names_payments: bool = True
    names_our_refunds: bool = True
    tells_latest_refund_only: bool = False


@dataclass
class SimulatedGateway(ScriptedGateway):
    """A gateway whose answers are the present truth; what it answered is kept in `answers`."""

    machine: PaymentMachine | None = None
    plan: str = "succeeded"
    answers: list[tuple[str, Any]] = field(default_factory=list)

    def fetch_payment(self, payment: KnownPayment) -> Snapshot:
        assert self.machine is not None
        world = self.machine.world_of(payment.reference)
        snapshot = self.machine.snapshot(world, payment.gateway_payment_id)
        self.answers.append(("snapshot", (world, snapshot)))
        return snapshot

    def refund(self, request: RefundRequest) -> RefundUpdate:
        assert self.machine is not None
        world = self.machine.world_of(request.payment.reference)
        known = [one for one in world.refunds if one.reference == request.reference]
        if not known:
            self._make_refund(world, request)
            known = world.refunds[-1:]
        if self.plan == "lost":
            raise GatewayUnavailable(self.name, "lost")
        update = replace(
            self.machine.refund_update(world, known[0]),
            reference=request.reference,
            payment_reference=world.reference,
            stated_at=self.machine.now,
        )
        self.answers.append(("fact", update))
        return update

    def _make_refund(self, world: World, request: RefundRequest) -> None:
        assert self.machine is not None
        if self.plan == "away":
            raise GatewayUnavailable(self.name, "away")
        if self.plan == "refused":
            self.answers.append(("refused", request.reference))
            raise GatewayRefused(self.name, "95")
        self.machine.make_refund(
            world,
            money=request.payment.gateway_payment_id or "",
            amount=request.amount,
            state=RefundState.PENDING if self.plan == "pending" else RefundState.SUCCEEDED,
            reference=request.reference,
        )


# ── What is found ─────────────────────────────────────────────────────────────────────────────
@dataclass
class Found:
    """An account as the database has it; `credit` and `excess` are of payments by reference."""

    balance: int = 0
    held: int = 0
    due: int = 0
    status: str = "active"
    credit: dict[str, int] = field(default_factory=dict)
    excess: dict[str, int] = field(default_factory=dict)
    journal: dict[tuple[str, str], int] = field(default_factory=dict)


_VERIFY = "PREPARE verify_ledger (bigint[]) AS " + verify_statement().replace(":ids", "$1")
"""What `verify_ledger` asks: to plan it takes ten times as long as to answer it."""
_LOOK = """
PREPARE payment_machine (bigint) AS
WITH own AS (SELECT * FROM payments WHERE account_id = $1),
parts AS (
  SELECT payment_id, outflow_micros - unapplied_micros - clawed_back_micros AS excess
  FROM refunds WHERE account_id = $1
  UNION ALL
  SELECT payment_id, outflow_micros - unapplied_micros - clawed_back_micros
  FROM disputes WHERE account_id = $1
),
credit AS (
  SELECT o.reference, coalesce(sum(e.amount_micros), 0)::bigint AS micros
  FROM own o LEFT JOIN payment_credits c ON c.payment_id = o.id AND c.account_id = $1
  LEFT JOIN entries e ON e.account_id = $1
    AND (e.account_sequence = c.entry_sequence
      OR e.kind = 'reversal' AND c.credit_micros > 0 AND e.reverses_sequence = c.entry_sequence)
  GROUP BY 1
),
excess AS (
  SELECT o.reference, sum(p.excess)::bigint AS micros
  FROM own o JOIN parts p ON p.payment_id = o.id WHERE o.entry_sequence IS NOT NULL GROUP BY 1
),
books AS (
  SELECT ledger_code, currency, sum(amount_micros)::bigint AS micros
  FROM journal WHERE account_id = $1 GROUP BY 1, 2
)
SELECT json_build_object(
  'account', (
    SELECT json_build_array(b.balance_micros, b.held_micros, (
      SELECT coalesce(sum(due_micros), 0)::bigint FROM debts WHERE account_id = $1), a.status)
    FROM accounts a JOIN account_balances b ON b.account_id = a.id WHERE a.id = $1),
  'credit', (SELECT json_object_agg(reference, micros) FROM credit),
  'excess', coalesce((SELECT json_object_agg(reference, micros) FROM excess), '{}'),
  'journal', coalesce((
    SELECT json_agg(json_build_array(ledger_code, currency, micros)) FROM books), '[]'))
"""


# ── The machine ───────────────────────────────────────────────────────────────────────────────
@dataclass
class Place:
    """An account that all histories of a machine begin with, and how it pays."""

    gateway: str
    site: str
    credit: Money
    account_id: int = 0
    owner: Actor = SYSTEM
    pay_currency: str = ""
    payments: list[tuple[int, str, Money]] = field(default_factory=list)
    """What was begun: id, reference, and what is to be paid."""

    @property
    def is_foreign(self) -> bool:
        return self.pay_currency != self.credit.currency


class PaymentMachine(RuleBasedStateMachine):
    """One account with up to three payments; every step goes to the services and to the model."""

    engine: Engine
    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.now = MORNING
        self.ticks = 0
        self.connection: Connection = self.engine.connect()
        self.transaction = self.connection.begin()
        self.sessions: sessionmaker[Session] = sessionmaker(
            self.connection,
            expire_on_commit=False,
            join_transaction_mode="create_savepoint",
            info={**KNOWS_VAULT, "clock": self._tick},
        )
        self.account = model.Account()
        self.worlds: list[World] = []
        self.pool: list[GatewayUpdate] = []
        self.habits = Habits()
        self.gateway = SimulatedGateway(self.place.gateway, machine=self)
        self.charges: list[tuple[int, int]] = []
        self.names = 0
        self.found = Found()

    def _tick(self) -> datetime:
        """Return the instant of the machine, a little later each time."""
        self.ticks += 1
        return self.now + timedelta(microseconds=self.ticks)

    def teardown(self) -> None:
        try:
            if self.worlds:
                found = self.connection.exec_driver_sql("EXECUTE verify_ledger(NULL)")
                assert found.all() == []
        finally:
            self.transaction.rollback()
            self.connection.close()

    @initialize(
        times=st.sampled_from((True, True, True, False)),
        payments=st.sampled_from((True, True, False)),
        refunds=st.booleans(),
        latest_only=st.booleans(),
        start=st.sampled_from(("paid", "paid", "paid", "paid", "early", "wrong", "doubt")),
        count=st.sampled_from((1, 1, 2)),
    )
    def open_payments(
        self,
        *,
        times: bool,
        payments: bool,
        refunds: bool,
        latest_only: bool,
        start: str,
        count: int,
    ) -> None:
        is_latest_only = latest_only and self.place.gateway == "vnpay"
        is_clear = start in {"paid", "early"}
        self.habits = Habits(
            times, payments or not is_clear, refunds and not is_latest_only, is_latest_only
        )
        self.gateway.tells_latest_refund_only = is_latest_only
        for number, (payment_id, reference, asked) in enumerate(self.place.payments[:count]):
            world = World(number + 1, payment_id, reference, asked)
            self.worlds.append(world)
            self.account.payments.append(model.Payment(reference, asked))
            if start != "early":
                self.take_money(world, "right" if number else start, 1)

    # ── What happens at the gateway ──────────────────────────────────────────────────────────

    @rule(pick=PICKS, kind=st.sampled_from(("right", "right", "wrong", "doubt")), message=TOLD)
    def pay(self, pick: int, kind: str, message: int) -> None:
        """The customer pays, pays again, pays too little, or in a way that the gateway doubts."""
        self.take_money(chosen(self.worlds, pick), kind, message)

    def take_money(self, world: World, kind: str, message: int) -> None:
        if world.moneys and (len(world.moneys) > 1 or not world.is_clear()):
            return
        if world.moneys or not self.habits.names_payments:
            kind = "right"
        taken = Taken(self.name("money"), world.asked, GatewayPaymentState.PAID)
        if kind == "wrong":
            taken.amount = part_of(world.asked, "half")
        elif kind == "doubt":
            taken.state = GatewayPaymentState.UNDER_REVIEW
        elif not world.moneys:
            taken.fee = Money(world.asked.micros // 50, world.asked.currency)
        world.moneys.append(taken)
        self.tell(self.payment_update(world, taken), message)

    @precondition(lambda self: self.moneys(GatewayPaymentState.UNDER_REVIEW))
    @rule(pick=PICKS, is_paid=st.booleans(), message=TOLD)
    def end_case(self, *, pick: int, is_paid: bool, message: int) -> None:
        """The gateway's own review ends."""
        world, money = chosen(self.moneys(GatewayPaymentState.UNDER_REVIEW), pick)
        money.state = GatewayPaymentState.PAID if is_paid else GatewayPaymentState.FAILED
        self.tell(self.payment_update(world, money), message)

    @rule(
        pick=PICKS,
        state=st.sampled_from(
            (GatewayPaymentState.CANCELLED, GatewayPaymentState.EXPIRED, GatewayPaymentState.FAILED)
        ),
        message=TOLD,
    )
    def fail(self, pick: int, state: GatewayPaymentState, message: int) -> None:
        """An attempt without money ends, or the gateway denies money that it had called paid."""
        taken = self.moneys(GatewayPaymentState.PAID)
        if taken and state is GatewayPaymentState.FAILED:
            world, money = chosen(taken, pick)
            money.state = state
            self.tell(self.payment_update(world, money), message)
        else:
            world = chosen(self.worlds, pick)
            self.tell(PaymentUpdate(state, reference=world.reference, code="24"), message)

    @precondition(lambda self: self.moneys(GatewayPaymentState.PAID))
    @rule(
        pick=PICKS,
        part=st.sampled_from(PARTS),
        state=st.sampled_from((RefundState.SUCCEEDED, RefundState.PENDING)),
        is_reversal=st.sampled_from((False, True)),
        seconds=SECONDS,
        message=TOLD,
    )
    def refund_at_gateway(
        self,
        *,
        pick: int,
        part: str,
        state: RefundState,
        is_reversal: bool,
        seconds: int,
        message: int,
    ) -> None:
        """Somebody refunds at the gateway, or the gateway itself takes the money."""
        world, money = chosen(self.moneys(GatewayPaymentState.PAID), pick)
        self.now += timedelta(seconds=seconds)
        if not self.is_ours(world, money):
            part, is_reversal = "all", False
        amount = part_of(money.amount, part)
        if is_reversal and self.may_reverse(world, money, amount):
            state = RefundState.SUCCEEDED
        else:
            is_reversal = False
        self.make_refund(
            world, money=money.name, amount=amount, state=state, is_reversal=is_reversal
        )
        self.tell_last(message)

    def may_reverse(self, world: World, money: Taken, amount: Money) -> bool:
        """Whether the gateway would take so much by itself: once, and for a dispute."""
        disputes = [one for one in world.disputes if one.money == money.name]
        is_won = bool(disputes) and disputes[-1].state is DisputeState.WON
        is_first = not any(one.is_reversal for one in world.refunds)
        return is_first and not is_won and amount <= money.amount

    @precondition(lambda self: self.own_refunds())
    @rule(pick=PICKS, fails=st.booleans(), seconds=SECONDS, message=TOLD)
    def move_refund(self, *, pick: int, fails: bool, seconds: int, message: int) -> None:
        """A refund succeeds, fails, fails late, or succeeds after all."""
        world, refund = chosen(self.own_refunds(), pick)
        is_pending = refund.state is RefundState.PENDING
        if refund.state is RefundState.FAILED or (is_pending and not fails):
            refund.state = RefundState.SUCCEEDED
        else:
            refund.state = RefundState.FAILED
        self.now += timedelta(seconds=seconds)
        refund.stated_at = self.now
        self.tell(self.refund_update(world, refund), message)

    @precondition(lambda self: self.moneys(GatewayPaymentState.PAID))
    @rule(
        pick=PICKS,
        part=st.sampled_from(PARTS),
        state=st.sampled_from((DisputeState.OPEN, DisputeState.OPEN, DisputeState.INQUIRY)),
        seconds=SECONDS,
        message=TOLD,
    )
    def open_dispute(
        self,
        *,
        pick: int,
        part: str,
        state: DisputeState,
        seconds: int,
        message: int,
    ) -> None:
        world, money = chosen(self.moneys(GatewayPaymentState.PAID), pick)
        if not world.is_clear() and not self.is_ours(world, money):
            return
        amount = part_of(money.amount, part)
        self.now += timedelta(seconds=seconds)
        dispute = GatewayDispute(
            self.name("dispute"), money.name, amount, state, stated_at=self.now
        )
        world.disputes.append(dispute)
        self.tell(self.dispute_update(world, dispute), message)

    @precondition(lambda self: self.all_disputes())
    @rule(
        pick=PICKS,
        ends=st.sampled_from(("won", "lost", "lost in part", "won in part")),
        seconds=SECONDS,
        has_fee=st.booleans(),
        message=TOLD,
    )
    def move_dispute(
        self, *, pick: int, ends: str, seconds: int, has_fee: bool, message: int
    ) -> None:
        """A dispute ends, is appealed, or an inquiry becomes one."""
        world, dispute = chosen(self.all_disputes(), pick)
        dispute.lost = None
        if dispute.state is DisputeState.OPEN:
            dispute.state = DisputeState.WON if ends.startswith("won") else DisputeState.LOST
            if ends.endswith("part"):
                dispute.lost = part_of(dispute.amount, "third")
        else:
            dispute.state = DisputeState.OPEN
        self.now += timedelta(seconds=seconds)
        dispute.stated_at = self.now
        if has_fee:
            before = dispute.fee.micros if dispute.fee else 0
            dispute.fee = Money(before + 3_000_000, dispute.amount.currency)
        self.tell(self.dispute_update(world, dispute), message)

    # ── What reaches us ──────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.pool)
    @rule(picks=st.lists(st.sampled_from(range(21)), min_size=1, max_size=3))
    def deliver(self, picks: list[int]) -> None:
        """What was ever stated comes again, or at last, in any order."""
        self.apply_all([chosen(self.pool, pick) for pick in picks])

    @rule(pick=PICKS, seconds=st.sampled_from((1, 60, 90_000)))
    def poll(self, pick: int, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.ask(chosen(self.worlds, pick))

    @rule()
    def catch_up(self) -> None:
        """Everything that was stated arrives in its order: the books equal what the gateway has."""
        self.apply_all(self.pool)
        self.now += timedelta(seconds=1)
        for world in self.worlds:
            self.ask(world)
        self.check_truth()

    # ── What people of finance and customers do ──────────────────────────────────────────────

    @rule(pick=PICKS, part=st.sampled_from(PARTS), seconds=SECONDS)
    def request_refund(self, pick: int, part: str, seconds: int) -> None:
        world = chosen(self.worlds, pick)
        payment = self.payment_of(world)
        self.now += timedelta(seconds=seconds)
        amount = part_of(world.asked, part)
        is_allowed = payment.may_refund(amount.micros)
        try:
            with self.sessions.begin() as session:
                refund_id = request_refund(
                    session,
                    payment_id=world.payment_id,
                    amount=amount,
                    reason="Paid twice",
                    actor=MAKER,
                    idempotency_key=next_key("refund"),
                ).refund_id
        except BillingError as error:
            assert not is_allowed, error  # noqa: PT017 - both refuse, or neither
        else:
            assert is_allowed, f"{amount} of {payment}"
            payment.request_refund(self.reference_of(refund_id), amount.micros)

    @precondition(lambda self: self.has_waiting())
    @rule(
        pick=PICKS,
        plan=st.sampled_from(("succeeded", "pending", "refused", "lost", "away")),
        seconds=SECONDS,
    )
    def send(self, pick: int, plan: str, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        waiting = self.waiting_refunds()
        if waiting:
            self.gateway.plan = plan
            refund_id = chosen(waiting, pick)
            send_refund(self.sessions, gateway=self.gateway, refund_id=refund_id)
            self.take_answers()

    @precondition(lambda self: any(world.moneys for world in self.worlds))
    @rule(
        pick=PICKS,
        part=st.sampled_from(PARTS),
        kind=st.sampled_from(("reverse", "reverse", "accept", "reject", "send back")),
    )
    def decide(self, pick: int, part: str, kind: str) -> None:
        """Finance reverses a part of what was granted, or decides about money that is not clear."""
        if kind == "reverse":
            self.reverse_credit(pick, part)
        elif kind == "send back":
            self.send_money_back(pick)
        else:
            self.review(pick, accepts=kind == "accept")

    def reverse_credit(self, pick: int, part: str) -> None:
        granted = [one for one in self.account.payments if one.credited]
        if not granted:
            return
        payment = chosen(granted, pick)
        sequences = self.granting_entries(payment)
        credit = self.found.credit[payment.reference]
        amount = None if part == "all" else part_of(self.place.credit, part).micros
        try:
            with self.sessions.begin() as session:
                ledger.reverse_entry(
                    session,
                    account_id=self.place.account_id,
                    entry_sequence=chosen(sequences, pick),
                    amount_micros=amount,
                    reason="mistake",
                    actor=MAKER,
                    idempotency_key=next_key(),
                )
        except BillingError as error:
            is_possible = len(sequences) == 1 and 0 < (amount or 1) <= credit
            assert not is_possible, error  # noqa: PT017 - both refuse, or neither
        else:
            taken = credit - self.look().credit[payment.reference]
            assert taken == amount or amount is None
            payment.reverse(self.money_reversed(payment, taken))

    def review(self, pick: int, *, accepts: bool) -> None:
        world = chosen(self.worlds, pick)
        payment = self.payment_of(world)
        with self.sessions() as session:
            waiting = reviews_of(session, payment_id=world.payment_id, actor=MAKER).waiting
        if not waiting:
            return
        case = chosen(waiting, pick).case
        about: dict[str, Any] = {
            "payment_id": world.payment_id,
            "case_id": case.id,
            "reason": "Seen",
        }
        assert case.gateway_payment_id is not None
        assert case.amount is not None
        money = next(one for one in world.moneys if one.name == case.gateway_payment_id)
        if not accepts:
            with self.sessions.begin() as session:
                reject_payment(session, **about, actor=MAKER)
            payment.reject_money(money.name, case.amount.micros)
        elif self.accept(about):
            payment.accept_money(money.name, case.amount)
        else:
            has_failed = money.state is GatewayPaymentState.FAILED
            assert has_failed or payment.is_credited or payment.is_going_back(money.name)

    def accept(self, about: dict[str, Any]) -> bool:
        try:
            with self.sessions.begin() as session:
                request_acceptance(session, **about, actor=MAKER)
            with self.sessions.begin() as session:
                approve_payment(session, **about, actor=CHECKER)
        except BillingError:
            return False
        return True

    def send_money_back(self, pick: int) -> None:
        """Finance sends rejected money back by itself."""
        owing = [world for world in self.worlds if self.payment_of(world).owed]
        if not owing:
            return
        world = chosen(owing, pick)
        with self.sessions.begin() as session:
            reviews = reviews_of(session, payment_id=world.payment_id, actor=MAKER)
            review = chosen([one for one in reviews.decided if one.return_state == "due"], pick)
            record_return(session, review_id=review.review_id, reference="FT 1", actor=MAKER)
        assert review.gateway_payment_id is not None
        self.payment_of(world).send_back(review.gateway_payment_id)

    @rule(
        pick=PICKS,
        part=st.sampled_from(PARTS),
        kind=st.sampled_from(("spend", "spend", "undo", "hold", "void", "top up")),
    )
    def use_credit(self, pick: int, part: str, kind: str) -> None:
        """Credit is spent and held, freed again, and other credit arrives that pays what is due."""
        amount = part_of(self.place.credit, part)
        if kind == "spend":
            self.spend(amount)
        elif kind == "undo":
            self.reverse_charge(pick)
        elif kind == "hold":
            self.hold(amount)
        elif kind == "void":
            self.void_holds()
        else:
            with self.sessions.begin() as session:
                grant(session, self.place.account_id, amount.to_decimal())
            self.account.granted += amount.micros

    def spend(self, amount: Money) -> None:
        with self.sessions.begin() as session:
            outcome = charge(
                session,
                self.place.account_id,
                amount.to_decimal(),
                occurred_at=self.now,
                refusable=False,
            )
        assert outcome.entry_sequence is not None
        self.charges.append((outcome.entry_sequence, amount.micros))
        self.account.charged += amount.micros

    def reverse_charge(self, pick: int) -> None:
        if not self.charges:
            return
        sequence, amount = self.charges.pop(pick % len(self.charges))
        with self.sessions.begin() as session:
            ledger.reverse_entry(
                session,
                account_id=self.place.account_id,
                entry_sequence=sequence,
                reason="mistake",
                actor=SYSTEM,
                idempotency_key=next_key(),
            )
        self.account.charged -= amount

    def hold(self, amount: Money) -> None:
        is_allowed = self.account.may_hold(self.found.balance, amount.micros)
        with self.sessions.begin() as session:
            outcome = ledger.place_hold(
                session,
                account_id=self.place.account_id,
                service="ai-inference",
                source="test",
                amount_micros=amount.micros,
                expires_at=self.now + timedelta(days=900),
                actor=SYSTEM,
                idempotency_key=next_key(),
            )
        assert (outcome.hold_number is not None) is is_allowed
        self.account.held += amount.micros if is_allowed else 0

    def void_holds(self) -> None:
        rows = self.read("SELECT hold_number FROM open_holds WHERE account_id = :id ORDER BY 1")
        with self.sessions.begin() as session:
            for row in rows:
                ledger.void_hold(
                    session,
                    account_id=self.place.account_id,
                    hold_number=row.hold_number,
                    actor=SYSTEM,
                    idempotency_key=next_key(),
                )
        self.account.held = 0

    # ── The gateway's part ───────────────────────────────────────────────────────────────────

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}-{self.names}"

    def payment_of(self, world: World) -> model.Payment:
        return self.account.payments[self.worlds.index(world)]

    def world_of(self, reference: str) -> World:
        return next(world for world in self.worlds if world.reference == reference)

    def moneys(self, state: GatewayPaymentState) -> list[tuple[World, Taken]]:
        return [
            (world, money)
            for world in self.worlds
            for money in world.moneys
            if money.state is state
        ]

    def is_ours(self, world: World, money: Taken) -> bool:
        """Whether this is, or is about to be, the money of the payment's credit."""
        payment = self.payment_of(world)
        is_first = world.is_clear() and money is world.moneys[0]
        return payment.money == money.name if payment.is_credited else is_first

    def own_refunds(self) -> list[tuple[World, GatewayRefund]]:
        return [
            (world, refund)
            for world in self.worlds
            for refund in world.refunds
            if not refund.is_reversal
        ]

    def all_disputes(self) -> list[tuple[World, GatewayDispute]]:
        return [(world, dispute) for world in self.worlds for dispute in world.disputes]

    def make_refund(
        self,
        world: World,
        *,
        money: str,
        amount: Money,
        state: RefundState,
        reference: str | None = None,
        is_reversal: bool = False,
    ) -> None:
        refund = GatewayRefund(
            self.name("refund"), money, amount, state, reference, is_reversal, self.now
        )
        world.refunds.append(refund)
        self.pool.append(self.refund_update(world, refund))

    def payment_update(self, world: World, money: Taken) -> PaymentUpdate:
        return PaymentUpdate(
            money.state,
            reference=world.reference,
            gateway_payment_id=money.name,
            amount=money.amount,
            fee=money.fee,
        )

    def refund_update(self, world: World, refund: GatewayRefund) -> RefundUpdate:
        return RefundUpdate(
            refund.name,
            refund.state,
            refund.amount,
            gateway_payment_id=refund.money,
            payment_reference=world.reference if self.habits.names_payments else None,
            reference=refund.reference if self.habits.names_our_refunds else None,
            is_reversal=refund.is_reversal,
            stated_at=refund.stated_at if self.habits.tells_times else None,
        )

    def dispute_update(self, world: World, dispute: GatewayDispute) -> DisputeUpdate:
        return DisputeUpdate(
            dispute.name,
            dispute.state,
            dispute.amount,
            lost=dispute.lost,
            fee=dispute.fee,
            gateway_payment_id=dispute.money,
            payment_reference=world.reference if self.habits.names_payments else None,
            occurred_at=dispute.stated_at,
            stated_at=dispute.stated_at if self.habits.tells_times else None,
        )

    def snapshot(self, world: World, known: str | None) -> Snapshot:
        """Return the present truth: of the money that we know, or of the first that was paid."""
        about = [one for one in world.moneys if one.name == known] or world.moneys[:1]
        if not about:
            return Snapshot(PaymentUpdate(GatewayPaymentState.OPEN, reference=world.reference))
        name = about[0].name
        refunds = [one for one in world.refunds if one.money == name and not one.is_reversal]
        if self.habits.tells_latest_refund_only:
            refunds = refunds[-1:]
        disputes = [one for one in world.disputes if one.money == name]
        return Snapshot(
            self.payment_update(world, about[0]),
            tuple(replace(self.refund_update(world, one), stated_at=None) for one in refunds),
            tuple(replace(self.dispute_update(world, one), stated_at=None) for one in disputes),
        )

    # ── Both sides of a step ─────────────────────────────────────────────────────────────────

    def tell(self, update: GatewayUpdate, times: int) -> None:
        """Keep a statement for any time later, and deliver it so many times at once."""
        self.pool.append(update)
        for _ in range(times):
            self.apply(update)

    def tell_last(self, times: int) -> None:
        for _ in range(times):
            self.apply(self.pool[-1])

    def apply(self, *updates: GatewayUpdate) -> None:
        for update in updates:
            note(f"{self.now:%H:%M:%S} told {shown(update)}")
        if updates:
            with self.sessions.begin() as session:
                apply_updates(session, gateway=self.gateway, updates=updates, actor=GATEWAYS)
        for update in updates:
            self.account.state(update)

    def apply_all(self, updates: Sequence[GatewayUpdate]) -> None:
        """Take in several: at once, where no payment is named by what one of them tells first."""
        if self.habits.names_payments:
            self.apply(*updates)
        else:
            for update in updates:
                self.apply(update)

    def ask(self, world: World) -> None:
        check_payment(
            self.sessions, gateway=self.gateway, payment_id=world.payment_id, actor=GATEWAYS
        )
        self.take_answers()

    def take_answers(self) -> None:
        """Give the model what the gateway answered meanwhile."""
        for kind, answer in self.gateway.answers:
            if kind == "snapshot":
                world, snapshot = answer
                note(f"{self.now:%H:%M:%S} answered {snapshot_shown(snapshot)}")
                self.account.answer(self.payment_of(world), snapshot, self.now)
            elif kind == "fact":
                note(f"{self.now:%H:%M:%S} answered {shown(answer)}")
                self.account.state(answer)
            else:
                for payment in self.account.payments:
                    payment.refuse_refund(answer)
        self.gateway.answers.clear()

    # ── What is found ────────────────────────────────────────────────────────────────────────

    def read(self, query: str, **parameters: Any) -> list[Any]:
        given = {"id": self.place.account_id, **parameters}
        return list(self.connection.execute(text(query), given).all())

    def look(self) -> Found:
        """Return how everything stands, by one question that the server has planned before."""
        answer = self.connection.exec_driver_sql(
            "EXECUTE payment_machine(%s)", (self.place.account_id,)
        ).scalar_one()
        journal = {(code, currency): amount for code, currency, amount in answer["journal"]}
        balance, held, due, status = answer["account"]
        return Found(balance, held, due, status, answer["credit"], answer["excess"], journal)

    def reference_of(self, refund_id: int) -> str:
        query = "SELECT reference FROM refunds WHERE account_id = :id AND id = :refund"
        return str(self.read(query, refund=refund_id)[0].reference)

    def waiting_refunds(self) -> list[int]:
        query = "SELECT id FROM refunds WHERE account_id = :id AND state = 'requested' ORDER BY id"
        return [row.id for row in self.read(query)] if self.has_waiting() else []

    def has_waiting(self) -> bool:
        return any(
            refund.state == "requested"
            for payment in self.account.payments
            for refund in payment.refunds
        )

    def granting_entries(self, payment: model.Payment) -> list[int]:
        query = (
            "SELECT c.entry_sequence FROM payment_credits c JOIN payments p ON p.id = c.payment_id"
            " JOIN entries e ON e.account_id = c.account_id"
            " AND e.account_sequence = c.entry_sequence"
            " WHERE c.account_id = :id AND p.reference = :reference AND c.credit_micros > 0"
            " AND e.kind = 'top_up' ORDER BY 1"
        )
        rows = self.read(query, reference=payment.reference)
        return [row.entry_sequence for row in rows]

    def money_reversed(self, payment: model.Payment, credit: int) -> int:
        """Return the money of credit that was reversed just now."""
        if not self.place.is_foreign:
            return credit
        found = payment.credited - self.money_left(payment)
        received, whole = payment.received, self.credit_bought(payment)
        assert abs(found * whole - credit * received) <= 2 * whole
        return found

    def money_left(self, payment: model.Payment) -> int:
        others = sum(one.credited for one in self.account.payments if one is not payment)
        return -self.look().journal.get(("1900", self.place.pay_currency), 0) - others

    # ── What must hold ───────────────────────────────────────────────────────────────────────

    @invariant()
    def check(self) -> None:
        if self.worlds:
            self.found = self.look()
            self.check_credit()
            self.check_books()

    def check_credit(self) -> None:
        credit = self.found.credit
        for payment in self.account.payments:
            self.check_share(payment, credit[payment.reference])
            assert self.found.excess.get(payment.reference, 0) == payment.excess
        balance = self.account.balance(sum(credit.values()))
        status = "frozen" if self.account.is_frozen else "active"
        requested = (balance, self.account.held, self.account.amount_due(balance), status)
        found = (self.found.balance, self.found.held, self.found.due, self.found.status)
        assert found == requested, f"found {found}, not {requested}"

    def check_share(self, payment: model.Payment, credit: int) -> None:
        """The credit of a payment is that of its money: to the micro, and to nothing at the end."""
        if not payment.credited or not self.place.is_foreign:
            assert credit == payment.credited, f"{credit}, not {payment.credited}"
            return
        whole, exact = payment.received, payment.credited * self.credit_bought(payment)
        assert abs(credit * whole - exact) <= 1_000_000 * whole

    def credit_bought(self, payment: model.Payment) -> int:
        """Return the credit of all that came: finance may have accepted less than was asked for."""
        asked = self.worlds[self.account.payments.index(payment)].asked
        return self.place.credit.micros * payment.received // asked.micros

    def check_books(self) -> None:
        journal, expected = self.found.journal, defaultdict[tuple[str, str], int](int)
        currency = self.place.pay_currency
        totals: dict[str, int] = defaultdict(int)
        for (_, of), amount in journal.items():
            totals[of] += amount
        assert not any(totals.values()), dict(totals)
        for payment in self.account.payments:
            for code, amount in payment.books().items():
                name = f"1110.{self.place.gateway}" if code == "clearing" else code
                expected[name, currency] += amount
        if self.place.is_foreign:
            expected["1900", currency] = -sum(one.credited for one in self.account.payments)
            expected["1900", self.place.credit.currency] = sum(self.found.credit.values())
        names = {f"1110.{self.place.gateway}", "1120", "2150", "6100", "6110", "1900"}
        found = {key: amount for key, amount in journal.items() if key[0] in names and amount}
        requested = {key: amount for key, amount in expected.items() if amount}
        assert found == requested, f"found {found}, not {requested}"

    def check_truth(self) -> None:
        """The books of credited payments equal what their gateway has, whatever came before."""
        for world, payment in zip(self.worlds, self.account.payments, strict=True):
            if not payment.is_credited or self.habits.tells_latest_refund_only:
                continue
            refunds = [
                one for one in world.refunds if one.money == payment.money and not one.is_reversal
            ]
            disputes = [one for one in world.disputes if one.money == payment.money]
            gone = sum(one.amount.micros for one in refunds if one.state is RefundState.SUCCEEDED)
            found = sum(
                one.outflow
                for one in payment.refunds
                if payment.concerns_credit(one) and one.state == "succeeded" and not one.is_reversal
            )
            assert found == gone
            is_open = any(one.state is DisputeState.OPEN for one in disputes)
            assert (
                any(one.state == "open" for one in payment.disputes if payment.concerns_credit(one))
                is is_open
            )


def chosen(choices: Sequence[Choice], pick: int) -> Choice:
    return choices[pick % len(choices)]


def part_of(whole: Money, part: str) -> Money:
    coins = whole.to_minor_units()
    parts = {"all": coins, "half": coins // 2, "third": coins // 3, "coin": 1}
    return Money.from_minor_units(parts.get(part, coins + 1), whole.currency)


def shown(update: GatewayUpdate) -> str:
    """Return a statement in a line."""
    names = ("gateway_refund_id", "gateway_dispute_id", "gateway_payment_id", "reference")
    parts = [update.state.value, *(str(getattr(update, name, "-")) for name in names)]
    if update.amount is not None:
        parts.append(f"{update.amount.to_minor_units()} {update.amount.currency}")
    lost, fee = getattr(update, "lost", None), getattr(update, "fee", None)
    parts += [f"lost {lost.to_minor_units()}"] if lost else []
    parts += [f"fee {fee.micros}"] if fee else []
    parts += ["reversal"] if getattr(update, "is_reversal", False) else []
    at = getattr(update, "stated_at", None)
    return " ".join([*parts, f"at {at:%H:%M:%S}" if at else "at no time"])


def snapshot_shown(snapshot: Snapshot) -> str:
    updates: tuple[GatewayUpdate, ...] = (snapshot.payment, *snapshot.refunds, *snapshot.disputes)
    return "; ".join(shown(update) for update in updates)


# ── The runs ──────────────────────────────────────────────────────────────────────────────────
def prepare(engine: Engine, place: Place) -> None:
    """Open the account of a place with two payments that nobody has paid yet."""
    event.listen(engine, "connect", plan_questions)
    with make_sessions(
        engine, {"clock": lambda: MORNING - timedelta(minutes=1)}
    ).begin() as session:
        place.account_id, place.owner = payer(session, site=place.site)
        if place.is_foreign:
            rate_id = request_rate(
                session,
                base_currency=place.pay_currency,
                quote_currency=place.credit.currency,
                rate=Decimal("25391.37"),
                margin_basis_points=150,
                source="bank",
                as_of=MORNING - timedelta(minutes=5),
                actor=MAKER,
            )
            decide_rate(session, rate_id=rate_id, is_approved=True, actor=ADMIN)
        place.payments = [begin_one(session, place) for _ in range(2)]


def begin_one(session: Session, place: Place) -> tuple[int, str, Money]:
    pay, quote_id = place.credit, None
    if place.is_foreign:
        quote = make_quote(
            session,
            account_id=place.account_id,
            credit=place.credit,
            pay_currency=place.pay_currency,
            actor=place.owner,
        )
        pay, quote_id = quote.pay, quote.id
    gateway = ScriptedGateway(place.gateway)
    started = begin(
        session, gateway, place.account_id, place.owner, place.credit, quote_id=quote_id
    )
    return started.payment_id, started.reference, pay


def plan_questions(connection: DBAPIConnection, _record: object) -> None:
    """Have each connection plan once what is asked after every step."""
    with closing(connection.cursor()) as cursor:
        cursor.execute("SET plan_cache_mode = force_generic_plan")
        cursor.execute(_LOOK)
        cursor.execute(_VERIFY)
    connection.commit()


PLACES = {
    "vnpay": ("vn", "VND", 550_001, "VND"),
    "stripe": ("jp", "JPY", 3_001, "JPY"),
    "paypal": ("vn", "VND", 1_000_000, "USD"),
}


def run_histories(database_url: str, gateway: str) -> None:
    """Run a gateway's share of the histories, each from the same account with open payments."""
    site, currency, coins, pay_currency = PLACES[gateway]
    engine = make_engine(database_url)
    place = Place(gateway, site, Money.from_minor_units(coins, currency), pay_currency=pay_currency)
    prepare(engine, place)
    about = {"engine": engine, "place": place}
    machine = type(f"{gateway.title()}Machine", (PaymentMachine,), about)
    count = -(-(_FUZZ or _HISTORIES) // len(PLACES))
    profile = settings(max_examples=count, stateful_step_count=10, derandomize=not _FUZZ, **_SHARED)
    with pytest.MonkeyPatch.context() as patch:
        # Hypothesis draws some choices from the constants of all modules that are loaded: which
        # histories are the fixed ones would depend on the tests that ran before in this process.
        patch.setattr(HypothesisProvider, "_maybe_draw_constant", lambda *_, **__: None)
        run_state_machine_as_test(machine, settings=profile)
    engine.dispose()
