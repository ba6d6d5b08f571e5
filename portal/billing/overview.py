"""Overview: what there is, of which kind, what expires next, and what is spent first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from domain.money import MICROS_PER_UNIT
from domain.queries.accounts import service_names
from domain.queries.balances import account_overview
from portal import backend, descriptions
from portal.formats import plain, relative_days
from portal.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterable

    from domain.queries.balances import AccountOverview, AccountSummary
    from portal.viewing import Viewing

_COLOURS = {
    "plan": "#5B8DEF",
    "voucher": "#2FA58A",
    "adjustment": "#C98A2B",
    "top_up": "#7A6FD0",
}
SHOWN_KINDS = ("plan", "voucher", "top_up")


def draw(viewing: Viewing, account: AccountSummary) -> None:
    """Draw the tab."""
    found = backend.read(
        account_overview, actor=viewing.visitor.actor, account_id=account.account_id
    )
    _metrics(viewing, found)
    if account.status == "frozen":
        st.warning(_("This account is frozen. New usage is refused. Contact support."))
    if found.owed_micros:
        text = _("{amount} is owed. The next credit pays it first.")
        owed = viewing.money(found.owed_micros)
        st.warning(plain(text.format(amount=owed)), icon=":material/priority_high:")
    if not found.grants:
        st.info(
            _("There is no credit now. What is added shows here, with where it came from."),
            icon=":material/savings:",
        )
        return
    _breakdown(viewing, found)
    _next_expiry(viewing, found)
    _spending_order(viewing, found)


def _metrics(viewing: Viewing, found: AccountOverview) -> None:
    amounts = {
        _("Total balance"): found.summary.balance_micros,
        _("Available"): found.available_micros,
        _("Held"): found.summary.held_micros,
        _("Owed"): found.owed_micros,
    }
    with st.container(horizontal=True):
        for name, micros in amounts.items():
            st.metric(name, plain(viewing.money(micros)), border=True)


def _breakdown(viewing: Viewing, found: AccountOverview) -> None:
    st.subheader(_("Where it comes from"))
    remaining = {part.kind: part for part in found.kinds}
    others = [part.kind for part in found.kinds if part.remaining_micros]
    kinds = [*SHOWN_KINDS, *(kind for kind in others if kind not in SHOWN_KINDS)]
    figure = go.Figure()
    total = sum(part.remaining_micros for part in found.kinds) / MICROS_PER_UNIT or 1
    for kind in kinds:
        micros = remaining[kind].remaining_micros if kind in remaining else 0
        figure.add_bar(
            x=[micros / MICROS_PER_UNIT],
            y=[""],
            orientation="h",
            name=descriptions.credit_kind(kind),
            marker_color=_COLOURS.get(kind, "#888888"),
            hovertext=[f"{descriptions.credit_kind(kind)}: {viewing.money(micros)}"],
            hoverinfo="text",
        )
    figure.update_layout(
        barmode="stack",
        height=120,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"orientation": "h", "y": -0.4, "traceorder": "normal"},
        xaxis={"visible": False, "range": [0, total]},
        yaxis={"visible": False},
    )
    st.plotly_chart(figure, config={"displayModeBar": False}, key="breakdown")
    table = pd.DataFrame(
        [
            {
                _("Credit"): descriptions.credit_kind(kind),
                _("Remaining"): viewing.money(part.remaining_micros if part else 0),
                _("Held"): viewing.money(part.held_micros if part else 0),
                _("Available"): viewing.money(part.available_micros if part else 0),
            }
            for kind in kinds
            for part in (remaining.get(kind),)
        ]
    )
    st.dataframe(table, hide_index=True, column_config=_right(table.columns[1:]))


def _next_expiry(viewing: Viewing, found: AccountOverview) -> None:
    st.subheader(_("Expires next"))
    expiry = found.next_expiry
    if expiry is None:
        st.write(_("Nothing that you have expires."))
        return
    text = _("{amount} on {date} ({when}).")
    day = expiry.expires_at.astimezone(viewing.zone).date()
    words = text.format(
        amount=viewing.money(expiry.amount_micros),
        date=viewing.date_time(expiry.expires_at),
        when=relative_days(day, viewing.today.date()),
    )
    st.write(plain(words))


def _spending_order(viewing: Viewing, found: AccountOverview) -> None:
    st.subheader(_("Spent in this order"))
    st.caption(
        _(
            "Plan credit first, then voucher, goodwill and top-up credit; inside each, what expires"
            " soonest. Credit for named services pays only for those."
        )
    )
    names = backend.read(service_names)
    table = pd.DataFrame(
        [
            {
                _("Credit"): descriptions.credit_kind(grant.kind),
                _("From"): grant.origin or "",
                _("Remaining"): viewing.money(grant.remaining_micros),
                _("Services"): ", ".join(names.get(slug, slug) for slug in grant.services)
                if grant.services
                else _("All"),
                _("Expires"): viewing.date_time(grant.expires_at)
                if grant.expires_at
                else _("Never"),
                _("Status"): descriptions.grant_status(grant.status),
            }
            for grant in found.grants
        ]
    )
    st.dataframe(table, hide_index=True, column_config=_right([_("Remaining")]))


def _right(columns: Iterable[str]) -> dict[str, Any]:
    return {name: st.column_config.TextColumn(alignment="right") for name in columns}
