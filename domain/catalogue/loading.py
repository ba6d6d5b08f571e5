"""Write sites, their tax and the price list from their files into the database.

A new version of the catalogue is kept beside the old ones, and a price that usage may have been
charged at is never changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain import audit, clock
from domain.catalogue.file import parse_catalogue
from domain.catalogue.sites import parse_sites
from domain.errors import CatalogueConflict, Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.catalogue.configuration import ConfigurationFile
    from domain.catalogue.pricing import Catalogue

_SAVE_SITE = text("""
INSERT INTO sites (code, name, legal_entity, country, time_zone, default_currency, currencies)
VALUES (:code, :name, :legal_entity, :country, :time_zone, :default_currency, :currencies)
ON CONFLICT (code) DO UPDATE SET name = EXCLUDED.name, legal_entity = EXCLUDED.legal_entity,
  default_currency = EXCLUDED.default_currency, currencies = EXCLUDED.currencies
""")
_SAVE_TAX = text("""
INSERT INTO tax_policies (site_code, valid_from, tax_point, tax_rate, place_of_supply)
VALUES (:site_code, :valid_from, :tax_point, :tax_rate, :place_of_supply)
ON CONFLICT (site_code, valid_from) DO NOTHING
""")
_TAX = text("""
SELECT tax_point, tax_rate, place_of_supply FROM tax_policies
WHERE site_code = :site_code AND valid_from = :valid_from
""")
_NEWEST = text(
    "SELECT version, digest, content FROM catalogue_versions ORDER BY version DESC LIMIT 1"
)
_SAVE_VERSION = text("""
INSERT INTO catalogue_versions (version, digest, content, loaded_by)
VALUES (:version, :digest, :content, :loaded_by)
""")
_SAVE_SERVICE = text("""
INSERT INTO services (slug, name, role, supplier, position)
VALUES (:slug, :name, :role, :supplier, :position)
ON CONFLICT (slug) DO UPDATE SET name = EXCLUDED.name, role = EXCLUDED.role,
  supplier = EXCLUDED.supplier, position = EXCLUDED.position
""")
_SAVE_PRICE = text("""
INSERT INTO prices (service, model, meter, currency, valid_from, price, per, catalogue_version)
VALUES (:service, :model, :meter, :currency, :valid_from, :price, :per, :version)
ON CONFLICT DO NOTHING
""")
_PRICES = text("SELECT service, model, meter, currency, valid_from, price, per FROM prices")


def load_sites(session: Session, *, file: ConfigurationFile) -> None:
    """Save the sites and add their tax policies.

    Raises InvalidConfiguration, Conflict where a policy would change, and InvalidInput for a time
    zone that the database does not know, or whose days differ between the database and the portal.
    """
    for site in parse_sites(file):
        zone = site.time_zone
        place = clock.PLACES_OF_ZONES.get(zone.upper())
        if place is not None:
            raise InvalidInput("time_zone", "not_a_place", site=site.code, zone=zone, place=place)
        if not clock.knows_zone(session, zone=zone):
            raise InvalidInput("time_zone", "not_known", site=site.code, zone=zone)
        values = asdict(site)
        del values["policies"]
        session.execute(_SAVE_SITE, {**values, "currencies": list(site.currencies)})
        for policy in site.policies:
            row = {"site_code": site.code, **asdict(policy)}
            session.execute(_SAVE_TAX, row)
            kept = session.execute(_TAX, row).one()
            if tuple(kept) != tuple(row[name] for name in kept._fields):
                raise Conflict("tax_policy_is_in_force")


def load_catalogue(session: Session, *, file: ConfigurationFile, actor: Actor) -> int:
    """Keep a catalogue file as the newest version, unless it is that already; return its number."""
    content = file.text
    digest = hashlib.sha256(content.encode()).digest()
    newest = session.execute(_NEWEST).one_or_none()
    if newest is not None and bytes(newest.digest) == digest:
        return int(newest.version)
    catalogue = parse_catalogue(content, name=file.name)
    version = 1 if newest is None else newest.version + 1
    _save_version(session, catalogue, version, content, digest, actor)
    audit.record(session, action="load_catalogue", actor=actor, details={"version": version})
    return int(version)


def _save_version(  # noqa: PLR0917 - one version's facts
    session: Session,
    catalogue: Catalogue,
    version: int,
    content: str,
    digest: bytes,
    actor: Actor,
) -> None:
    session.execute(
        _SAVE_VERSION,
        {
            "version": version,
            "digest": digest,
            "content": content,
            "loaded_by": audit.actor_name(actor),
        },
    )
    for position, service in enumerate(catalogue.services.values(), start=1):
        session.execute(
            _SAVE_SERVICE,
            {
                "slug": service.slug,
                "name": service.name,
                "role": service.role.value,
                "supplier": service.supplier,
                "position": position,
            },
        )
    given = {
        (price.service, price.model, price.meter, price.currency, price.valid_from): price
        for price in catalogue.prices
    }
    for row in session.execute(_PRICES):
        price = given.get(tuple(row[:5]))
        if price is None or (price.price, price.per) != tuple(row[5:]):
            raise CatalogueConflict(" ".join(str(part) for part in row[:5]))
    names = ("service", "model", "meter", "currency", "valid_from", "price", "per")
    session.execute(
        _SAVE_PRICE,
        [
            {"version": version, **{name: getattr(price, name) for name in names}}
            for price in catalogue.prices
        ],
    )


def current_catalogue(session: Session) -> tuple[int, Catalogue]:
    """Return the newest version's number and its catalogue; raise NotFound before the first."""
    newest = session.execute(_NEWEST).one_or_none()
    if newest is None:
        raise NotFound("catalogue")
    return newest.version, _parsed(newest.content)


@lru_cache(maxsize=4)
def _parsed(content: str) -> Catalogue:
    return parse_catalogue(content)
