"""What every change of members requires: rights at that moment, idempotency, the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from db.models import Account, AccountMember
from domain import audit
from domain.actors import Actor, MemberRole
from domain.errors import NotAuthorised, NotFound
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.permissions import allows, require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session


# Charges lock another row (account_balances) and go on meanwhile; so do rows that refer to this.
LOCK = text("SELECT FROM accounts WHERE id = :account_id FOR NO KEY UPDATE")


def change_members(
    session: Session, write: IdempotentRequest, actor: Actor, act: Callable[[], dict[str, Any]]
) -> Mapping[str, Any]:
    """Carry out a change once, under the account's lock, for actors who may manage the account."""
    require(actor, "manage_members", write.account_id)
    session.execute(LOCK, {"account_id": write.account_id})
    answer = stored_response(session, write)
    if answer is not None:
        return answer
    _require_manager_now(session, write.account_id, actor)
    answer = act()
    store_response(session, write, answer)
    return answer


def _require_manager_now(session: Session, account_id: int, actor: Actor) -> None:
    """Check again under the lock: the actor's role may have ended while the lock was waited for."""
    if allows(actor, "manage_members"):
        if session.get(Account, account_id) is None:
            raise NotFound("account")
        return
    role = role_now(session, account_id, actor.user_id)
    if role is None:
        raise NotFound("account")
    if role is not MemberRole.OWNER:
        raise NotAuthorised


def role_now(session: Session, account_id: int, user_id: int | None) -> MemberRole | None:
    """Return the role that a person has in an account now, or None."""
    role = session.scalar(select(AccountMember.role).where(*is_membership_of(account_id, user_id)))
    return MemberRole(role) if role is not None else None


def is_membership_of(account_id: int, user_id: int | None) -> tuple[ColumnElement[bool], ...]:
    """Return the condition of the row that makes a person a member."""
    return (AccountMember.account_id == account_id, AccountMember.user_id == user_id)


def record_change(
    session: Session, action: str, actor: Actor, account_id: int, details: Mapping[str, Any]
) -> None:
    """Write a change of an account's members into the audit log."""
    audit.record(session, action=action, actor=actor, account_id=account_id, details=details)
