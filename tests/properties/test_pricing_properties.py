from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalogue.file import CATALOGUE_FILE, parse_catalogue
from domain.catalogue.pricing import Catalogue, Meter, Price, Service, ServiceRole, Usage, rate
from domain.errors import NoPrice

LISTED = parse_catalogue(CATALOGUE_FILE.read_text(encoding="utf-8"))
OPENING = datetime(2024, 1, 1, tzinfo=UTC)
CURRENCIES = st.sampled_from(["USD", "EUR", "JPY", "VND"])
TOKENS = st.integers(0, 10**9).map(Decimal)
QUANTITIES = st.decimals(0, 10**7, places=6)
PRICES = st.decimals(0, 10**6, places=9)
HOURS = st.integers(0, 100).map(lambda hours: OPENING + timedelta(hours=hours))


def meter_of(round_up_to: Decimal | None = None, minimum: Decimal | None = None) -> Meter:
    return Meter("m", "M", "second", Decimal(3600), "hour", round_up_to, minimum)


def catalogue_of(meter: Meter, price: Decimal, per: Decimal = Decimal(3600)) -> Catalogue:
    service = Service("s", "S", ServiceRole.PRINCIPAL, None, (meter,), {})
    return Catalogue([service], [Price("s", "", "m", "USD", OPENING, price, per)])


def cost(catalogue: Catalogue, quantity: Decimal) -> Decimal:
    return rate(catalogue, Usage("s", OPENING, {"m": quantity}), "USD").exact_micros


@given(TOKENS, TOKENS, TOKENS, TOKENS, CURRENCIES)
def test_tokens_cost_the_same_in_one_call_or_two(
    input_one: Decimal, output_one: Decimal, input_two: Decimal, output_two: Decimal, currency: str
) -> None:
    def call(tokens_in: Decimal, tokens_out: Decimal) -> Decimal:
        quantities = {"input-tokens": tokens_in, "output-tokens": tokens_out}
        usage = Usage("ai-inference", OPENING, quantities, "llama-3.1-8b-instruct")
        return rate(LISTED, usage, currency).exact_micros

    together = call(input_one + input_two, output_one + output_two)
    assert call(input_one, output_one) + call(input_two, output_two) == together


@given(PRICES, QUANTITIES, st.sampled_from([1, 3, 7, 3600, 10**6]).map(Decimal))
def test_an_amount_is_the_nearest_that_the_ledger_can_write(
    price: Decimal, quantity: Decimal, per: Decimal
) -> None:
    amount = cost(catalogue_of(meter_of(), price, per), quantity)
    exact = Fraction(price) * Fraction(quantity) * 10**6 / Fraction(per)
    # Fraction's own rounding is half to even too, at the twelfth decimal of a micro.
    assert Fraction(amount) == Fraction(round(exact * 10**12), 10**12)


@given(PRICES, QUANTITIES, st.integers(1, 3600).map(Decimal), st.integers(0, 3600).map(Decimal))
def test_time_is_rounded_up_by_less_than_a_step(
    price: Decimal, quantity: Decimal, step: Decimal, minimum: Decimal
) -> None:
    catalogue = catalogue_of(meter_of(step, minimum or None), price)
    usage = Usage("s", OPENING, {"m": quantity})
    billed = rate(catalogue, usage, "USD").lines[0].billed_quantity
    if not quantity:
        assert billed == 0
    elif billed == minimum:
        assert quantity <= minimum
    else:
        assert billed % step == 0
        assert 0 <= billed - quantity < step


@given(PRICES, QUANTITIES, QUANTITIES, st.sampled_from([None, Decimal(900)]))
def test_longer_use_never_costs_less(
    price: Decimal, quantity: Decimal, more: Decimal, step: Decimal | None
) -> None:
    catalogue = catalogue_of(meter_of(step, minimum=Decimal(1)), price)
    assert cost(catalogue, quantity) <= cost(catalogue, quantity + more)


@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "b"]), HOURS, PRICES), max_size=12),
    st.sampled_from(["", "a", "b", "c"]),
    HOURS,
)
def test_the_price_that_holds_is_the_one_a_reader_finds(
    listed: list[tuple[str, datetime, Decimal]], model: str, instant: datetime
) -> None:
    prices = {
        (owner, start): Price("s", owner, "m", "USD", start, price, Decimal(1))
        for owner, start, price in listed
    }
    service = Service("s", "S", ServiceRole.PRINCIPAL, None, (meter_of(),), {})
    catalogue = Catalogue([service], prices.values())
    begun = [price for price in prices.values() if price.valid_from <= instant]
    for owner in (model, ""):
        own = [price for price in begun if price.model == owner]
        if own:
            expected = max(own, key=lambda price: price.valid_from)
            assert catalogue.price_at("s", model, "m", "USD", instant=instant) is expected
            return
    with pytest.raises(NoPrice):
        catalogue.price_at("s", model, "m", "USD", instant=instant)
