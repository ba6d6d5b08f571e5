"""Reads the file of sites: markets with their legal entity, clock, currencies and tax policies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from domain.catalogue.configuration import read_table

if TYPE_CHECKING:
    from decimal import Decimal

    from domain.catalogue.configuration import ConfigurationFile, Table

SITES_FILE = Path(__file__).with_name("sites.toml")

_COUNTRY = re.compile(r"[A-Z]{2}")
_TAX_POINTS = ("TOP_UP", "USAGE")
_TAX_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class TaxPolicy:
    """When and at which rate a site's credit is taxed, from a date on."""

    valid_from: date
    tax_point: str
    tax_rate: Decimal
    place_of_supply: str


@dataclass(frozen=True, slots=True)
class SiteEntry:
    """A site of the file; `policies` has at least one."""

    code: str
    name: str
    legal_entity: str
    country: str | None
    time_zone: str
    default_currency: str
    currencies: tuple[str, ...]
    policies: tuple[TaxPolicy, ...]


def parse_sites(file: ConfigurationFile) -> tuple[SiteEntry, ...]:
    """Return the sites that a file describes; raise InvalidConfiguration.

    Whether the database knows a time zone is not checked here.
    """
    root = read_table(file)
    sites: dict[str, SiteEntry] = {}
    for table in root.take_tables_of("site"):
        site = _site(table)
        if site.code in sites:
            raise table.fault(f"there is a site '{site.code}' already")
        sites[site.code] = site
    root.finish()
    return tuple(sites.values())


def _site(table: Table) -> SiteEntry:
    currencies = table.take_list("currencies", str)
    for currency in currencies:
        table.check_currency(currency)
    if len(set(currencies)) < len(currencies):
        raise table.fault("'currencies' names one twice")
    site = SiteEntry(
        code=table.take_slug("code"),
        name=table.take("name", str),
        legal_entity=table.take("legal_entity", str),
        country=_country(table, "country") if "country" in table.remaining_keys() else None,
        time_zone=table.take("time_zone", str),
        default_currency=table.take("default_currency", str),
        currencies=tuple(currencies),
        policies=_policies(table),
    )
    if site.default_currency not in currencies:
        raise table.fault("'default_currency' is none of 'currencies'")
    table.finish()
    return site


def _policies(table: Table) -> tuple[TaxPolicy, ...]:
    policies: dict[date, TaxPolicy] = {}
    for block in table.take_tables_of("tax"):
        policy = _policy(block)
        if policy.valid_from in policies:
            raise block.fault("there is a policy from that date already")
        policies[policy.valid_from] = policy
    return tuple(policies.values())


def _policy(table: Table) -> TaxPolicy:
    tax_point = table.take("tax_point", str)
    if tax_point not in _TAX_POINTS:
        raise table.fault(f"'tax_point' must be {' or '.join(_TAX_POINTS)}")
    tax_rate = table.take_amount("tax_rate", zero=True)
    if tax_rate is None:
        raise table.fault("'tax_rate' is missing")
    if tax_rate >= 1 or tax_rate != round(tax_rate, _TAX_DECIMALS):
        raise table.fault(
            f"'tax_rate' must be below 1, with at most {_TAX_DECIMALS} decimals: 0.10 is 10 %"
        )
    policy = TaxPolicy(
        valid_from=table.take("valid_from", date),
        tax_point=tax_point,
        tax_rate=tax_rate,
        place_of_supply=_country(table, "place_of_supply"),
    )
    table.finish()
    return policy


def _country(table: Table, key: str) -> str:
    code = table.take(key, str)
    if not _COUNTRY.fullmatch(code):
        raise table.fault(f"'{key}' must be two capital letters, such as VN")
    return code
