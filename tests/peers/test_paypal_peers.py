"""PayPal's own client against our stand-in: what it understands, PayPal's customers would."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from domain.gateways.interface import GatewayPaymentState, KnownPayment
from domain.money import Money
from sandbox.paypal import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET
from tests.paypal_world import run_stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.paypal_world import World

REFERENCE = "ABCDEFGHJKLMNPQRSTUV"
WAIT_SECONDS = 60

# The client has no setting for an address: the table that it looks up is changed instead.
SCRIPT = """
import json, sys
from apimatic_core.exceptions.auth_validation_exception import AuthValidationException
from paypalserversdk.configuration import Configuration, Environment, Server
from paypalserversdk.exceptions.error_exception import ErrorException
from paypalserversdk.http.auth.o_auth_2 import ClientCredentialsAuthCredentials
from paypalserversdk.paypal_serversdk_client import PaypalServersdkClient

base_url, client_id, secret, step, options = sys.argv[1:]
Configuration.environments[Environment.SANDBOX][Server.DEFAULT] = base_url
client = PaypalServersdkClient(
    environment=Environment.SANDBOX,
    client_credentials_auth_credentials=ClientCredentialsAuthCredentials(client_id, secret),
)
group, _, name = step.partition(".")
try:
    answer = getattr(getattr(client, group), name)(json.loads(options))
    print(json.dumps([answer.status_code, json.loads(answer.text)]))
except ErrorException as error:
    found = [error.response_code, error.name, error.debug_id, [d.issue for d in error.details]]
    print(json.dumps(found))
except AuthValidationException:
    print(json.dumps(["no token"]))
"""

pytestmark = pytest.mark.peers


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with run_stand_in(tmp_path) as world:
        yield world


@pytest.fixture
def ask(world: World, peer_python: Path) -> Ask:
    return Ask(world, peer_python)


class Ask:
    """Asks the stand-in by PayPal's client."""

    def __init__(self, world: World, python: Path) -> None:
        self._base_url = f"{world.base_url}/paypal"
        self._python = python

    def __call__(self, step: str, *, secret: str = DEMO_CLIENT_SECRET, **options: object) -> Any:
        arguments = [self._base_url, DEMO_CLIENT_ID, secret, step, json.dumps(options)]
        done = subprocess.run(  # noqa: S603 - the interpreter and the text above
            [self._python, "-c", SCRIPT, *arguments],
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def order_body() -> dict[str, Any]:
    unit = {
        "amount": {"currency_code": "USD", "value": "10.00"},
        "custom_id": REFERENCE,
        "invoice_id": REFERENCE,
    }
    experience = {"return_url": "https://a.example.com", "cancel_url": "https://b.example.com"}
    return {
        "intent": "CAPTURE",
        "purchase_units": [unit],
        "payment_source": {"paypal": {"experience_context": experience}},
    }


def create(ask: Ask) -> dict[str, Any]:
    status, order = ask(
        "orders.create_order",
        body=order_body(),
        paypal_request_id=f"order-{REFERENCE}",
        prefer="return=representation",
    )
    assert (status, order["status"]) == (200, "PAYER_ACTION_REQUIRED")
    found: dict[str, Any] = order
    return found


def test_paypals_client_orders_captures_and_refunds(world: World, ask: Ask) -> None:
    order = create(ask)
    (pay,) = (link["href"] for link in order["links"] if link["rel"] == "payer-action")
    assert httpx2.URL(pay).path == f"/paypal/pay/{order['id']}"
    early = ask("orders.capture_order", id=order["id"], paypal_request_id="cap-0")
    assert early[:2] == [422, "UNPROCESSABLE_ENTITY"]
    assert early[2]
    assert early[3] == ["ORDER_NOT_APPROVED"]
    world.choose(pay, "succeed", "never")
    status, captured = ask("orders.capture_order", id=order["id"], paypal_request_id="cap-1")
    assert (status, captured["status"]) == (201, "COMPLETED")
    (capture,) = captured["purchase_units"][0]["payments"]["captures"]
    assert (capture["status"], capture["amount"]["value"]) == ("COMPLETED", "10.00")
    again = ask("orders.capture_order", id=order["id"], paypal_request_id="cap-1")
    assert (again[0], again[1]["id"]) == (200, order["id"])
    other = ask("orders.capture_order", id=order["id"], paypal_request_id="cap-2")
    assert other[3] == ["ORDER_ALREADY_CAPTURED"]
    status, refund = ask(
        "payments.refund_captured_payment",
        capture_id=capture["id"],
        paypal_request_id="refund-1",
        body={"amount": {"currency_code": "USD", "value": "3.00"}},
    )
    assert (status, refund["amount"]["value"]) == (201, "3.00")
    shown = ask("payments.get_refund", refund_id=refund["id"])[1]
    assert shown == refund


def test_what_paypals_client_paid_is_what_our_adapter_reads(world: World, ask: Ask) -> None:
    order = create(ask)
    amount = Money.from_minor_units(1_000, "USD")
    payment = KnownPayment(REFERENCE, order["id"], None, amount, datetime.now(UTC))
    assert world.gateway.fetch_payment(payment).payment.state is GatewayPaymentState.OPEN
    world.choose(f"{world.base_url}/paypal/pay/{order['id']}", "succeed", "never")
    assert world.gateway.fetch_payment(payment).payment.state is GatewayPaymentState.APPROVED
    ask("orders.capture_order", id=order["id"], paypal_request_id="cap-1")
    fact = world.gateway.complete_payment(payment).payment
    assert (fact.state, fact.amount, fact.reference) == (
        GatewayPaymentState.PAID,
        amount,
        REFERENCE,
    )
    paid = replace(payment, gateway_payment_id=fact.gateway_payment_id)
    assert ask("payments.get_captured_payment", capture_id=paid.gateway_payment_id)[0] == 200


def test_paypals_client_understands_our_refusals(ask: Ask) -> None:
    assert ask("orders.get_order", secret="another", id="X") == ["no token"]
    missing = ask("orders.get_order", id="UNKNOWN")
    assert missing[:2] == [404, "RESOURCE_NOT_FOUND"]
    assert missing[3] == ["INVALID_RESOURCE_ID"]
    body = order_body()
    body["purchase_units"][0]["amount"] = {"currency_code": "JPY", "value": "10.50"}
    yen = ask("orders.create_order", body=body, paypal_request_id="yen")
    assert (yen[0], yen[3]) == (422, ["DECIMAL_PRECISION"])
