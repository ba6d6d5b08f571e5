"""Read the catalogue file: a TOML text that finance edits, checked strictly."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from domain.catalogue.configuration import ConfigurationFile, Table, read_table
from domain.catalogue.pricing import Catalogue, Meter, Price, Service, ServiceRole

CATALOGUE_FILE = Path(__file__).with_name("catalogue.toml")

_PRICE_KEYS = frozenset({"service", "model", "valid_from"})


def parse_catalogue(text: str, *, name: str = CATALOGUE_FILE.name) -> Catalogue:
    """Return the catalogue that the text of the file of this name describes.

    Raises InvalidConfiguration, which names the place in the file and the fault.
    """
    root = read_table(ConfigurationFile(name, text))
    services = {
        slug: _service(slug, table)
        for slug, table in root.table(root.take("services", dict), "services").take_tables()
    }
    prices: dict[tuple[object, ...], Price] = {}
    for block in root.take_tables_of("prices"):
        for price in _prices(block, services):
            key = (price.service, price.model, price.meter, price.currency, price.valid_from)
            if key in prices:
                raise block.fault(
                    f"{price.meter} in {price.currency} has a price from that time already"
                )
            prices[key] = price
    root.finish()
    return Catalogue(services.values(), prices.values())


def _service(slug: str, table: Table) -> Service:
    role = table.take("role", str)
    if role not in set(ServiceRole):
        raise table.fault("'role' must be principal or agent")
    supplier = table.take_optional("supplier", str)
    if (role == ServiceRole.AGENT) != (supplier is not None):
        raise table.fault("an agent names its supplier, a principal has none")
    meters = table.table(table.take("meters", dict), "meters").take_tables()
    models = table.table(table.take_optional("models", dict) or {}, "models")
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
        raise table.fault("a service needs meters, and none that counts another")
    return service


def _meter(slug: str, table: Table) -> Meter:
    if slug in _PRICE_KEYS:
        raise table.fault("a meter cannot have this name")
    times = table.take_optional_slug("times")
    price_per = table.take_amount("price_per")
    if price_per is None:
        raise table.fault("'price_per' is missing")
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


def _prices(table: Table, services: dict[str, Service]) -> list[Price]:
    service = services.get(table.take("service", str))
    if service is None:
        raise table.fault("there is no such service")
    model = table.take_optional("model", str) or ""
    if model and model not in service.models:
        raise table.fault(f"the service lists no model '{model}'")
    valid_from = table.take("valid_from", datetime)
    if valid_from.tzinfo is None:
        raise table.fault("'valid_from' needs a time zone: end it with Z")
    try:
        instant = valid_from.astimezone(UTC)
    except OverflowError:
        raise table.fault("'valid_from' is no moment in UTC") from None
    meters = {meter.slug: meter for meter in service.meters}
    prices = []
    for slug, amounts in table.take_tables():
        if slug not in meters:
            raise amounts.fault("the service has no such meter")
        prices += [
            Price(
                service=service.slug,
                model=model,
                meter=slug,
                currency=currency,
                valid_from=instant,
                price=price,
                per=meters[slug].price_per,
            )
            for currency, price in amounts.take_prices().items()
        ]
    if not prices:
        raise table.fault("there is no price in it")
    return prices
