from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.money import (
    MAX_MICROS,
    MICROS_PER_UNIT,
    MIN_MICROS,
    Money,
    currency_exponent,
    share_between,
    share_of,
    split_carry,
)
from portal.ui import formats

CURRENCIES = st.sampled_from(["USD", "EUR", "VND", "JPY", "KWD"])
LOCALES = st.sampled_from(["en", "vi", "ja", "de", "fr", "sv", "de_CH"])
MICROS = st.integers(MIN_MICROS, MAX_MICROS)
SMALL = st.integers(-(2**40), 2**40)
EXACT_AMOUNTS = st.decimals(-(10**6), 10**9, places=12)
CARRIES = st.decimals(0, Decimal("0.999999999999"), places=12)


@given(MICROS, CURRENCIES, LOCALES)
def test_an_exact_amount_is_read_back(micros: int, currency: str, locale: str) -> None:
    text = formats.money(micros, currency, locale=locale, exact=True)
    read = Money.parse(text, currency, locale=locale, minor_units_only=False)
    assert read == Money(micros, currency)


@given(st.integers(-(10**12), 10**12), CURRENCIES, LOCALES)
def test_an_amount_of_whole_coins_is_read_back(count: int, currency: str, locale: str) -> None:
    amount = Money.from_minor_units(count, currency)
    text = formats.money(amount, locale=locale, signed=True)
    assert Money.parse(text, currency, locale=locale) == amount
    assert amount.to_minor_units() == count


@given(MICROS, CURRENCIES)
def test_decimals_are_read_back(micros: int, currency: str) -> None:
    amount = Money(micros, currency)
    assert Money.from_decimal(amount.to_decimal(), currency) == amount
    assert amount.to_decimal() * MICROS_PER_UNIT == micros


@given(MICROS, CURRENCIES, LOCALES)
def test_what_people_see_is_within_half_a_coin(micros: int, currency: str, locale: str) -> None:
    text = formats.money(micros, currency, locale=locale)
    coin = 10 ** (6 - currency_exponent(currency))
    if "<" in text:
        assert 0 < 2 * abs(micros) < coin
    elif abs(micros) <= MAX_MICROS - coin:
        shown = Money.parse(text, currency, locale=locale).micros
        assert abs(2 * (shown - micros)) <= coin
        assert shown or not micros


@given(st.text(max_size=80) | st.text("0123456789.,' -+$€₫", max_size=20), CURRENCIES, LOCALES)
def test_any_text_is_an_amount_or_is_refused(text: str, currency: str, locale: str) -> None:
    try:
        read = Money.parse(text, currency, locale=locale)
    except InvalidInput as refusal:
        assert refusal.field == "amount"  # noqa: PT017 - a refusal is one of two good answers
    else:
        typed = [character for character in text if character.isdigit()]
        assert typed
        assert read.to_minor_units() * 10**6 == read.micros * 10 ** currency_exponent(currency)


@given(
    st.integers(0, 10**12),
    st.sampled_from(["VND", "JPY"]),
    st.sampled_from(",.' _"),
    LOCALES,
    LOCALES,
)
def test_whole_currency_any_consistent_grouping_is_read(
    count: int, currency: str, sign: str, locale: str, second: str
) -> None:
    text = f"{count:,}".replace(",", sign)
    read = Money.parse(text, currency, locale=locale, second_locale=second)
    assert read == Money.from_minor_units(count, currency)


@given(
    st.integers(0, 10**9),
    st.text("0123456789", min_size=1, max_size=6),
    st.sampled_from(["VND", "JPY"]),
    st.sampled_from(".,"),
    LOCALES,
)
def test_whole_currency_fraction_is_refused(
    count: int, fraction: str, currency: str, sign: str, locale: str
) -> None:
    text = f"{count}{sign}{fraction}"
    if len(fraction) == 3 and 0 < count < 1000:
        assert Money.parse(text, currency, locale=locale).to_minor_units() == int(
            f"{count}{fraction}"
        )
        return
    with pytest.raises(InvalidInput) as refusal:
        Money.parse(text, currency, locale=locale)
    assert refusal.value.reason == "too_many_decimals"
    assert refusal.value.values == {"decimals": 0}


@given(
    st.integers(1, 999),
    st.text("0123456789", min_size=1, max_size=3),
    st.sampled_from(".,"),
    LOCALES,
    LOCALES,
)
def test_one_sign_is_read_as_the_locale_says_or_asked_about(
    whole: int, rest: str, sign: str, locale: str, second: str
) -> None:
    """Whatever the locales: the amount is one of the two readings, or both are named."""
    fraction = Decimal(f"{whole}.{rest}").quantize(Decimal("0.01"), ROUND_HALF_UP)
    thousands = Decimal(f"{whole}{rest.ljust(3, '0')}")
    readings = [Money.from_decimal(each, "USD").micros for each in (fraction, thousands)]
    try:
        read = Money.parse(f"{whole}{sign}{rest}", "USD", locale=locale, second_locale=second)
    except InvalidInput as refusal:
        assert refusal.reason == "ambiguous"  # noqa: PT017 - one of two good answers
        assert [refusal.values["first_micros"], refusal.values["second_micros"]] == readings  # noqa: PT017 - as above
    else:
        assert read.micros == readings[len(rest) == 3]


@given(st.tuples(SMALL, SMALL, SMALL))
def test_money_adds_up_like_whole_numbers(micros: tuple[int, int, int]) -> None:
    first, second, third = (Money(count, "USD") for count in micros)
    assert (first + second) + third == first + (second + third) == third + second + first
    assert first - second == first + -second
    assert (first < second) == (micros[0] < micros[1])
    assert (first >= second) == (micros[0] >= micros[1])


@given(SMALL, st.integers(1, 2**62), st.data())
def test_shares_of_steps_add_up_to_the_total(total: int, amount: int, data: st.DataObject) -> None:
    uses = data.draw(st.lists(st.integers(0, amount), max_size=20))
    steps = [0, *sorted(uses), amount]
    shares = [share_between(total, before, after, amount) for before, after in pairwise(steps)]
    assert sum(shares) == total
    assert all(share * total >= 0 for share in shares)


@given(SMALL, st.integers(1, 2**62), st.data())
def test_a_share_is_the_nearest_whole_micro(total: int, amount: int, data: st.DataObject) -> None:
    used = data.draw(st.integers(0, amount))
    share = share_of(total, used, amount)
    assert abs(share - Fraction(total * used, amount)) <= Fraction(1, 2)
    assert share_of(-total, used, amount) == -share


@given(st.lists(EXACT_AMOUNTS, max_size=30), CARRIES, st.data())
def test_charges_and_carry_are_what_is_owed_in_any_order(
    amounts: list[Decimal], carry: Decimal, data: st.DataObject
) -> None:
    charged, carried = charge_all(amounts, carry)
    owed = sum(map(Fraction, amounts), Fraction(carry))
    assert charged + Fraction(carried) == owed
    assert abs(charged - owed) < 1
    assert charge_all(data.draw(st.permutations(amounts)), carry) == (charged, carried)


def charge_all(amounts: list[Decimal], carry: Decimal) -> tuple[int, Decimal]:
    charged = 0
    for amount in amounts:
        micros, carry = split_carry(amount, carry)
        assert 0 <= carry < 1
        charged += micros
    return charged, carry


@given(st.floats())
def test_no_float_becomes_money(value: float) -> None:
    with pytest.raises(TypeError):
        Money(value, "USD")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Money.from_decimal(value, "USD")  # type: ignore[arg-type]
