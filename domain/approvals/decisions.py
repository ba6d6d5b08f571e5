"""Decide on requests: once, and never by the person who made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.models.approvals import ApprovalState, Decidable
from domain import audit, clock
from domain.errors import AlreadyDecided
from domain.permissions import require_another

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

__all__ = ["ApprovalState", "check_open", "decision_state", "is_new_decision", "record_decision"]


def decision_state(*, is_approved: bool) -> ApprovalState:
    """Return the state that a decision leaves."""
    return ApprovalState.APPROVED if is_approved else ApprovalState.REJECTED


def is_new_decision(
    row: Decidable, state: ApprovalState, actor: Actor, *, requested_by: str
) -> bool:
    """Return whether a decision is still to be made: False if this person made the same before.

    The row is locked. Raises AlreadyDecided where it was decided otherwise or by another, and
    NotAuthorised for the person who requested it.
    """
    if row.state == state and row.decided_by == audit.actor_name(actor):
        return False
    check_open(row)
    require_another(actor, requested_by)
    return True


def check_open(row: Decidable) -> None:
    """Raise AlreadyDecided unless the request waits for a decision."""
    if row.state != ApprovalState.REQUESTED:
        raise AlreadyDecided(row.state, row.decided_by, row.decided_at)


def record_decision(session: Session, row: Decidable, state: str, actor: Actor) -> None:
    """Record how a request ended, by whom and when, with what else was set on the row."""
    with session.no_autoflush:  # the database refuses half of a decision
        now = clock.now(session)
    row.state, row.decided_by, row.decided_at = state, audit.actor_name(actor), now
    session.flush()
