"""Expire what remains of a grant once its time, and the grace for late usage, are over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from domain import audit, clock
from domain.ledger.allocation import GrantState, is_expiry_due, move
from domain.ledger.posting import Posting
from domain.permissions import require

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.ledger.state import AccountState

_DUE = text("""
SELECT r.account_id, r.grant_number
FROM grant_balances r
JOIN accounts a ON a.id = r.account_id
JOIN sites s ON s.code = a.site_code
WHERE r.is_open AND r.expires_at IS NOT NULL AND r.expires_at <= :now
  AND r.expires_at + s.expiry_grace <= :now AND r.remaining_micros > r.held_micros
ORDER BY r.expires_at, r.account_id, r.grant_number
LIMIT :limit
""")


def expire_grants(session: Session, *, actor: Actor, limit: int = 500) -> int:
    """Post the expiry of grants that are due; return how many (call again while it is `limit`).

    What is held stays until its hold ends, and then lapses at the next call.
    """
    require(actor, "charge")
    due = session.execute(_DUE, {"now": clock.now(session), "limit": limit}).all()
    if not due:
        return 0
    posting = Posting(session, {account_id for account_id, _ in due}, actor)
    expired = 0
    for account_id, grant_number in due:
        account = posting.accounts[account_id]
        grant = account.grants.get(grant_number)
        if grant is not None and is_expiry_due(grant, posting.now, account.expiry_grace):
            expired += expire(posting, account, grant)
    posting.write()
    audit.record(session, action="expire_grants", actor=actor, details={"grants": expired})
    return expired


def expire(posting: Posting, account: AccountState, grant: GrantState) -> bool:
    """Expire what is available of a grant; return whether there was anything."""
    amount = grant.free_micros
    if amount <= 0 or grant.expires_at is None:
        return False
    posting.post_entry(
        account,
        kind="expiry",
        lines=[move(grant, -amount)],
        source="system",
        description_code="expiry",
        description_parameters={"grant_number": grant.grant_number, "grant_kind": grant.kind},
        occurred_at=grant.expires_at,
    )
    grant.expired_micros += amount
    account.reduced_grants.add(grant.grant_number)
    return True
