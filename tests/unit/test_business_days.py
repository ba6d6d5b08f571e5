"""Days on which banks are open: weekends, public holidays, and years that nobody planned for."""

from __future__ import annotations

from datetime import date

import pytest

from domain.business_days import is_business_day, next_business_day


@pytest.mark.parametrize(
    ("day", "currencies", "is_open"),
    [
        (date(2027, 2, 8), ("USD", "VND"), False),
        (date(2027, 2, 8), ("USD", "JPY"), True),
        (date(2027, 5, 4), ("USD", "JPY"), False),
        (date(2026, 12, 31), ("USD", "JPY"), False),
        (date(2027, 3, 26), ("EUR", "VND"), False),
        (date(2027, 3, 26), ("USD", "VND"), True),
        (date(2027, 7, 5), ("USD", "VND"), False),
        (date(2026, 11, 28), ("USD",), False),
        (date(2026, 11, 30), ("XXX",), True),
    ],
)
def test_business_day_is_one_in_every_country(
    day: date, currencies: tuple[str, ...], *, is_open: bool
) -> None:
    assert is_business_day(day, currencies) is is_open


@pytest.mark.parametrize("year", [1990, 2050, 2200])
def test_next_business_day_is_found_in_any_year(year: int) -> None:
    found = next_business_day(date(year, 12, 30), ("USD", "VND"))
    assert 1 <= (found - date(year, 12, 30)).days <= 14
