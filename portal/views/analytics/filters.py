"""What of all accounts is looked at: kept in the address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from portal.shell import page_context
from portal.ui import formats, period_picker, query_params
from portal.ui.i18n import _
from portal.ui.labels import analytics as analytics_labels
from portal.ui.labels import ledger as ledger_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.analytics.queries import AnalyticsChoices
    from portal.ui.period_picker import Days

NO_COUNTRY = "none"
"""Stands in the address for accounts that have no country."""
_EVERYTHING = ""
_FILTERS = ("site", "country", "currency", "service")
_NAMES = ("period", "from", "to", "bars", "shown", "accounts", *_FILTERS)


@dataclass(frozen=True, slots=True)
class AnalyticsFilters:
    """The days and filters that were chosen; an empty filter lets everything pass."""

    days: Days
    site: str
    country: str
    currency: str
    service: str

    @property
    def places(self) -> dict[str, Any]:
        """The filters that narrow accounts and services, as queries take them."""
        country = "" if self.country == NO_COUNTRY else self.country or None
        return {"site": self.site or None, "country": country, "service": self.service or None}

    @property
    def period(self) -> dict[str, Any]:
        """The days, as queries take them."""
        return {"first": self.days.first, "last": self.days.last}


def choose(choices: AnalyticsChoices) -> AnalyticsFilters:
    """Draw the filters and return what they say.

    The last day is the latest that has begun at a site which is looked at.
    """
    site_given = query_params.get("site")
    zones = [zone for code, zone in choices.zones.items() if code == site_given]
    today = page_context.day_of_sites(zones or choices.zones.values())
    with st.container(horizontal=True, vertical_alignment="bottom", key="analytics-choice"):
        days = period_picker.choose_days(today)
        site = _one_of(_("Site"), "site", list(choices.sites), lambda code: choices.sites[code])
        countries = [code or NO_COUNTRY for code in choices.countries]
        country = _one_of(_("Country"), "country", countries, country_name)
        currency = _one_of(_("Currency"), "currency", choices.currencies, str)
        service = _one_of(_("Service"), "service", choices.services, ledger_labels.service)
        st.button(_("Reset filters"), on_click=reset, icon=":material/restart_alt:")
    return AnalyticsFilters(period_picker.usable(days), site, country, currency, service)


def _one_of(label: str, name: str, options: Sequence[str], shown: Callable[[str], str]) -> str:
    return period_picker.select(
        label,
        name,
        [_EVERYTHING, *options],
        lambda option: shown(option) if option else _("All"),
    )


def country_name(option: str) -> str:
    """Return the name of a country as the filter has it."""
    return analytics_labels.country("" if option == NO_COUNTRY else option)


def message(choice: AnalyticsFilters, choices: AnalyticsChoices) -> list[tuple[str, str]]:
    """Return each filter's name and what it says, in words."""
    first, last = formats.date(choice.days.first), formats.date(choice.days.last)
    country = country_name(choice.country) if choice.country else ""
    service = ledger_labels.service(choice.service) if choice.service else ""
    return [
        (_("Period"), f"{first} \N{EN DASH} {last}"),
        (_("Site"), choices.sites.get(choice.site, "") or _("All")),
        (_("Country"), country or _("All")),
        (_("Currency"), choice.currency or _("All")),
        (_("Service"), service or _("All")),
    ]


def reset() -> None:
    """Take every filter out of the address."""
    query_params.put_all(dict.fromkeys(_NAMES, ""))
