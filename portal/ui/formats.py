"""Amounts, dates and quantities in the conventions of the context's language.

Amounts have the decimals of their currency (ISO 4217). An amount that is smaller than the smallest
coin is shown as less than that coin, never as zero; `exact` shows every digit.
"""

from __future__ import annotations

import math
import re
from datetime import date as calendar_date
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale
from babel.dates import format_date, format_datetime, format_timedelta
from babel.numbers import (
    NumberPattern,
    format_decimal,
    get_currency_symbol,
    get_group_symbol,
    parse_pattern,
)
from babel.units import format_unit

from domain.clock import PLACES_OF_ZONES
from domain.errors import CurrencyMismatch
from domain.money import EXACT, MICRO_DECIMALS, Money, currency_exponent
from portal.ui.i18n import _, current_language, using

if TYPE_CHECKING:
    from datetime import tzinfo

MINUS = "\N{MINUS SIGN}"
_SECONDS_IN_A_MINUTE = 60
_MINUTES_IN_AN_HOUR = 60
_THOUSANDS = (3, 3)
_REMEMBERED = 8_192
"""A page is drawn again and again, and says mostly what it said before."""

# Characters with a meaning in Markdown, anywhere or at the start of a line.
_MARKDOWN = re.compile(r"[\\`*_\[\]$~<>:|#&]")
_LINE_START = re.compile(r"^(\d*)([-=]|[+.)](?=\s|$))")
_BLANKS = re.compile(r"[ \t-\r\x1c-\x1f\x85\u2028\u2029]+")
# Patterns that Streamlit replaces after the escapes: web and mail addresses, icons, smileys,
# arrows. An empty element between their halves changes nothing else.
_BETWEEN_HALVES = re.compile(
    r"(?<=:)(?=//|[^\W\d]|[-+])|(?<=www)(?=\.)|(?<=@)(?=[-\w])"
    r"|(?<=-)(?=[->])|(?<=<)(?=[-=])|(?<=[>~])(?==)",
    re.IGNORECASE,
)
_NOTHING = ":color[]{}"


def money(
    amount: Money | int,
    currency: str | None = None,
    *,
    locale: str | None = None,
    exact: bool = False,
    signed: bool = False,
) -> str:
    """Return an amount, given as Money or as micros of the currency.

    `exact` shows as many decimals as there are, up to six; `signed` puts a plus before positive
    amounts. Rounding is half away from zero. Raises TypeError for a float.
    """
    if not isinstance(amount, Money):
        if currency is None:
            raise TypeError("micros need a currency")
        amount = Money(amount, currency)
    elif currency not in (None, amount.currency):
        raise CurrencyMismatch(amount.currency, str(currency))
    sign = MINUS if amount.micros < 0 else "+" if signed and amount.micros else ""
    magnitude = Decimal(abs(amount.micros)).scaleb(-MICRO_DECIMALS, EXACT)
    return sign + _magnitude(magnitude, amount.currency, locale or current_language(), exact=exact)


def amount(money: Money, *, locale: str | None = None) -> str:
    """Return an amount's digits alone, with the decimals of its currency: "1,500.00".

    For a place beside the currency's name, or a field that is labelled with it.
    """
    decimals = currency_exponent(money.currency)
    figure = Decimal(money.micros).scaleb(-MICRO_DECIMALS, EXACT)
    rounded = figure.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    pattern = parse_pattern(f"#,##0.{'0' * decimals}" if decimals else "#,##0")
    with localcontext(EXACT):
        text: str = pattern.apply(rounded, locale or current_language())
    return text.replace("-", MINUS)


def exact_money(exact_micros: Decimal, currency: str, *, locale: str | None = None) -> str:
    """Return an exact amount of micros, such as one call's cost, with every digit it has."""
    if not isinstance(exact_micros, Decimal):
        raise TypeError("an exact amount is a Decimal")
    amount = exact_micros.scaleb(-MICRO_DECIMALS, EXACT)
    sign = MINUS if amount < 0 else ""
    language = locale or current_language()
    return sign + _magnitude(amount.copy_abs(), currency, language, exact=True)


def number(value: Decimal | int, *, locale: str | None = None) -> str:
    """Return a count or a measure, grouped, with every decimal it has."""
    language = locale or current_language()
    if type(value) is int and value >= 0:
        # The common case: a file has millions of them, and Babel is slow.
        separator = _separator(language)
        if separator is not None:
            return f"{value:,}".replace(",", separator)
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise TypeError("a quantity is a Decimal or an int")
    with localcontext(EXACT):
        return format_decimal(value, locale=language, decimal_quantization=False)


@lru_cache(maxsize=64)
def _separator(locale: str) -> str | None:
    """Return the separator of groups of digits, or None where those are not of three."""
    pattern = Locale.parse(locale).decimal_formats[None]
    is_plain = pattern.grouping == _THOUSANDS and not pattern.prefix[0] and not pattern.suffix[0]
    return get_group_symbol(locale) if is_plain else None


def quantity(text: str | int) -> Decimal | int:
    """Return a measure as JSON keeps it: a whole number, or a decimal written as text."""
    return text if isinstance(text, int) else Decimal(text)


def duration(seconds: Decimal | int, *, locale: str | None = None) -> str:
    """Return a duration in hours, minutes and seconds, without those that are zero."""
    minutes, rest = divmod(Decimal(seconds), _SECONDS_IN_A_MINUTE)
    hours, minutes = divmod(minutes, _MINUTES_IN_AN_HOUR)
    parts = (("duration-hour", hours), ("duration-minute", minutes), ("duration-second", rest))
    language = locale or current_language()
    words = [format_unit(value, unit, "short", locale=language) for unit, value in parts if value]
    return " ".join(words) or format_unit(0, "duration-second", "short", locale=language)


def days(count: int, *, locale: str | None = None) -> str:
    """Return a number of days in words."""
    return format_unit(count, "duration-day", "long", locale=locale or current_language())


def plain(text: str) -> str:
    """Return text for Markdown as it is: one line that shows exactly these words.

    No emphasis, formula, link, list, icon or arrow is made of it, wherever it is put.
    """
    line = _BLANKS.sub(" ", text).strip()
    halves = (_MARKDOWN.sub(r"\\\g<0>", half) for half in _BETWEEN_HALVES.split(line))
    return _LINE_START.sub(r"\1\\\2", _NOTHING.join(halves))


def date_time(moment: datetime, zone: tzinfo | str, *, locale: str | None = None) -> str:
    """Return date and time as the clocks of the zone show them. Raises ValueError if naive."""
    return _date_time(_aware(moment), time_zone(zone), locale or current_language())


@lru_cache(maxsize=_REMEMBERED)
def _date_time(moment: datetime, zone: tzinfo, locale: str) -> str:
    return format_datetime(moment, "medium", tzinfo=zone, locale=locale)


def date(day: calendar_date, zone: tzinfo | str | None = None, *, locale: str | None = None) -> str:
    """Return a date; a moment needs the zone that decides its day."""
    if isinstance(day, datetime):
        if zone is None:
            raise TypeError("a moment is on different days in different zones")
        day = _aware(day).astimezone(time_zone(zone)).date()
    return format_date(day, "medium", locale=locale or current_language())


def month(day: calendar_date, *, locale: str | None = None) -> str:
    """Return the month of a day with its year, such as "March 2026"."""
    return format_date(day, "LLLL yyyy", locale=locale or current_language())


def relative_days(day: calendar_date, today: calendar_date, *, locale: str | None = None) -> str:
    """Return how far a day is from today: "today", "tomorrow", "in 12 days", "3 days ago"."""
    distance = (day - today).days
    language = locale or current_language()
    with using(language):
        words = {-1: _("yesterday"), 0: _("today"), 1: _("tomorrow")}
    if distance in words:
        return words[distance]
    # Always in days: a person whose credit expires counts days, not months.
    return format_timedelta(
        timedelta(days=distance),
        granularity="day",
        threshold=math.inf,
        add_direction=True,
        locale=language,
    )


def time_zone(zone: tzinfo | str) -> tzinfo:
    """Return the zone of this name; UTC for a name that is unknown, as a browser may send one.

    A name that the database takes for an offset without summer time becomes a place's.
    """
    if not isinstance(zone, str):
        return zone
    try:
        return ZoneInfo(PLACES_OF_ZONES.get(zone.upper(), zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


@lru_cache(maxsize=_REMEMBERED)
def _magnitude(amount: Decimal, currency: str, locale: str, *, exact: bool) -> str:
    decimals = currency_exponent(currency)
    coin = Decimal(1).scaleb(-decimals)
    if exact:
        decimals = max(decimals, _decimals_of(amount))
        return _currency_text(amount, currency, locale, decimals)
    rounded = amount.quantize(coin, ROUND_HALF_UP)
    if amount and not rounded:
        return f"<{_currency_text(coin, currency, locale, decimals)}"
    return _currency_text(rounded, currency, locale, decimals)


def _decimals_of(amount: Decimal) -> int:
    exponent = amount.normalize(EXACT).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _currency_text(amount: Decimal, currency: str, locale: str, decimals: int) -> str:
    with localcontext(EXACT):
        text: str = _currency_pattern(currency, locale, decimals).apply(
            amount, locale, currency, currency_digits=False
        )
    return text


@lru_cache(maxsize=256)
def _currency_pattern(currency: str, locale: str, decimals: int) -> NumberPattern:
    """Return the locale's pattern with this many decimals: Babel's own table is not ISO 4217."""
    standard = Locale.parse(locale).currency_formats["standard"].pattern
    # CLDR keeps a symbol that ends in a letter apart from the digits, which Babel leaves out:
    # "KWD 5.000", but "$5.00".
    gap = "\N{NO-BREAK SPACE}" if get_currency_symbol(currency, locale)[-1].isalpha() else ""
    pattern = parse_pattern(re.sub(r"¤(?=[#0])", f"¤{gap}", standard))
    pattern.frac_prec = (decimals, decimals)
    return pattern


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a moment without a zone can mean any of them")
    return moment
