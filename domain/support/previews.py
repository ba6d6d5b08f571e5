"""Preview what an action would do to an account, by doing it and rolling it back.

So the figures before the button are those of the services behind it, in every case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from db.models import Account
from domain.errors import NotFound
from domain.ledger.balances import account_overview
from domain.permissions import require
from domain.support.staff_actions import ActionContext

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.money import Money
    from domain.support.staff_actions import StaffAction

_REASON = "preview"


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account has: micros of its currency."""

    balance_micros: int
    available_micros: int
    due_micros: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What an act is worth, and how the account stands before and after it."""

    amount: Money
    before: Standing
    after: Standing


def preview_action(
    session: Session, *, account_id: int, action: StaffAction, actor: Actor
) -> Preview:
    """Return what an act would do now; nothing stays of it, also where the session commits.

    It needs a session that may write. Raises what the act itself would raise.
    """
    require(actor, action.permission, account_id)
    savepoint = session.begin_nested()
    try:
        account = session.get(Account, account_id, populate_existing=True)
        if account is None:
            raise NotFound("account")
        action = action.resolve(session, account=account, actor=actor)
        amount = action.amount(session, account=account)
        before = _standing(session, account_id, actor)
        by = ActionContext(actor, _REASON, f"preview:{uuid4().hex}")
        action.execute(session, account=account, by=by)
        session.flush()
        after = _standing(session, account_id, actor)
    finally:
        savepoint.rollback()
    return Preview(amount, before, after)


def _standing(session: Session, account_id: int, actor: Actor) -> Standing:
    found = account_overview(session, actor=actor, account_id=account_id)
    return Standing(found.summary.balance_micros, found.available_micros, found.due_micros)
