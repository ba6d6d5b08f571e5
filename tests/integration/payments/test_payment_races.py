"""The same news at once, news that contradict each other, and people beside them: one truth."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from db.models import Payment
from domain import ledger
from domain.actors import StaffRole, user_actor
from domain.errors import Conflict
from domain.gateways.interface import (
    GatewayPaymentState,
    InboundMessage,
    Outcome,
    PaymentUpdate,
    Snapshot,
)
from domain.money import Money
from domain.payments import check_payment, give_up, process_webhook
from domain.payments.gateway_updates import apply_updates
from domain.payments.reviews import approve_payment, reject_payment, request_acceptance, reviews_of
from tests.factories import SYSTEM
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, payer
from tests.support.gateway_shops import VAULT, PaypalShop, StripeShop, VnpayShop, identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from sandbox.paypal_certificates import Identity

__all__ = ["identity"]

AT_ONCE = 20
MAKER = user_actor(900, staff_role=StaffRole.FINANCE)
CHECKER = user_actor(901, staff_role=StaffRole.FINANCE)
OTHER = user_actor(902, staff_role=StaffRole.FINANCE)


# ── Three gateways, and their signed messages ─────────────────────────────────────────────────


Shop = VnpayShop | StripeShop | PaypalShop
HISTORIES: dict[str, list[tuple[str, ...]]] = {
    "vnpay": [("paid",), ("failed", "paid"), ("under review", "paid")],
    "stripe": [
        ("paid", "paid again"),
        ("expired", "paid"),
        ("paid", "refunded", "refund failed"),
        ("paid", "disputed", "lost"),
        ("paid", "disputed", "won"),
    ],
    "paypal": [
        ("approved", "pending", "paid"),
        ("paid", "refunded"),
        ("paid", "reversed", "disputed", "lost"),
        ("paid", "disputed", "reversed", "won"),
        ("paid", "denied"),
    ],
}
LEFT = {
    "refunded": 3_000,
    "lost": 0,
    "denied": 0,
}
"""What is left of a payment of 5,000 after its last update; all of it otherwise."""


@dataclass
class Race:
    """A payment that was begun, and everything that is done to it at once."""

    sessions: sessionmaker[Session]
    shop: Shop
    account: int = 0
    owner: Actor = SYSTEM
    references: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        with self.sessions.begin() as session:
            self.account, self.owner = payer(session, site=self.shop.site)

    def begin(self) -> str:
        with self.sessions.begin() as session:
            started = begin(
                session, self.shop.gateway(), self.account, self.owner, self.shop.credit
            )
        self.references.append(started.reference)
        return started.reference

    def deliver(self, messages: Sequence[InboundMessage]) -> Counter[Outcome]:
        """Deliver all of them in the same instant, each by a process of its own."""
        gateway, barrier = self.shop.gateway(), Barrier(len(messages))
        # A process that runs knows PayPal's certificate: of many messages with one that is not
        # known, most are refused at once, and come again.
        gateway.parse_webhook(messages[0])

        def take(message: InboundMessage) -> Outcome:
            barrier.wait()
            outcome, _ = process_webhook(
                self.sessions, gateway=gateway, message=message, vault=VAULT
            )
            return outcome

        with ThreadPoolExecutor(len(messages)) as threads:
            return Counter(threads.map(take, messages))

    def state(self) -> tuple[int, int, str]:
        """Return grants by a payment, the balance in coins, and the account's status."""
        query = text(
            "SELECT (SELECT count(*) FROM payments p WHERE p.account_id = a.id"
            "   AND p.entry_sequence IS NOT NULL) AS credited, b.balance_micros, a.status"
            " FROM accounts a JOIN account_balances b ON b.account_id = a.id WHERE a.id = :id"
        )
        with self.sessions() as session:
            assert ledger.verify_ledger(session, actor=SYSTEM) == []
            row = session.execute(query, {"id": self.account}).one()
        balance = Money(int(row.balance_micros), self.shop.credit.currency)
        return row.credited, balance.to_minor_units(), row.status


def make_shop(gateway: str, identity: Identity) -> Shop:
    if gateway == "paypal":
        return PaypalShop(identity)
    return VnpayShop() if gateway == "vnpay" else StripeShop()


# ── The same news at once ─────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("gateway", "updates"),
    [(gateway, updates) for gateway, rows in HISTORIES.items() for updates in rows],
    ids=lambda value: value if isinstance(value, str) else "-".join(value).replace(" ", "_"),
)
def test_update_told_twenty_times_at_once_acts_once(
    sessions: sessionmaker[Session],
    identity: Identity,
    gateway: str,
    updates: tuple[str, ...],
) -> None:
    race = Race(sessions, make_shop(gateway, identity))
    reference = race.begin()
    for update in updates:
        outcomes = race.deliver([race.shop.message(update, reference)] * AT_ONCE)
        assert set(outcomes) <= {Outcome.RECORDED, Outcome.REPEATED}
        # What only has the gateway asked changes nothing, however often it is recorded.
        assert update == "approved" or outcomes[Outcome.RECORDED] <= 1
        assert update != "disputed" or race.state()[2] == "frozen"
    whole = race.shop.credit.to_minor_units()
    assert race.state() == (1, LEFT.get(updates[-1], whole), "active")


@pytest.mark.parametrize("gateway", ["stripe", "paypal"])
def test_all_updates_at_once_end_as_the_newest_says(
    sessions: sessionmaker[Session], identity: Identity, gateway: str
) -> None:
    race = Race(sessions, make_shop(gateway, identity))
    reference = race.begin()
    messages = [race.shop.message(name, reference) for name in ("paid", "disputed", "won")] * 6
    outcomes = race.deliver(messages)
    assert outcomes[Outcome.UNAVAILABLE] == 0
    # A gateway comes again for what could not be placed yet.
    for name in ("disputed", "won", "disputed"):
        race.deliver([race.shop.message(name, reference)])
    assert race.state() == (1, race.shop.credit.to_minor_units(), "active")


# ── Webhook, question, return page and people ─────────────────────────────────────────────────
@dataclass
class Crowd:
    """A payment under review at a gateway that calls it paid, and who acts on it at once."""

    sessions: sessionmaker[Session]
    gateway: ScriptedGateway = field(default_factory=ScriptedGateway)

    def __post_init__(self) -> None:
        self.credit = dong(550_000)
        with self.sessions.begin() as session:
            self.account, self.owner = payer(session)
            started = begin(session, self.gateway, self.account, self.owner, self.credit)
        self.payment_id, self.reference = started.payment_id, started.reference
        self.money = f"money-of-{self.reference}"

    def update(self, state: GatewayPaymentState) -> PaymentUpdate:
        return PaymentUpdate(
            state,
            reference=self.reference,
            gateway_payment_id=self.money,
            amount=self.credit,
        )

    def hear(self, update: PaymentUpdate) -> None:
        with self.sessions.begin() as session:
            apply_updates(session, gateway=self.gateway, updates=(update,), actor=GATEWAYS)

    def ask(self, actor: Actor) -> None:
        check_payment(self.sessions, gateway=self.gateway, payment_id=self.payment_id, actor=actor)

    def cancel(self) -> None:
        with self.sessions.begin() as session:
            give_up(session, reference=self.reference, actor=self.owner)

    def decide(self, action: Any, actor: Actor, case: int) -> None:
        with self.sessions.begin() as session:
            action(
                session,
                payment_id=self.payment_id,
                case_id=case,
                reason="Seen",
                actor=actor,
            )

    def case(self) -> int:
        with self.sessions() as session:
            reviews = reviews_of(session, payment_id=self.payment_id, actor=MAKER)
        return reviews.waiting[0].case.id

    def balance(self) -> int:
        query = text("SELECT balance_micros FROM account_balances WHERE account_id = :id")
        with self.sessions() as session:
            micros = int(session.execute(query, {"id": self.account}).scalar_one())
        return Money(micros, "VND").to_minor_units()

    def state(self) -> str:
        with self.sessions() as session:
            return session.scalars(select(Payment.state).where(Payment.id == self.payment_id)).one()


def run_together(acts: Sequence[Callable[[], None]]) -> None:
    """Do all of them in the same instant; a refusal is an answer, whatever else is an error."""
    barrier = Barrier(len(acts))

    def run(act: Callable[[], None]) -> None:
        barrier.wait()
        with suppress(Conflict):
            act()

    with ThreadPoolExecutor(len(acts)) as threads:
        for outcome in [threads.submit(run, act) for act in acts]:
            outcome.result()


@pytest.fixture
def crowd(sessions: sessionmaker[Session]) -> Iterator[Crowd]:
    made = Crowd(sessions)
    yield made
    with sessions() as session:
        assert ledger.verify_ledger(session, actor=SYSTEM) == []


@pytest.mark.parametrize("attempt", range(5))
def test_payment_paid_by_webhook_question_and_return_page_is_credited_once(
    crowd: Crowd, attempt: int
) -> None:
    crowd.gateway.snapshot = Snapshot(crowd.update(GatewayPaymentState.PAID))
    acts: list[Callable[[], None]] = [
        lambda: crowd.hear(crowd.update(GatewayPaymentState.PAID)),
        lambda: crowd.ask(GATEWAYS),
        lambda: crowd.ask(crowd.owner),
        crowd.cancel,
    ]
    run_together(acts[attempt % 4 :] * 3 + acts[: attempt % 4] * 3)
    assert (crowd.state(), crowd.balance()) == ("succeeded", 550_000)


@pytest.mark.parametrize("attempt", range(5))
def test_payment_under_review_accepted_while_the_gateway_calls_it_paid_is_credited_once(
    crowd: Crowd, attempt: int
) -> None:
    crowd.hear(crowd.update(GatewayPaymentState.UNDER_REVIEW))
    case = crowd.case()
    crowd.decide(request_acceptance, MAKER, case)
    crowd.gateway.snapshot = Snapshot(crowd.update(GatewayPaymentState.PAID))
    acts: list[Callable[[], None]] = [
        lambda: crowd.hear(crowd.update(GatewayPaymentState.PAID)),
        lambda: crowd.ask(GATEWAYS),
        lambda: crowd.ask(crowd.owner),
        crowd.cancel,
        lambda: crowd.decide(approve_payment, CHECKER, case),
        lambda: crowd.decide(approve_payment, OTHER, case),
    ]
    run_together(acts[attempt:] + acts[:attempt] + acts)
    assert (crowd.state(), crowd.balance()) == ("succeeded", 550_000)


@pytest.mark.parametrize("attempt", range(5))
def test_payment_rejected_while_the_gateway_calls_it_paid_is_credited_or_owed_never_both(
    crowd: Crowd, attempt: int
) -> None:
    crowd.hear(crowd.update(GatewayPaymentState.UNDER_REVIEW))
    case = crowd.case()
    crowd.gateway.snapshot = Snapshot(crowd.update(GatewayPaymentState.PAID))
    acts: list[Callable[[], None]] = [
        lambda: crowd.decide(reject_payment, MAKER, case),
        lambda: crowd.decide(reject_payment, CHECKER, case),
        lambda: crowd.hear(crowd.update(GatewayPaymentState.PAID)),
        lambda: crowd.ask(GATEWAYS),
    ]
    run_together(acts[attempt % 4 :] + acts[: attempt % 4] + acts)
    with crowd.sessions() as session:
        reviews = reviews_of(session, payment_id=crowd.payment_id, actor=MAKER)
    rejected = [one for one in reviews.decided if one.state == "rejected"]
    if rejected:
        assert (len(rejected), crowd.state(), crowd.balance()) == (1, "failed", 0)
        assert rejected[0].return_state == "due"
    else:
        assert (crowd.state(), crowd.balance()) == ("succeeded", 550_000)


# ── Two disputes ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("end", ["won", "lost"])
@pytest.mark.parametrize("gateway", ["stripe", "paypal"])
def test_two_disputes_of_an_account_at_once_meet_no_deadlock(
    sessions: sessionmaker[Session], identity: Identity, gateway: str, end: str
) -> None:
    race = Race(sessions, make_shop(gateway, identity))
    whole = race.shop.credit.to_minor_units()
    for attempt in range(1, 7):
        pair = [race.begin(), race.begin()]
        for reference in pair:
            race.deliver([race.shop.message("paid", reference)])
        for update, status in (("disputed", "frozen"), (end, "active")):
            messages = [race.shop.message(update, reference) for reference in pair]
            assert race.deliver(messages) == {Outcome.RECORDED: 2}
            assert race.state()[2] == status
        credited = 2 * attempt
        assert race.state() == (credited, credited * whole if end == "won" else 0, "active")


def test_webhooks_for_an_unknown_payment_at_once_are_kept_for_later(
    sessions: sessionmaker[Session], identity: Identity
) -> None:
    race = Race(sessions, make_shop("stripe", identity))
    early = race.shop.message("paid", "ABCDEFGHJKLMNPQRSTUV")
    outcomes = race.deliver([early] * AT_ONCE)
    assert outcomes == {Outcome.UNKNOWN_PAYMENT: AT_ONCE}
    assert race.state() == (0, 0, "active")


def test_same_money_for_two_payments_at_once_is_credited_to_one(
    sessions: sessionmaker[Session], identity: Identity
) -> None:
    race = Race(sessions, make_shop("vnpay", identity))
    messages = [race.shop.message("paid", race.begin()) for _ in range(2)]
    race.deliver(messages * 4)
    # A gateway comes again for what could not be written.
    outcomes = race.deliver(messages)
    assert outcomes[Outcome.UNAVAILABLE] == 0
    assert race.state() == (1, 500_000, "active")
