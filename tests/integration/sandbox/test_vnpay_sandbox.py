"""Our VNPay against the stand-in, which has signatures of its own."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from domain.gateways.base import (
    CheckoutRequest,
    GatewayRefused,
    InboundMessage,
    KnownPayment,
    PaymentState,
    RefundRequest,
    RefundState,
)
from domain.gateways.vnpay import VNPay, VNPaySettings
from domain.money import Money
from sandbox.vnpay import DEMO_HASH_SECRET, DEMO_TMN_CODE

if TYPE_CHECKING:
    from collections.abc import Iterator

AMOUNT = Money.from_minor_units(500_000, "VND")
NOW = datetime.now(UTC)
REQUEST = CheckoutRequest(
    reference="ABCDEFGHJKLMNPQRSTUV",
    amount=AMOUNT,
    description="Credit ABC",
    return_url="http://portal.example/payments/return/vnpay",
    cancel_url="http://portal.example/payment",
    customer_email="lan@example.com",
    customer_ip="127.0.0.1",
    language="en",
    created_at=NOW,
    expires_at=NOW + timedelta(minutes=15),
)
KNOWN = KnownPayment(REQUEST.reference, None, None, AMOUNT, NOW)


@pytest.fixture
def gateway(sandbox_url: str) -> Iterator[VNPay]:
    base = f"{sandbox_url}/vnpay"
    with closing(
        VNPay(
            VNPaySettings(
                tmn_code=DEMO_TMN_CODE,
                hash_secret=DEMO_HASH_SECRET,
                pay_url=f"{base}/paymentv2/vpcpay.html",
                api_url=f"{base}/merchant_webapi/api/transaction",
                is_sandbox=True,
            )
        )
    ) as made:
        yield made


def pay(gateway: VNPay, sandbox_url: str, outcome: str) -> InboundMessage:
    """Open the pay page, choose, and return what the browser comes back with."""
    page = httpx2.get(gateway.create_checkout(REQUEST).redirect_url)
    assert page.status_code == 200
    assert "500.000 VND" in page.text
    assert "Test money" in page.text
    chosen = httpx2.post(
        f"{sandbox_url}/vnpay/pay/{REQUEST.reference}",
        data={"outcome": outcome, "delivery": "never"},
    )
    assert chosen.status_code == 303
    query = urlsplit(chosen.headers["location"]).query
    return InboundMessage("GET", {}, parse_qsl(query), query, b"", NOW)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("succeed", PaymentState.PAID),
        ("fail", PaymentState.FAILED),
        ("cancel", PaymentState.CANCELLED),
        ("suspect", PaymentState.UNDER_REVIEW),
    ],
)
def test_every_outcome_comes_back_signed(
    gateway: VNPay, sandbox_url: str, outcome: str, state: PaymentState
) -> None:
    back = pay(gateway, sandbox_url, outcome)
    assert gateway.parse_return(back).reference == REQUEST.reference
    (fact,) = gateway.parse_notification(back).facts
    assert (fact.state, fact.amount) == (state, AMOUNT)


def test_querydr_tells_what_happened(gateway: VNPay, sandbox_url: str) -> None:
    assert gateway.fetch_payment(KNOWN).payment.state is PaymentState.UNKNOWN
    httpx2.get(gateway.create_checkout(REQUEST).redirect_url)
    assert gateway.fetch_payment(KNOWN).payment.state is PaymentState.OPEN
    pay(gateway, sandbox_url, "succeed")
    fact = gateway.fetch_payment(KNOWN).payment
    assert (fact.state, fact.amount) == (PaymentState.PAID, AMOUNT)
    assert fact.gateway_payment_id is not None
    another_day = replace(KNOWN, created_at=NOW - timedelta(days=1))
    assert gateway.fetch_payment(another_day).payment.state is PaymentState.UNKNOWN


def test_a_changed_address_is_not_opened(gateway: VNPay) -> None:
    url = gateway.create_checkout(REQUEST).redirect_url
    changed = httpx2.get(url.replace("vnp_Amount=50000000", "vnp_Amount=50000"))
    assert changed.status_code == 400
    assert "97" in changed.text


def test_refunds_are_accepted_then_settled_and_never_more_than_was_paid(
    gateway: VNPay, sandbox_url: str
) -> None:
    pay(gateway, sandbox_url, "succeed")
    number = gateway.fetch_payment(KNOWN).payment.gateway_payment_id
    request = RefundRequest(
        payment=replace(KNOWN, gateway_payment_id=number),
        reference="REFUNDREFUNDREFUND22",
        amount=Money.from_minor_units(400_000, "VND"),
        is_whole=False,
        actor="user7",
        requested_at=NOW,
    )
    first = gateway.refund(request)
    assert first.state is RefundState.PENDING
    assert gateway.refund(request).gateway_refund_id == first.gateway_refund_id
    with pytest.raises(GatewayRefused, match="95"):
        gateway.refund(replace(request, reference="REFUNDREFUNDREFUND33"))
    (told,) = gateway.fetch_payment(request.payment).refunds
    assert (told.gateway_refund_id, told.amount) == (first.gateway_refund_id, request.amount)
