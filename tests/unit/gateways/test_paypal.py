from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from domain.gateways.interface import (
    CheckoutRequest,
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    GatewayRefused,
    GatewayUnavailable,
    InboundMessage,
    Instrument,
    KnownPayment,
    Limits,
    Outcome,
    PaymentUpdate,
    RefundRequest,
    RefundState,
    RefundUpdate,
    WebhookRefused,
)
from domain.gateways.paypal.certificates import PublicCertificates, SandboxCertificates
from domain.gateways.paypal.client import PayPal
from domain.gateways.paypal.settings import PayPalSettings
from domain.gateways.paypal.webhooks import WebhookVerifier
from domain.money import Money

Document = dict[str, Any]

REFERENCE = "ABCDEFGHJKLMNPQRSTUV"
ORDER_ID, CAPTURE_ID, REFUND_ID = "5O190127TN364715T", "3C679366HH908993F", "1JU08902781691411"
SECRET = "a-client-secret-0123456789"
MORNING = datetime(2026, 1, 15, 2, 30, tzinfo=UTC)
LATER = "2026-01-15T02:35:00Z"
USD_10 = Money.from_minor_units(1_000, "USD")
SETTINGS = PayPalSettings(
    client_id="client",
    client_secret=SECRET,
    webhook_id="1JE4291016473214C",
    api_base="https://api-m.paypal.com",
    is_sandbox=False,
    brand_name="Credit portal",
)
PAYMENT = KnownPayment(REFERENCE, ORDER_ID, None, USD_10, MORNING)
REQUEST = CheckoutRequest(
    reference=REFERENCE,
    amount=USD_10,
    description="Credit ABC",
    return_url="https://portal.example.com/payments/return/paypal",
    cancel_url="https://portal.example.com/payment",
    customer_email="lan@example.com",
    customer_ip="203.0.113.7",
    language="ja",
    created_at=MORNING,
    expires_at=MORNING + timedelta(minutes=30),
)
ORDERS = "/v2/checkout/orders"
ORDER = f"{ORDERS}/{ORDER_ID}"
TAKE = f"{ORDER}/capture"
REFUND = f"/v2/payments/captures/{CAPTURE_ID}/refund"
DISPUTES = "/v1/customer/disputes"


def money(value: str, currency: str = "USD") -> Document:
    return {"currency_code": currency, "value": value}


def capture(**changes: object) -> Document:
    return {
        "id": CAPTURE_ID,
        "status": "COMPLETED",
        "amount": money("10.00"),
        "custom_id": REFERENCE,
        "create_time": LATER,
        "seller_receivable_breakdown": {
            "gross_amount": money("10.00"),
            "paypal_fee": money("0.69"),
            "net_amount": money("9.31"),
        },
    } | changes


def refund(**changes: object) -> Document:
    up = f"https://api-m.paypal.com/v2/payments/captures/{CAPTURE_ID}"
    return {
        "id": REFUND_ID,
        "status": "COMPLETED",
        "amount": money("3.00"),
        "create_time": LATER,
        "links": [{"rel": "up", "href": up, "method": "GET"}],
    } | changes


def order(status: str, *captures: Document, **changes: Any) -> Document:
    unit: Document = {"reference_id": "default", "custom_id": REFERENCE, "amount": money("10.00")}
    if captures:
        unit["payments"] = {"captures": list(captures), "refunds": changes.pop("refunds", [])}
    return {"id": ORDER_ID, "status": status, "purchase_units": [unit]} | changes


def dispute(**changes: object) -> Document:
    return {
        "dispute_id": "PP-D-1",
        "status": "WAITING_FOR_SELLER_RESPONSE",
        "reason": "UNAUTHORISED",
        "dispute_amount": money("10.00"),
        "disputed_transactions": [{"seller_transaction_id": CAPTURE_ID, "custom": REFERENCE}],
        "seller_response_due_date": "2026-01-25T00:00:00.000Z",
        "update_time": LATER,
    } | changes


def refusal(status: int, name: str, issue: str | None = None) -> httpx2.Response:
    details = [] if issue is None else [{"issue": issue}]
    body = {"name": name, "message": "no", "debug_id": "d1", "details": details}
    return httpx2.Response(status, json=body, headers={"PayPal-Debug-Id": "b7e8c9"})


def unprocessable(issue: str) -> httpx2.Response:
    return refusal(422, "UNPROCESSABLE_ENTITY", issue)


Answer = Document | httpx2.Response | Exception


class Api(httpx2.BaseTransport):
    """PayPal as a test tells it: the answers to each request in turn, the last one for ever."""

    def __init__(self, answers: dict[str, Answer | list[Answer]] | None = None) -> None:
        self.answers: dict[str, list[Answer]] = {
            key: list(value) if isinstance(value, list) else [value]
            for key, value in (answers or {}).items()
        }
        self.answers.setdefault(f"GET {DISPUTES}", [{}])
        self.asked: list[httpx2.Request] = []
        self.tokens = 0
        self.lives = 32_400
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        with self._lock:
            if request.url.path == "/v1/oauth2/token":
                return self._token(request)
            self.asked.append(request)
            waiting = self.answers[f"{request.method} {request.url.path}"]
            answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)

    def _token(self, request: httpx2.Request) -> httpx2.Response:
        self.tokens += 1
        assert request.content == b"grant_type=client_credentials"
        assert request.headers["authorization"].startswith("Basic ")
        body = {"access_token": f"token-{self.tokens}", "expires_in": self.lives}
        return httpx2.Response(200, json=body)

    def lines(self) -> list[str]:
        """Return what was asked, disputes left out."""
        lines = [f"{request.method} {request.url.path}" for request in self.asked]
        return [line for line in lines if DISPUTES not in line]


def gateway_for(api: Api) -> PayPal:
    return PayPal(SETTINGS, transport=api)


def fetched(document: Document | httpx2.Response) -> PaymentUpdate:
    return gateway_for(Api({f"GET {ORDER}": document})).fetch_payment(PAYMENT).payment


# ── Paying ────────────────────────────────────────────────────────────────────────────────────
def created(**changes: object) -> Document:
    link = {"rel": "payer-action", "href": "https://www.paypal.com/checkoutnow?token=1"}
    return {"id": ORDER_ID, "status": "PAYER_ACTION_REQUIRED", "links": [link]} | changes


def test_an_order_is_created_under_our_reference() -> None:
    api = Api({f"POST {ORDERS}": created()})
    checkout = gateway_for(api).create_checkout(REQUEST)
    assert checkout.redirect_url == "https://www.paypal.com/checkoutnow?token=1"
    assert checkout.gateway_reference == ORDER_ID
    assert checkout.expires_at == MORNING + timedelta(hours=3)
    (asked,) = api.asked
    assert asked.headers["paypal-request-id"] == f"order-{REFERENCE}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["prefer"] == "return=representation"
    body = json.loads(asked.content)
    assert body["intent"] == "CAPTURE"
    (unit,) = body["purchase_units"]
    assert (unit["custom_id"], unit["invoice_id"]) == (REFERENCE, REFERENCE)
    assert unit["amount"] == money("10.00")
    context = body["payment_source"]["paypal"]["experience_context"]
    assert context == {
        "return_url": REQUEST.return_url,
        "cancel_url": REQUEST.cancel_url,
        "user_action": "PAY_NOW",
        "shipping_preference": "NO_SHIPPING",
        "brand_name": "Credit portal",
        "locale": "ja-JP",
        "payment_method_preference": "IMMEDIATE_PAYMENT_REQUIRED",
    }


def test_a_created_order_and_its_approve_link_are_taken_too() -> None:
    links = [{"rel": "self", "href": "x"}, {"rel": "approve", "href": "https://pay.example.com"}]
    answer = httpx2.Response(201, json=created(links=links, status="CREATED"))
    checkout = gateway_for(Api({f"POST {ORDERS}": answer})).create_checkout(REQUEST)
    assert checkout.redirect_url == "https://pay.example.com"


@pytest.mark.parametrize("changes", [{"links": []}, {"links": None}, {"id": None}])
def test_an_order_that_nobody_can_pay_is_no_answer(changes: Document) -> None:
    with pytest.raises(GatewayUnavailable, match="address"):
        gateway_for(Api({f"POST {ORDERS}": created(**changes)})).create_checkout(REQUEST)


@pytest.mark.parametrize(
    ("amount", "currency", "value"),
    [("1500", "JPY", "1500"), ("900", "HUF", "900"), ("30", "TWD", "30"), ("8.5", "EUR", "8.50")],
)
def test_amounts_have_the_decimals_of_paypal(amount: str, currency: str, value: str) -> None:
    api = Api({f"POST {ORDERS}": created()})
    request = replace(REQUEST, amount=Money.from_decimal(Decimal(amount), currency))
    gateway_for(api).create_checkout(request)
    (unit,) = json.loads(api.asked[0].content)["purchase_units"]
    assert unit["amount"] == money(value, currency)


@pytest.mark.parametrize(
    ("amount", "currency"), [("1500.5", "JPY"), ("9.01", "HUF"), ("1.5", "TWD"), ("1.001", "USD")]
)
def test_decimals_that_paypal_does_not_take_are_refused_by_us(amount: str, currency: str) -> None:
    api = Api()
    request = replace(REQUEST, amount=Money.from_decimal(Decimal(amount), currency))
    with pytest.raises(GatewayRefused, match="DECIMAL_PRECISION"):
        gateway_for(api).create_checkout(request)
    assert api.asked == []


def test_dong_are_refused_by_us() -> None:
    dong = Money.from_minor_units(500_000, "VND")
    assert PayPal(SETTINGS).limits("VND") is None
    with pytest.raises(GatewayRefused, match="CURRENCY_NOT_SUPPORTED"):
        gateway_for(Api()).create_checkout(replace(REQUEST, amount=dong))


@pytest.mark.parametrize(
    ("currency", "least", "most"),
    [
        ("USD", "0.01", "10000"),
        ("EUR", "0.01", "8000"),
        ("GBP", "0.01", "5500"),
        ("JPY", "1", "1000000"),
        ("HUF", "1", None),
        ("AUD", "0.01", None),
    ],
)
def test_limits(currency: str, least: str, most: str | None) -> None:
    expected = Limits(
        Money.from_decimal(Decimal(least), currency),
        None if most is None else Money.from_decimal(Decimal(most), currency),
    )
    assert PayPal(SETTINGS).limits(currency) == expected


def test_what_paypal_refuses_is_refused_with_its_code() -> None:
    api = Api({f"POST {ORDERS}": unprocessable("TRANSACTION_LIMIT_EXCEEDED")})
    with pytest.raises(GatewayRefused, match="TRANSACTION_LIMIT_EXCEEDED"):
        gateway_for(api).create_checkout(REQUEST)
    named = Api({f"POST {ORDERS}": refusal(400, "INVALID_REQUEST")})
    with pytest.raises(GatewayRefused, match="INVALID_REQUEST"):
        gateway_for(named).create_checkout(REQUEST)


def test_a_timeout_of_create_asks_for_the_same_order_the_next_time() -> None:
    api = Api({f"POST {ORDERS}": [httpx2.ReadTimeout("lost"), created()]})
    gateway = gateway_for(api)
    with pytest.raises(GatewayUnavailable, match="ReadTimeout"):
        gateway.create_checkout(REQUEST)
    assert gateway.create_checkout(REQUEST).gateway_reference == ORDER_ID
    first, second = api.asked
    assert first.headers["paypal-request-id"] == second.headers["paypal-request-id"]
    assert first.content == second.content


# ── The token ─────────────────────────────────────────────────────────────────────────────────
def test_a_token_is_fetched_once_by_many_threads() -> None:
    api = Api({f"GET {ORDER}": order("CREATED")})
    gateway = gateway_for(api)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: gateway.fetch_payment(PAYMENT), range(20)))
    assert (len(api.asked), api.tokens) == (20, 1)


def test_a_token_is_replaced_before_it_ends() -> None:
    api = Api({f"GET {ORDER}": order("CREATED")})
    api.lives = 120
    gateway = gateway_for(api)
    gateway.fetch_payment(PAYMENT)
    gateway.fetch_payment(PAYMENT)
    assert api.tokens == 2


def test_a_refused_token_is_replaced_once() -> None:
    unauthorised = refusal(401, "AUTHENTICATION_FAILURE")
    api = Api({f"GET {ORDER}": [unauthorised, order("CREATED")]})
    assert gateway_for(api).fetch_payment(PAYMENT).payment.state is GatewayPaymentState.OPEN
    tokens = [request.headers["authorization"] for request in api.asked]
    assert tokens == ["Bearer token-1", "Bearer token-2"]
    never = Api({f"GET {ORDER}": unauthorised})
    with pytest.raises(GatewayUnavailable, match="401"):
        gateway_for(never).fetch_payment(PAYMENT)
    assert (len(never.asked), never.tokens) == (2, 2)


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(401, json={"error": "invalid_client", "error_description": "no"}),
        httpx2.Response(200, json={"expires_in": 3}),
        httpx2.Response(503, content=b"away"),
    ],
)
def test_without_a_token_nothing_is_known(answer: httpx2.Response) -> None:
    gateway = PayPal(SETTINGS, transport=httpx2.MockTransport(lambda _: answer))
    with pytest.raises(GatewayUnavailable, match="token"):
        gateway.fetch_payment(PAYMENT)


def test_secrets_show_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "domain")
    api = Api({f"GET {ORDER}": refusal(500, "INTERNAL_SERVER_ERROR")})
    with pytest.raises(GatewayUnavailable) as caught:
        gateway_for(api).fetch_payment(PAYMENT)
    assert "b7e8c9" in caplog.text
    shown = repr(SETTINGS) + caplog.text + str(caught.value)
    assert SECRET not in shown
    assert "token-1" not in shown


def test_keys_do_not_travel_in_clear_text() -> None:
    for base in ("http://api-m.paypal.com", "http://localhost.evil.test/paypal", "ftp://localhost"):
        with pytest.raises(ValueError, match="https"):
            PayPal(replace(SETTINGS, api_base=base, is_sandbox=True))
    with pytest.raises(ValueError, match="https"):
        PayPal(replace(SETTINGS, api_base="http://localhost:8502/paypal"))


def test_only_a_stand_in_on_this_computer_has_certificates_of_its_own() -> None:
    here = replace(SETTINGS, api_base="http://localhost:8502/paypal", is_sandbox=True)
    assert isinstance(certificates_of(PayPal(here)), SandboxCertificates)
    for base in ("https://api-m.sandbox.paypal.com", "https://localhost:8502/paypal"):
        public = PayPal(replace(here, api_base=base))
        assert isinstance(certificates_of(public), PublicCertificates)


def certificates_of(gateway: PayPal) -> object:
    return gateway._verifier._certificates


# ── Asking ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("CREATED", GatewayPaymentState.OPEN),
        ("SAVED", GatewayPaymentState.OPEN),
        ("PAYER_ACTION_REQUIRED", GatewayPaymentState.OPEN),
        ("APPROVED", GatewayPaymentState.APPROVED),
        ("VOIDED", GatewayPaymentState.CANCELLED),
    ],
)
def test_an_order_without_a_capture_is_what_its_status_says(
    status: str, state: GatewayPaymentState
) -> None:
    update = fetched(order(status))
    assert (update.state, update.reference, update.gateway_reference) == (
        state,
        REFERENCE,
        ORDER_ID,
    )
    assert update.amount is None


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("COMPLETED", GatewayPaymentState.PAID),
        ("PARTIALLY_REFUNDED", GatewayPaymentState.PAID),
        ("REFUNDED", GatewayPaymentState.PAID),
        ("PENDING", GatewayPaymentState.AWAITING),
        ("DECLINED", GatewayPaymentState.FAILED),
        ("FAILED", GatewayPaymentState.FAILED),
    ],
)
def test_a_completed_order_is_what_its_capture_says(
    status: str, state: GatewayPaymentState
) -> None:
    update = fetched(order("COMPLETED", capture(status=status)))
    assert (update.state, update.gateway_payment_id) == (state, CAPTURE_ID)
    assert (update.amount, update.fee) == (USD_10, Money.from_minor_units(69, "USD"))
    assert update.code == (None if state is GatewayPaymentState.PAID else status)
    assert update.occurred_at == datetime(2026, 1, 15, 2, 35, tzinfo=UTC)


@pytest.mark.parametrize(
    ("shown", "instrument"),
    [
        (
            {"payment_source": {"paypal": {"account_id": "QYR5Z8XDVJNXQ"}}},
            Instrument("QYR5Z8XDVJNXQ", "PayPal …NXQ"),
        ),
        ({"payer": {"payer_id": "QYR5Z8XDVJNXQ"}}, Instrument("QYR5Z8XDVJNXQ", "PayPal …NXQ")),
        ({"payment_source": {"card": {"last_digits": "4242"}}}, None),
        ({}, None),
    ],
    ids=["wallet", "payer", "card", "nothing"],
)
def test_an_order_says_whose_account_paid(shown: Document, instrument: Instrument | None) -> None:
    update = fetched(order("COMPLETED", capture(), **shown))
    assert (update.instrument, update.asking_tells_instrument) == (instrument, False)
    assert "QYR5Z8XDVJNXQ" not in repr(update)


def test_a_pending_capture_says_why() -> None:
    waiting = capture(status="PENDING", status_details={"reason": "ECHECK"})
    assert fetched(order("COMPLETED", waiting)).code == "ECHECK"


def test_of_several_captures_the_one_with_money_counts() -> None:
    declined = capture(status="DECLINED", id="DECLINED1")
    for captures in ((declined, capture()), (capture(), declined)):
        assert fetched(order("COMPLETED", *captures)).gateway_payment_id == CAPTURE_ID


def test_what_was_captured_is_told_as_it_is_also_in_another_currency() -> None:
    yen = capture(amount=money("10", "JPY"), seller_receivable_breakdown=None)
    assert fetched(order("COMPLETED", yen)).amount == Money.from_minor_units(10, "JPY")


def test_an_order_that_is_gone_has_expired() -> None:
    gone = refusal(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
    assert fetched(gone).state is GatewayPaymentState.EXPIRED
    gateway = gateway_for(Api({f"GET {ORDER}": gone}))
    assert gateway.complete_payment(PAYMENT).payment.state is GatewayPaymentState.EXPIRED
    paid = replace(PAYMENT, gateway_payment_id=CAPTURE_ID)
    assert gateway.fetch_payment(paid).payment.state is GatewayPaymentState.UNKNOWN


def test_a_payment_without_an_order_is_unknown_and_nobody_is_asked() -> None:
    api = Api()
    unmade = replace(PAYMENT, gateway_reference=None)
    assert gateway_for(api).fetch_payment(unmade).payment.state is GatewayPaymentState.UNKNOWN
    assert gateway_for(api).complete_payment(unmade).payment.state is GatewayPaymentState.UNKNOWN
    assert (api.asked, api.tokens) == ([], 0)


@pytest.mark.parametrize(
    "document",
    [
        order("COMPLETED", capture(custom_id="ANOTHERREFERENCE0000")),
        order("CREATED", purchase_units=[{"custom_id": "ANOTHERREFERENCE0000"}]),
        order("CREATED", id="ANOTHERORDER"),
    ],
)
def test_an_answer_about_another_payment_is_no_answer(document: Document) -> None:
    with pytest.raises(GatewayUnavailable, match="another payment"):
        fetched(document)


@pytest.mark.parametrize(
    "document",
    [
        {},
        order("COMPLETED"),
        order("APPROVED", purchase_units=[]),
        order("COMPLETED", capture(status="NEW")),
        order("COMPLETED", capture(id=None)),
        order("COMPLETED", capture(amount=None)),
        order("COMPLETED", capture(amount=money("10.005"))),
        order("COMPLETED", capture(amount=money("1e3"))),
        order("COMPLETED", capture(amount={"currency_code": "USD", "value": 10})),
        order("COMPLETED", capture(amount=money("10.50", "JPY"))),
        order("COMPLETED", capture(amount=money("10.00", "XXY"))),
        order("COMPLETED", capture(create_time="yesterday")),
        order("COMPLETED", capture(create_time="2026-01-15T02:35:00")),
    ],
)
def test_what_cannot_be_read_is_no_answer(document: Document) -> None:
    with pytest.raises(GatewayUnavailable, match="cannot be read"):
        fetched(document)


@pytest.mark.parametrize(
    "answer",
    [
        refusal(429, "RATE_LIMIT_REACHED"),
        refusal(500, "INTERNAL_SERVER_ERROR"),
        refusal(409, "RESOURCE_CONFLICT"),
        httpx2.Response(502, content=b"<html>"),
        httpx2.Response(200, content=b"<html>"),
        httpx2.Response(200, content=b"[]"),
        httpx2.Response(302, headers={"Location": "https://evil.test"}),
        httpx2.Response(200, content=b" " * 2_000_000),
    ],
)
def test_a_server_that_does_not_answer_is_unavailable(answer: httpx2.Response) -> None:
    with pytest.raises(GatewayUnavailable):
        fetched(answer)


def test_refunds_and_disputes_come_with_the_payment() -> None:
    pending = refund(id="R2", status="PENDING", custom_id="refund-REFUNDREFUNDREFUND22")
    failed = refund(id="R3", status="CANCELLED", custom_id=REFERENCE, links=[])
    lost = dispute(status="RESOLVED", dispute_outcome={"outcome_code": "ACCEPTED"})
    api = Api(
        {
            f"GET {ORDER}": order("COMPLETED", capture(), refunds=[refund(), pending, failed]),
            f"GET {DISPUTES}": {"items": [{"dispute_id": "PP-D-1"}]},
            f"GET {DISPUTES}/PP-D-1": lost,
        }
    )
    snapshot = gateway_for(api).fetch_payment(PAYMENT)
    states = [(one.gateway_refund_id, one.state, one.reference) for one in snapshot.refunds]
    assert states == [
        (REFUND_ID, RefundState.SUCCEEDED, None),
        ("R2", RefundState.PENDING, "REFUNDREFUNDREFUND22"),
        ("R3", RefundState.FAILED, None),
    ]
    assert {one.gateway_payment_id for one in snapshot.refunds} == {CAPTURE_ID}
    assert {one.payment_reference for one in snapshot.refunds} == {REFERENCE}
    (update,) = snapshot.disputes
    assert (update.state, update.amount, update.gateway_dispute_id) == (
        DisputeState.LOST,
        USD_10,
        "PP-D-1",
    )
    assert api.asked[1].url.params["disputed_transaction_id"] == CAPTURE_ID


def test_an_application_that_may_not_read_disputes_still_reads_payments() -> None:
    forbidden = refusal(403, "NOT_AUTHORIZED", "PERMISSION_DENIED")
    api = Api({f"GET {ORDER}": order("COMPLETED", capture()), f"GET {DISPUTES}": forbidden})
    snapshot = gateway_for(api).fetch_payment(PAYMENT)
    assert (snapshot.payment.state, snapshot.disputes) == (GatewayPaymentState.PAID, ())
    assert snapshot.unread == {"disputes"}


# ── What cannot be read beside the money ──────────────────────────────────────────────────────
UNREAD_DISPUTES = [
    refusal(403, "NOT_AUTHORIZED", "PERMISSION_DENIED"),
    refusal(401, "AUTHENTICATION_FAILURE"),
    refusal(422, "UNPROCESSABLE_ENTITY"),
    refusal(429, "RATE_LIMIT_REACHED"),
    refusal(500, "INTERNAL_SERVER_ERROR"),
    httpx2.Response(502, content=b"<html>"),
    httpx2.Response(200, content=b"[]"),
    httpx2.ReadTimeout("never"),
    httpx2.ConnectError("away"),
    {"items": [{"dispute_id": None}]},
    {"items": 7},
]


@pytest.mark.parametrize("answer", UNREAD_DISPUTES)
@pytest.mark.parametrize("is_listed", [True, False])
def test_captured_money_is_told_where_disputes_cannot_be_read(
    answer: Answer, *, is_listed: bool
) -> None:
    listed = {"items": [{"dispute_id": "PP-D-1"}]}
    api = Api(
        {
            f"GET {ORDER}": [order("APPROVED"), order("COMPLETED", capture(), refunds=[refund()])],
            f"POST {TAKE}": order("COMPLETED", capture(), refunds=[refund()]),
            f"GET {DISPUTES}": listed if is_listed else answer,
            f"GET {DISPUTES}/PP-D-1": answer,
        }
    )
    gateway = gateway_for(api)
    for snapshot in (gateway.complete_payment(PAYMENT), gateway.fetch_payment(PAYMENT)):
        assert (snapshot.payment.state, snapshot.payment.amount) == (
            GatewayPaymentState.PAID,
            USD_10,
        )
        assert [one.gateway_refund_id for one in snapshot.refunds] == [REFUND_ID]
        assert snapshot.disputes == ()
        assert snapshot.unread == {"disputes"}


def test_disputes_and_refunds_that_can_be_read_are_told_beside_those_that_cannot() -> None:
    api = Api(
        {
            f"GET {ORDER}": order("COMPLETED", capture(), refunds=[{"id": "R0"}, refund()]),
            f"GET {DISPUTES}": {"items": [{"dispute_id": f"PP-D-{number}"} for number in (1, 2)]},
            f"GET {DISPUTES}/PP-D-1": {"dispute_id": "PP-D-1"},
            f"GET {DISPUTES}/PP-D-2": dispute(dispute_id="PP-D-2"),
        }
    )
    snapshot = gateway_for(api).fetch_payment(PAYMENT)
    assert snapshot.payment.state is GatewayPaymentState.PAID
    assert [one.gateway_refund_id for one in snapshot.refunds] == [REFUND_ID]
    assert [one.gateway_dispute_id for one in snapshot.disputes] == ["PP-D-2"]
    assert snapshot.unread == {"refunds", "disputes"}


@pytest.mark.parametrize("payments", [{"refunds": 7}, {"refunds": {}}, {"refunds": ["x"]}])
def test_captured_money_is_told_where_its_refunds_cannot_be_read(payments: Document) -> None:
    told_of = order("COMPLETED", capture())
    told_of["purchase_units"][0]["payments"] |= payments
    snapshot = gateway_for(Api({f"GET {ORDER}": told_of})).fetch_payment(PAYMENT)
    is_odd = bool(payments["refunds"])
    assert snapshot.payment.state is GatewayPaymentState.PAID
    assert snapshot.unread == ({"refunds"} if is_odd else set())


def test_disputes_are_not_waited_for_as_long_as_money() -> None:
    api = Api({f"GET {ORDER}": order("COMPLETED", capture())})
    gateway_for(api).fetch_payment(PAYMENT)
    waits = [request.extensions["timeout"]["read"] for request in api.asked]
    assert waits == [20, 10]


def test_a_capture_that_does_not_exist_has_no_disputes() -> None:
    gone = refusal(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
    api = Api({f"GET {ORDER}": order("COMPLETED", capture()), f"GET {DISPUTES}": gone})
    snapshot = gateway_for(api).fetch_payment(PAYMENT)
    assert (snapshot.disputes, snapshot.unread) == ((), frozenset())


# ── Fees ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("breakdown", "fee"),
    [
        ({"paypal_fee": money("0.69")}, Money.from_minor_units(69, "USD")),
        (
            {
                "paypal_fee": money("0.69"),
                "paypal_fee_in_receivable_currency": money("105", "JPY"),
            },
            Money.from_minor_units(105, "JPY"),
        ),
        ({"paypal_fee": money("0.60", "EUR")}, Money.from_minor_units(60, "EUR")),
        ({"paypal_fee": money("0.69", "ZZZ")}, None),
        ({"paypal_fee": 7}, None),
        ([], None),
        ("none", None),
    ],
)
def test_fee_is_told_in_the_currency_that_it_is_taken_in(
    breakdown: object, fee: Money | None
) -> None:
    update = fetched(order("COMPLETED", capture(seller_receivable_breakdown=breakdown)))
    assert (update.state, update.amount, update.fee) == (GatewayPaymentState.PAID, USD_10, fee)


@pytest.mark.parametrize("payer", [7, [], {"payer_id": 7}, {"payer_id": "\x00"}])
def test_payer_that_cannot_be_read_is_no_reason_to_keep_money_waiting(payer: object) -> None:
    update = fetched(order("COMPLETED", capture(), payer=payer))
    assert (update.state, update.instrument) == (GatewayPaymentState.PAID, None)


# ── Capturing ─────────────────────────────────────────────────────────────────────────────────
def completing(taken: Answer | list[Answer], *orders: Document) -> tuple[PaymentUpdate, Api]:
    """Return what a capture came to, and what was asked for it."""
    waiting: list[Answer] = list(orders or [order("APPROVED")])
    api = Api({f"GET {ORDER}": waiting, f"POST {TAKE}": taken})
    return gateway_for(api).complete_payment(PAYMENT).payment, api


def test_what_was_approved_is_captured_under_our_reference() -> None:
    answer = httpx2.Response(201, json=order("COMPLETED", capture()))
    update, api = completing(answer)
    assert (update.state, update.amount) == (GatewayPaymentState.PAID, USD_10)
    assert api.lines() == [f"GET {ORDER}", f"POST {TAKE}"]
    asked = api.asked[1]
    assert asked.content == b"{}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["paypal-request-id"] == f"cap-{REFERENCE}"


def test_an_order_completed_with_a_pending_capture_is_no_money() -> None:
    update, _ = completing(order("COMPLETED", capture(status="PENDING")))
    assert update.state is GatewayPaymentState.AWAITING


def test_a_short_answer_to_a_capture_is_asked_after() -> None:
    short = {"id": ORDER_ID, "status": "COMPLETED"}
    update, api = completing(short, order("APPROVED"), order("COMPLETED", capture()))
    assert update.state is GatewayPaymentState.PAID
    assert api.lines()[-1] == f"GET {ORDER}"


@pytest.mark.parametrize("status", ["CREATED", "PAYER_ACTION_REQUIRED"])
def test_what_was_not_approved_is_not_captured(status: str) -> None:
    update, api = completing({}, order(status))
    assert update.state is GatewayPaymentState.OPEN
    assert api.lines() == [f"GET {ORDER}"]


@pytest.mark.parametrize("issue", ["ORDER_ALREADY_CAPTURED", "ORDER_COMPLETION_IN_PROGRESS"])
def test_what_somebody_else_captured_is_asked_for(issue: str) -> None:
    done = order("COMPLETED", capture())
    update, _ = completing(unprocessable(issue), order("APPROVED"), done)
    assert update.state is GatewayPaymentState.PAID
    update, _ = completing(unprocessable(issue))
    assert update.state is GatewayPaymentState.APPROVED


@pytest.mark.parametrize(
    ("issue", "state"),
    [
        ("ORDER_EXPIRED", GatewayPaymentState.EXPIRED),
        ("TRANSACTION_REFUSED", GatewayPaymentState.FAILED),
        ("COMPLIANCE_VIOLATION", GatewayPaymentState.FAILED),
        ("DUPLICATE_INVOICE_ID", GatewayPaymentState.FAILED),
        ("TRANSACTION_RECEIVING_LIMIT_EXCEEDED", GatewayPaymentState.FAILED),
    ],
)
def test_a_refused_capture_says_what_it_means(issue: str, state: GatewayPaymentState) -> None:
    update, api = completing(unprocessable(issue))
    assert (update.state, update.code, update.reference) == (state, issue, REFERENCE)
    assert update.refusal is None
    assert api.lines() == [f"GET {ORDER}", f"POST {TAKE}"]


@pytest.mark.parametrize(
    "issue",
    [
        "ORDER_NOT_APPROVED",
        "INSTRUMENT_DECLINED",
        "PAYER_ACTION_REQUIRED",
        "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING",
    ],
)
@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PAYER_ACTION_REQUIRED", GatewayPaymentState.OPEN),
        ("APPROVED", GatewayPaymentState.APPROVED),
    ],
)
def test_an_attempt_that_was_refused_leaves_the_customer_to_pay_another_way(
    issue: str, status: str, state: GatewayPaymentState
) -> None:
    update, _ = completing(unprocessable(issue), order("APPROVED"), order(status))
    assert (update.state, update.code, update.refusal) == (state, issue, 0)
    done = order("COMPLETED", capture())
    update, _ = completing(unprocessable(issue), order("APPROVED"), done)
    assert (update.state, update.refusal) == (GatewayPaymentState.PAID, None)


def test_an_attempt_after_a_refusal_has_a_name_of_its_own_and_the_same_has_the_same() -> None:
    names = []
    for refusals in (0, 0, 1, 1, 2):
        taken = httpx2.Response(201, json=order("COMPLETED", capture()))
        api = Api({f"GET {ORDER}": order("APPROVED"), f"POST {TAKE}": taken})
        gateway_for(api).complete_payment(replace(PAYMENT, refusals=refusals))
        names.append(api.asked[1].headers["paypal-request-id"])
    first = f"cap-{REFERENCE}"
    assert names == [first, first, f"{first}-1", f"{first}-1", f"{first}-2"]


def test_an_order_that_is_gone_when_it_is_captured_has_expired() -> None:
    gone = refusal(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
    assert completing(gone)[0].state is GatewayPaymentState.EXPIRED


def test_a_capture_that_we_may_not_make_is_refused() -> None:
    with pytest.raises(GatewayRefused, match="PERMISSION_DENIED"):
        completing(refusal(403, "NOT_AUTHORIZED", "PERMISSION_DENIED"))


@pytest.mark.parametrize(
    "failure", [httpx2.ReadTimeout("lost"), refusal(500, "INTERNAL_SERVER_ERROR")]
)
def test_a_capture_of_unknown_result_is_asked_after_and_not_repeated(failure: Answer) -> None:
    done = order("COMPLETED", capture())
    update, api = completing(failure, order("APPROVED"), done)
    assert update.state is GatewayPaymentState.PAID
    assert api.lines() == [f"GET {ORDER}", f"POST {TAKE}", f"GET {ORDER}"]


@pytest.mark.parametrize(
    "failure", [httpx2.ReadTimeout("lost"), refusal(500, "INTERNAL_SERVER_ERROR")]
)
def test_a_capture_that_was_not_made_is_repeated_once_with_the_same_id(failure: Answer) -> None:
    update, api = completing([failure, order("COMPLETED", capture())])
    assert update.state is GatewayPaymentState.PAID
    ids = [one.headers["paypal-request-id"] for one in api.asked if one.method == "POST"]
    assert ids == [f"cap-{REFERENCE}"] * 2
    api = Api({f"GET {ORDER}": order("APPROVED"), f"POST {TAKE}": failure})
    with pytest.raises(GatewayUnavailable):
        gateway_for(api).complete_payment(PAYMENT)
    assert api.lines().count(f"POST {TAKE}") == 2


def test_a_busy_paypal_is_left_alone() -> None:
    busy = refusal(429, "RATE_LIMIT_REACHED")
    api = Api({f"GET {ORDER}": order("APPROVED"), f"POST {TAKE}": busy})
    with pytest.raises(GatewayUnavailable, match="429"):
        gateway_for(api).complete_payment(PAYMENT)
    assert api.lines() == [f"GET {ORDER}", f"POST {TAKE}"]


# ── Refunds ───────────────────────────────────────────────────────────────────────────────────
REFUND_REQUEST = RefundRequest(
    payment=replace(PAYMENT, gateway_payment_id=CAPTURE_ID),
    reference="REFUNDREFUNDREFUND22",
    amount=Money.from_minor_units(300, "USD"),
    is_whole=False,
    actor="user7",
    requested_at=MORNING + timedelta(days=1),
)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("COMPLETED", RefundState.SUCCEEDED),
        ("PENDING", RefundState.PENDING),
        ("FAILED", RefundState.FAILED),
        ("CANCELLED", RefundState.FAILED),
    ],
)
def test_a_refund_is_asked_for_under_our_reference(status: str, state: RefundState) -> None:
    api = Api({f"POST {REFUND}": httpx2.Response(201, json=refund(status=status))})
    assert gateway_for(api).refund(REFUND_REQUEST) == RefundUpdate(
        gateway_refund_id=REFUND_ID,
        state=state,
        amount=REFUND_REQUEST.amount,
        gateway_payment_id=CAPTURE_ID,
        payment_reference=REFERENCE,
        reference=REFUND_REQUEST.reference,
        occurred_at=datetime(2026, 1, 15, 2, 35, tzinfo=UTC),
        stated_at=datetime(2026, 1, 15, 2, 35, tzinfo=UTC),
    )
    (asked,) = api.asked
    assert asked.headers["paypal-request-id"] == REFUND_REQUEST.reference
    assert json.loads(asked.content) == {
        "amount": money("3.00"),
        "custom_id": "refund-REFUNDREFUNDREFUND22",
    }


def test_a_short_answer_to_a_refund_is_enough() -> None:
    short = {"id": REFUND_ID, "status": "PENDING"}
    update = gateway_for(Api({f"POST {REFUND}": short})).refund(REFUND_REQUEST)
    assert (update.state, update.amount) == (RefundState.PENDING, REFUND_REQUEST.amount)


def test_a_refund_that_paypal_refuses_or_does_not_answer() -> None:
    with pytest.raises(GatewayRefused, match="REFUND_AMOUNT_EXCEEDED"):
        gateway_for(Api({f"POST {REFUND}": unprocessable("REFUND_AMOUNT_EXCEEDED")})).refund(
            REFUND_REQUEST
        )
    with pytest.raises(GatewayUnavailable):
        gateway_for(Api({f"POST {REFUND}": httpx2.ReadTimeout("lost")})).refund(REFUND_REQUEST)
    with pytest.raises(GatewayUnavailable, match="cannot be read"):
        gateway_for(Api({f"POST {REFUND}": {"status": "COMPLETED"}})).refund(REFUND_REQUEST)


def test_a_refund_of_what_was_not_captured_is_refused_by_us() -> None:
    api = Api()
    with pytest.raises(GatewayRefused, match="CAPTURE_UNKNOWN"):
        gateway_for(api).refund(replace(REFUND_REQUEST, payment=PAYMENT))
    assert api.asked == []


# ── Returns and webhooks ─────────────────────────────────────────────────────────────────
def came_back(*query: tuple[str, str]) -> InboundMessage:
    return InboundMessage("GET", {}, query, "", b"", MORNING)


def test_a_return_names_its_order() -> None:
    message = came_back(("token", ORDER_ID), ("PayerID", "X"))
    name = PayPal(SETTINGS).parse_return(message)
    assert (name.gateway_reference, name.reference) == (ORDER_ID, None)


@pytest.mark.parametrize(
    "query",
    [
        (),
        (("token", ""),),
        (("token", "A"), ("token", "B")),
        (("token", "../x"),),
        (("token", "A" * 99),),
        (("token", "٣٤"),),
    ],
)
def test_a_return_that_names_no_order_is_refused(query: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(WebhookRefused) as caught:
        PayPal(SETTINGS).parse_return(came_back(*query))
    assert caught.value.outcome is Outcome.MALFORMED


def event(event_type: object, resource: object, **changes: object) -> InboundMessage:
    body = {"id": "WH-1", "event_type": event_type, "resource": resource} | changes
    return InboundMessage("POST", {}, (), "", json.dumps(body).encode(), MORNING)


@pytest.fixture
def believing(monkeypatch: pytest.MonkeyPatch) -> PayPal:
    """A gateway that asks for no signature: test_paypal_webhooks.py is about those."""
    monkeypatch.setattr(WebhookVerifier, "verify", lambda _self, _message: None)
    return PayPal(SETTINGS)


def test_nothing_is_read_of_what_is_not_signed() -> None:
    with pytest.raises(WebhookRefused) as caught:
        PayPal(SETTINGS).parse_webhook(event("PAYMENT.CAPTURE.COMPLETED", capture()))
    assert caught.value.outcome is Outcome.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("name", "status", "state"),
    [
        ("COMPLETED", "COMPLETED", GatewayPaymentState.PAID),
        ("COMPLETED", "PENDING", GatewayPaymentState.AWAITING),
        ("PENDING", "PENDING", GatewayPaymentState.AWAITING),
        ("DENIED", "DECLINED", GatewayPaymentState.FAILED),
        ("DENIED", "DENIED", GatewayPaymentState.FAILED),
        ("DECLINED", "DECLINED", GatewayPaymentState.FAILED),
    ],
)
def test_events_of_captures(
    believing: PayPal, name: str, status: str, state: GatewayPaymentState
) -> None:
    related = {"related_ids": {"order_id": ORDER_ID}}
    resource = capture(status=status, supplementary_data=related)
    told_of = believing.parse_webhook(event(f"PAYMENT.CAPTURE.{name}", resource))
    assert (told_of.event_id, told_of.event_type) == ("WH-1", f"PAYMENT.CAPTURE.{name}")
    (update,) = told_of.updates
    assert isinstance(update, PaymentUpdate)
    assert (
        update.state,
        update.reference,
        update.gateway_reference,
        update.gateway_payment_id,
    ) == (
        state,
        REFERENCE,
        ORDER_ID,
        CAPTURE_ID,
    )
    assert update.amount == USD_10
    # A capture does not say who paid: its order does, for whoever asks.
    assert (update.instrument, update.asking_tells_instrument) == (
        None,
        state is GatewayPaymentState.PAID,
    )


def test_an_approved_order_waits_for_our_capture(believing: PayPal) -> None:
    message = event("CHECKOUT.ORDER.APPROVED", order("APPROVED"))
    expected = PaymentUpdate(
        GatewayPaymentState.APPROVED, reference=REFERENCE, gateway_reference=ORDER_ID
    )
    assert believing.parse_webhook(message).updates == (expected,)


def test_an_approval_that_was_given_up_has_expired(believing: PayPal) -> None:
    resource = {"order_id": ORDER_ID, "purchase_units": [{"custom_id": REFERENCE}]}
    message = event("CHECKOUT.PAYMENT-APPROVAL.REVERSED", resource)
    (update,) = believing.parse_webhook(message).updates
    assert isinstance(update, PaymentUpdate)
    assert (update.state, update.reference, update.gateway_reference) == (
        GatewayPaymentState.EXPIRED,
        REFERENCE,
        ORDER_ID,
    )


def test_a_refund_event_names_its_capture_by_the_link_upwards(believing: PayPal) -> None:
    for custom, payment_reference, reference in (
        (REFERENCE, REFERENCE, None),
        ("refund-REFUNDREFUNDREFUND22", None, "REFUNDREFUNDREFUND22"),
        (None, None, None),
    ):
        message = event("PAYMENT.CAPTURE.REFUNDED", refund(custom_id=custom))
        (update,) = believing.parse_webhook(message).updates
        assert update == RefundUpdate(
            gateway_refund_id=REFUND_ID,
            state=RefundState.SUCCEEDED,
            amount=Money.from_minor_units(300, "USD"),
            gateway_payment_id=CAPTURE_ID,
            payment_reference=payment_reference,
            reference=reference,
            occurred_at=datetime(2026, 1, 15, 2, 35, tzinfo=UTC),
            stated_at=datetime(2026, 1, 15, 2, 35, tzinfo=UTC),
        )


def test_a_reversal_took_the_money_whatever_its_status(believing: PayPal) -> None:
    own = f"https://api-m.paypal.com/v2/payments/captures/{CAPTURE_ID}"
    for resource, number in (
        (refund(status=None, amount=money("-10.00")), REFUND_ID),
        (capture(status="REVERSED", links=[{"rel": "self", "href": own}]), CAPTURE_ID),
    ):
        message = event("PAYMENT.CAPTURE.REVERSED", resource)
        (update,) = believing.parse_webhook(message).updates
        assert isinstance(update, RefundUpdate)
        assert (update.gateway_refund_id, update.gateway_payment_id) == (number, CAPTURE_ID)
        assert (update.state, update.amount) == (RefundState.SUCCEEDED, USD_10)
        assert update.is_reversal


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, DisputeState.OPEN),
        ({"status": "UNDER_REVIEW"}, DisputeState.OPEN),
        ({"outcome": "RESOLVED_BUYER_FAVOUR"}, DisputeState.LOST),
        ({"outcome": "ACCEPTED"}, DisputeState.LOST),
        ({"outcome": "RESOLVED_BUYER_FAVOR"}, DisputeState.LOST),
        ({"outcome": "RESOLVED_SELLER_FAVOUR"}, DisputeState.WON),
        ({"outcome": "RESOLVED_SELLER_FAVOR"}, DisputeState.WON),
        ({"outcome": "CANCELED_BY_BUYER"}, DisputeState.WON),
        ({"outcome": "DENIED"}, DisputeState.WON),
        ({"outcome": "RESOLVED_WITH_PAYOUT"}, DisputeState.WON),
        ({"outcome": "NONE"}, DisputeState.WON),
        ({"outcome": "A_CODE_OF_NEXT_YEAR"}, DisputeState.OPEN),
    ],
)
@pytest.mark.parametrize("name", ["CREATED", "UPDATED", "RESOLVED"])
def test_events_of_disputes(
    believing: PayPal, name: str, changes: dict[str, str], state: DisputeState
) -> None:
    outcome = changes.get("outcome")
    ended = {"status": "RESOLVED", "dispute_outcome": {"outcome_code": outcome}}
    resource = dispute(**(ended if outcome else changes))
    message = event(f"CUSTOMER.DISPUTE.{name}", resource)
    assert believing.parse_webhook(message).updates == (
        DisputeUpdate(
            gateway_dispute_id="PP-D-1",
            other_dispute_id=f"PP-D-1:{CAPTURE_ID}",
            state=state,
            amount=USD_10,
            gateway_payment_id=CAPTURE_ID,
            payment_reference=REFERENCE,
            reason="UNAUTHORISED",
            respond_by=datetime(2026, 1, 25, tzinfo=UTC),
            occurred_at=datetime(2026, 1, 15, 2, 35, tzinfo=UTC),
            stated_at=datetime(2026, 1, 15, 2, 35, tzinfo=UTC),
            unknown_outcome=outcome if state is DisputeState.OPEN else None,
        ),
    )


def resolved(code: object, given: object = None, **changes: object) -> Document:
    outcome: Document = {"outcome_code": code}
    if given is not None:
        outcome["amount_refunded"] = given
    return dispute(status="RESOLVED", dispute_outcome=outcome, **changes)


@pytest.mark.parametrize(
    ("code", "given", "state", "lost"),
    [
        ("RESOLVED_BUYER_FAVOUR", "4.00", DisputeState.LOST, 400),
        ("ACCEPTED", "0.01", DisputeState.LOST, 1),
        ("ACCEPTED", "10.00", DisputeState.LOST, None),
        ("ACCEPTED", "12.00", DisputeState.LOST, None),
        ("RESOLVED_BUYER_FAVOUR", "0.00", DisputeState.WON, None),
        ("NONE", "4.00", DisputeState.LOST, 400),
        ("NONE", "10.00", DisputeState.LOST, None),
        ("NONE", "0.00", DisputeState.WON, None),
        # PayPal pays it.
        ("RESOLVED_WITH_PAYOUT", "10.00", DisputeState.WON, None),
        ("RESOLVED_SELLER_FAVOUR", "4.00", DisputeState.WON, None),
        ("A_CODE_OF_NEXT_YEAR", "4.00", DisputeState.OPEN, None),
    ],
)
def test_dispute_outcome_loses_what_the_customer_was_given(
    believing: PayPal, code: str, given: str, state: DisputeState, lost: int | None
) -> None:
    message = event("CUSTOMER.DISPUTE.RESOLVED", resolved(code, money(given)))
    (update,) = believing.parse_webhook(message).updates
    assert isinstance(update, DisputeUpdate)
    expected = None if lost is None else Money.from_minor_units(lost, "USD")
    assert (update.state, update.amount, update.lost) == (state, USD_10, expected)


def test_dispute_given_in_another_currency_is_lost_as_a_whole(believing: PayPal) -> None:
    message = event("CUSTOMER.DISPUTE.RESOLVED", resolved("ACCEPTED", money("400", "JPY")))
    (update,) = believing.parse_webhook(message).updates
    assert isinstance(update, DisputeUpdate)
    assert (update.state, update.lost) == (DisputeState.LOST, None)


def test_dispute_appealed_after_its_end_is_open_and_newer(believing: PayPal) -> None:
    first = event("CUSTOMER.DISPUTE.RESOLVED", resolved("ACCEPTED"))
    appeal = dispute(
        status="UNDER_REVIEW",
        dispute_outcome={"outcome_code": "ACCEPTED"},
        create_time="2026-01-14T00:00:00Z",
        update_time="2026-01-16T00:00:00Z",
    )
    (lost,) = believing.parse_webhook(first).updates
    (again,) = believing.parse_webhook(event("CUSTOMER.DISPUTE.UPDATED", appeal)).updates
    assert isinstance(lost, DisputeUpdate)
    assert isinstance(again, DisputeUpdate)
    assert (lost.state, again.state) == (DisputeState.LOST, DisputeState.OPEN)
    assert again.occurred_at == datetime(2026, 1, 14, tzinfo=UTC)
    assert again.stated_at == datetime(2026, 1, 16, tzinfo=UTC)
    assert lost.stated_at is not None
    assert lost.stated_at < again.stated_at


def moved(reason: str, value: str, kind: str = "DEBIT", party: str = "SELLER") -> Document:
    currency = "EUR" if value.endswith("e") else "USD"
    amount = money(value.removesuffix("e"), currency)
    return {"affected_party": party, "amount": amount, "type": kind, "reason": reason}


@pytest.mark.parametrize(
    ("movements", "fee"),
    [
        (None, None),
        ([moved("DISPUTE_SETTLEMENT", "10.00")], None),
        ([moved("DISPUTE_FEE", "15.00"), moved("DISPUTE_SETTLEMENT", "10.00")], 1_500),
        ([moved("CHARGEBACK_FEE", "20.00"), moved("DISPUTE_SETTLEMENT_FEE", "0.30")], 2_030),
        ([moved("DISPUTE_FEE", "15.00"), moved("DISPUTE_FEE", "15.00", "CREDIT")], 0),
        ([moved("DISPUTE_FEE", "15.00", party="BUYER")], None),
        ([moved("DISPUTE_FEE", "15.00"), moved("DISPUTE_FEE", "15.00e")], None),
        (["x"], None),
        (7, None),
    ],
)
def test_dispute_fee_is_what_paypal_took_of_us(
    believing: PayPal, movements: object, fee: int | None
) -> None:
    message = event("CUSTOMER.DISPUTE.UPDATED", dispute(money_movements=movements))
    (update,) = believing.parse_webhook(message).updates
    assert isinstance(update, DisputeUpdate)
    assert update.fee == (None if fee is None else Money.from_minor_units(fee, "USD"))


def test_dispute_about_several_payments_shares_what_was_given_without_a_rest(
    believing: PayPal,
) -> None:
    transactions = [
        {"seller_transaction_id": f"CAPTURE{number}", "gross_amount": money(value)}
        for number, value in enumerate(("3.33", "3.33", "3.34", "0.01"))
    ]
    document = resolved(
        "ACCEPTED",
        money("5.00"),
        disputed_transactions=transactions,
        money_movements=[moved("DISPUTE_FEE", "15.00")],
    )
    updates = believing.parse_webhook(event("CUSTOMER.DISPUTE.RESOLVED", document)).updates
    disputes = [update for update in updates if isinstance(update, DisputeUpdate)]
    assert {update.state for update in disputes} == {DisputeState.LOST}
    lost = [update.lost and update.lost.to_minor_units() for update in disputes]
    assert lost == [166, 166, 167, None]  # all of the last one, which is a cent
    fee = Money.from_minor_units(1_500, "USD")
    assert [update.fee for update in disputes] == [fee, None, None, None]


# ── What goes out of a capture ────────────────────────────────────────────────────────────────
def test_capture_denied_after_it_was_completed_names_its_money_and_its_moment(
    believing: PayPal,
) -> None:
    denied = capture(status="DENIED", update_time="2026-01-17T08:00:00Z")
    (update,) = believing.parse_webhook(event("PAYMENT.CAPTURE.DENIED", denied)).updates
    assert isinstance(update, PaymentUpdate)
    assert (update.state, update.gateway_payment_id) == (GatewayPaymentState.FAILED, CAPTURE_ID)
    assert (update.reference, update.amount) == (REFERENCE, USD_10)
    assert update.occurred_at == datetime(2026, 1, 17, 8, 0, tzinfo=UTC)
    polled = fetched(order("COMPLETED", {**denied, "status": "DECLINED"}))
    assert (polled.state, polled.gateway_payment_id) == (GatewayPaymentState.FAILED, CAPTURE_ID)


def test_capture_without_a_moment_has_that_of_its_event(believing: PayPal) -> None:
    timeless = capture(create_time=None)
    message = event("PAYMENT.CAPTURE.DENIED", timeless, create_time="2026-01-17T08:00:00Z")
    (update,) = believing.parse_webhook(message).updates
    assert update.occurred_at == datetime(2026, 1, 17, 8, 0, tzinfo=UTC)
    for odd in ("yesterday", 7, None, "2026-01-17T08:00:00"):
        message = event("PAYMENT.CAPTURE.DENIED", timeless, create_time=odd)
        (update,) = believing.parse_webhook(message).updates
        assert update.occurred_at is None


def test_disputes_of_every_capture_that_brought_money_are_asked_for() -> None:
    captures = [capture(id=name) for name in ("CAPTURE1", "CAPTURE2")]
    declined = capture(id="CAPTURE0", status="DECLINED")
    about = {
        number: dispute(
            dispute_id=f"PP-D-{number}",
            disputed_transactions=[{"seller_transaction_id": f"CAPTURE{number}"}],
        )
        for number in (1, 2)
    }
    answers: dict[str, Answer | list[Answer]] = {
        f"GET {DISPUTES}/PP-D-{number}": document for number, document in about.items()
    }
    api = Api(
        answers
        | {
            f"GET {ORDER}": order("COMPLETED", declined, *captures),
            f"GET {DISPUTES}": [{"items": [{"dispute_id": f"PP-D-{number}"}]} for number in about],
        }
    )
    snapshot = gateway_for(api).fetch_payment(PAYMENT)
    assert [one.gateway_payment_id for one in snapshot.disputes] == ["CAPTURE1", "CAPTURE2"]
    lists = [one for one in api.asked if one.url.path == DISPUTES]
    assert [one.url.params["disputed_transaction_id"] for one in lists] == ["CAPTURE1", "CAPTURE2"]


def test_refund_that_failed_later_is_told_by_its_newest_moment(believing: PayPal) -> None:
    made, failed = "2026-01-15T02:35:00Z", "2026-01-20T00:00:00Z"
    document = refund(status="FAILED", create_time=made, update_time=failed)
    expected = (
        RefundState.FAILED,
        datetime.fromisoformat(made),
        datetime.fromisoformat(failed),
    )
    api = Api({f"GET {ORDER}": order("COMPLETED", capture(), refunds=[document])})
    (polled,) = gateway_for(api).fetch_payment(PAYMENT).refunds
    assert (polled.state, polled.occurred_at, polled.stated_at) == expected
    for name, status in (("FAILED", None), ("CANCELLED", "COMPLETED")):
        message = event(f"PAYMENT.REFUND.{name}", {**document, "status": status})
        (heard,) = believing.parse_webhook(message).updates
        assert isinstance(heard, RefundUpdate)
        assert (heard.state, heard.occurred_at, heard.stated_at) == expected
    message = event("PAYMENT.REFUND.PENDING", {**document, "status": None})
    (heard,) = believing.parse_webhook(message).updates
    assert isinstance(heard, RefundUpdate)
    assert (heard.state, heard.is_reversal) == (RefundState.PENDING, False)


def test_reversal_that_is_the_capture_itself_is_not_as_old_as_the_capture(
    believing: PayPal,
) -> None:
    own = [{"rel": "self", "href": f"https://api-m.paypal.com/v2/payments/captures/{CAPTURE_ID}"}]
    reversed_ = capture(links=own, update_time="2026-01-20T00:00:00Z")
    (update,) = believing.parse_webhook(event("PAYMENT.CAPTURE.REVERSED", reversed_)).updates
    assert isinstance(update, RefundUpdate)
    assert update.is_reversal
    assert update.occurred_at == update.stated_at == datetime(2026, 1, 20, tzinfo=UTC)


def test_a_dispute_about_several_payments_is_one_about_each(believing: PayPal) -> None:
    transactions = [
        {"seller_transaction_id": "CAPTURE1", "gross_amount": money("4.00")},
        {"seller_transaction_id": "CAPTURE2", "gross_amount": money("6.00")},
    ]
    message = event("CUSTOMER.DISPUTE.CREATED", dispute(disputed_transactions=transactions))
    updates = believing.parse_webhook(message).updates
    assert [
        (update.gateway_dispute_id, update.other_dispute_id, update.amount.to_minor_units())
        for update in updates
        if isinstance(update, DisputeUpdate)
    ] == [("PP-D-1:CAPTURE1", "PP-D-1", 400), ("PP-D-1:CAPTURE2", "PP-D-1", 600)]


def test_events_of_no_interest_say_nothing(believing: PayPal) -> None:
    message = event("BILLING.PLAN.CREATED", {"id": "P-1"})
    assert believing.parse_webhook(message).updates == ()


@pytest.mark.parametrize(
    "message",
    [
        event("PAYMENT.CAPTURE.COMPLETED", None),
        event("PAYMENT.CAPTURE.COMPLETED", []),
        event("PAYMENT.CAPTURE.COMPLETED", capture(amount=money("ten"))),
        event("PAYMENT.CAPTURE.COMPLETED", capture(), id=None),
        event(None, capture()),
        event("PAYMENT.CAPTURE.REFUNDED", refund(id="")),
        event("CUSTOMER.DISPUTE.CREATED", dispute(disputed_transactions=None)),
        event("CHECKOUT.ORDER.APPROVED", {"id": ORDER_ID}),
    ],
)
def test_a_signed_event_of_another_shape_is_malformed(
    believing: PayPal, message: InboundMessage
) -> None:
    with pytest.raises(WebhookRefused) as caught:
        believing.parse_webhook(message)
    assert caught.value.outcome is Outcome.MALFORMED


@pytest.mark.parametrize("outcome", list(Outcome))
def test_paypal_comes_again_unless_it_was_taken(outcome: Outcome) -> None:
    is_done = outcome in {Outcome.RECORDED, Outcome.REPEATED, Outcome.WRONG_AMOUNT}
    status = PayPal(SETTINGS).acknowledge(outcome).status
    assert (200 <= status < 300) is is_done
    assert status < 400 or not is_done
