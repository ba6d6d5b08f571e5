"""Freeze accounts, so that they get no new holds while a dispute of theirs is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select
from sqlalchemy import update as sql_update

from db.models import Account, AccountFreeze, Dispute, Payment
from domain import audit, clock
from domain.gateways.interface import DisputeState

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

CAUSE = "dispute"


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


def thaw_if_over(session: Session, account_id: int, actor: Actor) -> None:
    """Allow an account new holds again once no dispute of it is open."""
    still_open = session.scalars(
        select(func.count(Dispute.id))
        .join(Payment, Payment.id == Dispute.payment_id)
        .where(
            Dispute.account_id == account_id,
            Dispute.state == DisputeState.OPEN.value,
            Payment.grant_number.is_not(None),
            or_(
                Dispute.gateway_payment_id.is_(None),
                Dispute.gateway_payment_id == Payment.gateway_payment_id,
            ),
        )
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
        sql_update(Account)
        .where(Account.id == account_id, Account.status != "closed")
        .values(status="frozen" if causes else "active")
    )
