"""Stripe Checkout: a hosted page for cards and konbini, with signed webhooks, by Stripe's own SDK.

Amounts on the wire are whole minor units: 3,000 yen are 3000, 25 dollars are 2500. One hosted page
is a Checkout Session; the money that it takes is a PaymentIntent, and has a charge. Our reference
stands in the metadata of both, as refunds and disputes know only the second.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import stripe

from domain.gateways.guards import (
    minor_units,
    optional_text,
    positive,
    read_each,
    read_object,
    readable,
    reading_answer,
    reading_message,
    required_text,
    sane_moment,
    web_address,
)
from domain.gateways.interface import (
    Acknowledgement,
    Checkout,
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    GatewayRefused,
    GatewayUnavailable,
    Instrument,
    KnownName,
    Limits,
    Outcome,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
    Snapshot,
    WebhookEvent,
    WebhookRefused,
)
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stripe.params.checkout import SessionCreateParams

    from domain.gateways.interface import (
        CheckoutRequest,
        GatewayUpdate,
        InboundMessage,
        KnownPayment,
        RefundRequest,
    )

NAME = "stripe"

_CONNECT_SECONDS, _READ_SECONDS = 5, 20
_RETRIES = 2
# Money that was taken does not wait long for what else there is to say of it.
_FOLLOW_UP_SECONDS = 10
_PAGE, _MAX_LISTED = 100, 1_000

# Only currencies whose minor unit is the same to Stripe as to ISO 4217: it counts some that have
# none, such as the Icelandic króna, in hundredths.
_MIN_AMOUNTS = {"JPY": 50, "USD": 50, "EUR": 50, "SGD": 50, "GBP": 30}
_MAX_AMOUNT = 99_999_999
_KONBINI_CURRENCY = "JPY"
_MIN_KONBINI, _MAX_KONBINI = 120, 300_000
_KONBINI_DAYS = 3
_JAPAN = ZoneInfo("Asia/Tokyo")

_MIN_LIFETIME, _MAX_LIFETIME = timedelta(minutes=30), timedelta(hours=24)
# Stripe counts both from when it hears of the session, by its own clock.
_SLACK = timedelta(minutes=5)

_TOLERANCE_SECONDS = 300
_MAX_TIME_LENGTH = 12
_SESSION_ID = re.compile(r"cs_(?:test|live)_[A-Za-z0-9]{1,200}", re.ASCII)
_CODE = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_PAYMENT_REFERENCE, _REFUND_REFERENCE = "payment_reference", "refund_reference"
_NOT_PAID_IN_TIME = "payment_intent_payment_attempt_expired"
_EXPANDED_INTENT = ("latest_charge", "latest_charge.balance_transaction")

_TOO_MANY, _CONFLICT, _SERVER_ERROR, _UNAVAILABLE = 429, 409, 500, 503
_BAD_REQUEST, _UNAUTHORIZED = 400, 401

_INTENT_STATES = {
    "succeeded": GatewayPaymentState.PAID,
    "processing": GatewayPaymentState.AWAITING,
    "requires_action": GatewayPaymentState.AWAITING,
    "requires_payment_method": GatewayPaymentState.FAILED,
    "canceled": GatewayPaymentState.FAILED,
    "requires_capture": GatewayPaymentState.UNDER_REVIEW,
}
_REFUND_STATES = {
    "pending": RefundState.PENDING,
    "requires_action": RefundState.PENDING,
    "succeeded": RefundState.SUCCEEDED,
    "failed": RefundState.FAILED,
    "canceled": RefundState.FAILED,
}
_DISPUTE_STATES = {
    # The bank asks and takes nothing: the same dispute needs a response where it becomes one.
    "warning_needs_response": DisputeState.INQUIRY,
    "warning_under_review": DisputeState.INQUIRY,
    "warning_closed": DisputeState.INQUIRY_CLOSED,
    "won": DisputeState.WON,
    # Settled before it began; what the customer got back then is a refund of its own.
    "prevented": DisputeState.WON,
    "lost": DisputeState.LOST,
    # An appeal opens a lost dispute again, and its money stays gone meanwhile. Where that is the
    # first that is heard of it, it counts as any open dispute: the account is frozen, and nothing
    # is clawed back before the appeal is decided.
    "appeal_needs_response": DisputeState.OPEN,
    "appeal_under_review": DisputeState.OPEN,
}
_ENDED = frozenset((DisputeState.WON, DisputeState.LOST))

# The SDK would write an id of this computer into the home folder and send it along.
stripe.enable_telemetry = False

_Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StripeSettings:
    """The keys of an account and Stripe's address.

    While a webhook secret is exchanged for another, both are there: either may have signed.
    """

    secret_key: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    api_base: str
    is_sandbox: bool


class StripeCheckout:
    """The gateway; safe to use from many threads."""

    name = NAME
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
    def is_sandbox(self) -> bool:
        """Whether it speaks to a sandbox."""
        return self._settings.is_sandbox

    def limits(self, currency: str) -> Limits | None:
        """Return what Stripe takes at once; None for currencies that it is not asked for."""
        if currency not in _MIN_AMOUNTS:
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
            return Checkout(url, _text(session["id"]), _moment(session["expires_at"]))

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

    def _verified(self, message: InboundMessage) -> _Object:
        header = message.headers.get("stripe-signature", "")
        signed_at = _signed_at(header)
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

    def _read(self, event: _Object) -> WebhookEvent:
        event_id, event_type = _text(event["id"]), _text(event["type"])
        about: _Object = event["data"]["object"]
        if event_type == "charge.refunded":
            # It says only how much went back in all; each refund is asked for.
            return WebhookEvent(event_id, event_type, asks_about=_names_of_charge(about))
        reader = _READERS.get(event_type)
        if reader is None:
            return WebhookEvent(event_id, event_type)
        update = reader(about, _moment(event["created"]))
        return WebhookEvent(event_id, event_type, () if update is None else (update,))

    def acknowledge(self, outcome: Outcome) -> Acknowledgement:
        """Return a status: Stripe comes again on all but 2xx, for three days.

        An account may serve other shops too, so that a payment that is not known is no fault.
        """
        return Acknowledgement(_STATUSES[outcome])

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
            NAME,
            "refunds",
            _pages(client.v1.refunds.list, payment_intent),
            lambda found: (_refund_update(found),),
        )
        disputes, disputes_unread = read_each(
            NAME,
            "disputes",
            _pages(client.v1.disputes.list, payment_intent),
            lambda found: (_dispute_update(found),),
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
            _check_is_about(payment, _reference(session))
            return _fact_of_session(session)
        if payment.gateway_payment_id is not None:
            intent = self._client.v1.payment_intents.retrieve(
                payment.gateway_payment_id, {"expand": list(_EXPANDED_INTENT)}
            ).to_dict()
            _check_is_about(payment, _reference(intent))
            return _fact_of_intent(intent)
        # Nobody was sent to a session whose creation was not answered.
        return PaymentUpdate(GatewayPaymentState.UNKNOWN)

    # ── Giving back ───────────────────────────────────────────────────────────────────────────
    def refund(self, request: RefundRequest) -> RefundUpdate:
        """Give money back, once for each reference.

        Stripe forgets idempotency keys after a day, so its list of refunds is looked at first.
        """
        payment_intent = request.payment.gateway_payment_id
        if payment_intent is None:
            raise GatewayRefused(NAME, "not_paid")
        count = minor_units(NAME, request.amount)
        with _speaking():
            for known in _pages(self._client.v1.refunds.list, payment_intent):
                if _reference(known, _REFUND_REFERENCE) == request.reference:
                    return _refund_update(known)
            made = self._client.v1.refunds.create(
                {
                    "payment_intent": payment_intent,
                    "amount": count,
                    "metadata": {
                        _PAYMENT_REFERENCE: request.payment.reference,
                        _REFUND_REFERENCE: request.reference,
                        "asked_by": request.actor,
                    },
                },
                {"idempotency_key": f"refund-{request.reference}"},
            ).to_dict()
            return _refund_update(made)


_STATUSES = {
    Outcome.RECORDED: 200,
    Outcome.REPEATED: 200,
    Outcome.UNKNOWN_PAYMENT: 200,
    Outcome.WRONG_AMOUNT: 200,
    Outcome.BAD_SIGNATURE: _BAD_REQUEST,
    Outcome.MALFORMED: _BAD_REQUEST,
    Outcome.UNAVAILABLE: _UNAVAILABLE,
}


# ── What we send ──────────────────────────────────────────────────────────────────────────────
def _session_parameters(request: CheckoutRequest) -> SessionCreateParams:
    """Return a session's parameters: the same request, the same parameters, whenever it is sent."""
    count = request.amount.to_minor_units()
    metadata = {_PAYMENT_REFERENCE: request.reference}
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
    is_yen = request.amount.currency == _KONBINI_CURRENCY
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
    """Tell what the SDK raises in our words; none of Stripe's, as they may quote what was sent."""
    with reading_answer(NAME):
        try:
            yield
        except stripe.StripeError as error:
            raise _translated(error) from None


def _pages(list_page: Callable[[Any], Any], payment_intent: str) -> Iterator[_Object]:
    """Return all objects of a list about a payment, page after page."""
    with _speaking():
        found = list_page({"payment_intent": payment_intent, "limit": _PAGE})
        for count, one in enumerate(found.auto_paging_iter()):
            if count == _MAX_LISTED:
                raise ValueError("a list without an end")
            yield one.to_dict()


def _translated(error: stripe.StripeError) -> GatewayUnavailable | GatewayRefused:
    status = error.http_status or 0
    is_refusal = _BAD_REQUEST <= status < _SERVER_ERROR and status not in {_CONFLICT, _TOO_MANY}
    if not is_refusal or isinstance(error, stripe.RateLimitError):
        kind = type(error).__name__
        return GatewayUnavailable(NAME, f"{kind} {status}" if status else kind)
    if status == _UNAUTHORIZED:
        return GatewayRefused(NAME, "authentication")
    body = error.json_body if isinstance(error.json_body, dict) else {}
    details = body.get("error")
    words = details if isinstance(details, dict) else {}
    code = str(words.get("code") or words.get("type") or "")
    return GatewayRefused(NAME, code if _CODE.fullmatch(code) else f"http_{status}")


def _check_is_about(payment: KnownPayment, reference: str | None) -> None:
    if reference != payment.reference:
        raise GatewayUnavailable(NAME, "an answer about another payment")


# ── What Stripe says ──────────────────────────────────────────────────────────────────────────
def _signed_at(header: str) -> int | None:
    """Return the time in a signature's header, or None where it has none that can be read."""
    parts = dict(part.split("=", 1) for part in reversed(header.split(",")) if "=" in part)
    text = parts.get("t", "")
    is_time = header.isascii() and text.isdigit() and len(text) <= _MAX_TIME_LENGTH
    return int(text) if is_time else None


_text = required_text


def _moment(seconds: object) -> datetime:
    if type(seconds) is not int:
        raise TypeError("not a time")
    return sane_moment(datetime.fromtimestamp(seconds, UTC))


def _money(count: int, currency: str) -> Money:
    if count < 0:
        raise ValueError("less than nothing")
    return Money.from_minor_units(count, currency.upper())


def _id_of(value: object) -> str | None:
    """Return the id of an object that came as its id, or whole."""
    if value is None:
        return None
    return _text(value["id"] if isinstance(value, dict) else value)


def _whole(value: object) -> _Object:
    """Return an object that came whole, or nothing of it."""
    return value if isinstance(value, dict) else {}


def _reference(found: _Object, name: str = _PAYMENT_REFERENCE) -> str | None:
    """Return a reference of ours, or None where the object is not one of ours.

    Our metadata says so, and it alone: who opens a payment link may write the session's
    `client_reference_id`.
    """
    reference = _whole(found.get("metadata")).get(name)
    return None if reference is None else _text(reference)


def _names_of_charge(charge: _Object) -> tuple[KnownName, ...]:
    payment_intent = _id_of(charge.get("payment_intent"))
    reference = _reference(charge)
    if payment_intent is None and reference is None:
        return ()
    return (KnownName(reference=reference, gateway_payment_id=payment_intent),)


def _session_done(session: _Object, at: datetime) -> PaymentUpdate | None:
    """Read a session that the customer finished, or whose money came later."""
    if _reference(session) is None:
        return None
    if session["payment_status"] == "paid":
        return _update(session, GatewayPaymentState.PAID, at=at)
    if session["payment_status"] == "unpaid":
        pay_by = _pay_by(session, at)
        method = None if pay_by is None else "konbini"
        return _update(session, GatewayPaymentState.AWAITING, at=at, pay_by=pay_by, method=method)
    return _update(
        session, GatewayPaymentState.FAILED, at=at, code=_text(session["payment_status"])
    )


def _session_failed(session: _Object, at: datetime) -> PaymentUpdate | None:
    if _reference(session) is None:
        return None
    # Only a store is paid later than its session is done, and it fails by not being paid in time.
    is_late = _konbini_options(session) is not None
    state = GatewayPaymentState.EXPIRED if is_late else GatewayPaymentState.FAILED
    return _update(session, state, at=at, code="async_payment_failed")


def _session_expired(session: _Object, at: datetime) -> PaymentUpdate | None:
    if _reference(session) is None:
        return None
    return _update(session, GatewayPaymentState.EXPIRED, at=at, code="expired")


def _update(
    session: _Object,
    state: GatewayPaymentState,
    *,
    at: datetime | None = None,
    code: str | None = None,
    method: str | None = None,
    pay_by: datetime | None = None,
) -> PaymentUpdate:
    payment_intent = _id_of(session.get("payment_intent"))
    if state is GatewayPaymentState.PAID and payment_intent is None:
        raise ValueError("paid by no payment")
    return PaymentUpdate(
        state=state,
        reference=_reference(session),
        gateway_reference=_text(session["id"]),
        gateway_payment_id=payment_intent,
        amount=_money(session["amount_total"], session["currency"]),
        occurred_at=at,
        code=code,
        method=method,
        pay_by=pay_by,
        asking_tells_instrument=state is GatewayPaymentState.PAID,
    )


def _pay_by(session: _Object, at: datetime) -> datetime | None:
    """Return the last second in Japan of the day until which a shop takes the money."""
    days = (_konbini_options(session) or {}).get("expires_after_days")
    if type(days) is not int:
        return None
    day = at.astimezone(_JAPAN) + timedelta(days=days)
    return day.replace(hour=23, minute=59, second=59, microsecond=0).astimezone(UTC)


def _konbini_options(session: _Object) -> _Object | None:
    """Return how a store may be paid; None where the session does not offer one."""
    options = _whole(session.get("payment_method_options")).get("konbini")
    return options if isinstance(options, dict) else None


def _intent_succeeded(intent: _Object, at: datetime) -> PaymentUpdate | None:
    """Read money that came: a second word of what its session says, and of no other kind."""
    if _reference(intent) is None:
        return None
    if intent["status"] != "succeeded":
        raise ValueError("succeeded and did not")
    return PaymentUpdate(
        state=GatewayPaymentState.PAID,
        reference=_reference(intent),
        gateway_payment_id=_text(intent["id"]),
        amount=_money(intent["amount_received"], intent["currency"]),
        occurred_at=at,
        asking_tells_instrument=True,
    )


def _fact_of_session(session: _Object) -> PaymentUpdate:
    """Read a session that came with its payment and charge."""
    status = session["status"]
    if status == "open":
        return _update(session, GatewayPaymentState.OPEN)
    if status == "expired":
        return _update(session, GatewayPaymentState.EXPIRED, code="expired")
    intent = session["payment_intent"]
    if not isinstance(intent, dict):
        return _update(session, GatewayPaymentState.FAILED, code=_text(session["payment_status"]))
    money = _fact_of_intent(intent)
    return PaymentUpdate(
        state=GatewayPaymentState.PAID if session["payment_status"] == "paid" else money.state,
        reference=_reference(session),
        gateway_reference=_text(session["id"]),
        gateway_payment_id=money.gateway_payment_id,
        amount=_money(session["amount_total"], session["currency"]),
        fee=money.fee,
        occurred_at=money.occurred_at,
        code=money.code,
        method=money.method,
        pay_by=money.pay_by,
        instructions_url=money.instructions_url,
        instrument=money.instrument,
    )


def _fact_of_intent(intent: _Object) -> PaymentUpdate:
    state = _INTENT_STATES.get(intent["status"], GatewayPaymentState.OPEN)
    charge = _whole(intent.get("latest_charge"))
    voucher = _whole(_whole(intent.get("next_action")).get("konbini_display_details"))
    fault = _whole(intent.get("last_payment_error"))
    code = optional_text(fault.get("code")) or _text(intent["status"])
    if state is GatewayPaymentState.FAILED and code == _NOT_PAID_IN_TIME:
        state = GatewayPaymentState.EXPIRED
    is_paid = state is GatewayPaymentState.PAID
    charged = optional_text(_whole(charge.get("payment_method_details")).get("type"))
    return PaymentUpdate(
        state=state,
        reference=_reference(intent),
        gateway_payment_id=_text(intent["id"]),
        amount=_money(intent["amount_received" if is_paid else "amount"], intent["currency"]),
        fee=readable(lambda: _fee(charge)) if is_paid else None,
        occurred_at=_moment(charge["created"]) if is_paid and charge else None,
        code=code if state in {GatewayPaymentState.FAILED, GatewayPaymentState.EXPIRED} else None,
        method="konbini" if voucher else charged,
        pay_by=_moment(voucher["expires_at"]) if voucher else None,
        instructions_url=readable(lambda: web_address(voucher["hosted_voucher_url"]))
        if voucher
        else None,
        instrument=readable(lambda: _instrument(charge)) if is_paid else None,
    )


def _instrument(charge: _Object) -> Instrument | None:
    """Return the card by its fingerprint, which is the same for each account that it pays for.

    Stripe knows nobody who pays at a store.
    """
    card = _whole(_whole(charge.get("payment_method_details")).get("card"))
    fingerprint = card.get("fingerprint")
    if not fingerprint:
        return None
    return Instrument(_text(fingerprint), f"card …{optional_text(card.get('last4')) or ''}")


def _fee(charge: _Object) -> Money | None:
    """Return what Stripe keeps, once it knows that, in the currency of the account's balance."""
    transaction = _whole(charge.get("balance_transaction"))
    return _money(transaction["fee"], transaction["currency"]) if transaction else None


def _refund_update(refund: _Object) -> RefundUpdate:
    return RefundUpdate(
        gateway_refund_id=_text(refund["id"]),
        state=_REFUND_STATES.get(refund["status"], RefundState.PENDING),
        amount=positive(_money(refund["amount"], refund["currency"])),
        gateway_payment_id=_id_of(refund.get("payment_intent")),
        payment_reference=_reference(refund),
        reference=_reference(refund, _REFUND_REFERENCE),
        occurred_at=_moment(refund["created"]),
    )


# ── Disputes ──────────────────────────────────────────────────────────────────────────────────
def _dispute_update(dispute: _Object) -> DisputeUpdate:
    due_by = _whole(dispute.get("evidence_details")).get("due_by")
    amount = positive(_money(dispute["amount"], dispute["currency"]))
    movements = [one for one in dispute.get("balance_transactions") or [] if isinstance(one, dict)]
    state = _DISPUTE_STATES.get(dispute["status"], DisputeState.OPEN)
    lost = None
    if state is DisputeState.LOST:
        lost = readable(lambda: _part_lost(movements, amount))
        state = DisputeState.WON if lost is not None and not lost.micros else state
    return DisputeUpdate(
        gateway_dispute_id=_text(dispute["id"]),
        state=state,
        amount=amount,
        lost=lost if state is DisputeState.LOST and lost != amount else None,
        gateway_payment_id=_id_of(dispute.get("payment_intent")),
        payment_reference=_reference(dispute),
        reason=optional_text(dispute.get("reason")),
        respond_by=None if due_by is None else _moment(due_by),
        occurred_at=_moment(dispute["created"]),
        fee=readable(lambda: _dispute_fee(movements)),
    )


def _part_lost(movements: list[_Object], amount: Money) -> Money | None:
    """Return what a lost dispute keeps of its amount, where something of it was reinstated.

    Stripe has no word for that: the movements of the balance tell, where they are of the dispute's
    currency. A part comes back where the payment had been refunded in part before.
    """
    if any(_text(one["currency"]).upper() != amount.currency for one in movements):
        return None
    if not any(one["amount"] > 0 for one in movements):
        return None
    gone = max(0, -sum(one["amount"] for one in movements))
    return min(amount, Money.from_minor_units(gone, amount.currency))


def _dispute_fee(movements: list[_Object]) -> Money | None:
    """Return all that Stripe charged for a dispute, less what it gave back of that."""
    currencies = {_text(one["currency"]) for one in movements}
    if len(currencies) != 1:
        return None
    return _money(max(0, sum(one["fee"] for one in movements)), currencies.pop())


def _refund_changed(refund: _Object, at: datetime) -> RefundUpdate | None:
    update = replace(_refund_update(refund), stated_at=at)
    is_nameless = update.gateway_payment_id is None and update.payment_reference is None
    return None if is_nameless else update


def _dispute_changed(dispute: _Object, at: datetime) -> DisputeUpdate | None:
    update = replace(_dispute_update(dispute), stated_at=at)
    is_nameless = update.gateway_payment_id is None and update.payment_reference is None
    return None if is_nameless else update


def _funds_reinstated(dispute: _Object, at: datetime) -> DisputeUpdate | None:
    """Read that the money is back: won, unless Stripe says that it ended otherwise.

    It follows the end of a dispute, and of one that was lost where a part came back, as after an
    earlier refund.
    """
    update = _dispute_changed(dispute, at)
    if update is None or update.state in _ENDED:
        return update
    return replace(update, state=DisputeState.WON)


_READERS: dict[str, Callable[[_Object, datetime], GatewayUpdate | None]] = {
    "checkout.session.completed": _session_done,
    "checkout.session.async_payment_succeeded": _session_done,
    "checkout.session.async_payment_failed": _session_failed,
    "checkout.session.expired": _session_expired,
    "payment_intent.succeeded": _intent_succeeded,
    "refund.created": _refund_changed,
    "refund.updated": _refund_changed,
    "refund.failed": _refund_changed,
    "charge.dispute.created": _dispute_changed,
    # These two tell that an inquiry became a dispute.
    "charge.dispute.updated": _dispute_changed,
    "charge.dispute.funds_withdrawn": _dispute_changed,
    "charge.dispute.closed": _dispute_changed,
    "charge.dispute.funds_reinstated": _funds_reinstated,
}
