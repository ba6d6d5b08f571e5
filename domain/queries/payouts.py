"""Refunds of bank transfers: nobody sends them but finance, who then records the payout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import Account, Payment, Refund
from domain.money import Money
from domain.permissions import require

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from domain.actors import Actor

BANK = "bank"
MAX_PAYOUTS = 100


@dataclass(frozen=True, slots=True)
class PayoutView:
    """A refund that waits to be paid from the bank account; people are named as facts name them."""

    refund_id: int
    payment_id: int
    payment_reference: str
    account_id: int
    account_name: str
    amount: Money
    reason: str
    requested_by: str
    requested_at: datetime


def waits_for_payout() -> ColumnElement[bool]:
    """Return the condition of refunds that finance has to pay from the bank account."""
    return (Refund.gateway == BANK) & Refund.state.in_(("requested", "pending"))


def list_payouts(
    session: Session, *, actor: Actor, payment_id: int | None = None
) -> tuple[PayoutView, ...]:
    """Return, for staff, the refunds that wait for a payout, the oldest first."""
    require(actor, "look_up_payments")
    statement = (
        select(Refund, Payment, Account.name)
        .join(Payment, Payment.id == Refund.payment_id)
        .join(Account, Account.id == Refund.account_id)
        .where(waits_for_payout())
        .order_by(Refund.id)
        .limit(MAX_PAYOUTS)
    )
    if payment_id is not None:
        statement = statement.where(Refund.payment_id == payment_id)
    return tuple(
        PayoutView(
            refund_id=refund.id,
            payment_id=payment.id,
            payment_reference=payment.reference,
            account_id=payment.account_id,
            account_name=name,
            amount=Money(refund.pay_micros, payment.pay_currency),
            reason=refund.reason,
            requested_by=refund.requested_by,
            requested_at=refund.requested_at,
        )
        for refund, payment, name in session.execute(statement)
    )
