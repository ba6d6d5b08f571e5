from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from domain.errors import CurrencyMismatch, UnknownCurrency
from domain.money import MAX_MICROS, MIN_MICROS, Money
from portal.ui import formats

MOMENT = datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("micros", "currency", "locale", "text"),
    [
        (500_000_000_000, "VND", "vi", "500.000\N{NO-BREAK SPACE}₫"),
        (500_000_000_000, "VND", "en", "₫500,000"),
        (3_000_000_000, "JPY", "en", "¥3,000"),
        (3_000_000_000, "JPY", "ja", "\uffe53,000"),
        (25_000_000, "USD", "en", "$25.00"),
        (25_000_000, "EUR", "de", "25,00\N{NO-BREAK SPACE}€"),
        (1_500_000, "KWD", "en", "KWD\N{NO-BREAK SPACE}1.500"),
        (0, "USD", "en", "$0.00"),
        (-25_500_000, "USD", "en", "\N{MINUS SIGN}$25.50"),
        (-500_000_000_000, "VND", "vi", "\N{MINUS SIGN}500.000\N{NO-BREAK SPACE}₫"),
        (5_000, "USD", "en", "$0.01"),  # half a cent goes up
        (-5_000, "USD", "en", "\N{MINUS SIGN}$0.01"),
        (4_999, "USD", "en", "<$0.01"),
        (1, "USD", "en", "<$0.01"),
        (-1, "USD", "en", "\N{MINUS SIGN}<$0.01"),
        (499_999, "JPY", "en", "<¥1"),
        (1, "VND", "vi", "<1\N{NO-BREAK SPACE}₫"),
        (1, "KWD", "en", "<KWD\N{NO-BREAK SPACE}0.001"),
        (MAX_MICROS, "USD", "en", "$9,223,372,036,854.78"),
    ],
)
def test_money_has_the_decimals_of_its_currency(
    micros: int, currency: str, locale: str, text: str
) -> None:
    assert formats.money(micros, currency, locale=locale) == text
    assert formats.money(Money(micros, currency), locale=locale) == text


@pytest.mark.parametrize(
    ("micros", "currency", "locale", "text"),
    [
        (2_234, "USD", "en", "$0.002234"),
        (-2_234, "USD", "en", "\N{MINUS SIGN}$0.002234"),
        (2_230, "USD", "en", "$0.00223"),
        (25_000_000, "USD", "en", "$25.00"),
        (25_500_000, "USD", "en", "$25.50"),
        (1, "VND", "vi", "0,000001\N{NO-BREAK SPACE}₫"),
        (3_000_000_000, "JPY", "en", "¥3,000"),
        (3_000_500_000, "JPY", "en", "¥3,000.5"),
        (MIN_MICROS, "USD", "en", "\N{MINUS SIGN}$9,223,372,036,854.775808"),
    ],
)
def test_exact_money_shows_every_micro(micros: int, currency: str, locale: str, text: str) -> None:
    assert formats.money(micros, currency, locale=locale, exact=True) == text


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (25_000_000, "+$25.00"),
        (-25_000_000, "\N{MINUS SIGN}$25.00"),
        (0, "$0.00"),
        (1, "+<$0.01"),
        (-1, "\N{MINUS SIGN}<$0.01"),
    ],
)
def test_signed_money_says_what_comes_in(micros: int, text: str) -> None:
    assert formats.money(micros, "USD", locale="en", signed=True) == text


@pytest.mark.parametrize(
    ("exact_micros", "text"),
    [
        ("2233.759", "$0.002233759"),
        ("2233.759000000000", "$0.002233759"),
        ("-2233.759", "\N{MINUS SIGN}$0.002233759"),
        ("5000000", "$5.00"),
        ("0", "$0.00"),
        ("0E-12", "$0.00"),
        ("9223372036854775807.123456789012", "$9,223,372,036,854.775807123456789012"),
    ],
)
def test_the_cost_of_a_call_has_every_digit(exact_micros: str, text: str) -> None:
    assert formats.exact_money(Decimal(exact_micros), "USD", locale="en") == text


def test_a_float_is_no_money() -> None:
    with pytest.raises(TypeError):
        formats.money(1.0, "USD")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        formats.exact_money(1.0, "USD")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        formats.number(1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        formats.number(True)  # noqa: FBT003 - the wrong type is the point


def test_micros_need_a_currency_and_money_has_one() -> None:
    with pytest.raises(TypeError):
        formats.money(1)
    with pytest.raises(UnknownCurrency):
        formats.money(1, "XXX")
    with pytest.raises(CurrencyMismatch):
        formats.money(Money(1, "USD"), "JPY")
    assert formats.money(Money(0, "USD"), "USD", locale="en") == "$0.00"


@pytest.mark.parametrize(
    ("value", "locale", "text"),
    [
        (13_394, "en", "13,394"),
        (Decimal("1E+5"), "en", "100,000"),
        (Decimal("1234567.500"), "vi", "1.234.567,5"),
        (
            Decimal("1234567890123456789.123456789012"),
            "en",
            "1,234,567,890,123,456,789.123456789012",
        ),
    ],
)
def test_numbers_keep_every_digit(value: Decimal | int, locale: str, text: str) -> None:
    assert formats.number(value, locale=locale) == text


@pytest.mark.parametrize(
    ("locale", "text"),
    [
        ("en", "Nov 17, 2023, 1:17:03\N{NARROW NO-BREAK SPACE}AM"),
        ("vi", "01:17:03 17 thg 11, 2023"),
        ("ja", "2023/11/17 1:17:03"),
    ],
)
def test_date_and_time_are_those_of_the_zone(locale: str, text: str) -> None:
    assert formats.date_time(MOMENT, "Asia/Saigon", locale=locale) == text


def test_a_date_is_that_of_the_zone() -> None:
    assert formats.date(MOMENT, "Asia/Tokyo", locale="en") == "Nov 17, 2023"
    assert formats.date(MOMENT, UTC, locale="en") == "Nov 16, 2023"
    assert formats.date(date(2023, 11, 16), locale="vi") == "16 thg 11, 2023"


def test_a_moment_without_a_zone_has_no_date() -> None:
    with pytest.raises(ValueError, match="zone"):
        formats.date_time(MOMENT.replace(tzinfo=None), UTC)
    with pytest.raises(ValueError, match="zone"):
        formats.date(MOMENT.replace(tzinfo=None), UTC)
    with pytest.raises(TypeError):
        formats.date(MOMENT)


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (0, "today"),
        (1, "tomorrow"),
        (-1, "yesterday"),
        (2, "in 2 days"),
        (45, "in 45 days"),
        (400, "in 400 days"),
        (-30, "30 days ago"),
    ],
)
def test_relative_days_are_counted(days: int, text: str) -> None:
    today = date(2026, 1, 31)
    assert formats.relative_days(today + timedelta(days=days), today, locale="en") == text


def test_relative_days_in_another_language() -> None:
    assert formats.relative_days(date(2026, 3, 1), date(2026, 1, 1), locale="ja") == "59 日後"


@pytest.mark.parametrize("name", ["", "Nowhere/Else", "../../etc/passwd", "America", "x\0y"])
def test_an_unknown_zone_is_utc(name: str) -> None:
    assert formats.time_zone(name) == ZoneInfo("UTC")


def test_a_known_zone_is_itself() -> None:
    offset = timezone(timedelta(hours=7))
    assert formats.time_zone("Asia/Saigon") == ZoneInfo("Asia/Saigon")
    assert formats.time_zone(offset) is offset


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("CET", "Europe/Brussels"),
        ("MET", "Europe/Brussels"),
        ("EET", "Europe/Athens"),
        ("WET", "Europe/Lisbon"),
        ("cet", "Europe/Brussels"),
    ],
)
def test_a_zone_that_the_database_takes_for_an_offset_is_a_place(name: str, place: str) -> None:
    assert formats.time_zone(name) == ZoneInfo(place)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 sec"),
        (59, "59 sec"),
        (3_600, "1 hr"),
        (2_703, "45 min 3 sec"),
        (90_001, "25 hr 1 sec"),
        (Decimal("90.5"), "1 min 30.5 sec"),
    ],
)
def test_a_length_of_time_leaves_out_what_is_nothing(seconds: Decimal | int, text: str) -> None:
    assert formats.duration(seconds, locale="en") == text


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("Lan's lab, 5.2", "Lan's lab, 5.2"),
        ("+$5.00", r"+\$5.00"),
        ("17:03 · 500.000\N{NO-BREAK SPACE}₫", "17\\:03 · 500.000\N{NO-BREAK SPACE}₫"),
        ("*a* [b] <c> &amp; #1", r"\*a\* \[b\] \<c\> \&amp; \#1"),
        ("see www.a.example", "see www:color[]{}.a.example"),
        ("https://a.example", r"https\::color[]{}//a.example"),
        ("ann@a.example", "ann@:color[]{}a.example"),
        (":material/home:", r"\::color[]{}material/home\:"),
        ("a -> b", r"a -:color[]{}\> b"),
        ("1. one", r"1\. one"),
        ("- one", r"\- one"),
        ("1.5", "1.5"),
        ("=", r"\="),
        (" one\r\n\n- two\u2028# three ", r"one - two \# three"),
        ("", ""),
    ],
)
def test_plain_text_has_nothing_that_markdown_takes_for_something(text: str, markdown: str) -> None:
    assert formats.plain(text) == markdown
