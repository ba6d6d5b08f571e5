from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import stripe

from domain.gateways.interface import (
    CheckoutRequest,
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    GatewayRefused,
    GatewayUnavailable,
    InboundMessage,
    Instrument,
    KnownName,
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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from domain.gateways.interface import GatewayUpdate, WebhookEvent

KEY = "sk_test_neverShowThis"
SECRET, OTHER_SECRET = "whsec_neverShowThisEither", "whsec_theNextOne"
SETTINGS = StripeSettings(KEY, (SECRET,), "https://api.example.com", is_sandbox=True)
MORNING = datetime(2026, 1, 15, 2, 30, tzinfo=UTC)
REFERENCE = "ABCDEFGHJKLMNPQRSTUV"
SESSION, INTENT = "cs_test_a1B2c3", "pi_3abc"
YEN = Money.from_minor_units(3_000, "JPY")
PAYMENT = KnownPayment(REFERENCE, SESSION, INTENT, YEN, MORNING)
REQUEST = CheckoutRequest(
    reference=REFERENCE,
    amount=YEN,
    description="Credit ABC",
    return_url="https://portal.example.com/payments/return/stripe",
    cancel_url="https://portal.example.com/payment?cancelled=1",
    customer_email="hanako@example.com",
    customer_ip="203.0.113.7",
    language="ja",
    created_at=MORNING,
    expires_at=MORNING + timedelta(hours=2),
)
REFUND = RefundRequest(
    payment=PAYMENT,
    reference="RRRRRRRRRRRRRRRRRRRR",
    amount=Money.from_minor_units(1_000, "JPY"),
    is_whole=False,
    actor="staff1",
    requested_at=MORNING,
)


# ── A server without a network ────────────────────────────────────────────────────────────────
@dataclass
class Call:
    """One request of the SDK."""

    method: str
    path: str
    parameters: dict[str, str]
    headers: Mapping[str, str]


Answer = tuple[int, Any] | Exception


@dataclass
class FakeServer(stripe.HTTPClient):
    """Gives its answers in turn, and keeps what was asked."""

    answers: list[Answer]
    calls: list[Call] = field(default_factory=list)
    name = "fake"

    def __post_init__(self) -> None:
        super().__init__()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        parts = urlsplit(url)
        parameters = dict(parse_qsl(post_data or parts.query))
        self.calls.append(Call(method, parts.path, parameters, dict(headers or {})))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return body if isinstance(body, str) else json.dumps(body), status, {}


def answering(*answers: Answer) -> tuple[StripeCheckout, FakeServer]:
    server = FakeServer(list(answers))
    return StripeCheckout(SETTINGS, server), server


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0)


def error(status: int, **details: str) -> Answer:
    return status, {"error": {"message": f"about {KEY}", **details}}


def lost(why: str) -> Exception:
    return stripe.APIConnectionError(why, should_retry=True)  # type: ignore[no-untyped-call]


def page(*items: dict[str, Any], has_more: bool = False) -> Answer:
    return 200, {"object": "list", "url": "/v1/x", "data": list(items), "has_more": has_more}


# ── What Stripe has ───────────────────────────────────────────────────────────────────────────
def session(**changes: Any) -> dict[str, Any]:
    return {
        "id": SESSION,
        "object": "checkout.session",
        "amount_total": 3000,
        "client_reference_id": REFERENCE,
        "currency": "jpy",
        "expires_at": int((MORNING + timedelta(hours=2)).timestamp()),
        "metadata": {"payment_reference": REFERENCE},
        "payment_intent": INTENT,
        "payment_method_options": {"konbini": {"expires_after_days": 3}},
        "payment_method_types": ["card", "konbini"],
        "payment_status": "paid",
        "status": "complete",
        "url": "https://checkout.example.com/c/pay",
    } | changes


def intent(**changes: Any) -> dict[str, Any]:
    return {
        "id": INTENT,
        "object": "payment_intent",
        "amount": 3000,
        "amount_received": 3000,
        "currency": "jpy",
        "last_payment_error": None,
        "latest_charge": charge(),
        "metadata": {"payment_reference": REFERENCE},
        "next_action": None,
        "status": "succeeded",
    } | changes


def charge(**changes: Any) -> dict[str, Any]:
    transaction = {"id": "txn_1", "object": "balance_transaction", "currency": "jpy", "fee": 108}
    return {
        "id": "ch_1",
        "object": "charge",
        "amount": 3000,
        "amount_refunded": 0,
        "balance_transaction": transaction,
        "created": 1_768_444_000,
        "currency": "jpy",
        "metadata": {"payment_reference": REFERENCE},
        "payment_intent": INTENT,
        "payment_method_details": {"type": "card"},
    } | changes


def refund(**changes: Any) -> dict[str, Any]:
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 1000,
        "created": 1_768_445_000,
        "currency": "jpy",
        "metadata": {},
        "payment_intent": INTENT,
        "status": "succeeded",
    } | changes


def dispute(**changes: Any) -> dict[str, Any]:
    return {
        "id": "du_1",
        "object": "dispute",
        "amount": 3000,
        "created": 1_768_446_000,
        "currency": "jpy",
        "evidence_details": {"due_by": 1_769_050_000},
        "metadata": {},
        "payment_intent": INTENT,
        "reason": "fraudulent",
        "status": "needs_response",
    } | changes


def event(event_type: str, about: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": int(MORNING.timestamp()),
        "data": {"object": about},
        "livemode": False,
        "type": event_type,
    } | changes


def header(body: bytes, secret: str = SECRET, *, age: int = 0) -> str:
    moment = int(time.time()) - age
    signed: str = stripe.WebhookSignature.generate_signature_header(
        body.decode(), secret, timestamp=moment
    )
    return signed


def posted(body: bytes, signature: str | None) -> InboundMessage:
    headers = {} if signature is None else {"stripe-signature": signature}
    return InboundMessage("POST", headers, (), "", body, datetime.now(UTC))


def heard(event_type: str, about: dict[str, Any], **changes: Any) -> WebhookEvent:
    body = json.dumps(event(event_type, about, **changes)).encode()
    return StripeCheckout(SETTINGS).parse_webhook(posted(body, header(body)))


def fact_of(event_type: str, about: dict[str, Any]) -> GatewayUpdate:
    (update,) = heard(event_type, about).updates
    return update


def payment_of(event_type: str, about: dict[str, Any]) -> PaymentUpdate:
    update = fact_of(event_type, about)
    assert isinstance(update, PaymentUpdate)
    return update


def refused(
    body: bytes, signature: str | None, settings: StripeSettings = SETTINGS
) -> tuple[Outcome, str]:
    with pytest.raises(WebhookRefused) as caught:
        StripeCheckout(settings).parse_webhook(posted(body, signature))
    return caught.value.outcome, caught.value.reason


BODY = json.dumps(event("checkout.session.completed", session())).encode()
BAD = Outcome.BAD_SIGNATURE


# ── Paying ────────────────────────────────────────────────────────────────────────────────────
def test_yen_go_out_as_whole_yen_with_our_reference_everywhere() -> None:
    gateway, server = answering((200, session()))
    checkout = gateway.create_checkout(REQUEST)
    (call,) = server.calls
    assert (call.method, call.path) == ("post", "/v1/checkout/sessions")
    assert call.parameters == {
        "mode": "payment",
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "jpy",
        "line_items[0][price_data][unit_amount]": "3000",
        "line_items[0][price_data][product_data][name]": "Credit ABC",
        "allowed_payment_method_types[0]": "card",
        "allowed_payment_method_types[1]": "konbini",
        "payment_method_options[konbini][expires_after_days]": "3",
        "client_reference_id": REFERENCE,
        "metadata[payment_reference]": REFERENCE,
        "payment_intent_data[metadata][payment_reference]": REFERENCE,
        "payment_intent_data[description]": "Credit ABC",
        "customer_email": "hanako@example.com",
        "success_url": "https://portal.example.com/payments/return/stripe"
        "?session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://portal.example.com/payment?cancelled=1",
        "expires_at": str(int((MORNING + timedelta(hours=2)).timestamp())),
        "locale": "ja",
        "adaptive_pricing[enabled]": "false",
    }
    assert call.headers["Idempotency-Key"] == f"checkout-{REFERENCE}"
    assert checkout.redirect_url == "https://checkout.example.com/c/pay"
    assert checkout.gateway_reference == SESSION
    assert checkout.expires_at == MORNING + timedelta(hours=2)


def test_dollars_go_out_as_cents_and_by_card_only() -> None:
    gateway, server = answering((200, session()))
    gateway.create_checkout(replace(REQUEST, amount=Money.from_minor_units(2_550, "USD")))
    sent = server.calls[0].parameters
    assert sent["line_items[0][price_data][unit_amount]"] == "2550"
    assert sent["line_items[0][price_data][currency]"] == "usd"
    assert sent["allowed_payment_method_types[0]"] == "card"
    assert "konbini" not in str(sent)


@pytest.mark.parametrize(
    ("yen", "is_offered"), [(119, False), (120, True), (300_000, True), (300_001, False)]
)
def test_konbini_is_offered_for_120_to_300000_yen(yen: int, *, is_offered: bool) -> None:
    gateway, server = answering((200, session()))
    gateway.create_checkout(replace(REQUEST, amount=Money.from_minor_units(yen, "JPY")))
    assert ("konbini" in str(server.calls[0].parameters)) is is_offered


@pytest.mark.parametrize(
    ("expected", "sent"),
    [
        (timedelta(minutes=1), timedelta(minutes=35)),
        (timedelta(minutes=30), timedelta(minutes=35)),
        (timedelta(hours=1), timedelta(hours=1)),
        (timedelta(hours=24), timedelta(hours=23, minutes=55)),
        (timedelta(days=9), timedelta(hours=23, minutes=55)),
    ],
)
def test_a_session_lives_30_minutes_to_24_hours_with_room_for_other_clocks(
    expected: timedelta, sent: timedelta
) -> None:
    gateway, server = answering((200, session()))
    gateway.create_checkout(replace(REQUEST, expires_at=MORNING + expected))
    assert server.calls[0].parameters["expires_at"] == str(int((MORNING + sent).timestamp()))


def test_the_same_request_again_has_the_same_key_and_the_same_parameters() -> None:
    gateway, server = answering((200, session()), (200, session()))
    request = replace(REQUEST, expires_at=MORNING + timedelta(minutes=30))
    assert gateway.create_checkout(request) == gateway.create_checkout(request)
    first, second = server.calls
    assert first.parameters == second.parameters
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


def test_a_return_address_with_a_query_keeps_it_and_nobody_needs_an_email() -> None:
    gateway, server = answering((200, session()))
    gateway.create_checkout(
        replace(REQUEST, return_url="https://portal.example.com/r?a=1", customer_email="")
    )
    sent = server.calls[0].parameters
    expected = "https://portal.example.com/r?a=1&session_id={CHECKOUT_SESSION_ID}"
    assert sent["success_url"] == expected
    assert "customer_email" not in sent


@pytest.mark.parametrize(
    ("count", "currency", "reason"),
    [
        (49, "JPY", "amount_too_small"),
        (49, "USD", "amount_too_small"),
        (100_000_000, "JPY", "amount_too_large"),
        (500_000, "VND", "currency"),
    ],
)
def test_49_yen_and_what_else_stripe_does_not_take_is_refused_by_us(
    count: int, currency: str, reason: str
) -> None:
    gateway, server = answering()
    amount = Money.from_minor_units(count, currency)
    with pytest.raises(GatewayRefused) as caught:
        gateway.create_checkout(replace(REQUEST, amount=amount))
    assert caught.value.reason == reason
    assert server.calls == []


def test_limits_are_50_to_99999999_yen() -> None:
    limits = StripeCheckout(SETTINGS).limits("JPY")
    assert limits is not None
    assert limits.minimum == Money.from_minor_units(50, "JPY")
    assert limits.maximum == Money.from_minor_units(99_999_999, "JPY")
    assert StripeCheckout(SETTINGS).limits("VND") is None


def test_a_session_without_an_address_is_no_answer() -> None:
    gateway, _ = answering((200, session(url=None)))
    with pytest.raises(GatewayUnavailable):
        gateway.create_checkout(REQUEST)


# ── Coming back ───────────────────────────────────────────────────────────────────────────────
def returned(*query: tuple[str, str]) -> KnownName:
    message = InboundMessage("GET", {}, query, "", b"", MORNING)
    return StripeCheckout(SETTINGS).parse_return(message)


def test_a_returning_browser_names_its_session_and_nothing_else() -> None:
    found = returned(("x", "1"), ("session_id", SESSION))
    assert found == KnownName(gateway_reference=SESSION)


@pytest.mark.parametrize("value", ["", "{CHECKOUT_SESSION_ID}", "cs_test_a/../b", "pi_1", "cs_x_1"])
def test_a_return_that_names_no_session_is_refused(value: str) -> None:
    with pytest.raises(WebhookRefused) as caught:
        returned(("session_id", value))
    assert caught.value.outcome is Outcome.MALFORMED


# ── Signatures ────────────────────────────────────────────────────────────────────────────────
def test_two_v1_signatures_of_which_one_is_right_are_believed() -> None:
    signature = f"{header(BODY, OTHER_SECRET)},{header(BODY).split(',')[1]}"
    found = StripeCheckout(SETTINGS).parse_webhook(posted(BODY, signature))
    assert found.event_id == "evt_1"


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET])
def test_while_secrets_are_exchanged_either_may_sign(secret: str) -> None:
    settings = replace(SETTINGS, webhook_secrets=(SECRET, OTHER_SECRET))
    message = posted(BODY, header(BODY, secret))
    assert StripeCheckout(settings).parse_webhook(message).event_id == "evt_1"


def test_a_signature_of_200_seconds_ago_is_believed_and_one_of_301_is_not() -> None:
    message = posted(BODY, header(BODY, age=200))
    assert StripeCheckout(SETTINGS).parse_webhook(message).event_id == "evt_1"
    assert refused(BODY, header(BODY, age=301)) == (BAD, "old")


def test_a_signature_of_the_future_is_refused() -> None:
    assert refused(BODY, header(BODY, age=-3600)) == (BAD, "future")


def test_a_body_serialised_again_is_refused() -> None:
    again = json.dumps(json.loads(BODY), separators=(",", ":")).encode()
    assert again != BODY
    assert refused(again, header(BODY)) == (BAD, "signature")


def test_the_secret_of_another_endpoint_is_refused() -> None:
    assert refused(BODY, header(BODY, OTHER_SECRET)) == (BAD, "signature")


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "t=",
        "t=12",
        "v1=00",
        f"t={'9' * 5000},v1=00",
        "t=now,v1=00",
        "t=1768444200,v1=é",
        "t=١٧٦٨٤٤٤٢٠٠,v1=00",
        "t=1768444200,v0=00",
        "=,=,=",
    ],
)
def test_what_is_no_signature_is_refused(signature: str | None) -> None:
    outcome, _ = refused(BODY, signature)
    assert outcome is BAD


def test_no_secret_and_an_empty_secret_believe_nobody() -> None:
    for secrets in ((), ("",)):
        settings = replace(SETTINGS, webhook_secrets=secrets)
        assert refused(BODY, header(BODY, ""), settings) == (BAD, "signature")


@pytest.mark.parametrize(
    ("is_sandbox", "livemode"), [(True, True), (False, False), (True, None), (False, None)]
)
def test_a_webhook_of_live_mode_on_a_test_key_is_refused_and_the_reverse(
    *, is_sandbox: bool, livemode: bool | None
) -> None:
    body = json.dumps(event("checkout.session.completed", session(), livemode=livemode)).encode()
    settings = replace(SETTINGS, is_sandbox=is_sandbox)
    assert refused(body, header(body), settings) == (BAD, "wrong_mode")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'"x"', b"null"])
def test_a_signed_body_that_is_no_event_is_malformed(body: bytes) -> None:
    outcome, reason = refused(body, header(body))
    assert outcome is Outcome.MALFORMED
    assert reason in {"no_json", "no_object"}


def test_a_body_that_is_no_text_is_malformed() -> None:
    assert refused(b"\xff\xfe", header(BODY))[0] is Outcome.MALFORMED


# ── Events ────────────────────────────────────────────────────────────────────────────────────
def test_completed_and_paid_is_paid() -> None:
    found = heard("checkout.session.completed", session())
    assert (found.event_id, found.event_type) == ("evt_1", "checkout.session.completed")
    assert found.asks_about == ()
    assert found.updates == (
        PaymentUpdate(
            state=GatewayPaymentState.PAID,
            reference=REFERENCE,
            gateway_reference=SESSION,
            gateway_payment_id=INTENT,
            amount=YEN,
            occurred_at=MORNING,
            asking_tells_instrument=True,
        ),
    )


@pytest.mark.parametrize(
    ("created", "pay_by"),
    [
        # One second before midnight in Japan, and at midnight.
        ("2026-01-12T14:59:59+00:00", "2026-01-15T14:59:59+00:00"),
        ("2026-01-12T15:00:00+00:00", "2026-01-16T14:59:59+00:00"),
    ],
)
def test_completed_and_unpaid_waits_until_the_end_of_the_day_in_japan(
    created: str, pay_by: str
) -> None:
    found = heard(
        "checkout.session.completed",
        session(payment_status="unpaid"),
        created=int(datetime.fromisoformat(created).timestamp()),
    )
    (update,) = found.updates
    assert isinstance(update, PaymentUpdate)
    assert update.state is GatewayPaymentState.AWAITING
    assert update.method == "konbini"
    assert update.pay_by == datetime.fromisoformat(pay_by)


def test_async_succeeded_is_paid_also_before_completed_was_heard() -> None:
    update = payment_of("checkout.session.async_payment_succeeded", session())
    assert update.state is GatewayPaymentState.PAID
    assert (update.gateway_payment_id, update.amount) == (INTENT, YEN)
    late = payment_of("checkout.session.completed", session(payment_status="unpaid"))
    assert late.state is GatewayPaymentState.AWAITING
    assert late.reference == update.reference


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"konbini": {"expires_after_days": 3}}, GatewayPaymentState.EXPIRED),
        ({}, GatewayPaymentState.FAILED),
        (None, GatewayPaymentState.FAILED),
    ],
    ids=["konbini", "no other way", "nothing"],
)
def test_async_failed_is_expired_where_a_store_was_not_paid_in_time(
    options: dict[str, Any] | None, state: GatewayPaymentState
) -> None:
    about = session(payment_status="unpaid", payment_method_options=options)
    update = payment_of("checkout.session.async_payment_failed", about)
    assert (update.state, update.code) == (state, "async_payment_failed")


def test_a_session_that_expired_is_expired() -> None:
    about = session(status="expired", payment_status="unpaid", payment_intent=None)
    update = payment_of("checkout.session.expired", about)
    assert (update.state, update.reference) == (GatewayPaymentState.EXPIRED, REFERENCE)
    assert update.gateway_payment_id is None


def test_two_events_for_one_payment_name_the_same_money() -> None:
    of_session = payment_of("checkout.session.completed", session())
    of_intent = payment_of("payment_intent.succeeded", intent(latest_charge="ch_1"))
    assert of_intent.state is of_session.state is GatewayPaymentState.PAID
    assert of_intent.gateway_payment_id == of_session.gateway_payment_id
    assert of_intent.reference == of_session.reference
    assert of_intent.amount == of_session.amount


def test_the_same_event_twice_has_the_same_id() -> None:
    body = BODY
    gateway = StripeCheckout(SETTINGS)
    first = gateway.parse_webhook(posted(body, header(body)))
    assert gateway.parse_webhook(posted(body, header(body, age=60))) == first


def test_dollars_for_yen_are_told_as_dollars() -> None:
    update = payment_of("checkout.session.completed", session(currency="usd"))
    assert update.amount == Money.from_minor_units(3_000, "USD")


def test_what_the_customer_saw_in_another_currency_changes_nothing() -> None:
    seen = {"presentment_amount": 2000, "presentment_currency": "usd"}
    update = payment_of("checkout.session.completed", session(presentment_details=seen))
    assert update.amount == YEN


def test_what_cost_nothing_brings_no_money() -> None:
    about = session(payment_status="no_payment_required", payment_intent=None, amount_total=0)
    update = payment_of("checkout.session.completed", about)
    assert (update.state, update.code) == (GatewayPaymentState.FAILED, "no_payment_required")


@pytest.mark.parametrize(
    ("event_type", "about"),
    [
        ("checkout.session.completed", session(metadata={})),
        ("checkout.session.expired", session(client_reference_id=None, metadata=None)),
        ("payment_intent.succeeded", intent(metadata={"order": "7"})),
        ("refund.created", refund(payment_intent=None)),
        ("charge.dispute.created", dispute(payment_intent=None)),
        ("charge.refunded", charge(payment_intent=None, metadata={})),
        ("customer.created", {"id": "cus_1", "object": "customer"}),
        ("charge.dispute.funds_reinstated", dispute(payment_intent=None)),
        ("payment_intent.payment_failed", intent(status="requires_payment_method")),
    ],
)
def test_events_of_other_shops_and_of_no_interest_have_no_facts(
    event_type: str, about: dict[str, Any]
) -> None:
    found = heard(event_type, about)
    assert found.event_type == event_type
    assert (found.updates, found.asks_about) == ((), ())


@pytest.mark.parametrize(
    ("event_type", "about"),
    [
        ("checkout.session.completed", session(payment_intent=None)),
        ("checkout.session.completed", session(amount_total="3000")),
        ("checkout.session.completed", session(amount_total=30.5)),
        ("checkout.session.completed", session(currency="zzz")),
        ("checkout.session.completed", {"metadata": {"payment_reference": REFERENCE}}),
        ("payment_intent.succeeded", intent(status="processing")),
        ("payment_intent.succeeded", intent(amount_received=10**30)),
        ("refund.created", {"id": "re_1", "object": "refund"}),
    ],
)
def test_signed_events_that_cannot_be_read_are_malformed(
    event_type: str, about: dict[str, Any]
) -> None:
    if "client_reference_id" not in about and event_type.startswith("checkout"):
        about = {**about, "client_reference_id": REFERENCE}
    body = json.dumps(event(event_type, about)).encode()
    assert refused(body, header(body)) == (Outcome.MALFORMED, "fields")


def test_charge_refunded_twice_with_growing_amounts_asks_twice_what_was_given_back() -> None:
    for amount_refunded in (1000, 2500):
        found = heard("charge.refunded", charge(amount_refunded=amount_refunded))
        assert found.updates == ()
        assert found.asks_about == (KnownName(REFERENCE, None, INTENT),)


@pytest.mark.parametrize(
    ("event_type", "status", "state"),
    [
        ("refund.created", "pending", RefundState.PENDING),
        ("refund.created", "requires_action", RefundState.PENDING),
        ("refund.updated", "succeeded", RefundState.SUCCEEDED),
        ("refund.failed", "failed", RefundState.FAILED),
        ("refund.updated", "canceled", RefundState.FAILED),
    ],
)
def test_a_refund_is_told_with_our_reference_and_its_state(
    event_type: str, status: str, state: RefundState
) -> None:
    names = {"payment_reference": REFERENCE, "refund_reference": REFUND.reference}
    assert fact_of(event_type, refund(status=status, metadata=names)) == RefundUpdate(
        gateway_refund_id="re_1",
        state=state,
        amount=Money.from_minor_units(1_000, "JPY"),
        gateway_payment_id=INTENT,
        payment_reference=REFERENCE,
        reference=REFUND.reference,
        occurred_at=datetime.fromtimestamp(1_768_445_000, UTC),
        stated_at=MORNING,
    )


@pytest.mark.parametrize(
    ("event_type", "status", "state"),
    [
        ("charge.dispute.created", "needs_response", DisputeState.OPEN),
        ("charge.dispute.created", "warning_needs_response", DisputeState.INQUIRY),
        ("charge.dispute.updated", "warning_under_review", DisputeState.INQUIRY),
        ("charge.dispute.updated", "needs_response", DisputeState.OPEN),
        ("charge.dispute.funds_withdrawn", "needs_response", DisputeState.OPEN),
        ("charge.dispute.created", "a_status_of_next_year", DisputeState.OPEN),
        ("charge.dispute.closed", "won", DisputeState.WON),
        ("charge.dispute.closed", "warning_closed", DisputeState.INQUIRY_CLOSED),
        ("charge.dispute.closed", "prevented", DisputeState.WON),
        ("charge.dispute.closed", "lost", DisputeState.LOST),
        # An appeal opens it again, whichever of the two was heard first.
        ("charge.dispute.updated", "appeal_needs_response", DisputeState.OPEN),
        ("charge.dispute.updated", "appeal_under_review", DisputeState.OPEN),
        ("charge.dispute.funds_reinstated", "won", DisputeState.WON),
        ("charge.dispute.funds_reinstated", "under_review", DisputeState.WON),
        ("charge.dispute.funds_reinstated", "lost", DisputeState.LOST),
    ],
)
def test_a_dispute_created_won_and_lost(event_type: str, status: str, state: DisputeState) -> None:
    assert fact_of(event_type, dispute(status=status)) == DisputeUpdate(
        gateway_dispute_id="du_1",
        state=state,
        amount=YEN,
        gateway_payment_id=INTENT,
        reason="fraudulent",
        respond_by=datetime.fromtimestamp(1_769_050_000, UTC),
        occurred_at=datetime.fromtimestamp(1_768_446_000, UTC),
        stated_at=MORNING,
    )


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.RECORDED, 200),
        (Outcome.REPEATED, 200),
        (Outcome.UNKNOWN_PAYMENT, 200),
        (Outcome.WRONG_AMOUNT, 200),
        (Outcome.BAD_SIGNATURE, 400),
        (Outcome.MALFORMED, 400),
        (Outcome.UNAVAILABLE, 503),
    ],
)
def test_stripe_comes_again_only_where_it_should(outcome: Outcome, status: int) -> None:
    assert StripeCheckout(SETTINGS).acknowledge(outcome).status == status


# ── Asking ────────────────────────────────────────────────────────────────────────────────────
def test_a_paid_session_is_fetched_with_its_fee_refunds_and_disputes() -> None:
    gateway, server = answering(
        (200, session(payment_intent=intent())), page(refund()), page(dispute(status="lost"))
    )
    found = gateway.fetch_payment(PAYMENT)
    assert found.payment == PaymentUpdate(
        state=GatewayPaymentState.PAID,
        reference=REFERENCE,
        gateway_reference=SESSION,
        gateway_payment_id=INTENT,
        amount=YEN,
        fee=Money.from_minor_units(108, "JPY"),
        occurred_at=datetime.fromtimestamp(1_768_444_000, UTC),
        method="card",
    )
    assert [one.gateway_refund_id for one in found.refunds] == ["re_1"]
    assert [one.state for one in found.disputes] == [DisputeState.LOST]
    assert [call.path for call in server.calls] == [
        f"/v1/checkout/sessions/{SESSION}",
        "/v1/refunds",
        "/v1/disputes",
    ]
    assert server.calls[0].parameters == {
        "expand[0]": "payment_intent",
        "expand[1]": "payment_intent.latest_charge",
        "expand[2]": "payment_intent.latest_charge.balance_transaction",
    }
    assert server.calls[1].parameters == {"payment_intent": INTENT, "limit": "100"}


@pytest.mark.parametrize(
    ("details", "instrument"),
    [
        (
            {"type": "card", "card": {"brand": "visa", "fingerprint": "Xt5EW", "last4": "4242"}},
            Instrument("Xt5EW", "card …4242"),
        ),
        ({"type": "card", "card": {"fingerprint": None, "last4": "4242"}}, None),
        ({"type": "konbini", "konbini": {"store": "lawson"}}, None),
    ],
    ids=["card", "unrecognised", "konbini"],
)
def test_a_card_is_recognised_by_its_fingerprint_once_stripe_is_asked(
    details: dict[str, Any], instrument: Instrument | None
) -> None:
    paid = intent(latest_charge=charge(payment_method_details=details))
    for answer, known in (
        (session(payment_intent=paid), PAYMENT),
        (paid, replace(PAYMENT, gateway_reference=None)),
    ):
        gateway, _ = answering((200, answer), page(), page())
        update = gateway.fetch_payment(known).payment
        assert (update.instrument, update.asking_tells_instrument) == (instrument, False)
        assert "Xt5EW" not in repr(update)


@pytest.mark.parametrize(
    ("event_type", "about"),
    [
        ("checkout.session.completed", session()),
        ("checkout.session.async_payment_succeeded", session()),
        ("payment_intent.succeeded", intent(latest_charge="ch_1")),
    ],
)
def test_an_event_does_not_say_what_was_paid_with(event_type: str, about: dict[str, Any]) -> None:
    update = payment_of(event_type, about)
    assert (update.instrument, update.asking_tells_instrument) == (None, True)


def test_a_declined_card_is_no_instrument() -> None:
    declined = charge(
        payment_method_details={"type": "card", "card": {"fingerprint": "Xt5EW", "last4": "0002"}}
    )
    unpaid = intent(status="requires_payment_method", latest_charge=declined)
    gateway, _ = answering((200, session(payment_status="unpaid", payment_intent=unpaid)))
    assert gateway.fetch_payment(PAYMENT).payment.instrument is None


def test_more_refunds_than_one_page_are_all_fetched() -> None:
    gateway, server = answering(
        (200, session(payment_intent=intent())),
        page(refund(id="re_2"), has_more=True),
        page(refund(id="re_1")),
        page(),
    )
    found = gateway.fetch_payment(PAYMENT)
    assert [one.gateway_refund_id for one in found.refunds] == ["re_2", "re_1"]
    assert server.calls[2].parameters["starting_after"] == "re_2"


@pytest.mark.parametrize(
    ("transaction", "fee"),
    [
        (None, None),
        ("txn_1", None),
        ({"currency": "jpy", "fee": 0}, Money.zero("JPY")),
        ({"currency": "usd", "fee": 75}, Money.from_minor_units(75, "USD")),
        ({"currency": "zzz", "fee": 75}, None),
        ({"currency": "usd", "fee": "75"}, None),
        ({"currency": "usd"}, None),
    ],
)
def test_fee_is_told_in_the_currency_of_the_balance_once_it_is_known(
    transaction: object, fee: Money | None
) -> None:
    paid = intent(latest_charge=charge(balance_transaction=transaction))
    gateway, _ = answering((200, session(payment_intent=paid)), page(), page())
    update = gateway.fetch_payment(PAYMENT).payment
    assert (update.state, update.amount, update.fee) == (GatewayPaymentState.PAID, YEN, fee)


# ── What cannot be read beside the money ──────────────────────────────────────────────────────
UNREAD: list[Answer] = [
    error(403, type="invalid_request_error", code="more_permissions"),
    error(404, type="invalid_request_error", code="resource_missing"),
    error(429, type="invalid_request_error", code="rate_limit"),
    error(500, type="api_error"),
    (200, "<html>"),
    (200, {"object": "list", "data": 7}),
    (200, {"object": "list", "url": "/v1/x", "has_more": False, "data": [{"id": "x"}]}),
    lost("no answer"),
]


@pytest.mark.parametrize("answer", UNREAD)
def test_money_is_told_where_its_refunds_and_disputes_cannot_be_read(answer: Answer) -> None:
    paid = (200, session(payment_intent=intent()))
    for answers, unread, counts in (
        ((answer, page(dispute())), {"refunds"}, (0, 1)),
        ((page(refund()), answer), {"disputes"}, (1, 0)),
        ((answer, answer), {"refunds", "disputes"}, (0, 0)),
    ):
        gateway, server = answering(paid, *answers)
        found = gateway.complete_payment(PAYMENT)
        assert (found.payment.state, found.payment.amount) == (GatewayPaymentState.PAID, YEN)
        assert found.unread == unread
        assert (len(found.refunds), len(found.disputes)) == counts
        # It is asked for again later, and not meanwhile.
        assert len(server.calls) == 3


def test_refunds_that_can_be_read_are_told_beside_those_that_cannot() -> None:
    odd = refund(id="re_2", currency="zzz")
    gateway, _ = answering(
        (200, session(payment_intent=intent())),
        page(refund(id="re_3"), odd, refund(), has_more=True),
        error(500, type="api_error"),
        page(),
    )
    found = gateway.fetch_payment(PAYMENT)
    assert [one.gateway_refund_id for one in found.refunds] == ["re_3", "re_1"]
    assert found.unread == {"refunds"}


def test_refunds_and_disputes_are_not_waited_for_as_long_as_money(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[tuple[int, int]] = []

    def connect(timeout: tuple[int, int]) -> FakeServer:
        waits.append(timeout)
        return FakeServer([(200, session(payment_intent=intent())), page(), page()])

    monkeypatch.setattr(stripe, "RequestsClient", connect)
    StripeCheckout(SETTINGS)
    assert waits == [(5, 20), (5, 10)]


# ── How disputes end ──────────────────────────────────────────────────────────────────────────
def balance(amount: int, fee: int = 0, currency: str = "jpy") -> dict[str, Any]:
    return {"object": "balance_transaction", "amount": amount, "fee": fee, "currency": currency}


@pytest.mark.parametrize(
    ("status", "movements", "state", "part"),
    [
        ("lost", [balance(-3000, 1500)], DisputeState.LOST, None),
        ("lost", [balance(-3000), balance(1000)], DisputeState.LOST, 2_000),
        ("lost", [balance(-3000), balance(3000), balance(-3000)], DisputeState.LOST, None),
        ("lost", [balance(-3000), balance(3000)], DisputeState.WON, None),
        ("lost", [balance(-30, 0, "usd"), balance(10, 0, "usd")], DisputeState.LOST, None),
        ("lost", [balance(-3000), {"amount": "x"}], DisputeState.LOST, None),
        ("lost", None, DisputeState.LOST, None),
        ("lost", ["txn_1"], DisputeState.LOST, None),
        ("won", [balance(-3000)], DisputeState.WON, None),
        ("won", [balance(-3000), balance(1000)], DisputeState.WON, None),
        ("needs_response", [balance(-3000), balance(1000)], DisputeState.OPEN, None),
    ],
)
def test_dispute_loses_what_was_not_reinstated(
    status: str, movements: object, state: DisputeState, part: int | None
) -> None:
    document = dispute(status=status, balance_transactions=movements)
    gateway, _ = answering((200, session(payment_intent=intent())), page(), page(document))
    (polled,) = gateway.fetch_payment(PAYMENT).disputes
    heard = fact_of("charge.dispute.closed", document)
    assert isinstance(heard, DisputeUpdate)
    expected = None if part is None else Money.from_minor_units(part, "JPY")
    for update in (polled, heard):
        assert (update.state, update.amount, update.lost) == (state, YEN, expected)
    # An answer is as of the question; a message is as of when it was made.
    assert (polled.stated_at, heard.stated_at) == (None, MORNING)


@pytest.mark.parametrize(
    ("movements", "fee"),
    [
        (None, None),
        ([], None),
        (["txn_1"], None),
        ([balance(-3000)], Money.zero("JPY")),
        ([balance(-3000, 1_500)], Money.from_minor_units(1_500, "JPY")),
        ([balance(-3000, 1_500), balance(3000, -1_500)], Money.zero("JPY")),
        ([balance(-20, 1_500, "usd")], Money.from_minor_units(1_500, "USD")),
        ([balance(-20, 1_500, "usd"), balance(-3000, 10)], None),
        ([balance(-20, 1_500, "zzz")], None),
        ([{"amount": -20}], None),
    ],
)
def test_dispute_fee_is_that_of_its_balance_transactions(
    movements: object, fee: Money | None
) -> None:
    update = fact_of("charge.dispute.created", dispute(balance_transactions=movements))
    assert isinstance(update, DisputeUpdate)
    assert (update.state, update.fee) == (DisputeState.OPEN, fee)


@pytest.mark.parametrize("client_reference", ["other", None, 7])
@pytest.mark.parametrize(
    ("event_type", "state"),
    [
        ("checkout.session.completed", GatewayPaymentState.PAID),
        ("checkout.session.async_payment_failed", GatewayPaymentState.EXPIRED),
        ("checkout.session.expired", GatewayPaymentState.EXPIRED),
    ],
)
def test_session_is_ours_by_its_metadata_alone(
    event_type: str, state: GatewayPaymentState, client_reference: object
) -> None:
    """A paid one is told to somebody, also where nobody here knows its reference."""
    names = {"payment_reference": "NOBODYKNOWSTHISONE00"}
    about = session(client_reference_id=client_reference, metadata=names)
    update = payment_of(event_type, about)
    assert (update.state, update.reference) == (state, "NOBODYKNOWSTHISONE00")
    assert update.amount == YEN


INSTRUCTIONS = "https://payments.stripe.com/konbini/voucher/test_1"
VOUCHER = {
    "konbini_display_details": {
        "expires_at": 1_768_748_399,
        "hosted_voucher_url": INSTRUCTIONS,
    }
}
LAPSED = {"code": "payment_intent_payment_attempt_expired"}


@pytest.mark.parametrize(
    ("about", "state", "code"),
    [
        (session(status="open", payment_status="unpaid"), GatewayPaymentState.OPEN, None),
        (
            session(status="expired", payment_status="unpaid"),
            GatewayPaymentState.EXPIRED,
            "expired",
        ),
        (
            session(
                payment_status="unpaid",
                payment_intent=intent(status="requires_payment_method", last_payment_error=LAPSED),
            ),
            GatewayPaymentState.EXPIRED,
            "payment_intent_payment_attempt_expired",
        ),
        (
            session(payment_status="unpaid", payment_intent=intent(status="processing")),
            GatewayPaymentState.AWAITING,
            None,
        ),
        (
            session(payment_status="unpaid", payment_intent=intent(status="canceled")),
            GatewayPaymentState.FAILED,
            "canceled",
        ),
        (
            session(payment_status="unpaid", payment_intent=intent(status="requires_capture")),
            GatewayPaymentState.UNDER_REVIEW,
            None,
        ),
        (
            session(payment_status="no_payment_required", payment_intent=None),
            GatewayPaymentState.FAILED,
            "no_payment_required",
        ),
    ],
)
def test_an_unpaid_session_is_fetched_as_it_stands(
    about: dict[str, Any], state: GatewayPaymentState, code: str | None
) -> None:
    gateway, server = answering((200, about))
    found = gateway.fetch_payment(PAYMENT)
    assert (found.payment.state, found.payment.code) == (state, code)
    assert len(server.calls) == 1


def test_konbini_is_fetched_with_the_moment_until_which_it_can_be_paid() -> None:
    declined_before = charge(status="failed")
    waiting = intent(status="requires_action", next_action=VOUCHER, latest_charge=declined_before)
    gateway, _ = answering((200, session(payment_status="unpaid", payment_intent=waiting)))
    update = gateway.complete_payment(PAYMENT).payment
    assert update.state is GatewayPaymentState.AWAITING
    assert update.method == "konbini"
    assert update.pay_by == datetime.fromtimestamp(1_768_748_399, UTC)
    assert update.instructions_url == INSTRUCTIONS


@pytest.mark.parametrize("address", [None, 7, "", "javascript:alert(1)", "https://a b"])
def test_strange_address_of_instructions_is_left_out(address: object) -> None:
    details = {"expires_at": 1_768_748_399, "hosted_voucher_url": address}
    action = {"konbini_display_details": details}
    waiting = intent(status="requires_action", next_action=action)
    gateway, _ = answering((200, session(payment_status="unpaid", payment_intent=waiting)))
    update = gateway.complete_payment(PAYMENT).payment
    assert (update.state, update.instructions_url) == (GatewayPaymentState.AWAITING, None)


def test_a_session_that_stripe_does_not_know_is_unknown() -> None:
    gateway, _ = answering(error(404, code="resource_missing", type="invalid_request_error"))
    assert gateway.fetch_payment(PAYMENT).payment.state is GatewayPaymentState.UNKNOWN


def test_money_whose_session_is_not_known_is_fetched_by_itself() -> None:
    gateway, server = answering((200, intent()), page(), page())
    found = gateway.fetch_payment(replace(PAYMENT, gateway_reference=None))
    assert found.payment.state is GatewayPaymentState.PAID
    assert found.payment.amount == YEN
    assert server.calls[0].path == f"/v1/payment_intents/{INTENT}"


def test_of_a_payment_that_was_never_opened_stripe_is_not_asked() -> None:
    gateway, server = answering()
    never = replace(PAYMENT, gateway_reference=None, gateway_payment_id=None)
    assert gateway.fetch_payment(never).payment.state is GatewayPaymentState.UNKNOWN
    assert server.calls == []


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        (PAYMENT, session(client_reference_id="other", metadata={"payment_reference": "other"})),
        (replace(PAYMENT, gateway_reference=None), intent(metadata={})),
        (PAYMENT, {"object": "checkout.session"}),
        (PAYMENT, session(payment_intent=intent(amount_received=None))),
    ],
)
def test_an_answer_about_another_payment_or_without_sense_is_no_answer(
    known: KnownPayment, answer: dict[str, Any]
) -> None:
    gateway, _ = answering((200, answer))
    with pytest.raises(GatewayUnavailable):
        gateway.fetch_payment(known)


# ── Giving back ───────────────────────────────────────────────────────────────────────────────
def test_a_refund_is_asked_for_in_whole_yen_under_our_reference() -> None:
    gateway, server = answering(page(), (200, refund(status="pending")))
    update = gateway.refund(REFUND)
    call = server.calls[1]
    assert (call.method, call.path) == ("post", "/v1/refunds")
    assert call.parameters == {
        "payment_intent": INTENT,
        "amount": "1000",
        "metadata[payment_reference]": REFERENCE,
        "metadata[refund_reference]": REFUND.reference,
        "metadata[asked_by]": "staff1",
    }
    assert call.headers["Idempotency-Key"] == f"refund-{REFUND.reference}"
    assert update.state is RefundState.PENDING


def test_a_refund_asked_for_again_after_stripe_forgot_the_key_is_the_same_refund() -> None:
    ours = refund(id="re_2", metadata={"refund_reference": REFUND.reference})
    gateway, server = answering(page(refund(), ours))
    assert gateway.refund(REFUND).gateway_refund_id == "re_2"
    assert [call.method for call in server.calls] == ["get"]


def test_what_was_not_paid_is_not_given_back() -> None:
    gateway, server = answering()
    with pytest.raises(GatewayRefused):
        gateway.refund(replace(REFUND, payment=replace(PAYMENT, gateway_payment_id=None)))
    assert server.calls == []


# ── What goes wrong ───────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (error(400, type="invalid_request_error", code="amount_too_small"), "amount_too_small"),
        (error(400, type="invalid_request_error"), "invalid_request_error"),
        (error(400, type="idempotency_error"), "idempotency_error"),
        (error(401, type="invalid_request_error"), "authentication"),
        (error(402, type="card_error", code="card_declined"), "card_declined"),
        (error(403, type="invalid_request_error", code="more_permissions"), "more_permissions"),
        (error(404, type="invalid_request_error", code="resource_missing"), "resource_missing"),
        (error(400, type="invalid_request_error", code=f"<{KEY}>"), "http_400"),
    ],
)
def test_what_stripe_will_not_do_is_refused_with_its_code(answer: Answer, reason: str) -> None:
    gateway, _ = answering(answer)
    with pytest.raises(GatewayRefused) as caught:
        gateway.create_checkout(REQUEST)
    assert caught.value.reason == reason
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        (error(409, type="invalid_request_error", code="lock_timeout"), 3),
        (error(429, type="invalid_request_error", code="rate_limit"), 1),
        (error(400, type="invalid_request_error", code="rate_limit"), 1),
        (error(500, type="api_error"), 3),
        ((503, "<html>busy</html>"), 3),
        ((200, "not JSON"), 1),
        ((302, "{}"), 1),
        (lost(f"no way with {KEY}"), 3),
    ],
)
def test_what_became_of_it_is_unknown_where_stripe_does_not_answer(
    answer: Answer, calls: int
) -> None:
    gateway, server = answering(*[answer] * 3)
    with pytest.raises(GatewayUnavailable) as caught:
        gateway.create_checkout(REQUEST)
    assert KEY not in str(caught.value)
    assert caught.value.__suppress_context__
    assert len(server.calls) == calls
    assert {call.headers["Idempotency-Key"] for call in server.calls} == {f"checkout-{REFERENCE}"}


def test_a_timeout_after_the_refund_was_made_finds_it_by_the_same_key() -> None:
    gateway, server = answering(page(), lost("the answer got lost"), (200, refund()))
    assert gateway.refund(REFUND).gateway_refund_id == "re_1"
    first, second = server.calls[1:]
    assert first.parameters == second.parameters
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


def test_secrets_stand_in_no_repr_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    gateway, server = answering((200, session()))
    gateway.create_checkout(REQUEST)
    assert server.calls[0].headers["Authorization"] == f"Bearer {KEY}"
    for text in (repr(SETTINGS), str(SETTINGS), repr(gateway), caplog.text):
        assert KEY not in text
        assert SECRET not in text


def test_nothing_about_this_computer_is_sent_along() -> None:
    gateway, server = answering((200, session()))
    gateway.create_checkout(REQUEST)
    message = json.loads(server.calls[0].headers["X-Stripe-Client-User-Agent"])
    assert not {"telemetry_id", "platform"} & message.keys()
