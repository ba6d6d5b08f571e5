"""Post the fees that a gateway takes for a dispute, once and by their differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.gateways.interface import DisputeUpdate, Outcome
from domain.ledger import chart_of_accounts as chart
from domain.money import Money
from domain.payments.records import (
    cash_account,
    post_gateway_money,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.models import Dispute, Payment
    from domain.actors import Actor


def book_dispute_fee(
    session: Session, payment: Payment, dispute: Dispute, update: DisputeUpdate, actor: Actor
) -> Outcome:
    """Post what the gateway charges for the dispute, or the difference to what it said before.

    It is charged for every dispute, won or lost, also where the money was not credited.
    """
    if update.fee is None:
        return Outcome.REPEATED
    if dispute.fee_currency not in {None, update.fee.currency}:
        _post_fee(session, payment, dispute, -dispute.fee_micros, actor)
        dispute.fee_micros = 0
    change = update.fee.micros - dispute.fee_micros
    if change == 0:
        return Outcome.REPEATED
    dispute.fee_currency = update.fee.currency
    _post_fee(session, payment, dispute, change, actor)
    dispute.fee_micros = update.fee.micros
    return Outcome.RECORDED


def _post_fee(
    session: Session, payment: Payment, dispute: Dispute, micros: int, actor: Actor
) -> None:
    if micros == 0 or dispute.fee_currency is None:
        return
    dispute.revision += 1
    fees, cash = chart.DISPUTE_FEES.code, cash_account(payment)
    post_gateway_money(
        session,
        payment,
        kind="dispute_fee",
        debit=fees if micros > 0 else cash,
        credit=cash if micros > 0 else fees,
        amount=Money(abs(micros), dispute.fee_currency),
        key=f"dispute:{dispute.id}:{dispute.revision}:fee",
        actor=actor,
    )
