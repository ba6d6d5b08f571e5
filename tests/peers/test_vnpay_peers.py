"""Our signatures of VNPay beside those of npm's vnpay, both ways."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from domain.gateways.base import CheckoutRequest, InboundMessage, PaymentState
from domain.gateways.vnpay import VNPay, VNPaySettings, hash_data, sign
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.peers

SECRET = "a-secret-of-these-tests"
NOW = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
SETTINGS = VNPaySettings(
    tmn_code="TESTTMN1",
    hash_secret=SECRET,
    pay_url="https://pay.example.com/paymentv2/vpcpay.html",
    api_url="https://pay.example.com/api",
    is_sandbox=False,
)


@pytest.fixture
def ask(peer_modules: Path) -> Callable[[str, dict[str, Any]], Any]:
    """Ask npm's vnpay a question."""
    node = shutil.which("node")
    assert node is not None
    script = Path(__file__).with_name("vnpay_peer.mjs")

    def asked(question: str, values: dict[str, Any]) -> Any:
        given = {"ask": question, "secret": SECRET, "tmnCode": "TESTTMN1", "values": values}
        done = subprocess.run(  # noqa: S603 - our own script
            [node, str(script), str(peer_modules.parent)],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return asked


def notification(**changes: str) -> dict[str, str]:
    given = {
        "vnp_TmnCode": "TESTTMN1",
        "vnp_Amount": "50000000",
        "vnp_BankCode": "NCB",
        "vnp_CardType": "ATM",
        "vnp_OrderInfo": "Credit ABC 123",
        "vnp_PayDate": "20260310163500",
        "vnp_ResponseCode": "00",
        "vnp_TransactionNo": "14422574",
        "vnp_TransactionStatus": "00",
        "vnp_TxnRef": "ABCDEFGHJKLMNPQRSTUV",
    } | changes
    return {**given, "vnp_SecureHash": sign(SECRET, hash_data(given.items()))}


def test_the_peer_builds_the_address_that_we_build(ask: Any) -> None:
    ours = VNPay(SETTINGS).create_checkout(
        CheckoutRequest(
            reference="ABCDEFGHJKLMNPQRSTUV",
            amount=Money.from_minor_units(500_000, "VND"),
            description="Credit ABC 123",
            return_url="https://portal.example.com/payments/return/vnpay?a=b c&d=é",
            cancel_url="https://portal.example.com/payment",
            customer_email="lan@example.com",
            customer_ip="203.0.113.7",
            language="en",
            created_at=NOW,
            expires_at=NOW + timedelta(minutes=15),
        )
    )
    theirs = ask(
        "pay",
        {
            "vnp_Amount": 500_000,
            "vnp_IpAddr": "203.0.113.7",
            "vnp_TxnRef": "ABCDEFGHJKLMNPQRSTUV",
            "vnp_OrderInfo": "Credit ABC 123",
            "vnp_ReturnUrl": "https://portal.example.com/payments/return/vnpay?a=b c&d=é",
            "vnp_CreateDate": 20260310163000,
            "vnp_ExpireDate": 20260310164500,
        },
    )
    ours_query, theirs_query = (
        dict(parse_qsl(urlsplit(url).query)) for url in (ours.redirect_url, theirs)
    )
    assert ours_query == theirs_query


@pytest.mark.parametrize("question", ["ipn", "return"])
def test_the_peer_believes_what_we_sign(ask: Any, question: str) -> None:
    told = ask(question, notification())
    assert told["isVerified"] is True
    assert told["isSuccess"] is True
    assert told["vnp_Amount"] == 500_000


@pytest.mark.parametrize("question", ["ipn", "return"])
def test_neither_believes_what_was_changed(ask: Any, question: str) -> None:
    changed = notification() | {"vnp_Amount": "5000000000"}
    assert ask(question, changed)["isVerified"] is False
    pairs = list(changed.items())
    message = InboundMessage("GET", {}, pairs, urlencode(pairs), b"", NOW)
    with pytest.raises(Exception, match="signature"):
        VNPay(SETTINGS).parse_notification(message)


def test_we_believe_what_the_peer_signs(ask: Any) -> None:
    """The peer signs addresses only: one with an IPN's names is an IPN."""
    url = ask(
        "pay",
        {
            "vnp_Amount": 500_000,
            "vnp_IpAddr": "203.0.113.7",
            "vnp_TxnRef": "ABCDEFGHJKLMNPQRSTUV",
            "vnp_OrderInfo": "Credit ABC 123",
            "vnp_ReturnUrl": "https://portal.example.com/back",
            "vnp_CreateDate": 20260310163000,
            "vnp_ResponseCode": "00",
            "vnp_TransactionStatus": "00",
            "vnp_TransactionNo": "14422574",
        },
    )
    pairs = parse_qsl(urlsplit(url).query)
    message = InboundMessage("GET", {}, pairs, urlencode(pairs), b"", NOW)
    (fact,) = VNPay(SETTINGS).parse_notification(message).facts
    assert fact.state is PaymentState.PAID
    assert fact.amount == Money.from_minor_units(500_000, "VND")
