"""Which days are looked at, and how they are grouped: kept in the address."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from domain.metering.queries import GRAINS, MAX_PERIOD
from portal.ui import checked, query_params
from portal.ui.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PERIODS = {
    "30": N_("Last 30 days"),
    "7": N_("Last 7 days"),
    "90": N_("Last 90 days"),
    "month": N_("This month"),
    "last-month": N_("Last month"),
    "365": N_("Last 12 months"),
    "own": N_("Custom period…"),
}
_GRAIN_NAMES = {"day": N_("Days"), "week": N_("Weeks"), "month": N_("Months")}
GROUPS = {"service": N_("Service"), "source": N_("Model or resource")}
_FIRST_DAY = date(2000, 1, 1)
_LONG_FOR_DAYS = 92


class Days(NamedTuple):
    """The days looked at, inclusive, and the length of a bar."""

    first: date
    last: date
    grain: str


class Chosen(NamedTuple):
    """The selected days, inclusive; the interval of a bar; and the meaning of its colours."""

    first: date
    last: date
    grain: str
    group: str


def choose(today: date) -> Chosen:
    """Draw the choice and return it; `today` is the last day there is, at the account's site."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="usage-choice"):
        days = choose_days(today)
        group = select(_("Group by"), "group", list(GROUPS), lambda one: _(GROUPS[one]))
    return Chosen(*usable(days), group)


def choose_days(today: date) -> Days:
    """Draw the choice of days, and return them as they were chosen: see `usable`."""
    period = select(_("Period"), "period", list(PERIODS), lambda one: _(PERIODS[one]))
    first, last = _days(period, today)
    if period == "own":
        first = _day(_("From"), "from", first, today)
        last = _day(_("To"), "to", last, today)
    # A long time in days is a comb.
    grains = GRAINS if (last - first).days <= _LONG_FOR_DAYS else GRAINS[1:]
    grain = select(_("Interval"), "bars", grains, lambda one: _(_GRAIN_NAMES[one]))
    return Days(first, last, grain)


def usable(days: Days) -> Days:
    """Return the days, limited to the longest period; show an error where they are invalid."""
    if days.last < days.first:
        st.warning(_("The To date is before the From date. Choose a later To date."))
        st.stop()
    return days._replace(first=max(days.first, days.last - MAX_PERIOD))


def _days(period: str, today: date) -> tuple[date, date]:
    month = today.replace(day=1)
    if period == "month":
        return month, today
    if period == "last-month":
        last = month - timedelta(days=1)
        return last.replace(day=1), last
    days = int(period) if period.isdigit() else int(next(iter(PERIODS)))
    return today - timedelta(days=days - 1), today


def select(label: str, name: str, options: Sequence[str], shown: Callable[[str], str]) -> str:
    """Draw a choice that the address keeps under `name`; the first option is the usual one."""
    key = f"usage_{name}"
    given = query_params.get(name)
    query_params.set_widget(key, given if given in options else options[0])
    chosen: str = checked.selectbox(
        label,
        options,
        key=key,
        format_func=shown,
        on_change=_remember,
        args=(name, options[0]),
        width=160,
    )
    return chosen


def _remember(name: str, usual: str) -> None:
    chosen = st.session_state[f"usage_{name}"]
    query_params.put(name, None if chosen == usual else chosen)
    if name == "period":
        query_params.remove("from", "to", "bars")


def _day(label: str, name: str, usual: date, today: date) -> date:
    key = f"usage_{name}"
    try:
        given = date.fromisoformat(query_params.get(name))
    except ValueError:
        given = usual
    query_params.set_widget(key, min(max(given, _FIRST_DAY), today))
    chosen: date = checked.date_input(
        label,
        min_value=_FIRST_DAY,
        max_value=today,
        key=key,
        format="YYYY-MM-DD",
        on_change=_remember_day,
        args=(name,),
        width=150,
    )
    return chosen


def _remember_day(name: str) -> None:
    day: date | None = st.session_state[f"usage_{name}"]
    query_params.put(name, day.isoformat() if day else None)
