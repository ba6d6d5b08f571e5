"""Our signatures of VNPay beside those of npm's vnpay, both ways."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import pytest

from domain.gateways.interface import (
    CheckoutRequest,
    GatewayPaymentState,
    GatewayUnavailable,
    InboundMessage,
    KnownPayment,
    Outcome,
    RefundRequest,
    RefundState,
    WebhookRefused,
)
from domain.gateways.vnpay.client import VNPay
from domain.gateways.vnpay.fields import QUERY_RESPONSE, hash_data, sign
from domain.gateways.vnpay.settings import VNPaySettings
from domain.money import Money
from sandbox import vnpay as stand_in

if TYPE_CHECKING:
    from typing import Protocol

    class Ask(Protocol):
        def __call__(
            self,
            question: str,
            values: dict[str, Any],
            *,
            answer: dict[str, Any] | None = None,
            secret: str = ...,
        ) -> Any: ...


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


REFERENCE = "ABCDEFGHJKLMNPQRSTUV"
KNOWN = KnownPayment(REFERENCE, None, "14422574", Money.from_minor_units(500_000, "VND"), NOW)


@pytest.fixture
def ask(peer_modules: Path) -> Ask:
    """Ask npm's vnpay a question; its calls are answered with `answer`."""
    node = shutil.which("node")
    assert node is not None
    script = Path(__file__).with_name("vnpay_peer.mjs")

    def asked(
        question: str,
        values: dict[str, Any],
        *,
        answer: dict[str, Any] | None = None,
        secret: str = SECRET,
    ) -> Any:
        given = {
            "ask": question,
            "secret": secret,
            "tmnCode": "TESTTMN1",
            "values": values,
            "answer": answer,
        }
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


def webhook(**changes: str) -> dict[str, str]:
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
        "vnp_TxnRef": REFERENCE,
    } | changes
    return {**given, "vnp_SecureHash": sign(SECRET, hash_data(given.items()))}


def test_the_peer_builds_the_address_that_we_build(ask: Ask) -> None:
    ours = VNPay(SETTINGS).create_checkout(
        CheckoutRequest(
            reference=REFERENCE,
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
            "vnp_TxnRef": REFERENCE,
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
def test_the_peer_believes_what_we_sign(ask: Ask, question: str) -> None:
    message = ask(question, webhook())
    assert message["isVerified"] is True
    assert message["isSuccess"] is True
    assert message["vnp_Amount"] == 500_000


@pytest.mark.parametrize("question", ["ipn", "return"])
def test_neither_believes_what_was_changed(ask: Ask, question: str) -> None:
    changed = webhook() | {"vnp_Amount": "5000000000"}
    assert ask(question, changed)["isVerified"] is False
    pairs = list(changed.items())
    message = InboundMessage("GET", {}, pairs, urlencode(pairs), b"", NOW)
    for read in (VNPay(SETTINGS).parse_webhook, VNPay(SETTINGS).parse_return):
        with pytest.raises(WebhookRefused) as caught:
            read(message)
        assert caught.value.outcome is Outcome.BAD_SIGNATURE


def test_we_read_the_peers_signature_and_take_no_pay_address_for_an_answer(ask: Ask) -> None:
    """The peer signs addresses only: signed as it is, one with an IPN's names is no IPN yet."""
    url = ask(
        "pay",
        {
            "vnp_Amount": 500_000,
            "vnp_IpAddr": "203.0.113.7",
            "vnp_TxnRef": REFERENCE,
            "vnp_OrderInfo": "Credit ABC 123",
            "vnp_ReturnUrl": "https://portal.example.com/back",
            "vnp_CreateDate": 20260310163000,
            "vnp_ResponseCode": "00",
            "vnp_TransactionStatus": "00",
            "vnp_TransactionNo": "14422574",
        },
    )
    pairs = parse_qsl(urlsplit(url).query)
    changed = [(name, "5" if name == "vnp_Amount" else value) for name, value in pairs]
    for sent, refusal in (
        (pairs, (Outcome.MALFORMED, "not_an_answer")),
        (changed, (Outcome.BAD_SIGNATURE, None)),
    ):
        message = InboundMessage("GET", {}, sent, urlencode(sent), b"", NOW)
        with pytest.raises(WebhookRefused) as caught:
            VNPay(SETTINGS).parse_webhook(message)
        outcome, reason = refusal
        assert caught.value.outcome is outcome
        assert reason is None or caught.value.reason == reason


# ── The API ───────────────────────────────────────────────────────────────────────────────────
def listening(answer: dict[str, Any]) -> tuple[VNPay, list[dict[str, Any]]]:
    """Return our gateway, answered so, and the list of what it sends."""
    sent: list[dict[str, Any]] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        return httpx2.Response(200, json=answer)

    return VNPay(SETTINGS, httpx2.MockTransport(respond), now=lambda: NOW), sent


def querydr_answer(**changes: str) -> dict[str, str]:
    given = dict.fromkeys(QUERY_RESPONSE, "") | {
        "vnp_ResponseId": "a1",
        "vnp_Command": "querydr",
        "vnp_ResponseCode": "00",
        "vnp_Message": "QueryDR Success",
        "vnp_TmnCode": "TESTTMN1",
        "vnp_TxnRef": REFERENCE,
        "vnp_Amount": "50000000",
        "vnp_BankCode": "NCB",
        "vnp_PayDate": "20260310163500",
        "vnp_TransactionNo": "14422574",
        "vnp_TransactionType": "01",
        "vnp_TransactionStatus": "00",
        "vnp_OrderInfo": "Credit ABC 123",
    }
    given |= {f"vnp_{name}": value for name, value in changes.items()}
    data = "|".join(given[name] for name in QUERY_RESPONSE)
    return {**given, "vnp_SecureHash": sign(SECRET, data)}


def numbered(body: dict[str, Any]) -> dict[str, Any]:
    """Return the values as the peer takes them: dates and dong are numbers, and unsigned."""
    as_numbers = {"vnp_TransactionDate", "vnp_CreateDate", "vnp_TransactionNo"}
    taken = {name: int(value) if name in as_numbers else value for name, value in body.items()}
    if "vnp_Amount" in taken:
        taken["vnp_Amount"] = int(taken["vnp_Amount"]) // 100
    for name in ("vnp_SecureHash", "vnp_Version", "vnp_Command", "vnp_TmnCode"):
        del taken[name]
    return taken


def as_text(body: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in body.items()}


def test_the_peer_sends_the_querydr_that_we_send(ask: Ask) -> None:
    answer = querydr_answer()
    gateway, sent = listening(answer)
    snapshot = gateway.fetch_payment(KNOWN)
    theirs = ask("querydr", numbered(sent[0]), answer=answer)
    assert theirs["sent"]["method"] == "POST"
    assert as_text(theirs["sent"]["body"]) == sent[0]
    assert theirs["told"]["isVerified"] is True
    assert theirs["told"]["isSuccess"] is True
    assert snapshot.payment.state is GatewayPaymentState.PAID


def test_neither_believes_an_answer_that_was_changed(ask: Ask) -> None:
    answer = querydr_answer() | {"vnp_TransactionStatus": "02"}
    gateway, sent = listening(answer)
    with pytest.raises(GatewayUnavailable, match="signature"):
        gateway.fetch_payment(KNOWN)
    theirs = ask("querydr", numbered(sent[0]), answer=answer)
    assert theirs["told"]["isVerified"] is False


def test_the_peer_sends_the_refund_that_we_send(ask: Ask) -> None:
    """Its check of the answer divides the amount first, so that only what it sends is compared."""
    request = RefundRequest(
        payment=KNOWN,
        reference="REFUNDREFUNDREFUND22",
        amount=Money.from_minor_units(100_000, "VND"),
        is_whole=False,
        actor="user7",
        requested_at=NOW,
    )
    given = {
        "vnp_ResponseCode": "00",
        "vnp_TmnCode": "TESTTMN1",
        "vnp_TxnRef": REFERENCE,
        "vnp_TransactionStatus": "05",
    }
    data = "|".join(given.get(name, "") for name in QUERY_RESPONSE[:-2])
    answer = {**given, "vnp_SecureHash": sign(SECRET, data)}
    gateway, sent = listening(answer)
    assert gateway.refund(request).state is RefundState.PENDING
    theirs = ask("refund", numbered(sent[0]), answer=answer)
    assert as_text(theirs["sent"]["body"]) == sent[0]


# ── The stand-in ──────────────────────────────────────────────────────────────────────────────
def test_the_stand_in_signs_as_the_peer_does(ask: Ask) -> None:
    secret = stand_in.DEMO_HASH_SECRET
    pay = {
        "vnp_Amount": 500_000,
        "vnp_IpAddr": "203.0.113.7",
        "vnp_TxnRef": REFERENCE,
        "vnp_OrderInfo": "Credit ABC 123",
        "vnp_ReturnUrl": "https://portal.example.com/payments/return/vnpay?a=b c&d=é",
        "vnp_CreateDate": 20260310163000,
        "vnp_ExpireDate": 20260310164500,
    }
    address = dict(parse_qsl(urlsplit(ask("pay", pay, secret=secret)).query))
    assert stand_in.form_hash(address) == address["vnp_SecureHash"]
    question = {
        "vnp_RequestId": "q1",
        "vnp_TxnRef": REFERENCE,
        "vnp_TransactionDate": 20260310163000,
        "vnp_CreateDate": 20260310170000,
        "vnp_IpAddr": "203.0.113.9",
        "vnp_OrderInfo": "Query",
    }
    asked = ask("querydr", question, secret=secret)["sent"]["body"]
    assert stand_in.pipe_hash(asked, stand_in._QUERY) == asked["vnp_SecureHash"]


@pytest.mark.parametrize("question", ["ipn", "return"])
def test_the_peer_believes_what_the_stand_in_signs(ask: Ask, question: str) -> None:
    given = webhook()
    given["vnp_SecureHash"] = stand_in.form_hash(given)
    message = ask(question, given, secret=stand_in.DEMO_HASH_SECRET)
    assert message["isVerified"] is True


def test_the_peer_believes_the_answers_of_the_stand_in(ask: Ask) -> None:
    answer = querydr_answer()
    answer["vnp_SecureHash"] = stand_in.pipe_hash(answer, stand_in._QUERY_ANSWER)
    question = {
        "vnp_RequestId": "q1",
        "vnp_TxnRef": REFERENCE,
        "vnp_TransactionDate": 20260310163000,
        "vnp_CreateDate": 20260310170000,
        "vnp_IpAddr": "203.0.113.9",
        "vnp_OrderInfo": "Query",
    }
    message = ask("querydr", question, answer=answer, secret=stand_in.DEMO_HASH_SECRET)["told"]
    assert message["isVerified"] is True
    changed = answer | {"vnp_Amount": "1"}
    message = ask("querydr", question, answer=changed, secret=stand_in.DEMO_HASH_SECRET)["told"]
    assert message["isVerified"] is False
