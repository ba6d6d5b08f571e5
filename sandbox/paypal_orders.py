"""Orders and captures of the PayPal sandbox, and its webhooks."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sandbox import paypal_documents as documents
from sandbox.paypal_certificates import load_or_make
from sandbox.paypal_documents import link, new_id, wire_time
from sandbox.webhook_sender import Delivery, Message, WebhookRequest

if TYPE_CHECKING:
    from sandbox.app import Context
    from sandbox.controls import Controls
    from sandbox.paypal_certificates import Identity
    from sandbox.paypal_documents import Document

DEMO_WEBHOOK_ID = "DEMO-WEBHOOK-ID-0123456789"

ORDER, CAPTURE, REFUND, DISPUTE = (
    "paypal.order",
    "paypal.capture",
    "paypal.refund",
    "paypal.dispute",
)
_DONE = "paypal.request"
_ORDER_LIVES = timedelta(hours=3)
_WAITS = (2, 5, 15, 60, 300, 900)
_DECIMAL = re.compile(r"\d{1,15}(\.\d{1,2})?", re.ASCII)
_GOOD_STATUSES = range(200, 300)


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An error answer of PayPal: a status, and the code of the reason."""

    def __init__(self, status: int, issue: str | None = None) -> None:
        super().__init__(status, issue)
        self.status = status
        self.issue = issue


class Orders:
    """Orders and captures, and the webhooks that report them."""

    def __init__(self, context: Context, controls: Controls) -> None:
        self._context = context
        self._controls = controls
        self._store = context.store
        self._base = f"{context.base_url}/paypal"

    @cached_property
    def identity(self) -> Identity:
        """The identity that signs webhooks."""
        return load_or_make(self._context.folder)

    # ── Orders ────────────────────────────────────────────────────────────────────────────────
    def create(self, body: Document, request_id: str | None) -> tuple[Document, bool]:
        """Return the order of a request, and whether it is new."""
        unit, source = _checked_unit(body), body.get("payment_source")
        if source is not None and not isinstance(source, dict):
            raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER_SYNTAX")
        if source and request_id is None:
            raise Refusal(HTTPStatus.BAD_REQUEST, "PAYPAL_REQUEST_ID_REQUIRED")
        with self._store.changing():
            known = self._done("create", request_id)
            if known is not None:
                return self.order(known), False
            order_id, now = new_id(), self._context.now()
            wallet = (source or {}).get("paypal") or {}
            experience = wallet.get("experience_context") or body.get("application_context") or {}
            order: Document = {
                "id": order_id,
                "status": "PAYER_ACTION_REQUIRED" if source else "CREATED",
                "intent": "CAPTURE",
                "purchase_units": [{"reference_id": "default", **unit}],
                "create_time": wire_time(now),
                "links": self._order_links(order_id, "payer-action" if source else "approve"),
            } | ({"payment_source": {"paypal": {}}} if source else {})
            record = {
                "id": order_id,
                "order": order,
                "created": now.isoformat(),
                "return_url": experience.get("return_url"),
                "cancel_url": experience.get("cancel_url"),
                "merchant": experience.get("brand_name") or "Test shop",
                "outcome": None,
                "delivery": "normal",
                "capture": None,
            }
            self._store.put(ORDER, order_id, record)
            self._remember("create", request_id, order_id)
        return self.order(order_id), True

    def _order_links(self, order_id: str, payer_rel: str) -> list[Document]:
        address = f"{self._base}/v2/checkout/orders/{order_id}"
        return [
            link(address, "self"),
            link(f"{self._base}/pay/{order_id}", payer_rel),
            link(f"{address}/capture", "capture", "POST"),
        ]

    def record(self, order_id: str) -> Document:
        """Return the record of an order; an unpaid one expires after three hours."""
        record = self._store.get(ORDER, order_id)
        if record is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "INVALID_RESOURCE_ID")
        ends = datetime.fromisoformat(record["created"]) + _ORDER_LIVES
        if record["capture"] is None and ends <= self._context.now():
            raise Refusal(HTTPStatus.NOT_FOUND, "INVALID_RESOURCE_ID")
        return record

    def order(self, order_id: str) -> Document:
        """Return an order as PayPal shows it now, with its payments."""
        record = self.record(order_id)
        order: Document = dict(record["order"])
        if record["capture"] is not None:
            refunds = self._store.find(REFUND, capture=record["capture"])
            payments: Document = {"captures": [self.capture(record["capture"])]}
            if refunds:
                payments["refunds"] = [refund["refund"] for refund in refunds]
            order["purchase_units"] = [{**order["purchase_units"][0], "payments": payments}]
        return order

    def approve(
        self,
        order_id: str,
        outcome: str,
        delivery: Delivery,
        payer: str = documents.USUAL_PAYER,
    ) -> None:
        """Have the payer approve an order; the outcome of its capture is decided with it."""

        def change(record: dict[str, Any]) -> None:
            record["outcome"], record["delivery"] = outcome, delivery.value
            record["order"]["status"] = "APPROVED"
            email = documents.PAYERS[payer]
            record["order"]["payer"] = {"payer_id": payer, "email_address": email}
            if "payment_source" in record["order"]:
                wallet = {"account_id": payer, "account_status": "VERIFIED", "email_address": email}
                record["order"]["payment_source"] = {"paypal": wallet}

        self._store.change(ORDER, order_id, change)
        self._tell("CHECKOUT.ORDER.APPROVED", "checkout-order", self.order(order_id), delivery)

    # ── Captures ──────────────────────────────────────────────────────────────────────────────
    def take(self, order_id: str, request_id: str | None) -> tuple[Document, bool]:
        """Capture an approved order; return it, and whether that was done now.

        The same request has the same answer, a refusal too.
        """
        with self._store.changing():
            record = self.record(order_id)
            if self._done("capture", request_id) == order_id:
                return self.order(order_id), False
            refused = self._done("refused", request_id)
            if refused is not None:
                raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, refused)
            try:
                self._refuse(record)
            except Refusal as refusal:
                self._remember("refused", request_id, str(refusal.issue))
                raise
            capture_id = self._make_capture(record)
            self._remember("capture", request_id, order_id)
        event = "PENDING" if record["outcome"] == "pending" else "COMPLETED"
        self._tell_capture(event, capture_id, Delivery(record["delivery"]))
        return self.order(order_id), True

    def _refuse(self, record: Document) -> None:
        """Raise Refusal where an order cannot be captured."""
        if record["capture"] is not None:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "ORDER_ALREADY_CAPTURED")
        if record["order"]["status"] != "APPROVED":
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "ORDER_NOT_APPROVED")
        if record["outcome"] == "decline":
            self._store.change(ORDER, record["id"], _send_back)
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "INSTRUMENT_DECLINED")
        invoice = record["order"]["purchase_units"][0].get("invoice_id")
        captured = (one["capture"].get("invoice_id") for one in self._store.find(CAPTURE))
        if invoice is not None and invoice in captured:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "DUPLICATE_INVOICE_ID")

    def _make_capture(self, record: Document) -> str:
        unit = record["order"]["purchase_units"][0]
        capture_id, now = new_id(), wire_time(self._context.now())
        address = f"{self._base}/v2/payments/captures/{capture_id}"
        is_pending = record["outcome"] == "pending"
        amount = {name: unit["amount"][name] for name in ("currency_code", "value")}
        capture: Document = {
            "id": capture_id,
            "status": "PENDING" if is_pending else "COMPLETED",
            "amount": amount,
            "final_capture": True,
            "create_time": now,
            "update_time": now,
            "links": [
                link(address, "self"),
                link(f"{address}/refund", "refund", "POST"),
                link(f"{self._base}/v2/checkout/orders/{record['id']}", "up"),
            ],
        }
        capture |= {name: unit[name] for name in ("custom_id", "invoice_id") if name in unit}
        if is_pending:
            capture["status_details"] = {"reason": "PENDING_REVIEW"}
        else:
            capture["seller_receivable_breakdown"] = self._breakdown(amount)
        kept = {"id": capture_id, "order": record["id"], "capture": capture}
        self._store.put(CAPTURE, capture_id, kept)

        def finish(found: dict[str, Any]) -> None:
            found["capture"] = capture_id
            found["order"]["status"] = "COMPLETED"

        self._store.change(ORDER, record["id"], finish)
        return capture_id

    def capture(self, capture_id: str) -> Document:
        """Return a capture as PayPal shows it."""
        found = self._store.get(CAPTURE, capture_id)
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "INVALID_RESOURCE_ID")
        capture: Document = found["capture"]
        return capture

    def _breakdown(self, amount: Document) -> Document:
        return documents.breakdown(amount, self._controls.settles_in)

    def decide(self, capture_id: str, *, is_good: bool) -> None:
        """End the review of a pending capture; one that was let through may be denied after all."""

        def change(found: dict[str, Any]) -> None:
            capture = found["capture"]
            capture["status"] = "COMPLETED" if is_good else "DECLINED"
            capture["update_time"] = wire_time(self._context.now())
            capture.pop("status_details", None)
            if is_good:
                capture["seller_receivable_breakdown"] = self._breakdown(capture["amount"])

        with self._store.changing():
            status = self.capture(capture_id)["status"]
            if status != "PENDING" and (is_good or status != "COMPLETED"):
                return
            self._store.change(CAPTURE, capture_id, change)
        self._tell_capture("COMPLETED" if is_good else "DENIED", capture_id, Delivery.NORMAL)

    def _tell_capture(self, event: str, capture_id: str, delivery: Delivery) -> None:
        found = self._store.get(CAPTURE, capture_id)
        if found is not None:
            related = {"supplementary_data": {"related_ids": {"order_id": found["order"]}}}
            resource = {**found["capture"], **related}
            self._tell(f"PAYMENT.CAPTURE.{event}", "capture", resource, delivery)

    def _set_status(self, capture_id: str, status: str) -> None:
        def change(found: dict[str, Any]) -> None:
            found["capture"]["status"] = status

        self._store.change(CAPTURE, capture_id, change)

    # ── Webhooks ──────────────────────────────────────────────────────────────────────────────
    def _tell(self, event: str, kind: str, resource: Document, delivery: Delivery) -> None:
        message = documents.event(self._context.now(), event, kind, resource)
        body = json.dumps(message, ensure_ascii=False).encode()
        is_forged = delivery is Delivery.FORGED
        webhook = WebhookRequest(
            lambda: self._signed(body, is_forged=is_forged),
            lambda status, _answer: status in _GOOD_STATUSES,
            _WAITS,
        )
        self._context.sender.send(webhook, delivery)

    def _signed(self, body: bytes, *, is_forged: bool) -> Message:
        transmission_id, sent_at = str(uuid.uuid4()), wire_time(self._context.now())
        signed = b"{}" if is_forged else body
        signature = self.identity.sign(transmission_id, sent_at, DEMO_WEBHOOK_ID, signed)
        headers = {
            "Content-Type": "application/json",
            "PAYPAL-TRANSMISSION-ID": transmission_id,
            "PAYPAL-TRANSMISSION-TIME": sent_at,
            "PAYPAL-TRANSMISSION-SIG": signature,
            "PAYPAL-CERT-URL": (
                "https://api.sandbox.paypal.com/v1/notifications/certs/" + self.identity.name
            ),
            "PAYPAL-AUTH-ALGO": "SHA256withRSA",
        }
        url = f"{self._context.portal_url}/webhooks/paypal"
        return Message("POST", url, headers, body)

    # ── The same request again ────────────────────────────────────────────────────────────────
    def _done(self, action: str, request_id: str | None) -> str | None:
        if request_id is None:
            return None
        found = self._store.get(_DONE, f"{action}:{request_id}")
        return None if found is None else str(found["made"])

    def _remember(self, action: str, request_id: str | None, made: str) -> None:
        if request_id is not None:
            self._store.put(_DONE, f"{action}:{request_id}", {"made": made})


def _send_back(record: dict[str, Any]) -> None:
    """Ask the payer for another way to pay."""
    record["outcome"] = None
    record["order"]["status"] = "PAYER_ACTION_REQUIRED"


def _checked_unit(body: Document) -> Document:
    """Return the one purchase unit of an order; raise Refusal."""
    units = body.get("purchase_units")
    if body.get("intent") != "CAPTURE":
        raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER_VALUE")
    if not isinstance(units, list) or len(units) != 1 or not isinstance(units[0], dict):
        raise Refusal(HTTPStatus.BAD_REQUEST, "MISSING_REQUIRED_PARAMETER")
    checked_amount(units[0].get("amount"))
    unit: Document = units[0]
    return unit


def checked_amount(amount: object) -> Decimal:
    """Return an amount that can be paid; raise Refusal."""
    values = amount if isinstance(amount, dict) else {}
    value, currency = values.get("value"), values.get("currency_code")
    if not isinstance(value, str) or _DECIMAL.fullmatch(value) is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER_SYNTAX")
    if currency not in documents.CURRENCIES:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "INVALID_CURRENCY_CODE")
    if "." in value and currency in documents.WHOLE_ONLY:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "DECIMAL_PRECISION")
    if not Decimal(value):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "CANNOT_BE_ZERO_OR_NEGATIVE")
    return Decimal(value)
