"""The countries and markets in which an account can be opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from babel import Locale
from sqlalchemy import select

from db.models import Site
from domain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

_NOT_COUNTRIES = frozenset(
    ("AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "ZZ")
)


@dataclass(frozen=True, slots=True)
class SiteChoice:
    """A market where an account can be opened; `country` is None for the rest of the world."""

    code: str
    name: str
    country: str | None
    default_currency: str
    currencies: tuple[str, ...]


def country_codes() -> tuple[str, ...]:
    """Return the codes of the countries that an account can belong to and be billed in.

    Those of ISO 3166, and XK, the code in general use for Kosovo, which ISO lacks.
    """
    return tuple(
        code
        for code in sorted(Locale("en").territories)
        if len(code) == 2 and code.isalpha() and code not in _NOT_COUNTRIES  # noqa: PLR2004
    )


def list_sites(session: Session) -> tuple[SiteChoice, ...]:
    """Return the markets, those of one country first."""
    sites = session.scalars(select(Site).order_by(Site.country.nulls_last(), Site.code))
    return tuple(
        SiteChoice(
            site.code, site.name, site.country, site.default_currency, tuple(site.currencies)
        )
        for site in sites
    )


def site_of(country: str, sites: Sequence[SiteChoice]) -> SiteChoice:
    """Return the country's own market, or the world's. Raises InvalidInput on "country"."""
    if country in country_codes():
        for site in sorted(sites, key=lambda each: each.country is None):
            if site.country in {country, None}:
                return site
    raise InvalidInput("country", "unknown" if country else "empty")
