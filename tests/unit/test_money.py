from __future__ import annotations

import pickle
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from domain.errors import (
    AmountOutOfRange,
    BillingError,
    CurrencyMismatch,
    InvalidInput,
    ReversalExceedsOriginal,
    UnknownCurrency,
)
from domain.money import (
    MAX_MICROS,
    MIN_MICROS,
    Money,
    currency_exponent,
    exact_micros,
    known_currency,
    share_between,
    share_of,
    split_carry,
    whole_micros,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("code", "exponent"), [("VND", 0), ("JPY", 0), ("USD", 2), ("EUR", 2), ("KWD", 3), ("CLF", 4)]
)
def test_exponents_are_those_of_iso_4217(code: str, exponent: int) -> None:
    assert known_currency(code)
    assert currency_exponent(code) == exponent


@pytest.mark.parametrize("code", ["usd", "XXX", "XAU", "ZZZ", "", "US"])
def test_what_nobody_pays_in_is_no_currency(code: str) -> None:
    assert not known_currency(code)
    with pytest.raises(UnknownCurrency):
        Money(1, code)


@pytest.mark.parametrize("value", [1.0, True, Decimal(1), "1", None], ids=repr)
def test_only_a_whole_int_counts_micros(value: object) -> None:
    with pytest.raises(TypeError):
        Money(value, "USD")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Money.from_minor_units(value, "USD")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        share_of(value, 1, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.5, 1, True, "1"], ids=repr)
def test_only_a_decimal_is_an_exact_amount(value: object) -> None:
    with pytest.raises(TypeError):
        Money.from_decimal(value, "USD")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        exact_micros(value)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        split_carry(value, Decimal(0))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        split_carry(Decimal(0), value)  # type: ignore[arg-type]


def test_arithmetic_within_a_currency() -> None:
    five, two = Money(5, "USD"), Money(2, "USD")
    assert five + two == Money(7, "USD")
    assert two - five == Money(-3, "USD")
    assert -five == Money(-5, "USD")
    assert abs(-five) == five
    assert two < five
    assert two <= Money(2, "USD")
    assert five > two
    assert sum([five, two], Money.zero("USD")) == Money(7, "USD")


def test_currencies_do_not_mix() -> None:
    dollars, yen = Money(5, "USD"), Money(5, "JPY")
    assert dollars != yen
    for attempt in (
        lambda: dollars + yen,
        lambda: dollars - yen,
        lambda: dollars < yen,
        lambda: dollars <= yen,
        lambda: dollars > yen,
        lambda: dollars >= yen,
    ):
        with pytest.raises(CurrencyMismatch):
            attempt()


def test_money_goes_with_nothing_but_money() -> None:
    with pytest.raises(TypeError):
        Money(5, "USD") + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        Money(5, "USD") < 1.0  # type: ignore[operator]  # noqa: B015 - the comparison raises


HALF = Decimal("0.5")
LARGEST = Money(MAX_MICROS, "USD")
SMALLEST = Money(MIN_MICROS, "USD")


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(lambda: LARGEST + Money(1, "USD"), id="sum"),
        pytest.param(lambda: SMALLEST - Money(1, "USD"), id="difference"),
        pytest.param(lambda: -SMALLEST, id="opposite"),
        pytest.param(lambda: Money.from_minor_units(10**15, "JPY"), id="coins"),
        pytest.param(lambda: whole_micros(Decimal("9223372036854.775808")), id="by one"),
        pytest.param(lambda: whole_micros(Decimal("1e999999")), id="by far"),
        pytest.param(lambda: exact_micros(Decimal("-1e30")), id="exact"),
        pytest.param(lambda: split_carry(Decimal("1e999999"), Decimal(0)), id="charge by far"),
        pytest.param(lambda: split_carry(Decimal(MAX_MICROS) + 1, Decimal(0)), id="charge by one"),
        pytest.param(lambda: split_carry(MAX_MICROS + HALF, HALF), id="charge by its carry"),
    ],
)
def test_beyond_a_bigint_is_refused(attempt: Callable[[], object]) -> None:
    with pytest.raises(AmountOutOfRange):
        attempt()


def test_up_to_a_bigint_is_held() -> None:
    assert Money.from_decimal(Decimal("9223372036854.775807"), "USD") == LARGEST
    assert Money.from_decimal(Decimal("-9223372036854.775808"), "USD") == SMALLEST


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_not_finite_is_no_amount(text: str) -> None:
    for attempt in (
        lambda: exact_micros(Decimal(text)),
        lambda: split_carry(Decimal(text), Decimal(0)),
        lambda: split_carry(Decimal(0), Decimal(text)),
    ):
        with pytest.raises(InvalidInput):
            attempt()


def test_exact_and_whole_micros() -> None:
    assert exact_micros(Decimal("0.002233759")) == Decimal("2233.759")
    assert whole_micros(Decimal("0.002233")) == 2233
    with pytest.raises(InvalidInput) as refusal:
        whole_micros(Decimal("0.002233759"))
    assert refusal.value.reason == "too_many_decimals"
    with pytest.raises(InvalidInput):
        exact_micros(Decimal("0." + "1" * 90))


@pytest.mark.parametrize(
    ("count", "currency", "micros"),
    [(3000, "JPY", 3_000_000_000), (2550, "USD", 25_500_000), (-1234, "KWD", -1_234_000)],
)
def test_minor_units_both_ways(count: int, currency: str, micros: int) -> None:
    assert Money.from_minor_units(count, currency) == Money(micros, currency)
    assert Money(micros, currency).to_minor_units() == count


def test_a_fraction_of_a_coin_is_no_count_of_coins() -> None:
    with pytest.raises(InvalidInput) as refusal:
        Money(2234, "USD").to_minor_units()
    assert refusal.value.values == {"decimals": 2}


def test_to_decimal_keeps_every_micro() -> None:
    assert str(Money(-2234, "USD").to_decimal()) == "-0.002234"
    assert Money(MAX_MICROS, "USD").to_decimal() == Decimal("9223372036854.775807")


@pytest.mark.parametrize(
    ("text", "currency", "locale", "amount"),
    [
        ("25", "USD", "en", "25"),
        (" 25.5 ", "USD", "en", "25.5"),
        ("1,234.56", "USD", "en", "1234.56"),
        ("1.234,56", "USD", "en", "1234.56"),  # can be read in one way only
        ("1234,50", "USD", "en", "1234.50"),  # four digits are no group
        ("0,50", "USD", "en", "0.50"),
        ("1 234.56", "USD", "en", "1234.56"),
        ("1_000", "USD", "en", "1000"),
        ("$25", "USD", "en", "25"),
        ("-$25.5", "USD", "en", "-25.5"),
        ("$-25.5", "USD", "en", "-25.5"),
        ("\N{MINUS SIGN}$25.50", "USD", "en", "-25.50"),
        ("+25", "USD", "en", "25"),
        ("25 usd", "USD", "en", "25"),
        ("USD 25", "USD", "en", "25"),
        ("500,000", "VND", "en", "500000"),
        ("500.000", "VND", "vi", "500000"),
        # Without decimals, every sign separates groups, in any language.
        ("500.000", "VND", "en", "500000"),
        ("500,000", "VND", "vi", "500000"),
        ("3.000", "JPY", "en", "3000"),
        ("3,000", "JPY", "ja", "3000"),
        ("1'234'567", "VND", "en", "1234567"),
        ("1 234 567", "JPY", "vi", "1234567"),
        ("¥3.000", "JPY", "en", "3000"),
        ("500.000\N{NO-BREAK SPACE}\N{DONG SIGN}", "VND", "vi", "500000"),
        ("500000đ", "VND", "vi", "500000"),
        ("1.234.567", "VND", "en", "1234567"),
        ("3,000円", "JPY", "ja", "3000"),
        (
            "\uffe5\uff13\uff0c\uff10\uff10\uff10",
            "JPY",
            "ja",
            "3000",
        ),  # as an input method types it
        ("1.234", "KWD", "en", "1.234"),
        ("1,234", "KWD", "en", "1234"),
        ("1\N{NARROW NO-BREAK SPACE}234,5", "EUR", "fr", "1234.5"),
        ("1\N{RIGHT SINGLE QUOTATION MARK}234.50", "CHF", "de-CH", "1234.50"),
        ("1234,5", "EUR", "de", "1234.5"),
        ("25.5", "USD", "no such place", "25.5"),
        ("25,50", "USD", "en", "25.5"),  # cents: no group has two digits
        ("$12,34", "USD", "en", "12.34"),
        ("25.50", "EUR", "de", "25.5"),
    ],
)
def test_parse_reads_what_people_type(text: str, currency: str, locale: str, amount: str) -> None:
    assert Money.parse(text, currency, locale=locale) == Money.from_decimal(
        Decimal(amount), currency
    )


@pytest.mark.parametrize(
    ("text", "currency", "locale", "reason"),
    [
        ("", "USD", "en", "empty"),
        ("  ", "USD", "en", "empty"),
        ("1.5", "VND", "en", "too_many_decimals"),
        ("1,5", "VND", "vi", "too_many_decimals"),
        ("3,000.00", "JPY", "en", "too_many_decimals"),
        ("1.000,000", "VND", "en", "too_many_decimals"),  # two signs are no grouping
        ("0.500", "VND", "vi", "too_many_decimals"),
        ("1,23,456", "JPY", "en", "not_a_number"),
        ("1 000.000.000", "VND", "en", "not_a_number"),
        ("25.000", "USD", "en", "ambiguous"),
        ("10\N{SUPERSCRIPT TWO}", "USD", "en", "not_a_number"),
        ("\N{CIRCLED DIGIT FIVE}", "USD", "en", "not_a_number"),
        ("1.5", "USD", "vi", "ambiguous"),
        ("0.001", "USD", "en", "too_many_decimals"),
        ("3000.5", "JPY", "en", "too_many_decimals"),
        ("25.5000", "USD", "en", "too_many_decimals"),
        ("99999999999999", "USD", "en", "out_of_range"),
        ("9" * 65, "USD", "en", "not_a_number"),
        ("1e5", "USD", "en", "not_a_number"),
        ("0x10", "USD", "en", "not_a_number"),
        ("NaN", "USD", "en", "not_a_number"),
        ("inf", "USD", "en", "not_a_number"),
        ("1,23,456", "USD", "en", "not_a_number"),
        ("1,234 567", "USD", "en", "not_a_number"),
        ("1.2.3", "USD", "en", "not_a_number"),
        ("--5", "USD", "en", "not_a_number"),
        ("-$-5", "USD", "en", "not_a_number"),
        ("5-", "USD", "en", "not_a_number"),
        ("$", "USD", "en", "not_a_number"),
        ("€25", "USD", "en", "not_a_number"),
        ("25 JPY", "USD", "en", "not_a_number"),
        ("\N{ARABIC-INDIC DIGIT THREE}", "USD", "ar", "not_a_number"),
    ],
)
def test_parse_refuses_what_is_doubtful(text: str, currency: str, locale: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Money.parse(text, currency, locale=locale)
    assert (refusal.value.field, refusal.value.reason) == ("amount", reason)


@pytest.mark.parametrize(
    ("text", "locale", "second_locale", "first", "second"),
    [
        ("1.500", "en", None, "1.50", "1500"),
        ("1,5", "en", None, "1.50", "1500"),
        ("-1,5", "en", None, "-1.50", "-1500"),
        ("$12,3", "en", None, "12.30", "12300"),
        ("1.234", "en", None, "1.23", "1234"),
        ("1,234", "vi", None, "1.23", "1234"),
        ("1,234", "en", "de", "1.23", "1234"),  # the page is English and the browser German
        ("1.234", "de", "en", "1.23", "1234"),
        ("1.5", "vi", None, "1.50", "1500"),
    ],
)
def test_parse_ambiguous_amount_names_both_readings(
    text: str, locale: str, second_locale: str | None, first: str, second: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Money.parse(text, "USD", locale=locale, second_locale=second_locale)
    assert (refusal.value.field, refusal.value.reason) == ("amount", "ambiguous")
    readings = (Money.from_decimal(Decimal(each), "USD").micros for each in (first, second))
    assert refusal.value.values == {
        **dict(zip(("first_micros", "second_micros"), readings, strict=True)),
        "currency": "USD",
    }


@pytest.mark.parametrize(
    ("text", "locale", "second_locale", "amount"),
    [
        ("1,5", "en", "de", "1.5"),
        ("1.5", "de", "en", "1.5"),
        ("1,234", "en", "en_GB", "1234"),
        ("1,234.50", "en", "de", "1234.50"),
        ("1,234,567", "de", "en", "1234567"),
    ],
)
def test_parse_second_locale_settles_what_it_can(
    text: str, locale: str, second_locale: str, amount: str
) -> None:
    read = Money.parse(text, "USD", locale=locale, second_locale=second_locale)
    assert read == Money.from_decimal(Decimal(amount), "USD")


def test_parse_takes_micros_where_they_are_wanted() -> None:
    parsed = Money.parse("0.002234", "USD", minor_units_only=False)
    assert parsed == Money(2234, "USD")
    with pytest.raises(InvalidInput):
        Money.parse("0.0022345", "USD", minor_units_only=False)


@pytest.mark.parametrize(
    ("total", "used", "amount", "share"),
    [
        (80, 0, 100, 0),
        (80, 100, 100, 80),
        (80, 33, 100, 26),
        (1, 1, 2, 1),  # half goes away from zero, as the database's round() does
        (-1, 1, 2, -1),
        (1, 49, 100, 0),
        (0, 5, 10, 0),
        (MAX_MICROS, MAX_MICROS - 1, MAX_MICROS, MAX_MICROS - 1),
    ],
)
def test_share_of(total: int, used: int, amount: int, share: int) -> None:
    assert share_of(total, used, amount) == share


@pytest.mark.parametrize(("used", "amount"), [(-1, 10), (11, 10), (0, 0), (0, -1)])
def test_a_share_needs_a_use_within_the_amount(used: int, amount: int) -> None:
    with pytest.raises(ValueError, match="what is used"):
        share_of(5, used, amount)


def test_share_between_gives_back_on_a_step_back() -> None:
    assert share_between(80, 10, 60, 100) == 40
    assert share_between(80, 60, 10, 100) == -40


@pytest.mark.parametrize(
    ("exact", "carry", "charged", "carried"),
    [
        ("2233.759", "0", 2233, "0.759"),
        ("2233.759", "0.759", 2234, "0.518"),
        ("0.000000000001", "0.999999999999", 1, "0"),
        ("0", "0.5", 0, "0.5"),
        ("-0.25", "0", -1, "0.75"),  # giving back borrows a micro and carries the rest
        ("-0.25", "0.5", 0, "0.25"),
    ],
)
def test_split_carry(exact: str, carry: str, charged: int, carried: str) -> None:
    assert split_carry(Decimal(exact), Decimal(carry)) == (charged, Decimal(carried))


@pytest.mark.parametrize(
    ("exact", "carry"), [("1", "1"), ("1", "-0.1"), ("0.0000000000001", "0"), ("0", "1e-13")]
)
def test_a_carry_has_twelve_decimals_below_one(exact: str, carry: str) -> None:
    with pytest.raises(ValueError, match=r"carry|decimals"):
        split_carry(Decimal(exact), Decimal(carry))


def test_an_error_says_what_it_is_and_survives_pickling() -> None:
    error = ReversalExceedsOriginal(requested_micros=5, reversible_micros=2)
    assert str(error) == (
        "The reversals would sum to more than what they reverse. "
        "(requested_micros=5, reversible_micros=2)"
    )
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert isinstance(copy, BillingError)
    assert vars(copy) == vars(error)


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in BillingError.__subclasses__()]
    assert "billing_error" not in codes
    assert len(set(codes)) == len(codes)
