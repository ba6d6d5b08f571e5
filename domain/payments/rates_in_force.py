"""Find the exchange rate that is in force, and until when it is valid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlalchemy import select

from db.models import ExchangeRate, Site
from domain import clock
from domain.business_days import next_business_day
from domain.errors import Conflict
from domain.permissions import require

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy.orm import Session

    from domain.actors import Actor


_VALID_LONGER = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate as people see it, whatever became of it."""

    id: int
    base_currency: str
    quote_currency: str
    rate: Decimal
    margin_basis_points: int
    source: str
    as_of: datetime
    state: str
    requested_by: str
    requested_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None = None


class RateUnavailable(Conflict):
    """There is no rate in force, or it is too old to go by."""


def rate_in_force(session: Session, *, base_currency: str, quote_currency: str) -> Rate:
    """Return the rate that quotes go by. Raises RateUnavailable where there is none or it is old.

    Banks give no rates at weekends and on public holidays, and a rate serves over them.
    """
    row = in_force(session, base_currency, quote_currency)
    if row is None:
        raise RateUnavailable("no_rate")
    rate = row_of(row)
    if clock.now(session) >= end_of(session, rate):
        raise RateUnavailable("rate_too_old")
    return rate


def get_end_of_rate(session: Session, *, rate: Rate, actor: Actor) -> datetime:
    """Return until when a rate serves once it is in force, for staff."""
    require(actor, "see_rates")
    return end_of(session, rate)


def end_of(session: Session, rate: Rate) -> datetime:
    """Return until when a rate serves."""
    zone = session.scalars(
        select(Site.time_zone)
        .where(Site.default_currency == rate.quote_currency)
        .order_by(Site.code)
        .limit(1)
    ).one_or_none()
    made = rate.as_of.astimezone(UTC if zone is None else ZoneInfo(zone))
    day = next_business_day(made.date(), (rate.base_currency, rate.quote_currency))
    # The next rate is there before this one ends. Hours are added in UTC: days may have 23 of them.
    return datetime.combine(day, made.timetz()).astimezone(UTC) + _VALID_LONGER


def in_force(session: Session, base: str, quoted: str) -> ExchangeRate | None:
    """Return the row of the rate in force between two currencies, or None."""
    return session.scalars(
        select(ExchangeRate)
        .where(
            ExchangeRate.base_currency == base,
            ExchangeRate.quote_currency == quoted,
            ExchangeRate.state == "approved",
        )
        .order_by(ExchangeRate.decided_at.desc(), ExchangeRate.id.desc())
        .limit(1)
    ).one_or_none()


def row_of(row: ExchangeRate) -> Rate:
    """Return a rate's row as what people see."""
    return Rate(**{name: getattr(row, name) for name in Rate.__slots__})


def serves(session: Session, row: ExchangeRate) -> bool:
    """Whether payments go by this rate now."""
    found = in_force(session, row.base_currency, row.quote_currency)
    if found is None or found.id != row.id:
        return False
    return clock.now(session) < end_of(session, row_of(row))
