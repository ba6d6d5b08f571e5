"""PayPal Orders v2: orders that the customer approves and we capture, refunds and disputes.

Every request that changes something carries our reference as PayPal-Request-Id, so that the same
again is the same. Sources: PayPal's reference of Orders v2, Payments v2 and Disputes v1, and its
guide to webhooks.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx2

from domain.gateways.guards import (
    optional_text,
    read_each,
    read_object,
    reading_answer,
    reading_message,
    web_address,
)
from domain.gateways.interface import (
    Acknowledgement,
    Checkout,
    GatewayPaymentState,
    GatewayRefused,
    GatewayUnavailable,
    KnownName,
    Outcome,
    PaymentUpdate,
    Snapshot,
    WebhookEvent,
    WebhookRefused,
)
from domain.gateways.paypal import disputes, documents, updates
from domain.gateways.paypal.api import (
    FOLLOW_UP_TIMEOUT,
    MAX_TEXT_LENGTH,
    NAME,
    ApiAnswer,
    PayPalApi,
)
from domain.gateways.paypal.certificates import PublicCertificates, SandboxCertificates
from domain.gateways.paypal.webhooks import WebhookVerifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from domain.gateways.interface import (
        CheckoutRequest,
        DisputeUpdate,
        InboundMessage,
        KnownPayment,
        Limits,
        RefundRequest,
        RefundUpdate,
    )
    from domain.gateways.paypal.certificates import Certificates
    from domain.gateways.paypal.settings import PayPalSettings
    from domain.money import Money


_ORDER_LIVES = timedelta(hours=3)
_MAX_ORDER_ID_LENGTH = 36
_MAX_DISPUTES = 50
_BUSY = "HTTP 429"

# Viet Nam is not among the places that PayPal's pages have the language of.
_LOCALES = {"en": "en-US", "ja": "ja-JP", "vi": "en-US"}
_PAYER_LINKS = ("payer-action", "approve")
_ASK_AGAIN = frozenset(("ORDER_ALREADY_CAPTURED", "ORDER_COMPLETION_IN_PROGRESS"))
_PAYER_MUST_ACT = frozenset(
    (
        "INSTRUMENT_DECLINED",
        "ORDER_NOT_APPROVED",
        "PAYER_ACTION_REQUIRED",
        "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING",
    )
)
_EXPIRED = "ORDER_EXPIRED"
_STATUSES = {
    Outcome.RECORDED: httpx2.codes.OK,
    Outcome.REPEATED: httpx2.codes.OK,
    # It would be as wrong the next time, and is kept for a person to look at.
    Outcome.WRONG_AMOUNT: httpx2.codes.OK,
    Outcome.UNKNOWN_PAYMENT: httpx2.codes.NOT_FOUND,
    Outcome.BAD_SIGNATURE: httpx2.codes.UNAUTHORIZED,
    Outcome.MALFORMED: httpx2.codes.BAD_REQUEST,
    Outcome.UNAVAILABLE: httpx2.codes.SERVICE_UNAVAILABLE,
}


class PayPal:
    """The gateway; safe to use from many threads."""

    name = NAME
    tells_latest_refund_only = False

    def __init__(
        self,
        settings: PayPalSettings,
        certificates: Certificates | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Raise ValueError where the keys would go over the network in clear text."""
        if not settings.api_base.startswith("https://") and not settings.has_stand_in:
            raise ValueError("the API's address starts with https://")
        self._settings = settings
        self._api = PayPalApi(settings, transport)
        self._verifier = WebhookVerifier(
            settings.webhook_id,
            certificates or _own_certificates(settings),
            is_sandbox=settings.is_sandbox,
        )

    @property
    def is_sandbox(self) -> bool:
        """Whether it speaks to a sandbox."""
        return self._settings.is_sandbox

    def limits(self, currency: str) -> Limits | None:
        """Return what PayPal takes of a currency in one payment; it does not take dong."""
        return documents.limits(currency)

    # ── Paying ────────────────────────────────────────────────────────────────────────────────
    @reading_answer(NAME)
    def create_checkout(self, request: CheckoutRequest) -> Checkout:
        """Create an order, and return where the customer approves it."""
        unit = {
            "reference_id": "default",
            "custom_id": request.reference,
            "invoice_id": request.reference,
            "description": request.description[:MAX_TEXT_LENGTH],
            "amount": _wire_amount(request.amount),
        }
        experience = {
            "return_url": request.return_url,
            "cancel_url": request.cancel_url,
            "user_action": "PAY_NOW",
            "shipping_preference": "NO_SHIPPING",
            "brand_name": self._settings.brand_name[:MAX_TEXT_LENGTH],
            "locale": _LOCALES.get(request.language, _LOCALES["en"]),
            "payment_method_preference": "IMMEDIATE_PAYMENT_REQUIRED",
        }
        body = {
            "intent": "CAPTURE",
            "purchase_units": [unit],
            "payment_source": {"paypal": {"experience_context": experience}},
        }
        answer = self._api.ask(
            "POST", "/v2/checkout/orders", body, request_id=f"order-{request.reference}"
        )
        if not answer.is_good:
            raise GatewayRefused(NAME, answer.issue)
        order_id, url = answer.body.get("id"), _payer_link(answer.body)
        if not isinstance(order_id, str) or url is None:
            raise GatewayUnavailable(NAME, "an order without an address to pay at")
        return Checkout(url, order_id, request.created_at + _ORDER_LIVES)

    @reading_message(NAME)
    def parse_return(self, message: InboundMessage) -> KnownName:
        """Return the order that the address names; it is not signed, and proves nothing."""
        tokens = [value for name, value in message.query if name == "token"]
        is_order = len(tokens) == 1 and 0 < len(tokens[0]) <= _MAX_ORDER_ID_LENGTH
        if not is_order or not tokens[0].isascii() or not tokens[0].isalnum():
            raise WebhookRefused(Outcome.MALFORMED, "token")
        return KnownName(gateway_reference=tokens[0])

    @reading_message(NAME)
    def parse_webhook(self, message: InboundMessage) -> WebhookEvent:
        """Verify and read an event; nothing of it is read before it is verified."""
        self._verifier.verify(message)
        event = read_object(message.body)
        event_id = optional_text(event.get("id"))
        event_type = optional_text(event.get("event_type"))
        if event_id is None or event_type is None:
            raise WebhookRefused(Outcome.MALFORMED, "event")
        sent_at = event.get("create_time")
        found = updates.event_updates(event_type, event.get("resource"), sent_at)
        return WebhookEvent(event_id, event_type, found)

    def acknowledge(self, outcome: Outcome) -> Acknowledgement:
        """Return an empty answer: PayPal comes again on every status but those of success."""
        return Acknowledgement(int(_STATUSES[outcome]))

    # ── Asking ────────────────────────────────────────────────────────────────────────────────
    @reading_answer(NAME)
    def fetch_payment(self, payment: KnownPayment) -> Snapshot:
        """Ask for the order, its captures and refunds, and the disputes about its money."""
        order = self._order(payment)
        return _nothing(payment) if order is None else self._snapshot(order, payment)

    @reading_answer(NAME)
    def complete_payment(self, payment: KnownPayment) -> Snapshot:
        """Capture what was approved; ask how it stands where that cannot be or was done."""
        order = self._order(payment)
        if order is None:
            return _nothing(payment)
        snapshot = self._snapshot(order, payment)
        if snapshot.payment.state is not GatewayPaymentState.APPROVED:
            return snapshot
        return self._capture(payment, may_repeat=True)

    @reading_answer(NAME)
    def refund(self, request: RefundRequest) -> RefundUpdate:
        """Refund a part of a capture or all of it; the amount is named in either case."""
        payment = request.payment
        if payment.gateway_payment_id is None:
            raise GatewayRefused(NAME, "CAPTURE_UNKNOWN")
        body = {
            "amount": _wire_amount(request.amount),
            "custom_id": updates.refund_reference(request.reference),
        }
        path = f"/v2/payments/captures/{quote(payment.gateway_payment_id, safe='')}/refund"
        answer = self._api.ask("POST", path, body, request_id=request.reference)
        if not answer.is_good:
            raise GatewayRefused(NAME, answer.issue)
        update = updates.refund_update({"amount": body["amount"], "links": [], **answer.body})
        return replace(
            update,
            gateway_payment_id=payment.gateway_payment_id,
            payment_reference=payment.reference,
            reference=request.reference,
        )

    def _order(self, payment: KnownPayment) -> dict[str, Any] | None:
        """Return the order, or None where PayPal has none, or none any more."""
        if payment.gateway_reference is None:
            return None
        answer = self._api.ask("GET", _order_path(payment.gateway_reference))
        if answer.status == httpx2.codes.NOT_FOUND:
            return None
        if not answer.is_good:
            raise GatewayRefused(NAME, answer.issue)
        return answer.body

    def _capture(self, payment: KnownPayment, *, may_repeat: bool) -> Snapshot:
        path = f"{_order_path(payment.gateway_reference or '')}/capture"
        try:
            answer = self._api.ask("POST", path, {}, request_id=_attempt(payment))
        except GatewayUnavailable as error:
            if error.reason == _BUSY or not may_repeat:
                raise
            # It may have been done: asking tells, and the same request again changes nothing.
            snapshot = self.fetch_payment(payment)
            if snapshot.payment.state is not GatewayPaymentState.APPROVED:
                return snapshot
            return self._capture(payment, may_repeat=False)
        if answer.is_good:
            has_units = bool(answer.body.get("purchase_units"))
            return (
                self._snapshot(answer.body, payment) if has_units else self.fetch_payment(payment)
            )
        return self._uncaptured(answer, payment)

    def _uncaptured(self, answer: ApiAnswer, payment: KnownPayment) -> Snapshot:
        """Return what a refused capture means for its payment."""
        if answer.issue in _ASK_AGAIN:
            return self.fetch_payment(payment)
        if answer.issue in _PAYER_MUST_ACT:
            snapshot = self.fetch_payment(payment)
            if snapshot.payment.state not in {
                GatewayPaymentState.OPEN,
                GatewayPaymentState.APPROVED,
            }:
                return snapshot
            refused = replace(snapshot.payment, code=answer.issue, refusal=payment.refusals)
            return Snapshot(refused)
        if answer.issue == _EXPIRED or answer.status == httpx2.codes.NOT_FOUND:
            state = GatewayPaymentState.EXPIRED
        elif answer.status == httpx2.codes.UNPROCESSABLE_CONTENT:
            state = GatewayPaymentState.FAILED
        else:
            raise GatewayRefused(NAME, answer.issue)
        return Snapshot(_update(payment, state, answer.issue))

    def _snapshot(self, order: dict[str, Any], payment: KnownPayment) -> Snapshot:
        """Return what an order says; its money counts also where the rest cannot be read."""
        update = updates.order_update(order)
        named = update.reference or payment.reference
        if named != payment.reference or update.gateway_reference != payment.gateway_reference:
            raise GatewayUnavailable(NAME, "an answer about another payment")
        update = replace(update, reference=payment.reference)

        def refund_updates(refund: dict[str, Any]) -> tuple[RefundUpdate]:
            message = updates.refund_update(refund)
            capture = message.gateway_payment_id or update.gateway_payment_id
            named = replace(
                message, payment_reference=payment.reference, gateway_payment_id=capture
            )
            return (named,)

        refunds, refunds_unread = read_each(
            NAME, "refunds", updates.order_refunds(order), refund_updates
        )
        if update.state is not GatewayPaymentState.PAID:
            return Snapshot(update, refunds, unread=refunds_unread)
        disputes, disputes_unread = self._disputes(updates.captures_of(order))
        return Snapshot(update, refunds, disputes, refunds_unread | disputes_unread)

    def _disputes(
        self, captures: tuple[str, ...]
    ) -> tuple[tuple[DisputeUpdate, ...], frozenset[str]]:
        """Return the disputes about an order's captures, and whether PayPal would not tell them."""
        found, unread = read_each(
            NAME, "disputes", self._dispute_documents(captures), disputes.dispute_updates
        )
        return tuple(update for update in found if update.gateway_payment_id in captures), unread

    def _dispute_documents(self, captures: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        # The list leaves out how each was resolved, and which payments it is about.
        seen = set[str]()
        for capture in captures:
            query = f"disputed_transaction_id={quote(capture, safe='')}"
            path = f"/v1/customer/disputes?{query}&page_size={_MAX_DISPUTES}"
            answer = self._follow_up(path)
            if answer is None:
                continue
            for number in disputes.dispute_numbers(answer):
                if number not in seen:
                    seen.add(number)
                    yield self._follow_up(f"/v1/customer/disputes/{quote(number, safe='')}") or {}

    def _follow_up(self, path: str) -> dict[str, Any] | None:
        """Return a document that is not waited for long, or None where there is none."""
        answer = self._api.ask("GET", path, timeout=FOLLOW_UP_TIMEOUT)
        if answer.status == httpx2.codes.NOT_FOUND:
            return None
        if not answer.is_good:
            raise GatewayRefused(NAME, answer.issue)
        return answer.body


def _own_certificates(settings: PayPalSettings) -> Certificates:
    if settings.has_stand_in:
        return SandboxCertificates(settings.api_base)
    return PublicCertificates()


def _wire_amount(amount: Money) -> dict[str, str]:
    if amount.currency not in documents.CURRENCIES:
        raise GatewayRefused(NAME, "CURRENCY_NOT_SUPPORTED")
    try:
        return documents.wire_amount(amount)
    except ValueError:
        raise GatewayRefused(NAME, "DECIMAL_PRECISION") from None


def _payer_link(order: dict[str, Any]) -> str | None:
    """Return where the customer approves an order."""
    links = order.get("links")
    given = [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []
    for rel in _PAYER_LINKS:
        for link in given:
            if link.get("rel") == rel and isinstance(link.get("href"), str):
                return web_address(link["href"])
    return None


def _order_path(order_id: str) -> str:
    return f"/v2/checkout/orders/{quote(order_id, safe='')}"


def _attempt(payment: KnownPayment) -> str:
    """Return the name of an attempt to capture, which is the same until it was refused.

    PayPal answers a request that it knows with what it answered before: a refusal too, after the
    customer has approved another way to pay.
    """
    return f"cap-{payment.reference}" + (f"-{payment.refusals}" if payment.refusals else "")


def _update(
    payment: KnownPayment, state: GatewayPaymentState, code: str | None = None
) -> PaymentUpdate:
    return PaymentUpdate(
        state,
        reference=payment.reference,
        gateway_reference=payment.gateway_reference,
        code=code,
    )


def _nothing(payment: KnownPayment) -> Snapshot:
    """Return what it means that PayPal has no such order: it keeps those not paid for hours.

    One that was paid does not expire, and one that we never heard of may have been made.
    """
    was_expected = payment.gateway_reference is not None and payment.gateway_payment_id is None
    state = GatewayPaymentState.EXPIRED if was_expected else GatewayPaymentState.UNKNOWN
    return Snapshot(_update(payment, state))
