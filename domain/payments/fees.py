"""Fees that gateways take for payments and disputes, posted once and by their differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.gateways.interface import Outcome
from domain.ledger import chart_of_accounts as chart
from domain.money import Money
from domain.payments.records import add_event, cash_account, count_events, post_gateway_money

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.models import Dispute, Payment
    from domain.actors import Actor
    from domain.gateways.interface import DisputeUpdate, PaymentUpdate

_EXPENSES = {"gateway_fee": chart.GATEWAY_FEES.code, "dispute_fee": chart.DISPUTE_FEES.code}


def book_payment_fee(
    session: Session, payment: Payment, update: PaymentUpdate, actor: Actor
) -> None:
    """Post the gateway's fee once it is reported, or the difference since."""
    fee = update.fee
    if fee is None or (payment.fee_micros, payment.fee_currency) == (fee.micros, fee.currency):
        return
    known, currency = payment.fee_micros or 0, payment.fee_currency
    key = f"fee:{payment.reference}"
    if payment.fee_micros is not None:
        add_event(session, payment, "fee_changed", actor=actor, details={"fee": fee.micros})
        session.flush()
        key += f":{count_events(session, payment, 'fee_changed')}"
    if currency not in {None, fee.currency}:
        reversed_fee = Money(-known, currency or "")
        _post(session, payment, "gateway_fee", reversed_fee, key=f"{key}:undone", actor=actor)
        known = 0
    change = Money(fee.micros - known, fee.currency)
    _post(session, payment, "gateway_fee", change, key=key, actor=actor)
    payment.fee_micros, payment.fee_currency = fee.micros, fee.currency


def book_dispute_fee(
    session: Session, payment: Payment, dispute: Dispute, update: DisputeUpdate, actor: Actor
) -> Outcome:
    """Post what the gateway charges for the dispute, or the difference to what it said before.

    It is charged for every dispute, won or lost, also where the money was not credited.
    """
    if update.fee is None:
        return Outcome.REPEATED
    if dispute.fee_currency not in {None, update.fee.currency}:
        _post_dispute_fee(session, payment, dispute, -dispute.fee_micros, actor)
        dispute.fee_micros = 0
    change = update.fee.micros - dispute.fee_micros
    if change == 0:
        return Outcome.REPEATED
    dispute.fee_currency = update.fee.currency
    _post_dispute_fee(session, payment, dispute, change, actor)
    dispute.fee_micros = update.fee.micros
    return Outcome.RECORDED


def _post_dispute_fee(
    session: Session, payment: Payment, dispute: Dispute, micros: int, actor: Actor
) -> None:
    if micros == 0 or dispute.fee_currency is None:
        return
    dispute.revision += 1
    key = f"dispute:{dispute.id}:{dispute.revision}:fee"
    fee = Money(micros, dispute.fee_currency)
    _post(session, payment, "dispute_fee", fee, key=key, actor=actor)


def _post(
    session: Session, payment: Payment, kind: str, fee: Money, *, key: str, actor: Actor
) -> None:
    """Post a fee out of the gateway's account, or back into it where it is negative."""
    if not fee.micros:
        return
    debit, credit = _EXPENSES[kind], cash_account(payment)
    if fee.micros < 0:
        debit, credit = credit, debit
    post_gateway_money(
        session,
        payment,
        kind=kind,
        debit=debit,
        credit=credit,
        amount=Money(abs(fee.micros), fee.currency),
        key=key,
        actor=actor,
    )
