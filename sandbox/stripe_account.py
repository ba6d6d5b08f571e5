"""The account of the Stripe sandbox: its objects, and the events about them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from sandbox.stripe_payments import (
    CHARGE,
    DISPUTE,
    REFUND,
    ZERO_DECIMAL,
    Payments,
    Refusal,
    minor,
    new_id,
)
from sandbox.webhook_sender import Delivery

if TYPE_CHECKING:
    from sandbox.store import Document

_HARMLESS = frozenset(("won", "warning_needs_response", "warning_closed"))

_DUE_IN = timedelta(days=7)


def words(count: int, currency: str) -> str:
    """Return an amount of minor units as people read it."""
    if currency in ZERO_DECIMAL:
        return f"{count:,} {currency.upper()}"
    return f"{count // 100:,}.{count % 100:02} {currency.upper()}"


def whole_number(given: Document, name: str, default: int, param: str | None = None) -> int:
    """Return a parameter that is a count; refuse a text that is not a whole number."""
    text = str(given.get(name, default))
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII):
        message = f"Invalid integer: {text}"
        raise Refusal("parameter_invalid_integer", message, param=param or name)
    return int(text)


class Account(Payments):
    """Sessions, payments, refunds and disputes, and the events about them."""

    # ── Refunds ───────────────────────────────────────────────────────────────────────────────
    def refund(
        self,
        charge: Document,
        amount: int | None,
        metadata: Document,
        delivery: Delivery = Delivery.NORMAL,
    ) -> Document:
        """Refund a payment: at once by card, later where the customer must name an account."""
        self._check_refundable(charge, amount)
        left = charge["amount"] - charge["amount_refunded"]
        given_back = left if amount is None else amount
        is_at_once = charge["payment_method_details"]["type"] == "card"
        refund = {
            "id": new_id("re"),
            "object": "refund",
            "amount": given_back,
            "charge": charge["id"],
            "created": self.now(),
            "currency": charge["currency"],
            "failure_reason": None,
            "metadata": metadata if self.controls.names_refunds else {},
            "payment_intent": charge["payment_intent"],
            "reason": None,
            "status": "succeeded" if is_at_once else "pending",
        }
        self.store.put(REFUND, refund["id"], refund)
        charge = self._add_refunded(charge["id"], given_back)
        self.tell("refund.created", refund, delivery)
        self.tell("charge.refunded", charge, delivery)
        return refund

    def _check_refundable(self, charge: Document, amount: int | None) -> None:
        if amount is not None and amount < 1:
            message = "This value must be greater than or equal to 1."
            raise Refusal("parameter_invalid_integer", message, param="amount")
        left = charge["amount"] - charge["amount_refunded"]
        if charge["status"] != "succeeded":
            raise Refusal(
                "payment_intent_unexpected_state",
                "This payment has no successful charge to refund.",
                kept=True,
            )
        if any(one["status"] not in _HARMLESS for one in self.disputes(charge)):
            message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
            raise Refusal("charge_disputed", message, kept=True)
        if left == 0:
            message = f"Charge {charge['id']} has already been refunded."
            raise Refusal("charge_already_refunded", message, kept=True)
        if amount is not None and amount > left:
            message = f"Refund amount ({amount}) is greater than unrefunded amount ({left})."
            raise Refusal(None, message, param="amount", kept=True)

    def _add_refunded(self, charge: str, amount: int) -> Document:
        def add(found: Document) -> None:
            found["amount_refunded"] += amount
            found["refunded"] = found["amount_refunded"] == found["amount"]

        return self.store.change(CHARGE, charge, add)

    def settle_refund(self, refund: Document, delivery: Delivery) -> None:
        """Let a refund that waits arrive."""
        refund = self.change(REFUND, refund["id"], status="succeeded")
        self.tell("refund.updated", refund, delivery)

    def fail_refund(self, refund: Document, delivery: Delivery) -> None:
        """Have a refund returned, as from an account that was closed."""
        refund = self.change(
            REFUND,
            refund["id"],
            failure_reason="lost_or_stolen_card",
            status="failed",
        )
        self._add_refunded(refund["charge"], -refund["amount"])
        self.tell("refund.updated", refund, delivery)
        self.tell("refund.failed", refund, delivery)

    # ── Disputes ──────────────────────────────────────────────────────────────────────────────
    def disputes(self, charge: Document) -> list[Document]:
        """Return the disputes about a charge, oldest first."""
        return self.store.find(DISPUTE, charge=charge["id"])

    def open_dispute(
        self, charge: Document, delivery: Delivery, *, is_inquiry: bool = False
    ) -> None:
        """Have the customer's bank open a dispute, or only an inquiry."""
        due_by = self.now() + int(_DUE_IN.total_seconds())
        dispute = {
            "id": new_id("du"),
            "object": "dispute",
            "amount": charge["amount"],
            "balance_transactions": [],
            "charge": charge["id"],
            "created": self.now(),
            "currency": charge["currency"],
            "evidence_details": {"due_by": due_by, "has_evidence": False},
            "is_charge_refundable": False,
            "livemode": False,
            "metadata": {},
            "payment_intent": charge["payment_intent"],
            "reason": "fraudulent",
            "status": "warning_needs_response" if is_inquiry else "needs_response",
        } | ({"is_charge_refundable": True} if is_inquiry else {})
        self.store.put(DISPUTE, dispute["id"], dispute)
        if is_inquiry:
            self.tell("charge.dispute.created", dispute, delivery)
            return
        dispute = self._withdraw(dispute)
        self.tell("charge.dispute.created", dispute, delivery)
        self.change(CHARGE, charge["id"], disputed=True)
        self.tell("charge.dispute.funds_withdrawn", dispute, delivery)

    def escalate(self, charge: Document, dispute: Document, delivery: Delivery) -> None:
        """Turn an inquiry into a dispute, which debits the amount."""
        self.change(DISPUTE, dispute["id"], status="needs_response", is_charge_refundable=False)
        dispute = self._withdraw(dispute)
        self.change(CHARGE, charge["id"], disputed=True)
        self.tell("charge.dispute.updated", dispute, delivery)
        self.tell("charge.dispute.funds_withdrawn", dispute, delivery)

    def _withdraw(self, dispute: Document) -> Document:
        """Debit a dispute's amount from the balance, and its fee the first time."""
        amount, currency = self._settled(dispute["amount"], dispute["currency"])
        cost = self.controls.dispute_fee(currency.upper())
        is_first = not dispute["balance_transactions"]
        fee = minor(cost, currency) if cost is not None and is_first else 0
        return self._move(dispute, -amount, currency, fee)

    def _reinstate(self, dispute: Document, count: int) -> Document:
        """Put a part of a dispute's amount back into the balance."""
        return self._move(dispute, *self._settled(count, dispute["currency"]))

    def _move(self, dispute: Document, amount: int, currency: str, fee: int = 0) -> Document:
        booked = self._book("adjustment", amount, currency, fee)
        return self.store.change(
            DISPUTE, dispute["id"], lambda found: found["balance_transactions"].append(booked)
        )

    def close_dispute(
        self, dispute: Document, status: str, delivery: Delivery, lost: int | None = None
    ) -> None:
        """Have the bank decide: won or lost, or an inquiry closed.

        Of one that is lost, `lost` is how much of it where that is not all.
        """
        back = dispute["amount"] if status == "won" else 0
        if status == "lost" and lost is not None:
            if not 0 < lost < dispute["amount"]:
                raise Refusal(None, f"From 1 to {dispute['amount'] - 1}.", param="amount")
            back = dispute["amount"] - lost
        dispute = self.change(DISPUTE, dispute["id"], status=status)
        if back:
            dispute = self._reinstate(dispute, back)
        self.tell("charge.dispute.closed", dispute, delivery)
        if back:
            self.tell("charge.dispute.funds_reinstated", dispute, delivery)

    def give_in(self, dispute: Document, delivery: Delivery) -> None:
        """Have the bank return the money, and send only an event about that."""
        self.change(DISPUTE, dispute["id"], status="won")
        dispute = self._reinstate(dispute, dispute["amount"])
        self.tell("charge.dispute.funds_reinstated", dispute, delivery)

    def appeal(self, dispute: Document, delivery: Delivery) -> None:
        """Have the loser of a dispute appeal: only the customer's appeal debits the money again."""
        if dispute["status"] == "lost":
            dispute = self.change(DISPUTE, dispute["id"], status="appeal_under_review")
            self.tell("charge.dispute.updated", dispute, delivery)
            return
        self.change(DISPUTE, dispute["id"], status="under_review")
        dispute = self._withdraw(dispute)
        self.tell("charge.dispute.updated", dispute, delivery)
        self.tell("charge.dispute.funds_withdrawn", dispute, delivery)
