"""Build the monthly statement: opening balance, everything posted, closing balance.

A statement goes by the account's sequence and by when entries were posted, in the site's zone:
its entries are a whole run of the ledger, so that each month opens with what the one before
closed with, and a month that is over never changes. What a day had used is posted within it,
but for what was reported late.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy import text

from domain import clock
from domain.errors import InvalidInput, NotFound
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from domain.actors import Actor

LISTED_ENTRIES = 100
"""Up to so many entries a statement lists each; above, it sums them by day, kind and service."""

_MONTHS_IN_A_YEAR = 12

_ACCOUNT = text("""
SELECT a.name, a.currency, s.legal_entity, s.time_zone, b.last_entry_sequence
FROM accounts a
JOIN sites s ON s.code = a.site_code
JOIN account_balances b ON b.account_id = a.id
WHERE a.id = :account_id
""")
_ENTRY = text(
    "SELECT posted_at, balance_after_micros FROM entries"
    " WHERE account_id = :account_id AND account_sequence = :sequence"
)
_ENTRIES = text("""
SELECT posted_at, 1 AS entries, kind, shown_service(kind, service, source) AS service,
  description_code, description_parameters, amount_micros, account_sequence,
  balance_after_micros
FROM entries
WHERE account_id = :account_id AND account_sequence > :after AND account_sequence <= :last
ORDER BY account_sequence
""")
_SUMS = text("""
SELECT min(posted_at) AS posted_at, count(*) AS entries, kind,
  shown_service(kind, service, source) AS service, sum(amount_micros)::bigint AS amount_micros,
  max(account_sequence) AS account_sequence
FROM entries
WHERE account_id = :account_id AND account_sequence > :after AND account_sequence <= :last
GROUP BY (posted_at AT TIME ZONE :zone)::date, kind, 4
ORDER BY (posted_at AT TIME ZONE :zone)::date, kind, 4
""")
_BALANCES = text("""
SELECT account_sequence, balance_after_micros FROM entries
WHERE account_id = :account_id AND account_sequence = ANY(:sequences)
""")


@dataclass(frozen=True, slots=True)
class StatementLine:
    """An entry or, in a statement that sums, all of one kind and service on a day.

    `description_code` is None for a sum. `balance_micros` is the balance after an entry, and
    after the day's last entry on the last line of a day that is summed.
    """

    day: date
    entries: int
    kind: str
    service: str
    description_code: str | None
    description_parameters: Mapping[str, Any]
    amount_micros: int
    balance_micros: int | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A month of an account; opening + the sum of all lines = closing.

    `month` is its first day, `as_of` the moment up to which an unfinished month is told.
    `totals` are the sums by kind of entry.
    """

    account_id: int
    account_name: str
    currency: str
    legal_entity: str
    time_zone: str
    month: date
    as_of: datetime
    is_finished: bool
    opening_micros: int
    closing_micros: int
    entries: int
    is_summed: bool
    lines: tuple[StatementLine, ...]
    totals: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class _Book:
    """The account's entries as a row of instants to search in."""

    session: Session
    account_id: int
    last: int

    def entry(self, sequence: int) -> Row[Any]:
        key = {"account_id": self.account_id, "sequence": sequence}
        return self.session.execute(_ENTRY, key).one()

    def before(self, instant: datetime) -> int:
        """Return how many entries were posted before the instant: by halves, on the key."""
        low, high = 0, self.last
        while low < high:
            middle = (low + high + 1) // 2
            if self.entry(middle).posted_at < instant:
                low = middle
            else:
                high = middle - 1
        return low

    def balance(self, sequence: int) -> int:
        return int(self.entry(sequence).balance_after_micros) if sequence else 0


def parse_month(name: str) -> date:
    """Return the first day of a month written as 2026-03. Raises InvalidInput("month", ...)."""
    year, _separator, month = name.partition("-")
    is_month = len(name) == len("2026-03") and name.isascii()
    try:
        found = date(int(year), int(month), 1) if is_month else _refuse_month()
    except ValueError:
        return _refuse_month()
    # The last month that a calendar has does not end before another begins.
    return found if found < date.max.replace(day=1) else _refuse_month()


def _refuse_month() -> date:
    raise InvalidInput("month", "not_valid")


def statement_months(session: Session, *, actor: Actor, account_id: int) -> tuple[date, ...]:
    """Return the first days of all months from the account's first entry on, the newest first.

    Raises NotFound where the actor may not read the account.
    """
    account = _account(session, actor, account_id)
    zone = ZoneInfo(account.time_zone)
    this_month = clock.now(session).astimezone(zone).date().replace(day=1)
    month = this_month
    if account.last_entry_sequence:
        book = _Book(session, account_id, account.last_entry_sequence)
        month = book.entry(1).posted_at.astimezone(zone).date().replace(day=1)
    months = [month]
    while month < this_month:
        month = _next_month(month)
        months.append(month)
    return tuple(reversed(months))


def monthly_statement(session: Session, *, actor: Actor, account_id: int, month: date) -> Statement:
    """Return the statement of the month that `month` is in.

    A month that has not begun has none. Raises NotFound for it, and where the actor may not read
    the account.
    """
    account = _account(session, actor, account_id)
    zone = ZoneInfo(account.time_zone)
    first = month.replace(day=1)
    now = clock.now(session)
    begins, ends = (_midnight(day, zone) for day in (first, _next_month(first)))
    if begins > now:
        raise NotFound("statement")
    book = _Book(session, account_id, account.last_entry_sequence)
    after, last = book.before(begins), book.before(ends)
    is_summed = last - after > LISTED_ENTRIES
    span = {"account_id": account_id, "after": after, "last": last}
    lines = _sums(session, span, zone) if is_summed else _each(session, span, zone)
    return Statement(
        account_id=account_id,
        account_name=account.name,
        currency=account.currency,
        legal_entity=account.legal_entity,
        time_zone=account.time_zone,
        month=first,
        as_of=min(now, ends),
        is_finished=ends <= now,
        opening_micros=book.balance(after),
        closing_micros=book.balance(last),
        entries=last - after,
        is_summed=is_summed,
        lines=lines,
        totals=_totals(lines),
    )


def _account(session: Session, actor: Actor, account_id: int) -> Row[Any]:
    require(actor, "see_account", account_id)
    found = session.execute(_ACCOUNT, {"account_id": account_id}).one_or_none()
    if found is None:
        raise NotFound("account")
    return found


def _each(session: Session, span: Mapping[str, int], zone: ZoneInfo) -> tuple[StatementLine, ...]:
    return tuple(
        StatementLine(
            day=row.posted_at.astimezone(zone).date(),
            entries=1,
            kind=row.kind,
            service=row.service,
            description_code=row.description_code,
            description_parameters=row.description_parameters,
            amount_micros=row.amount_micros,
            balance_micros=row.balance_after_micros,
        )
        for row in session.execute(_ENTRIES, span)
    )


def _sums(session: Session, span: Mapping[str, int], zone: ZoneInfo) -> tuple[StatementLine, ...]:
    rows = session.execute(_SUMS, {**span, "zone": zone.key}).all()
    days = [row.posted_at.astimezone(zone).date() for row in rows]
    last_of_day: dict[date, int] = {}
    for day, row in zip(days, rows, strict=True):
        last_of_day[day] = max(last_of_day.get(day, 0), row.account_sequence)
    key = {"account_id": span["account_id"], "sequences": list(last_of_day.values())}
    balances = {
        row.account_sequence: row.balance_after_micros for row in session.execute(_BALANCES, key)
    }
    return tuple(
        StatementLine(
            day=day,
            entries=row.entries,
            kind=row.kind,
            service=row.service,
            description_code=None,
            description_parameters={},
            amount_micros=row.amount_micros,
            balance_micros=None if next_day == day else balances[last_of_day[day]],
        )
        for day, next_day, row in zip(days, [*days[1:], None], rows, strict=True)
    )


def _totals(lines: Iterable[StatementLine]) -> tuple[tuple[str, int], ...]:
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        sums[line.kind] += line.amount_micros
    return tuple(sorted(sums.items(), key=lambda total: (-total[1], total[0])))


def _next_month(month: date) -> date:
    if month.month == _MONTHS_IN_A_YEAR:
        return date(month.year + 1, 1, 1)
    return month.replace(month=month.month + 1)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
