"""Open an account's ledger, and grant credit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.bulk import run_together
from domain import audit, clock
from domain.errors import InvalidInput
from domain.ledger.allocation import (
    OVERDRAFT_NUMBER,
    PAID_KINDS,
    PRIORITIES,
    GrantState,
    is_expiry_due,
    move,
)
from domain.ledger.idempotency import IdempotentRequest, answer_row, stored_response
from domain.ledger.posting import Posting
from domain.money import check_micros
from domain.permissions import require
from domain.validation import check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from db.bulk import Statement
    from domain.actors import Actor
    from domain.ledger.state import AccountState, TaxTerms

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """What a grant can buy, for how long, and what was paid for it.

    `kind` is plan, voucher, adjustment or top_up. `services` limits it (None: every service).
    Times are rounded to whole minutes in the customer's favour, because usage is charged by the
    minute. `consideration_micros` is in the account's currency; where the customer paid in
    another, `paid_micros` and `paid_currency` say what. `origin` names the payment or voucher.
    """

    kind: str
    amount_micros: int
    consideration_micros: int = 0
    services: tuple[str, ...] | None = None
    starts_at: datetime | None = None
    expires_at: datetime | None = None
    origin: str | None = None
    paid_micros: int | None = None
    paid_currency: str | None = None
    customer_tax_status: str | None = None


@dataclass(frozen=True, slots=True)
class PostedGrant:
    """The entry that a grant came with, and its number in the account."""

    entry_sequence: int
    grant_number: int


_SOLD = text("SELECT slug FROM services WHERE slug = ANY(:services)")
_INSERT_BALANCE = text("INSERT INTO account_balances (account_id) VALUES (:account_id)")
_INSERT_OVERDRAFT = text("""
INSERT INTO grants (account_id, grant_number, kind, amount_micros, consideration_micros, priority,
                    tax_point, tax_rate, place_of_supply, granted_at)
VALUES (:account_id, :number, 'overdraft', 0, 0, :priority, 'USAGE', 0, '', :now)
""")
_INSERT_OVERDRAFT_BALANCE = text("""
INSERT INTO grant_balances (account_id, grant_number, kind, amount_micros, consideration_micros,
                            rate_millionths, priority, granted_at, remaining_micros, is_open)
VALUES (:account_id, :number, 'overdraft', 0, 0, 0, :priority, :now, 0, true)
""")


def open_ledger(session: Session, *, account_id: int) -> None:
    """Create a new account's balance row and overdraft grant; called by the account's service."""
    parameters = {
        "account_id": account_id,
        "number": OVERDRAFT_NUMBER,
        "priority": PRIORITIES["overdraft"],
        "now": clock.now(session),
    }
    session.execute(_INSERT_BALANCE, {"account_id": account_id})
    session.execute(_INSERT_OVERDRAFT, parameters)
    session.execute(_INSERT_OVERDRAFT_BALANCE, parameters)


def add_grant(
    session: Session,
    *,
    account_id: int,
    terms: GrantTerms,
    source: str,
    actor: Actor,
    idempotency_key: str,
    description_code: str | None = None,
    description_parameters: Mapping[str, Any] | None = None,
    occurred_at: datetime | None = None,
    beside: Callable[[PostedGrant], Sequence[Statement]] = lambda _: (),
) -> PostedGrant:
    """Grant credit once, and let it settle debt that it may settle.

    `beside` gives what the caller writes on its own tables in the same round trip.

    Raises InvalidInput for terms that make no sense, text that is not one line or a service that
    is not sold; IdempotencyMismatch for a key used before for other terms.
    """
    _require_right_to_grant(actor, account_id, terms)
    terms = _checked(terms)
    check_text(description_code=description_code, description_parameters=description_parameters)
    posting = Posting(session, [account_id], actor)
    write = IdempotentRequest(
        account_id,
        idempotency_key,
        "add_grant",
        {**asdict(terms), "source": source, "occurred_at": occurred_at},
    )
    known = stored_response(session, write)
    if known is not None:
        posted = PostedGrant(**known)
        run_together(session, beside(posted))
        return posted
    account = posting.accounts[account_id]
    _check_services(session, terms.services)
    granted_at = occurred_at or posting.now
    if granted_at > posting.now:
        raise InvalidInput("occurred_at", "in_future")
    grant, tax = _new_grant(posting, account, terms, granted_at)
    if is_expiry_due(grant, posting.now, account.expiry_grace):
        raise InvalidInput("expires_at", "in_past")
    line = move(grant, terms.amount_micros)
    sequence = posting.post_entry(
        account,
        kind=terms.kind,
        lines=[line],
        source=source,
        description_code=description_code or terms.kind,
        description_parameters={**(description_parameters or {}), "origin": terms.origin},
        occurred_at=granted_at,
    )
    posting.add_grant(
        account, grant, _grant_row(account, grant, terms=terms, tax=tax, sequence=sequence)
    )
    posted = PostedGrant(sequence, grant.grant_number)
    _write_down(posting, write, terms, posted, actor)
    posting.write(beside(posted))
    return posted


def _write_down(
    posting: Posting, write: IdempotentRequest, terms: GrantTerms, posted: PostedGrant, actor: Actor
) -> None:
    """Have the posting keep its answer, and the audit log what was granted."""
    answer = asdict(posted)
    details = {**answer, "kind": terms.kind, "amount_micros": terms.amount_micros}
    posting.add_row("idempotency_keys", answer_row(write, answer))
    posting.add_row(
        "audit_log",
        audit.row(action="add_grant", actor=actor, account_id=write.account_id, details=details),
    )


def _require_right_to_grant(actor: Actor, account_id: int, terms: GrantTerms) -> None:
    is_paid = terms.consideration_micros or terms.paid_micros
    is_gift = terms.kind not in PAID_KINDS and not is_paid
    require(actor, "give_credit" if is_gift else "post_paid_credit", account_id)


def _checked(terms: GrantTerms) -> GrantTerms:
    if terms.kind not in PRIORITIES or terms.kind == "overdraft":
        raise InvalidInput("kind", "unknown")
    check_micros(terms.amount_micros)
    check_micros(terms.consideration_micros)
    if terms.amount_micros <= 0:
        raise InvalidInput("amount_micros", "not_positive")
    if terms.consideration_micros < 0:
        raise InvalidInput("consideration_micros", "negative")
    if terms.services is not None and not terms.services:
        raise InvalidInput("services", "empty")
    starts_at = _floor_minute(terms.starts_at)
    expires_at = _ceil_minute(terms.expires_at)
    if starts_at is not None and expires_at is not None and expires_at <= starts_at:
        raise InvalidInput("expires_at", "before_start")
    values = {**_fields(terms), "starts_at": starts_at, "expires_at": expires_at}
    if terms.services is not None:
        values["services"] = tuple(sorted(set(terms.services)))
    return GrantTerms(**values)


def _check_services(session: Session, services: tuple[str, ...] | None) -> None:
    """Refuse a scope that names what is not sold: nothing could ever spend such credit."""
    if services is None:
        return
    sold = set(session.scalars(_SOLD, {"services": list(services)}))
    for service in services:
        if service not in sold:
            raise InvalidInput("services", "unknown", service=service)


def _fields(terms: GrantTerms) -> dict[str, Any]:
    return {name: getattr(terms, name) for name in GrantTerms.__slots__}


def _floor_minute(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.replace(second=0, microsecond=0)


def _ceil_minute(instant: datetime | None) -> datetime | None:
    floor = _floor_minute(instant)
    return floor if floor is None or floor == instant else floor + _MINUTE


def _new_grant(
    posting: Posting, account: AccountState, terms: GrantTerms, granted_at: datetime
) -> tuple[GrantState, TaxTerms]:
    account.last_grant_number += 1
    on = posting.accounting_date(account, granted_at)
    tax = posting.tax_terms(account, on)
    grant = GrantState(
        grant_number=account.last_grant_number,
        kind=terms.kind,
        amount_micros=terms.amount_micros,
        consideration_micros=terms.consideration_micros,
        rate_millionths=tax.rate_millionths,
        services=terms.services,
        starts_at=terms.starts_at,
        expires_at=terms.expires_at,
        priority=PRIORITIES[terms.kind],
        granted_at=granted_at,
        remaining_micros=0,
    )
    return grant, tax


def _grant_row(
    account: AccountState, grant: GrantState, *, terms: GrantTerms, tax: TaxTerms, sequence: int
) -> tuple[Any, ...]:
    return (
        account.account_id,
        grant.grant_number,
        grant.kind,
        grant.amount_micros,
        grant.consideration_micros,
        terms.services,
        grant.starts_at,
        grant.expires_at,
        grant.priority,
        terms.origin,
        terms.paid_micros,
        terms.paid_currency,
        tax.tax_point,
        tax.tax_rate,
        tax.place_of_supply,
        terms.customer_tax_status,
        grant.granted_at,
        sequence,
    )
