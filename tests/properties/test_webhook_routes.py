"""Whatever is sent to a webhook address is answered as that gateway's protocol has it.

No message makes the portal fall over, and none credits anything but what it says and was expected.
What is odd is signed as the gateway signs: everything behind the signature has to bear it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.testclient import TestClient

from domain.gateways.vnpay.fields import hash_data, sign
from portal.routes import payments as routes
from portal.runtime import database
from sandbox.paypal_certificates import load_or_make
from tests.gateways import ScriptedGateway, begin, payer
from tests.support.gateway_shops import VAULT, PaypalShop, StripeShop, VnpayShop
from tests.support.strange_documents import changed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx2 import Response
    from sqlalchemy.orm import Session

    from sandbox.paypal_certificates import Identity
    from tests.support.strange_documents import Document

Shop = VnpayShop | StripeShop | PaypalShop
JSON = "application/json"
KINDS = ("vnpay", "stripe", "paypal")
ODD_BODIES = [
    *(b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"\x00", b"{}" * 2, b"NaN"),
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    b'{"id":' + b"9" * 5_000 + b"}",
    b'{"id":-' + b"9" * 5_000 + b"e" + b"9" * 5_000 + b"}",
    b'{"id":"' + b"x" * 200_000 + b'"}',
    b'{"id":"\xed\xa0\x80"}',
    "{}".encode("utf-16"),
]
# What takes the place of one value in the text of a genuine body, or stands before it.
ODD_VALUES = [
    *("NaN", "Infinity", "-Infinity", "1e999", "9" * 5_000, "-1", "0", "0.5", "5000.0", "true"),
    *(
        '"\\u0000"',
        '"\\ud800"',
        '"\\udfff\\ud800"',
        '"\u0665\u0660\u0660\u0660"',
        "null",
        "[]",
        "{}",
        '""',
    ),
    "[" * 50_000 + "]" * 50_000,
    json.dumps("x" * 100_000),
    json.dumps("9" * 5_000),
]
ODD_HEADERS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"\x00", b"\xff", b"t=1,v1=" + b"9" * 5_000, b"t=" + b"9" * 5_000, b"=,=,="]),
)

many = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
pytestmark = pytest.mark.long


@dataclass
class Desk:
    """The webhook addresses of the portal with its database, and a shop at each gateway."""

    client: TestClient
    shops: dict[str, Shop]
    accounts: list[int] = field(default_factory=list)

    def begin(self, kind: str) -> str:
        """Have an account of its own begin a payment, and return the reference."""
        shop = self.shops[kind]

        def work(session: Session) -> str:
            account, owner = payer(session, site=shop.site)
            self.accounts.append(account)
            gateway = ScriptedGateway(name=kind, is_sandbox=shop.gateway().is_sandbox)
            return begin(session, gateway, account, owner, shop.credit).reference

        return database.transaction(work)

    def credited(self) -> int:
        """Return what the newest account was credited, in micros."""
        query = text(
            "SELECT coalesce(sum(amount_micros), 0)::bigint FROM entries WHERE account_id = :id"
        )

        def ask(session: Session) -> int:
            found: int = session.execute(query, {"id": self.accounts[-1]}).scalar_one()
            return found

        return database.read_snapshot(ask)

    def post(self, kind: str, body: bytes, headers: dict[str, Any] | None = None) -> Response:
        """Send a body; signed, unless other headers are given."""
        sent = signed(self.shops[kind], body) if headers is None else headers
        address = f"/webhooks/{kind}"
        return self.client.post(address, content=body, headers={"content-type": JSON, **sent})


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return load_or_make(tmp_path_factory.mktemp("paypal"))


@pytest.fixture
def desk(database_url: str, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    logging.getLogger("domain").setLevel(logging.CRITICAL)  # what is odd is warned of each time
    shops: dict[str, Shop] = {
        "vnpay": VnpayShop(),
        "stripe": StripeShop(),
        "paypal": PaypalShop(identity),
    }
    gateways = {kind: shop.gateway() for kind, shop in shops.items()}
    monkeypatch.setattr(routes, "gateway_of", gateways.get)
    monkeypatch.setattr(routes, "vault", lambda: VAULT)
    database.connect(database_url)
    with TestClient(Starlette(routes=routes.routes()), follow_redirects=False) as client:
        yield Desk(client, shops)
    database.disconnect()
    logging.getLogger("domain").setLevel(logging.NOTSET)


# ── Signatures ────────────────────────────────────────────────────────────────────────────────
def signed(shop: Shop, body: bytes) -> dict[str, str]:
    """Return the headers that a gateway would send with a body."""
    if isinstance(shop, StripeShop):
        at = int(time.time())
        found = hmac.new(shop.secret.encode(), b"%d.%s" % (at, body), hashlib.sha256).hexdigest()
        return {"stripe-signature": f"t={at},v1={found}"}
    assert isinstance(shop, PaypalShop)
    sent_at = datetime.now(UTC).isoformat()
    return {
        "paypal-transmission-id": "t-1",
        "paypal-transmission-time": sent_at,
        "paypal-transmission-sig": shop.identity.sign("t-1", sent_at, "1JE4291016473214C", body),
        "paypal-cert-url": "https://api.sandbox.paypal.com/v1/notifications/certs/"
        + shop.identity.name,
        "paypal-auth-algo": "SHA256withRSA",
    }


def message(shop: Shop, event: Document) -> tuple[object, ...]:
    """Return what decides about credit in the document of a payment that was paid."""
    try:
        if isinstance(shop, StripeShop):
            about = event["data"]["object"]
            return (
                *(event["type"], event["livemode"], about["payment_status"]),
                *(about["metadata"]["payment_reference"], about["amount_total"], about["currency"]),
            )
        about = event["resource"]
        return event["event_type"], about["status"], about["custom_id"], about["amount"]
    except (KeyError, TypeError):
        return ()


def check(answer: Response, kind: str) -> None:
    """Fail unless an answer is one of its gateway's protocol, and a refusal where it refuses."""
    assert answer.status_code in {200, 400, 401, 404, 408, 413, 415}, answer.text
    if kind == "vnpay":
        assert answer.status_code == 200
        assert answer.json()["RspCode"] in {"00", "01", "02", "04", "97", "99"}
    else:
        assert len(answer.content) == 0


# ── What a gateway itself might send ──────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", ["stripe", "paypal"])
@many
@given(data=st.data())
def test_signed_document_that_is_strange_credits_what_it_says_or_nothing(
    desk: Desk, kind: str, data: st.DataObject
) -> None:
    shop, reference = desk.shops[kind], desk.begin(kind)
    event = json.loads(shop.message("paid", reference).body)
    found = data.draw(changed(event))
    answer = desk.post(kind, json.dumps(found).encode())
    check(answer, kind)
    if message(shop, found) != message(shop, event):
        assert desk.credited() == 0
    else:
        assert desk.credited() in {0, shop.credit.micros}


@pytest.mark.parametrize("kind", ["stripe", "paypal"])
@many
@given(data=st.data())
def test_signed_value_that_is_odd_credits_nothing_where_it_counts(
    desk: Desk, kind: str, data: st.DataObject
) -> None:
    shop, reference = desk.shops[kind], desk.begin(kind)
    body = shop.message("paid", reference).body.decode()
    event = json.loads(body)
    named = st.sampled_from(sorted(set(_names(event))))
    name, odd = data.draw(named), data.draw(st.sampled_from(ODD_VALUES))
    before, quoted, after = body.partition(f'"{name}": ')
    is_twice = data.draw(st.booleans())
    # The name a second time, with what was there before; or the odd value in its place.
    changed_body = (
        f"{before}{quoted}{odd}, {quoted}{after}"
        if is_twice
        else before + quoted + odd + after[json.JSONDecoder().raw_decode(after)[1] :]
    ).encode()
    check(desk.post(kind, changed_body), kind)
    is_stated = not is_twice and message(shop, _read(changed_body)) == message(shop, event)
    assert desk.credited() in ({0, shop.credit.micros} if is_stated else {0})


def _names(found: object) -> Iterator[str]:
    if isinstance(found, dict):
        for name, value in found.items():
            yield name
            yield from _names(value)


def _read(body: bytes) -> Document:
    try:
        found: Document = json.loads(body)
    except (RecursionError, ValueError):
        return {}
    return found


@pytest.mark.parametrize("body", ODD_BODIES, ids=range(len(ODD_BODIES)))
@pytest.mark.parametrize("kind", ["stripe", "paypal"])
def test_signed_body_that_is_no_document_is_a_bad_request(
    desk: Desk, kind: str, body: bytes
) -> None:
    assert desk.post(kind, body).status_code == 400


@many
@given(data=st.data())
def test_signed_ipn_that_is_strange_credits_what_it_says_or_nothing(
    desk: Desk, data: st.DataObject
) -> None:
    shop, reference = desk.shops["vnpay"], desk.begin("vnpay")
    assert isinstance(shop, VnpayShop)
    genuine = [pair for pair in shop.message("paid", reference).query if "Hash" not in pair[0]]
    pairs = dict(genuine)
    odd = st.one_of(
        st.text(st.characters(), max_size=20),
        st.sampled_from(
            ["", "00", "07", "NaN", "\x00", "9" * 5_000, "-1", "0", "5e7", "\u0665\u0660"]
        ),
        st.sampled_from(["x" * 20_000, " 50000000", "50000000 ", "\ud800", "\u202e", "\r\n"]),
    )
    for name in data.draw(st.lists(st.sampled_from(sorted(pairs)), max_size=3)):
        pairs[name] = data.draw(odd)
    extra = st.sampled_from(["vnp_X", "vnp_Command", "other", "vnp_\x00", "vnp_SecureHashType"])
    pairs |= data.draw(st.dictionaries(extra, odd, max_size=2))
    # It is signed over what arrives: half a character does not.
    seen = parse_qsl(urlencode(pairs, errors="surrogatepass"), keep_blank_values=True)
    seen.append(("vnp_SecureHash", sign(shop.settings.hash_secret, hash_data(seen))))
    answer = desk.client.get(f"/webhooks/vnpay?{urlencode(seen)}")
    check(answer, "vnpay")
    counts = ("vnp_TmnCode", "vnp_Amount", "vnp_ResponseCode", "vnp_TransactionStatus")
    is_stated = all(dict(genuine)[name] == pairs[name] for name in (*counts, "vnp_TxnRef"))
    assert desk.credited() in ({0, shop.credit.micros} if is_stated else {0})


def test_own_pay_address_that_is_replayed_changes_nothing(desk: Desk) -> None:
    shop, reference = desk.shops["vnpay"], desk.begin("vnpay")
    assert isinstance(shop, VnpayShop)
    pay = {
        "vnp_Version": "2.1.0",
        "vnp_Command": "pay",
        "vnp_TmnCode": shop.settings.tmn_code,
        "vnp_Amount": "50000000",
        "vnp_CurrCode": "VND",
        "vnp_CreateDate": "20260115093000",
        "vnp_ExpireDate": "20260115094500",
        "vnp_IpAddr": "203.0.113.7",
        "vnp_Locale": "vn",
        "vnp_OrderInfo": "Credit ABC",
        "vnp_OrderType": "other",
        "vnp_ReturnUrl": "https://portal.example.com/payments/return/vnpay",
        "vnp_TxnRef": reference,
    }
    pay["vnp_SecureHash"] = sign(shop.settings.hash_secret, hash_data(pay.items()))
    assert desk.client.get("/webhooks/vnpay", params=pay).json()["RspCode"] == "99"
    back = desk.client.get("/payments/return/vnpay", params=pay)
    assert (back.status_code, back.headers["location"]) == (303, "/payment?ref=")
    states = text("SELECT state FROM payments WHERE reference = :reference")
    kept = text("SELECT outcome, reason, payment_id FROM gateway_messages")

    def ask(session: Session) -> tuple[object, ...]:
        state = session.execute(states, {"reference": reference}).scalar_one()
        return state, *map(tuple, session.execute(kept))

    assert database.read_snapshot(ask) == ("created", ("malformed", "not_an_answer", None))


# ── What anybody may send ─────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", KINDS)
@many
@given(data=st.data())
def test_unsigned_message_is_refused(desk: Desk, kind: str, data: st.DataObject) -> None:
    names = ["stripe-signature", *signed(desk.shops["paypal"], b""), "accept", "user-agent"]
    headers = data.draw(st.dictionaries(st.sampled_from(names), ODD_HEADERS))
    body = data.draw(st.one_of(st.binary(max_size=100), st.sampled_from(ODD_BODIES)))
    query = quote(data.draw(st.binary(max_size=40)), safe="&=;+vnp_TxnRef")
    address = f"/webhooks/{kind}?{query}"
    method = "GET" if kind == "vnpay" else "POST"
    given_headers: Any = {"content-type": JSON, **headers}
    answer = desk.client.request(method, address, content=body, headers=given_headers)
    check(answer, kind)
    if kind == "vnpay":
        assert answer.json()["RspCode"] in {"97", "99"}
    else:
        assert answer.status_code in {400, 401}


@pytest.mark.parametrize("kind", ["stripe", "paypal"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": ""}, 415),
        ({"content-type": "\x00"}, 415),
        ({"content-length": "3"}, 400),
        ({"content-length": "-1"}, 400),
        ({"content-length": "\u0663"}, 400),
        ({"content-length": "nine"}, 400),
        ({"content-length": "9" * 5_000}, 413),
        ({"content-length": str(256 * 1024 + 1)}, 413),
    ],
)
def test_length_or_type_that_is_wrong_is_refused_though_it_is_signed(
    desk: Desk, kind: str, headers: dict[str, str], status: int
) -> None:
    body = desk.shops[kind].message("paid", desk.begin(kind)).body
    sent = signed(desk.shops[kind], body) | headers
    raw = {name: value.encode() for name, value in sent.items()}
    assert desk.post(kind, body, raw).status_code == status
    assert desk.credited() == 0
    typed = signed(desk.shops[kind], body) | {"content-type": "Application/JSON; charset=utf-8"}
    assert desk.post(kind, body, typed).status_code == 200
    assert desk.credited() == desk.shops[kind].credit.micros


@pytest.mark.parametrize("kind", ["stripe", "paypal"])
def test_body_that_is_too_large_is_refused(desk: Desk, kind: str) -> None:
    body = b" " * (256 * 1024 + 1)
    assert desk.post(kind, body).status_code == 413
    chunks = iter([body[:100_000]] * 3)
    headers: Any = {"content-type": JSON}
    answer = desk.client.post(f"/webhooks/{kind}", content=chunks, headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize(("is_gone", "status"), [(False, 408), (True, 400)])
def test_body_that_does_not_come_to_its_end_is_given_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, is_gone: bool, status: int
) -> None:
    monkeypatch.setattr(routes, "_BODY_SECONDS", 60 if is_gone else 0)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/webhooks/stripe",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", JSON.encode()), (b"content-length", b"9")],
    }
    begun: list[dict[str, Any]] = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:
        if begun:
            return begun.pop()
        if not is_gone:
            await anyio.sleep_forever()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def answer() -> None:
        await desk.client.app(scope, receive, send)

    anyio.run(answer)
    assert sent[0]["status"] == status


@pytest.mark.parametrize("kind", [*KINDS, "nobody", "..", "\x00", "a" * 5_000])
@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
)
def test_every_method_is_answered_and_nobody_is_sent_elsewhere(
    desk: Desk, kind: str, method: str
) -> None:
    headers = {"accept": "text/html", "content-type": JSON}
    address = f"/webhooks/{kind}".replace("\x00", "%00").replace("..", "%2E%2E")
    answer = desk.client.request(method, address, headers=headers)
    expected = {"GET"} if kind == "vnpay" else {"POST"}
    if kind not in KINDS:
        assert answer.status_code == 404
    elif method in expected:
        check(answer, kind)
    else:
        assert answer.status_code == 405
        assert answer.headers["allow"] == expected.pop()
