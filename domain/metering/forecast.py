"""How long credit lasts at a rate of spending, by the rule that charges follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from domain.ledger.allocation import burn_order, plan_burn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from domain.ledger.allocation import GrantState

MAX_DAYS = 365
_NO_GRACE = timedelta(0)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The credit day after day, if spending continues at its rate.

    `balances_micros` holds what is left after each day. `lasts_days` counts the days that are
    paid for in full, None where that is all of them. `lapses_micros` expires unspent in that time.
    """

    lasts_days: int | None
    lapses_micros: int
    balances_micros: tuple[int, ...]


def forecast(
    grants: Iterable[GrantState],
    daily_micros: Mapping[str, int],
    now: datetime,
    *,
    days: int = MAX_DAYS,
) -> Forecast:
    """Spend `daily_micros` (micros a day, by service) from the grants for so many days."""
    left = sorted((replace(grant) for grant in grants), key=burn_order)
    balances: list[int] = []
    lapsed = 0
    for day in range(days):
        at = now + day * _DAY
        lapsed += _lapse(left, at)
        if not all(_spend(left, service, amount, at) for service, amount in daily_micros.items()):
            return Forecast(day, lapsed, tuple(balances))
        balances.append(sum(grant.remaining_micros for grant in left))
    return Forecast(None, lapsed, tuple(balances))


def _lapse(grants: list[GrantState], at: datetime) -> int:
    lapsed = 0
    for grant in grants:
        if grant.expires_at is not None and grant.expires_at <= at:
            lapsed += grant.free_micros
            grant.remaining_micros = grant.held_micros
    return lapsed


def _spend(grants: list[GrantState], service: str, amount_micros: int, at: datetime) -> bool:
    takes, shortfall = plan_burn(
        grants,
        service=service,
        amount_micros=amount_micros,
        occurred_at=at,
        now=at,
        grace=_NO_GRACE,
    )
    for grant, take in takes:
        grant.remaining_micros -= take
    return shortfall == 0
