"""Read PayPal's disputes: the state of each, and the share of the money that is disputed."""

from __future__ import annotations

from domain.gateways.guards import optional_text, positive, readable, required_text
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
)
from domain.gateways.paypal.documents import (
    Document,
    read_amount,
    read_creation,
    read_document,
    read_latest_change,
    read_list,
    read_moment,
)
from domain.money import Money

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


def dispute_updates(dispute: Document) -> tuple[DisputeUpdate, ...]:
    """Return what a dispute says, once for each payment that it is about.

    Where there are several, each has its own amount, a name of its own, and its share of what the
    customer was given; PayPal's fee stands at the first. There may be one first and several later.
    """
    number = required_text(dispute.get("dispute_id"))
    due = optional_text(dispute.get("seller_response_due_date"))
    transactions = [read_document(one) for one in read_list(dispute.get("disputed_transactions"))]
    is_one = len(transactions) == 1
    amounts = [
        positive(read_amount(dispute.get("dispute_amount") if is_one else one.get("gross_amount")))
        for one in transactions
    ]
    fee, latest = readable(lambda: _dispute_fee(dispute)), read_latest_change(dispute)
    updates = []
    for place, (transaction, amount) in enumerate(zip(transactions, amounts, strict=True)):
        capture = required_text(transaction.get("seller_transaction_id"))
        state, lost = _dispute_end(dispute, amounts, place)
        names = number, required_text(f"{number}:{capture}")
        updates.append(
            DisputeUpdate(
                gateway_dispute_id=names[0] if is_one else names[1],
                other_dispute_id=names[1] if is_one else names[0],
                state=state,
                amount=amount,
                lost=lost,
                gateway_payment_id=capture,
                payment_reference=optional_text(transaction.get("custom")),
                reason=optional_text(dispute.get("reason")),
                respond_by=None if due is None else read_moment(due),
                occurred_at=read_creation(dispute) or latest,
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
    outcome = read_document(dispute.get("dispute_outcome") or {})
    return optional_text(outcome.get("outcome_code")) or _NO_OUTCOME


def dispute_numbers(found: Document) -> list[str]:
    """Return the names of the disputes of a list."""
    return [
        required_text(read_document(one).get("dispute_id"))
        for one in read_list(found.get("items") or [])
    ]


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
    outcome = read_document(dispute.get("dispute_outcome") or {})
    code, given = optional_text(outcome.get("outcome_code")), outcome.get("amount_refunded")
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
    """Return one amount's share of the money that was refunded: the shares add up to all of it."""
    counts = [amount.to_minor_units() for amount in amounts]
    total, before = sum(counts), sum(counts[:place])
    whole = min(total, given.to_minor_units())
    share = whole * (before + counts[place]) // total - whole * before // total
    return Money.from_minor_units(share, given.currency)


def _dispute_fee(dispute: Document) -> Money | None:
    """Return what PayPal charged us for a dispute so far, less what it refunded of that."""
    moved = [read_document(one) for one in read_list(dispute.get("money_movements") or [])]
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
