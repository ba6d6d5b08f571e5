"""Reads the catalogue file: a TOML text that finance edits, checked until nothing is doubtful."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from domain.catalogue.pricing import Catalogue, Meter, Price, Service, ServiceRole
from domain.errors import InvalidCatalogue
from domain.money import known_currency

Given = TypeVar("Given")

CATALOGUE_FILE = Path(__file__).with_name("catalogue.toml")

_SLUG = re.compile(r"[a-z0-9][a-z0-9.-]*")
_PRICE_KEYS = frozenset({"service", "model", "valid_from"})
_KINDS = {
    str: "a text in quotes",
    Decimal: "a number",
    dict: "a table",
    list: "a list of [[blocks]]",
    datetime: "a date and time",
}
_MAX_DIGITS = 18


class _Table:
    """A TOML table that is read key by key, and must be empty at the end."""

    def __init__(self, content: object, where: str) -> None:
        if not isinstance(content, dict):
            raise InvalidCatalogue(where, "a table is expected here")
        self._rest = dict(content)
        self.where = where

    def take(self, key: str, kind: type[Given]) -> Given:
        """Return what the key must hold."""
        found = self.take_optional(key, kind)
        if found is None:
            raise InvalidCatalogue(self.where, f"'{key}' is missing")
        return found

    def take_optional(self, key: str, kind: type[Given]) -> Given | None:
        """Return what the key holds, if it is there."""
        if key not in self._rest:
            return None
        found = self._rest.pop(key)
        if kind is Decimal and type(found) is int:
            found = Decimal(found)
        if not isinstance(found, kind) or found == "":
            raise InvalidCatalogue(self.where, f"'{key}' must be {_KINDS[kind]}")
        return found

    def take_amount(self, key: str, *, zero: bool = False) -> Decimal | None:
        """Return a number above zero (or zero, where that is allowed), if it is there."""
        amount = self.take_optional(key, Decimal)
        if amount is not None and not (
            amount.is_finite()
            and amount >= 0
            and (amount or zero)
            and abs(amount.adjusted()) <= _MAX_DIGITS
        ):
            raise InvalidCatalogue(self.where, f"'{key}' is below zero, too small or too large")
        return amount

    def take_tables(self) -> list[tuple[str, _Table]]:
        """Return all that is left: tables under slugs."""
        tables = []
        for key, content in self._rest.items():
            where = f"{self.where}.{key}"
            _check_slug(key, where)
            tables.append((key, _Table(content, where)))
        self._rest.clear()
        return tables

    def take_strings(self) -> dict[str, str]:
        """Return all that is left: texts under slugs."""
        for key in self._rest:
            _check_slug(key, self.where)
        return {key: self.take(key, str) for key in list(self._rest)}

    def take_prices(self) -> dict[str, Decimal]:
        """Return all that is left: prices under currency codes."""
        prices = {}
        for currency in list(self._rest):
            if not known_currency(currency):
                raise InvalidCatalogue(self.where, f"'{currency}' is no currency")
            price = self.take_amount(currency, zero=True)
            if price is not None:
                prices[currency] = price
        if not prices:
            raise InvalidCatalogue(self.where, "there is no price in it")
        return prices

    def finish(self) -> None:
        """Refuse what nobody asked for: it would be a spelling mistake."""
        if self._rest:
            raise InvalidCatalogue(self.where, f"'{min(self._rest)}' is not known here")


def parse_catalogue(text: str) -> Catalogue:
    """Return the catalogue that the text describes.

    Raises InvalidCatalogue, which names the place in the file and the fault.
    """
    try:
        root = _Table(tomllib.loads(text, parse_float=Decimal), "file")
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidCatalogue("file", str(error)) from error
    services = {
        slug: _service(slug, table)
        for slug, table in _Table(root.take("services", dict), "services").take_tables()
    }
    prices: dict[tuple[object, ...], Price] = {}
    for number, content in enumerate(root.take("prices", list), start=1):
        for price in _prices(_Table(content, f"prices, block {number}"), services):
            key = (price.service, price.model, price.meter, price.currency, price.valid_from)
            if key in prices:
                raise InvalidCatalogue(
                    f"prices, block {number}",
                    f"{price.meter} in {price.currency} has a price from that time already",
                )
            prices[key] = price
    root.finish()
    return Catalogue(services.values(), prices.values())


def _service(slug: str, table: _Table) -> Service:
    role = table.take("role", str)
    if role not in set(ServiceRole):
        raise InvalidCatalogue(table.where, "'role' must be principal or agent")
    supplier = table.take_optional("supplier", str)
    if (role == ServiceRole.AGENT) != (supplier is not None):
        raise InvalidCatalogue(table.where, "an agent names its supplier, a principal has none")
    meters = _Table(table.take("meters", dict), f"{table.where}.meters").take_tables()
    models = _Table(table.take_optional("models", dict) or {}, f"{table.where}.models")
    service = Service(
        slug=slug,
        name=table.take("name", str),
        role=ServiceRole(role),
        supplier=supplier,
        meters=tuple(_meter(*meter) for meter in meters),
        models=models.take_strings(),
    )
    table.finish()
    counts = {meter.times for meter in service.meters}
    if not service.meters or any(meter.slug in counts for meter in service.meters):
        raise InvalidCatalogue(table.where, "a service needs meters, and none that counts another")
    return service


def _meter(slug: str, table: _Table) -> Meter:
    if slug in _PRICE_KEYS:
        raise InvalidCatalogue(table.where, "a meter cannot have this name")
    times = table.take_optional("times", str)
    if times is not None:
        _check_slug(times, table.where)
    price_per = table.take_amount("price_per")
    if price_per is None:
        raise InvalidCatalogue(table.where, "'price_per' is missing")
    meter = Meter(
        slug=slug,
        name=table.take("name", str),
        unit=table.take("unit", str),
        price_per=price_per,
        price_unit=table.take("price_unit", str),
        round_up_to=table.take_amount("round_up_to"),
        minimum=table.take_amount("minimum"),
        times=times,
    )
    table.finish()
    return meter


def _prices(table: _Table, services: dict[str, Service]) -> list[Price]:
    service = services.get(table.take("service", str))
    if service is None:
        raise InvalidCatalogue(table.where, "there is no such service")
    model = table.take_optional("model", str) or ""
    if model and model not in service.models:
        raise InvalidCatalogue(table.where, f"the service lists no model '{model}'")
    valid_from = table.take("valid_from", datetime)
    if valid_from.tzinfo is None:
        raise InvalidCatalogue(table.where, "'valid_from' needs a time zone: end it with Z")
    meters = {meter.slug: meter for meter in service.meters}
    prices = []
    for slug, amounts in table.take_tables():
        if slug not in meters:
            raise InvalidCatalogue(amounts.where, "the service has no such meter")
        prices += [
            Price(
                service=service.slug,
                model=model,
                meter=slug,
                currency=currency,
                valid_from=valid_from.astimezone(UTC),
                price=price,
                per=meters[slug].price_per,
            )
            for currency, price in amounts.take_prices().items()
        ]
    if not prices:
        raise InvalidCatalogue(table.where, "there is no price in it")
    return prices


def _check_slug(slug: str, where: str) -> None:
    if not _SLUG.fullmatch(slug):
        raise InvalidCatalogue(where, f"'{slug}' must be lower-case letters, digits, '-' and '.'")
