"""The same news at once, news that contradict each other, and people beside them: one truth."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import stripe
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
from domain.gateways.paypal.client import PayPal
from domain.gateways.paypal.settings import PayPalSettings
from domain.gateways.stripe.client import StripeCheckout
from domain.gateways.stripe.settings import StripeSettings
from domain.gateways.vnpay.client import VNPay
from domain.gateways.vnpay.fields import hash_data, sign
from domain.gateways.vnpay.settings import VNPaySettings
from domain.money import Money
from domain.payments import check_payment, give_up, process_webhook
from domain.payments.gateway_updates import apply_updates
from domain.payments.reviews import (
    approve_payment,
    reject_payment,
    request_acceptance,
    reviews_of,
)
from domain.security.payload_encryption import Vault
from sandbox.paypal_certificates import load_or_make
from tests.factories import SYSTEM
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, payer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cryptography import x509
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.gateways.interface import Gateway
    from sandbox.paypal_certificates import Identity

AT_ONCE = 20
VAULT = Vault(b"the-secret-key-of-these-tests-0123456789")
MAKER = user_actor(900, staff_role=StaffRole.FINANCE)
CHECKER = user_actor(901, staff_role=StaffRole.FINANCE)
OTHER = user_actor(902, staff_role=StaffRole.FINANCE)


# ── Three gateways, and their signed messages ─────────────────────────────────────────────────
@dataclass
class VnpayShop:
    """VNPay tells by IPN how a payment went, and nothing of what follows."""

    site: str = "vn"
    credit: Money = field(default_factory=lambda: dong(500_000))
    settings: VNPaySettings = field(
        default_factory=lambda: VNPaySettings(
            "TESTTMN1",
            "secret-of-tests",
            "https://pay.example.com",
            "https://api.example.com",
            is_sandbox=False,
        )
    )

    def gateway(self) -> Gateway:
        return VNPay(self.settings)

    def message(self, update: str, reference: str) -> InboundMessage:
        codes = {"paid": "00", "failed": "24", "under review": "07"}
        status = {"paid": "00", "failed": "02", "under review": "07"}
        given = {
            "vnp_TmnCode": self.settings.tmn_code,
            "vnp_Amount": str(self.credit.to_minor_units() * 100),
            "vnp_PayDate": "20260115093312",
            "vnp_ResponseCode": codes[update],
            "vnp_TransactionNo": "0" if update == "failed" else "14422574",
            "vnp_TransactionStatus": status[update],
            "vnp_TxnRef": reference,
        }
        signature = sign(self.settings.hash_secret, hash_data(given.items()))
        pairs = [*given.items(), ("vnp_SecureHash", signature)]
        return InboundMessage("GET", {}, pairs, urlencode(pairs), b"", datetime.now(UTC))


@dataclass
class StripeShop:
    """Stripe tells of sessions, refunds and disputes, each event in its second."""

    site: str = "jp"
    credit: Money = field(default_factory=lambda: Money.from_minor_units(5_000, "JPY"))
    secret: str = "whsec_ofTheseTests"

    def gateway(self) -> Gateway:
        settings = StripeSettings(
            "sk_test_x", (self.secret,), "https://api.example.com", is_sandbox=True
        )
        return StripeCheckout(settings)

    def message(self, update: str, reference: str) -> InboundMessage:
        events: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
            "paid": ("checkout.session.completed", self.session),
            "paid again": ("payment_intent.succeeded", self.intent),
            "expired": ("checkout.session.expired", self.session),
            "refunded": ("refund.created", self.refund),
            "refund failed": ("refund.failed", self.refund),
            "disputed": ("charge.dispute.created", self.dispute),
            "lost": ("charge.dispute.closed", self.dispute),
            "won": ("charge.dispute.closed", self.dispute),
        }
        second = list(events).index(update)
        kind, describe = events[update]
        about = describe(reference) | self.changes(update)
        event = {
            "id": f"evt_{second}_{reference}",
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": 1_768_450_000 + second,
            "data": {"object": about},
            "livemode": False,
            "type": kind,
        }
        body = json.dumps(event).encode()
        header: str = stripe.WebhookSignature.generate_signature_header(
            body.decode(), self.secret, timestamp=int(time.time())
        )
        return InboundMessage("POST", {"stripe-signature": header}, (), "", body, datetime.now(UTC))

    def changes(self, update: str) -> dict[str, Any]:
        changes: dict[str, dict[str, Any]] = {
            "expired": {"payment_status": "unpaid", "status": "expired", "payment_intent": None},
            "refund failed": {"status": "failed"},
            "lost": {"status": "lost"},
            "won": {"status": "won"},
        }
        return changes.get(update, {})

    def session(self, reference: str) -> dict[str, Any]:
        return {
            "id": f"cs_test_{reference}",
            "object": "checkout.session",
            "amount_total": self.credit.to_minor_units(),
            "client_reference_id": reference,
            "currency": "jpy",
            "expires_at": int((datetime.now(UTC) + timedelta(hours=2)).timestamp()),
            "metadata": {"payment_reference": reference},
            "payment_intent": f"pi_{reference}",
            "payment_method_options": {},
            "payment_method_types": ["card"],
            "payment_status": "paid",
            "status": "complete",
        }

    def intent(self, reference: str) -> dict[str, Any]:
        return {
            "id": f"pi_{reference}",
            "object": "payment_intent",
            "amount": self.credit.to_minor_units(),
            "amount_received": self.credit.to_minor_units(),
            "currency": "jpy",
            "last_payment_error": None,
            "latest_charge": f"ch_{reference}",
            "metadata": {"payment_reference": reference},
            "status": "succeeded",
        }

    def refund(self, reference: str) -> dict[str, Any]:
        return {
            "id": f"re_{reference}",
            "object": "refund",
            "amount": 2_000,
            "created": 1_768_449_000,
            "currency": "jpy",
            "metadata": {},
            "payment_intent": f"pi_{reference}",
            "status": "succeeded",
        }

    def dispute(self, reference: str) -> dict[str, Any]:
        return {
            "id": f"du_{reference}",
            "object": "dispute",
            "amount": self.credit.to_minor_units(),
            "balance_transactions": [],
            "created": 1_768_449_000,
            "currency": "jpy",
            "evidence_details": {"due_by": 1_769_050_000},
            "metadata": {},
            "payment_intent": f"pi_{reference}",
            "reason": "fraudulent",
            "status": "needs_response",
        }


@dataclass
class Certificates:
    """The certificate that these messages are signed with, and its root."""

    identity: Identity

    def fetch(self, url: str) -> bytes:
        assert self.identity.name in url
        return self.identity.certificate_pem()

    def anchors(self) -> Sequence[x509.Certificate]:
        return [self.identity.root]


@dataclass
class PaypalShop:
    """PayPal tells of captures, refunds, reversals and disputes."""

    identity: Identity
    site: str = "global"
    credit: Money = field(default_factory=lambda: Money.from_minor_units(5_000, "USD"))

    def gateway(self) -> Gateway:
        settings = PayPalSettings(
            client_id="client",
            client_secret="secret",
            webhook_id="1JE4291016473214C",
            api_base="https://api.example.com",
            is_sandbox=True,
            brand_name="Credit Portal",
        )
        return PayPal(settings, Certificates(self.identity))

    def message(self, update: str, reference: str) -> InboundMessage:
        events: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
            "approved": ("CHECKOUT.ORDER.APPROVED", self.order),
            "pending": ("PAYMENT.CAPTURE.PENDING", self.capture),
            "paid": ("PAYMENT.CAPTURE.COMPLETED", self.capture),
            "refunded": ("PAYMENT.CAPTURE.REFUNDED", self.refund),
            "reversed": ("PAYMENT.CAPTURE.REVERSED", self.refund),
            "disputed": ("CUSTOMER.DISPUTE.CREATED", self.dispute),
            "lost": ("CUSTOMER.DISPUTE.RESOLVED", self.dispute),
            "won": ("CUSTOMER.DISPUTE.RESOLVED", self.dispute),
            "denied": ("PAYMENT.CAPTURE.DENIED", self.capture),
        }
        second = list(events).index(update)
        moment = f"2026-01-15T02:33:{second:02}Z"
        kind, describe = events[update]
        about = {"update_time": moment} | describe(reference) | self.changes(update)
        event = {
            "id": f"WH-{second}-{reference}",
            "event_type": kind,
            "create_time": moment,
            "resource": about,
        }
        body = json.dumps(event).encode()
        sent_at = datetime.now(UTC).isoformat()
        headers = {
            "paypal-transmission-id": f"t-{second}-{reference}",
            "paypal-transmission-time": sent_at,
            "paypal-transmission-sig": self.identity.sign(
                f"t-{second}-{reference}", sent_at, "1JE4291016473214C", body
            ),
            "paypal-cert-url": "https://api.sandbox.paypal.com/v1/notifications/certs/"
            + self.identity.name,
            "paypal-auth-algo": "SHA256withRSA",
        }
        return InboundMessage("POST", headers, (), "", body, datetime.now(UTC))

    def changes(self, update: str) -> dict[str, Any]:
        def resolved(outcome: str) -> dict[str, Any]:
            return {"status": "RESOLVED", "dispute_outcome": {"outcome_code": outcome}}

        changes: dict[str, dict[str, Any]] = {
            "pending": {"status": "PENDING"},
            "denied": {"status": "DECLINED"},
            "reversed": {"id": "REVERSAL1", "amount": self.amount()},
            "lost": resolved("RESOLVED_BUYER_FAVOUR"),
            "won": resolved("RESOLVED_SELLER_FAVOUR"),
        }
        return changes.get(update, {})

    def amount(self, cents: int | None = None) -> dict[str, str]:
        count = self.credit.to_minor_units() if cents is None else cents
        return {"currency_code": "USD", "value": f"{count // 100}.{count % 100:02}"}

    def order(self, reference: str) -> dict[str, Any]:
        unit = {"reference_id": "default", "custom_id": reference, "amount": self.amount()}
        return {"id": f"ORDER{reference[:9]}", "status": "APPROVED", "purchase_units": [unit]}

    def capture(self, reference: str) -> dict[str, Any]:
        return {
            "id": f"CAPTURE{reference[:9]}",
            "status": "COMPLETED",
            "amount": self.amount(),
            "custom_id": reference,
        }

    def refund(self, reference: str) -> dict[str, Any]:
        capture = f"https://api.paypal.com/v2/payments/captures/CAPTURE{reference[:9]}"
        return {
            "id": f"REFUND{reference[:9]}",
            "status": "COMPLETED",
            "amount": self.amount(2_000),
            "links": [{"rel": "up", "href": capture}],
        }

    def dispute(self, reference: str) -> dict[str, Any]:
        return {
            "dispute_id": f"PP-D-{reference[:9]}",
            "create_time": "2026-01-15T02:33:05Z",
            "status": "OPEN",
            "dispute_life_cycle_stage": "CHARGEBACK",
            "dispute_amount": self.amount(),
            "disputed_transactions": [
                {
                    "seller_transaction_id": f"CAPTURE{reference[:9]}",
                    "custom": reference,
                    "gross_amount": self.amount(),
                }
            ],
        }


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


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """One certificate for all tests: making it takes long."""
    return load_or_make(tmp_path_factory.mktemp("keys"))


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
