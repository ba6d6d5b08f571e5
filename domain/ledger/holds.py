"""Hold credit for work that has begun, then capture, void or expire the hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from domain import audit, clock
from domain.errors import HoldNotOpen, InvalidInput, NotFound
from domain.ledger.allocation import plan_burn
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.ledger.posting import Posting
from domain.ledger.state import load_grants
from domain.permissions import require
from domain.validation import check_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.ledger.allocation import GrantState
    from domain.ledger.state import AccountState


@dataclass(frozen=True, slots=True)
class HoldOutcome:
    """A hold that was placed (`hold_number`), or refused (`refusal_number` and `reason`)."""

    hold_number: int | None = None
    refusal_number: int | None = None
    reason: str | None = None


_SET_ASIDE = text("""
SELECT h.service, a.grant_number, a.amount_micros
FROM open_holds o
JOIN holds h USING (account_id, hold_number)
JOIN hold_allocations a USING (account_id, hold_number)
WHERE o.account_id = :account_id AND o.hold_number = :hold_number
ORDER BY a.grant_number
""")
_DELETE_OPEN = text(
    "DELETE FROM open_holds WHERE account_id = :account_id AND hold_number = :hold_number"
)
_OUTCOME = text(
    "SELECT outcome FROM hold_resolutions"
    " WHERE account_id = :account_id AND hold_number = :hold_number"
)
_DUE = text("""
SELECT account_id, hold_number FROM open_holds
WHERE expires_at <= :now ORDER BY expires_at, account_id, hold_number LIMIT :limit
""")


def place_hold(
    session: Session,
    *,
    account_id: int,
    service: str,
    amount_micros: int,
    expires_at: datetime,
    source: str,
    actor: Actor,
    idempotency_key: str,
    description_code: str = "hold",
    description_parameters: Mapping[str, Any] | None = None,
) -> HoldOutcome:
    """Set credit aside in burn order; refuse it where the account is in debt or lacks credit."""
    require(actor, "charge")
    check_text(
        source=source,
        description_code=description_code,
        description_parameters=description_parameters,
    )
    if amount_micros <= 0:
        raise InvalidInput("amount_micros", "not_positive")
    request = {"service": service, "amount": amount_micros, "expires_at": expires_at}
    posting = Posting(session, [account_id], actor)
    account = posting.accounts[account_id]
    write = IdempotentRequest(account_id, idempotency_key, "place_hold", request)
    known = stored_response(session, write)
    if known is not None:
        return HoldOutcome(**known)
    if expires_at <= posting.now:
        raise InvalidInput("expires_at", "in_past")
    facts = {
        "service": service,
        "source": source,
        "description_code": description_code,
        "description_parameters": dict(description_parameters or {}),
        "amount_micros": amount_micros,
    }
    outcome = _hold(posting, account, expires_at, facts)
    store_response(session, write, asdict(outcome))
    posting.write()
    audit.record(
        session,
        action="place_hold",
        actor=actor,
        account_id=account_id,
        details={**asdict(outcome), "amount_micros": amount_micros},
    )
    return outcome


def _hold(
    posting: Posting, account: AccountState, expires_at: datetime, facts: dict[str, Any]
) -> HoldOutcome:
    posting.settle_debts(account)
    takes, shortfall = plan_burn(
        account.burning,
        service=facts["service"],
        amount_micros=facts["amount_micros"],
        occurred_at=posting.now,
        now=posting.now,
        grace=account.expiry_grace,
    )
    reason = _reason_to_refuse(account, shortfall)
    if reason is not None:
        refusal = add_refusal(
            posting,
            account,
            operation="hold",
            reason=reason,
            available_micros=facts["amount_micros"] - shortfall,
            occurred_at=posting.now,
            **facts,
        )
        return HoldOutcome(refusal_number=refusal, reason=reason)
    account.last_hold_number += 1
    number = account.last_hold_number
    posting.add_row(
        "holds",
        (account.account_id, number, *facts.values(), posting.now, expires_at, posting.actor),
    )
    posting.add_row("open_holds", (account.account_id, number, expires_at))
    for grant, take in takes:
        grant.held_micros += take
        grant.is_changed = True
        account.held_micros += take
        row = (account.account_id, number, grant.grant_number, take)
        posting.add_row("hold_allocations", row)
    return HoldOutcome(hold_number=number)


def _reason_to_refuse(account: AccountState, shortfall: int) -> str | None:
    if account.status != "active":
        return "account_frozen"
    if account.debt_micros:
        return "in_debt"
    return "insufficient_credit" if shortfall else None


def void_hold(
    session: Session, *, account_id: int, hold_number: int, actor: Actor, idempotency_key: str
) -> None:
    """Release an open hold; raise HoldNotOpen where it has ended, NotFound where it never was."""
    require(actor, "charge")
    posting = Posting(session, [account_id], actor)
    account = posting.accounts[account_id]
    write = IdempotentRequest(
        account_id, idempotency_key, "void_hold", {"hold_number": hold_number}
    )
    if stored_response(session, write) is not None:
        return
    if release_hold(posting, account, hold_number) is None:
        raise HoldNotOpen(_hold_outcome(session, account_id, hold_number))
    resolve_hold(posting, account, hold_number, "voided")
    store_response(session, write, {})
    posting.write()
    audit.record(
        session,
        action="void_hold",
        actor=actor,
        account_id=account_id,
        details={"hold_number": hold_number},
    )


def expire_holds(session: Session, *, actor: Actor, limit: int = 500) -> int:
    """Release holds whose time is over; return how many (call again while it is `limit`)."""
    require(actor, "charge")
    due = session.execute(_DUE, {"now": clock.now(session), "limit": limit}).all()
    if not due:
        return 0
    posting = Posting(session, {account_id for account_id, _ in due}, actor)
    released = 0
    for account_id, hold_number in due:
        account = posting.accounts[account_id]
        if release_hold(posting, account, hold_number) is not None:
            resolve_hold(posting, account, hold_number, "expired")
            released += 1
    posting.write()
    audit.record(session, action="expire_holds", actor=actor, details={"holds": released})
    return released


def release_hold(
    posting: Posting, account: AccountState, hold_number: int, *, service: str | None = None
) -> list[tuple[GrantState, int]] | None:
    """Free what an open hold had set aside and return it by grant, in burn order.

    Returns None where the hold is not open. Raises InvalidInput where it is another service's.
    The caller says by `resolve_hold` how it ended.
    """
    key = {"account_id": account.account_id, "hold_number": hold_number}
    rows = posting.session.execute(_SET_ASIDE, key).all()
    if not rows:
        return None
    if service is not None and rows[0][0] != service:
        raise InvalidInput("hold_number", "other_service", service=rows[0][0])
    load_grants(posting.session, account, (number for _, number, _ in rows))
    released = {number: amount for _, number, amount in rows}
    for number, amount in released.items():
        grant = account.grants[number]
        grant.held_micros -= amount
        grant.is_changed = True
        account.held_micros -= amount
    posting.session.execute(_DELETE_OPEN, key)
    return [
        (grant, released[grant.grant_number])
        for grant in account.burning
        if grant.grant_number in released
    ]


def resolve_hold(
    posting: Posting,
    account: AccountState,
    hold_number: int,
    outcome: str,
    entry_sequence: int | None = None,
) -> None:
    """Write how a hold ended: captured (by an entry), voided or expired."""
    posting.add_row(
        "hold_resolutions",
        (account.account_id, hold_number, outcome, entry_sequence, posting.now, posting.actor),
    )


def _hold_outcome(session: Session, account_id: int, hold_number: int) -> str:
    key = {"account_id": account_id, "hold_number": hold_number}
    outcome: str | None = session.execute(_OUTCOME, key).scalar_one_or_none()
    if outcome is None:
        raise NotFound("hold")
    return outcome


def add_refusal(
    posting: Posting,
    account: AccountState,
    *,
    operation: str,
    reason: str,
    service: str,
    source: str,
    description_code: str,
    description_parameters: Mapping[str, Any],
    amount_micros: int,
    available_micros: int,
    occurred_at: datetime,
) -> int:
    """Record a declined hold, and return its number within the account."""
    account.last_refusal_number += 1
    posting.add_row(
        "refusals",
        (
            account.account_id,
            account.last_refusal_number,
            operation,
            reason,
            service,
            source,
            description_code,
            description_parameters,
            amount_micros,
            available_micros,
            occurred_at,
            posting.now,
            posting.actor,
        ),
    )
    return account.last_refusal_number
