"""The adapter and the stand-in, each with its own idea of PayPal, over a real port."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from jsonschema import Draft4Validator

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
    Outcome,
    PaymentUpdate,
    RefundRequest,
    RefundState,
    RefundUpdate,
    WebhookRefused,
)
from domain.gateways.paypal import api, client
from domain.gateways.paypal.client import PayPal
from domain.money import Money
from sandbox.paypal_certificates import load_or_make
from tests.paypal_world import WAIT_SECONDS, World, run_stand_in, settings

if TYPE_CHECKING:
    from collections.abc import Iterator


SHARED = Path(__file__).resolve().parents[4].parent / "shared" / "paypal-openapi"
needs_openapi = pytest.mark.skipif(
    not SHARED.exists(), reason=f"PayPal's OpenAPI documents are not at {SHARED}"
)
REFERENCE = "ABCDEFGHJKLMNPQRSTUV"
SHOP = "https://portal.example.com/payments/return/paypal"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one certificate for all tests: making it takes long."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def world(keys: Path) -> Iterator[World]:
    with run_stand_in(keys) as world:
        yield world


def checkout(amount: Money | None = None, reference: str = REFERENCE) -> CheckoutRequest:
    now = datetime.now(UTC)
    return CheckoutRequest(
        reference=reference,
        amount=amount or Money.from_minor_units(1_000, "USD"),
        description="Credit ABC",
        return_url=SHOP,
        cancel_url=f"{SHOP}?cancelled=1",
        customer_email="lan@example.com",
        customer_ip="203.0.113.7",
        language="en",
        created_at=now,
        expires_at=now + timedelta(minutes=30),
    )


def as_a_capture_says(update: PaymentUpdate) -> PaymentUpdate:
    """Return what an order says without who paid, for which one has to ask."""
    is_paid = update.state is GatewayPaymentState.PAID
    return replace(update, instrument=None, asking_tells_instrument=is_paid)


def ordered(world: World, request: CheckoutRequest | None = None) -> tuple[KnownPayment, str]:
    """Create an order; return the payment as we know it then, and where it is paid."""
    request = request or checkout()
    made = world.gateway.create_checkout(request)
    payment = KnownPayment(
        request.reference, made.gateway_reference, None, request.amount, request.created_at
    )
    return payment, made.redirect_url


def paid(world: World, request: CheckoutRequest | None = None) -> KnownPayment:
    """Pay and capture, with nothing told; return the payment as we know it then."""
    payment, url = ordered(world, request)
    world.choose(url, "succeed", "never")
    update = world.gateway.complete_payment(payment).payment
    assert update.state is GatewayPaymentState.PAID
    return replace(payment, gateway_payment_id=update.gateway_payment_id)


def refund_request(
    payment: KnownPayment, cents: int, reference: str = "REFUNDREFUNDREFUND22"
) -> RefundRequest:
    amount = Money.from_minor_units(cents, payment.amount.currency)
    return RefundRequest(
        payment, reference, amount, amount == payment.amount, "user7", datetime.now(UTC)
    )


# ── Paying ────────────────────────────────────────────────────────────────────────────────────
def test_a_payment_is_approved_captured_and_told(world: World) -> None:
    payment, url = ordered(world)
    assert world.gateway.fetch_payment(payment).payment.state is GatewayPaymentState.OPEN
    back = world.choose(url, "succeed")
    assert back.status_code == 303
    returned = httpx2.URL(back.headers["location"])
    query = InboundMessage("GET", {}, returned.params.multi_items(), "", b"", datetime.now(UTC))
    assert world.gateway.parse_return(query).gateway_reference == payment.gateway_reference
    approved = world.message()
    assert approved.event_type == "CHECKOUT.ORDER.APPROVED"
    assert [update.state for update in approved.updates if hasattr(update, "fee")] == [
        GatewayPaymentState.APPROVED
    ]
    update = world.gateway.complete_payment(payment).payment
    assert (update.state, update.amount) == (GatewayPaymentState.PAID, payment.amount)
    assert update.fee == Money.from_minor_units(69, "USD")
    completed = world.message()
    assert completed.event_type == "PAYMENT.CAPTURE.COMPLETED"
    of_order = replace(update, gateway_reference=payment.gateway_reference)
    assert completed.updates == (as_a_capture_says(of_order),)


def test_an_order_says_who_paid_and_its_capture_does_not(world: World) -> None:
    payment, url = ordered(world)
    form = {"outcome": "succeed", "delivery": "normal", "instrument": "TESTPAYER6789"}
    assert httpx2.post(url, data=form).status_code == 303
    update = world.gateway.complete_payment(payment).payment
    assert update.instrument == Instrument("TESTPAYER6789", "PayPal …789")
    (message,) = world.sent_until("PAYMENT.CAPTURE.COMPLETED").updates
    assert isinstance(message, PaymentUpdate)
    assert (message.instrument, message.asking_tells_instrument) == (None, True)
    _, other = ordered(world, checkout(reference="OTHERORDER0123456789"))
    form = {"outcome": "succeed", "instrument": "NOBODY"}
    assert httpx2.post(other, data=form).status_code == 400


def test_the_same_checkout_twice_is_one_order(world: World) -> None:
    request = checkout()
    assert world.gateway.create_checkout(request) == world.gateway.create_checkout(request)


def test_a_lost_answer_of_create_is_the_same_order_the_next_time(world: World) -> None:
    request = checkout()
    world.recorder.loses.add("/v2/checkout/orders")
    with pytest.raises(GatewayUnavailable):
        world.gateway.create_checkout(request)
    made = world.gateway.create_checkout(request)
    first = json.loads(world.recorder.seen[-2][2])
    assert made.gateway_reference == first["id"]


def test_a_lost_answer_of_a_capture_is_asked_after(world: World) -> None:
    payment, url = ordered(world)
    world.choose(url, "succeed", "never")
    world.recorder.loses.add("/capture")
    update = world.gateway.complete_payment(payment).payment
    assert (update.state, update.amount) == (GatewayPaymentState.PAID, payment.amount)


def test_a_return_and_a_webhook_that_race_capture_once(world: World) -> None:
    payment, url = ordered(world)
    world.choose(url, "succeed", "never")
    with ThreadPoolExecutor(8) as pool:
        updates = list(
            pool.map(lambda _: world.gateway.complete_payment(payment).payment, range(8))
        )
    assert {update.state for update in updates} == {GatewayPaymentState.PAID}
    assert len({update.gateway_payment_id for update in updates}) == 1


def test_yen_have_no_decimals(world: World) -> None:
    payment = paid(world, checkout(Money.from_minor_units(1_500, "JPY")))
    snapshot = world.gateway.fetch_payment(payment)
    assert snapshot.payment.amount == Money.from_minor_units(1_500, "JPY")


def test_a_declined_instrument_may_be_replaced(world: World) -> None:
    payment, url = ordered(world)
    world.choose(url, "decline", "never")
    declined = world.gateway.complete_payment(payment).payment
    assert (declined.state, declined.code) == (GatewayPaymentState.OPEN, "INSTRUMENT_DECLINED")
    assert declined.refusal == 0
    world.choose(url, "succeed", "never")
    # The same attempt has the same answer, whatever was approved since.
    assert world.gateway.complete_payment(payment).payment.refusal == 0
    payment = replace(payment, refusals=1)
    assert world.gateway.complete_payment(payment).payment.state is GatewayPaymentState.PAID
    # And so has one that was a success: it is not made twice.
    assert world.gateway.complete_payment(payment).payment.state is GatewayPaymentState.PAID


def test_a_refused_capture_is_answered_alike_and_another_is_made(world: World) -> None:
    payment, url = ordered(world)
    world.choose(url, "decline", "never")
    world.gateway.complete_payment(payment)
    world.choose(url, "succeed", "never")
    ask = Asker(world)
    path = f"/v2/checkout/orders/{payment.gateway_reference}/capture"
    for name, status in ((f"cap-{payment.reference}", 422), ("another", 201), ("another", 200)):
        assert ask("POST", path, {}, PayPal_Request_Id=name) == status


def test_a_cancelled_payment_may_be_approved_after_all(world: World) -> None:
    payment, url = ordered(world)
    back = world.choose(url, "cancel")
    assert back.headers["location"] == f"{SHOP}?cancelled=1&token={payment.gateway_reference}"
    assert world.gateway.complete_payment(payment).payment.state is GatewayPaymentState.OPEN
    world.choose(url, "succeed", "never")
    assert world.gateway.complete_payment(payment).payment.state is GatewayPaymentState.PAID


def test_an_order_that_nobody_pays_is_gone_after_three_hours(world: World) -> None:
    payment, url = ordered(world)
    world.clock[0] = timedelta(hours=3)
    assert world.gateway.complete_payment(payment).payment.state is GatewayPaymentState.EXPIRED
    assert httpx2.get(url).status_code == 404
    made = world.gateway.create_checkout(checkout(reference=REFERENCE[::-1]))
    assert made.gateway_reference != payment.gateway_reference


def test_a_token_that_has_ended_is_replaced(world: World) -> None:
    payment, _ = ordered(world)
    world.clock[0] = timedelta(hours=9)
    assert world.gateway.fetch_payment(payment).payment.state is GatewayPaymentState.EXPIRED
    statuses = [status for _request, status, _content in world.recorder.seen]
    assert statuses[-3:] == [401, 200, 404]


def test_wrong_keys_get_no_token(world: World) -> None:
    wrong = replace(settings(world.base_url), client_secret="another")
    with pytest.raises(GatewayUnavailable, match="invalid_client"):
        PayPal(wrong, transport=world.recorder).create_checkout(checkout())


def test_a_second_order_of_a_captured_invoice_is_refused(world: World) -> None:
    paid(world)
    body = json.loads(world.recorder.seen[1][0].content)
    token = world.recorder.seen[1][0].headers["authorization"]
    headers = {"Authorization": token, "PayPal-Request-Id": "another"}
    order = httpx2.post(f"{world.base_url}/paypal/v2/checkout/orders", json=body, headers=headers)
    again = KnownPayment(
        REFERENCE, order.json()["id"], None, checkout().amount, checkout().created_at
    )
    world.choose(f"{world.base_url}/paypal/pay/{again.gateway_reference}", "succeed", "never")
    refused = world.gateway.complete_payment(again).payment
    assert (refused.state, refused.code) == (GatewayPaymentState.FAILED, "DUPLICATE_INVOICE_ID")


# ── What the person at the page may want ──────────────────────────────────────────────────────
def test_a_payment_in_review_comes_later_or_never(world: World) -> None:
    for reference, action, state in (
        (REFERENCE, "complete", GatewayPaymentState.PAID),
        (REFERENCE[::-1], "deny", GatewayPaymentState.FAILED),
    ):
        payment, url = ordered(world, checkout(reference=reference))
        world.choose(url, "pending")
        waiting = world.gateway.complete_payment(payment).payment
        assert (waiting.state, waiting.code) == (GatewayPaymentState.AWAITING, "PENDING_REVIEW")
        assert waiting.gateway_payment_id is not None
        message = world.sent_until("PAYMENT.CAPTURE.PENDING")
        assert message.updates[0] == waiting
        assert world.operate(action, waiting.gateway_payment_id).status_code == 303
        ended = world.gateway.fetch_payment(payment).payment
        assert ended.state is state
        name = "COMPLETED" if state is GatewayPaymentState.PAID else "DENIED"
        assert world.sent_until(f"PAYMENT.CAPTURE.{name}").updates == (as_a_capture_says(ended),)


def test_five_copies_of_a_message_are_one_event(world: World) -> None:
    payment, url = ordered(world)
    world.choose(url, "succeed", "duplicate")
    assert len({world.message().event_id for _ in range(5)}) == 1
    assert world.gateway.complete_payment(payment).payment.state is GatewayPaymentState.PAID


def test_a_forged_message_is_refused(world: World) -> None:
    _, url = ordered(world)
    world.choose(url, "succeed", "forged")
    with pytest.raises(WebhookRefused) as caught:
        world.message()
    assert (caught.value.outcome, caught.value.reason) == (Outcome.BAD_SIGNATURE, "signature")


def test_a_message_for_another_webhook_is_refused(world: World) -> None:
    _, url = ordered(world)
    world.choose(url, "succeed")
    message = world.messages.get(timeout=WAIT_SECONDS)
    another = replace(settings(world.base_url), webhook_id="ANOTHER-WEBHOOK")
    with pytest.raises(WebhookRefused, match="signature"):
        PayPal(another, transport=world.recorder).parse_webhook(message)


def test_a_live_gateway_believes_nothing_of_a_stand_in(world: World) -> None:
    _, url = ordered(world)
    world.choose(url, "succeed")
    message = world.messages.get(timeout=WAIT_SECONDS)
    live = replace(settings(world.base_url), api_base="https://api-m.paypal.com", is_sandbox=False)
    with pytest.raises(WebhookRefused, match="sandbox_certificate"):
        PayPal(live, transport=world.recorder).parse_webhook(message)


def test_the_certificate_outlives_a_restart(world: World, keys: Path) -> None:
    certificates = f"{world.base_url}/paypal/v1/notifications/certs"
    root = httpx2.get(f"{certificates}/ca").content
    assert load_or_make(keys).root_pem() == root
    assert httpx2.get(f"{certificates}/{load_or_make(keys).name}").status_code == 200
    assert httpx2.get(f"{certificates}/CERT-unknown").status_code == 404
    kept = keys / "paypal-webhooks.pem"
    assert kept.stat().st_mode & 0o077 == 0


# ── Refunds and disputes ──────────────────────────────────────────────────────────────────────
def test_partial_refunds_until_nothing_is_left(world: World) -> None:
    payment = paid(world)
    first = world.gateway.refund(refund_request(payment, 300))
    assert first.state is RefundState.SUCCEEDED
    assert world.gateway.refund(refund_request(payment, 300)) == first
    message = world.message()
    assert message.event_type == "PAYMENT.CAPTURE.REFUNDED"
    assert message.updates == (replace(first, payment_reference=None),)
    with pytest.raises(GatewayRefused, match="REFUND_AMOUNT_EXCEEDED"):
        world.gateway.refund(refund_request(payment, 701, "REFUNDREFUNDREFUND33"))
    second = world.gateway.refund(refund_request(payment, 700, "REFUNDREFUNDREFUND44"))
    snapshot = world.gateway.fetch_payment(payment)
    assert snapshot.payment.state is GatewayPaymentState.PAID
    assert snapshot.refunds == (first, second)
    with pytest.raises(GatewayRefused, match="CAPTURE_FULLY_REFUNDED"):
        world.gateway.refund(refund_request(payment, 1, "REFUNDREFUNDREFUND55"))


def test_a_lost_answer_of_a_refund_is_the_same_refund_the_next_time(world: World) -> None:
    payment = paid(world)
    world.recorder.loses.add("/refund")
    with pytest.raises(GatewayUnavailable):
        world.gateway.refund(refund_request(payment, 1_000))
    refund = world.gateway.refund(refund_request(payment, 1_000))
    assert world.gateway.fetch_payment(payment).refunds == (refund,)


def test_an_operator_gives_back_what_we_did_not_ask_for(world: World) -> None:
    payment = paid(world)
    assert payment.gateway_payment_id is not None
    assert world.operate("refund", payment.gateway_payment_id, "2.50").status_code == 303
    (update,) = world.gateway.fetch_payment(payment).refunds
    assert (update.reference, update.amount) == (None, Money.from_minor_units(250, "USD"))
    (message,) = world.message().updates
    assert message == update
    assert world.operate("refund", payment.gateway_payment_id, "8").status_code == 422


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("win", DisputeState.WON),
        ("lose", DisputeState.LOST),
        ("lose_reversed", DisputeState.LOST),
    ],
)
def test_a_dispute_is_opened_and_ends(world: World, action: str, state: DisputeState) -> None:
    payment = paid(world)
    assert payment.gateway_payment_id is not None
    world.operate("dispute", payment.gateway_payment_id)
    (opened,) = world.gateway.fetch_payment(payment).disputes
    assert (opened.state, opened.amount) == (DisputeState.OPEN, payment.amount)
    assert world.sent_until("CUSTOMER.DISPUTE.CREATED").updates == (opened,)
    assert opened.gateway_dispute_id in httpx2.get(f"{world.base_url}/paypal/dashboard").text
    world.operate(action, opened.gateway_dispute_id)
    (ended,) = world.gateway.fetch_payment(payment).disputes
    assert ended.state is state
    message = {}
    for _ in range(2 if action == "lose_reversed" else 1):
        webhook = world.message()
        message[webhook.event_type] = webhook.updates[0]
    assert message.pop("CUSTOMER.DISPUTE.RESOLVED") == ended
    reversals = [
        (update.gateway_payment_id, update.amount, getattr(update, "reference", ""))
        for update in message.values()
    ]
    expected = [(payment.gateway_payment_id, payment.amount, None)]
    assert reversals == (expected if action == "lose_reversed" else [])


def control(world: World, **form: str) -> None:
    answer = httpx2.post(f"{world.base_url}/paypal/controls", data=form)
    assert answer.status_code == 200, answer.text


def disputed(world: World, payment: KnownPayment) -> DisputeUpdate:
    """Open a dispute; return it as it was told."""
    world.operate("dispute", payment.gateway_payment_id or "")
    (update,) = world.sent_until("CUSTOMER.DISPUTE.CREATED").updates
    assert isinstance(update, DisputeUpdate)
    return update


@pytest.mark.parametrize(
    ("action", "amount", "state", "lost"),
    [
        ("lose", "4.00", DisputeState.LOST, 400),
        ("accept", "10.00", DisputeState.LOST, None),
        ("close_undecided", "2.50", DisputeState.LOST, 250),
        ("close_undecided", "", DisputeState.WON, None),
        ("payout", "10.00", DisputeState.WON, None),
    ],
)
def test_dispute_outcome_tells_what_the_customer_was_given(
    world: World, action: str, amount: str, state: DisputeState, lost: int | None
) -> None:
    payment = paid(world)
    number = disputed(world, payment).gateway_dispute_id
    assert world.operate(action, number, amount).status_code == 303
    (message,) = world.sent_until("CUSTOMER.DISPUTE.RESOLVED").updates
    assert isinstance(message, DisputeUpdate)
    expected = None if lost is None else Money.from_minor_units(lost, "USD")
    assert (message.state, message.lost) == (state, expected)
    assert world.gateway.fetch_payment(payment).disputes == (message,)


@pytest.mark.parametrize(
    ("first", "then", "states"),
    [
        ("lose", "win", [DisputeState.LOST, DisputeState.OPEN, DisputeState.WON]),
        ("win", "lose", [DisputeState.WON, DisputeState.OPEN, DisputeState.LOST]),
    ],
)
def test_dispute_appealed_is_open_again_and_each_statement_is_newer(
    world: World, first: str, then: str, states: list[DisputeState]
) -> None:
    payment = paid(world)
    opened = disputed(world, payment)
    assert world.operate("appeal", opened.gateway_dispute_id).status_code == 422
    message = [opened]
    for action in (first, "appeal", then):
        assert world.operate(action, opened.gateway_dispute_id).status_code == 303
        (update,) = world.message().updates
        assert isinstance(update, DisputeUpdate)
        message.append(update)
    assert [update.state for update in message] == [DisputeState.OPEN, *states]
    moments = [update.stated_at for update in message if update.stated_at is not None]
    assert moments == sorted(moments)
    assert len(moments) == 4
    assert {update.occurred_at for update in message} == {opened.occurred_at}


@pytest.mark.parametrize("is_first", [True, False])
def test_reversal_is_told_before_and_after_a_dispute(world: World, *, is_first: bool) -> None:
    payment = paid(world)
    capture = payment.gateway_payment_id or ""
    actions = ["reverse", "dispute"] if is_first else ["dispute", "reverse"]
    for action in actions:
        assert world.operate(action, capture).status_code == 303
    updates = {}
    for _ in actions:
        webhook = world.message()
        (updates[webhook.event_type],) = webhook.updates
    reversal = updates["PAYMENT.CAPTURE.REVERSED"]
    assert isinstance(reversal, RefundUpdate)
    assert (reversal.is_reversal, reversal.amount) == (True, payment.amount)
    assert (reversal.gateway_payment_id, reversal.state) == (capture, RefundState.SUCCEEDED)
    assert "CUSTOMER.DISPUTE.CREATED" in updates


def test_capture_is_denied_after_it_was_completed(world: World) -> None:
    payment = paid(world)
    assert world.operate("deny", payment.gateway_payment_id or "").status_code == 303
    (message,) = world.sent_until("PAYMENT.CAPTURE.DENIED").updates
    fetched = world.gateway.fetch_payment(payment).payment
    for update in (message, fetched):
        assert isinstance(update, PaymentUpdate)
        assert (update.state, update.gateway_payment_id, update.reference) == (
            GatewayPaymentState.FAILED,
            payment.gateway_payment_id,
            REFERENCE,
        )
        assert update.occurred_at is not None


def test_refund_without_any_reference_names_its_capture_alone(world: World) -> None:
    payment = paid(world)
    capture = payment.gateway_payment_id or ""
    assert world.operate("refund_unnamed", capture, "2.50").status_code == 303
    control(world, names_refunds="no")
    ours = world.gateway.refund(refund_request(payment, 300))
    assert ours.reference == "REFUNDREFUNDREFUND22"
    for _ in range(2):
        (message,) = world.message().updates
        assert isinstance(message, RefundUpdate)
        assert (message.reference, message.payment_reference) == (None, None)
        assert message.gateway_payment_id == capture
    known = world.gateway.fetch_payment(payment).refunds
    assert [one.reference for one in known] == [None, None]
    assert known[1].gateway_refund_id == ours.gateway_refund_id


def test_refund_fails_after_it_succeeded_and_can_be_made_again(world: World) -> None:
    payment = paid(world)
    made = world.gateway.refund(refund_request(payment, 1_000))
    assert world.operate("fail_refund", made.gateway_refund_id).status_code == 303
    (failed,) = world.gateway.fetch_payment(payment).refunds
    assert (failed.state, failed.reference) == (RefundState.FAILED, made.reference)
    assert failed.stated_at is not None
    assert made.stated_at is not None
    assert failed.stated_at > made.stated_at
    assert failed.occurred_at == made.occurred_at
    again = world.gateway.refund(refund_request(payment, 1_000, "REFUNDREFUNDREFUND33"))
    assert again.state is RefundState.SUCCEEDED
    assert world.operate("fail_refund", made.gateway_refund_id).status_code == 422


def test_fees_are_taken_in_the_currency_of_the_balance(world: World) -> None:
    control(world, settles_in="JPY", dispute_fee="15")
    payment = paid(world)
    update = world.gateway.fetch_payment(payment).payment
    assert (update.amount, update.fee) == (payment.amount, Money.from_minor_units(104, "JPY"))
    assert disputed(world, payment).fee == Money.from_minor_units(2_250, "JPY")


@pytest.mark.parametrize("answer", ["403", "429", "500"])
def test_captured_money_is_told_while_disputes_are_refused(world: World, answer: str) -> None:
    payment, url = ordered(world)
    world.choose(url, "succeed", "never")
    control(world, group="disputes", answer=answer)
    snapshot = world.gateway.complete_payment(payment)
    assert snapshot.payment.state is GatewayPaymentState.PAID
    assert snapshot.unread == {"disputes"}
    control(world, group="refunds", answer=answer)
    known = replace(payment, gateway_payment_id=snapshot.payment.gateway_payment_id)
    kind = GatewayRefused if answer == "403" else GatewayUnavailable
    with pytest.raises(kind):
        world.gateway.refund(refund_request(known, 100))
    for group in ("disputes", "refunds"):
        control(world, group=group, answer="normal")
    assert world.gateway.fetch_payment(payment).unread == frozenset()
    world.gateway.refund(refund_request(known, 100))


def test_captured_money_is_told_while_disputes_hang(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FOLLOW_UP_TIMEOUT", httpx2.Timeout(1))
    payment = paid(world)
    control(world, group="disputes", answer="hang")
    snapshot = world.gateway.fetch_payment(payment)
    assert snapshot.payment.state is GatewayPaymentState.PAID
    assert snapshot.unread == {"disputes"}


def test_everything_hangs_and_is_normal_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = paid(world)
    control(world, group="all", answer="hang")
    with monkeypatch.context() as patch:
        patch.setattr(api.PayPalApi.ask, "__kwdefaults__", {"timeout": 1, "request_id": None})
        with pytest.raises(GatewayUnavailable, match="ReadTimeout"):
            world.gateway.fetch_payment(payment)
    control(world, group="all", answer="normal")
    assert world.gateway.fetch_payment(payment).payment.state is GatewayPaymentState.PAID


@pytest.mark.parametrize(
    "form",
    [
        {"group": "nothing", "answer": "hang"},
        {"group": "disputes", "answer": "418"},
        {"answer": "hang"},
        {"settles_in": "VND"},
        {"dispute_fee": "much"},
        {"names_refunds": "perhaps"},
        {"colour": "blue"},
    ],
)
def test_control_that_is_none_changes_nothing(world: World, form: dict[str, str]) -> None:
    answer = httpx2.post(f"{world.base_url}/paypal/controls", data=form)
    assert answer.status_code == 400
    payment = paid(world)
    assert world.gateway.fetch_payment(payment).unread == frozenset()


# ── The documents that PayPal publishes ───────────────────────────────────────────────────────
REQUESTS = {
    "/v2/checkout/orders": ("orders", "order_request"),
    "/capture": ("orders", "order_capture_request"),
    "/refund": ("payments", "refund_request"),
}


def schema_of(path: str) -> tuple[str, str]:
    """Return which document describes the answer from a path, and under which name."""
    if path.endswith("/refund") or "/refunds/" in path:
        return "payments", "refund"
    if "/captures/" in path:
        return "payments", "capture-2"
    if path.endswith("/disputes"):
        return "disputes", "dispute_search"
    return ("disputes", "dispute") if "/disputes/" in path else ("orders", "order")


def check_document(document: object, file: str, name: str) -> None:
    """Fail unless the document is of a schema of PayPal's."""
    root = json.loads((SHARED / f"{file}.json").read_text("utf-8"))
    schema = {**root, "$ref": f"#/components/schemas/{name}"}
    faults = [error.message for error in Draft4Validator(schema).iter_errors(document)]
    assert faults == [], f"{name}: {document}"


def refusal_schema(path: str, status: int) -> list[tuple[str, str]]:
    """Return what describes a refusal: its shape, and the codes that it may have."""
    file = schema_of(path)[0]
    if file == "disputes":
        return [(file, "error")]
    kinds = {"/capture": "orders.capture-422", "/refund": "captures.refund-422"}
    if status == 415:
        return [(file, "error_415")]
    end = next((kind for end, kind in kinds.items() if path.endswith(end)), "422")
    codes = end if status == 422 else str(status)
    return [(file, f"error_{status}"), (file, codes)]


def check_answer(path: str, status: int, content: bytes) -> None:
    schemas = [schema_of(path)] if status < 400 else refusal_schema(path, status)
    for file, name in schemas:
        check_document(json.loads(content), file, name)


@needs_openapi
@pytest.mark.shared
def test_all_that_we_send_and_all_that_is_answered_is_as_paypal_describes(world: World) -> None:
    control(world, settles_in="JPY", dispute_fee="15")
    payment, url = ordered(world)
    world.gateway.complete_payment(payment)
    world.choose(url, "decline")
    world.gateway.complete_payment(payment)
    world.choose(url, "succeed")
    payment = replace(payment, refusals=1)
    captured = world.gateway.complete_payment(payment).payment.gateway_payment_id
    assert captured is not None
    payment = replace(payment, gateway_payment_id=captured)
    world.gateway.refund(refund_request(payment, 300))
    with pytest.raises(GatewayRefused):
        world.gateway.refund(refund_request(payment, 900, "REFUNDREFUNDREFUND33"))
    world.operate("dispute", captured)
    (dispute,) = world.gateway.fetch_payment(payment).disputes
    world.operate("lose_reversed", dispute.gateway_dispute_id, "5.00")
    world.gateway.fetch_payment(payment)
    world.gateway.fetch_payment(replace(payment, gateway_reference="UNKNOWNORDER"))
    events = [world.messages.get(timeout=WAIT_SECONDS) for _ in range(7)]
    seen = [one for one in world.recorder.seen if not one[0].url.path.endswith("/token")]
    api = [one for one in seen if "/notifications/" not in one[0].url.path]
    assert {status for _request, status, _content in api} == {200, 201, 404, 422}
    for request, status, content in api:
        path = request.url.path.removeprefix("/paypal")
        for end, (file, name) in REQUESTS.items():
            if request.method == "POST" and path.endswith(end):
                check_document(json.loads(request.content), file, name)
        check_answer(path, status, content)
    for event in events:
        check_event(json.loads(event.body))


def check_event(event: dict[str, Any]) -> None:
    check_document(event, "webhooks", "event")
    kinds = {
        "checkout-order": ("orders", "order"),
        "capture": ("payments", "capture-2"),
        "refund": ("payments", "refund"),
        "dispute": ("disputes", "dispute"),
    }
    check_document(event["resource"], *kinds[event["resource_type"]])


class Asker:
    """Asks the stand-in what our adapter never asks, and checks what is answered."""

    def __init__(self, world: World) -> None:
        self.base_url = f"{world.base_url}/paypal"
        self.order = json.loads(world.recorder.seen[1][0].content)
        self.token = world.recorder.seen[1][0].headers["authorization"]
        self.asked = 0

    def __call__(self, method: str, path: str, body: object = None, **headers: str) -> int:
        self.asked += 1
        given = {
            "Authorization": self.token,
            "Content-Type": "application/json",
            "PayPal-Request-Id": f"asked-{self.asked}",
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = httpx2.request(
            method,
            self.base_url + path,
            headers=given,
            content=None if method == "GET" else content,
        )
        check_answer(path, answer.status_code, answer.content)
        assert ("paypal-debug-id" in answer.headers) is (answer.status_code >= 400)
        return answer.status_code


def usd(value: object, currency: str = "USD") -> dict[str, object]:
    return {"amount": {"currency_code": currency, "value": value}}


@needs_openapi
@pytest.mark.shared
def test_orders_that_we_never_ask_for_are_answered_as_paypal_describes(world: World) -> None:
    ordered(world)
    ask = Asker(world)
    path = "/v2/checkout/orders"
    assert ask("POST", path, ask.order) == 200
    assert ask("POST", path, {"intent": "CAPTURE", "purchase_units": [usd("1.00")]}) == 201
    assert ask("POST", path, ask.order, PayPal_Request_Id="") == 400
    changed = ({**ask.order, "payment_source": 3}, {**ask.order, "intent": "X"})
    unreadable: tuple[object, ...] = ({}, [], b"{")
    for wrong in (*unreadable, *changed):
        assert ask("POST", path, wrong) == 400
    assert ask("POST", path, {**ask.order, "purchase_units": [usd(5)]}) == 400
    for amount in (usd("5", "VND"), usd("5.5", "JPY"), usd("0.00")):
        assert ask("POST", path, {**ask.order, "purchase_units": [amount]}) == 422
    assert ask("POST", path, b"x", Content_Type="text/plain") == 415
    assert ask("GET", f"{path}/UNKNOWN") == 404
    assert ask("GET", f"{path}/UNKNOWN", Authorization="Bearer unknown") == 401
    assert ask("POST", f"{path}/UNKNOWN/capture", {}) == 404
    assert ask("POST", f"{path}/UNKNOWN/capture", {}, Content_Type="") == 415


@needs_openapi
@pytest.mark.shared
@pytest.mark.parametrize(("action", "is_paid"), [("complete", True), ("deny", False)])
def test_captures_and_refunds_are_answered_as_paypal_describes(
    world: World, action: str, *, is_paid: bool
) -> None:
    payment, url = ordered(world)
    ask = Asker(world)
    order = f"/v2/checkout/orders/{payment.gateway_reference}"
    world.choose(url, "pending", "never")
    captured = world.gateway.complete_payment(payment).payment.gateway_payment_id
    assert captured is not None
    path = f"/v2/payments/captures/{captured}"
    assert (ask("GET", order), ask("GET", path)) == (200, 200)
    assert ask("POST", f"{path}/refund", {}) == 422
    world.operate(action, captured)
    assert (ask("GET", order), ask("GET", path)) == (200, 200)
    assert ask("POST", f"{order}/capture", {}) == 422
    assert ask("POST", f"{path}/refund", usd("x")) == (400 if is_paid else 422)
    for amount in (usd("1.00", "EUR"), usd("0.00"), usd("10.01")):
        assert ask("POST", f"{path}/refund", amount) == 422
    assert ask("POST", f"{path}/refund", {}) == (201 if is_paid else 422)
    assert ask("POST", f"{path}/refund", {}) == 422
    for refund in world.gateway.fetch_payment(payment).refunds:
        assert ask("GET", f"/v2/payments/refunds/{refund.gateway_refund_id}") == 200
    assert (ask("GET", order), ask("GET", path)) == (200, 200)
    for unknown in ("/v2/payments/captures/UNKNOWN", "/v2/payments/refunds/UNKNOWN"):
        assert ask("GET", unknown) == 404
    assert ask("GET", "/v1/customer/disputes") == 200
    assert ask("GET", "/v1/customer/disputes/UNKNOWN") == 404


@needs_openapi
@pytest.mark.shared
@pytest.mark.parametrize(
    "change",
    [{"intent": "BUY"}, {"purchase_units": []}, {"purchase_units": [{"amount": {"value": 10}}]}],
)
def test_the_documents_would_notice_a_wrong_order(world: World, change: dict[str, Any]) -> None:
    ordered(world)
    body = json.loads(world.recorder.seen[1][0].content)
    check_document(body, "orders", "order_request")
    with pytest.raises(AssertionError, match="order_request"):
        check_document({**body, **change}, "orders", "order_request")
