"""Stripe Checkout: a hosted page for cards and konbini, with signed webhooks, by Stripe's own SDK.

Amounts on the wire are whole minor units: 3,000 yen are 3000, 25 dollars are 2500. One hosted page
is a Checkout Session; the money that it takes is a PaymentIntent, and has a charge. Our reference
stands in the metadata of both, as refunds and disputes know only the second.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import stripe

from domain.gateways.guards import (
    minor_units,
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
    Limits,
    Outcome,
    PaymentUpdate,
    RefundUpdate,
    Snapshot,
    WebhookEvent,
    WebhookRefused,
)
from domain.gateways.stripe.settings import NAME
from domain.gateways.stripe.updates import (
    BAD_REQUEST,
    EVENT_READERS,
    KONBINI_CURRENCY,
    PAYMENT_REFERENCE,
    REFUND_REFERENCE,
    STATUSES,
    UNAUTHORIZED,
    StripeDocument,
    check_is_about,
    dispute_update,
    intent_update,
    names_of_charge,
    read_moment,
    read_reference,
    read_signed_at,
    read_text,
    refund_update,
    session_update,
)
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stripe.params.checkout import SessionCreateParams

    from domain.gateways.interface import (
        CheckoutRequest,
        InboundMessage,
        KnownPayment,
        RefundRequest,
    )
    from domain.gateways.stripe.settings import StripeSettings


_CONNECT_SECONDS, _READ_SECONDS = 5, 20
_RETRIES = 2
# Money that was taken does not wait long for what else there is to say of it.
_FOLLOW_UP_SECONDS = 10
_PAGE, _MAX_LISTED = 100, 1_000

# Only currencies whose minor unit is the same to Stripe as to ISO 4217: it counts some that have
# none, such as the Icelandic króna, in hundredths.
_MIN_AMOUNTS = {"JPY": 50, "USD": 50, "EUR": 50, "SGD": 50, "GBP": 30}
_MAX_AMOUNT = 99_999_999
_MIN_KONBINI, _MAX_KONBINI = 120, 300_000
_KONBINI_DAYS = 3

_MIN_LIFETIME, _MAX_LIFETIME = timedelta(minutes=30), timedelta(hours=24)
# Stripe counts both from when it hears of the session, by its own clock.
_SLACK = timedelta(minutes=5)

_TOLERANCE_SECONDS = 300
_SESSION_ID = re.compile(r"cs_(?:test|live)_[A-Za-z0-9]{1,200}", re.ASCII)
_CODE = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_EXPANDED_INTENT = ("latest_charge", "latest_charge.balance_transaction")

_TOO_MANY, _CONFLICT, _SERVER_ERROR = 429, 409, 500


# The SDK would write an id of this computer into the home folder and send it along.
stripe.enable_telemetry = False


class StripeCheckout:
    """The gateway; safe to use from many threads."""

    tells_latest_refund_only = False

    def __init__(
        self, settings: StripeSettings, http_client: stripe.HTTPClient | None = None
    ) -> None:
        self._settings = settings
        self._client = stripe.StripeClient(
            settings.secret_key,
            base_addresses={"api": settings.api_base},
            max_network_retries=_RETRIES,
            http_client=http_client
            or stripe.RequestsClient(timeout=(_CONNECT_SECONDS, _READ_SECONDS)),
        )
        self._follow_up_client = stripe.StripeClient(
            settings.secret_key,
            base_addresses={"api": settings.api_base},
            max_network_retries=0,
            http_client=http_client
            or stripe.RequestsClient(timeout=(_CONNECT_SECONDS, _FOLLOW_UP_SECONDS)),
        )

    @property
    def name(self) -> str:
        """The gateway's name: one account for each."""
        return self._settings.name

    @property
    def is_sandbox(self) -> bool:
        """Whether it speaks to a sandbox."""
        return self._settings.is_sandbox

    def limits(self, currency: str) -> Limits | None:
        """Return what Stripe takes at once; None for currencies that it is not asked for."""
        allowed = self._settings.currencies
        if currency not in _MIN_AMOUNTS or (allowed is not None and currency not in allowed):
            return None
        return Limits(
            Money.from_minor_units(_MIN_AMOUNTS[currency], currency),
            Money.from_minor_units(_MAX_AMOUNT, currency),
        )

    # ── Paying ────────────────────────────────────────────────────────────────────────────────
    def create_checkout(self, request: CheckoutRequest) -> Checkout:
        """Create a session, or return the one that was created for the same reference."""
        self._check_amount(request.amount)
        minor_units(NAME, request.amount)
        with _speaking():
            session = self._client.v1.checkout.sessions.create(
                _session_parameters(request),
                {"idempotency_key": f"checkout-{request.reference}"},
            ).to_dict()
            url = web_address(session["url"])
            return Checkout(url, read_text(session["id"]), read_moment(session["expires_at"]))

    def _check_amount(self, amount: Money) -> None:
        limits = self.limits(amount.currency)
        if limits is None:
            raise GatewayRefused(NAME, "currency")
        if limits.minimum is not None and amount < limits.minimum:
            raise GatewayRefused(NAME, "amount_too_small")
        if limits.maximum is not None and amount > limits.maximum:
            raise GatewayRefused(NAME, "amount_too_large")

    def parse_return(self, message: InboundMessage) -> KnownName:
        """Return the session that a returning browser names; anybody can write such an address."""
        for name, value in message.query:
            if name == "session_id" and _SESSION_ID.fullmatch(value):
                return KnownName(gateway_reference=value)
        raise WebhookRefused(Outcome.MALFORMED, "session_id")

    # ── Webhooks ──────────────────────────────────────────────────────────────────────────────
    def parse_webhook(self, message: InboundMessage) -> WebhookEvent:
        """Verify a webhook over its body as it came, and read the events that matter."""
        with reading_message(NAME):
            return self._read(self._verified(message))

    def _verified(self, message: InboundMessage) -> StripeDocument:
        header = message.headers.get("stripe-signature", "")
        signed_at = read_signed_at(header)
        now = message.received_at.timestamp()
        if signed_at is None:
            raise WebhookRefused(Outcome.BAD_SIGNATURE, "signature")
        if signed_at > now + _TOLERANCE_SECONDS:  # the SDK refuses only what is old
            raise WebhookRefused(Outcome.BAD_SIGNATURE, "future")
        for secret in self._settings.webhook_secrets:
            try:
                stripe.WebhookSignature.verify_header(
                    message.body, header, secret, _TOLERANCE_SECONDS
                )
            except stripe.SignatureVerificationError:
                continue
            except ValueError:  # the SDK signs text
                raise WebhookRefused(Outcome.MALFORMED, "no_json") from None
            event = read_object(message.body)
            if event.get("livemode") is not (not self._settings.is_sandbox):
                raise WebhookRefused(Outcome.BAD_SIGNATURE, "wrong_mode")
            return event
        is_old = signed_at < now - _TOLERANCE_SECONDS
        raise WebhookRefused(Outcome.BAD_SIGNATURE, "old" if is_old else "signature")

    def _read(self, event: StripeDocument) -> WebhookEvent:
        event_id, event_type = read_text(event["id"]), read_text(event["type"])
        about: StripeDocument = event["data"]["object"]
        if event_type == "charge.refunded":
            # It says only how much went back in all; each refund is asked for.
            return WebhookEvent(event_id, event_type, asks_about=names_of_charge(about))
        reader = EVENT_READERS.get(event_type)
        if reader is None:
            return WebhookEvent(event_id, event_type)
        update = reader(about, read_moment(event["created"]))
        return WebhookEvent(event_id, event_type, () if update is None else (update,))

    def acknowledge(self, outcome: Outcome) -> Acknowledgement:
        """Return a status: Stripe comes again on all but 2xx, for three days.

        An account may serve other shops too, so that a payment that is not known is no fault.
        """
        return Acknowledgement(STATUSES[outcome])

    # ── Asking ────────────────────────────────────────────────────────────────────────────────
    def fetch_payment(self, payment: KnownPayment) -> Snapshot:
        """Ask for the session, or for the money where no session is known, and what followed.

        Money that was taken is told also where what followed cannot be read.
        """
        try:
            with _speaking():
                update = self._payment_update(payment)
        except GatewayRefused as refusal:
            if refusal.reason != "resource_missing":
                raise
            return Snapshot(PaymentUpdate(GatewayPaymentState.UNKNOWN, code=refusal.reason))
        if update.state is not GatewayPaymentState.PAID or update.gateway_payment_id is None:
            return Snapshot(update)
        return self._with_what_followed(update, update.gateway_payment_id)

    complete_payment = fetch_payment

    def _with_what_followed(self, update: PaymentUpdate, payment_intent: str) -> Snapshot:
        client = self._follow_up_client
        refunds, refunds_unread = read_each(
            self.name,
            "refunds",
            _pages(client.v1.refunds.list, payment_intent),
            lambda found: (refund_update(found),),
        )
        disputes, disputes_unread = read_each(
            self.name,
            "disputes",
            _pages(client.v1.disputes.list, payment_intent),
            lambda found: (dispute_update(found),),
        )
        return Snapshot(update, refunds, disputes, refunds_unread | disputes_unread)

    def _payment_update(self, payment: KnownPayment) -> PaymentUpdate:
        if payment.gateway_reference is not None:
            session = self._client.v1.checkout.sessions.retrieve(
                payment.gateway_reference,
                {
                    "expand": [
                        "payment_intent",
                        *(f"payment_intent.{path}" for path in _EXPANDED_INTENT),
                    ]
                },
            ).to_dict()
            check_is_about(payment, read_reference(session))
            return session_update(session)
        if payment.gateway_payment_id is not None:
            intent = self._client.v1.payment_intents.retrieve(
                payment.gateway_payment_id, {"expand": list(_EXPANDED_INTENT)}
            ).to_dict()
            check_is_about(payment, read_reference(intent))
            return intent_update(intent)
        # No customer was sent to a session whose creation was not answered.
        return PaymentUpdate(GatewayPaymentState.UNKNOWN)

    # ── Giving back ───────────────────────────────────────────────────────────────────────────
    def refund(self, request: RefundRequest) -> RefundUpdate:
        """Refund money, once for each reference.

        Stripe forgets idempotency keys after a day, so its list of refunds is looked at first.
        """
        payment_intent = request.payment.gateway_payment_id
        if payment_intent is None:
            raise GatewayRefused(NAME, "not_paid")
        count = minor_units(NAME, request.amount)
        with _speaking():
            for known in _pages(self._client.v1.refunds.list, payment_intent):
                if read_reference(known, REFUND_REFERENCE) == request.reference:
                    return refund_update(known)
            made = self._client.v1.refunds.create(
                {
                    "payment_intent": payment_intent,
                    "amount": count,
                    "metadata": {
                        PAYMENT_REFERENCE: request.payment.reference,
                        REFUND_REFERENCE: request.reference,
                        "asked_by": request.actor,
                    },
                },
                {"idempotency_key": f"refund-{request.reference}"},
            ).to_dict()
            return refund_update(made)


# ── What we send ──────────────────────────────────────────────────────────────────────────────
def _session_parameters(request: CheckoutRequest) -> SessionCreateParams:
    """Return a session's parameters: the same request, the same parameters, whenever it is sent."""
    count = request.amount.to_minor_units()
    metadata = {PAYMENT_REFERENCE: request.reference}
    joint = "&" if "?" in request.return_url else "?"
    parameters: SessionCreateParams = {
        "mode": "payment",
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": request.amount.currency.lower(),
                    "unit_amount": count,
                    "product_data": {"name": request.description},
                },
            }
        ],
        "allowed_payment_method_types": ["card"],
        "client_reference_id": request.reference,
        "metadata": metadata,
        "payment_intent_data": {"metadata": metadata, "description": request.description},
        "success_url": f"{request.return_url}{joint}session_id={{CHECKOUT_SESSION_ID}}",
        "cancel_url": request.cancel_url,
        "expires_at": _expiry(request),
        "locale": request.language,
        "adaptive_pricing": {"enabled": False},
    }
    if request.customer_email:
        parameters["customer_email"] = request.customer_email
    is_yen = request.amount.currency == KONBINI_CURRENCY
    if is_yen and _MIN_KONBINI <= count <= _MAX_KONBINI:
        parameters["allowed_payment_method_types"] = ["card", "konbini"]
        parameters["payment_method_options"] = {"konbini": {"expires_after_days": _KONBINI_DAYS}}
    return parameters


def _expiry(request: CheckoutRequest) -> int:
    """Return when the session ends: 30 minutes to 24 hours after the payment was begun."""
    earliest = request.created_at + _MIN_LIFETIME + _SLACK
    latest = request.created_at + _MAX_LIFETIME - _SLACK
    return int(min(max(request.expires_at, earliest), latest).timestamp())


# ── What went wrong ───────────────────────────────────────────────────────────────────────────
@contextmanager
def _speaking() -> Iterator[None]:
    """Translate the SDK's errors, without Stripe's messages, as they may quote what was sent."""
    with reading_answer(NAME):
        try:
            yield
        except stripe.StripeError as error:
            raise _translated(error) from None


def _pages(list_page: Callable[[Any], Any], payment_intent: str) -> Iterator[StripeDocument]:
    """Return all objects of a list about a payment, page after page."""
    with _speaking():
        found = list_page({"payment_intent": payment_intent, "limit": _PAGE})
        for count, one in enumerate(found.auto_paging_iter()):
            if count == _MAX_LISTED:
                raise ValueError("a list without an end")
            yield one.to_dict()


def _translated(error: stripe.StripeError) -> GatewayUnavailable | GatewayRefused:
    status = error.http_status or 0
    is_refusal = BAD_REQUEST <= status < _SERVER_ERROR and status not in {_CONFLICT, _TOO_MANY}
    if not is_refusal or isinstance(error, stripe.RateLimitError):
        kind = type(error).__name__
        return GatewayUnavailable(NAME, f"{kind} {status}" if status else kind)
    if status == UNAUTHORIZED:
        return GatewayRefused(NAME, "authentication")
    body = error.json_body if isinstance(error.json_body, dict) else {}
    details = body.get("error")
    words = details if isinstance(details, dict) else {}
    code = str(words.get("code") or words.get("type") or "")
    return GatewayRefused(NAME, code if _CODE.fullmatch(code) else f"http_{status}")
