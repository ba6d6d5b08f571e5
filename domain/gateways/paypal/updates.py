"""What PayPal's documents say, in our words: orders, captures, refunds, disputes and events.

Documents are read with care whoever they are from: what is missing or of another shape raises
ValueError. Nothing here speaks to anybody.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from domain.errors import BillingError
from domain.gateways.guards import optional_text, positive, readable, required_text, sane_moment
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    Instrument,
    Limits,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
)
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from domain.gateways.interface import GatewayUpdate

Document = dict[str, Any]

MAX_USD, MAX_EUR, MAX_GBP, MAX_JPY = 10_000, 8_000, 5_500, 1_000_000
"""Most of a currency in one payment, in whole units: what PayPal published, a safe choice still.

Today PayPal's own limit depends on the account, and it refuses what lies above.
"""

CURRENCIES: dict[str, int | None] = {
    "AUD": None,
    "BRL": None,
    "CAD": None,
    "CHF": None,
    "CNY": None,
    "CZK": None,
    "DKK": None,
    "EUR": MAX_EUR,
    "GBP": MAX_GBP,
    "HKD": None,
    "HUF": None,
    "ILS": None,
    "JPY": MAX_JPY,
    "MXN": None,
    "MYR": None,
    "NOK": None,
    "NZD": None,
    "PHP": None,
    "PLN": None,
    "SEK": None,
    "SGD": None,
    "THB": None,
    "TWD": None,
    "USD": MAX_USD,
}
"""What PayPal takes, and most of it. BRL, CNY and MYR only into accounts of their countries."""

WITHOUT_DECIMALS = frozenset(("HUF", "JPY", "TWD"))
"""Currencies that PayPal takes in whole units alone, whatever ISO 4217 says of them."""

_DECIMALS = 2
_AMOUNT = re.compile(r"(-?)(\d{1,15}(?:\.\d{1,2})?)", re.ASCII)
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
_DISPUTE_STATES = {
    "RESOLVED_BUYER_FAVOUR": DisputeState.LOST,
    "RESOLVED_BUYER_FAVOR": DisputeState.LOST,
    "ACCEPTED": DisputeState.LOST,
    "RESOLVED_SELLER_FAVOUR": DisputeState.WON,
    "RESOLVED_SELLER_FAVOR": DisputeState.WON,
    "CANCELED_BY_BUYER": DisputeState.WON,
    "DENIED": DisputeState.WON,
    # PayPal bears it: the money stays with us.
    "RESOLVED_WITH_PAYOUT": DisputeState.WON,
}
_UNDECIDED, _NO_OUTCOME = "NONE", "no code"
_SELLER, _DEBIT = "SELLER", "DEBIT"
_DISPUTE_FEES = frozenset(("CHARGEBACK_FEE", "DISPUTE_FEE", "DISPUTE_SETTLEMENT_FEE"))
_BEST_FIRST = (GatewayPaymentState.PAID, GatewayPaymentState.AWAITING, GatewayPaymentState.FAILED)


# ── Amounts ───────────────────────────────────────────────────────────────────────────────────
def limits(currency: str) -> Limits | None:
    """Return what PayPal takes of a currency in one payment, or None where it does not take it."""
    if currency not in CURRENCIES:
        return None
    smallest = Decimal(1).scaleb(-_decimals(currency))
    largest = CURRENCIES[currency]
    return Limits(
        Money.from_decimal(smallest, currency),
        None if largest is None else Money.from_decimal(Decimal(largest), currency),
    )


def wire_amount(amount: Money) -> dict[str, str]:
    """Return an amount as PayPal wants it; raise ValueError where it has too many decimals."""
    exact = amount.to_decimal()
    rounded = exact.quantize(Decimal(1).scaleb(-_decimals(amount.currency)))
    if rounded != exact:
        raise ValueError("too many decimals")
    return {"currency_code": amount.currency, "value": f"{rounded:f}"}


def _decimals(currency: str) -> int:
    return 0 if currency in WITHOUT_DECIMALS else _DECIMALS


def read_amount(found: object) -> Money:
    """Return an amount of a document, without its sign; raise ValueError where it is none."""
    values = _document(found)
    match = _AMOUNT.fullmatch(_text(values.get("value")))
    if match is None:
        raise ValueError("not an amount")
    try:
        amount = Money.from_decimal(Decimal(match[2]), _text(values.get("currency_code")))
        amount.to_minor_units()
    except BillingError:
        raise ValueError("not an amount of its currency") from None
    return amount


# ── Payments ──────────────────────────────────────────────────────────────────────────────────
def order_update(order: Document) -> PaymentUpdate:
    """Return how an order stands: by its capture where it has one, else by its own status."""
    unit = purchase_unit(order)
    reference, order_id = _optional(unit.get("custom_id")), _text(order.get("id"))
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
    state = _ORDER_STATES.get(_text(order.get("status")))
    if state is None:
        raise ValueError("an order of no known status")
    return PaymentUpdate(state, reference=reference, gateway_reference=order_id)


def _payer(order: Document) -> Instrument | None:
    """Return the account at PayPal that paid, by its number: emails can be changed."""
    wallet = _document(_document(order.get("payment_source") or {}).get("paypal") or {})
    payer = _document(order.get("payer") or {})
    number = _optional(wallet.get("account_id")) or _optional(payer.get("payer_id"))
    return None if number is None else Instrument(number, f"PayPal …{number[-_SHOWN_OF_PAYER:]}")


def capture_update(capture: Document) -> PaymentUpdate:
    """Return what a capture says of its payment: all but who paid, which its order says."""
    state = _CAPTURE_STATES.get(_text(capture.get("status")))
    if state is None:
        raise ValueError("a capture of no known status")
    reason = _optional(_document(capture.get("status_details") or {}).get("reason"))
    related = _document(_document(capture.get("supplementary_data") or {}).get("related_ids") or {})
    return PaymentUpdate(
        state=state,
        reference=_optional(capture.get("custom_id")),
        gateway_reference=_optional(related.get("order_id")),
        gateway_payment_id=_text(capture.get("id")),
        amount=read_amount(capture.get("amount")),
        fee=readable(lambda: _fee(capture)),
        occurred_at=_latest(capture),
        code=None if state is GatewayPaymentState.PAID else reason or _text(capture.get("status")),
        method="paypal",
        asking_tells_instrument=state is GatewayPaymentState.PAID,
    )


def _fee(capture: Document) -> Money | None:
    """Return what PayPal keeps, in the currency that it takes it in: the payment's or ours."""
    breakdown = _document(capture.get("seller_receivable_breakdown") or {})
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
    return _document(units[0])


# ── Refunds ───────────────────────────────────────────────────────────────────────────────────
def refund_reference(reference: str) -> str:
    """Return our reference of a refund as PayPal keeps it: a payment's is told from it."""
    return _REFUND_PREFIX + reference


def order_refunds(order: Document) -> Iterator[Document]:
    """Return the refunds that an order has had, for `refund_update`."""
    yield from _payments(purchase_unit(order), "refunds")


def refund_update(refund: Document) -> RefundUpdate:
    """Return what a refund says."""
    custom = _optional(refund.get("custom_id")) or ""
    is_ours = custom.startswith(_REFUND_PREFIX)
    status = _optional(refund.get("status")) or "COMPLETED"
    latest = _latest(refund)
    return RefundUpdate(
        gateway_refund_id=_text(refund.get("id")),
        state=_REFUND_STATES.get(status, RefundState.PENDING),
        amount=positive(read_amount(refund.get("amount"))),
        gateway_payment_id=_capture_id(refund),
        payment_reference=None if is_ours else custom or None,
        reference=custom.removeprefix(_REFUND_PREFIX) or None if is_ours else None,
        occurred_at=_first(refund) or latest,
        stated_at=latest,
    )


def _capture_id(refund: Document) -> str | None:
    """Return which capture a refund is of, by its link upwards or, of a reversal, to itself."""
    links = {
        _text(link.get("rel")): _text(link.get("href"))
        for link in map(_document, _list(refund.get("links")))
    }
    for rel in ("up", "self"):
        before, found, after = links.get(rel, "").rpartition("/captures/")
        if before and found and after.isascii() and after.isalnum():
            return after
    return None


# ── Disputes ──────────────────────────────────────────────────────────────────────────────────
def dispute_updates(dispute: Document) -> tuple[DisputeUpdate, ...]:
    """Return what a dispute says, once for each payment that it is about.

    Where there are several, each has its own amount, a name of its own, and its share of what the
    customer was given; PayPal's fee stands at the first. There may be one first and several later.
    """
    number = _text(dispute.get("dispute_id"))
    due = _optional(dispute.get("seller_response_due_date"))
    transactions = [_document(one) for one in _list(dispute.get("disputed_transactions"))]
    is_one = len(transactions) == 1
    amounts = [
        positive(read_amount(dispute.get("dispute_amount") if is_one else one.get("gross_amount")))
        for one in transactions
    ]
    fee, latest = readable(lambda: _dispute_fee(dispute)), _latest(dispute)
    updates = []
    for place, (transaction, amount) in enumerate(zip(transactions, amounts, strict=True)):
        capture = _text(transaction.get("seller_transaction_id"))
        state, lost = _dispute_end(dispute, amounts, place)
        names = number, _text(f"{number}:{capture}")
        updates.append(
            DisputeUpdate(
                gateway_dispute_id=names[0] if is_one else names[1],
                other_dispute_id=names[1] if is_one else names[0],
                state=state,
                amount=amount,
                lost=lost,
                gateway_payment_id=capture,
                payment_reference=_optional(transaction.get("custom")),
                reason=_optional(dispute.get("reason")),
                respond_by=None if due is None else _moment(due),
                occurred_at=_first(dispute) or latest,
                stated_at=latest,
                fee=None if place else fee,
                unknown_outcome=_unknown_outcome(dispute, state),
            )
        )
    return tuple(updates)


def _unknown_outcome(dispute: Document, state: DisputeState) -> str | None:
    """Return the code of a dispute that is resolved, and by its code still open; else None."""
    if dispute.get("status") != "RESOLVED" or state is not DisputeState.OPEN:
        return None
    outcome = _document(dispute.get("dispute_outcome") or {})
    return _optional(outcome.get("outcome_code")) or _NO_OUTCOME


def dispute_numbers(found: Document) -> list[str]:
    """Return the names of the disputes of a list."""
    return [_text(_document(one).get("dispute_id")) for one in _list(found.get("items") or [])]


def _dispute_end(
    dispute: Document, amounts: list[Money], place: int
) -> tuple[DisputeState, Money | None]:
    """Return how a dispute stands for one of its payments, and which part of it was lost.

    OPEN until it is resolved in a way that is known: a person looks at what is not. A dispute that
    was lost and gave the customer nothing is won, and one that was closed without a decision is
    what was given. Of what PayPal bears itself we lose nothing.
    """
    if dispute.get("status") != "RESOLVED":
        return DisputeState.OPEN, None
    outcome = _document(dispute.get("dispute_outcome") or {})
    code, given = _optional(outcome.get("outcome_code")), outcome.get("amount_refunded")
    state = _DISPUTE_STATES.get(code or "", DisputeState.OPEN)
    if code == _UNDECIDED:
        state = DisputeState.WON if given is None else DisputeState.LOST
    if state is not DisputeState.LOST or given is None:
        return state, None
    refunded = read_amount(given)
    if any(amount.currency != refunded.currency for amount in amounts):
        return state, None
    lost = _share(refunded, amounts, place)
    if not lost.micros:
        return DisputeState.WON, None
    return state, None if lost == amounts[place] else lost


def _share(given: Money, amounts: list[Money], place: int) -> Money:
    """Return how much of what was given back is of one amount: the shares add up to the whole."""
    counts = [amount.to_minor_units() for amount in amounts]
    total, before = sum(counts), sum(counts[:place])
    whole = min(total, given.to_minor_units())
    share = whole * (before + counts[place]) // total - whole * before // total
    return Money.from_minor_units(share, given.currency)


def _dispute_fee(dispute: Document) -> Money | None:
    """Return what PayPal charged us for a dispute so far, less what it gave back of that."""
    moved = [_document(one) for one in _list(dispute.get("money_movements") or [])]
    fees = [
        (read_amount(one.get("amount")), one.get("type") == _DEBIT)
        for one in moved
        if one.get("affected_party") == _SELLER and one.get("reason") in _DISPUTE_FEES
    ]
    currencies = {amount.currency for amount, _is_debit in fees}
    if len(currencies) != 1:
        return None
    total = sum(amount.micros if is_debit else -amount.micros for amount, is_debit in fees)
    return Money(max(0, total), currencies.pop())


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
    text = _optional(sent_at)
    moment = None if text is None else readable(lambda: _moment(text))
    return tuple(_timed(update, moment) for update in read(_document(resource)))


def _timed(update: GatewayUpdate, moment: datetime | None) -> GatewayUpdate:
    if isinstance(update, PaymentUpdate):
        is_known = update.occurred_at is not None or update.gateway_payment_id is None
        return update if is_known else replace(update, occurred_at=moment)
    stated_at = update.stated_at or moment
    return replace(update, occurred_at=update.occurred_at or stated_at, stated_at=stated_at)


def _approved(order: Document) -> tuple[GatewayUpdate, ...]:
    reference = _optional(purchase_unit(order).get("custom_id"))
    order_id = _text(order.get("id"))
    return (
        PaymentUpdate(
            GatewayPaymentState.APPROVED, reference=reference, gateway_reference=order_id
        ),
    )


def _given_up(approval: Document) -> tuple[GatewayUpdate, ...]:
    reference = _optional(purchase_unit(approval).get("custom_id"))
    order_id = _text(approval.get("order_id") or approval.get("id"))
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
def _document(found: object) -> Document:
    if not isinstance(found, dict):
        raise ValueError("not a document")  # noqa: TRY004 - what is read is wrong, not the call
    return found


def _list(found: object) -> list[object]:
    if not isinstance(found, list):
        raise ValueError("not a list")  # noqa: TRY004 - as above
    return found


_text, _optional = required_text, optional_text


def _payments(unit: Document, kind: str) -> list[Document]:
    payments = _document(unit.get("payments") or {})
    return [_document(one) for one in _list(payments.get(kind) or [])]


def _latest(found: Document) -> datetime | None:
    text = _optional(found.get("update_time")) or _optional(found.get("create_time"))
    return None if text is None else _moment(text)


def _first(found: Document) -> datetime | None:
    text = _optional(found.get("create_time"))
    return None if text is None else _moment(text)


def _moment(text: str) -> datetime:
    """Return a moment; raise ValueError where it is none, or of no time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return sane_moment(moment)
