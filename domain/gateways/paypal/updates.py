"""Translate PayPal's documents into our updates: orders, captures, refunds, disputes and events.

Documents are read with care whatever their source: what is missing or of another shape raises
ValueError. Nothing here uses the network.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from domain.gateways.guards import optional_text, positive, readable, required_text
from domain.gateways.interface import (
    GatewayPaymentState,
    Instrument,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
)
from domain.gateways.paypal.disputes import dispute_updates
from domain.gateways.paypal.documents import (
    Document,
    read_amount,
    read_creation,
    read_document,
    read_latest_change,
    read_list,
    read_moment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from domain.gateways.interface import GatewayUpdate
    from domain.money import Money


_REFUND_PREFIX = "refund-"
_SHOWN_OF_PAYER = 3

_CAPTURE_STATES = {
    "COMPLETED": GatewayPaymentState.PAID,
    "PARTIALLY_REFUNDED": GatewayPaymentState.PAID,
    "REFUNDED": GatewayPaymentState.PAID,
    "PENDING": GatewayPaymentState.AWAITING,
    "DECLINED": GatewayPaymentState.FAILED,
    "FAILED": GatewayPaymentState.FAILED,
}
_ORDER_STATES = {
    "CREATED": GatewayPaymentState.OPEN,
    "SAVED": GatewayPaymentState.OPEN,
    "PAYER_ACTION_REQUIRED": GatewayPaymentState.OPEN,
    "APPROVED": GatewayPaymentState.APPROVED,
    "VOIDED": GatewayPaymentState.CANCELLED,
}
_REFUND_STATES = {
    "COMPLETED": RefundState.SUCCEEDED,
    "PENDING": RefundState.PENDING,
    "FAILED": RefundState.FAILED,
    "CANCELLED": RefundState.FAILED,
}
_BEST_FIRST = (GatewayPaymentState.PAID, GatewayPaymentState.AWAITING, GatewayPaymentState.FAILED)


# ── Payments ──────────────────────────────────────────────────────────────────────────────────
def order_update(order: Document) -> PaymentUpdate:
    """Return how an order stands: by its capture where it has one, else by its own status."""
    unit = purchase_unit(order)
    reference, order_id = optional_text(unit.get("custom_id")), required_text(order.get("id"))
    found = [capture_update(capture) for capture in _payments(unit, "captures")]
    if found:
        best = min(reversed(found), key=lambda update: _BEST_FIRST.index(update.state))
        is_paid = best.state is GatewayPaymentState.PAID
        return replace(
            best,
            reference=best.reference or reference,
            gateway_reference=order_id,
            instrument=readable(lambda: _payer(order)) if is_paid else None,
            asking_tells_instrument=False,
        )
    state = _ORDER_STATES.get(required_text(order.get("status")))
    if state is None:
        raise ValueError("an order of no known status")
    return PaymentUpdate(state, reference=reference, gateway_reference=order_id)


def _payer(order: Document) -> Instrument | None:
    """Return the account at PayPal that paid, by its number: emails can be changed."""
    wallet = read_document(read_document(order.get("payment_source") or {}).get("paypal") or {})
    payer = read_document(order.get("payer") or {})
    number = optional_text(wallet.get("account_id")) or optional_text(payer.get("payer_id"))
    return None if number is None else Instrument(number, f"PayPal …{number[-_SHOWN_OF_PAYER:]}")


def capture_update(capture: Document) -> PaymentUpdate:
    """Return what a capture says of its payment: all but who paid, which its order says."""
    state = _CAPTURE_STATES.get(required_text(capture.get("status")))
    if state is None:
        raise ValueError("a capture of no known status")
    reason = optional_text(read_document(capture.get("status_details") or {}).get("reason"))
    related = read_document(
        read_document(capture.get("supplementary_data") or {}).get("related_ids") or {}
    )
    return PaymentUpdate(
        state=state,
        reference=optional_text(capture.get("custom_id")),
        gateway_reference=optional_text(related.get("order_id")),
        gateway_payment_id=required_text(capture.get("id")),
        amount=read_amount(capture.get("amount")),
        fee=readable(lambda: _fee(capture)),
        occurred_at=read_latest_change(capture),
        code=None
        if state is GatewayPaymentState.PAID
        else reason or required_text(capture.get("status")),
        method="paypal",
        asking_tells_instrument=state is GatewayPaymentState.PAID,
    )


def _fee(capture: Document) -> Money | None:
    """Return what PayPal keeps, in the currency that it takes it in: the payment's or ours."""
    breakdown = read_document(capture.get("seller_receivable_breakdown") or {})
    fee = breakdown.get("paypal_fee_in_receivable_currency") or breakdown.get("paypal_fee")
    return None if fee is None else read_amount(fee)


def captures_of(order: Document) -> tuple[str, ...]:
    """Return the names of the captures that brought an order's money."""
    found = map(capture_update, _payments(purchase_unit(order), "captures"))
    return tuple(
        update.gateway_payment_id
        for update in found
        if update.state is GatewayPaymentState.PAID and update.gateway_payment_id is not None
    )


def purchase_unit(order: Document) -> Document:
    """Return the one thing that an order is about; raise ValueError where there is none."""
    units = order.get("purchase_units")
    if not isinstance(units, list) or len(units) != 1:
        raise ValueError("an order of another shape")
    return read_document(units[0])


# ── Refunds ───────────────────────────────────────────────────────────────────────────────────
def refund_reference(reference: str) -> str:
    """Return our reference of a refund as PayPal keeps it: a payment's is told from it."""
    return _REFUND_PREFIX + reference


def order_refunds(order: Document) -> Iterator[Document]:
    """Return the refunds that an order has had, for `refund_update`."""
    yield from _payments(purchase_unit(order), "refunds")


def refund_update(refund: Document) -> RefundUpdate:
    """Return what a refund says."""
    custom = optional_text(refund.get("custom_id")) or ""
    is_ours = custom.startswith(_REFUND_PREFIX)
    status = optional_text(refund.get("status")) or "COMPLETED"
    latest = read_latest_change(refund)
    return RefundUpdate(
        gateway_refund_id=required_text(refund.get("id")),
        state=_REFUND_STATES.get(status, RefundState.PENDING),
        amount=positive(read_amount(refund.get("amount"))),
        gateway_payment_id=_capture_id(refund),
        payment_reference=None if is_ours else custom or None,
        reference=custom.removeprefix(_REFUND_PREFIX) or None if is_ours else None,
        occurred_at=read_creation(refund) or latest,
        stated_at=latest,
    )


def _capture_id(refund: Document) -> str | None:
    """Return which capture a refund is of, by its link upwards or, of a reversal, to itself."""
    links = {
        required_text(link.get("rel")): required_text(link.get("href"))
        for link in map(read_document, read_list(refund.get("links")))
    }
    for rel in ("up", "self"):
        before, found, after = links.get(rel, "").rpartition("/captures/")
        if before and found and after.isascii() and after.isalnum():
            return after
    return None


# ── Events ────────────────────────────────────────────────────────────────────────────────────
def event_updates(
    event_type: str, resource: object, sent_at: object = None
) -> tuple[GatewayUpdate, ...]:
    """Return what an event says; nothing where it is of no interest. Raises ValueError.

    `sent_at` is the event's own time, and counts where its resource has none.
    """
    read = _EVENTS.get(event_type)
    if read is None:
        return ()
    text = optional_text(sent_at)
    moment = None if text is None else readable(lambda: read_moment(text))
    return tuple(_timed(update, moment) for update in read(read_document(resource)))


def _timed(update: GatewayUpdate, moment: datetime | None) -> GatewayUpdate:
    if isinstance(update, PaymentUpdate):
        is_known = update.occurred_at is not None or update.gateway_payment_id is None
        return update if is_known else replace(update, occurred_at=moment)
    stated_at = update.stated_at or moment
    return replace(update, occurred_at=update.occurred_at or stated_at, stated_at=stated_at)


def _approved(order: Document) -> tuple[GatewayUpdate, ...]:
    reference = optional_text(purchase_unit(order).get("custom_id"))
    order_id = required_text(order.get("id"))
    return (
        PaymentUpdate(
            GatewayPaymentState.APPROVED, reference=reference, gateway_reference=order_id
        ),
    )


def _given_up(approval: Document) -> tuple[GatewayUpdate, ...]:
    reference = optional_text(purchase_unit(approval).get("custom_id"))
    order_id = required_text(approval.get("order_id") or approval.get("id"))
    update = PaymentUpdate(
        GatewayPaymentState.EXPIRED,
        reference=reference,
        gateway_reference=order_id,
        code="PAYMENT-APPROVAL.REVERSED",
    )
    return (update,)


def _captured(capture: Document) -> tuple[GatewayUpdate, ...]:
    return (capture_update(capture),)


def _denied(capture: Document) -> tuple[GatewayUpdate, ...]:
    # The event decides: PayPal's own word for the status of a denied capture has changed. It also
    # comes for one that was completed: the money then is gone again.
    update = capture_update({**capture, "status": "DECLINED"})
    return (update,)


def _given_back(refund: Document) -> tuple[GatewayUpdate, ...]:
    return (refund_update(refund),)


def _reversed(reversal: Document) -> tuple[GatewayUpdate, ...]:
    # A reversal has happened, whatever word its status is; a capture's own may stand there, whose
    # beginning is that of the payment.
    update = refund_update({**reversal, "status": "COMPLETED"})
    return (replace(update, is_reversal=True, occurred_at=update.stated_at),)


def _refund_failed(refund: Document) -> tuple[GatewayUpdate, ...]:
    return (refund_update({**refund, "status": "FAILED"}),)


def _refund_pending(refund: Document) -> tuple[GatewayUpdate, ...]:
    return (refund_update({**refund, "status": "PENDING"}),)


_EVENTS: dict[str, Callable[[Document], tuple[GatewayUpdate, ...]]] = {
    "CHECKOUT.ORDER.APPROVED": _approved,
    "CHECKOUT.PAYMENT-APPROVAL.REVERSED": _given_up,
    "PAYMENT.CAPTURE.COMPLETED": _captured,
    "PAYMENT.CAPTURE.PENDING": _captured,
    "PAYMENT.CAPTURE.DENIED": _denied,
    "PAYMENT.CAPTURE.DECLINED": _denied,
    "PAYMENT.CAPTURE.REFUNDED": _given_back,
    "PAYMENT.CAPTURE.REVERSED": _reversed,
    # PayPal's list of events lacks these four, and some accounts are sent them.
    "PAYMENT.REFUND.COMPLETED": _given_back,
    "PAYMENT.REFUND.PENDING": _refund_pending,
    "PAYMENT.REFUND.FAILED": _refund_failed,
    "PAYMENT.REFUND.CANCELLED": _refund_failed,
    "CUSTOMER.DISPUTE.CREATED": dispute_updates,
    "CUSTOMER.DISPUTE.UPDATED": dispute_updates,
    "CUSTOMER.DISPUTE.RESOLVED": dispute_updates,
}


# ── Shapes ────────────────────────────────────────────────────────────────────────────────────


def _payments(unit: Document, kind: str) -> list[Document]:
    payments = read_document(unit.get("payments") or {})
    return [read_document(one) for one in read_list(payments.get(kind) or [])]
