"""An account's spending by day, service and model or resource, and the runway of its credit.

Everything is read from roll-ups, so that it costs the same however many entries there are. Days
are those of the account's site.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlalchemy import text

from domain import clock
from domain.errors import InvalidInput, NotFound
from domain.ledger.balances import open_grants
from domain.metering.forecast import Forecast, forecast
from domain.permissions import require

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy.orm import Session

    from domain.actors import Actor

GRAINS = ("day", "week", "month")
MAX_PERIOD = timedelta(days=3 * 366)
RATE_DAYS = 30
"""The current rate of spending is the average of so many days, today included."""

_SITE = text("""
SELECT s.time_zone, b.balance_micros
FROM accounts a JOIN sites s ON s.code = a.site_code JOIN account_balances b ON b.account_id = a.id
WHERE a.id = :account_id
""")
_SPENT = """
FROM daily_totals
WHERE account_id = :account_id AND day BETWEEN :first AND :last
  AND kind IN ('charge', 'reversal') AND service <> ''
"""
_BY_BUCKET = text(f"""
SELECT CAST(date_trunc(:grain, CAST(day AS timestamp)) AS date), service, source,
  CAST(-sum(amount_micros) AS bigint), CAST(sum(calls) AS bigint)
{_SPENT} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
""")
_BY_SERVICE = text(f"""
SELECT service, CAST(-sum(amount_micros) AS bigint) {_SPENT} GROUP BY 1
""")
_QUANTITIES = text("""
SELECT service, source, meter, sum(quantity) FROM daily_quantities
WHERE account_id = :account_id AND day BETWEEN :first AND :last
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
""")
_CHANGES = text("""
SELECT day, CAST(sum(amount_micros) AS bigint) FROM daily_totals
WHERE account_id = :account_id AND day >= :first GROUP BY 1
""")
_FIRST_DAY = text("SELECT min(day) FROM daily_totals WHERE account_id = :account_id")


@dataclass(frozen=True, slots=True)
class Spending:
    """The cost of a service's model or resource, less what was reversed, from `begins` on.

    `begins` is the first day of a day, week (Monday) or month, which may lie before the period.
    """

    begins: date
    service: str
    source: str
    spent_micros: int
    calls: int


@dataclass(frozen=True, slots=True)
class Resource:
    """A service's model or resource over a whole period; `quantities` by meter."""

    service: str
    source: str
    spent_micros: int
    calls: int
    quantities: dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class UsageReport:
    """A period of an account's spending, `first` to `last` inclusive.

    `resources` are in descending order of cost; `spent_before` is what each service cost in the
    period of the same length before. `balances` holds the balance at the end of each day.
    """

    zone: str
    today: date
    first: date
    last: date
    spendings: tuple[Spending, ...]
    resources: tuple[Resource, ...]
    spent_before: dict[str, int]
    balances: tuple[tuple[date, int], ...]

    @property
    def spent_micros(self) -> int:
        """The cost of the period."""
        return sum(resource.spent_micros for resource in self.resources)

    @property
    def before_micros(self) -> int:
        """The cost of the previous period."""
        return sum(self.spent_before.values())


@dataclass(frozen=True, slots=True)
class Outlook:
    """How long credit lasts at the average of the last `days` days."""

    days: int
    daily_micros: int
    forecast: Forecast


def usage_report(
    session: Session, *, actor: Actor, account_id: int, first: date, last: date, grain: str = "day"
) -> UsageReport:
    """Return the spending between two days, by `grain`.

    Raises NotFound where the actor may not read the account, InvalidInput for a period that ends
    before it begins or is longer than MAX_PERIOD, or another grain.
    """
    require(actor, "see_account", account_id)
    if grain not in GRAINS:
        raise InvalidInput("grain", "unknown")
    if not timedelta(0) <= last - first <= MAX_PERIOD:
        raise InvalidInput("period", "unusable")
    zone, balance = _site(session, account_id)
    period = {"account_id": account_id, "first": first, "last": last}
    rows = session.execute(_BY_BUCKET, {**period, "grain": grain})
    spendings = tuple(Spending(*row) for row in rows)
    before = {**period, "first": first - (last - first) - timedelta(days=1)}
    before["last"] = first - timedelta(days=1)
    today = clock.now(session).astimezone(ZoneInfo(zone)).date()
    changes: dict[date, int] = {row.day: row[1] for row in session.execute(_CHANGES, period)}
    return UsageReport(
        zone=zone,
        today=today,
        first=first,
        last=last,
        spendings=spendings,
        resources=_resources(session, spendings, period),
        spent_before={row.service: row[1] for row in session.execute(_BY_SERVICE, before)},
        balances=_balances(changes, balance, first, min(last, today)),
    )


def _site(session: Session, account_id: int) -> tuple[str, int]:
    row = session.execute(_SITE, {"account_id": account_id}).one_or_none()
    if row is None:
        raise NotFound("account")
    return row[0], row[1]


def _resources(
    session: Session, spendings: tuple[Spending, ...], period: dict[str, object]
) -> tuple[Resource, ...]:
    quantities: dict[tuple[str, str], dict[str, Decimal]] = {}
    for service, source, meter, quantity in session.execute(_QUANTITIES, period):
        quantities.setdefault((service, source), {})[meter] = quantity
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for one in spendings:
        spent, calls = totals.get((one.service, one.source), (0, 0))
        totals[one.service, one.source] = (spent + one.spent_micros, calls + one.calls)
    resources = [
        Resource(service, source, spent, calls, quantities.get((service, source), {}))
        for (service, source), (spent, calls) in totals.items()
    ]
    resources.sort(key=lambda one: (-one.spent_micros, one.service, one.source))
    return tuple(resources)


def _balances(
    changes: dict[date, int], balance_micros: int, first: date, last: date
) -> tuple[tuple[date, int], ...]:
    """Compute earlier balances from today's, subtracting the entries after each day."""
    after = sum(amount for day, amount in changes.items() if day > last)
    balance = balance_micros - after
    days: list[tuple[date, int]] = []
    day = last
    while day >= first:
        days.append((day, balance))
        balance -= changes.get(day, 0)
        day -= timedelta(days=1)
    return tuple(reversed(days))


def spending_outlook(session: Session, *, actor: Actor, account_id: int) -> Outlook | None:
    """Return how long credit lasts at the current rate; None where nothing is being spent.

    A service whose spending was reversed in full counts as zero. Raises NotFound where the actor
    may not read the account.
    """
    require(actor, "see_account", account_id)
    zone, _ = _site(session, account_id)
    now = clock.now(session)
    today = now.astimezone(ZoneInfo(zone)).date()
    begun = session.execute(_FIRST_DAY, {"account_id": account_id}).scalar_one()
    if begun is None:
        return None
    days = max(1, min(RATE_DAYS, (today - begun).days + 1))
    period = {"account_id": account_id, "first": today - timedelta(days=days - 1), "last": today}
    rows = session.execute(_BY_SERVICE, period)
    daily = {service: -(-spent // days) for service, spent in rows if spent > 0}
    if not daily:
        return None
    grants = open_grants(session, account_id)
    return Outlook(days, sum(daily.values()), forecast(grants, daily, now))
