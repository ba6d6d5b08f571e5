"""Overview: what there is, of which kind, what expires next, and what is spent first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import streamlit as st

from domain.ledger.balances import account_overview
from domain.ledger.statements import statement_months
from portal.runtime import database
from portal.ui import charts, checked, formats
from portal.ui.balance_remarks import draw_remarks
from portal.ui.formats import plain, relative_days
from portal.ui.i18n import _
from portal.ui.labels import ledger as ledger_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from domain.ledger.balances import AccountOverview, AccountSummary
    from portal.shell.page_context import PageContext

COLOURS = {
    "plan": "#3b74d4",
    "voucher": "#0f8a7e",
    "adjustment": "#b8651b",
    "top_up": "#8a63d2",
}
"""Of each kind of credit; they can be told apart from a light and from a dark page."""
_SHOWN_WITHOUT_CREDIT = frozenset({"plan", "voucher", "top_up"})


def draw(
    context: PageContext, account: AccountSummary, *, draw_voucher_form: Callable[[], None]
) -> None:
    """Draw the tab; `draw_voucher_form` draws Add Voucher in its place."""
    found = database.read_snapshot(
        account_overview, actor=context.visitor.actor, account_id=account.account_id
    )
    _metrics(context, found)
    if account.status == "frozen":
        st.warning(
            _("This account is frozen: no new holds can be placed for usage. Contact support.")
        )
    _owed(context, found)
    draw_voucher_form()
    if not found.grants:
        st.info(
            _("No credit. Add credit or a voucher to get started."),
            icon=":material/savings:",
        )
        _statement(context, account)
        if found.debts:
            context.draw_zone()
        return
    _breakdown(context, found)
    _next_expiry(context, found)
    _spending_order(context, found)
    _statement(context, account)
    context.draw_zone()


def _metrics(context: PageContext, found: AccountOverview) -> None:
    amounts = {
        _("Total balance"): found.summary.balance_micros,
        _("Available"): found.available_micros,
        _("On hold"): found.summary.held_micros,
        _("Amount due"): found.due_micros,
    }
    with st.grid(columns=4, min_column_width=150):
        for name, micros in amounts.items():
            st.metric(name, plain(context.money(micros)), border=True)
    draw_remarks(context, found)


def _owed(context: PageContext, found: AccountOverview) -> None:
    if not found.due_micros:
        return
    text = _("Amount due: {amount}. Your next top-up pays this first.")
    owed = context.money(found.due_micros)
    st.warning(plain(text.format(amount=owed)), icon=":material/priority_high:")
    table = pa.Table.from_pylist(
        [
            {
                _("Reason"): ledger_labels.debt(debt.cause, debt.service),
                _("Since"): context.date_time(debt.opened_at),
                _("Amount due"): context.money(debt.due_micros),
            }
            for debt in found.debts
        ]
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="debts",
        column_config=_right([_("Amount due")]),
    )


def _breakdown(context: PageContext, found: AccountOverview) -> None:
    st.subheader(_("Balance by credit type"))
    kinds = [
        part for part in found.kinds if part.remaining_micros or part.kind in _SHOWN_WITHOUT_CREDIT
    ]
    st.html(
        charts.share_bar(
            [
                charts.Part(
                    ledger_labels.credit_kind(part.kind),
                    context.money(part.remaining_micros),
                    part.remaining_micros,
                    COLOURS[part.kind],
                )
                for part in kinds
            ]
        )
    )
    table = pa.Table.from_pylist(
        [
            {
                _("Credit"): ledger_labels.credit_kind(part.kind),
                _("Remaining"): context.money(part.remaining_micros),
                _("On hold"): context.money(part.held_micros),
                _("Available"): context.money(part.available_micros),
            }
            for part in kinds
        ]
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="kinds",
        column_config=_right(table.column_names[1:]),
    )


def _next_expiry(context: PageContext, found: AccountOverview) -> None:
    st.subheader(_("Next expiry"))
    expiry = found.next_expiry
    if expiry is None:
        st.write(_("No credit is about to expire."))
        return
    text = _("{amount} expires on {date} ({when}).")
    day = expiry.expires_at.astimezone(context.zone).date()
    words = text.format(
        amount=context.money(expiry.amount_micros),
        date=context.date_time(expiry.expires_at),
        when=relative_days(day, context.today.date()),
    )
    st.write(plain(words))


def _spending_order(context: PageContext, found: AccountOverview) -> None:
    st.subheader(_("Credit grants (in the order they are used)"))
    st.caption(
        _(
            "Order: plan, voucher, goodwill, top-up credit; within each type, the earliest"
            " expiry first. Credit limited to certain services pays only for those."
        )
    )
    names = ledger_labels.service_names()
    table = pa.Table.from_pylist(
        [
            {
                _("Credit"): ledger_labels.credit_kind(grant.kind),
                _("Remaining"): context.money(grant.remaining_micros),
                _("From"): grant.origin or "",
                _("Services"): ", ".join(names.get(slug, slug) for slug in grant.services)
                if grant.services
                else _("All"),
                _("Expires"): context.date_time(grant.expires_at)
                if grant.expires_at
                else _("Never"),
                _("Status"): ledger_labels.grant_status(grant.status),
            }
            for grant in found.grants
        ]
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="grants",
        column_config=_right([_("Remaining")]),
    )


def _statement(context: PageContext, account: AccountSummary) -> None:
    st.subheader(_("Statement"))
    months = database.read_snapshot(
        statement_months, actor=context.visitor.actor, account_id=account.account_id
    )
    with st.container(horizontal=True, vertical_alignment="bottom", key="statement"):
        month = checked.selectbox(
            _("Month"),
            months,
            format_func=formats.month,
            key=f"statement_month-{account.account_id}",
            width=240,
        )
        path = f"/statements/{account.account_id}/{month:%Y-%m}"
        st.link_button(_("Statement"), path, icon=":material/print:")
    st.caption(_("Opening balance, entries and closing balance of the month, to print or save."))


def _right(columns: Iterable[str]) -> dict[str, Any]:
    return {name: st.column_config.TextColumn(alignment="right") for name in columns}
