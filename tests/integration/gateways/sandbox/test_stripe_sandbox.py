"""Our gateway and Stripe's own SDK against the stand-in, over HTTP."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import httpx2
import pytest
import stripe
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route

from domain.gateways.interface import (
    CheckoutRequest,
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    GatewayRefused,
    GatewayUnavailable,
    InboundMessage,
    KnownPayment,
    Outcome,
    PaymentUpdate,
    RefundRequest,
    RefundState,
    RefundUpdate,
    WebhookRefused,
)
from domain.gateways.stripe.client import StripeCheckout
from domain.gateways.stripe.settings import StripeSettings
from domain.money import Money
from sandbox import stripe_cards, stripe_payments
from sandbox.app import Context
from sandbox.store import Store
from sandbox.stripe import DEMO_SECRET_KEY, DEMO_WEBHOOK_SECRET, routes
from sandbox.stripe_payments import signature
from sandbox.webhook_sender import WebhookRequest, WebhookSender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from domain.gateways.interface import Checkout, GatewayUpdate, Snapshot, WebhookEvent

REFERENCE = "ABCDEFGHJKLMNPQRSTUV"
PATIENCE_SECONDS = 120


def yen(count: int) -> Money:
    return Money.from_minor_units(count, "JPY")


@dataclass
class Shop:
    """A shop with the stand-in, and the mailbox of what it is told."""

    base_url: str
    store: Store
    mailbox: queue.Queue[InboundMessage]
    answers: list[int]
    gateway: StripeCheckout
    sdk: stripe.StripeClient
    browser: httpx2.Client

    def request(self, amount: Money | None = None, reference: str = REFERENCE) -> CheckoutRequest:
        now = datetime.now(UTC)
        return CheckoutRequest(
            reference=reference,
            amount=amount or yen(3_000),
            description="Credit ABC",
            return_url=f"{self.base_url}/back",
            cancel_url=f"{self.base_url}/cancelled",
            customer_email="hanako@example.com",
            customer_ip="127.0.0.1",
            language="ja",
            created_at=now,
            expires_at=now + timedelta(hours=1),
        )

    def open(
        self, amount: Money | None = None, reference: str = REFERENCE
    ) -> tuple[Checkout, KnownPayment]:
        request = self.request(amount, reference)
        checkout = self.gateway.create_checkout(request)
        key = checkout.gateway_reference
        return checkout, KnownPayment(reference, key, None, request.amount, request.created_at)

    def paid(self, amount: Money | None = None, reference: str = REFERENCE) -> KnownPayment:
        """Return a payment that was paid by card, once its events are read."""
        checkout, known = self.open(amount, reference)
        self.choose(checkout.redirect_url, "succeed")
        self.hear(3)
        return self.with_money(known)

    def with_money(self, known: KnownPayment) -> KnownPayment:
        found = self.gateway.fetch_payment(known).payment
        return replace(known, gateway_payment_id=found.gateway_payment_id)

    def choose(self, url: str, outcome: str, delivery: str = "normal") -> str:
        answer = self.browser.post(url, data={"outcome": outcome, "delivery": delivery})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def operate(self, known: KnownPayment, action: str, amount: str = "") -> httpx2.Response:
        form = {"payment": known.gateway_payment_id or "", "outcome": action, "amount": amount}
        return self.browser.post(f"{self.base_url}/stripe/dashboard", data=form)

    def hear_raw(self, count: int) -> list[InboundMessage]:
        return [self.mailbox.get(timeout=PATIENCE_SECONDS) for _ in range(count)]

    def hear(self, count: int) -> dict[str, WebhookEvent]:
        """Return the next messages by their type; the order of their coming means nothing."""
        found = [self.gateway.parse_webhook(message) for message in self.hear_raw(count)]
        by_type = {one.event_type: one for one in found}
        assert len(by_type) == count
        return by_type

    def fetch(self, known: KnownPayment) -> Snapshot:
        return self.gateway.fetch_payment(known)

    def refund(self, known: KnownPayment, amount: Money, reference: str = "R" * 20) -> RefundUpdate:
        request = RefundRequest(
            payment=known,
            reference=reference,
            amount=amount,
            is_whole=amount == known.amount,
            actor="staff1",
            requested_at=datetime.now(UTC),
        )
        return self.gateway.refund(request)


@contextmanager
def connecting() -> Iterator[stripe.RequestsClient]:
    """Connections of this thread, closed at the end."""
    connections = stripe.RequestsClient(timeout=(PATIENCE_SECONDS, PATIENCE_SECONDS))
    try:
        yield connections
    finally:
        connections.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    # What nobody takes comes again at once.
    monkeypatch.setattr(
        stripe_payments, "WebhookRequest", partial(WebhookRequest, waits_seconds=(0, 0, 0))
    )
    listener = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    store = Store(folder / "sandbox.db")
    context = Context(base_url, base_url, store, WebhookSender(), folder)
    mailbox: queue.Queue[InboundMessage] = queue.Queue()
    answers: list[int] = []
    server = uvicorn.Server(
        uvicorn.Config(_app(context, mailbox, answers), log_level="warning", lifespan="on")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    settings = StripeSettings(
        DEMO_SECRET_KEY, (DEMO_WEBHOOK_SECRET,), f"{base_url}/stripe", is_sandbox=True
    )
    with httpx2.Client() as browser, connecting() as connections:
        sdk = stripe.StripeClient(
            DEMO_SECRET_KEY, base_addresses={"api": f"{base_url}/stripe"}, http_client=connections
        )
        gateway = StripeCheckout(settings, connections)
        yield Shop(base_url, store, mailbox, answers, gateway, sdk, browser)
    server.should_exit = True
    thread.join()
    listener.close()


def _app(context: Context, mailbox: queue.Queue[InboundMessage], answers: list[int]) -> Starlette:
    async def receive(request: Request) -> Response:
        body = await request.body()
        headers = {name.lower(): value for name, value in request.headers.items()}
        mailbox.put(InboundMessage("POST", headers, (), "", body, datetime.now(UTC)))
        return Response(status_code=answers.pop(0) if answers else 200)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await context.sender.close()
        context.store.close()

    return Starlette(
        routes=[
            Mount("/stripe", routes=routes(context)),
            Mount("/stripe_cards", routes=stripe_cards.routes(context)),
            Route("/webhooks/stripe", receive, methods=["POST"]),
            Route("/webhooks/stripe_cards", receive, methods=["POST"]),
        ],
        lifespan=lifespan,
    )


def payment_update(found: WebhookEvent) -> PaymentUpdate:
    (update,) = found.updates
    assert isinstance(update, PaymentUpdate)
    return update


def only(found: WebhookEvent) -> GatewayUpdate:
    (update,) = found.updates
    return update


# ── Paying ────────────────────────────────────────────────────────────────────────────────────
def test_a_card_pays_and_three_events_and_the_api_agree(shop: Shop) -> None:
    checkout, known = shop.open()
    assert "3,000 JPY" in shop.browser.get(checkout.redirect_url).text
    back = shop.choose(checkout.redirect_url, "succeed")
    assert back == f"{shop.base_url}/back?session_id={checkout.gateway_reference}"
    query = tuple(httpx2.URL(back).params.multi_items())
    message = InboundMessage("GET", {}, query, "", b"", datetime.now(UTC))
    named = shop.gateway.parse_return(message)
    assert named.gateway_reference == checkout.gateway_reference
    heard = shop.hear(3)
    of_session = payment_update(heard["checkout.session.completed"])
    of_intent = payment_update(heard["payment_intent.succeeded"])
    fetched = shop.fetch(known).payment
    for update in (of_session, of_intent, fetched):
        assert update.state is GatewayPaymentState.PAID
        assert (update.reference, update.amount) == (REFERENCE, yen(3_000))
        assert update.gateway_payment_id == fetched.gateway_payment_id
    assert (fetched.method, fetched.fee) == ("card", yen(108))


def test_second_account_is_paid_in_its_currencies_and_shares_nothing(shop: Shop) -> None:
    settings = replace(
        shop.gateway._settings,
        secret_key=stripe_cards.DEMO_SECRET_KEY,
        webhook_secrets=(stripe_cards.DEMO_WEBHOOK_SECRET,),
        api_base=f"{shop.base_url}/stripe_cards",
        name="stripe_cards",
        currencies=frozenset(("USD", "EUR")),
    )
    with connecting() as connections:
        cards = replace(shop, gateway=StripeCheckout(settings, connections))
        checkout, known = cards.open(Money.from_minor_units(2_500, "USD"))
        page = cards.browser.get(checkout.redirect_url).text
        assert "25.00 USD" in page
        assert "onbini" not in page
        cards.choose(checkout.redirect_url, "succeed")
        message, *_others = cards.hear_raw(3)
        assert cards.gateway.parse_webhook(message).event_id
        assert cards.fetch(known).payment.state is GatewayPaymentState.PAID
        with pytest.raises(GatewayRefused, match="currency"):
            cards.open(yen(3_000), REFERENCE[::-1])
    with pytest.raises(WebhookRefused):
        shop.gateway.parse_webhook(message)
    assert shop.fetch(known).payment.state is GatewayPaymentState.UNKNOWN


def test_a_card_is_the_same_for_everybody_and_another_is_another(shop: Shop) -> None:
    seen = []
    for number, card in enumerate(("4242", "4242", "0505")):
        checkout, known = shop.open(reference=REFERENCE[:-1] + "ABC"[number])
        form = {"outcome": "succeed", "delivery": "normal", "instrument": card}
        assert shop.browser.post(checkout.redirect_url, data=form).status_code == 303
        shop.hear(3)
        update = shop.fetch(known).payment
        assert update.instrument is not None
        assert update.instrument.shown == f"card …{card}"
        seen.append(update.instrument.identity)
    assert seen[0] == seen[1] != seen[2]
    checkout, _ = shop.open(reference="Z" * 20)
    form = {"outcome": "succeed", "instrument": "1111"}
    assert shop.browser.post(checkout.redirect_url, data=form).status_code == 404


def test_dollars_are_paid_in_cents(shop: Shop) -> None:
    amount = Money.from_minor_units(2_550, "USD")
    checkout, known = shop.open(amount)
    assert "25.50 USD" in shop.browser.get(checkout.redirect_url).text
    shop.choose(checkout.redirect_url, "succeed")
    assert payment_update(shop.hear(3)["checkout.session.completed"]).amount == amount
    assert shop.fetch(known).payment.amount == amount


def test_a_declined_card_stays_on_the_page_and_can_be_tried_again(shop: Shop) -> None:
    checkout, known = shop.open()
    assert shop.choose(checkout.redirect_url, "fail") == checkout.redirect_url
    assert "was declined" in shop.browser.get(checkout.redirect_url).text
    assert all(found.updates == () for found in shop.hear(2).values())
    assert shop.fetch(known).payment.state is GatewayPaymentState.OPEN
    shop.choose(checkout.redirect_url, "succeed")
    shop.hear(3)
    assert shop.fetch(known).payment.state is GatewayPaymentState.PAID


def test_who_presses_pay_twice_pays_once(shop: Shop) -> None:
    checkout, known = shop.open()
    first = shop.choose(checkout.redirect_url, "succeed")
    assert shop.choose(checkout.redirect_url, "succeed") == first
    shop.hear(3)
    assert shop.mailbox.empty()
    assert shop.fetch(known).payment.state is GatewayPaymentState.PAID


def test_completed_and_unpaid_then_async_succeeded(shop: Shop) -> None:
    checkout, known = shop.open()
    voucher = shop.choose(checkout.redirect_url, "konbini")
    assert voucher == f"{shop.base_url}/stripe/konbini/{checkout.gateway_reference}"
    waiting = payment_update(shop.hear(2)["checkout.session.completed"])
    fetched = shop.fetch(known).payment
    assert waiting.state is fetched.state is GatewayPaymentState.AWAITING
    assert waiting.method == fetched.method == "konbini"
    assert waiting.pay_by == fetched.pay_by
    assert fetched.instructions_url == voucher
    assert "Pay at the store now" in shop.browser.get(voucher).text
    back = f"{shop.base_url}/back?session_id={checkout.gateway_reference}"
    assert shop.choose(voucher, "later") == back
    assert shop.choose(voucher, "pay") == back
    paid = payment_update(shop.hear(3)["checkout.session.async_payment_succeeded"])
    fetched = shop.fetch(known).payment
    assert paid.state is fetched.state is GatewayPaymentState.PAID
    assert paid.gateway_payment_id == fetched.gateway_payment_id
    assert fetched.method == "konbini"


def test_completed_and_unpaid_then_async_failed(shop: Shop) -> None:
    checkout, known = shop.open()
    voucher = shop.choose(checkout.redirect_url, "konbini")
    shop.hear(2)
    shop.choose(voucher, "lapse")
    failed = payment_update(shop.hear(2)["checkout.session.async_payment_failed"])
    fetched = shop.fetch(known).payment
    assert failed.state is fetched.state is GatewayPaymentState.EXPIRED
    assert fetched.code == "payment_intent_payment_attempt_expired"
    assert "nothing to pay" in shop.browser.get(voucher).text


def test_completed_and_unpaid_then_nothing_until_the_voucher_is_over(shop: Shop) -> None:
    checkout, known = shop.open()
    shop.choose(checkout.redirect_url, "konbini")
    shop.hear(2)
    (intent,) = shop.store.find("stripe.intent")
    intent["next_action"]["konbini_display_details"]["expires_at"] = 1
    shop.store.put("stripe.intent", intent["id"], intent)
    assert shop.fetch(known).payment.state is GatewayPaymentState.EXPIRED
    failed = payment_update(shop.hear(2)["checkout.session.async_payment_failed"])
    assert failed.state is GatewayPaymentState.EXPIRED


def test_konbini_is_not_offered_below_120_yen_nor_taken(shop: Shop) -> None:
    checkout, known = shop.open(yen(119))
    assert "convenience store" not in shop.browser.get(checkout.redirect_url).text
    answer = shop.browser.post(checkout.redirect_url, data={"outcome": "konbini"})
    assert answer.status_code == 404
    assert shop.fetch(known).payment.state is GatewayPaymentState.OPEN


def test_who_cancels_comes_back_and_may_still_pay(shop: Shop) -> None:
    checkout, known = shop.open()
    assert shop.choose(checkout.redirect_url, "cancel") == f"{shop.base_url}/cancelled"
    assert shop.fetch(known).payment.state is GatewayPaymentState.OPEN
    assert shop.mailbox.empty()
    shop.choose(checkout.redirect_url, "succeed")
    shop.hear(3)
    assert shop.fetch(known).payment.state is GatewayPaymentState.PAID


def test_a_session_whose_time_is_over_is_expired_and_says_so_once(shop: Shop) -> None:
    checkout, known = shop.open()
    key = checkout.gateway_reference or ""
    shop.store.change("stripe.session", key, lambda found: found.update(expires_at=1))
    assert "This page is over" in shop.browser.get(checkout.redirect_url).text
    expired = payment_update(shop.hear(1)["checkout.session.expired"])
    assert expired.state is GatewayPaymentState.EXPIRED
    assert shop.fetch(known).payment.state is GatewayPaymentState.EXPIRED
    answer = shop.browser.post(checkout.redirect_url, data={"outcome": "succeed"})
    assert "This page is over" in answer.text
    assert shop.mailbox.empty()


def test_session_expired_after_payment_is_refused(shop: Shop) -> None:
    checkout, known = shop.open()
    shop.choose(checkout.redirect_url, "succeed")
    shop.hear(3)
    with pytest.raises(stripe.InvalidRequestError):
        shop.sdk.v1.checkout.sessions.expire(checkout.gateway_reference or "")
    assert shop.fetch(known).payment.state is GatewayPaymentState.PAID


def test_an_open_session_can_be_expired(shop: Shop) -> None:
    checkout, _ = shop.open()
    found = shop.sdk.v1.checkout.sessions.expire(checkout.gateway_reference or "")
    assert found.status == "expired"
    assert "checkout.session.expired" in shop.hear(1)


def test_two_open_sessions_both_paid_are_two_payments(shop: Shop) -> None:
    first, second = shop.paid(reference="A" * 20), shop.paid(reference="B" * 20)
    assert first.gateway_payment_id != second.gateway_payment_id


# ── Creating ──────────────────────────────────────────────────────────────────────────────────
def test_the_same_reference_has_the_same_session(shop: Shop) -> None:
    request = shop.request()
    checkout = shop.gateway.create_checkout(request)
    assert shop.gateway.create_checkout(replace(request, customer_ip="10.0.0.1")) == checkout
    with pytest.raises(GatewayRefused) as caught:
        shop.gateway.create_checkout(replace(request, amount=yen(4_000)))
    assert caught.value.reason == "idempotency_error"
    assert len(shop.store.find("stripe.session")) == 1


def test_twenty_at_once_with_one_key_make_one_session(shop: Shop) -> None:
    def create(_: int) -> str:
        with connecting() as connections:
            sdk = stripe.StripeClient(
                DEMO_SECRET_KEY,
                base_addresses={"api": f"{shop.base_url}/stripe"},
                http_client=connections,
            )
            made = sdk.v1.checkout.sessions.create(
                {
                    "mode": "payment",
                    "success_url": "https://shop.example.com",
                    "line_items": [
                        {
                            "quantity": 1,
                            "price_data": {
                                "currency": "jpy",
                                "unit_amount": 500,
                                "product_data": {"name": "Credit"},
                            },
                        }
                    ],
                },
                {"idempotency_key": "one"},
            )
            return made.id

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(create, range(20)))) == 1
    assert len(shop.store.find("stripe.session")) == 1


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"line_items[0][price_data][unit_amount]": "49"}, "amount_too_small", None),
        ({"line_items[0][price_data][unit_amount]": "100000000"}, "amount_too_large", None),
        (
            {"line_items[0][price_data][unit_amount]": "10.5"},
            "parameter_invalid_integer",
            "line_items[0][price_data][unit_amount]",
        ),
        ({"payment_method_types[0]": "card"}, "parameter_unknown", "payment_method_types[0]"),
        ({"success_url": None}, "parameter_missing", "success_url"),
        ({"expires_at": "1"}, None, "expires_at"),
        (
            {"line_items[0][price_data][currency]": "xyz"},
            None,
            "line_items[0][price_data][currency]",
        ),
        ({"mode": "subscription"}, None, "mode"),
        (
            {"line_items[0][price_data][product_data][name]": None},
            "parameter_missing",
            "line_items[0][price_data]",
        ),
    ],
)
def test_49_yen_and_parameters_that_stripe_refuses_are_refused(
    shop: Shop, changes: dict[str, str | None], code: str | None, param: str | None
) -> None:
    good: dict[str, str | None] = {
        "mode": "payment",
        "success_url": "https://x.example",
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "jpy",
        "line_items[0][price_data][unit_amount]": "500",
        "line_items[0][price_data][product_data][name]": "Credit",
    }
    given = {name: value for name, value in (good | changes).items() if value is not None}
    answer = shop.browser.post(
        f"{shop.base_url}/stripe/v1/checkout/sessions",
        data=given,
        headers={"Authorization": f"Bearer {DEMO_SECRET_KEY}"},
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error.get("code"), error.get("param")) == (code, param)
    assert error["type"] == "invalid_request_error"


def test_a_wrong_key_is_refused(shop: Shop) -> None:
    settings = StripeSettings("sk_test_wrong", (), f"{shop.base_url}/stripe", is_sandbox=True)
    known = KnownPayment(REFERENCE, "cs_test_1", None, yen(500), datetime.now(UTC))
    with connecting() as connections, pytest.raises(GatewayRefused) as caught:
        StripeCheckout(settings, connections).fetch_payment(known)
    assert caught.value.reason == "authentication"


def test_a_session_that_never_was_is_unknown(shop: Shop) -> None:
    known = KnownPayment(REFERENCE, "cs_test_1", None, yen(500), datetime.now(UTC))
    assert shop.fetch(known).payment.state is GatewayPaymentState.UNKNOWN
    assert shop.browser.get(f"{shop.base_url}/stripe/pay/cs_test_1").status_code == 404
    assert shop.browser.get(f"{shop.base_url}/stripe/konbini/cs_test_1").status_code == 404


def test_nobody_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = StripeSettings("sk_test_1", (), f"http://127.0.0.1:{port}", is_sandbox=True)
    known = KnownPayment(REFERENCE, "cs_test_1", None, yen(500), datetime.now(UTC))
    with connecting() as connections, pytest.raises(GatewayUnavailable):
        StripeCheckout(settings, connections).fetch_payment(known)


# ── Refunds ───────────────────────────────────────────────────────────────────────────────────
def test_partial_refunds_grow_and_never_beyond_what_was_paid(shop: Shop) -> None:
    known = shop.paid()
    for count, reference in ((1_000, "A" * 20), (1_500, "B" * 20)):
        made = shop.refund(known, yen(count), reference)
        assert (made.state, made.amount) == (RefundState.SUCCEEDED, yen(count))
        heard = shop.hear(2)
        message = only(heard["refund.created"])
        assert isinstance(message, RefundUpdate)
        assert message == replace(made, stated_at=message.stated_at)
        assert message.stated_at is not None
        assert message.reference == reference
        (asked,) = heard["charge.refunded"].asks_about
        assert (asked.reference, asked.gateway_payment_id) == (REFERENCE, known.gateway_payment_id)
    with pytest.raises(GatewayRefused):
        shop.refund(known, yen(501), "C" * 20)
    assert [one.amount for one in shop.fetch(known).refunds] == [yen(1_500), yen(1_000)]


def test_the_same_refund_asked_for_twice_is_one(shop: Shop) -> None:
    known = shop.paid()
    assert shop.refund(known, yen(1_000)) == shop.refund(known, yen(1_000))
    assert len(shop.fetch(known).refunds) == 1


def test_what_was_refunded_as_a_whole_is_not_refunded_again(shop: Shop) -> None:
    known = shop.paid()
    shop.refund(known, known.amount)
    with pytest.raises(GatewayRefused) as caught:
        shop.refund(known, yen(1), "B" * 20)
    assert caught.value.reason == "charge_already_refunded"


def test_a_refund_of_the_dashboard_is_told_without_our_reference(shop: Shop) -> None:
    known = shop.paid()
    assert "3,000 JPY" in shop.browser.get(f"{shop.base_url}/stripe/dashboard").text
    assert shop.operate(known, "refund", "700").status_code == 303
    heard = shop.hear(2)
    message = only(heard["refund.created"])
    assert isinstance(message, RefundUpdate)
    assert (message.amount, message.reference) == (yen(700), None)
    assert message.gateway_payment_id == known.gateway_payment_id
    assert heard["charge.refunded"].asks_about
    assert shop.fetch(known).refunds == (replace(message, stated_at=None),)


def test_a_refund_that_fails_is_told_and_can_be_made_again(shop: Shop) -> None:
    known = shop.paid()
    shop.refund(known, known.amount)
    shop.hear(2)
    assert shop.operate(known, "fail").status_code == 303
    message = only(shop.hear(2)["refund.failed"])
    assert isinstance(message, RefundUpdate)
    assert (message.state, message.reference) == (RefundState.FAILED, "R" * 20)
    assert [one.state for one in shop.fetch(known).refunds] == [RefundState.FAILED]
    assert shop.refund(known, known.amount, "B" * 20).state is RefundState.SUCCEEDED


def test_a_refund_of_konbini_waits_until_it_arrives(shop: Shop) -> None:
    checkout, known = shop.open()
    voucher = shop.choose(checkout.redirect_url, "konbini")
    shop.choose(voucher, "pay")
    shop.hear(5)
    known = shop.with_money(known)
    assert shop.refund(known, known.amount).state is RefundState.PENDING
    shop.hear(2)
    shop.operate(known, "settle")
    message = only(shop.hear(1)["refund.updated"])
    assert isinstance(message, RefundUpdate)
    assert message.state is RefundState.SUCCEEDED


def test_more_refunds_than_a_page_of_the_api_are_all_found(shop: Shop) -> None:
    known = shop.paid()
    made = [shop.refund(known, yen(10), f"{number:020}") for number in range(3)]
    listed = shop.sdk.v1.refunds.list(
        {"payment_intent": known.gateway_payment_id or "", "limit": 1}
    )
    assert [one.id for one in listed.auto_paging_iter()] == [
        one.gateway_refund_id for one in reversed(made)
    ]
    first = made[0].gateway_refund_id
    assert shop.sdk.v1.refunds.retrieve(first).amount == 10


def test_unpaid_and_unknown_money_is_not_refunded(shop: Shop) -> None:
    checkout, known = shop.open()
    shop.choose(checkout.redirect_url, "fail")
    (intent,) = shop.store.find("stripe.intent")
    with pytest.raises(GatewayRefused) as caught:
        shop.refund(replace(known, gateway_payment_id=intent["id"]), yen(100))
    assert caught.value.reason == "payment_intent_unexpected_state"
    with pytest.raises(GatewayRefused) as caught:
        shop.refund(replace(known, gateway_payment_id="pi_none"), yen(100), "B" * 20)
    assert caught.value.reason == "resource_missing"


# ── Disputes ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("action", "state"), [("win", DisputeState.WON), ("lose", DisputeState.LOST)]
)
def test_a_dispute_is_opened_and_then_won_or_lost(
    shop: Shop, action: str, state: DisputeState
) -> None:
    known = shop.paid()
    assert shop.operate(known, "dispute").status_code == 303
    opened = only(shop.hear(2)["charge.dispute.created"])
    assert isinstance(opened, DisputeUpdate)
    assert (opened.state, opened.amount) == (DisputeState.OPEN, yen(3_000))
    assert opened.gateway_payment_id == known.gateway_payment_id
    assert opened.respond_by is not None
    with pytest.raises(GatewayRefused) as caught:
        shop.refund(known, yen(100))
    assert caught.value.reason == "charge_disputed"
    assert shop.operate(known, action).status_code == 303
    closed = only(shop.hear(2 if action == "win" else 1)["charge.dispute.closed"])
    assert isinstance(closed, DisputeUpdate)
    assert (closed.state, closed.gateway_dispute_id) == (state, opened.gateway_dispute_id)
    assert shop.fetch(known).disputes == (replace(closed, stated_at=None),)


@pytest.mark.parametrize(
    ("end", "state", "count"),
    [("close", DisputeState.INQUIRY_CLOSED, 1), ("escalate", DisputeState.OPEN, 2)],
)
def test_an_inquiry_is_closed_or_becomes_a_dispute(
    shop: Shop, end: str, state: DisputeState, count: int
) -> None:
    known = shop.paid()
    assert shop.operate(known, "inquire").status_code == 303
    asked = only(shop.hear(1)["charge.dispute.created"])
    assert isinstance(asked, DisputeUpdate)
    assert asked.state is DisputeState.INQUIRY
    # No money was taken, so that it can still be given back.
    shop.refund(known, yen(100))
    shop.hear(2)
    assert shop.operate(known, end).status_code == 303
    for message in shop.hear(count).values():
        update = only(message)
        assert isinstance(update, DisputeUpdate)
        assert (update.state, update.gateway_dispute_id) == (state, asked.gateway_dispute_id)
    assert [one.state for one in shop.fetch(known).disputes] == [state]


def test_a_dispute_after_a_whole_refund_is_told(shop: Shop) -> None:
    known = shop.paid()
    shop.refund(known, known.amount)
    shop.hear(2)
    shop.operate(known, "dispute")
    assert "charge.dispute.created" in shop.hear(2)
    found = shop.fetch(known)
    assert len(found.refunds) == len(found.disputes) == 1


@pytest.mark.parametrize(
    "action", ["win", "lose", "escalate", "close", "settle", "fail", "nonsense"]
)
def test_the_dashboard_does_only_what_can_be_done(shop: Shop, action: str) -> None:
    known = shop.paid()
    assert shop.operate(known, action).status_code == 409
    assert shop.operate(known, "refund", "0").status_code == 409
    assert shop.operate(known, "refund", "ten").status_code == 409
    assert shop.operate(replace(known, gateway_payment_id="pi_none"), "refund").status_code == 409
    assert shop.mailbox.empty()


def control(shop: Shop, **form: str) -> None:
    answer = shop.browser.post(f"{shop.base_url}/stripe/controls", data=form)
    assert answer.status_code == 200, answer.text


def dispute_told(shop: Shop, count: int, event_type: str) -> DisputeUpdate:
    """Return what the last of so many messages of a kind says of a dispute."""
    update = only(shop.hear(count)[event_type])
    assert isinstance(update, DisputeUpdate)
    return update


def test_dispute_lost_in_part_tells_the_part(shop: Shop) -> None:
    known = shop.paid()
    shop.operate(known, "dispute")
    shop.hear(2)
    assert shop.operate(known, "lose_part", "3000").status_code == 409
    assert shop.operate(known, "lose_part", "1200").status_code == 303
    heard = shop.hear(2)
    for event_type in ("charge.dispute.closed", "charge.dispute.funds_reinstated"):
        update = only(heard[event_type])
        assert isinstance(update, DisputeUpdate)
        assert (update.state, update.amount, update.lost) == (
            DisputeState.LOST,
            yen(3_000),
            yen(1_200),
        )
    (polled,) = shop.fetch(known).disputes
    assert (polled.state, polled.lost) == (DisputeState.LOST, yen(1_200))


def test_dispute_reinstated_is_won_without_another_word(shop: Shop) -> None:
    known = shop.paid()
    shop.operate(known, "dispute")
    shop.hear(2)
    assert shop.operate(known, "reinstate").status_code == 303
    update = dispute_told(shop, 1, "charge.dispute.funds_reinstated")
    assert (update.state, update.lost) == (DisputeState.WON, None)
    assert [one.state for one in shop.fetch(known).disputes] == [DisputeState.WON]


@pytest.mark.parametrize(
    ("first", "then", "states"),
    [
        ("lose", "win", [DisputeState.LOST, DisputeState.OPEN, DisputeState.WON]),
        ("lose", "lose", [DisputeState.LOST, DisputeState.OPEN, DisputeState.LOST]),
        ("win", "lose", [DisputeState.WON, DisputeState.OPEN, DisputeState.LOST]),
    ],
)
def test_dispute_appealed_is_open_again(
    shop: Shop, first: str, then: str, states: list[DisputeState]
) -> None:
    known = shop.paid()
    shop.operate(known, "dispute")
    shop.hear(2)
    assert shop.operate(known, "appeal").status_code == 409
    found = []
    for action in (first, "appeal", then):
        assert shop.operate(known, action).status_code == 303
        is_single = action == "lose" or (action == "appeal" and first == "lose")
        event_type = "updated" if action == "appeal" else "closed"
        message = dispute_told(shop, 1 if is_single else 2, f"charge.dispute.{event_type}")
        (polled,) = shop.fetch(known).disputes
        assert (polled.state, polled.lost) == (message.state, message.lost)
        assert message.lost is None
        found.append(message.state)
    assert found == states


def test_fees_are_taken_in_the_currency_of_the_balance(shop: Shop) -> None:
    control(shop, settles_in="USD", dispute_fee="15")
    known = shop.paid(yen(30_000))
    update = shop.fetch(known).payment
    assert (update.amount, update.fee) == (yen(30_000), Money.from_minor_units(720, "USD"))
    shop.operate(known, "dispute")
    opened = dispute_told(shop, 2, "charge.dispute.created")
    assert (opened.amount, opened.fee) == (yen(30_000), Money.from_minor_units(1_500, "USD"))
    shop.operate(known, "lose")
    shop.hear(1)
    shop.operate(known, "appeal")
    shop.hear(1)
    # It is charged once, and in yen where the balance is of yen.
    assert [one.fee for one in shop.fetch(known).disputes] == [opened.fee]
    control(shop, settles_in="", dispute_fee="10")
    other = shop.paid(reference="B" * 20)
    shop.operate(other, "dispute")
    assert dispute_told(shop, 2, "charge.dispute.created").fee == yen(1_500)


def test_refund_of_ours_is_told_without_our_reference(shop: Shop) -> None:
    known = shop.paid()
    control(shop, names_refunds="no")
    made = shop.refund(known, yen(1_000))
    message = only(shop.hear(2)["refund.created"])
    assert isinstance(message, RefundUpdate)
    assert (message.reference, message.payment_reference) == (None, None)
    assert message.gateway_refund_id == made.gateway_refund_id
    assert message.gateway_payment_id == known.gateway_payment_id


@pytest.mark.parametrize("answer", ["403", "429", "500"])
@pytest.mark.parametrize("group", ["refunds", "disputes"])
def test_money_is_told_while_the_rest_is_refused(shop: Shop, group: str, answer: str) -> None:
    known = shop.paid()
    control(shop, group=group, answer=answer)
    found = shop.fetch(known)
    assert found.payment.state is GatewayPaymentState.PAID
    assert found.unread == {group}
    control(shop, group=group, answer="normal")
    assert shop.fetch(known).unread == frozenset()


def test_money_is_told_while_the_rest_hangs(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    known = shop.paid()
    for group in ("refunds", "disputes"):
        control(shop, group=group, answer="hang")
    with connecting() as impatient:
        impatient._timeout = 1
        monkeypatch.setattr(shop.gateway._follow_up_client._requestor, "_client", impatient)
        found = shop.fetch(known)
    assert found.payment.state is GatewayPaymentState.PAID
    assert found.unread == {"refunds", "disputes"}


# ── Webhooks ──────────────────────────────────────────────────────────────────────────────────
def test_the_stand_ins_signature_is_the_one_of_the_sdk_and_of_the_rule() -> None:
    body = json.dumps({"a": "円"}, ensure_ascii=False).encode()
    ours = signature(body, 1_768_444_200, DEMO_WEBHOOK_SECRET)
    assert ours == stripe.WebhookSignature.generate_signature_header(
        body.decode(), DEMO_WEBHOOK_SECRET, timestamp=1_768_444_200
    )
    digest = hmac.new(
        DEMO_WEBHOOK_SECRET.encode(), b"1768444200." + body, hashlib.sha256
    ).hexdigest()
    assert ours == f"t=1768444200,v1={digest}"


def test_a_duplicate_delivery_brings_the_same_events_five_times(shop: Shop) -> None:
    checkout, _ = shop.open()
    shop.choose(checkout.redirect_url, "succeed", "duplicate")
    found = [shop.gateway.parse_webhook(one).event_id for one in shop.hear_raw(15)]
    assert len(set(found)) == 3
    assert all(found.count(event_id) == 5 for event_id in found)


def test_a_forged_delivery_is_refused(shop: Shop) -> None:
    checkout, _ = shop.open()
    shop.choose(checkout.redirect_url, "succeed", "forged")
    for message in shop.hear_raw(3):
        with pytest.raises(WebhookRefused) as caught:
            shop.gateway.parse_webhook(message)
        assert (caught.value.outcome, caught.value.reason) == (Outcome.BAD_SIGNATURE, "signature")


def test_events_that_never_come_leave_the_api_to_ask(shop: Shop) -> None:
    checkout, known = shop.open()
    shop.choose(checkout.redirect_url, "succeed", "never")
    assert shop.fetch(known).payment.state is GatewayPaymentState.PAID
    shop.paid(reference="B" * 20)
    assert shop.mailbox.empty()


def test_an_event_that_nobody_takes_comes_again_and_is_the_same(shop: Shop) -> None:
    checkout, _ = shop.open()
    shop.answers.extend([500, 400])
    shop.sdk.v1.checkout.sessions.expire(checkout.gateway_reference or "")
    found = [shop.gateway.parse_webhook(one) for one in shop.hear_raw(3)]
    assert found[0] == found[1] == found[2]
    assert shop.mailbox.empty()


# ── The API as the SDK reads it ───────────────────────────────────────────────────────────────
def test_the_sdk_reads_payments_charges_and_disputes(shop: Shop) -> None:
    known = shop.paid()
    intent = shop.sdk.v1.payment_intents.retrieve(
        known.gateway_payment_id or "", {"expand": ["latest_charge.balance_transaction"]}
    )
    assert (intent.status, intent.amount_received) == ("succeeded", 3000)
    assert isinstance(intent.latest_charge, stripe.Charge)
    assert isinstance(intent.latest_charge.balance_transaction, stripe.BalanceTransaction)
    charge = shop.sdk.v1.charges.retrieve(intent.latest_charge.id)
    assert charge.payment_intent == intent.id
    shop.operate(known, "dispute")
    (dispute,) = shop.sdk.v1.disputes.list({"payment_intent": intent.id}).data
    assert shop.sdk.v1.disputes.retrieve(dispute.id).status == "needs_response"
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.sdk.v1.customers.retrieve("cus_1")
    assert caught.value.http_status == 404


def test_a_replayed_answer_says_so_and_a_refused_one_is_kept(shop: Shop) -> None:
    known = shop.paid()
    shop.refund(known, known.amount)
    url = f"{shop.base_url}/stripe/v1/refunds"
    headers = {"Authorization": f"Bearer {DEMO_SECRET_KEY}", "Idempotency-Key": "k"}
    form = {"payment_intent": known.gateway_payment_id or ""}
    first = shop.browser.post(url, data=form, headers=headers)
    again = shop.browser.post(url, data=form, headers=headers)
    assert first.status_code == again.status_code == 400
    assert first.json() == again.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"


def test_what_was_paid_is_known_after_a_restart(shop: Shop, folder: Path) -> None:
    known = shop.paid()
    again = Store(folder / "sandbox.db")
    (session,) = again.find("stripe.session")
    again.close()
    assert session["id"] == known.gateway_reference
    assert session["payment_status"] == "paid"


def test_pages_say_that_it_is_test_money_and_run_nothing_that_was_written(shop: Shop) -> None:
    known = shop.paid(reference="<script>alert(1)</script>")
    page = shop.browser.get(f"{shop.base_url}/stripe/dashboard").text
    assert "Test money" in page
    assert "<script>" not in page
    assert re.search("&lt;script&gt;", page)
    assert known.gateway_payment_id is not None
    assert known.gateway_payment_id in page
