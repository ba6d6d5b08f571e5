"""Grant credit for money received, once and no more than was paid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.bulk import fetch_rows, insert_statement, update_statement
from db.models import Dispute, Payment, PaymentState, Refund
from domain import audit, clock, fraud_signals, ledger
from domain.gateways.registry import BANK
from domain.payments.check_schedule import next_check
from domain.payments.disputes import apply_kept_dispute
from domain.payments.outflows import STANDING_REFUNDS, is_booked
from domain.payments.records import grant_terms
from domain.payments.refund_updates import apply_kept_refund
from domain.payments.starter_packs import give_packs, lock_packs

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from db.bulk import Statement
    from domain.actors import Actor
    from domain.gateways.interface import PaymentUpdate


_BEFORE_CREDIT = """
SELECT clock_timestamp(),
  EXISTS (
    SELECT FROM payments WHERE gateway = %(gateway)s AND gateway_payment_id = %(gateway_payment_id)s
      AND id <> %(payment_id)s),
  EXISTS (SELECT FROM refunds WHERE payment_id = %(payment_id)s)
    OR EXISTS (SELECT FROM disputes WHERE payment_id = %(payment_id)s),
  EXISTS (SELECT FROM campaigns WHERE trigger = 'first_top_up' AND state = 'approved')
"""
_CREDIT_COLUMNS = (
    "account_id",
    "payment_id",
    "number",
    "entry_sequence",
    "credit_micros",
    "pay_micros",
    "posted_at",
)


MAX_TRANSFER_TIME = timedelta(days=366)
"""How long before its approval a bank transfer may have come."""
STEP_COLUMNS = ("account_id", "payment_id", "kind", "actor", "details")


def credit_money(session: Session, payment: Payment, update: PaymentUpdate, actor: Actor) -> None:
    """Grant a locked payment's credit, in the transaction that records its money as received."""
    found = find_before_credit(session, payment, update.gateway_payment_id)
    credit(session, payment, update, found, actor)


@dataclass(frozen=True, slots=True)
class _BeforeCredit:
    """What is read from the database about a locked payment that is about to be credited."""

    now: datetime
    is_credited_elsewhere: bool
    has_outflows: bool
    has_campaigns: bool


def find_before_credit(
    session: Session, payment: Payment, gateway_payment_id: str | None
) -> _BeforeCredit:
    """Return what was known of a payment before its credit, in one statement."""
    session.flush()
    [(instant, *found)] = fetch_rows(
        session,
        _BEFORE_CREDIT,
        gateway=payment.gateway,
        gateway_payment_id=gateway_payment_id,
        payment_id=payment.id,
    )
    return _BeforeCredit(clock.now(session, instant), *found)


def credit(
    session: Session, payment: Payment, update: PaymentUpdate, found: _BeforeCredit, actor: Actor
) -> None:
    """Credit a payment, or put its money under review."""
    now = found.now
    # A gateway's clock may be wrong; nothing was paid before the payment was created.
    begun_at = payment.created_at if payment.gateway != BANK else now - MAX_TRANSFER_TIME
    paid_at = max(min(update.occurred_at or now, now), min(begun_at, now))
    # Before the account, as redeeming a code does.
    packs = lock_packs(session, payment, at=now) if found.has_campaigns else []
    record_instrument(session, payment, update)
    ledger.add_grant(
        session,
        account_id=payment.account_id,
        terms=grant_terms(payment, payment.credit_micros, payment.pay_micros),
        source=payment.gateway,
        actor=actor,
        idempotency_key=f"payment:{payment.reference}",
        occurred_at=paid_at,
        beside=partial(_credited, payment, update, paid_at=paid_at, credited_at=now, actor=actor),
    )
    give_packs(session, payment, update, packs, actor)
    if found.has_outflows:
        _apply_kept(session, payment, actor)


def _credited(
    payment: Payment,
    update: PaymentUpdate,
    posted: ledger.PostedGrant,
    *,
    paid_at: datetime,
    credited_at: datetime,
    actor: Actor,
) -> list[Statement]:
    """Return what is written for a payment with its credit: its row, the credit and the step."""
    details = {"entry": posted.entry_sequence, "was": payment.state, "method": update.method}
    keep_method(payment, update)
    payment.state = PaymentState.SUCCEEDED
    payment.gateway_payment_id = update.gateway_payment_id
    payment.code = None
    payment.pay_by = None
    payment.paid_at = paid_at
    payment.credited_at = credited_at
    payment.entry_sequence = posted.entry_sequence
    payment.grant_number = posted.grant_number
    # For what the gateway reports only later: its fee, refunds and disputes.
    payment.next_check_at = next_check(payment, credited_at)
    key = (payment.account_id, payment.id)
    amounts = (payment.credit_micros, payment.pay_micros, credited_at)
    credit = (*key, 1, posted.entry_sequence, *amounts)
    step = (*key, "succeeded", audit.actor_name(actor), details)
    return [
        update_statement(payment),
        insert_statement("payment_credits", _CREDIT_COLUMNS, [credit]),
        insert_statement("payment_events", STEP_COLUMNS, [step]),
    ]


def _apply_kept(session: Session, payment: Payment, actor: Actor) -> None:
    """Book refunds and disputes that were reported before the money was credited."""
    session.flush()
    refunds = select(Refund).where(Refund.payment_id == payment.id).order_by(Refund.id)
    for refund in session.scalars(refunds).all():
        if refund.state in STANDING_REFUNDS and is_booked(payment, refund):
            apply_kept_refund(session, payment, refund, actor)
    disputes = select(Dispute).where(Dispute.payment_id == payment.id).order_by(Dispute.id)
    for dispute in session.scalars(disputes).all():
        if is_booked(payment, dispute):
            apply_kept_dispute(session, payment, dispute, actor)


def record_instrument(session: Session, payment: Payment, update: PaymentUpdate) -> None:
    """Store what a payment was made with, as a digest."""
    fraud_signals.record_instrument(
        session,
        account_id=payment.account_id,
        gateway=payment.gateway,
        instrument=update.instrument,
    )


def keep_method(payment: Payment, update: PaymentUpdate) -> None:
    """Store the method and the reference that the gateway reports for a payment."""
    payment.method = update.method or payment.method
    if payment.gateway_reference is None and update.gateway_reference:
        payment.gateway_reference = update.gateway_reference
