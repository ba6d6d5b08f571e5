"""Our gateway against localstripe, a Stripe that others wrote, in a process of its own.

It knows payments, refunds and webhooks, but no Checkout and no disputes. It ignores idempotency
keys, so that only what we do ourselves keeps a refund from being made twice there.
"""

from __future__ import annotations

import queue
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx2
import pytest
import stripe

from domain.gateways.interface import (
    GatewayPaymentState,
    GatewayRefused,
    InboundMessage,
    KnownPayment,
    Outcome,
    PaymentUpdate,
    RefundRequest,
    RefundState,
    WebhookRefused,
)
from domain.gateways.stripe.client import StripeCheckout
from domain.gateways.stripe.settings import StripeSettings
from domain.money import Money
from sandbox.stripe_payments import signature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.peers

KEY, SECRET = "sk_test_localstripe", "whsec_localstripe"
REFERENCE = "ABCDEFGHJKLMNPQRSTUV"
YEN = Money.from_minor_units(3_000, "JPY")
PATIENCE_SECONDS = 20

# Its own command listens to every network and keeps its state in a file; this does neither. Two
# things are added that Stripe has and it has not: what a payment received, and that there are no
# disputes.
SERVER = """
import socket
from aiohttp import web
from localstripe import resources, server

type(resources.store).dump_to_disk = lambda self: None
resources.PaymentIntent.amount_received = property(
    lambda self: self.amount if self.status == "succeeded" else 0
)

async def no_disputes(request):
    page = {"object": "list", "url": "/v1/disputes", "has_more": False, "data": []}
    return web.json_response(page)

server.app.router.add_get("/v1/disputes", no_disputes)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
web.run_app(server.app, sock=listener, print=None)
"""


@dataclass
class Peer:
    """localstripe, our gateway that speaks to it, and the webhooks that it sent."""

    url: str
    gateway: StripeCheckout
    sdk: stripe.StripeClient
    mailbox: queue.Queue[InboundMessage]

    def pay(self, card: str = "4242424242424242") -> stripe.PaymentIntent:
        method = self.sdk.v1.payment_methods.create(
            {
                "type": "card",
                "card": {"number": card, "exp_month": 12, "exp_year": 2040, "cvc": "123"},
            }
        )
        return self.sdk.v1.payment_intents.create(
            {
                "amount": 3000,
                "currency": "jpy",
                "payment_method": method.id,
                "confirm": True,
                "metadata": {"payment_reference": REFERENCE},
            }
        )

    def heard(self) -> InboundMessage:
        return self.mailbox.get(timeout=PATIENCE_SECONDS)


@contextmanager
def mailbox_server(mailbox: queue.Queue[InboundMessage]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            mailbox.put(InboundMessage("POST", headers, (), "", body, datetime.now(UTC)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def peer(peer_python: Path) -> Iterator[Peer]:
    mailbox: queue.Queue[InboundMessage] = queue.Queue()
    connections = stripe.RequestsClient(timeout=(5, 20))
    with (
        mailbox_server(mailbox) as address,
        subprocess.Popen(  # noqa: S603 - the peer's own interpreter
            [peer_python, "-c", SERVER], stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            hook = {"url": address, "secret": SECRET, "events": ["payment_intent.succeeded"]}
            answer = httpx2.post(
                f"{url}/_config/webhooks/ours", json=hook, headers={"Authorization": KEY}
            )
            assert answer.status_code == 200
            settings = StripeSettings(KEY, (SECRET,), url, is_sandbox=True)
            sdk = stripe.StripeClient(KEY, base_addresses={"api": url}, http_client=connections)
            yield Peer(url, StripeCheckout(settings, connections), sdk, mailbox)
        finally:
            connections.close()  # type: ignore[no-untyped-call]
            process.terminate()


def known(intent: str) -> KnownPayment:
    return KnownPayment(REFERENCE, None, intent, YEN, datetime.now(UTC))


def refund_of(intent: str, count: int, reference: str) -> RefundRequest:
    return RefundRequest(
        payment=known(intent),
        reference=reference,
        amount=Money.from_minor_units(count, "JPY"),
        is_whole=count == 3_000,
        actor="staff1",
        requested_at=datetime.now(UTC),
    )


def test_its_webhook_is_verified_and_read_and_our_stand_in_signs_alike(peer: Peer) -> None:
    made = peer.pay()
    message = peer.heard()
    found = peer.gateway.parse_webhook(message)
    (update,) = found.updates
    assert isinstance(update, PaymentUpdate)
    assert update.state is GatewayPaymentState.PAID
    assert (update.reference, update.gateway_payment_id) == (REFERENCE, made.id)
    assert update.amount == YEN
    theirs = message.headers["stripe-signature"]
    moment = int(theirs.split(",")[0].removeprefix("t="))
    assert signature(message.body, moment, SECRET) == theirs


def test_its_webhook_is_refused_with_another_secret_or_body(peer: Peer) -> None:
    peer.pay()
    message = peer.heard()
    settings = StripeSettings(KEY, ("whsec_other",), peer.url, is_sandbox=True)
    changed = InboundMessage(
        "POST", message.headers, (), "", message.body + b" ", message.received_at
    )
    for gateway, given in ((StripeCheckout(settings), message), (peer.gateway, changed)):
        with pytest.raises(WebhookRefused) as caught:
            gateway.parse_webhook(given)
        assert caught.value.outcome is Outcome.BAD_SIGNATURE


def test_its_payment_is_fetched_as_paid(peer: Peer) -> None:
    made = peer.pay()
    found = peer.gateway.fetch_payment(known(made.id))
    assert found.payment.state is GatewayPaymentState.PAID
    assert (found.payment.gateway_payment_id, found.payment.amount) == (made.id, YEN)
    assert found.payment.fee == Money.zero("JPY")
    assert (found.refunds, found.disputes) == ((), ())


def test_its_declined_payment_is_fetched_as_failed(peer: Peer) -> None:
    with pytest.raises(stripe.CardError):
        peer.pay("4000000000000341")
    (made,) = peer.sdk.v1.payment_intents.list().data
    found = peer.gateway.fetch_payment(known(made.id)).payment
    assert (found.state, found.code) == (GatewayPaymentState.FAILED, "card_declined")


def test_it_refunds_in_parts_and_each_reference_once(peer: Peer) -> None:
    made = peer.pay()
    first = peer.gateway.refund(refund_of(made.id, 1_000, "A" * 20))
    assert peer.gateway.refund(refund_of(made.id, 1_000, "A" * 20)) == first
    second = peer.gateway.refund(refund_of(made.id, 2_000, "B" * 20))
    assert first.state is second.state is RefundState.SUCCEEDED
    found = peer.gateway.fetch_payment(known(made.id)).refunds
    assert {(one.reference, one.amount) for one in found} == {
        ("A" * 20, Money.from_minor_units(1_000, "JPY")),
        ("B" * 20, Money.from_minor_units(2_000, "JPY")),
    }


def test_it_refuses_a_wrong_key_and_money_that_it_does_not_know(peer: Peer) -> None:
    settings = StripeSettings("pk_not_secret", (), peer.url, is_sandbox=True)
    connections = stripe.RequestsClient(timeout=(5, 20))
    with pytest.raises(GatewayRefused) as caught:
        StripeCheckout(settings, connections).fetch_payment(known("pi_none"))
    connections.close()  # type: ignore[no-untyped-call]
    assert caught.value.reason == "authentication"
    with pytest.raises(GatewayRefused):
        peer.gateway.refund(refund_of("pi_none", 1_000, "A" * 20))
