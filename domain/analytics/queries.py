"""Credit granted, used and remaining over all accounts: for finance, by currency.

Everything is read from the sums of sites and the queue that feeds them, so that it is exact to
the last charge and costs the same however many accounts there are. Days are those of each
account's site. Two currencies are never added.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain.errors import InvalidInput
from domain.metering.queries import GRAINS, MAX_PERIOD
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

    from domain.actors import Actor

CREDIT_KINDS = ("top_up", "plan", "voucher", "adjustment")
MAX_ACCOUNTS = 50
_BEFORE = "before"
_USED = "used"
_EXPIRED = "expired"
_TAKEN_BACK = "taken_back"
_OTHER = "other"

_CHANGES = """(
  SELECT site_code, country, currency, day, kind, service, amount_micros, entries, calls
  FROM site_totals
  UNION ALL
  SELECT site_code, country, currency, day, kind, service, amount_micros, entries, calls
  FROM total_changes
) t"""
_REPORT = text(f"""
WITH change AS (
  SELECT site_code, country, currency, service, amount_micros, entries, calls,
    CASE
      WHEN day < :first THEN '{_BEFORE}'
      WHEN kind IN ('charge', 'reversal') AND service <> '' THEN '{_USED}'
      WHEN kind IN {CREDIT_KINDS} THEN kind
      WHEN kind = 'expiry' THEN '{_EXPIRED}'
      WHEN kind IN ('refund', 'dispute') THEN '{_TAKEN_BACK}'
      ELSE '{_OTHER}'
    END AS part,
    CASE WHEN day >= :first
      THEN CAST(date_trunc(:grain, CAST(day AS timestamp)) AS date) END AS begins
  FROM {_CHANGES}
  WHERE day <= :last
    AND (CAST(:site AS text) IS NULL OR site_code = :site)
    AND (CAST(:country AS text) IS NULL OR country = :country)
    AND (CAST(:currency AS text) IS NULL OR currency = :currency)
    AND (CAST(:service AS text) IS NULL
         OR service = :service AND kind IN ('charge', 'reversal') AND day >= :first)
)
SELECT currency, part, begins, service, site_code, country,
  CAST(sum(amount_micros) AS text), CAST(sum(entries) AS bigint), CAST(sum(calls) AS bigint)
FROM change
GROUP BY GROUPING SETS (
  (currency, part, begins, service), (currency, part, site_code), (currency, part, country))
""")  # noqa: S608 - constant text
_SHARES = text("""
SELECT c.id, c.name, c.site_code, coalesce(c.country, ''), s.time_zone, u.used, u.calls,
  CAST(sum(u.used) OVER () AS text), CAST(sum(u.calls) OVER () AS bigint), count(*) OVER ()
FROM (
  SELECT d.account_id, CAST(-sum(d.amount_micros) AS bigint) AS used,
    CAST(sum(d.calls) AS bigint) AS calls
  FROM daily_totals d
  JOIN accounts c ON c.id = d.account_id
  WHERE c.currency = :currency
    AND (CAST(:site AS text) IS NULL OR c.site_code = :site)
    AND (CAST(:country AS text) IS NULL OR coalesce(c.country, '') = :country)
    AND d.day BETWEEN :first AND :last AND d.kind IN ('charge', 'reversal') AND d.service <> ''
    AND (CAST(:service AS text) IS NULL OR d.service = :service)
  GROUP BY 1
) u
JOIN accounts c ON c.id = u.account_id
JOIN sites s ON s.code = c.site_code
ORDER BY u.used DESC, c.id
LIMIT :limit
""")
_CHOICES = text(f"""
SELECT DISTINCT t.site_code, s.name, s.time_zone, t.country, t.currency, t.service
FROM {_CHANGES} JOIN sites s ON s.code = t.site_code
""")  # noqa: S608 - constant text


@dataclass(frozen=True, slots=True)
class Flow:
    """Credit received and used over a period, in micros of one currency.

    `begin_micros` is what remained when it began; None where one service is looked at, for credit
    has no service. `granted` is by kind of credit, of those in CREDIT_KINDS that occurred.
    `used_micros` is charges less their reversals; `taken_back_micros` refunds and disputes;
    `other_micros` every other decrease of the balance, such as a reversed top-up: negative where it
    increased the balance, as the write-off of a debt does.
    """

    begin_micros: int | None
    granted: Mapping[str, int]
    used_micros: int
    expired_micros: int
    taken_back_micros: int
    other_micros: int
    calls: int

    @property
    def granted_micros(self) -> int:
        """The credit granted, of every kind."""
        return sum(self.granted.values())

    @property
    def remaining_micros(self) -> int | None:
        """The remaining credit when the period ended, less amounts due."""
        if self.begin_micros is None:
            return None
        gone = self.used_micros + self.expired_micros + self.taken_back_micros + self.other_micros
        return self.begin_micros + self.granted_micros - gone


@dataclass(frozen=True, slots=True)
class Bucket:
    """The flow of a day, week (Monday) or month, which may begin before the period does."""

    begins: date
    currency: str
    flow: Flow


@dataclass(frozen=True, slots=True)
class Place:
    """The flow of a site, by its code, or of a country; empty for accounts without one."""

    code: str
    currency: str
    flow: Flow


@dataclass(frozen=True, slots=True)
class ServiceUse:
    """The usage of a service from `begins` on, in micros."""

    begins: date
    currency: str
    service: str
    used_micros: int
    calls: int


@dataclass(frozen=True, slots=True)
class ServiceTotal:
    """The usage of a service over the whole period, in micros."""

    service: str
    currency: str
    used_micros: int
    calls: int


@dataclass(frozen=True, slots=True)
class AnalyticsReport:
    """A period of all accounts that pass the filters, `first` to `last` inclusive.

    `totals` holds a flow by currency, the currency of most entries first; the rows of everything
    else stand in that order of currencies too.
    """

    first: date
    last: date
    totals: Mapping[str, Flow]
    buckets: tuple[Bucket, ...]
    sites: tuple[Place, ...]
    countries: tuple[Place, ...]
    services: tuple[ServiceTotal, ...]
    uses: tuple[ServiceUse, ...]


@dataclass(frozen=True, slots=True)
class AccountShare:
    """The usage of one account, in micros of its currency; `zone` is its site's time zone."""

    account_id: int
    name: str
    site_code: str
    country: str
    zone: str
    used_micros: int
    calls: int


@dataclass(frozen=True, slots=True)
class AccountShares:
    """The accounts with the most usage, and the number and usage of the others, in micros."""

    currency: str
    accounts: tuple[AccountShare, ...]
    other_accounts: int
    other_micros: int
    other_calls: int


@dataclass(frozen=True, slots=True)
class AnalyticsChoices:
    """The options of the filters: sites with their names by code, and codes of the rest.

    `zones` are the time zones of the sites, by their codes.
    """

    sites: Mapping[str, str]
    zones: Mapping[str, str]
    countries: tuple[str, ...]
    currencies: tuple[str, ...]
    services: tuple[str, ...]


class _Parts:
    """The sums of one flow's parts, as they are read."""

    def __init__(self) -> None:
        self.micros: Counter[str] = Counter()
        self.calls = 0
        self.entries = 0

    def add(self, part: str, micros: int, entries: int, calls: int) -> None:
        self.micros[part] += micros
        if part != _BEFORE:
            self.entries += entries
            self.calls += calls

    def flow(self, begin_micros: int | None) -> Flow:
        return Flow(
            begin_micros=begin_micros,
            granted={kind: self.micros[kind] for kind in CREDIT_KINDS if kind in self.micros},
            used_micros=-self.micros[_USED],
            expired_micros=-self.micros[_EXPIRED],
            taken_back_micros=-self.micros[_TAKEN_BACK],
            other_micros=-self.micros[_OTHER],
            calls=self.calls,
        )


class _Reading:
    """A report in the making: the parts of every row of it."""

    def __init__(self, *, has_balances: bool) -> None:
        self._has_balances = has_balances
        self._totals: dict[str, _Parts] = defaultdict(_Parts)
        self._buckets: dict[tuple[str, date], _Parts] = defaultdict(_Parts)
        self._sites: dict[tuple[str, str], _Parts] = defaultdict(_Parts)
        self._countries: dict[tuple[str, str], _Parts] = defaultdict(_Parts)
        self._uses: dict[tuple[str, date, str], _Parts] = defaultdict(_Parts)

    def add(
        self,
        place: tuple[str, str, date | None, str | None, str | None, str | None],
        micros: int,
        entries: int,
        calls: int,
    ) -> None:
        """Add one sum; `place` is its currency and part, then the key of its group."""
        currency, part, begins, service, site, country = place
        rows: list[_Parts] = []
        if site is not None:
            rows.append(self._sites[currency, site])
        elif country is not None:
            rows.append(self._countries[currency, country])
        else:
            rows.append(self._totals[currency])
            if begins is not None:
                rows.append(self._buckets[currency, begins])
                if part == _USED:
                    rows.append(self._uses[currency, begins, service or ""])
        for row in rows:
            row.add(part, micros, entries, calls)

    def report(self, first: date, last: date) -> AnalyticsReport:
        order = sorted(self._totals, key=lambda code: (-self._totals[code].entries, code))
        uses = tuple(
            ServiceUse(begins, code, service, -parts.micros[_USED], parts.calls)
            for code in order
            for (found, begins, service), parts in sorted(self._uses.items())
            if found == code
        )
        return AnalyticsReport(
            first=first,
            last=last,
            totals={code: self._flow(self._totals[code]) for code in order},
            buckets=tuple(bucket for code in order for bucket in self._buckets_of(code)),
            sites=self._places(self._sites, order),
            countries=self._places(self._countries, order),
            services=_service_totals(uses, order),
            uses=uses,
        )

    def _flow(self, parts: _Parts) -> Flow:
        return parts.flow(parts.micros[_BEFORE] if self._has_balances else None)

    def _places(
        self, rows: Mapping[tuple[str, str], _Parts], order: Iterable[str]
    ) -> tuple[Place, ...]:
        found = [
            Place(code, currency, self._flow(rows[currency, code]))
            for ordered in order
            for currency, code in sorted(rows)
            if currency == ordered
        ]
        return tuple(found)

    def _buckets_of(self, currency: str) -> Iterable[Bucket]:
        """Yield a currency's buckets in order; each begins with the balance of the one before."""
        remaining = self._flow(self._totals[currency]).begin_micros
        for found, begins in sorted(self._buckets):
            if found == currency:
                flow = self._buckets[currency, begins].flow(remaining)
                remaining = flow.remaining_micros
                yield Bucket(begins, currency, flow)


def _service_totals(uses: Iterable[ServiceUse], order: Iterable[str]) -> tuple[ServiceTotal, ...]:
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for use in uses:
        micros, calls = sums.get((use.currency, use.service), (0, 0))
        sums[use.currency, use.service] = (micros + use.used_micros, calls + use.calls)
    places = {currency: place for place, currency in enumerate(order)}
    totals = [
        ServiceTotal(service, currency, micros, calls)
        for (currency, service), (micros, calls) in sums.items()
    ]
    totals.sort(key=lambda one: (places[one.currency], -one.used_micros, one.service))
    return tuple(totals)


def analytics_report(
    session: Session,
    *,
    actor: Actor,
    first: date,
    last: date,
    grain: str = "day",
    site: str | None = None,
    country: str | None = None,
    currency: str | None = None,
    service: str | None = None,
) -> AnalyticsReport:
    """Return what was granted and used between two days, by `grain`, and what remained.

    `country` "" finds accounts without one. With a `service` only its use is counted. Raises
    NotAuthorised for anyone but finance and administrators, InvalidInput for a period that ends
    before it begins or is longer than MAX_PERIOD, or another grain.
    """
    _check(actor, first, last)
    if grain not in GRAINS:
        raise InvalidInput("grain", "unknown")
    filters = {"site": site, "country": country, "currency": currency, "service": service}
    rows = session.execute(_REPORT, {"first": first, "last": last, "grain": grain, **filters})
    reading = _Reading(has_balances=service is None)
    for *place, micros, entries, calls in rows:
        reading.add(tuple(place), int(micros), entries, calls)
    return reading.report(first, last)


def account_shares(
    session: Session,
    *,
    actor: Actor,
    first: date,
    last: date,
    currency: str,
    site: str | None = None,
    country: str | None = None,
    service: str | None = None,
    limit: int = MAX_ACCOUNTS,
) -> AccountShares:
    """Return the accounts that used most of a currency between two days, and the sum of others.

    Its time grows with the number of accounts that pass the filters. Raises as
    `analytics_report` does.
    """
    _check(actor, first, last)
    filters = {"site": site, "country": country, "currency": currency, "service": service}
    rows = session.execute(_SHARES, {"first": first, "last": last, "limit": limit, **filters}).all()
    accounts = tuple(AccountShare(*row[:7]) for row in rows)
    if not rows:
        return AccountShares(currency, (), 0, 0, 0)
    used, calls, count = rows[0][7:]
    return AccountShares(
        currency=currency,
        accounts=accounts,
        other_accounts=count - len(accounts),
        other_micros=int(used) - sum(one.used_micros for one in accounts),
        other_calls=calls - sum(one.calls for one in accounts),
    )


def analytics_choices(session: Session, *, actor: Actor) -> AnalyticsChoices:
    """Return the options of the filters. Raises NotAuthorised as `analytics_report` does."""
    require(actor, "see_analytics")
    rows = session.execute(_CHOICES).all()
    return AnalyticsChoices(
        sites=dict(sorted({(row.site_code, row.name) for row in rows})),
        zones={row.site_code: row.time_zone for row in rows},
        countries=tuple(sorted({row.country for row in rows})),
        currencies=tuple(sorted({row.currency for row in rows})),
        services=tuple(sorted({row.service for row in rows if row.service})),
    )


def _check(actor: Actor, first: date, last: date) -> None:
    require(actor, "see_analytics")
    if not timedelta(0) <= last - first <= MAX_PERIOD:
        raise InvalidInput("period", "unusable")
