"""List refunds that wait for finance: of bank transfers, and those never answered by a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import Account, Payment, Refund
from domain.money import Money
from domain.payments.discrepancies import refund_waits_for_person
from domain.permissions import require

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor

MAX_PAYOUTS = 100


@dataclass(frozen=True, slots=True)
class PayoutView:
    """A refund that waits for finance to pay it, or to find out at the gateway whether it was paid.

    People are named as facts name them.
    """

    refund_id: int
    payment_id: int
    payment_reference: str
    account_id: int
    account_name: str
    amount: Money
    gateway: str
    reason: str
    requested_by: str
    requested_at: datetime


def list_payouts(
    session: Session, *, actor: Actor, payment_id: int | None = None
) -> tuple[PayoutView, ...]:
    """Return, for staff, the refunds that wait for a payout, the oldest first."""
    require(actor, "look_up_payments")
    statement = (
        select(Refund, Payment, Account.name)
        .join(Payment, Payment.id == Refund.payment_id)
        .join(Account, Account.id == Refund.account_id)
        .where(refund_waits_for_person())
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
            gateway=payment.gateway,
            reason=refund.reason,
            requested_by=refund.requested_by,
            requested_at=refund.requested_at,
        )
        for refund, payment, name in session.execute(statement)
    )
