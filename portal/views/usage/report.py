"""What was spent, on what, and how long the credit lasts."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from portal.ui import formats
from portal.ui.bar_chart import Bar, Line, Series, balance_lines, distinguish, stacked_bars
from portal.ui.i18n import _
from portal.ui.labels import ledger as ledger_labels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from domain.ledger.balances import AccountSummary
    from domain.metering.queries import Outlook, Resource, UsageReport
    from portal.shell.page_context import PageContext
    from portal.ui.period_picker import Chosen

_COLOURS = 7
_REST = ""
_SHOWN_RESOURCES = 20
_FORECAST_DAYS = 90
_CHART_OPTIONS: dict[str, Any] = {"displayModeBar": False, "scrollZoom": False}
_PERCENT = 100
_MAX_CHANGE = 999


def draw(
    context: PageContext,
    account: AccountSummary,
    report: UsageReport,
    outlook: Outlook | None,
    chosen: Chosen,
) -> None:
    """Draw the page under its choice of days."""
    _metrics(context, report, outlook)
    if outlook is not None and account.held_micros > 0:
        held = context.money(account.held_micros)
        text = _("{amount} is on hold. The forecast does not include it.")
        st.caption(formats.plain(text.format(amount=held)))
    if report.resources:
        _spending(context, account, report, chosen)
        _resources(context, account, report)
    else:
        st.info(_("No usage in this period. Choose a longer period."), icon=":material/bar_chart:")
    _balance(context, account, report, outlook)
    text = _("Dates are in {zone}.").format(zone=report.zone)
    st.caption(formats.plain(text))


# ── Figures on top ─────────────────────────────────────────────────────────────────────────────
def _metrics(context: PageContext, report: UsageReport, outlook: Outlook | None) -> None:
    days = (min(report.last, report.today) - report.first).days + 1
    calls = sum(resource.calls for resource in report.resources)
    with st.grid(columns=4, min_column_width=170):
        st.metric(
            _("Spent"),
            formats.plain(context.money(report.spent_micros)),
            delta=_change(report),
            delta_color="inverse",
            border=True,
            help=_("Compared with the previous period of the same length."),
        )
        average = -(-report.spent_micros // max(days, 1))
        st.metric(_("Average per day"), formats.plain(context.money(average)), border=True)
        st.metric(_("Calls"), formats.number(calls), border=True)
        st.metric(_("Runway"), _runway(outlook), border=True, help=_runway_help(outlook))
    if outlook is not None and outlook.forecast.lapses_micros:
        amount = context.money(outlook.forecast.lapses_micros)
        text = _("At the current rate, {amount} of credit expires before it is used.")
        st.warning(formats.plain(text.format(amount=amount)), icon=":material/hourglass_bottom:")


def _change(report: UsageReport) -> str | None:
    """Return the change against the period before in whole percent, where that says something."""
    before = report.before_micros
    if before <= 0:
        return None
    percent = _rounded((report.spent_micros - before) * _PERCENT, before)
    # Streamlit paints a sign; nothing has none.
    return (f"{percent:+d} %" if percent else None) if percent <= _MAX_CHANGE else None


def _runway(outlook: Outlook | None) -> str:
    if outlook is None:
        return "\N{EN DASH}"
    days = outlook.forecast.lasts_days
    if days is None:
        return _("over a year")
    return formats.days(days)


def _runway_help(outlook: Outlook | None) -> str:
    if outlook is None:
        return _("No current usage.")
    text = _("At the average usage of the last {days} days.")
    return text.format(days=outlook.days)


# ── Spending ───────────────────────────────────────────────────────────────────────────────────
def _spending(
    context: PageContext, account: AccountSummary, report: UsageReport, chosen: Chosen
) -> None:
    st.subheader(_("Spending"))
    series = _series(context, report, chosen.group)
    event = st.plotly_chart(
        stacked_bars(series, account.currency),
        on_select="rerun",
        selection_mode="points",
        key=f"bars-{chosen}",
        config=_CHART_OPTIONS,
    )
    points = event["selection"]["points"]
    if points:
        key, begins, *_words = points[0]["customdata"]
        _open_history(_history_query(report, chosen, key, begins))
    st.caption(_("Select a bar to see its charges in Credit History."))
    with st.expander(_("Show as table"), icon=":material/table_rows:"):
        table = pd.DataFrame(
            {one.name: {bar.begins: bar.words for bar in one.bars} for one in series}
        )
        st.dataframe(table.sort_index().fillna(""), key="figures")


def _series(context: PageContext, report: UsageReport, group: str) -> list[Series]:
    """Return a series for each of the dearest, and one for all the others together."""
    totals: dict[str, int] = defaultdict(int)
    for resource in report.resources:
        totals[getattr(resource, group)] += resource.spent_micros
    most_expensive = sorted(totals, key=lambda key: (-totals[key], key))[:_COLOURS]
    amounts: dict[str, dict[date, int]] = {
        key: defaultdict(int) for key in [*most_expensive, _REST]
    }
    for one in report.spendings:
        key = getattr(one, group)
        amounts[key if key in amounts else _REST][one.begins] += one.spent_micros
    series = [
        Series(
            key,
            _name(key, group),
            [Bar(day, micros, context.money(micros)) for day, micros in days.items()],
            is_rest=key == _REST,
        )
        for key, days in amounts.items()
        if days
    ]
    return distinguish(series)


def _name(key: str, group: str) -> str:
    if key == _REST:
        return _("Others")
    return ledger_labels.service(key) if group == "service" else ledger_labels.source(key)


def _history_query(
    report: UsageReport, chosen: Chosen, key: str, begins: str
) -> dict[str, str | list[str]]:
    first = pd.Timestamp(begins).date()
    period = pd.Period(first, freq={"day": "D", "week": "W", "month": "M"}[chosen.grain])
    query: dict[str, str | list[str]] = {
        "tab": "history",
        "kind": "charge",
        "from": max(first, report.first).isoformat(),
        "to": min(period.end_time.date(), report.last).isoformat(),
        "zone": report.zone,
    }
    if key != _REST:
        query["service" if chosen.group == "service" else "text"] = key
    return query


def _open_history(query: Mapping[str, str | list[str]]) -> None:
    account = st.query_params.get("account")
    named = {"account": account} if account else {}
    st.switch_page(st.session_state["billing_page"], query_params={**named, **query})


# ── What was used ──────────────────────────────────────────────────────────────────────────────
def _resources(context: PageContext, account: AccountSummary, report: UsageReport) -> None:
    st.subheader(_("Top resources"))
    amount = _("Spent ({currency})").format(currency=account.currency)
    shown = report.resources[:_SHOWN_RESOURCES]
    table = pd.DataFrame(
        [
            {
                _("Service"): ledger_labels.service(resource.service),
                _("Model or resource"): ledger_labels.source(resource.source),
                amount: context.money(resource.spent_micros),
                _("Share"): _share(resource, report.spent_micros),
                _("Calls"): formats.number(resource.calls) if resource.calls else "",
                _("Usage"): ledger_labels.measures(
                    {meter: str(value) for meter, value in resource.quantities.items()},
                    calls=resource.calls + 1,
                ),
            }
            for resource in shown
        ]
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="resources",
        column_config={amount: right, _("Share"): right, _("Calls"): right},
    )
    if len(report.resources) > len(shown):
        text = _("Top {count} of {all} by cost")
        st.caption(text.format(count=len(shown), all=formats.number(len(report.resources))))


def _share(resource: Resource, whole: int) -> str:
    if whole <= 0 or resource.spent_micros <= 0:
        return ""
    return f"{_rounded(resource.spent_micros * _PERCENT, whole) or '< 1'} %"


def _rounded(amount: int, whole: int) -> int:
    """Return the quotient, half of one rounded up."""
    return (2 * amount + whole) // (2 * whole)


# ── Balance ────────────────────────────────────────────────────────────────────────────────────
def _balance(
    context: PageContext, account: AccountSummary, report: UsageReport, outlook: Outlook | None
) -> None:
    if not report.balances:
        return
    st.subheader(_("Balance"))
    past = [Bar(day, micros, context.money(micros)) for day, micros in report.balances]
    lines = [Line(_("Balance"), past)]
    if outlook is not None and report.last >= report.today:
        ahead = [
            Bar(report.today + timedelta(days=number), micros, context.money(micros))
            for number, micros in enumerate(outlook.forecast.balances_micros[:_FORECAST_DAYS], 1)
        ]
        if ahead:
            lines.append(Line(_("At the current rate"), [past[-1], *ahead], is_forecast=True))
    st.plotly_chart(balance_lines(lines, account.currency), key="balance", config=_CHART_OPTIONS)
