"""Whatever a gateway says, an adapter raises its own three errors or returns what can be kept.

Documents are those of real life with a few places changed at random: values of another kind, names
that no database takes, numbers without measure, shapes within shapes, and what is missing.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx2
import pytest
import stripe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.gateways.interface import (
    CheckoutRequest,
    DisputeUpdate,
    GatewayRefused,
    GatewayUnavailable,
    InboundMessage,
    KnownPayment,
    Outcome,
    RefundRequest,
    RefundUpdate,
    WebhookRefused,
)
from domain.gateways.paypal.client import PayPal
from domain.gateways.paypal.settings import PayPalSettings
from domain.gateways.paypal.webhooks import WebhookVerifier
from domain.gateways.stripe.client import StripeCheckout
from domain.gateways.stripe.settings import StripeSettings
from domain.gateways.vnpay.client import VNPay
from domain.gateways.vnpay.fields import QUERY_RESPONSE, REFUND_RESPONSE, hash_data, sign
from domain.gateways.vnpay.settings import VNPaySettings
from domain.money import Money
from tests.support.strange_documents import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from domain.gateways.interface import Gateway
    from tests.support.strange_documents import Document

MORNING = datetime(2026, 1, 15, 2, 30, tzinfo=UTC)
REFERENCE, REFUND_REFERENCE = "ABCDEFGHJKLMNPQRSTUV", "RRRRRRRRRRRRRRRRRRRR"
many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# ── What may come of them ─────────────────────────────────────────────────────────────────────
def check_kept(found: object, name: str = "") -> None:
    """Fail unless a database can keep every text, amount and moment of what was returned."""
    if isinstance(found, str):
        found.encode()
        assert "\x00" not in found
        assert name == "redirect_url" or len(found) <= 255
    elif isinstance(found, Money):
        assert 0 <= found.micros < 2**63
    elif isinstance(found, datetime):
        assert found.tzinfo is not None
        assert 2000 <= found.year < 2100
    elif isinstance(found, (tuple, frozenset)):
        for one in found:
            check_kept(one, name)
    elif is_dataclass(found):
        if isinstance(found, (RefundUpdate, DisputeUpdate)):
            assert found.amount.micros > 0
        if isinstance(found, DisputeUpdate) and found.lost is not None:
            assert Money.zero(found.amount.currency) < found.lost < found.amount
        for one in fields(found):
            check_kept(getattr(found, one.name), one.name)
    else:
        assert found is None or isinstance(found, (bool, int)), f"{name} is {found!r}"


def check_answer(ask: Callable[[], object]) -> None:
    """Ask, and fail unless what comes is of use or one of the two errors."""
    try:
        found = ask()
    except (GatewayRefused, GatewayUnavailable) as error:
        check_kept(error.reason)
        return
    check_kept(found)


def check_message(read: Callable[[], object]) -> None:
    try:
        found = read()
    except WebhookRefused as refusal:
        check_kept(refusal.reason)
        return
    check_kept(found)


def payment(currency: str, count: int, order: str | None, money: str | None) -> KnownPayment:
    return KnownPayment(REFERENCE, order, money, Money.from_minor_units(count, currency), MORNING)


def checkout(known: KnownPayment) -> CheckoutRequest:
    return CheckoutRequest(
        reference=REFERENCE,
        amount=known.amount,
        description="Credit ABC",
        return_url="https://portal.example.com/back",
        cancel_url="https://portal.example.com/cancelled",
        customer_email="lan@example.com",
        customer_ip="203.0.113.7",
        language="en",
        created_at=MORNING,
        expires_at=MORNING + timedelta(hours=1),
    )


def refund_request(known: KnownPayment) -> RefundRequest:
    return RefundRequest(
        payment=known,
        reference=REFUND_REFERENCE,
        amount=known.amount,
        is_whole=True,
        actor="staff1",
        requested_at=MORNING,
    )


# ── Stripe ────────────────────────────────────────────────────────────────────────────────────
SECRET = "whsec_0123456789"
YEN = payment("JPY", 3_000, "cs_test_a1", "pi_1")
NAMES = {"payment_reference": REFERENCE, "refund_reference": REFUND_REFERENCE}
INTENT: Document = {
    "id": "pi_1",
    "object": "payment_intent",
    "amount": 3000,
    "amount_received": 3000,
    "currency": "jpy",
    "last_payment_error": {"code": "card_declined"},
    "latest_charge": {
        "id": "ch_1",
        "object": "charge",
        "balance_transaction": {"object": "balance_transaction", "currency": "usd", "fee": 75},
        "created": 1_768_444_000,
        "payment_method_details": {
            "type": "card",
            "card": {"fingerprint": "Xt5EW", "last4": "4242"},
        },
    },
    "metadata": NAMES,
    "next_action": {"konbini_display_details": {"expires_at": 1_768_748_399}},
    "status": "succeeded",
}
SESSION: Document = {
    "id": "cs_test_a1",
    "object": "checkout.session",
    "amount_total": 3000,
    "client_reference_id": REFERENCE,
    "currency": "jpy",
    "expires_at": 1_768_450_000,
    "metadata": NAMES,
    "payment_intent": INTENT,
    "payment_method_options": {"konbini": {"expires_after_days": 3}},
    "payment_status": "paid",
    "status": "complete",
    "url": "https://checkout.example.com/c/pay",
}
STRIPE_REFUND: Document = {
    "id": "re_1",
    "object": "refund",
    "amount": 1000,
    "created": 1_768_445_000,
    "currency": "jpy",
    "metadata": NAMES,
    "payment_intent": "pi_1",
    "status": "succeeded",
}
MOVEMENTS = [
    {"object": "balance_transaction", "amount": -3000, "currency": "jpy", "fee": 1500},
    {"object": "balance_transaction", "amount": 1000, "currency": "jpy", "fee": 0},
]
STRIPE_DISPUTE: Document = {
    "id": "du_1",
    "object": "dispute",
    "amount": 3000,
    "balance_transactions": MOVEMENTS,
    "created": 1_768_446_000,
    "currency": "jpy",
    "evidence_details": {"due_by": 1_769_050_000},
    "metadata": NAMES,
    "payment_intent": "pi_1",
    "reason": "fraudulent",
    "status": "lost",
}
CHARGE: Document = {"id": "ch_1", "object": "charge", "metadata": NAMES, "payment_intent": "pi_1"}
STRIPE_EVENTS = [
    ("checkout.session.completed", SESSION),
    ("checkout.session.completed", {**SESSION, "payment_status": "unpaid"}),
    ("checkout.session.async_payment_succeeded", SESSION),
    ("checkout.session.async_payment_failed", SESSION),
    ("checkout.session.expired", SESSION),
    ("payment_intent.succeeded", INTENT),
    ("refund.created", STRIPE_REFUND),
    ("refund.failed", STRIPE_REFUND),
    ("charge.refunded", CHARGE),
    ("charge.dispute.created", STRIPE_DISPUTE),
    ("charge.dispute.closed", STRIPE_DISPUTE),
    ("charge.dispute.funds_reinstated", STRIPE_DISPUTE),
]


class StripeServer(stripe.HTTPClient):
    """Answers by path."""

    name = "fake"

    def __init__(self, answers: Mapping[str, object]) -> None:
        super().__init__()
        self._answers = answers

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,  # noqa: ARG002 - Stripe's own signature
        post_data: Any = None,  # noqa: ARG002
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        path = httpx2.URL(url).path
        key = next(one for one in self._answers if f"{method} {path}".startswith(one))
        return json.dumps(self._answers[key]), 200, {}


def stripe_at(answers: Mapping[str, object]) -> StripeCheckout:
    account = StripeSettings("sk_test_1", (SECRET,), "https://api.example.com", is_sandbox=True)
    return StripeCheckout(account, StripeServer(answers))


def one_page(document: object) -> Document:
    return {"object": "list", "url": "/v1/x", "data": [document], "has_more": False}


def signed_by_stripe(body: bytes) -> InboundMessage:
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET)
    return InboundMessage("POST", {"stripe-signature": header}, (), "", body, datetime.now(UTC))


@many
@given(st.data())
def test_stripe_event_that_is_strange_is_refused_or_can_be_kept(data: st.DataObject) -> None:
    event_type, about = data.draw(st.sampled_from(STRIPE_EVENTS))
    event = {
        "id": "evt_1",
        "object": "event",
        "created": 1_768_444_000,
        "data": {"object": about},
        "livemode": False,
        "type": event_type,
    }
    body = json.dumps(data.draw(changed(event))).encode()
    check_message(lambda: stripe_at({}).parse_webhook(signed_by_stripe(body)))


@many
@given(st.data())
def test_stripe_answer_that_is_strange_is_unread_or_can_be_kept(data: st.DataObject) -> None:
    kinds = [SESSION, one_page(STRIPE_REFUND), one_page(STRIPE_DISPUTE), STRIPE_REFUND, INTENT]
    place = data.draw(st.integers(0, len(kinds) - 1))
    kinds[place] = data.draw(changed(kinds[place]))
    answers = {
        "get /v1/checkout/sessions": kinds[0],
        "post /v1/checkout/sessions": kinds[0],
        "get /v1/refunds": kinds[1],
        "get /v1/disputes": kinds[2],
        "post /v1/refunds": kinds[3],
        "get /v1/payment_intents": kinds[4],
        "get /": one_page(STRIPE_REFUND),  # the next page, where a list says that it has one
    }
    gateway = stripe_at(answers)
    check_answer(lambda: gateway.fetch_payment(YEN))
    check_answer(lambda: gateway.fetch_payment(payment("JPY", 3_000, None, "pi_1")))
    check_answer(lambda: gateway.refund(refund_request(YEN)))
    check_answer(lambda: gateway.create_checkout(checkout(YEN)))
    if place in {1, 2}:
        assert gateway.fetch_payment(YEN).payment.amount == YEN.amount


# ── PayPal ────────────────────────────────────────────────────────────────────────────────────
DOLLARS = payment("USD", 1_000, "5O190127TN364715T", "3C679366HH908993F")
ORDER_PATH = "/v2/checkout/orders/5O190127TN364715T"


def usd(value: str, currency: str = "USD") -> Document:
    return {"currency_code": currency, "value": value}


UP = {"rel": "up", "href": "https://api-m.paypal.com/v2/payments/captures/3C679366HH908993F"}
CAPTURE: Document = {
    "id": "3C679366HH908993F",
    "status": "COMPLETED",
    "status_details": {"reason": "ECHECK"},
    "amount": usd("10.00"),
    "custom_id": REFERENCE,
    "create_time": "2026-01-15T02:35:00Z",
    "update_time": "2026-01-15T02:36:00Z",
    "supplementary_data": {"related_ids": {"order_id": "5O190127TN364715T"}},
    "seller_receivable_breakdown": {
        "paypal_fee": usd("0.69"),
        "paypal_fee_in_receivable_currency": usd("105", "JPY"),
    },
}
PAYPAL_REFUND: Document = {
    "id": "1JU08902781691411",
    "status": "COMPLETED",
    "amount": usd("3.00"),
    "custom_id": f"refund-{REFUND_REFERENCE}",
    "create_time": "2026-01-15T02:35:00Z",
    "links": [UP],
}
ORDER: Document = {
    "id": "5O190127TN364715T",
    "status": "COMPLETED",
    "payer": {"payer_id": "QYR5Z8XDVJNXQ"},
    "payment_source": {"paypal": {"account_id": "QYR5Z8XDVJNXQ"}},
    "links": [{"rel": "payer-action", "href": "https://www.paypal.com/checkoutnow?token=1"}],
    "purchase_units": [
        {
            "custom_id": REFERENCE,
            "payments": {"captures": [CAPTURE], "refunds": [PAYPAL_REFUND]},
        }
    ],
}
APPROVED = {**ORDER, "status": "APPROVED", "purchase_units": [{"custom_id": REFERENCE}]}
PAYPAL_DISPUTE: Document = {
    "dispute_id": "PP-D-1",
    "status": "RESOLVED",
    "reason": "UNAUTHORISED",
    "dispute_amount": usd("10.00"),
    "dispute_outcome": {"outcome_code": "ACCEPTED", "amount_refunded": usd("4.00")},
    "disputed_transactions": [
        {
            "seller_transaction_id": "3C679366HH908993F",
            "custom": REFERENCE,
            "gross_amount": usd("10.00"),
        }
    ],
    "money_movements": [
        {
            "affected_party": "SELLER",
            "amount": usd("15.00"),
            "type": "DEBIT",
            "reason": "DISPUTE_FEE",
        }
    ],
    "seller_response_due_date": "2026-01-25T00:00:00.000Z",
    "update_time": "2026-01-16T00:00:00Z",
}
LISTED: Document = {"items": [{"dispute_id": "PP-D-1"}]}
PAYPAL_EVENTS = [
    ("CHECKOUT.ORDER.APPROVED", APPROVED),
    ("CHECKOUT.PAYMENT-APPROVAL.REVERSED", {"order_id": "5O1", **APPROVED}),
    *((f"PAYMENT.CAPTURE.{name}", CAPTURE) for name in ("COMPLETED", "PENDING", "DENIED")),
    ("PAYMENT.CAPTURE.REFUNDED", PAYPAL_REFUND),
    ("PAYMENT.CAPTURE.REVERSED", PAYPAL_REFUND),
    ("PAYMENT.REFUND.FAILED", PAYPAL_REFUND),
    *((f"CUSTOMER.DISPUTE.{name}", PAYPAL_DISPUTE) for name in ("CREATED", "RESOLVED")),
]


@pytest.fixture(autouse=True, scope="module")
def _signatures_are_good() -> Iterator[None]:
    """PayPal's signatures: test_paypal_webhooks.py is about those."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WebhookVerifier, "verify", lambda _self, _message: None)
        yield


def paypal_at(answers: Mapping[str, object]) -> PayPal:
    def respond(request: httpx2.Request) -> httpx2.Response:
        found = answers[f"{request.method} {request.url.path}"]
        return httpx2.Response(200, content=json.dumps(found).encode())

    account = PayPalSettings("id", "secret", "hook", "https://api-m.paypal.com", False, "Shop")  # noqa: FBT003
    return PayPal(account, transport=httpx2.MockTransport(respond))


@many
@given(st.data())
def test_paypal_event_that_is_strange_is_refused_or_can_be_kept(data: st.DataObject) -> None:
    event_type, resource = data.draw(st.sampled_from(PAYPAL_EVENTS))
    event = {
        "id": "WH-1",
        "event_type": event_type,
        "create_time": "2026-01-15T02:35:00Z",
        "resource": resource,
    }
    body = json.dumps(data.draw(changed(event))).encode()
    message = InboundMessage("POST", {}, (), "", body, MORNING)
    check_message(lambda: paypal_at({}).parse_webhook(message))


@many
@given(st.data())
def test_paypal_answer_that_is_strange_is_unread_or_can_be_kept(data: st.DataObject) -> None:
    token = {"access_token": "t", "expires_in": 30_000}
    kinds = [ORDER, LISTED, PAYPAL_DISPUTE, PAYPAL_REFUND, APPROVED, token]
    place = data.draw(st.integers(0, len(kinds) - 1))
    kinds[place] = data.draw(changed(kinds[place]))
    answers = {
        f"GET {ORDER_PATH}": kinds[0],
        "POST /v2/checkout/orders": kinds[0],
        f"POST {ORDER_PATH}/capture": kinds[0],
        "GET /v1/customer/disputes": kinds[1],
        "GET /v1/customer/disputes/PP-D-1": kinds[2],
        "POST /v2/payments/captures/3C679366HH908993F/refund": kinds[3],
        "POST /v1/oauth2/token": kinds[5],
    }

    class Lenient(dict[str, object]):
        def __missing__(self, key: str) -> object:
            return {}

    gateway = paypal_at(Lenient(answers))
    waiting = paypal_at(Lenient(answers | {f"GET {ORDER_PATH}": kinds[4]}))
    check_answer(lambda: gateway.fetch_payment(DOLLARS))
    check_answer(lambda: waiting.complete_payment(DOLLARS))
    check_answer(lambda: gateway.refund(refund_request(DOLLARS)))
    check_answer(lambda: gateway.create_checkout(checkout(DOLLARS)))
    if place in {1, 2, 3}:
        assert gateway.fetch_payment(DOLLARS).payment.amount == DOLLARS.amount


# ── VNPay ─────────────────────────────────────────────────────────────────────────────────────
HASH_SECRET = "TESTSECRETKEY0123456789ABCDEFGHIJ"
TERMINAL = VNPaySettings(
    "TESTTMN1", HASH_SECRET, "https://pay.example.com", "https://api.example.com", is_sandbox=True
)
DONG = payment("VND", 500_000, None, "14422574")
IPN = {
    "vnp_TmnCode": "TESTTMN1",
    "vnp_Amount": "50000000",
    "vnp_CardType": "ATM",
    "vnp_PayDate": "20260115093312",
    "vnp_ResponseCode": "00",
    "vnp_TransactionNo": "14422574",
    "vnp_TransactionStatus": "00",
    "vnp_TxnRef": REFERENCE,
}
ANSWERED: Document = {
    "vnp_ResponseId": "r1",
    "vnp_Command": "querydr",
    "vnp_ResponseCode": "00",
    "vnp_TmnCode": "TESTTMN1",
    "vnp_TxnRef": REFERENCE,
    "vnp_Amount": "50000000",
    "vnp_TransactionNo": "14422575",
    "vnp_TransactionType": "01",
    "vnp_TransactionStatus": "00",
    "vnp_PayDate": "20260115093312",
    "vnp_OrderInfo": f"Refund {REFERENCE} {REFUND_REFERENCE}",
}
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "00", "07", "24", "0", "\x00", "9" * 300, "00010101000000", "-1", "NaN"]),
)


@many
@given(st.data())
def test_vnpay_ipn_that_is_strange_is_refused_or_can_be_kept(data: st.DataObject) -> None:
    given_values = dict(IPN)
    for name in data.draw(st.lists(st.sampled_from(sorted(IPN)), max_size=3)):
        given_values[name] = data.draw(TEXTS)
    pairs = list(given_values.items())
    pairs.append(("vnp_SecureHash", sign(HASH_SECRET, hash_data(pairs))))
    text = urlencode(pairs, errors="surrogatepass")
    message = InboundMessage("GET", {}, pairs, text, b"", MORNING)
    gateway = VNPay(TERMINAL, httpx2.MockTransport(lambda _: httpx2.Response(500)))
    check_message(lambda: gateway.parse_webhook(message))
    check_message(lambda: gateway.parse_return(message))


@many
@given(st.data(), st.sampled_from(["01", "02", "03"]))
def test_vnpay_answer_that_is_strange_is_unread_or_can_be_kept(
    data: st.DataObject, kind: str
) -> None:
    answer = data.draw(changed({**ANSWERED, "vnp_TransactionType": kind}))
    answer.pop("vnp_SecureHash", None)
    read = json.loads(json.dumps(answer), parse_int=str, parse_float=str)

    def respond(request: httpx2.Request) -> httpx2.Response:
        is_query = json.loads(request.content)["vnp_Command"] == "querydr"
        names = QUERY_RESPONSE if is_query else REFUND_RESPONSE
        joined = "|".join(str(read.get(name, "") or "") for name in names)
        body = {**answer, "vnp_SecureHash": sign(HASH_SECRET, joined)}
        return httpx2.Response(200, content=json.dumps(body).encode())

    for known in (DONG, payment("VND", 500_000, None, None)):
        gateway = VNPay(TERMINAL, httpx2.MockTransport(respond), lambda: MORNING)
        check_answer(partial(gateway.fetch_payment, known))
        check_answer(partial(gateway.refund, refund_request(known)))


def test_list_without_an_end_is_left_and_its_payment_told() -> None:
    endless = {**one_page(STRIPE_REFUND), "has_more": True}
    gateway = stripe_at({"get /v1/checkout/sessions": SESSION, "get /": endless})
    found = gateway.fetch_payment(YEN)
    assert found.payment.amount == YEN.amount
    assert found.unread == {"refunds", "disputes"}


# ── What is no document at all ────────────────────────────────────────────────────────────────
TOO_DEEP = b'{"a":' * 50_000 + b"1" + b"}" * 50_000


# A body that says two things, or what JSON does not have, and Python would read all the same.
AMBIGUOUS = [
    b'{"id": "WH-1", "event_type": "A", "id": "WH-2"}',
    b'{"id": "WH-1", "event_type": "A", "resource": {"amount": 1, "amount": 2}}',
    b'{"id": "WH-1", "event_type": "A", "resource": NaN}',
    b'{"id": "WH-1", "event_type": "A", "resource": [-Infinity]}',
    '{"id": "WH-1", "event_type": "A"}'.encode("utf-16"),
    b'\xef\xbb\xbf{"id": "WH-1", "event_type": "A"}',
    b'{"id": "WH-1", "event_type": "A", "resource": "\xed\xa0\x80"}',
    b"",
    b"{",
    b"[]",
    b'"text"',
]


@pytest.mark.parametrize("body", AMBIGUOUS)
def test_body_that_can_be_read_in_two_ways_is_malformed(body: bytes) -> None:
    message = InboundMessage("POST", {}, (), "", body, MORNING)
    with pytest.raises(WebhookRefused) as caught:
        paypal_at({}).parse_webhook(message)
    assert caught.value.outcome is Outcome.MALFORMED
    assert caught.value.reason in {"no_json", "no_object"}
    with contextlib.suppress(UnicodeDecodeError):
        with pytest.raises(WebhookRefused) as caught:
            stripe_at({}).parse_webhook(signed_by_stripe(body))
        assert caught.value.reason in {"no_json", "no_object"}


@pytest.mark.parametrize(
    "body", [TOO_DEEP, b'{"id":' + b"9" * 5_000 + b"}", b"NaN", b"null", b"\xff", b"[" * 100_000]
)
def test_body_without_measure_is_refused_and_unread(body: bytes) -> None:
    refused = (GatewayRefused, GatewayUnavailable)
    answered = httpx2.MockTransport(lambda _: httpx2.Response(200, content=body))
    account = PayPalSettings("id", "secret", "hook", "https://api-m.paypal.com", False, "Shop")  # noqa: FBT003
    with pytest.raises(refused):
        PayPal(account, transport=answered).fetch_payment(DOLLARS)
    with pytest.raises(refused):
        VNPay(TERMINAL, answered).fetch_payment(DONG)
    message = InboundMessage("POST", {}, (), "", body, MORNING)
    with pytest.raises(WebhookRefused):
        paypal_at({}).parse_webhook(message)
    if body.isascii():
        with pytest.raises(WebhookRefused):
            stripe_at({}).parse_webhook(signed_by_stripe(body))


@pytest.mark.parametrize("gateway", ["stripe", "paypal", "vnpay"])
def test_amount_finer_than_its_coins_is_refused_before_anybody_is_asked(gateway: str) -> None:
    def nobody(_request: httpx2.Request) -> httpx2.Response:
        raise AssertionError("nobody is asked")

    account = PayPalSettings("id", "secret", "hook", "https://api-m.paypal.com", False, "Shop")  # noqa: FBT003
    gateways: dict[str, tuple[Gateway, Money]] = {
        "stripe": (stripe_at({}), Money(3_000_000_001, "JPY")),
        "paypal": (
            PayPal(account, transport=httpx2.MockTransport(nobody)),
            Money(10_000_001, "USD"),
        ),
        "vnpay": (
            VNPay(TERMINAL, httpx2.MockTransport(nobody), lambda: MORNING),
            Money(500_000_000_001, "VND"),
        ),
    }
    adapter, amount = gateways[gateway]
    known = KnownPayment(REFERENCE, "order", "money", amount, MORNING)
    with pytest.raises(GatewayRefused):
        adapter.create_checkout(checkout(known))
    with pytest.raises(GatewayRefused):
        adapter.refund(refund_request(known))
