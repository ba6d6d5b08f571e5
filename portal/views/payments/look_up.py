"""The search for payments, and the table of those that it finds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.payments import unmatched_webhooks
from domain.payments.queries import find_payments
from domain.payments.reviews import count_waiting
from portal.runtime import database
from portal.ui import formats, query_params
from portal.ui.i18n import _
from portal.ui.labels import gateways as gateway_labels
from portal.ui.labels import top_up as top_up_labels
from portal.views.payments import discrepancies, payouts, unmatched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portal.shell.page_context import PageContext

_MAX_LENGTH = 100


def draw(context: PageContext) -> None:
    """Draw the search and what it found; a ticked row goes to the address."""
    query_params.set_widget("payments_sought", query_params.get("q")[:_MAX_LENGTH])
    search_text = st.text_input(
        _("Payment reference, gateway transaction ID or account number"),
        max_chars=_MAX_LENGTH,
        key="payments_sought",
        on_change=lambda: query_params.put("q", st.session_state["payments_sought"]),
    )
    strays = database.read_snapshot(
        unmatched_webhooks, actor=context.visitor.actor, limit=unmatched.MAX_SHOWN
    )
    only_waiting = _filter(context, len(strays))
    if only_waiting:
        unmatched.draw(context, strays)
        payouts.draw_all(context)
        discrepancies.draw_all(context)
    found = database.read_snapshot(
        find_payments,
        actor=context.visitor.actor,
        search_text=search_text or "",
        only_waiting=only_waiting,
    )
    if not found and only_waiting:
        st.info(_("No payments need a decision."), icon=":material/task_alt:")
        return
    if not found and not search_text:
        st.info(_("No payments yet."))
        return
    if not found:
        st.info(
            _("No payment found. Search by the payment reference on the customer's receipt."),
            icon=":material/search_off:",
        )
        return
    table = pa.table(
        {
            _("Date"): [top_up_labels.begun(context, row) for row in found],
            _("Account"): [str(row.account_id) for row in found],
            _("Amount"): [formats.money(row.pay) for row in found],
            _("Status"): [top_up_labels.status(row.status) for row in found],
            _("Details"): [top_up_labels.state(row) for row in found],
            _("Method"): [gateway_labels.title(row.gateway) for row in found],
            _("Reference"): [row.reference for row in found],
        }
    )
    widget = f"found-{found[0].payment_id}-{found[-1].payment_id}-{len(found)}"
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        on_select=partial(_open, widget, [row.reference for row in found]),
        selection_mode="single-row",
        key=widget,
        column_config={_("Amount"): st.column_config.TextColumn(alignment="right")},
    )
    st.caption(_("Select a row for details."))


def _filter(context: PageContext, others: int) -> bool:
    """Draw how many payments, and other things, need people; return whether only those show."""
    count = database.read_snapshot(count_waiting, actor=context.visitor.actor) + others
    query_params.set_widget("payments_waiting", query_params.get("waiting") == "yes")
    return st.toggle(
        _("Needs a decision ({count})").format(count=formats.number(count)),
        key="payments_waiting",
        on_change=_remember_filter,
    )


def _remember_filter() -> None:
    if st.session_state["payments_waiting"]:
        query_params.put("waiting", "yes")
    else:
        query_params.remove("waiting")


def _open(widget: str, references: Sequence[str]) -> None:
    rows = st.session_state[widget]["selection"]["rows"]
    if rows and rows[0] < len(references):
        query_params.put("ref", references[rows[0]])
