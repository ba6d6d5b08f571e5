"""The orders, captures, refunds and disputes of the PayPal sandbox, and its webhooks."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sandbox import paypal_documents as documents
from sandbox.paypal_documents import link, money, new_id, wire_time
from sandbox.paypal_orders import DISPUTE, REFUND, Orders, Refusal, checked_amount
from sandbox.webhook_sender import Delivery

if TYPE_CHECKING:
    from sandbox.paypal_documents import Document


_SELLER_HAS = timedelta(days=10)


class PayPalStore(Orders):
    """Orders, captures and refunds."""

    # ── Refunds ───────────────────────────────────────────────────────────────────────────────
    def create_refund(
        self, capture_id: str, body: Document, request_id: str | None, *, is_named: bool = True
    ) -> tuple[Document, bool]:
        """Refund a capture, or what is left of it; return the refund, and whether it is new.

        An unnamed one has none of the shop's references.
        """
        with self._store.changing():
            known = self._done("refund", request_id)
            if known is not None:
                return self.refund(known), False
            capture = self.capture(capture_id)
            amount, left = self._refundable(capture, body)
            refund = self._make_refund(capture, amount, body, is_named=is_named)
            self._store.put(
                REFUND,
                refund["id"],
                {"id": refund["id"], "capture": capture_id, "refund": refund},
            )
            self._set_status(capture_id, "REFUNDED" if amount == left else "PARTIALLY_REFUNDED")
            self._remember("refund", request_id, refund["id"])
        self._tell("PAYMENT.CAPTURE.REFUNDED", "refund", refund, Delivery.NORMAL)
        return refund, True

    def fail_refund(self, refund_id: str) -> None:
        """Have a refund returned, as from a bank account that was closed.

        PayPal has no webhook for that: only polling shows it.
        """

        def change(found: dict[str, Any]) -> None:
            found["refund"] |= {
                "status": "FAILED",
                "update_time": wire_time(self._context.now()),
            }

        with self._store.changing():
            if self.refund(refund_id)["status"] != "COMPLETED":
                raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "REFUND_NOT_ALLOWED")
            capture_id = self._store.change(REFUND, refund_id, change)["capture"]
            is_partly = self._given_back(capture_id) > 0
            self._set_status(capture_id, "PARTIALLY_REFUNDED" if is_partly else "COMPLETED")

    def _given_back(self, capture_id: str) -> Decimal:
        refunds = [one["refund"] for one in self._store.find(REFUND, capture=capture_id)]
        alive = (one for one in refunds if one["status"] != "FAILED")
        return sum((Decimal(one["amount"]["value"]) for one in alive), Decimal(0))

    def _refundable(self, capture: Document, body: Document) -> tuple[Decimal, Decimal]:
        """Return the amount to refund, and the refundable amount; raise Refusal."""
        currency = capture["amount"]["currency_code"]
        refusals = {
            "REFUNDED": "CAPTURE_FULLY_REFUNDED",
            "PENDING": "PENDING_CAPTURE",
            "DECLINED": "REFUND_NOT_ALLOWED",
        }
        if capture["status"] in refusals:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, refusals[capture["status"]])
        left = Decimal(capture["amount"]["value"]) - self._given_back(capture["id"])
        requested = body.get("amount")
        if requested is None:
            return left, left
        amount = checked_amount(requested)
        if requested["currency_code"] != currency:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "REFUND_CAPTURE_CURRENCY_MISMATCH")
        if amount > left:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "REFUND_AMOUNT_EXCEEDED")
        return amount, left

    def _make_refund(
        self, capture: Document, amount: Decimal, body: Document, *, is_named: bool = True
    ) -> Document:
        refund_id, now = new_id(), wire_time(self._context.now())
        refund: Document = {
            "id": refund_id,
            "status": "COMPLETED",
            "amount": money(amount, capture["amount"]["currency_code"]),
            "create_time": now,
            "update_time": now,
            "links": [
                link(f"{self._base}/v2/payments/refunds/{refund_id}", "self"),
                link(f"{self._base}/v2/payments/captures/{capture['id']}", "up"),
            ],
        }
        if is_named and self._controls.names_refunds:
            for name in ("custom_id", "invoice_id"):
                value = body.get(name) or capture.get(name)
                refund |= {name: value} if value else {}
        return refund

    def reverse(self, capture_id: str, amount: Decimal | None = None) -> None:
        """Reverse a capture, or a part of it, and send only a webhook about that."""
        capture = self.capture(capture_id)
        count = Decimal(capture["amount"]["value"]) if amount is None else amount
        reversal = self._make_refund(capture, count, {})
        self._tell("PAYMENT.CAPTURE.REVERSED", "refund", reversal, Delivery.NORMAL)

    def refund(self, refund_id: str) -> Document:
        """Return a refund as PayPal shows it."""
        found = self._store.get(REFUND, refund_id)
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "INVALID_RESOURCE_ID")
        refund: Document = found["refund"]
        return refund

    # ── Disputes ──────────────────────────────────────────────────────────────────────────────
    def open_dispute(self, capture_id: str) -> Document:
        """Have the payer's bank open a dispute about a capture."""
        capture, now = self.capture(capture_id), self._context.now()
        number = f"PP-D-{new_id()}"
        dispute: Document = {
            "dispute_id": number,
            "create_time": wire_time(now),
            "update_time": wire_time(now),
            "disputed_transactions": [
                {
                    "seller_transaction_id": capture_id,
                    "buyer_transaction_id": new_id(),
                    "create_time": capture["create_time"],
                    "transaction_status": "COMPLETED",
                    "gross_amount": capture["amount"],
                }
                | ({"custom": capture["custom_id"]} if "custom_id" in capture else {})
            ],
            "reason": "UNAUTHORISED",
            "status": "WAITING_FOR_SELLER_RESPONSE",
            "dispute_amount": capture["amount"],
            "dispute_life_cycle_stage": "CHARGEBACK",
            "dispute_channel": "INTERNAL",
            "seller_response_due_date": wire_time(now + _SELLER_HAS),
            "links": [link(f"{self._base}/v1/customer/disputes/{number}", "self")],
        }
        currency = self._controls.settles_in or capture["amount"]["currency_code"]
        fee = self._controls.dispute_fee(currency)
        if fee is not None:
            taken = documents.movement("DISPUTE_FEE", money(fee, currency), now)
            dispute["money_movements"] = [taken]
        kept = {"id": number, "capture": capture_id, "dispute": dispute}
        self._store.put(DISPUTE, number, kept)
        self._tell("CUSTOMER.DISPUTE.CREATED", "dispute", dispute, Delivery.NORMAL)
        return dispute

    def resolve(
        self,
        number: str,
        outcome_code: str,
        *,
        given: Decimal | None = None,
        reverses: bool = False,
    ) -> None:
        """Close a dispute; a lost one may also reverse the payment in a webhook of its own.

        `given` is the amount refunded to the customer, where that is reported.
        """
        currency = self.dispute(number)["dispute_amount"]["currency_code"]
        outcome: Document = {"outcome_code": outcome_code}
        if given is not None:
            outcome["amount_refunded"] = money(given, currency)

        def change(found: dict[str, Any]) -> None:
            found["dispute"] |= {
                "status": "RESOLVED",
                "update_time": wire_time(self._context.now()),
                "dispute_outcome": outcome,
            }

        with self._store.changing():
            if self.dispute(number)["status"] == "RESOLVED":
                return
            kept = self._store.change(DISPUTE, number, change)
        self._tell("CUSTOMER.DISPUTE.RESOLVED", "dispute", kept["dispute"], Delivery.NORMAL)
        if reverses:
            self.reverse(kept["capture"], Decimal(kept["dispute"]["dispute_amount"]["value"]))

    def appeal(self, number: str) -> None:
        """Have who lost a dispute appeal, so that PayPal looks at it again."""

        def change(found: dict[str, Any]) -> None:
            found["dispute"] |= {
                "status": "UNDER_REVIEW",
                "update_time": wire_time(self._context.now()),
            }

        with self._store.changing():
            if self.dispute(number)["status"] != "RESOLVED":
                raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "ACTION_NOT_ALLOWED")
            kept = self._store.change(DISPUTE, number, change)
        self._tell("CUSTOMER.DISPUTE.UPDATED", "dispute", kept["dispute"], Delivery.NORMAL)

    def dispute(self, number: str) -> Document:
        """Return a dispute as PayPal shows it."""
        found = self._store.get(DISPUTE, number)
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "INVALID_RESOURCE_ID")
        dispute: Document = found["dispute"]
        return dispute

    def disputes(self, capture_id: str | None) -> Document:
        """Return the disputes about a capture, or all, with the fields that lists contain."""
        about = {} if capture_id is None else {"capture": capture_id}
        left_out = {"disputed_transactions", "dispute_outcome"}
        items = [
            {name: value for name, value in kept["dispute"].items() if name not in left_out}
            for kept in self._store.find(DISPUTE, **about)
        ]
        links = [link(f"{self._base}/v1/customer/disputes", "self")]
        return ({"items": items} if items else {}) | {"links": links}
