"""Our VNPay against the stand-in, which has signatures of its own."""

from __future__ import annotations

import queue
import socket
import threading
import time
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route

import sandbox.vnpay
from domain.gateways.interface import (
    CheckoutRequest,
    GatewayPaymentState,
    GatewayRefused,
    GatewayUnavailable,
    InboundMessage,
    KnownPayment,
    Outcome,
    PaymentUpdate,
    RefundRequest,
    RefundState,
    WebhookRefused,
)
from domain.gateways.vnpay.client import VNPay
from domain.gateways.vnpay.fields import hash_data, sign
from domain.gateways.vnpay.settings import VNPaySettings
from domain.money import Money
from sandbox.app import Context
from sandbox.store import Store
from sandbox.vnpay import DEMO_HASH_SECRET, DEMO_TMN_CODE, routes
from sandbox.webhook_sender import WebhookSender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from starlette.requests import Request

AMOUNT = Money.from_minor_units(500_000, "VND")
REFERENCE = "ABCDEFGHJKLMNPQRSTUV"
CALLS_IN_ALL = 10


@dataclass
class Shop:
    """A merchant with the stand-in: what it is told, what it answers, and the clock of both."""

    base_url: str
    sender: WebhookSender
    gateway: VNPay
    mailbox: queue.Queue[InboundMessage] = field(default_factory=queue.Queue)
    answers: list[Outcome] = field(default_factory=list)
    # Noon in Vietnam, so that no test runs over midnight.
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(hour=5))

    def request(self) -> CheckoutRequest:
        return CheckoutRequest(
            reference=REFERENCE,
            amount=AMOUNT,
            description="Credit ABC",
            return_url=f"{self.base_url}/payments/return/vnpay",
            cancel_url=f"{self.base_url}/payment",
            customer_email="lan@example.com",
            customer_ip="127.0.0.1",
            language="en",
            created_at=self.now,
            expires_at=self.now + timedelta(minutes=15),
        )

    def open(self) -> KnownPayment:
        """Open the pay page."""
        page = httpx2.get(self.gateway.create_checkout(self.request()).redirect_url)
        assert page.status_code == 200
        assert "500.000 VND" in page.text
        assert "Test money" in page.text
        return KnownPayment(REFERENCE, None, None, AMOUNT, self.now)

    def choose(self, outcome: str, delivery: str = "never") -> InboundMessage:
        """Choose on the pay page, and return what the browser comes back with."""
        chosen = httpx2.post(
            f"{self.base_url}/vnpay/pay/{REFERENCE}",
            data={"outcome": outcome, "delivery": delivery},
        )
        assert chosen.status_code == 303
        address, _, query = chosen.headers["location"].partition("?")
        assert address == self.request().return_url
        return InboundMessage("GET", {}, parse_qsl(query), query, b"", self.now)

    def paid(self) -> KnownPayment:
        """Return a payment that was made."""
        known = self.open()
        self.choose("succeed")
        number = self.gateway.fetch_payment(known).payment.gateway_payment_id
        return replace(known, gateway_payment_id=number)

    def heard(self) -> list[InboundMessage]:
        """Return everything that was told, once nothing more is on its way."""
        while self.sender._tasks:
            time.sleep(0.01)  # noqa: TID251 - a poll; the test's time-out is its deadline
        return [self.mailbox.get_nowait() for _ in range(self.mailbox.qsize())]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    # What nobody takes comes again at once, as often as it would with waits.
    monkeypatch.setattr(sandbox.vnpay, "_WAITS", (0,) * len(sandbox.vnpay._WAITS))
    with serving(tmp_path) as shop:
        monkeypatch.setattr(Context, "now", lambda _context: shop.now)
        yield shop


@contextmanager
def serving(folder: Path) -> Iterator[Shop]:
    """Run the stand-in and a merchant's server on a port of their own."""
    listener = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    context = Context(base_url, base_url, Store(folder / "sandbox.db"), WebhookSender(), folder)
    settings = VNPaySettings(
        tmn_code=DEMO_TMN_CODE,
        hash_secret=DEMO_HASH_SECRET,
        pay_url=f"{base_url}/vnpay/paymentv2/vpcpay.html",
        api_url=f"{base_url}/vnpay/merchant_webapi/api/transaction",
        is_sandbox=True,
    )
    with closing(listener), closing(VNPay(settings, now=lambda: here.now)) as gateway:
        here = Shop(base_url, context.sender, gateway)
        server = uvicorn.Server(uvicorn.Config(_app(context, here), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)  # noqa: TID251 - a poll; the test's time-out is its deadline
        try:
            yield here
        finally:
            server.should_exit = True
            thread.join()


def _app(context: Context, shop: Shop) -> Starlette:
    async def receive(request: Request) -> Response:
        query = request.url.query
        message = InboundMessage("GET", {}, parse_qsl(query), query, b"", shop.now)
        try:
            shop.gateway.parse_webhook(message)
            outcome = shop.answers.pop(0) if shop.answers else Outcome.RECORDED
        except WebhookRefused as error:
            outcome = error.outcome
        shop.mailbox.put(message)
        answer = shop.gateway.acknowledge(outcome)
        return Response(answer.body, answer.status, media_type=answer.media_type)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await context.sender.close()
        context.store.close()

    return Starlette(
        routes=[
            Mount("/vnpay", routes=routes(context)),
            Route("/webhooks/vnpay", receive),
        ],
        lifespan=lifespan,
    )


def fact_of(gateway: VNPay, message: InboundMessage) -> PaymentUpdate:
    (update,) = gateway.parse_webhook(message).updates
    assert isinstance(update, PaymentUpdate)
    return update


# ── Paying ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("outcome", "state", "code"),
    [
        ("succeed", GatewayPaymentState.PAID, None),
        ("fail", GatewayPaymentState.FAILED, "51"),
        ("cancel", GatewayPaymentState.CANCELLED, "24"),
        ("suspect", GatewayPaymentState.UNDER_REVIEW, "07"),
    ],
)
def test_every_outcome_comes_back_signed(
    shop: Shop, outcome: str, state: GatewayPaymentState, code: str | None
) -> None:
    shop.open()
    back = shop.choose(outcome)
    assert shop.gateway.parse_return(back).reference == REFERENCE
    update = fact_of(shop.gateway, back)
    assert (update.state, update.amount, update.code) == (state, AMOUNT, code)


def test_a_choice_is_made_once(shop: Shop) -> None:
    shop.open()
    first, second = shop.choose("succeed"), shop.choose("cancel")
    assert first.raw_query == second.raw_query
    again = httpx2.get(shop.gateway.create_checkout(shop.request()).redirect_url)
    assert "This payment is over" in again.text


def test_a_choice_that_is_none_changes_nothing(shop: Shop) -> None:
    known = shop.open()
    for form in ({"outcome": "steal"}, {"outcome": "succeed", "delivery": "by pigeon"}):
        assert httpx2.post(f"{shop.base_url}/vnpay/pay/{REFERENCE}", data=form).status_code == 404
    assert shop.gateway.fetch_payment(known).payment.state is GatewayPaymentState.OPEN


def signed_address(shop: Shop, secret: str = DEMO_HASH_SECRET, **changes: str) -> str:
    """Return the address of the pay page with some values changed, and signed again."""
    address, _, query = shop.gateway.create_checkout(shop.request()).redirect_url.partition("?")
    given = dict(parse_qsl(query)) | {f"vnp_{name}": value for name, value in changes.items()}
    del given["vnp_SecureHash"]
    data = hash_data(given.items())
    return f"{address}?{data}&vnp_SecureHash={sign(secret, data)}"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"TmnCode": "OTHERTMN"}, "02"),
        ({"Amount": "499900"}, "03"),
        ({"Amount": "100000000000"}, "03"),
        ({"Amount": "10.5"}, "03"),
        ({"CurrCode": "USD"}, "03"),
        ({"OrderInfo": ""}, "03"),
        ({"IpAddr": "::1"}, "03"),
        ({"ExpireDate": "20200101000000"}, "11"),
    ],
)
def test_an_address_that_vnpay_would_not_take_is_not_opened(
    shop: Shop, changes: dict[str, str], code: str
) -> None:
    page = httpx2.get(signed_address(shop, **changes))
    assert page.status_code == 400
    assert f"Code {code}" in page.text


def test_a_wrong_signature_is_code_97(shop: Shop) -> None:
    url = shop.gateway.create_checkout(shop.request()).redirect_url
    addresses = [
        url.replace("vnp_Amount=50000000", "vnp_Amount=60000000"),
        url.partition("&vnp_SecureHash=")[0],
        signed_address(shop, "another-secret"),
    ]
    for address in addresses:
        page = httpx2.get(address)
        assert page.status_code == 400
        assert "Code 97" in page.text


def test_a_doubled_parameter_is_not_opened(shop: Shop) -> None:
    url = shop.gateway.create_checkout(shop.request()).redirect_url
    assert httpx2.get(f"{url}&vnp_Amount=50000000").status_code == 400


# ── IPN ───────────────────────────────────────────────────────────────────────────────────────
def test_the_server_is_told_what_the_browser_brings(shop: Shop) -> None:
    shop.open()
    back = shop.choose("succeed", "normal")
    (message,) = shop.heard()
    assert message.raw_query == back.raw_query
    assert fact_of(shop.gateway, message).state is GatewayPaymentState.PAID


def test_five_copies_are_one_event(shop: Shop) -> None:
    shop.open()
    shop.choose("succeed", "duplicate")
    message = shop.heard()
    assert len(message) == 5
    assert len({shop.gateway.parse_webhook(one).event_id for one in message}) == 1


def test_no_webhook_is_none(shop: Shop) -> None:
    known = shop.open()
    shop.choose("succeed", "never")
    assert shop.heard() == []
    assert shop.gateway.fetch_payment(known).payment.state is GatewayPaymentState.PAID


@pytest.mark.parametrize(
    "outcome", [Outcome.UNAVAILABLE, Outcome.UNKNOWN_PAYMENT, Outcome.WRONG_AMOUNT]
)
def test_an_ipn_comes_ten_times_in_all_after_99_01_and_04(shop: Shop, outcome: Outcome) -> None:
    shop.open()
    shop.answers.extend([outcome] * (2 * CALLS_IN_ALL))
    shop.choose("succeed", "normal")
    assert len(shop.heard()) == CALLS_IN_ALL


@pytest.mark.parametrize("outcome", [Outcome.RECORDED, Outcome.REPEATED])
def test_an_ipn_comes_again_until_00_or_02(shop: Shop, outcome: Outcome) -> None:
    shop.open()
    shop.answers.extend([Outcome.UNAVAILABLE, Outcome.UNAVAILABLE, outcome, Outcome.UNAVAILABLE])
    shop.choose("succeed", "normal")
    assert len(shop.heard()) == 3


def test_a_forged_ipn_is_refused_every_time(shop: Shop) -> None:
    shop.open()
    shop.choose("succeed", "forged")
    message = shop.heard()
    assert len(message) == CALLS_IN_ALL
    for one in message:
        with pytest.raises(WebhookRefused):
            shop.gateway.parse_webhook(one)


# ── querydr ───────────────────────────────────────────────────────────────────────────────────
def test_querydr_tells_what_happened(shop: Shop) -> None:
    known = KnownPayment(REFERENCE, None, None, AMOUNT, shop.now)
    assert shop.gateway.fetch_payment(known).payment.state is GatewayPaymentState.UNKNOWN
    shop.open()
    assert shop.gateway.fetch_payment(known).payment.state is GatewayPaymentState.OPEN
    shop.choose("succeed")
    update = shop.gateway.fetch_payment(known).payment
    assert (update.state, update.amount) == (GatewayPaymentState.PAID, AMOUNT)
    assert update.gateway_payment_id is not None
    another_day = replace(known, created_at=known.created_at - timedelta(days=1))
    assert shop.gateway.fetch_payment(another_day).payment.state is GatewayPaymentState.UNKNOWN


def test_a_payment_that_is_made_after_its_time_is_told(shop: Shop) -> None:
    known = shop.open()
    shop.now += timedelta(hours=2)
    shop.choose("succeed")
    assert shop.gateway.fetch_payment(known).payment.state is GatewayPaymentState.PAID


def test_a_question_under_another_secret_is_not_answered(shop: Shop) -> None:
    known = shop.open()
    settings = replace(shop.gateway._settings, hash_secret="another-secret")
    with closing(VNPay(settings)) as stranger, pytest.raises(GatewayUnavailable):
        stranger.fetch_payment(known)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"vnp_Command": "querydr"}', b"{}"])
def test_what_is_no_signed_question_is_code_03_or_97(shop: Shop, body: bytes) -> None:
    url = f"{shop.base_url}/vnpay/merchant_webapi/api/transaction"
    answer = httpx2.post(url, content=body)
    assert answer.status_code == 200
    assert answer.json()["vnp_ResponseCode"] in {"03", "97"}


# ── Refunds ───────────────────────────────────────────────────────────────────────────────────
def refund_of(known: KnownPayment, dong: int, reference: str) -> RefundRequest:
    return RefundRequest(
        payment=known,
        reference=reference,
        amount=Money.from_minor_units(dong, "VND"),
        is_whole=Money.from_minor_units(dong, "VND") == known.amount,
        actor="user7",
        requested_at=known.created_at,
    )


def test_a_refund_is_accepted_and_settled_after_a_while(shop: Shop) -> None:
    known = shop.paid()
    request = refund_of(known, 400_000, "REFUNDREFUNDREFUND22")
    first = shop.gateway.refund(request)
    assert first.state is RefundState.PENDING
    (message,) = shop.gateway.fetch_payment(known).refunds
    assert message.state is RefundState.PENDING
    shop.now += timedelta(minutes=1)
    (settled,) = shop.gateway.fetch_payment(known).refunds
    assert (settled.state, settled.amount) == (RefundState.SUCCEEDED, request.amount)
    assert settled.gateway_refund_id == first.gateway_refund_id
    assert settled.reference == request.reference


def test_the_same_refund_again_is_the_same_before_and_after_it_settled(shop: Shop) -> None:
    request = refund_of(shop.paid(), 500_000, "REFUNDREFUNDREFUND22")
    first = shop.gateway.refund(request)
    assert shop.gateway.refund(request) == first
    shop.now += timedelta(minutes=1)
    again = shop.gateway.refund(request)
    assert again == replace(first, state=RefundState.SUCCEEDED)


def test_a_second_refund_waits_for_the_first_and_takes_no_more_than_is_left(shop: Shop) -> None:
    known = shop.paid()
    first = shop.gateway.refund(refund_of(known, 300_000, "REFUNDREFUNDREFUND22"))
    second = refund_of(known, 200_000, "REFUNDREFUNDREFUND33")
    with pytest.raises(GatewayUnavailable, match="94"):
        shop.gateway.refund(second)
    shop.now += timedelta(minutes=1)
    with pytest.raises(GatewayRefused, match="95"):
        shop.gateway.refund(refund_of(known, 200_001, "REFUNDREFUNDREFUND44"))
    accepted = shop.gateway.refund(second)
    assert accepted.state is RefundState.PENDING
    assert accepted.gateway_refund_id != first.gateway_refund_id


@pytest.mark.parametrize("days", [1, 40])
def test_a_refund_whose_answer_was_lost_is_not_made_again_on_another_day(
    shop: Shop, days: int
) -> None:
    known = shop.paid()
    request = refund_of(known, 200_000, "REFUNDREFUNDREFUND22")
    first = shop.gateway.refund(request)
    shop.now += timedelta(days=days)
    assert shop.gateway.refund(request) == replace(first, state=RefundState.SUCCEEDED)
    # Another day's request of the same id would be a second refund, were it not asked about.
    forgetful = replace(request, requested_at=shop.now)
    assert shop.gateway.refund(forgetful).gateway_refund_id != first.gateway_refund_id


def test_a_refund_of_yesterday_that_never_came_is_made(shop: Shop) -> None:
    known = shop.paid()
    earlier = shop.gateway.refund(refund_of(known, 200_000, "REFUNDREFUNDREFUND22"))
    request = refund_of(known, 200_000, "REFUNDREFUNDREFUND33")
    shop.now += timedelta(days=1)
    made = shop.gateway.refund(request)
    assert made.gateway_refund_id != earlier.gateway_refund_id
    assert (made.reference, made.state) == (request.reference, RefundState.PENDING)


def test_what_was_not_paid_is_not_given_back(shop: Shop) -> None:
    known = shop.open()
    request = refund_of(known, 500_000, "REFUNDREFUNDREFUND22")
    with pytest.raises(GatewayRefused, match="95"):
        shop.gateway.refund(request)
    shop.choose("cancel")
    with pytest.raises(GatewayRefused, match="95"):
        shop.gateway.refund(request)


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": datetime(2026, 1, 15, tzinfo=UTC)},
        {"gateway_payment_id": "1"},
        {"reference": "ANOTHERREFERENCE2345"},
    ],
    ids=["day", "number", "reference"],
)
def test_a_refund_that_names_no_payment_of_theirs_is_refused(
    shop: Shop, changes: dict[str, Any]
) -> None:
    known = replace(shop.paid(), **changes)
    request = refund_of(known, 100_000, "REFUNDREFUNDREFUND22")
    with pytest.raises(GatewayRefused, match="91"):
        shop.gateway.refund(replace(request, requested_at=shop.now))


def test_what_the_stand_in_knows_outlives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as shop:
        monkeypatch.setattr(Context, "now", lambda _context: shop.now)
        known = shop.paid()
        request = refund_of(known, 100_000, "REFUNDREFUNDREFUND22")
        accepted = shop.gateway.refund(request)
    with serving(tmp_path) as shop:
        (message,) = shop.gateway.fetch_payment(known).refunds
    assert message.gateway_refund_id == accepted.gateway_refund_id


# ── What happens at VNPay itself ──────────────────────────────────────────────────────────────
def control(shop: Shop, **form: str) -> None:
    answer = httpx2.post(f"{shop.base_url}/vnpay/controls", data=form)
    assert answer.status_code == 200, answer.text


def operate(shop: Shop, action: str, amount: str = "") -> int:
    form = {"action": action, "id": REFERENCE, "amount": amount}
    return httpx2.post(f"{shop.base_url}/vnpay/dashboard", data=form).status_code


def test_refund_made_at_vnpay_is_told_without_our_reference(shop: Shop) -> None:
    known = shop.paid()
    assert operate(shop, "refund", "500001") == 409
    assert operate(shop, "refund", "200000") == 200
    (update,) = shop.gateway.fetch_payment(known).refunds
    assert (update.reference, update.payment_reference) == (None, REFERENCE)
    assert update.amount == Money.from_minor_units(200_000, "VND")


def test_refund_keeps_its_reference_when_it_gets_its_number(shop: Shop) -> None:
    known = shop.paid()
    control(shop, numbers_refunds="late")
    request = refund_of(known, 400_000, "REFUNDREFUNDREFUND22")
    first = shop.gateway.refund(request)
    (waiting,) = shop.gateway.fetch_payment(known).refunds
    shop.now += timedelta(minutes=1)
    (settled,) = shop.gateway.fetch_payment(known).refunds
    names = [one.gateway_refund_id for one in (first, waiting, settled)]
    assert names[:2] == [request.reference] * 2
    assert names[2].isdigit()
    assert {one.reference for one in (first, waiting, settled)} == {request.reference}
    # Without its note it has its number, and is matched by its amount.
    control(shop, names_refunds="no")
    (unnamed,) = shop.gateway.fetch_payment(known).refunds
    assert (unnamed.gateway_refund_id, unnamed.reference) == (names[2], None)


def test_refund_fails_after_it_succeeded_and_can_be_made_again(shop: Shop) -> None:
    known = shop.paid()
    first = shop.gateway.refund(refund_of(known, 500_000, "REFUNDREFUNDREFUND22"))
    shop.now += timedelta(minutes=1)
    assert operate(shop, "fail_refund") == 200
    (failed,) = shop.gateway.fetch_payment(known).refunds
    assert (failed.state, failed.gateway_refund_id) == (RefundState.FAILED, first.gateway_refund_id)
    again = shop.gateway.refund(refund_of(known, 500_000, "REFUNDREFUNDREFUND33"))
    assert again.state is RefundState.PENDING


def test_operator_of_what_was_not_paid_is_refused(shop: Shop) -> None:
    assert operate(shop, "refund", "1000") == 404
    shop.open()
    assert operate(shop, "refund", "1000") == 404
    shop.choose("succeed")
    assert operate(shop, "fail_refund") == 409
    assert operate(shop, "nonsense") == 409


@pytest.mark.parametrize("answer", ["403", "429", "500", "hang"])
def test_vnpay_that_is_of_no_use_is_unavailable(
    shop: Shop, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = shop.paid()
    control(shop, group="api", answer=answer)
    monkeypatch.setattr(shop.gateway._client, "timeout", httpx2.Timeout(1))
    with pytest.raises(GatewayUnavailable):
        shop.gateway.fetch_payment(known)
    control(shop, group="api", answer="normal")
    assert shop.gateway.fetch_payment(known).payment.state is GatewayPaymentState.PAID
