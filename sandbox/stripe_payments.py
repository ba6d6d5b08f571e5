"""Sessions, payments and events of the Stripe sandbox."""

from __future__ import annotations

import hmac
import json
import secrets
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING

from sandbox.controls import convert
from sandbox.webhook_sender import Delivery, Message, WebhookRequest

if TYPE_CHECKING:
    from sandbox.app import Context
    from sandbox.controls import Controls
    from sandbox.store import Document

API_VERSION = "2026-10-28.endive"
SESSION, INTENT, CHARGE = "stripe.session", "stripe.intent", "stripe.charge"
TRANSACTION, REFUND, DISPUTE = "stripe.transaction", "stripe.refund", "stripe.dispute"
JAPAN = timezone(timedelta(hours=9))
MAX_LIFETIME = timedelta(hours=24)

_INTENT_DATA = "stripe.intent_data"
_CALLED = {SESSION: "checkout.session", INTENT: "payment_intent"}
_FORGERS_SECRET = "whsec_of_somebody_else"  # noqa: S105 - signs what must be refused
ZERO_DECIMAL = frozenset({"jpy", "vnd", "krw"})
_KONBINI_LEAST, _KONBINI_MOST, _KONBINI_DAYS = 120, 300_000, 3
_FEE_PER_MILLE = 36
CARDS: dict[str, dict[str, str]] = {
    "4242": {"brand": "visa", "country": "JP", "fingerprint": "TestVisa4242aaaa"},
    "4444": {"brand": "mastercard", "country": "US", "fingerprint": "TestMaster4444bb"},
    "0505": {"brand": "jcb", "country": "JP", "fingerprint": "TestJcb0505ccccc"},
}
"""The cards of the tests by their last four digits; each has one fingerprint, whoever pays."""

USUAL_CARD = "4242"
_BAD_REQUEST, _NOT_FOUND = 400, 404
_TAKEN = range(200, 300)


def signature(body: bytes, timestamp: int, secret: str) -> str:
    """Return the Stripe-Signature header of a webhook's body."""
    signed = str(timestamp).encode() + b"." + body
    return f"t={timestamp},v1={hmac.digest(secret.encode(), signed, 'sha256').hex()}"


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An error as the API answers it. A `kept` one is returned again for the same key."""

    def __init__(
        self,
        code: str | None,
        message: str,
        *,
        param: str | None = None,
        status: int = _BAD_REQUEST,
        kept: bool = False,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kept = kept
        details = {"code": code, "message": message, "param": param, "type": kind}
        self.body = {"error": {name: value for name, value in details.items() if value}}


def new_id(prefix: str) -> str:
    """Return a unique id."""
    return f"{prefix}_{secrets.token_hex(12)}"


class Payments:
    """Sessions and payments, and the events about them."""

    def __init__(
        self, context: Context, webhook_secret: str, controls: Controls, name: str = "stripe"
    ) -> None:
        self.context = context
        self.controls = controls
        self._webhook_secret = webhook_secret
        self._name = name
        self.store = context.store

    def now(self) -> int:
        """Return the present second."""
        return int(self.context.now().timestamp())

    def url(self, path: str) -> str:
        """Return the address of one of our pages."""
        return f"{self.context.base_url}/{self._name}/{path}"

    def find(self, kind: str, key: str, param: str = "id") -> Document:
        """Return an object in its present state; refuse as Stripe does where there is none."""
        found = self.store.get(kind, key)
        if found is None:
            name = _CALLED.get(kind, kind.removeprefix("stripe."))
            raise Refusal(
                "resource_missing", f"No such {name}: '{key}'", param=param, status=_NOT_FOUND
            )
        return found

    def session(self, key: str) -> Document:
        """Return a session; one whose time is over ends when it is looked at."""
        session = self.find(SESSION, key)
        if session["status"] == "open" and session["expires_at"] <= self.now():
            return self.expire(key)
        voucher = self.voucher(session)
        if voucher is not None and voucher["expires_at"] <= self.now():
            self.lapse(session)
        return self.find(SESSION, key)

    def voucher(self, session: Document) -> Document | None:
        """Return the voucher that the customer pays at a store, while it is valid."""
        if session["status"] != "complete" or session["payment_status"] != "unpaid":
            return None
        intent = self.find(INTENT, session["payment_intent"])
        details = (intent["next_action"] or {}).get("konbini_display_details")
        return dict(details) if details else None

    def tell(self, event_type: str, found: Document, delivery: Delivery = Delivery.NORMAL) -> None:
        """Send an event with the object as it is now."""
        event = {
            "id": new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now(),
            "data": {"object": found},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": event_type,
        }
        body = json.dumps(event).encode()
        secret = _FORGERS_SECRET if delivery is Delivery.FORGED else self._webhook_secret
        url = f"{self.context.portal_url}/webhooks/{self._name}"

        def make() -> Message:
            headers = {
                "Content-Type": "application/json; charset=utf-8",
                "Stripe-Signature": signature(body, self.now(), secret),
            }
            return Message("POST", url, headers, body)

        self.context.sender.send(WebhookRequest(make, _is_taken), delivery)

    def change(self, kind: str, key: str, **values: object) -> Document:
        """Change an object and return it."""
        return self.store.change(kind, key, lambda found: found.update(values))

    # ── Sessions ──────────────────────────────────────────────────────────────────────────────
    def open_session(self, given: Document, amount: int, currency: str) -> Document:
        """Keep a new session."""
        key = f"cs_test_{secrets.token_hex(24)}"
        now = self.now()
        options = given.get("payment_method_options", {}).get("konbini", {})
        days = int(options.get("expires_after_days", _KONBINI_DAYS))
        session = {
            "id": key,
            "object": "checkout.session",
            "adaptive_pricing": given.get("adaptive_pricing") and {"enabled": False},
            "allowed_payment_method_types": given.get("allowed_payment_method_types"),
            "amount_subtotal": amount,
            "amount_total": amount,
            "cancel_url": given.get("cancel_url"),
            "client_reference_id": given.get("client_reference_id"),
            "created": now,
            "currency": currency,
            "customer": None,
            "customer_email": given.get("customer_email"),
            "expires_at": int(given.get("expires_at", now + MAX_LIFETIME.total_seconds())),
            "livemode": False,
            "locale": given.get("locale"),
            "metadata": given.get("metadata", {}),
            "mode": "payment",
            "payment_intent": None,
            "payment_method_options": {"konbini": {"expires_after_days": days}},
            "payment_method_types": _methods(given, amount, currency),
            "payment_status": "unpaid",
            "presentment_details": None,
            "status": "open",
            "success_url": given["success_url"],
            "ui_mode": "hosted_page",
            "url": self.url(f"pay/{key}"),
        }
        self.store.put(SESSION, key, session)
        intent_data = given.get("payment_intent_data", {})
        self.store.put(
            _INTENT_DATA,
            key,
            {
                "description": intent_data.get("description"),
                "metadata": intent_data.get("metadata", {}),
                "name": given["line_items"][0]["price_data"]["product_data"]["name"],
            },
        )
        return session

    def intent_data(self, session: Document) -> Document:
        """Return the data of a session's payment."""
        return self.find(_INTENT_DATA, session["id"])

    def expire(self, key: str) -> Document:
        """End an open session."""
        session = self.find(SESSION, key)
        if session["status"] != "open":
            raise Refusal(
                None,
                'Only Checkout Sessions with a status in ["open"] can be expired. '
                f"This Checkout Session has a status of {session['status']}.",
                kept=True,
            )
        session = self.change(SESSION, key, status="expired", url=None)
        self.tell("checkout.session.expired", session)
        return session

    # ── Payments ──────────────────────────────────────────────────────────────────────────────
    def _confirm(self, session: Document) -> Document:
        """Return the payment of a session, created at the customer's first attempt."""
        if session["payment_intent"] is not None:
            return self.find(INTENT, session["payment_intent"])
        data = self.intent_data(session)
        intent = {
            "id": new_id("pi"),
            "object": "payment_intent",
            "amount": session["amount_total"],
            "amount_received": 0,
            "canceled_at": None,
            "created": self.now(),
            "currency": session["currency"],
            "description": data["description"],
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": data["metadata"],
            "next_action": None,
            "payment_method_types": session["payment_method_types"],
            "status": "requires_payment_method",
        }
        self.store.put(INTENT, intent["id"], intent)
        self.change(SESSION, session["id"], payment_intent=intent["id"])
        return intent

    def _charge(
        self,
        intent: Document,
        method: str,
        *,
        card: str = USUAL_CARD,
        fault: str | None = None,
    ) -> Document:
        details: Document = {"type": method}
        if method == "card":
            details["card"] = {**CARDS[card], "funding": "credit", "last4": card}
        else:
            details[method] = {"store": "lawson"}
        charge = {
            "id": new_id("ch"),
            "object": "charge",
            "amount": intent["amount"],
            "amount_captured": 0 if fault else intent["amount"],
            "amount_refunded": 0,
            "balance_transaction": None if fault else self._transaction(intent),
            "created": self.now(),
            "currency": intent["currency"],
            "description": intent["description"],
            "disputed": False,
            "failure_code": fault,
            "livemode": False,
            "metadata": intent["metadata"],
            "paid": fault is None,
            "payment_intent": intent["id"],
            "payment_method_details": details,
            "refunded": False,
            "status": "failed" if fault else "succeeded",
        }
        self.store.put(CHARGE, charge["id"], charge)
        return charge

    def _transaction(self, intent: Document) -> str:
        amount, currency = self._settled(intent["amount"], intent["currency"])
        fee = amount * _FEE_PER_MILLE // 1000
        return str(self._book("charge", amount, currency, fee)["id"])

    def _settled(self, count: int, currency: str) -> tuple[int, str]:
        """Return an amount in the currency of the account's balance."""
        settles_in = self.controls.settles_in
        if settles_in is None:
            return count, currency
        amount = convert(_major(count, currency), currency.upper(), settles_in)
        return minor(amount, settles_in.lower()), settles_in.lower()

    def _book(self, kind: str, amount: int, currency: str, fee: int = 0) -> Document:
        """Record a movement of the account's balance."""
        transaction: Document = {
            "id": new_id("txn"),
            "object": "balance_transaction",
            "amount": amount,
            "created": self.now(),
            "currency": currency,
            "fee": fee,
            "net": amount - fee,
            "status": "pending",
            "type": kind,
        }
        self.store.put(TRANSACTION, transaction["id"], transaction)
        return transaction

    def _receive(
        self, intent: Document, method: str, card: str = USUAL_CARD
    ) -> tuple[Document, Document]:
        charge = self._charge(intent, method, card=card)
        received = self.change(
            INTENT,
            intent["id"],
            amount_received=intent["amount"],
            last_payment_error=None,
            latest_charge=charge["id"],
            next_action=None,
            status="succeeded",
        )
        return received, charge

    def pay_by_card(self, session: Document, delivery: Delivery, card: str = USUAL_CARD) -> None:
        """Take the money at once."""
        intent, charge = self._receive(self._confirm(session), "card", card)
        session = self.change(
            SESSION, session["id"], payment_status="paid", status="complete", url=None
        )
        self.tell("charge.succeeded", charge, delivery)
        self.tell("payment_intent.succeeded", intent, delivery)
        self.tell("checkout.session.completed", session, delivery)

    def decline(self, session: Document, delivery: Delivery) -> None:
        """Refuse the card; the customer may try again on the same page."""
        intent = self._confirm(session)
        charge = self._charge(intent, "card", fault="card_declined")
        fault = {
            "charge": charge["id"],
            "code": "card_declined",
            "decline_code": "generic_decline",
            "message": "Your card was declined.",
            "type": "card_error",
        }
        intent = self.change(
            INTENT, intent["id"], last_payment_error=fault, latest_charge=charge["id"]
        )
        self.tell("charge.failed", charge, delivery)
        self.tell("payment_intent.payment_failed", intent, delivery)

    def promise(self, session: Document, delivery: Delivery) -> None:
        """Give the customer a number to pay with at a store, until the end of a day in Japan."""
        intent = self._confirm(session)
        days = session["payment_method_options"]["konbini"]["expires_after_days"]
        day = datetime.fromtimestamp(self.now(), UTC).astimezone(JAPAN) + timedelta(days=days)
        details = {
            "expires_at": int(day.replace(hour=23, minute=59, second=59).timestamp()),
            "hosted_voucher_url": self.url(f"konbini/{session['id']}"),
            "stores": {"lawson": {"confirmation_number": "000000", "payment_code": "123456"}},
        }
        action = {"konbini_display_details": details, "type": "konbini_display_details"}
        intent = self.change(
            INTENT,
            intent["id"],
            last_payment_error=None,
            next_action=action,
            status="requires_action",
        )
        session = self.change(SESSION, session["id"], status="complete", url=None)
        self.tell("payment_intent.requires_action", intent, delivery)
        self.tell("checkout.session.completed", session, delivery)

    def pay_at_store(self, session: Document, delivery: Delivery) -> None:
        """Take the money that was promised."""
        intent, charge = self._receive(self._confirm(session), "konbini")
        session = self.change(SESSION, session["id"], payment_status="paid")
        self.tell("charge.succeeded", charge, delivery)
        self.tell("payment_intent.succeeded", intent, delivery)
        self.tell("checkout.session.async_payment_succeeded", session, delivery)

    def lapse(self, session: Document, delivery: Delivery = Delivery.NORMAL) -> None:
        """Give up waiting for money that was promised."""
        fault = {
            "code": "payment_intent_payment_attempt_expired",
            "message": "The customer did not pay in time.",
            "type": "invalid_request_error",
        }
        intent = self.change(
            INTENT,
            session["payment_intent"],
            last_payment_error=fault,
            next_action=None,
            status="requires_payment_method",
        )
        self.tell("payment_intent.payment_failed", intent, delivery)
        self.tell("checkout.session.async_payment_failed", session, delivery)


def _major(count: int, currency: str) -> Decimal:
    return Decimal(count) if currency in ZERO_DECIMAL else Decimal(count) / 100


def minor(amount: Decimal, currency: str) -> int:
    """Return an amount in minor units."""
    return int(amount if currency in ZERO_DECIMAL else amount * 100)


def _methods(given: Document, amount: int, currency: str) -> list[str]:
    """Return the allowed payment methods that accept this amount."""
    takes_konbini = currency == "jpy" and _KONBINI_LEAST <= amount <= _KONBINI_MOST
    eligible = ["card", "konbini"] if takes_konbini else ["card"]
    allowed = given.get("allowed_payment_method_types", eligible)
    return [method for method in eligible if method in allowed]


def _is_taken(status: int, _body: bytes) -> bool:
    return status in _TAKEN
