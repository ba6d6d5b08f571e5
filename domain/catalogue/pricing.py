"""Rating of usage: services, their meters, dated prices, and exact amounts.

An amount is computed in whole numbers from the price's own digits. Where a price does not divide
evenly (an hour's price for a second), the quotient is rounded half to even once a line, at the
twelfth decimal place of a micro (1e-18 of the currency unit); everything else is exact.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from decimal import Decimal, Inexact, InvalidOperation
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from domain.errors import AmountOutOfRange, InvalidInput, NoPrice, UnknownMeter, UnknownService
from domain.money import EXACT, EXACT_DECIMALS, MAX_MICROS, MICROS_PER_UNIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

MAX_QUANTITY = Decimal(10) ** 18
QUANTITY_DECIMALS = 12

_SMALLEST_QUANTITY = Decimal(1).scaleb(-QUANTITY_DECIMALS)
_SCALE = 10**EXACT_DECIMALS
_MAX_AMOUNT = MAX_MICROS * _SCALE
_ZERO = Decimal(0)
_ONE = Decimal(1)


class ServiceRole(StrEnum):
    """Whether the service is sold as our own, or in the name of its supplier."""

    PRINCIPAL = "principal"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Meter:
    """A measure of a service, and the rule that turns it into a billed quantity.

    A measure of nothing bills nothing. Any other is rounded up to a multiple of `round_up_to`,
    is at least `minimum`, and is then multiplied by the measure called `times` (GPUs, gigabytes).
    `unit` is what one stands for; a price is for `price_per` of them, named `price_unit`.
    """

    slug: str
    name: str
    unit: str
    price_per: Decimal
    price_unit: str
    round_up_to: Decimal | None = None
    minimum: Decimal | None = None
    times: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A paid service; `slug` never changes. `models` gives display names by model slug."""

    slug: str
    name: str
    role: ServiceRole
    supplier: str | None
    meters: tuple[Meter, ...]
    models: Mapping[str, str] = field(hash=False)

    @property
    def measures(self) -> frozenset[str]:
        """Every name for which usage of this service may state a quantity."""
        return frozenset(
            name for meter in self.meters for name in (meter.slug, meter.times) if name
        )


@dataclass(frozen=True, slots=True)
class Price:
    """From `valid_from` on, `price` units of the currency for `per` units of the meter.

    An empty `model` makes it the service's general price.
    """

    service: str
    model: str
    meter: str
    currency: str
    valid_from: datetime
    price: Decimal
    per: Decimal


class Usage(NamedTuple):
    """A call, or a stretch of use: measures by the names of the service's meters."""

    service: str
    occurred_at: datetime
    quantities: Mapping[str, Decimal]
    model: str = ""


class RatedLine(NamedTuple):
    """The cost of one meter of the usage; the billed quantity is rounded and multiplied."""

    meter: str
    billed_quantity: Decimal
    price: Price
    exact_micros: Decimal


class RatedUsage(NamedTuple):
    """The exact cost of the usage, and its lines."""

    exact_micros: Decimal
    lines: tuple[RatedLine, ...]


class UnitPrice(NamedTuple):
    """A price as a ratio of whole numbers: 1e-12 micros for one unit of the meter."""

    numerator: int
    denominator: int
    price: Price


class Tariff(NamedTuple):
    """The prices of one service, model and currency; `periods[n]` holds from `starts[n]` on."""

    starts: tuple[datetime, ...]
    periods: tuple[Mapping[str, UnitPrice], ...]

    def at(self, instant: datetime) -> Mapping[str, UnitPrice]:
        """Return the prices that hold at the instant, by meter."""
        index = bisect_right(self.starts, instant)
        return self.periods[index - 1] if index else {}


class Catalogue:
    """The services on sale and their prices. Immutable; resolved prices are cached."""

    def __init__(self, services: Iterable[Service], prices: Iterable[Price]) -> None:
        """Take services in their display order, and their prices in any order."""
        self.services: Mapping[str, Service] = {service.slug: service for service in services}
        self.prices: tuple[Price, ...] = tuple(prices)
        self._tariffs: dict[tuple[str, str, str], Tariff] = {}

    def service(self, slug: str) -> Service:
        """Return the service. Raises UnknownService."""
        try:
            return self.services[slug]
        except KeyError:
            raise UnknownService(slug) from None

    def price_at(
        self, service: str, model: str, meter: str, currency: str, *, instant: datetime
    ) -> Price:
        """Return the price that holds at the instant: the model's own, else the general one.

        Raises UnknownService, UnknownMeter and NoPrice.
        """
        if all(known.slug != meter for known in self.service(service).meters):
            raise UnknownMeter(service, meter)
        unit_price = self.tariff(service, model, currency).at(instant).get(meter)
        if unit_price is None:
            raise NoPrice(service, model, meter, currency, instant)
        return unit_price.price

    def tariff(self, service: str, model: str, currency: str) -> Tariff:
        """Return the resolved prices; those of a model without its own are the general ones."""
        if (service, model) not in self._own_prices:
            model = ""
        key = (service, model, currency)
        tariff = self._tariffs.get(key)
        if tariff is None:
            tariff = self._tariffs[key] = self._resolve(*key)
        return tariff

    @cached_property
    def _own_prices(self) -> frozenset[tuple[str, str]]:
        return frozenset((price.service, price.model) for price in self.prices)

    @cached_property
    def measures(self) -> Mapping[str, frozenset[str]]:
        """The names for which usage may state quantities, by service."""
        return {slug: service.measures for slug, service in self.services.items()}

    def _resolve(self, service: str, model: str, currency: str) -> Tariff:
        # General prices first, so that the model's own replace them meter by meter.
        candidates = sorted(
            (
                price
                for price in self.prices
                if (price.service, price.currency) == (service, currency)
                and price.model in ("", model)
            ),
            key=lambda price: (price.model, price.valid_from),
        )
        starts = tuple(sorted({price.valid_from for price in candidates}))
        periods = tuple(
            {price.meter: _unit_price(price) for price in candidates if price.valid_from <= start}
            for start in starts
        )
        return Tariff(starts, periods)


def rate(catalogue: Catalogue, usage: Usage, currency: str) -> RatedUsage:
    """Return the exact cost of the usage in the currency, with a line a meter.

    Raises UnknownService, UnknownMeter and NoPrice where the catalogue has no answer, InvalidInput
    where the usage makes no sense (a quantity that is negative, not finite, too large or too
    fine; no quantity; no time zone), AmountOutOfRange where the ledger cannot hold the amount.
    """
    quantities = usage.quantities
    service = catalogue.service(usage.service)
    if not quantities.keys() <= catalogue.measures[service.slug]:
        unknown = min(quantities.keys() - catalogue.measures[service.slug])
        raise UnknownMeter(service.slug, unknown)
    if usage.occurred_at.tzinfo is None:
        raise InvalidInput("occurred_at", "no_time_zone")
    unit_prices = catalogue.tariff(service.slug, usage.model, currency).at(usage.occurred_at)
    lines = []
    total = _ZERO
    for meter in service.meters:
        if meter.slug in quantities:
            unit_price = unit_prices.get(meter.slug)
            if unit_price is None:
                raise NoPrice(service.slug, usage.model, meter.slug, currency, usage.occurred_at)
            billed = _billed_quantity(meter, quantities)
            amount = _exact_amount(unit_price, billed)
            lines.append(RatedLine(meter.slug, billed, unit_price.price, amount))
            total = EXACT.add(total, amount)
    if not lines:
        raise InvalidInput("quantities", "empty")
    if total > MAX_MICROS:
        raise AmountOutOfRange
    return RatedUsage(total, tuple(lines))


def _unit_price(price: Price) -> UnitPrice:
    ratio = Fraction(price.price) * MICROS_PER_UNIT * _SCALE / Fraction(price.per)
    return UnitPrice(ratio.numerator, ratio.denominator, price)


def _billed_quantity(meter: Meter, quantities: Mapping[str, Decimal]) -> Decimal:
    quantity = _checked_quantity(meter.slug, quantities[meter.slug])
    if quantity:
        if meter.round_up_to is not None:
            whole, rest = EXACT.divmod(quantity, meter.round_up_to)
            blocks = EXACT.add(whole, _ONE) if rest else whole
            quantity = EXACT.multiply(blocks, meter.round_up_to)
        if meter.minimum is not None and quantity < meter.minimum:
            quantity = meter.minimum
    if meter.times is None:
        return quantity
    if meter.times not in quantities:
        raise InvalidInput("quantities", "missing", measure=meter.times)
    return EXACT.multiply(quantity, _checked_quantity(meter.times, quantities[meter.times]))


def _checked_quantity(measure: str, quantity: Decimal) -> Decimal:
    if type(quantity) is not Decimal:
        raise TypeError(f"a quantity is a Decimal, not {type(quantity).__name__}")
    if not quantity.is_finite():
        raise InvalidInput("quantities", "not_a_number", measure=measure)
    if quantity < _ZERO:
        raise InvalidInput("quantities", "negative", measure=measure)
    if quantity > MAX_QUANTITY:
        raise InvalidInput("quantities", "out_of_range", measure=measure)
    if quantity == quantity.to_integral_value():
        return quantity
    try:
        quantity.quantize(_SMALLEST_QUANTITY, context=EXACT)
    except (Inexact, InvalidOperation):
        raise InvalidInput(
            "quantities", "too_many_decimals", measure=measure, decimals=QUANTITY_DECIMALS
        ) from None
    return quantity


def _exact_amount(unit_price: UnitPrice, quantity: Decimal) -> Decimal:
    numerator, denominator = quantity.as_integer_ratio()
    denominator *= unit_price.denominator
    amount, rest = divmod(unit_price.numerator * numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and amount % 2):
        amount += 1
    if amount > _MAX_AMOUNT:
        raise AmountOutOfRange
    return Decimal(amount).scaleb(-EXACT_DECIMALS, EXACT)
