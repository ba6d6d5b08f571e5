"""Read an account under its lock, as a posting needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from db.bulk import fetch_rows, integer_array
from domain import clock
from domain.errors import NotFound
from domain.ledger.allocation import GrantState, burn_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session


@dataclass(slots=True)
class DebtState:
    """The amount due for one service and cause, and since when."""

    due_micros: int
    opened_at: datetime


class TaxTerms(NamedTuple):
    """A site's tax policy from a date on; the rate in millionths."""

    valid_from: date
    tax_point: str
    tax_rate: Decimal
    place_of_supply: str

    @property
    def rate_millionths(self) -> int:
        """The rate as a whole count of millionths."""
        return int(self.tax_rate.scaleb(6))


@dataclass(slots=True)
class AccountState:
    """One account's row, counters, open grants, debts and carries (by service, as text).

    `country` is empty where the account has none; `tax_terms` are its site's, oldest first.
    """

    account_id: int
    site_code: str
    country: str
    currency: str
    status: str
    time_zone: ZoneInfo
    expiry_grace: timedelta
    usage_key_retention: timedelta
    tax_terms: list[TaxTerms]
    balance_micros: int
    held_micros: int
    last_entry_sequence: int
    last_grant_number: int
    last_hold_number: int
    last_refusal_number: int
    carries: dict[str, str]
    grants: dict[int, GrantState] = field(default_factory=dict)
    burning: list[GrantState] = field(default_factory=list)
    debts: dict[tuple[str, str], DebtState] = field(default_factory=dict)
    reduced_grants: set[int] = field(default_factory=set)
    changed_debts: set[tuple[str, str]] = field(default_factory=set)

    @property
    def overdraft(self) -> GrantState:
        """The grant that carries the account's debt."""
        return self.grants[0]

    @property
    def debt_micros(self) -> int:
        """The account's amount due, as a positive count."""
        return -self.overdraft.remaining_micros

    def day_of(self, instant: datetime) -> date:
        """Return an instant's day in the zone of the account's site."""
        return instant.astimezone(self.time_zone).date()

    def due_micros(self, debt: tuple[str, str]) -> int:
        """Return the amount due of one debt, given by its service and cause."""
        return self.debts[debt].due_micros if debt in self.debts else 0

    def add_grant(self, grant: GrantState) -> None:
        """Add a grant to the account's burn order."""
        self.grants[grant.grant_number] = grant
        if grant.grant_number:
            self.burning.append(grant)
            self.burning.sort(key=burn_order)


_Site = tuple[ZoneInfo, timedelta, timedelta, list[TaxTerms]]
"""The zone, the grace of expiry, the retention of usage keys and the tax policies of a site."""

_SITES = """
SELECT json_agg(json_build_array(
         s.code, s.time_zone, extract(epoch FROM s.expiry_grace),
         extract(epoch FROM s.usage_key_retention),
         t.valid_from, t.tax_point, t.tax_rate::text, t.place_of_supply)
       ORDER BY s.code, t.valid_from)
FROM sites s LEFT JOIN tax_policies t ON t.site_code = s.code
"""

# The clock is read outside of the locking part: once the last lock, which is the last row's, is
# granted. Not for every row, nor the sites, since a batch has a thousand.
_LOCK = f"""
SELECT l.*, CASE WHEN l.account_id = %(last)s THEN clock_timestamp() END,
       CASE WHEN l.account_id = %(last)s THEN ({_SITES}) END
FROM (
  SELECT b.account_id, a.site_code, coalesce(a.country, ''), a.currency, a.status,
         b.balance_micros, b.held_micros, b.last_entry_sequence, b.last_grant_number,
         b.last_hold_number, b.last_refusal_number, b.carries, a.currency_locked_at IS NULL
  FROM account_balances b
  JOIN accounts a ON a.id = b.account_id
  WHERE b.account_id = ANY(%(ids)s::bigint[])
  ORDER BY b.account_id
  FOR NO KEY UPDATE OF b
) l
"""  # noqa: S608 - constant text

# For an account whose lock was waited for, the row of `accounts` above is from before the wait. A
# change of a currency that is not locked yet takes the same lock, so here it is the present one.
_CURRENCIES = "SELECT id, currency FROM accounts WHERE id = ANY(%(ids)s::bigint[])"

GRANT_COLUMNS = """r.account_id, r.grant_number, r.kind, r.amount_micros, r.consideration_micros,
       r.rate_millionths, r.services, r.starts_at, r.expires_at, r.priority, r.granted_at,
       r.remaining_micros, r.held_micros, r.clawed_back_micros, r.expired_micros"""

_OPEN_GRANTS = f"""
SELECT {GRANT_COLUMNS}
FROM grant_balances r
WHERE r.account_id = ANY(%(ids)s::bigint[]) AND r.is_open
"""  # noqa: S608 - constant text

_SOME_GRANTS = f"""
SELECT {GRANT_COLUMNS}
FROM grant_balances r
WHERE r.account_id = %(account_id)s AND r.grant_number = ANY(%(numbers)s::bigint[])
"""  # noqa: S608 - constant text

_DEBTS = """
SELECT account_id, service, cause, due_micros, opened_at FROM debts
WHERE account_id = ANY(%(ids)s::bigint[]) AND due_micros > 0
"""


def lock_accounts(
    session: Session, account_ids: Iterable[int]
) -> tuple[dict[int, AccountState], datetime]:
    """Lock the accounts in id order; return their states, and the time after the last lock.

    The caller holds these locks until its transaction ends, so that every account's entries have
    one order. What is read here is read after the locks were granted. Raises NotFound where an
    account is missing.
    """
    ids = sorted(set(account_ids))
    id_array = integer_array(ids)
    locked = fetch_rows(session, _LOCK, ids=id_array, last=ids[-1] if ids else 0)
    if len(locked) != len(ids):
        raise NotFound("account")
    instant, sites = locked[-1][-2:] if locked else (None, [])
    now = clock.now(session, instant)
    rules = _rules_of(sites)
    accounts = {row[0]: _account_state(row, rules[row[1]]) for row in locked}
    unsettled = [row[0] for row in locked if row[-3]]
    if unsettled:
        settled = integer_array(unsettled)
        for account_id, currency in fetch_rows(session, _CURRENCIES, ids=settled):
            accounts[account_id].currency = currency
    for row in fetch_rows(session, _OPEN_GRANTS, ids=id_array):
        account = accounts[row[0]]
        grant = grant_state(row)
        account.grants[grant.grant_number] = grant
    for account in accounts.values():
        account.burning = sorted(
            (grant for number, grant in account.grants.items() if number), key=burn_order
        )
    indebted = [account.account_id for account in accounts.values() if account.debt_micros]
    if indebted:
        id_array = integer_array(indebted)
        for account_id, service, cause, owed, opened_at in fetch_rows(
            session, _DEBTS, ids=id_array
        ):
            accounts[account_id].debts[service, cause] = DebtState(owed, opened_at)
    return accounts, now


def _account_state(row: tuple[Any, ...], site: _Site) -> AccountState:
    """Return the state of an account from a row of _LOCK and its site."""
    values: tuple[Any, ...] = (*row[:5], *site, *row[5:-3])
    return AccountState(*values)


def _rules_of(sites: Iterable[Sequence[Any]]) -> dict[str, _Site]:
    """Return the rules of each site from the rows of _SITES."""
    rules: dict[str, _Site] = {}
    for code, zone, grace, retention, valid_from, tax_point, tax_rate, place in sites:
        site = rules.get(code)
        if site is None:
            durations = (timedelta(seconds=grace), timedelta(seconds=retention))
            site = rules[code] = (ZoneInfo(zone), *durations, [])
        if valid_from is not None:
            since, rate = date.fromisoformat(valid_from), Decimal(tax_rate)
            site[-1].append(TaxTerms(since, tax_point, rate, place))
    return rules


def load_grants(session: Session, account: AccountState, numbers: Iterable[int]) -> None:
    """Load spent grants, which were not read with the open ones, into the state."""
    missing = [number for number in numbers if number not in account.grants]
    if not missing:
        return
    id_array = integer_array(missing)
    for row in fetch_rows(session, _SOME_GRANTS, account_id=account.account_id, numbers=id_array):
        account.add_grant(grant_state(row))


def grant_state(row: tuple[Any, ...]) -> GrantState:
    """Return the state of a grant from a row of GRANT_COLUMNS."""
    return GrantState(*row[1:])
