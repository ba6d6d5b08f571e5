"""Read an account's balance, the available part of it, and the credit grants behind it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from db.models import Debt
from domain import clock
from domain.errors import NotFound
from domain.ledger.allocation import OVERDRAFT_NUMBER, PRIORITIES, burn_order, is_valid
from domain.ledger.state import GRANT_COLUMNS, grant_state
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.ledger.allocation import GrantState

CREDIT_KINDS = tuple(
    sorted((kind for kind in PRIORITIES if kind != "overdraft"), key=PRIORITIES.__getitem__)
)
"""The kinds of credit, in the order in which they are spent."""

# Every page asks this: one statement, with the time of the session's own clock where it has one.
_SUMMARY = text("""
SELECT a.id, a.name, a.currency, a.status, a.site_code, s.time_zone,
  b.balance_micros - e.ended_micros, b.held_micros, e.ended_micros
FROM accounts a
JOIN account_balances b ON b.account_id = a.id
JOIN sites s ON s.code = a.site_code
CROSS JOIN LATERAL (
  SELECT CAST(coalesce(sum(r.remaining_micros - r.held_micros), 0) AS bigint) AS ended_micros
  FROM grant_balances r
  WHERE r.account_id = a.id AND r.is_open
    AND r.expires_at <= coalesce(CAST(:now AS timestamptz), clock_timestamp())
) e
WHERE a.id = :account_id
""")

_OPEN_GRANTS = text(f"""
SELECT {GRANT_COLUMNS}, g.origin
FROM grant_balances r
JOIN grants g ON g.account_id = r.account_id AND g.grant_number = r.grant_number
WHERE r.account_id = :account_id AND r.is_open AND r.grant_number <> {OVERDRAFT_NUMBER}
""")  # noqa: S608 - constant text


class GrantStatus(StrEnum):
    """Whether a grant can pay now; `ENDED` waits for its expiry to be posted."""

    ACTIVE = "active"
    HELD = "held"
    SCHEDULED = "scheduled"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """An account's name and sum, as every page's header shows them; `zone` is its site's.

    `ended_micros` is credit whose time is over and whose expiry is not posted yet: usage from
    before its end may still use it. It is no part of `balance_micros`.
    """

    account_id: int
    name: str
    currency: str
    status: str
    site_code: str
    zone: str
    balance_micros: int
    held_micros: int
    ended_micros: int


@dataclass(frozen=True, slots=True)
class CreditGrant:
    """Credit of one origin, and what is left of it. `services` is None where it pays for all."""

    grant_number: int
    kind: str
    origin: str | None
    amount_micros: int
    remaining_micros: int
    held_micros: int
    services: tuple[str, ...] | None
    granted_at: datetime
    starts_at: datetime | None
    expires_at: datetime | None
    status: GrantStatus

    @property
    def available_micros(self) -> int:
        """What can be spent of it now."""
        can_pay = self.status in {GrantStatus.ACTIVE, GrantStatus.HELD}
        return self.remaining_micros - self.held_micros if can_pay else 0

    @property
    def counted_micros(self) -> int:
        """What of it counts in the balance: of credit that has ended, only what is held."""
        return self.held_micros if self.status is GrantStatus.ENDED else self.remaining_micros


@dataclass(frozen=True, slots=True)
class CreditOfKind:
    """What is left of one kind of credit over all its grants, without what has ended."""

    kind: str
    remaining_micros: int
    held_micros: int
    available_micros: int


@dataclass(frozen=True, slots=True)
class DueAmount:
    """What is owed for a service (empty: for none) and a cause, and since when."""

    service: str
    cause: str
    due_micros: int
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class NextExpiry:
    """The next instant at which credit expires, and how much would."""

    expires_at: datetime
    amount_micros: int


@dataclass(frozen=True, slots=True)
class AccountOverview:
    """What an account has at `as_of`: total = what remains of every kind - what is owed.

    `available_micros` can be spent now; the part of it that pays only for some services is
    `restricted_micros`. `grants` with something left stand in the order in which they are spent.
    """

    summary: AccountSummary
    as_of: datetime
    available_micros: int
    restricted_micros: int
    due_micros: int
    kinds: tuple[CreditOfKind, ...]
    debts: tuple[DueAmount, ...]
    next_expiry: NextExpiry | None
    grants: tuple[CreditGrant, ...]


def account_summary(session: Session, *, actor: Actor, account_id: int) -> AccountSummary:
    """Return the account's name and sum; raise NotFound where the actor may not read it.

    One query: every page asks it.
    """
    require(actor, "see_account", account_id)
    values = {"account_id": account_id, "now": clock.given(session)}
    row = session.execute(_SUMMARY, values).one_or_none()
    if row is None:
        raise NotFound("account")
    return AccountSummary(*row)


def account_overview(session: Session, *, actor: Actor, account_id: int) -> AccountOverview:
    """Return what the account has; raise NotFound where the actor may not read it."""
    summary = account_summary(session, actor=actor, account_id=account_id)
    now = clock.now(session)
    grants = _open_grants(session, account_id, now)
    debts = _debts(session, account_id)
    return AccountOverview(
        summary=summary,
        as_of=now,
        available_micros=sum(grant.available_micros for grant in grants),
        restricted_micros=sum(g.available_micros for g in grants if g.services is not None),
        due_micros=sum(debt.due_micros for debt in debts),
        kinds=_by_kind(grants),
        debts=debts,
        next_expiry=_next_expiry(grants, now),
        grants=grants,
    )


def open_grants(session: Session, account_id: int) -> list[GrantState]:
    """Return the grants with something left, for a query that has checked who reads."""
    rows = session.execute(_OPEN_GRANTS, {"account_id": account_id})
    return [grant_state(row[:-1]) for row in rows]


def _open_grants(session: Session, account_id: int, now: datetime) -> tuple[CreditGrant, ...]:
    rows = session.execute(_OPEN_GRANTS, {"account_id": account_id}).all()
    states = [(grant_state(row[:-1]), row[-1]) for row in rows]
    states.sort(key=lambda pair: burn_order(pair[0]))
    return tuple(_credit_grant(state, origin, now) for state, origin in states)


def _credit_grant(state: GrantState, origin: str | None, now: datetime) -> CreditGrant:
    return CreditGrant(
        grant_number=state.grant_number,
        kind=state.kind,
        origin=origin,
        amount_micros=state.amount_micros,
        remaining_micros=state.remaining_micros,
        held_micros=state.held_micros,
        services=None if state.services is None else tuple(sorted(state.services)),
        granted_at=state.granted_at,
        starts_at=state.starts_at,
        expires_at=state.expires_at,
        status=_status(state, now),
    )


def _status(state: GrantState, now: datetime) -> GrantStatus:
    if not is_valid(state, now):
        is_over = state.expires_at is not None and state.expires_at <= now
        return GrantStatus.ENDED if is_over else GrantStatus.SCHEDULED
    return GrantStatus.ACTIVE if state.free_micros else GrantStatus.HELD


def _debts(session: Session, account_id: int) -> tuple[DueAmount, ...]:
    rows = session.execute(
        select(Debt.service, Debt.cause, Debt.due_micros, Debt.opened_at)
        .where(Debt.account_id == account_id, Debt.due_micros > 0)
        .order_by(Debt.opened_at, Debt.service, Debt.cause)
    )
    return tuple(DueAmount(*row) for row in rows)


def _by_kind(grants: Iterable[CreditGrant]) -> tuple[CreditOfKind, ...]:
    of_kind: dict[str, list[CreditGrant]] = defaultdict(list)
    for grant in grants:
        of_kind[grant.kind].append(grant)
    return tuple(
        CreditOfKind(
            kind=kind,
            remaining_micros=sum(grant.counted_micros for grant in of_kind[kind]),
            held_micros=sum(grant.held_micros for grant in of_kind[kind]),
            available_micros=sum(grant.available_micros for grant in of_kind[kind]),
        )
        for kind in CREDIT_KINDS
    )


def _next_expiry(grants: Iterable[CreditGrant], now: datetime) -> NextExpiry | None:
    expiring = [g for g in grants if g.expires_at is not None and g.expires_at > now]
    expires_at = min((g.expires_at for g in expiring if g.expires_at is not None), default=None)
    if expires_at is None:
        return None
    amount = sum(grant.remaining_micros for grant in expiring if grant.expires_at == expires_at)
    return NextExpiry(expires_at, amount)
