from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import pytest

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
from domain.gateways.vnpay.fields import (
    ANSWER_ONLY,
    QUERY_REQUEST,
    QUERY_RESPONSE,
    REFUND_REQUEST,
    REFUND_RESPONSE,
    REQUEST_ONLY,
    hash_data,
    sign,
)
from domain.gateways.vnpay.settings import VNPaySettings
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = Path(__file__).parents[3].parent / "shared" / "vnpay" / "vectors.json"
OWN = json.loads(Path(__file__).with_name("vnpay_vectors.json").read_text())
needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason=f"the shared vectors are not at {VECTORS}"
)
SECRET = "TESTSECRETKEY0123456789ABCDEFGHIJ"
SETTINGS = VNPaySettings(
    tmn_code="TESTTMN1",
    hash_secret=SECRET,
    pay_url="https://pay.example.com/vpcpay.html",
    api_url="https://api.example.com/transaction",
    is_sandbox=False,
    server_ip="203.0.113.9",
)
MORNING = datetime(2026, 1, 15, 2, 30, tzinfo=UTC)
NEXT_MORNING = MORNING + timedelta(days=1)
REFERENCE = "ABCDEFGHJKLMNPQRSTUV"
AMOUNT = Money.from_minor_units(500_000, "VND")
PAYMENT = KnownPayment(REFERENCE, None, "14422574", AMOUNT, MORNING)
REQUEST = CheckoutRequest(
    reference=REFERENCE,
    amount=AMOUNT,
    description="Credit ABC",
    return_url="https://portal.example.com/payments/return/vnpay",
    cancel_url="https://portal.example.com/payment",
    customer_email="lan@example.com",
    customer_ip="203.0.113.7",
    language="vi",
    created_at=MORNING,
    expires_at=MORNING + timedelta(minutes=30),
)


def ipn(secret: str = SECRET, **changes: str) -> dict[str, str]:
    """Return the parameters of a signed IPN; what is empty is left out."""
    given = {
        "vnp_TmnCode": "TESTTMN1",
        "vnp_Amount": "50000000",
        "vnp_BankCode": "NCB",
        "vnp_CardType": "ATM",
        "vnp_OrderInfo": "Credit ABC",
        "vnp_PayDate": "20260115093312",
        "vnp_ResponseCode": "00",
        "vnp_TransactionNo": "14422574",
        "vnp_TransactionStatus": "00",
        "vnp_TxnRef": REFERENCE,
    } | {f"vnp_{name}": value for name, value in changes.items()}
    given = {name: value for name, value in given.items() if value}
    return {**given, "vnp_SecureHash": sign(secret, hash_data(given.items()))}


def message(pairs: dict[str, str] | list[tuple[str, str]]) -> InboundMessage:
    items = list(pairs.items()) if isinstance(pairs, dict) else pairs
    return InboundMessage("GET", {}, items, urlencode(items), b"", MORNING)


def refused(pairs: dict[str, str] | list[tuple[str, str]]) -> WebhookRefused:
    with pytest.raises(WebhookRefused) as caught:
        VNPay(SETTINGS).parse_webhook(message(pairs))
    return caught.value


def answering(
    respond: Callable[[dict[str, Any]], httpx2.Response], now: datetime | None = None
) -> VNPay:
    """Return a gateway whose server is the function."""
    transport = httpx2.MockTransport(lambda request: respond(json.loads(request.content)))
    return VNPay(SETTINGS, transport, lambda: now or NEXT_MORNING)


def signed_answer(
    values: dict[str, str], names: tuple[str, ...] = QUERY_RESPONSE
) -> httpx2.Response:
    answer = {
        "vnp_ResponseId": "r1",
        "vnp_Command": "querydr",
        "vnp_ResponseCode": "00",
        "vnp_TmnCode": "TESTTMN1",
        "vnp_TxnRef": REFERENCE,
        "vnp_Amount": "50000000",
        "vnp_TransactionNo": "14422574",
        "vnp_TransactionType": "01",
        "vnp_TransactionStatus": "00",
    } | values
    data = "|".join(str(answer.get(name, "") or "") for name in names)
    return httpx2.Response(200, json={**answer, "vnp_SecureHash": sign(SECRET, data)})


# ── Paying ────────────────────────────────────────────────────────────────────────────────────
def test_the_pay_address_has_dong_times_a_hundred_and_a_valid_signature() -> None:
    checkout = VNPay(SETTINGS).create_checkout(REQUEST)
    pairs = parse_qsl(urlsplit(checkout.redirect_url).query)
    given = dict(pairs)
    assert given["vnp_Amount"] == "50000000"
    assert given["vnp_TxnRef"] == REFERENCE
    assert given["vnp_Locale"] == "vn"
    assert given["vnp_SecureHash"] == sign(SECRET, hash_data(pairs))
    assert "vnp_SecureHashType" not in given


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "Asia/Ho_Chi_Minh"])
def test_times_are_of_vietnam_whatever_the_server_says(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "TZ", zone)
    time.tzset()
    try:
        url = VNPay(SETTINGS).create_checkout(REQUEST).redirect_url
    finally:
        monkeypatch.undo()
        time.tzset()
    given = dict(parse_qsl(urlsplit(url).query))
    assert given["vnp_CreateDate"] == "20260115093000"
    assert given["vnp_ExpireDate"] == "20260115100000"


def test_only_dong_are_taken() -> None:
    gateway = VNPay(SETTINGS)
    assert gateway.limits("JPY") is None
    limits = gateway.limits("VND")
    assert limits is not None
    assert limits.minimum == Money.from_minor_units(5_000, "VND")
    assert limits.maximum == Money.from_minor_units(999_999_999, "VND")
    with pytest.raises(GatewayRefused):
        gateway.create_checkout(replace(REQUEST, amount=Money.from_minor_units(100, "USD")))


@pytest.mark.parametrize("dong", [4_999, 1_000_000_000])
def test_more_or_less_than_vnpay_takes_is_refused(dong: int) -> None:
    with pytest.raises(GatewayRefused, match="amount"):
        VNPay(SETTINGS).create_checkout(
            replace(REQUEST, amount=Money.from_minor_units(dong, "VND"))
        )


@pytest.mark.parametrize("dong", [5_000, 999_999_999])
def test_the_least_and_the_most_are_taken(dong: int) -> None:
    request = replace(REQUEST, amount=Money.from_minor_units(dong, "VND"))
    url = VNPay(SETTINGS).create_checkout(request).redirect_url
    assert dict(parse_qsl(urlsplit(url).query))["vnp_Amount"] == f"{dong}00"


def test_midnight_is_that_of_vietnam_and_the_reference_is_ours_on_both_sides_of_it() -> None:
    before = datetime(2026, 1, 15, 16, 59, 59, tzinfo=UTC)
    found = []
    for moment in (before, before + timedelta(seconds=1)):
        request = replace(REQUEST, created_at=moment)
        given = dict(
            parse_qsl(urlsplit(VNPay(SETTINGS).create_checkout(request).redirect_url).query)
        )
        found.append((given["vnp_CreateDate"], given["vnp_TxnRef"]))
    assert found == [("20260115235959", REFERENCE), ("20260116000000", REFERENCE)]


def test_the_same_checkout_again_is_the_same_address() -> None:
    first, second = (VNPay(SETTINGS).create_checkout(REQUEST) for _ in range(2))
    assert first == second
    assert (first.gateway_reference, first.expires_at) == (None, REQUEST.expires_at)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("1.1.1.1", "1.1.1.1"),
        ("127.0.0.2", "127.0.0.1"),
        ("::1", "127.0.0.1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("2001::", "2001:0000:0000:0000:0000:0000:0000:0000"),
        ("fe80::1234%eth0", "fe80::1234"),
        ("", "203.0.113.9"),
        ("unknown", "203.0.113.9"),
    ],
)
def test_an_address_has_the_7_to_45_characters_that_vnpay_takes(given: str, sent: str) -> None:
    checkout = VNPay(SETTINGS).create_checkout(replace(REQUEST, customer_ip=given))
    assert dict(parse_qsl(urlsplit(checkout.redirect_url).query))["vnp_IpAddr"] == sent


@pytest.mark.parametrize(("given", "sent"), [("::1", "127.0.0.1"), ("", "127.0.0.1")])
def test_the_address_of_our_server_is_long_enough_too(given: str, sent: str) -> None:
    asked: list[str] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content)["vnp_IpAddr"])
        raise httpx2.ReadTimeout("late")

    settings = replace(SETTINGS, server_ip=given)
    gateway = VNPay(settings, httpx2.MockTransport(respond), lambda: NEXT_MORNING)
    for ask in (lambda: gateway.fetch_payment(PAYMENT), lambda: gateway.refund(REFUND)):
        with pytest.raises(GatewayUnavailable):
            ask()
    assert asked == [sent, sent]


def test_secrets_do_not_show() -> None:
    assert SECRET not in repr(SETTINGS)
    assert SECRET not in repr(VNPay(SETTINGS).create_checkout(REQUEST))


# ── Signatures that others made ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize("address", OWN["addresses"])
def test_addresses_that_npm_signed_are_signed_alike(address: str) -> None:
    data, _, signature = urlsplit(address).query.rpartition("&vnp_SecureHash=")
    pairs = parse_qsl(data)
    assert hash_data(reversed(pairs)) == data
    assert sign(OWN["secret"], data) == signature


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("querydr_request", QUERY_REQUEST),
        ("refund_request", REFUND_REQUEST),
        ("querydr_answer", QUERY_RESPONSE),
        ("refund_answer", REFUND_RESPONSE),
    ],
)
def test_bodies_that_others_signed_are_signed_alike(name: str, order: tuple[str, ...]) -> None:
    body = OWN[name]
    assert sign(OWN["secret"], "|".join(str(body[key]) for key in order)) == body["vnp_SecureHash"]


def test_what_others_signed_is_believed() -> None:
    settings = replace(SETTINGS, tmn_code=OWN["tmn_code"], hash_secret=OWN["secret"])
    amount = Money.from_minor_units(123_456, "VND")
    known = replace(PAYMENT, reference="OWNREFERENCE00000001", amount=amount)
    by_ipn = VNPay(settings).parse_webhook(message(parse_qsl(OWN["notification"])))
    answer = httpx2.Response(200, json=OWN["querydr_answer"])
    asked = VNPay(settings, httpx2.MockTransport(lambda _: answer)).fetch_payment(known)
    for update in (by_ipn.updates[0], asked.payment):
        assert isinstance(update, PaymentUpdate)
        assert (update.state, update.amount) == (GatewayPaymentState.PAID, amount)
        assert update.gateway_payment_id == "14422574"
    refund = replace(
        REFUND, payment=known, reference="OWNREFUND1", amount=Money.from_minor_units(23_456, "VND")
    )
    accepted = httpx2.Response(200, json=OWN["refund_answer"])
    transport = httpx2.MockTransport(lambda _: accepted)
    gateway_for = VNPay(settings, transport, lambda: NEXT_MORNING).refund(refund)
    assert (gateway_for.state, gateway_for.gateway_refund_id) == (RefundState.PENDING, "14430000")


@needs_vectors
@pytest.mark.shared
def test_every_shared_vector_is_signed_alike() -> None:
    vectors = json.loads(VECTORS.read_text())
    for vector in [*vectors["pay"], *vectors["ipn"][:2]]:
        assert hash_data(vector["params"].items()) == vector["hash_data"], vector["name"]
        signature = sign(vectors["secret"], vector["hash_data"])
        assert signature == vector["vnp_SecureHash"], vector["name"]
    pairs = [
        (QUERY_REQUEST, vectors["querydr"], "request"),
        (QUERY_RESPONSE, vectors["querydr"], "response"),
        (REFUND_REQUEST, vectors["refund"], "request"),
        (REFUND_RESPONSE, vectors["refund"], "response"),
    ]
    for names, group, side in pairs:
        for vector in group if isinstance(group, list) else [group]:
            body = vector[side].get("body", vector[side])
            data = "|".join(str(body.get(name, "") or "") for name in names)
            assert data == vector[f"{side}_hash_data"]
            assert sign(vectors["secret"], data) == body["vnp_SecureHash"]


@needs_vectors
@pytest.mark.shared
def test_every_shared_ipn_is_believed_or_not_as_it_should_be() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert len(vectors["ipn"]) == 4
    for vector in vectors["ipn"]:
        given = {**vector["params"], "vnp_SecureHash": vector["vnp_SecureHash"]}
        pairs = parse_qsl(vector["raw_query"]) if "raw_query" in vector else list(given.items())
        if not vector["expected"]["python_canonical_case_insensitive"]:
            assert refused(pairs).outcome is Outcome.BAD_SIGNATURE, vector["name"]
            continue
        (update,) = VNPay(SETTINGS).parse_webhook(message(pairs)).updates
        codes = {given["vnp_ResponseCode"], given["vnp_TransactionStatus"]}
        assert (update.state is GatewayPaymentState.PAID) == (codes == {"00"}), vector["name"]


# ── IPN ───────────────────────────────────────────────────────────────────────────────────────
def test_a_success_is_read() -> None:
    (update,) = VNPay(SETTINGS).parse_webhook(message(ipn())).updates
    assert update.state is GatewayPaymentState.PAID
    assert update.amount == AMOUNT
    assert (update.reference, update.gateway_payment_id, update.method) == (
        REFERENCE,
        "14422574",
        "ATM",
    )
    assert update.occurred_at == datetime(2026, 1, 15, 2, 33, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("code", "status", "state"),
    [
        ("00", "02", GatewayPaymentState.FAILED),
        ("00", "01", GatewayPaymentState.OPEN),
        ("51", "00", GatewayPaymentState.FAILED),
        ("51", "02", GatewayPaymentState.FAILED),
        ("07", "00", GatewayPaymentState.UNDER_REVIEW),
        ("00", "07", GatewayPaymentState.UNDER_REVIEW),
        ("00", "04", GatewayPaymentState.UNDER_REVIEW),
        ("24", "02", GatewayPaymentState.CANCELLED),
        ("11", "02", GatewayPaymentState.EXPIRED),
        ("99", "99", GatewayPaymentState.FAILED),
    ],
)
def test_paid_needs_both_codes(code: str, status: str, state: GatewayPaymentState) -> None:
    given = message(ipn(ResponseCode=code, TransactionStatus=status))
    (update,) = VNPay(SETTINGS).parse_webhook(given).updates
    assert update.state is state


def test_one_event_has_one_name_and_another_has_another() -> None:
    gateway = VNPay(SETTINGS)
    first, again = (gateway.parse_webhook(message(ipn())).event_id for _ in range(2))
    assert first == again
    others = [
        ipn(ResponseCode="51", TransactionStatus="02"),
        ipn(TransactionStatus="02"),
        ipn(TransactionNo="14422575"),
        ipn(TxnRef="ABCDEFGHJKLMNPQRSTUW"),
    ]
    names = {gateway.parse_webhook(message(other)).event_id for other in others}
    assert len(names | {first}) == len(others) + 1


def test_a_signed_amount_that_differs_is_told_as_it_is() -> None:
    (update,) = VNPay(SETTINGS).parse_webhook(message(ipn(Amount="60000000"))).updates
    assert isinstance(update, PaymentUpdate)
    assert update.amount == Money.from_minor_units(600_000, "VND")


def test_why_not_is_the_first_of_the_two_codes_that_is_not_good() -> None:
    gateway = VNPay(SETTINGS)
    for codes, expected in ((("51", "02"), "51"), (("00", "02"), "02"), (("00", "00"), None)):
        given = ipn(ResponseCode=codes[0], TransactionStatus=codes[1])
        (update,) = gateway.parse_webhook(message(given)).updates
        assert isinstance(update, PaymentUpdate)
        assert update.code == expected


def test_an_uppercase_hash_is_the_same_hash() -> None:
    given = ipn()
    given["vnp_SecureHash"] = given["vnp_SecureHash"].upper()
    assert VNPay(SETTINGS).parse_webhook(message(given)).updates


def test_parameters_of_others_are_not_signed() -> None:
    given = {**ipn(), "utm_source": "mail", "SecureHash": "x"}
    assert VNPay(SETTINGS).parse_webhook(message(given)).updates


def test_a_hash_type_is_not_signed() -> None:
    given = {**ipn(), "vnp_SecureHashType": "HmacSHA512"}
    assert VNPay(SETTINGS).parse_webhook(message(given)).updates


def test_a_missing_hash_is_a_wrong_one() -> None:
    given = ipn()
    del given["vnp_SecureHash"]
    assert refused(given).outcome is Outcome.BAD_SIGNATURE


def test_a_wrong_secret_is_refused() -> None:
    assert refused(ipn("another-secret")).outcome is Outcome.BAD_SIGNATURE


@pytest.mark.parametrize("name", ["vnp_Amount", "vnp_TxnRef", "vnp_ResponseCode"])
def test_a_changed_value_is_refused(name: str) -> None:
    given = ipn()
    given[name] = given[name][:-1] + "9"
    assert refused(given).outcome is Outcome.BAD_SIGNATURE


def test_a_doubled_amount_is_refused() -> None:
    pairs = [*ipn().items(), ("vnp_Amount", "1")]
    assert refused(pairs).reason == "doubled_parameter"


def test_another_terminal_is_refused_though_it_is_signed() -> None:
    assert refused(ipn(TmnCode="OTHERTMN")).reason == "wrong_merchant"


@pytest.mark.parametrize(
    "amount", ["10.5", "-50000000", "", "50000050", "\u0665\u0660\u0660", "9" * 30]
)
def test_an_amount_that_is_none_is_refused(amount: str) -> None:
    assert refused(ipn(Amount=amount)).outcome is Outcome.MALFORMED


def test_money_without_a_number_is_refused() -> None:
    assert refused(ipn(TransactionNo="0")).outcome is Outcome.MALFORMED


def test_nothing_at_all_is_malformed() -> None:
    assert refused({}).outcome is Outcome.MALFORMED


def test_nothing_that_only_an_answer_has_may_be_missing() -> None:
    for name in ANSWER_ONLY:
        given = ipn(**{name.removeprefix("vnp_"): ""})
        assert refused(given).reason == "not_an_answer"
        with pytest.raises(WebhookRefused, match="not_an_answer"):
            VNPay(SETTINGS).parse_return(message(given))
        assert refused({**given, name: ""}).reason == "not_an_answer"


@pytest.mark.parametrize("name", sorted(REQUEST_ONLY))
def test_nothing_that_only_a_request_has_may_be_there(name: str) -> None:
    for value in ("1", "pay"):
        given = ipn(**{name.removeprefix("vnp_"): value})
        assert refused(given).reason == "not_an_answer"
        with pytest.raises(WebhookRefused, match="not_an_answer"):
            VNPay(SETTINGS).parse_return(message(given))
    unsigned = {**ipn(), name: ""}  # what is empty is not signed
    assert refused(unsigned).reason == "not_an_answer"


def test_our_own_pay_address_is_no_answer_of_vnpay() -> None:
    url = VNPay(SETTINGS).create_checkout(REQUEST).redirect_url
    pairs = parse_qsl(urlsplit(url).query)
    for sent in (pairs, [*pairs, ("x", "1")], [("vnp_SecureHashType", "SHA512"), *pairs]):
        assert refused(sent).outcome is Outcome.MALFORMED
        with pytest.raises(WebhookRefused, match="not_an_answer"):
            VNPay(SETTINGS).parse_return(message(sent))
    # Whatever is sent along unsigned is signed wrongly: nobody makes an answer of it.
    forged = [*pairs, *((name, "00") for name in ANSWER_ONLY)]
    assert refused(forged).outcome is Outcome.BAD_SIGNATURE
    left = {"vnp_TmnCode", "vnp_Amount", "vnp_OrderInfo", "vnp_TxnRef", "vnp_SecureHash"}
    assert {name for name, _ in pairs} - REQUEST_ONLY == left


def test_a_return_names_its_payment_and_is_verified() -> None:
    gateway = VNPay(SETTINGS)
    assert gateway.parse_return(message(ipn())).reference == REFERENCE
    with pytest.raises(WebhookRefused):
        gateway.parse_return(message(ipn("another-secret")))


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.RECORDED, "00"),
        (Outcome.REPEATED, "02"),
        (Outcome.UNKNOWN_PAYMENT, "01"),
        (Outcome.WRONG_AMOUNT, "04"),
        (Outcome.BAD_SIGNATURE, "97"),
        (Outcome.MALFORMED, "99"),
        (Outcome.UNAVAILABLE, "99"),
    ],
)
def test_answers_are_those_that_vnpay_knows(outcome: Outcome, code: str) -> None:
    answer = VNPay(SETTINGS).acknowledge(outcome)
    assert answer.status == 200
    assert json.loads(answer.body)["RspCode"] == code


# ── querydr ───────────────────────────────────────────────────────────────────────────────────
def test_querydr_asks_with_the_date_of_the_payment() -> None:
    asked: list[dict[str, Any]] = []

    def respond(body: dict[str, Any]) -> httpx2.Response:
        asked.append(body)
        return signed_answer({})

    snapshot = answering(respond).fetch_payment(PAYMENT)
    assert snapshot.payment.state is GatewayPaymentState.PAID
    assert snapshot.payment.amount == AMOUNT
    (body,) = asked
    assert body["vnp_TransactionDate"] == "20260115093000"
    data = "|".join(str(body.get(name, "")) for name in QUERY_REQUEST)
    assert body["vnp_SecureHash"] == sign(SECRET, data)
    assert len(body["vnp_RequestId"]) <= 32


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("01", GatewayPaymentState.OPEN),
        ("02", GatewayPaymentState.FAILED),
        ("04", GatewayPaymentState.UNDER_REVIEW),
        ("07", GatewayPaymentState.UNDER_REVIEW),
    ],
)
def test_querydr_statuses(status: str, state: GatewayPaymentState) -> None:
    gateway = answering(lambda _: signed_answer({"vnp_TransactionStatus": status}))
    assert gateway.fetch_payment(PAYMENT).payment.state is state


def test_querydr_status_01_may_be_00_later() -> None:
    statuses = iter(["01", "00"])
    gateway = answering(lambda _: signed_answer({"vnp_TransactionStatus": next(statuses)}))
    assert gateway.fetch_payment(PAYMENT).payment.state is GatewayPaymentState.OPEN
    assert gateway.fetch_payment(PAYMENT).payment.state is GatewayPaymentState.PAID


def test_querydr_91_is_unknown_and_never_failed() -> None:
    short = httpx2.Response(200, json={"vnp_ResponseCode": "91", "vnp_Message": "Not found"})
    for answer in (short, signed_answer({"vnp_ResponseCode": "91"})):
        gateway = answering(lambda _, answer=answer: answer)  # type: ignore[misc]
        assert gateway.fetch_payment(PAYMENT).payment.state is GatewayPaymentState.UNKNOWN


@pytest.mark.parametrize("code", ["94", "97", "99"])
def test_querydr_errors_tell_nothing(code: str) -> None:
    gateway = answering(lambda _: signed_answer({"vnp_ResponseCode": code}))
    with pytest.raises(GatewayUnavailable):
        gateway.fetch_payment(PAYMENT)


def test_an_unsigned_or_changed_answer_is_no_answer() -> None:
    def unsigned(_: dict[str, Any]) -> httpx2.Response:
        answer = signed_answer({}).json()
        del answer["vnp_SecureHash"]
        return httpx2.Response(200, json=answer)

    def changed(_: dict[str, Any]) -> httpx2.Response:
        return httpx2.Response(200, json={**signed_answer({}).json(), "vnp_Amount": "1"})

    for respond in (unsigned, changed):
        with pytest.raises(GatewayUnavailable, match="signature"):
            answering(respond).fetch_payment(PAYMENT)


def test_an_answer_about_another_payment_is_no_answer() -> None:
    gateway = answering(lambda _: signed_answer({"vnp_TxnRef": "ANOTHER"}))
    with pytest.raises(GatewayUnavailable, match="another payment"):
        gateway.fetch_payment(PAYMENT)


def test_numbers_in_an_answer_are_signed_as_they_are_written() -> None:
    def respond(_: dict[str, Any]) -> httpx2.Response:
        answer = signed_answer({}).json()
        return httpx2.Response(200, json={**answer, "vnp_Amount": 50_000_000})

    assert answering(respond).fetch_payment(PAYMENT).payment.amount == AMOUNT


def test_a_nought_in_an_answer_is_signed_too() -> None:
    values = {"vnp_TransactionStatus": "01", "vnp_TransactionNo": "0", "vnp_PromotionAmount": "0"}
    noughts = {"vnp_TransactionNo": 0, "vnp_PromotionAmount": 0}
    answer = httpx2.Response(200, json={**signed_answer(values).json(), **noughts})
    assert (
        answering(lambda _: answer).fetch_payment(PAYMENT).payment.state is GatewayPaymentState.OPEN
    )


@pytest.mark.parametrize(
    "values",
    [
        {"vnp_TransactionNo": "0"},
        {"vnp_TransactionNo": ""},
        {"vnp_Amount": ""},
        {"vnp_Amount": "10.5"},
        {"vnp_TransactionType": ""},
    ],
    ids=["number 0", "no number", "no amount", "half a dong", "no type"],
)
def test_a_success_that_lacks_what_it_is_known_by_is_no_answer(values: dict[str, str]) -> None:
    with pytest.raises(GatewayUnavailable):
        answering(lambda _: signed_answer(values)).fetch_payment(PAYMENT)


def test_what_is_not_paid_needs_no_amount() -> None:
    values = {"vnp_TransactionStatus": "02", "vnp_Amount": "", "vnp_TransactionNo": "0"}
    update = answering(lambda _: signed_answer(values)).fetch_payment(PAYMENT).payment
    assert (update.state, update.amount, update.gateway_payment_id) == (
        GatewayPaymentState.FAILED,
        None,
        None,
    )


def test_an_answer_of_another_terminal_is_no_answer() -> None:
    gateway = answering(lambda _: signed_answer({"vnp_TmnCode": "OTHERTMN"}))
    with pytest.raises(GatewayUnavailable, match="another payment"):
        gateway.fetch_payment(PAYMENT)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"<html>", b"\xff", b"[" * 20_000, b'{"vnp_Message": "\\ud800"}'],
    ids=["empty", "list", "null", "page", "bytes", "deep", "half a character"],
)
def test_an_answer_that_cannot_be_read_is_no_answer(body: bytes) -> None:
    with pytest.raises(GatewayUnavailable):
        answering(lambda _: httpx2.Response(200, content=body)).fetch_payment(PAYMENT)


def test_an_answer_without_end_is_no_answer() -> None:
    with pytest.raises(GatewayUnavailable):
        answering(lambda _: signed_answer({"vnp_BankTranNo": "x" * 70_000})).fetch_payment(PAYMENT)


def test_every_question_has_a_name_of_its_own() -> None:
    names: set[str] = set()

    def respond(body: dict[str, Any]) -> httpx2.Response:
        names.add(body["vnp_RequestId"])
        return signed_answer({})

    gateway = answering(respond)
    gateway.fetch_payment(PAYMENT)
    gateway.complete_payment(PAYMENT)
    assert len(names) == 2


def test_a_failed_question_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    with pytest.raises(GatewayUnavailable) as caught:
        answering(lambda _: signed_answer({"vnp_ResponseCode": "97"})).fetch_payment(PAYMENT)
    assert SECRET not in f"{caught.value!r}{caught.value}{caplog.text}"


def test_a_server_that_is_away_is_unavailable() -> None:
    def respond(_: dict[str, Any]) -> httpx2.Response:
        raise httpx2.ConnectTimeout("away")

    with pytest.raises(GatewayUnavailable):
        answering(respond).fetch_payment(PAYMENT)
    with pytest.raises(GatewayUnavailable, match="HTTP 502"):
        answering(lambda _: httpx2.Response(502)).fetch_payment(PAYMENT)


# ── Refunds ───────────────────────────────────────────────────────────────────────────────────
REFUND = RefundRequest(
    payment=PAYMENT,
    reference="REFUNDREFUNDREFUND22",
    amount=Money.from_minor_units(100_000, "VND"),
    is_whole=False,
    actor="user7",
    requested_at=NEXT_MORNING,
)


def test_a_refund_is_asked_for_in_part_and_waits() -> None:
    asked: list[dict[str, Any]] = []

    def respond(body: dict[str, Any]) -> httpx2.Response:
        asked.append(body)
        values = {
            "vnp_Command": "refund",
            "vnp_TransactionType": "03",
            "vnp_TransactionStatus": "05",
            "vnp_TransactionNo": "14430000",
            "vnp_Amount": "10000000",
        }
        return signed_answer(values, REFUND_RESPONSE)

    update = answering(respond).refund(REFUND)
    assert (update.state, update.gateway_refund_id) == (RefundState.PENDING, "14430000")
    (body,) = asked
    assert (body["vnp_TransactionType"], body["vnp_Amount"]) == ("03", "10000000")
    assert body["vnp_RequestId"] == REFUND.reference
    data = "|".join(str(body.get(name, "")) for name in REFUND_REQUEST)
    assert body["vnp_SecureHash"] == sign(SECRET, data)


def test_a_whole_refund_without_a_number_sends_and_signs_zero() -> None:
    asked: list[dict[str, Any]] = []

    def respond(body: dict[str, Any]) -> httpx2.Response:
        asked.append(body)
        return signed_answer({"vnp_TransactionStatus": "05"}, REFUND_RESPONSE)

    whole = replace(
        REFUND, payment=replace(PAYMENT, gateway_payment_id=None), amount=AMOUNT, is_whole=True
    )
    answering(respond).refund(whole)
    assert (asked[0]["vnp_TransactionNo"], asked[0]["vnp_TransactionType"]) == ("0", "02")


def refund_answers(
    first: dict[str, str], then: dict[str, str] | None = None
) -> Callable[[dict[str, Any]], httpx2.Response]:
    """Answer a refund with the first values, and the querydr after it with the others."""

    def respond(body: dict[str, Any]) -> httpx2.Response:
        if body["vnp_Command"] == "refund":
            return signed_answer(first, REFUND_RESPONSE)
        return signed_answer(then or {})

    return respond


UNDER_WAY = {
    "vnp_TransactionType": "03",
    "vnp_TransactionStatus": "05",
    "vnp_TransactionNo": "14430000",
    "vnp_Amount": "10000000",
}
OURS = {"vnp_OrderInfo": f"Refund {REFERENCE} {REFUND.reference}"}
OF_ANOTHER = {"vnp_OrderInfo": f"Refund {REFERENCE} REFUNDREFUNDREFUND99"}
ASKED_BEFORE = {"vnp_ResponseCode": "94"}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (ASKED_BEFORE | UNDER_WAY | OURS, {}),
        (ASKED_BEFORE, UNDER_WAY | OURS),
        (ASKED_BEFORE | UNDER_WAY | OF_ANOTHER, UNDER_WAY | OURS),
        (ASKED_BEFORE, UNDER_WAY),
    ],
    ids=["said at once", "said by querydr", "querydr knows better", "known by its amount"],
)
def test_code_94_for_a_refund_that_was_asked_for_already_is_the_same_refund(
    first: dict[str, str], then: dict[str, str]
) -> None:
    update = answering(refund_answers(first, then)).refund(REFUND)
    assert (update.state, update.gateway_refund_id) == (RefundState.PENDING, "14430000")
    assert (update.reference, update.amount) == (REFUND.reference, REFUND.amount)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (ASKED_BEFORE | UNDER_WAY | OF_ANOTHER, UNDER_WAY | OF_ANOTHER),
        (ASKED_BEFORE, UNDER_WAY | {"vnp_Amount": "20000000"}),
        (ASKED_BEFORE, UNDER_WAY | {"vnp_TransactionStatus": "09"}),
        (ASKED_BEFORE, {}),
    ],
    ids=["another one", "another amount", "refused before", "no refund at all"],
)
def test_code_94_because_of_another_refund_makes_ours_wait(
    first: dict[str, str], then: dict[str, str]
) -> None:
    with pytest.raises(GatewayUnavailable, match="94"):
        answering(refund_answers(first, then)).refund(REFUND)


def test_code_94_without_a_signature_is_asked_about() -> None:
    def respond(body: dict[str, Any]) -> httpx2.Response:
        if body["vnp_Command"] == "refund":
            return httpx2.Response(200, json=ASKED_BEFORE)
        return signed_answer(UNDER_WAY | OURS)

    assert answering(respond).refund(REFUND).gateway_refund_id == "14430000"


def test_a_refund_that_timed_out_is_found_by_querydr() -> None:
    def respond(body: dict[str, Any]) -> httpx2.Response:
        if body["vnp_Command"] == "refund":
            raise httpx2.ReadTimeout("late")
        return signed_answer(UNDER_WAY | OURS)

    gateway = answering(respond)
    with pytest.raises(GatewayUnavailable):
        gateway.refund(REFUND)
    (found,) = gateway.fetch_payment(PAYMENT).refunds
    assert (found.reference, found.state) == (REFUND.reference, RefundState.PENDING)


def test_a_refund_that_is_sent_again_has_the_same_name_and_the_time_of_now() -> None:
    asked: list[dict[str, Any]] = []

    def respond(body: dict[str, Any]) -> httpx2.Response:
        asked.append(body)
        raise httpx2.ReadTimeout("late")

    for minutes in (0, 1):
        with pytest.raises(GatewayUnavailable):
            answering(respond, NEXT_MORNING + timedelta(minutes=minutes)).refund(REFUND)
    assert {body["vnp_RequestId"] for body in asked} == {REFUND.reference}
    assert [body["vnp_CreateDate"] for body in asked] == ["20260116093000", "20260116093100"]


# VNPay knows a request by its id for a day only: 17:00 UTC is midnight there.
MIDNIGHT = datetime(2026, 1, 16, 17, 0, tzinfo=UTC)
WITHOUT_NOTE = UNDER_WAY | {"vnp_TransactionNo": "14430099"}


@pytest.mark.parametrize(
    ("now", "is_asked"),
    [
        (MIDNIGHT - timedelta(hours=1), False),
        (MIDNIGHT - timedelta(minutes=5), True),
        (MIDNIGHT, True),
        (MIDNIGHT + timedelta(days=40), True),
    ],
    ids=["the same day", "midnight by a clock that is ahead", "the next day", "weeks later"],
)
def test_a_refund_of_another_day_is_asked_about_before_it_is_sent_again(
    now: datetime, *, is_asked: bool
) -> None:
    commands: list[str] = []

    def respond(body: dict[str, Any]) -> httpx2.Response:
        commands.append(body["vnp_Command"])
        if body["vnp_Command"] == "querydr":
            return signed_answer({})
        return signed_answer(UNDER_WAY | OURS, REFUND_RESPONSE)

    assert answering(respond, now).refund(REFUND).gateway_refund_id == "14430000"
    assert commands == (["querydr", "refund"] if is_asked else ["refund"])


def never_refunding(then: dict[str, str]) -> VNPay:
    """Return a gateway to which it is the day after, and a second refund would be a mistake."""

    def respond(body: dict[str, Any]) -> httpx2.Response:
        assert body["vnp_Command"] == "querydr"
        return signed_answer(then)

    return answering(respond, MIDNIGHT)


@pytest.mark.parametrize("status", ["00", "05", "06", "09"])
def test_a_refund_that_was_made_on_another_day_is_not_made_again(status: str) -> None:
    then = UNDER_WAY | OURS | {"vnp_TransactionStatus": status}
    update = never_refunding(then).refund(REFUND)
    assert (update.reference, update.gateway_refund_id) == (REFUND.reference, "14430000")
    assert (update.state is RefundState.FAILED) == (status == "09")


@pytest.mark.parametrize(
    "then",
    [
        WITHOUT_NOTE | {"vnp_Amount": "20000000"},
        WITHOUT_NOTE | {"vnp_TransactionStatus": "09"},
        {"vnp_TransactionStatus": "05"},
        {"vnp_ResponseCode": "91"},
        {"vnp_ResponseCode": "94"},
    ],
    ids=["hidden behind another's", "refused, whosever it was", "no refund named", "91", "94"],
)
def test_a_refund_of_another_day_waits_where_it_cannot_be_told(then: dict[str, str]) -> None:
    with pytest.raises(GatewayUnavailable):
        never_refunding(then).refund(REFUND)


@pytest.mark.parametrize("then", [UNDER_WAY | OF_ANOTHER, WITHOUT_NOTE])
def test_a_refund_of_another_day_is_sent_where_the_one_before_it_is_the_latest(
    then: dict[str, str],
) -> None:
    made = signed_answer(UNDER_WAY | OURS, REFUND_RESPONSE)

    def respond(body: dict[str, Any]) -> httpx2.Response:
        return made if body["vnp_Command"] == "refund" else signed_answer(then)

    asked = replace(REFUND, others=frozenset({"14430099"}))
    assert answering(respond, MIDNIGHT).refund(asked).gateway_refund_id == "14430000"


def test_a_refund_that_is_known_never_passes_for_another_of_its_amount() -> None:
    asked = replace(REFUND, others=frozenset({"14430099"}))
    with pytest.raises(GatewayUnavailable, match="94"):
        answering(refund_answers(ASKED_BEFORE, WITHOUT_NOTE)).refund(asked)


def test_a_refund_is_never_named_as_its_payment() -> None:
    values = UNDER_WAY | {"vnp_TransactionNo": "14422574"}
    update = answering(lambda _: signed_answer(values, REFUND_RESPONSE)).refund(REFUND)
    assert update.gateway_refund_id == REFUND.reference
    assert answering(lambda _: signed_answer(values)).fetch_payment(PAYMENT).refunds == ()
    (gateway_for,) = (
        answering(lambda _: signed_answer(values | OURS)).fetch_payment(PAYMENT).refunds
    )
    assert gateway_for.gateway_refund_id == gateway_for.reference == REFUND.reference


def test_an_answer_about_another_amount_is_no_answer() -> None:
    values = UNDER_WAY | {"vnp_Amount": "20000000"}
    with pytest.raises(GatewayUnavailable, match="amount"):
        answering(lambda _: signed_answer(values, REFUND_RESPONSE)).refund(REFUND)


@pytest.mark.parametrize("code", ["02", "97", "99"])
def test_a_refund_that_went_wrong_for_reasons_of_no_payment_waits(code: str) -> None:
    gateway = answering(lambda _: signed_answer({"vnp_ResponseCode": code}, REFUND_RESPONSE))
    with pytest.raises(GatewayUnavailable, match=code):
        gateway.refund(REFUND)


def test_a_refund_of_what_was_not_paid_is_refused() -> None:
    gateway = answering(lambda _: signed_answer({"vnp_ResponseCode": "95"}, REFUND_RESPONSE))
    with pytest.raises(GatewayRefused, match="95"):
        gateway.refund(REFUND)


def test_an_unsigned_refusal_of_a_refund_is_no_answer() -> None:
    answer = httpx2.Response(200, json={"vnp_ResponseCode": "99"})
    with pytest.raises(GatewayUnavailable):
        answering(lambda _: answer).refund(REFUND)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("00", RefundState.SUCCEEDED),
        ("05", RefundState.PENDING),
        ("06", RefundState.PENDING),
        ("09", RefundState.FAILED),
    ],
)
def test_querydr_tells_how_a_refund_stands(status: str, state: RefundState) -> None:
    values = UNDER_WAY | OURS | {"vnp_TransactionStatus": status}
    snapshot = answering(lambda _: signed_answer(values)).fetch_payment(PAYMENT)
    (refund,) = snapshot.refunds
    assert (refund.state, refund.amount) == (state, REFUND.amount)
    assert (refund.gateway_refund_id, refund.reference) == ("14430000", REFUND.reference)


@pytest.mark.parametrize("values", [UNDER_WAY, {"vnp_TransactionStatus": "05"}])
def test_money_that_was_given_back_before_we_heard_of_it_is_for_people(
    values: dict[str, str],
) -> None:
    snapshot = answering(lambda _: signed_answer(values)).fetch_payment(PAYMENT)
    assert snapshot.payment.state is GatewayPaymentState.UNDER_REVIEW


# ── The name of a refund ──────────────────────────────────────────────────────────────────────
NOTE = f"Refund {REFERENCE} RRRRRRRRRRRRRRRRRRRR"


@pytest.mark.parametrize(
    ("money", "number", "note", "name", "reference"),
    [
        # Before VNPay has a number, the refund has our name.
        ("14422574", "0", NOTE, "R" * 20, "R" * 20),
        ("14422574", "14422574", NOTE, "R" * 20, "R" * 20),
        ("14422574", "14499999", NOTE, "14499999", "R" * 20),
        # The number may be the payment's own, which we do not know.
        (None, "14422574", NOTE, "R" * 20, "R" * 20),
        (None, "14499999", "Made at VNPay", "14499999", None),
        ("14422574", "14499999", "Made at VNPay", "14499999", None),
    ],
)
def test_refund_told_by_querydr_has_its_reference_beside_whatever_name(
    money: str | None, number: str, note: str, name: str, reference: str | None
) -> None:
    values = {
        "vnp_TransactionType": "03",
        "vnp_TransactionStatus": "05",
        "vnp_TransactionNo": number,
        "vnp_OrderInfo": note,
    }
    gateway = answering(lambda _: signed_answer(values))
    known = replace(PAYMENT, gateway_payment_id=money)
    (refund,) = gateway.fetch_payment(known).refunds
    assert (refund.gateway_refund_id, refund.reference) == (name, reference)
    assert refund.payment_reference == REFERENCE


@pytest.mark.parametrize("text", ["00010101000000", "99991231235959", "20261301000000"])
def test_pay_date_of_no_century_of_ours_is_none(text: str) -> None:
    (update,) = VNPay(SETTINGS).parse_webhook(message(ipn(PayDate=text))).updates
    assert (update.occurred_at, update.amount) == (None, AMOUNT)
