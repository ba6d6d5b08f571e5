"""Clocks of a zone: what the portal shows is what the database writes into files."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

import pytest
from sqlalchemy import text

from domain.catalogue import loading
from domain.catalogue.configuration import ConfigurationFile
from domain.catalogue.sites import SITES_FILE
from domain.errors import InvalidInput
from portal.ui import formats

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MOMENTS = [datetime(2026, month, 15, 12, tzinfo=UTC) for month in (1, 7)]
SITES = SITES_FILE.read_text("utf-8")


def test_page_and_file_agree_in_every_zone(session: Session) -> None:
    known = set(session.execute(text("SELECT name FROM pg_timezone_names")).scalars())
    zones = {name: formats.time_zone(name) for name in available_timezones() & known}
    asked = [(name, str(zone), moment) for name, zone in zones.items() for moment in MOMENTS]
    names, zones_asked, moments = zip(*asked, strict=True)
    query = text(
        "SELECT timezone(z, m) FROM unnest(:zones, CAST(:moments AS timestamptz[])) n(z, m)"
    )
    rows = session.execute(query, {"zones": list(zones_asked), "moments": list(moments)}).scalars()
    different = {
        name
        for name, moment, written in zip(names, moments, rows, strict=True)
        if moment.astimezone(zones[name]).replace(tzinfo=None) != written
    }
    assert different == set()


@pytest.mark.parametrize("zone", ["CET", "met"])
def test_a_site_whose_days_would_be_others_in_the_database_is_refused(
    session: Session, zone: str
) -> None:
    named = SITES.replace("Asia/Tokyo", zone)
    assert tomllib.loads(named) != tomllib.loads(SITES)
    with pytest.raises(InvalidInput) as refusal:
        loading.load_sites(session, file=ConfigurationFile("sites.toml", named))
    place = {"site": "jp", "zone": zone, "place": "Europe/Brussels"}
    assert (refusal.value.field, refusal.value.values) == ("time_zone", place)


@pytest.mark.parametrize("zone", ["localtime", "Nowhere/Else"])
def test_a_site_whose_zone_the_database_does_not_know_is_refused(
    session: Session, zone: str
) -> None:
    named = SITES.replace("Asia/Tokyo", zone)
    with pytest.raises(InvalidInput) as refusal:
        loading.load_sites(session, file=ConfigurationFile("sites.toml", named))
    assert (refusal.value.reason, refusal.value.values) == (
        "not_known",
        {"site": "jp", "zone": zone},
    )
