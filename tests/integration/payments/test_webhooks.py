"""What becomes of webhooks besides credit: asking again, evidence, unmatched money, fairness."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.orm import sessionmaker
from starlette.applications import Starlette
from starlette.testclient import TestClient

from db.models import Dispute, GatewayMessage, Payment
from domain import clock
from domain.actors import StaffRole, user_actor
from domain.errors import InvalidInput, NotAuthorised
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    InboundMessage,
    Outcome,
    PaymentUpdate,
    WebhookEvent,
    WebhookRefused,
)
from domain.payments import handle_webhook, unmatched_webhooks, webhooks
from domain.payments.polling import CHECK_FAILED
from domain.payments.records import count_events
from domain.security.payload_encryption import Vault
from portal.routes import payments as routes
from portal.runtime import database
from tests.gateways import ScriptedGateway, paid
from tests.support.begun_payments import CREDIT, VAULT, Begun, begun, ipn, take, vnpay
from tests.support.keys import TEST_VAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from domain.gateways.interface import GatewayUpdate

__all__ = ["begun"]

T = TypeVar("T")
RAISED = "InvalidInput in domain.payments.webhooks._act"
FINANCE = user_actor(5, staff_role=StaffRole.FINANCE)
MESSAGE = InboundMessage("POST", {}, (), "", b"{}", datetime.now(UTC))


@dataclass
class Telling(ScriptedGateway):
    """A gateway whose webhook is what a test says."""

    webhook: WebhookEvent = field(default_factory=lambda: WebhookEvent("event-1", "test"))
    refusal: WebhookRefused | None = None

    def parse_webhook(self, message: InboundMessage) -> WebhookEvent:  # noqa: ARG002 - any
        if self.refusal is not None:
            raise self.refusal
        return self.webhook


def telling(*updates: GatewayUpdate, event_id: str = "event-1") -> Telling:
    return Telling(webhook=WebhookEvent(event_id, "test", updates))


def unmatched(sessions: sessionmaker[Session]) -> list[str]:
    with sessions() as session:
        return [one.event_id for one in unmatched_webhooks(session, actor=FINANCE, limit=10)]


def count(sessions: sessionmaker[Session], **columns: str) -> int:
    with sessions() as session:
        rows = select(func.count()).select_from(GatewayMessage).filter_by(**columns)
        return session.scalars(rows).one()


# ── Disputes ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("state", list(DisputeState))
def test_a_webhook_about_a_dispute_has_the_gateway_asked(begun: Begun, state: DisputeState) -> None:
    begun.apply(paid(begun.reference, CREDIT, number="money-of-it"))
    with begun.sessions.begin() as session:
        session.get_one(Payment, begun.started.payment_id).next_check_at = None
        before = clock.now(session)
    update = DisputeUpdate("dispute-1", state, CREDIT, gateway_payment_id="money-of-it")
    take(begun.sessions, MESSAGE, telling(update))
    asked_at = begun.row().next_check_at
    assert asked_at is not None
    assert before <= asked_at <= before + timedelta(minutes=5)
    with begun.sessions() as session:
        assert session.scalars(select(Dispute)).all() or state.value.startswith("inquiry")


# ── What cannot be processed ──────────────────────────────────────────────────────────────────
def test_a_webhook_that_raises_is_answered_noted_and_taken_when_it_comes_again(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as credit that the account's balance cannot hold: nobody foresaw it, nothing is lost."""
    gateway = telling(paid(begun.reference, CREDIT))

    def refuse(*_args: object, **_values: object) -> None:
        raise InvalidInput("amount", "too_large")

    with begun.sessions.begin() as session:
        session.get_one(Payment, begun.started.payment_id).next_check_at = None
    monkeypatch.setattr(webhooks, "apply_updates", refuse)
    for _again in range(2):
        assert take(begun.sessions, MESSAGE, gateway) is Outcome.UNAVAILABLE
    row = begun.row()
    assert (row.state, row.next_check_at is None) == ("created", False)
    with begun.sessions() as session:
        assert count_events(session, row, CHECK_FAILED, details={"error": RAISED}) == 1
    monkeypatch.undo()
    assert take(begun.sessions, MESSAGE, gateway) is Outcome.RECORDED
    assert begun.row().state == "succeeded"


# ── Money that matches no payment ─────────────────────────────────────────────────────────────
def test_money_of_an_unknown_payment_is_listed(sessions: sessionmaker[Session]) -> None:
    assert take(sessions, ipn("ABCDEFGH")) is Outcome.UNKNOWN_PAYMENT
    with sessions() as session:
        (found,) = unmatched_webhooks(session, actor=FINANCE, limit=10)
        row = session.scalars(select(GatewayMessage)).one()
    assert (found.gateway, found.event_id, found.event_type) == (
        "vnpay",
        row.event_id,
        row.event_type,
    )
    assert found.received_at == row.received_at
    assert row.reason == "paid"


@pytest.mark.parametrize(
    "state", [one for one in GatewayPaymentState if one is not GatewayPaymentState.PAID]
)
def test_an_unknown_payment_without_money_is_not_listed(
    sessions: sessionmaker[Session], state: GatewayPaymentState
) -> None:
    gateway = telling(PaymentUpdate(state, reference="ABCDEFGH"))
    assert take(sessions, MESSAGE, gateway) is Outcome.UNKNOWN_PAYMENT
    assert unmatched(sessions) == []


def test_money_of_an_unknown_payment_beside_a_known_one_is_listed(begun: Begun) -> None:
    known, unknown = paid(begun.reference, CREDIT), paid("ABCDEFGH", CREDIT)
    assert take(begun.sessions, MESSAGE, telling(unknown, known)) is Outcome.RECORDED
    assert unmatched(begun.sessions) == ["event-1"]


def test_money_that_is_recorded_when_it_is_told_again_is_listed_no_more(begun: Begun) -> None:
    named = PaymentUpdate(
        GatewayPaymentState.PAID,
        gateway_reference="checkout-later",
        gateway_payment_id="money-of-it",
        amount=CREDIT,
    )
    assert take(begun.sessions, MESSAGE, telling(named)) is Outcome.UNKNOWN_PAYMENT
    assert unmatched(begun.sessions) == ["event-1"]
    with begun.sessions.begin() as session:
        payment = session.get_one(Payment, begun.started.payment_id)
        payment.gateway_reference = "checkout-later"
    assert take(begun.sessions, MESSAGE, telling(named)) is Outcome.RECORDED
    assert unmatched(begun.sessions) == []


def test_unmatched_money_is_listed_newest_first_for_90_days(
    sessions: sessionmaker[Session],
) -> None:
    now = datetime.now(UTC)
    for number, days in enumerate((91, 89, 1)):
        message = replace(MESSAGE, received_at=now - timedelta(days=days))
        take(sessions, message, telling(paid("ABCDEFGH", CREDIT), event_id=f"event-{number}"))
    assert unmatched(sessions) == ["event-2", "event-1"]
    with sessions() as session:
        assert len(unmatched_webhooks(session, actor=FINANCE, limit=1)) == 1


def test_unmatched_money_is_for_staff_alone(sessions: sessionmaker[Session]) -> None:
    with sessions() as session, pytest.raises(NotAuthorised):
        unmatched_webhooks(session, actor=user_actor(1), limit=10)


# ── Evidence ──────────────────────────────────────────────────────────────────────────────────
def test_forged_webhooks_of_one_gateway_leave_room_for_the_evidence_of_another(
    sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_REFUSED_KEPT_PER_HOUR", 2)
    refusal = WebhookRefused(Outcome.BAD_SIGNATURE, "signature")
    for number in range(5):
        message = replace(MESSAGE, body=b"%d" % number, received_at=datetime.now(UTC))
        take(sessions, message, Telling(name="paypal", refusal=refusal))
    now = datetime.now(UTC)
    take(sessions, replace(MESSAGE, received_at=now), Telling(name="stripe", refusal=refusal))
    assert count(sessions, gateway="paypal") == 2
    assert count(sessions, gateway="stripe") == 1


def test_evidence_is_kept_again_after_an_hour(
    sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_REFUSED_KEPT_PER_HOUR", 1)
    refusal = WebhookRefused(Outcome.MALFORMED, "no_json")
    for minutes in (61, 0, 0):
        moment = datetime.now(UTC) - timedelta(minutes=minutes)
        message = replace(MESSAGE, body=str(moment).encode(), received_at=moment)
        take(sessions, message, Telling(refusal=refusal))
    assert count(sessions, outcome="malformed") == 2


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────
def test_webhooks_of_a_new_account_at_once_are_sealed_under_one_key(begun: Begun) -> None:
    others = [begun.another().reference for _ in range(7)]
    messages = [
        ipn(reference, TransactionNo=str(number))
        for number, reference in enumerate([begun.reference, *others], start=1)
    ]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda message: take(begun.sessions, message), messages))
    assert outcomes == [Outcome.RECORDED] * 8
    with begun.sessions() as session:
        assert session.scalars(text("SELECT count(*) FROM data_keys")).one() == 1
        rows = session.scalars(select(GatewayMessage)).all()
        for row in rows:
            assert VAULT.open(session, account_id=begun.account, sealed=bytes(row.payload))


def test_a_webhook_is_sealed_under_the_key_of_the_year_it_came_in(begun: Begun) -> None:
    message = replace(ipn(begun.reference), received_at=datetime(2025, 12, 31, 23, 59, tzinfo=UTC))
    assert take(begun.sessions, message) is Outcome.RECORDED
    with begun.sessions() as session:
        assert session.scalars(text("SELECT year FROM data_keys")).all() == [2025]


# ── Races ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_webhook_whose_transaction_loses_a_race_is_recorded_all_the_same(
    begun: Begun, state: str
) -> None:
    made = sessionmaker(**begun.sessions.kw)
    left = [1]

    def lose(_session: Session, _transaction: object, connection: Connection) -> None:
        if left:
            left.pop()
            connection.exec_driver_sql(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")

    event.listen(made, "after_begin", lose)
    assert take(made, ipn(begun.reference)) is Outcome.RECORDED
    assert begun.row().state == "succeeded"


def test_a_webhook_is_verified_while_no_connection_is_taken(begun: Begun) -> None:
    taken: list[int] = []
    pool = begun.sessions.kw["bind"].pool

    class Slow(Telling):
        def parse_webhook(self, message: InboundMessage) -> WebhookEvent:
            taken.append(pool.checkedout())
            return super().parse_webhook(message)

    take(begun.sessions, MESSAGE, Slow())
    assert taken == [0]


# ── The route ─────────────────────────────────────────────────────────────────────────────────
@dataclass
class Stuck(Telling):
    """A gateway whose verification waits until a test lets it go on."""

    name: str = "paypal"
    go_on: threading.Event = field(default_factory=threading.Event)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def parse_webhook(self, message: InboundMessage) -> WebhookEvent:  # noqa: ARG002 - any
        self.begun.release()
        self.go_on.wait()
        raise WebhookRefused(Outcome.BAD_SIGNATURE, "certificate_unavailable")


@pytest.fixture
def send(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Stuck, Callable[[str, str], str]]]:
    """A gateway that is stuck beside VNPay, and a way to send to either by the portal's route."""
    stuck = Stuck()
    gateways = {"paypal": stuck, "vnpay": vnpay()}
    monkeypatch.setattr(routes, "gateway_of", gateways.get)
    monkeypatch.setattr(routes, "vault", lambda: VAULT)
    database.connect(database_url, vault=TEST_VAULT)
    with TestClient(Starlette(routes=routes.routes())) as client:

        def send(method: str, address: str) -> str:
            return client.request(method, address, json=None if method == "GET" else {}).text

        yield stuck, send
        stuck.go_on.set()
    database.disconnect()


def test_webhooks_of_one_gateway_that_are_stuck_do_not_delay_those_of_another(
    begun: Begun, send: tuple[Stuck, Callable[[str, str], str]]
) -> None:
    stuck, request = send
    with ThreadPoolExecutor(13) as pool:
        waiting = [pool.submit(request, "POST", "/webhooks/paypal") for _ in range(12)]
        for _ in range(routes._MAX_CONCURRENT):
            assert stuck.begun.acquire(timeout=60)
        answer = pool.submit(request, "GET", f"/webhooks/vnpay?{ipn(begun.reference).raw_query}")
        try:
            assert '"00"' in answer.result(timeout=60)
        finally:
            stuck.go_on.set()
        assert {one.result(timeout=60) for one in waiting} == {"bad_signature"}
    assert begun.row().state == "succeeded"


def test_webhooks_beyond_those_that_may_wait_are_told_to_come_again(
    begun: Begun,
    send: tuple[Stuck, Callable[[str, str], str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stuck, request = send
    monkeypatch.setattr(routes, "_MAX_WAITING", 3)
    with ThreadPoolExecutor(20) as pool:
        held = [
            pool.submit(request, "POST", "/webhooks/paypal") for _ in range(routes._MAX_CONCURRENT)
        ]
        for _ in held:
            assert stuck.begun.acquire(timeout=60)
        try:
            # Three of these wait for a thread, and the others are answered while those are held.
            more = [pool.submit(request, "POST", "/webhooks/paypal") for _ in range(10)]
            turned_away = list(itertools.islice(as_completed(more, timeout=60), 7))
            assert {one.result() for one in turned_away} == {"unavailable"}
            ours = f"/webhooks/vnpay?{ipn(begun.reference).raw_query}"
            assert '"00"' in pool.submit(request, "GET", ours).result(timeout=60)
        finally:
            stuck.go_on.set()
        waited = [one.result(timeout=60) for one in (*held, *more) if one not in turned_away]
    assert waited == ["bad_signature"] * (routes._MAX_CONCURRENT + 3)


def test_a_webhook_of_the_route_survives_connections_that_were_lost(
    begun: Begun, send: tuple[Stuck, Callable[[str, str], str]]
) -> None:
    _, request = send
    database.read_snapshot(lambda session: session.execute(text("SELECT 1")).one())
    others = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend'"
        " AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    with begun.sessions.begin() as session:
        session.execute(others)
    answer = request("GET", f"/webhooks/vnpay?{ipn(begun.reference).raw_query}")
    assert '"00"' in answer


def test_handle_webhook_runs_in_the_transaction_that_it_is_given(begun: Begun) -> None:
    runs: list[object] = []

    def run(work: Callable[[Session], T], /) -> T:
        runs.append(work)
        with begun.sessions.begin() as session:
            return work(session)

    outcome, _ = handle_webhook(
        run, gateway=vnpay(), message=ipn(begun.reference), vault=Vault(b"k" * 40)
    )
    assert (outcome, len(runs)) == (Outcome.RECORDED, 1)
