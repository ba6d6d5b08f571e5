"""A customer's bank asks a payment back: the account is frozen, and credit goes when it is lost."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from db.models import Account, AccountFreeze, Dispute, Payment
from domain import audit, clock, ledger
from domain.gateways.base import DisputeState, Outcome
from domain.money import Money
from domain.payments.records import (
    credit_share,
    gateway_clearing,
    grant_terms,
    note,
    note_once,
    post_gateway_money,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.base import DisputeFact

_log = logging.getLogger(__name__)

CAUSE = "dispute"
_DISPUTED_FUNDS = "1120"
_INQUIRIES = {
    DisputeState.INQUIRY: "dispute_inquiry",
    DisputeState.INQUIRY_CLOSED: "dispute_inquiry_closed",
}


def apply_dispute(
    session: Session, payment: Payment, fact: DisputeFact, *, actor: Actor
) -> Outcome:
    """Open, win or lose a dispute of a locked payment; what was done already is not done again.

    An inquiry is told to staff: no money moves, so nothing is frozen or posted.
    """
    if fact.state in _INQUIRIES:
        return _tell_of_inquiry(session, payment, fact, actor)
    if payment.grant_number is None:
        note(session, payment, "dispute_without_credit", actor=actor)
        _log.error("payment %d is disputed and was never credited", payment.id)
        return Outcome.RECORDED
    dispute = _find(session, payment, fact)
    if dispute is None:
        opened = _open(session, payment, fact, actor)
        if opened is None:
            return Outcome.REPEATED
        dispute = opened
    elif fact.state is DisputeState.OPEN or dispute.state == fact.state.value:
        return Outcome.REPEATED  # also where the end was heard of before
    if fact.state is DisputeState.WON:
        _win(session, payment, dispute, actor)
    elif fact.state is DisputeState.LOST:
        _lose(session, payment, dispute, actor)
    return Outcome.RECORDED


def _find(session: Session, payment: Payment, fact: DisputeFact) -> Dispute | None:
    return session.scalars(
        select(Dispute).where(
            Dispute.gateway == payment.gateway,
            Dispute.gateway_dispute_id == fact.gateway_dispute_id,
        )
    ).one_or_none()


def _tell_of_inquiry(
    session: Session, payment: Payment, fact: DisputeFact, actor: Actor
) -> Outcome:
    if _find(session, payment, fact) is not None:
        return Outcome.REPEATED  # it has become a dispute since
    details = {"inquiry": fact.gateway_dispute_id, "reason": fact.reason}
    is_new = note_once(session, payment, _INQUIRIES[fact.state], actor=actor, details=details)
    return Outcome.RECORDED if is_new else Outcome.REPEATED


def _open(session: Session, payment: Payment, fact: DisputeFact, actor: Actor) -> Dispute | None:
    """Write the dispute down and freeze the account; None where nothing of the money is left.

    What was given back already cannot be asked back: a dispute is for the rest at most.
    """
    before = payment.refunded_micros + payment.disputed_micros
    amount = min(_paid_part(payment, fact.amount), payment.pay_micros - before)
    if amount <= 0:
        note(session, payment, "dispute_of_nothing", actor=actor)
        return None
    now = clock.now(session)
    dispute = Dispute(
        account_id=payment.account_id,
        payment_id=payment.id,
        gateway=payment.gateway,
        gateway_dispute_id=fact.gateway_dispute_id,
        state=DisputeState.OPEN.value,
        pay_micros=amount,
        credit_micros=max(credit_share(payment, before, before + amount), 1),
        reason=fact.reason,
        opened_at=min(fact.occurred_at or now, now),
        respond_by=fact.respond_by,
    )
    session.add(dispute)
    session.flush()
    payment.disputed_micros += amount
    post_gateway_money(
        session,
        payment,
        kind="dispute_opened",
        debit=_DISPUTED_FUNDS,
        credit=gateway_clearing(payment),
        amount=Money(amount, payment.pay_currency),
        key=f"dispute-opened:{dispute.id}",
        actor=actor,
    )
    freeze(session, account_id=payment.account_id, cause=CAUSE, actor=actor)
    note(session, payment, "dispute_opened", actor=actor, details={"dispute": dispute.id})
    return dispute


def _paid_part(payment: Payment, amount: Money) -> int:
    """Return what is disputed in the currency that was paid; all of it where another is named."""
    return amount.micros if amount.currency == payment.pay_currency else payment.pay_micros


def _win(session: Session, payment: Payment, dispute: Dispute, actor: Actor) -> None:
    """Give back what the dispute froze, and credit that it had taken if it was lost before."""
    was_lost = dispute.state == DisputeState.LOST.value
    dispute.state = DisputeState.WON.value
    dispute.closed_at = clock.now(session)
    payment.disputed_micros -= dispute.pay_micros
    if was_lost:
        dispute.restored_grant_number = ledger.add_grant(
            session,
            account_id=payment.account_id,
            terms=grant_terms(payment, dispute.credit_micros, dispute.pay_micros),
            source=payment.gateway,
            actor=actor,
            idempotency_key=f"dispute-won:{dispute.id}",
        ).grant_number
    else:
        post_gateway_money(
            session,
            payment,
            kind="dispute_won",
            debit=gateway_clearing(payment),
            credit=_DISPUTED_FUNDS,
            amount=Money(dispute.pay_micros, payment.pay_currency),
            key=f"dispute-won:{dispute.id}",
            actor=actor,
        )
    note(session, payment, "dispute_won", actor=actor, details={"dispute": dispute.id})
    _thaw_if_over(session, payment.account_id, actor)


def _lose(session: Session, payment: Payment, dispute: Dispute, actor: Actor) -> None:
    """Take the credit back: what is unspent goes, what was spent is owed."""
    if payment.grant_number is None:
        raise RuntimeError("a dispute is of a payment that was credited")
    dispute.state = DisputeState.LOST.value
    dispute.closed_at = clock.now(session)
    dispute.entry_sequence = ledger.take_back(
        session,
        account_id=payment.account_id,
        kind="dispute",
        grant_number=payment.grant_number,
        amount_micros=dispute.credit_micros,
        source=payment.gateway,
        actor=actor,
        idempotency_key=f"dispute-lost:{dispute.id}",
        description_parameters={"origin": payment.reference},
    )
    details = {"dispute": dispute.id, "entry": dispute.entry_sequence}
    note(session, payment, "dispute_lost", actor=actor, details=details)
    _thaw_if_over(session, payment.account_id, actor)


# ── Freezing ──────────────────────────────────────────────────────────────────────────────────
def freeze(session: Session, *, account_id: int, cause: str, actor: Actor) -> None:
    """Refuse new spending of an account for a cause; what was used already is still charged."""
    now = clock.now(session)
    row = session.get(AccountFreeze, (account_id, cause), with_for_update=True)
    if row is None:
        row = AccountFreeze(account_id=account_id, cause=cause)
        session.add(row)
    elif row.lifted_at is None:
        return
    row.frozen_at, row.frozen_by, row.lifted_at = now, audit.actor_name(actor), None
    session.flush()
    _set_status(session, account_id)
    audit.record(
        session, action="freeze", actor=actor, account_id=account_id, details={"cause": cause}
    )


def _thaw_if_over(session: Session, account_id: int, actor: Actor) -> None:
    still_open = session.scalars(
        select(func.count())
        .select_from(Dispute)
        .where(Dispute.account_id == account_id, Dispute.state == DisputeState.OPEN.value)
    ).one()
    row = session.get(AccountFreeze, (account_id, CAUSE), with_for_update=True)
    if still_open or row is None or row.lifted_at is not None:
        return
    row.lifted_at = clock.now(session)
    session.flush()
    _set_status(session, account_id)
    audit.record(
        session, action="thaw", actor=actor, account_id=account_id, details={"cause": CAUSE}
    )


def _set_status(session: Session, account_id: int) -> None:
    causes = session.scalars(
        select(func.count())
        .select_from(AccountFreeze)
        .where(AccountFreeze.account_id == account_id, AccountFreeze.lifted_at.is_(None))
    ).one()
    session.execute(
        update(Account)
        .where(Account.id == account_id, Account.status != "closed")
        .values(status="frozen" if causes else "active")
    )
