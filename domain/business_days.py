"""Days on which banks quote exchange rates: neither weekends nor public holidays.

The first two letters of a currency's code are its country's, by ISO 4217; the euro's days are those
of the European Central Bank. A country without a known holiday calendar has weekends only.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache
from typing import TYPE_CHECKING

from holidays import country_holidays, financial_holidays

if TYPE_CHECKING:
    from collections.abc import Collection

_SATURDAY = 5
_DAY = timedelta(days=1)
_EURO = "EUR"
_EURO_CALENDAR = "ECB"
_COUNTRY_LETTERS = 2
_CATEGORIES = frozenset({"public", "bank"})


def is_business_day(day: date, currencies: Collection[str]) -> bool:
    """Return whether banks of every one of these currencies are open on the day."""
    if day.weekday() >= _SATURDAY:
        return False
    return not any(day in _get_holidays(currency, day.year) for currency in currencies)


def next_business_day(day: date, currencies: Collection[str]) -> date:
    """Return the first day after `day` on which banks of all these currencies are open."""
    found = day + _DAY
    while not is_business_day(found, currencies):
        found += _DAY
    return found


@cache
def _get_holidays(currency: str, year: int) -> frozenset[date]:
    if currency == _EURO:
        return frozenset(financial_holidays(_EURO_CALENDAR, years=year))
    try:
        known = country_holidays(currency[:_COUNTRY_LETTERS])
    except NotImplementedError:
        return frozenset()
    categories = _CATEGORIES & set(known.supported_categories)
    return frozenset(
        country_holidays(currency[:_COUNTRY_LETTERS], years=year, categories=categories)
    )
