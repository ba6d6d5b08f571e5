"""What all accounts had, were granted and used, and who is behind it."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from domain.analytics.queries import account_shares
from portal.runtime import database
from portal.ui import checked, formats, query_params
from portal.ui.bar_chart import Bar, Series, distinguish, stacked_bars
from portal.ui.i18n import _, ngettext
from portal.ui.labels import analytics as analytics_labels
from portal.ui.labels import ledger as ledger_labels
from portal.views.analytics import filters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from domain.analytics.queries import (
        AccountShare,
        AccountShares,
        AnalyticsChoices,
        AnalyticsReport,
        Flow,
        Place,
    )
    from portal.shell.page_context import PageContext
    from portal.views.analytics.filters import AnalyticsFilters

_COLOURS = 7
_REST = ""
_GRANTED = "+"
"""As _REST, the key of no service: theirs begin with a letter or a digit."""
_CHART_OPTIONS: dict[str, Any] = {"displayModeBar": False, "scrollZoom": False}
_SHOW = "yes"
_LAST_PART = 6
"""Index of the closing balance in `parts`; the entries before it are changes."""


def draw(
    context: PageContext,
    report: AnalyticsReport,
    choice: AnalyticsFilters,
    choices: AnalyticsChoices,
) -> None:
    """Draw the page under its filters."""
    currency = _shown_currency(report)
    _metrics(report.totals[currency], currency)
    if choice.service:
        st.caption(
            _(
                "Credit is not recorded by service. Choose all services to see credits issued"
                " and balances."
            )
        )
    _chart(report, choice, currency)
    _accounts(context, choice, currency, choices)
    _services(report, choice)
    if not choice.service:
        _kinds(report)
    st.subheader(_("Sites"))
    sites = {place.code: choices.sites.get(place.code, place.code) for place in report.sites}
    _places(_("Site"), "site", report.sites, choice, sites)
    st.subheader(_("Countries"))
    countries = {place.code: analytics_labels.country(place.code) for place in report.countries}
    _places(_("Country"), "country", report.countries, choice, countries)
    st.caption(
        _("Dates are in the time zone of each account's site. Currencies are not added together.")
    )


def _shown_currency(report: AnalyticsReport) -> str:
    """Return the currency of figures and chart; where there are several, let people choose."""
    currencies = list(report.totals)
    if len(currencies) == 1:
        return currencies[0]
    given = query_params.get("shown")
    query_params.set_widget("analytics_shown", given if given in currencies else currencies[0])
    chosen = checked.segmented_control(
        _("Currency"),
        currencies,
        key="analytics_shown",
        required=True,
        on_change=lambda: query_params.put("shown", st.session_state["analytics_shown"]),
    )
    return chosen or currencies[0]


# ── Figures on top ─────────────────────────────────────────────────────────────────────────────
def parts(flow: Flow) -> list[tuple[str, int]]:
    """Return names and amounts that add up from what was there to what remains."""
    if flow.begin_micros is None or flow.remaining_micros is None:
        return [(_("Usage"), -flow.used_micros)]
    return [
        (_("Opening balance"), flow.begin_micros),
        (_("Credits issued"), flow.granted_micros),
        (_("Usage"), -flow.used_micros),
        (_("Expired"), -flow.expired_micros),
        (_("Refunds and chargebacks"), -flow.taken_back_micros),
        (_("Reversals and write-offs"), -flow.other_micros),
        (_("Closing balance"), flow.remaining_micros),
    ]


def _metrics(flow: Flow, currency: str) -> None:
    named = parts(flow)
    with st.grid(columns=len(named) if len(named) > 1 else 4, min_column_width=150):
        for place, (name, micros) in enumerate(named):
            is_change = 0 < place < len(named) - 1
            st.metric(
                name,
                formats.plain(analytics_labels.amount(micros, currency, signed=is_change)),
                border=True,
            )


# ── Over time ──────────────────────────────────────────────────────────────────────────────────
def _chart(report: AnalyticsReport, choice: AnalyticsFilters, currency: str) -> None:
    st.subheader(_("Credits issued and usage"))
    series = _series(report, currency)
    if not series:
        st.info(
            _("No credits issued and no usage in this period. Choose a longer period."),
            icon=":material/bar_chart:",
        )
        return
    key = f"analytics-bars-{choice}-{currency}"
    st.plotly_chart(
        stacked_bars(series, currency, title=_("Credits issued and usage ({currency})")),
        on_select=partial(_open_bar, key, choice, currency),
        selection_mode="points",
        key=key,
        config=_CHART_OPTIONS,
    )
    st.caption(
        _("Credits issued are above the line, usage below. Select a bar to see its accounts.")
    )
    with st.expander(_("Show as table"), icon=":material/table_rows:"):
        table = pd.DataFrame(
            {one.name: {bar.begins: bar.words for bar in one.bars} for one in series}
        )
        st.dataframe(table.sort_index().fillna(""), key="analytics-figures")


def _series(report: AnalyticsReport, currency: str) -> list[Series]:
    """Return what was granted, and what was used of each of the dearest services and the rest."""
    most_expensive = [one.service for one in report.services if one.currency == currency][:_COLOURS]
    used: dict[str, dict[date, int]] = {key: defaultdict(int) for key in [*most_expensive, _REST]}
    for one in report.uses:
        if one.currency == currency:
            used[one.service if one.service in used else _REST][one.begins] += one.used_micros
    granted = {
        bucket.begins: bucket.flow.granted_micros
        for bucket in report.buckets
        if bucket.currency == currency and bucket.flow.granted_micros
    }
    series = [
        Series(
            key,
            ledger_labels.service(key) if key != _REST else _("Others"),
            [
                Bar(day, -micros, analytics_labels.amount(micros, currency))
                for day, micros in days.items()
            ],
            is_rest=key == _REST,
        )
        for key, days in used.items()
        if days
    ]
    if granted:
        bars = [
            Bar(day, micros, analytics_labels.amount(micros, currency))
            for day, micros in granted.items()
        ]
        series.append(Series(_GRANTED, _("Credits issued"), bars, is_rest=True))
    return distinguish(series)


def _open_bar(key: str, choice: AnalyticsFilters, currency: str) -> None:
    """Narrow everything to the bar's days and service, and show the accounts behind it.

    The bar of the other services opens nothing: the filter takes one service.
    """
    points = st.session_state[key]["selection"]["points"]
    if not points:
        return
    service, begins, *_words = points[0]["customdata"]
    if service == _REST:
        return
    first = pd.Timestamp(begins).date()
    whole = pd.Period(first, freq={"day": "D", "week": "W", "month": "M"}[choice.days.grain])
    query_params.put_all(
        {
            "period": "own",
            "from": max(first, choice.days.first).isoformat(),
            "to": min(whole.end_time.date(), choice.days.last).isoformat(),
            "bars": "",
            "shown": currency,
            "accounts": _SHOW,
            "service": choice.service if service == _GRANTED else service,
        }
    )


# ── Tables ─────────────────────────────────────────────────────────────────────────────────────
def _services(report: AnalyticsReport, choice: AnalyticsFilters) -> None:
    if not report.services:
        return
    st.subheader(_("Services"))
    used = _("Usage")
    rows = [
        {
            _("Service"): ledger_labels.service(one.service),
            _("Currency"): one.currency,
            used: analytics_labels.amount(one.used_micros, one.currency),
            _("Calls"): formats.number(one.calls) if one.calls else "",
        }
        for one in report.services
    ]
    choices = [
        {"service": one.service, "shown": one.currency, "accounts": _SHOW}
        for one in report.services
    ]
    _table(rows, key=f"analytics-services-{choice}", choices=choices)
    st.caption(_("Select a row to see its accounts."))


def _kinds(report: AnalyticsReport) -> None:
    rows = [
        {
            _("Credit"): ledger_labels.credit_kind(kind),
            _("Currency"): currency,
            _("Credits issued"): analytics_labels.amount(micros, currency),
        }
        for currency, flow in report.totals.items()
        for kind, micros in flow.granted.items()
    ]
    if rows:
        st.subheader(_("Credits issued by type"))
        _table(rows, key="analytics-kinds")


def _places(
    heading: str,
    name: str,
    places: Sequence[Place],
    choice: AnalyticsFilters,
    names: Mapping[str, str],
) -> None:
    rows = [
        {
            heading: names[place.code],
            _("Currency"): place.currency,
            **{
                part: analytics_labels.amount(
                    micros, place.currency, signed=0 < number < _LAST_PART
                )
                for number, (part, micros) in enumerate(parts(place.flow))
            },
        }
        for place in places
    ]
    choices = [
        {name: place.code or filters.NO_COUNTRY, "shown": place.currency} for place in places
    ]
    _table(rows, key=f"analytics-{name}-{choice}", choices=choices)


def _table(
    rows: Sequence[Mapping[str, str]],
    *,
    key: str,
    choices: Sequence[Mapping[str, str]] = (),
) -> None:
    """Draw rows, amounts to the right; choosing one puts its filters into the address."""
    table = pd.DataFrame(rows)
    right = st.column_config.TextColumn(alignment="right")
    texts = {_("Currency"), table.columns[0]}
    options: dict[str, Any] = {}
    if choices:
        options = {
            "on_select": partial(_narrow_to_row, key, choices),
            "selection_mode": "single-row",
        }
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key=key,
        column_config={name: right for name in table.columns if name not in texts},
        **options,
    )


def _narrow_to_row(key: str, choices: Sequence[Mapping[str, str]]) -> None:
    number = _chosen_row(st.session_state[key])
    if number is not None and number < len(choices):
        query_params.put_all(choices[number])


def _chosen_row(event: Mapping[str, Any]) -> int | None:
    """Return the row whose box was ticked; moving with Tab selects cells too."""
    rows: list[int] = event["selection"]["rows"]
    return rows[0] if rows else None


# ── Accounts ───────────────────────────────────────────────────────────────────────────────────
def _accounts(
    context: PageContext, choice: AnalyticsFilters, currency: str, choices: AnalyticsChoices
) -> None:
    st.subheader(_("Accounts"))
    query_params.set_widget("analytics_accounts", query_params.get("accounts") == _SHOW)
    is_shown = st.toggle(
        _("Show top accounts by usage ({currency})").format(currency=currency),
        key="analytics_accounts",
        on_change=lambda: query_params.put(
            "accounts", _SHOW if st.session_state["analytics_accounts"] else None
        ),
    )
    if not is_shown:
        return
    shares = database.read_snapshot(
        account_shares,
        actor=context.visitor.actor,
        currency=currency,
        **choice.period,
        **choice.places,
    )
    if not shares.accounts:
        st.info(_("No usage in this period. Choose a longer period."))
        return
    rows = [
        {
            _("Account"): share.name,
            _("Number"): str(share.account_id),
            _("Usage"): analytics_labels.amount(share.used_micros, currency),
            _("Calls"): formats.number(share.calls) if share.calls else "",
            _("Site"): choices.sites.get(share.site_code, share.site_code),
            _("Country"): analytics_labels.country(share.country),
        }
        for share in shares.accounts
    ]
    event = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height="content",
        key=f"analytics-accounts-{choice}-{currency}",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            name: st.column_config.TextColumn(alignment="right")
            for name in (_("Usage"), _("Calls"))
        },
    )
    _others(shares)
    st.caption(_("Select a row to see the account's charges in Credit History."))
    number = _chosen_row(event)
    if number is not None and number < len(shares.accounts):
        _open_history(shares.accounts[number], choice)


def _others(shares: AccountShares) -> None:
    if not shares.other_accounts:
        return
    count = shares.other_accounts
    text = ngettext(
        "{count} other account: {amount} of usage.",
        "{count} other accounts: {amount} of usage.",
        count,
    )
    amount = analytics_labels.amount(shares.other_micros, shares.currency)
    st.caption(formats.plain(text.format(count=formats.number(count), amount=amount)))


def _open_history(share: AccountShare, choice: AnalyticsFilters) -> None:
    """Go to the account's charges of these days, as the account's site counts days."""
    query = {
        "account": str(share.account_id),
        "tab": "history",
        "kind": "charge",
        "from": choice.days.first.isoformat(),
        "to": choice.days.last.isoformat(),
        "zone": share.zone,
    }
    if choice.service:
        query["service"] = choice.service
    st.switch_page(st.session_state["billing_page"], query_params=query)
