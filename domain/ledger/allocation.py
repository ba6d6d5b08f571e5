"""Allocate charges to grants: one rule, for one charge and for a batch of thousands.

Burn order: plan credit, voucher credit, goodwill, top-up credit; inside a kind the soonest
expiry first, then the oldest, then the lowest number. A scoped grant pays for its services only.
A grant pays what occurred while it was valid, until its expiry is due to be posted. What is held
is not spent. What no grant covers is the overdraft's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from domain.money import share_between, share_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

OVERDRAFT_NUMBER = 0
PRIORITIES = {"plan": 10, "voucher": 20, "adjustment": 25, "top_up": 30, "overdraft": 90}
"""The burn order of the kinds of credit; every grant stores its own: a change needs a migration."""

PAID_KINDS = frozenset({"plan", "top_up"})
RATE_ONE = 1_000_000
_NEVER = datetime.max.replace(tzinfo=UTC)


class Line(NamedTuple):
    """How much of an entry moves which grant, as `allocations` keeps it."""

    grant_number: int
    amount_micros: int
    remaining_after_micros: int
    consideration_micros: int
    tax_micros: int
    debt_service: str | None
    debt_cause: str | None


@dataclass(slots=True)
class GrantState:
    """A grant with what remains of it now, under its account's lock."""

    grant_number: int
    kind: str
    amount_micros: int
    consideration_micros: int
    rate_millionths: int
    services: Collection[str] | None
    starts_at: datetime | None
    expires_at: datetime | None
    priority: int
    granted_at: datetime
    remaining_micros: int
    held_micros: int = 0
    clawed_back_micros: int = 0
    expired_micros: int = 0
    is_changed: bool = False

    @property
    def free_micros(self) -> int:
        """What remains and is not held."""
        return self.remaining_micros - self.held_micros

    @property
    def tax_micros(self) -> int:
        """The tax inside the whole consideration, at the grant's own rate."""
        consideration, rate = self.consideration_micros, self.rate_millionths
        return tax_inside(consideration, rate) if consideration and rate else 0

    @property
    def kept_micros(self) -> int:
        """What taking back and expiry left of the amount: never more than this may be free."""
        return max(self.amount_micros - self.clawed_back_micros - self.expired_micros, 0)


def tax_inside(gross_micros: int, rate_millionths: int) -> int:
    """Return the tax inside an amount that includes it, half a micro rounded up."""
    return share_of(gross_micros, rate_millionths, RATE_ONE + rate_millionths)


def burn_order(grant: GrantState) -> tuple[int, datetime, datetime, int]:
    """Return the key by which grants are spent."""
    return grant.priority, grant.expires_at or _NEVER, grant.granted_at, grant.grant_number


def covers(grant: GrantState, service: str) -> bool:
    """Return whether the grant pays for the service at all."""
    return grant.services is None or service in grant.services


def is_valid(grant: GrantState, at: datetime) -> bool:
    """Return whether the grant has started and not expired at an instant."""
    return (grant.starts_at is None or grant.starts_at <= at) and (
        grant.expires_at is None or at < grant.expires_at
    )


def is_expiry_due(grant: GrantState, now: datetime, grace: timedelta) -> bool:
    """Whether the grant's expiry is to be posted: from then on no late event reaches it."""
    return grant.expires_at is not None and now >= grant.expires_at + grace


def plan_burn(
    grants: Iterable[GrantState],
    *,
    service: str,
    amount_micros: int,
    occurred_at: datetime,
    now: datetime,
    grace: timedelta,
) -> tuple[list[tuple[GrantState, int]], int]:
    """Return which grants (given in burn order) pay how much, and what they do not cover."""
    takes = []
    missing = amount_micros
    for grant in grants:
        if missing <= 0:
            break
        free = grant.remaining_micros - grant.held_micros
        if (
            free > 0
            and (grant.services is None or service in grant.services)
            and is_valid(grant, occurred_at)
            and not is_expiry_due(grant, now, grace)
        ):
            take = min(free, missing)
            takes.append((grant, take))
            missing -= take
    return takes, missing


def move(
    grant: GrantState,
    amount_micros: int,
    *,
    debt: tuple[str, str] | None = None,
    tax_micros: int = 0,
) -> Line:
    """Add a signed amount to a grant and return the line that says so.

    The shares of consideration and tax that move with it are differences of one cumulative
    rounding, so that they never drift. `tax_micros` is given for the overdraft, which has none
    of its own.
    """
    before = grant.remaining_micros
    after = before + amount_micros
    grant.remaining_micros = after
    grant.is_changed = True
    consideration = 0
    tax = tax_micros
    whole = grant.amount_micros
    if grant.consideration_micros == whole:
        consideration = amount_micros if whole else 0
    elif grant.consideration_micros:
        consideration = share_between(
            grant.consideration_micros, whole - after, whole - before, whole
        )
    whole_tax = grant.tax_micros
    if whole_tax:
        tax = share_between(whole_tax, whole - after, whole - before, whole)
    service, cause = debt or (None, None)
    return Line(grant.grant_number, amount_micros, after, consideration, tax, service, cause)
