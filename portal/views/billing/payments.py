"""Payment History: every top-up, how it stands, and its receipt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import pyarrow as pa
import streamlit as st

from domain.payments.queries import PaymentStatus, payment_page
from portal.runtime import database
from portal.ui import checked, formats, pager, payment_documents, query_params
from portal.ui.formats import plain
from portal.ui.i18n import _, ngettext
from portal.ui.labels import gateways as gateway_labels
from portal.ui.labels import top_up as top_up_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domain.ledger.balances import AccountSummary
    from domain.payments.queries import PaymentView
    from portal.shell.page_context import PageContext

_CHARACTER_PIXELS, _CELL_PIXELS = 8, 20


def draw(context: PageContext, account: AccountSummary) -> None:
    """Draw the tab."""
    status = _status()
    found = database.read_snapshot(
        payment_page,
        actor=context.visitor.actor,
        account_id=account.account_id,
        status=status,
        older_than=query_params.get_number(pager.BEFORE) or None,
    )
    if not found.rows:
        _empty(status)
    else:
        _table(context, found.rows)
    _imported(account, found.imported_top_ups)
    pager.draw(None if found.older_than is None else str(found.older_than))


def _status() -> PaymentStatus | None:
    given = query_params.get("status")
    known = {str(each): each for each in PaymentStatus}
    query_params.set_widget("payments_status", given if given in known else "")

    def remember() -> None:
        query_params.remove(pager.BEFORE)
        query_params.put("status", st.session_state["payments_status"])

    chosen = checked.selectbox(
        _("Status"),
        ["", *known],
        format_func=lambda code: top_up_labels.status(code) if code else _("All"),
        key="payments_status",
        on_change=remember,
        width=240,
    )
    return known.get(chosen or "")


def _empty(status: PaymentStatus | None) -> None:
    if status is None:
        st.info(
            _("No payments yet. Select Add credit at the top right."),
            icon=":material/payments:",
        )
    else:
        st.info(_("No payments with this status. Choose another status."))


def _imported(account: AccountSummary, count: int) -> None:
    """Say where top-ups are that no payment stands behind, and lead there."""
    if not count:
        return
    text = ngettext(
        "{count} top-up was imported, such as sample data. It has no payment or receipt here.",
        "{count} top-ups were imported, such as sample data. They have no payments or"
        " receipts here.",
        count,
    )
    st.caption(plain(text.format(count=formats.number(count))))
    st.page_link(
        st.session_state["billing_page"],
        label=_("Open top-ups in Credit History"),
        icon=":material/arrow_forward:",
        query_params={"account": str(account.account_id), "tab": "history", "kind": "top_up"},
    )


def _table(context: PageContext, rows: Sequence[PaymentView]) -> None:
    """Draw the rows twice, for wide and for narrow screens; the style sheet hides one."""
    date, amount, status = _("Date"), _("Amount"), _("Status")
    table = pa.table(
        {
            date: [top_up_labels.begun(context, row) for row in rows],
            amount: [formats.money(row.pay) for row in rows],
            status: [top_up_labels.status(row.status) for row in rows],
            _("Details"): [top_up_labels.state(row) for row in rows],
            _("Credited"): [_credited(row) for row in rows],
            _("Method"): [gateway_labels.title(row.gateway) for row in rows],
            _("Receipt"): [_receipt(row) for row in rows],
            _("Reference"): [row.reference for row in rows],
            # The longest, and the one that is missed least where it ends beyond the edge.
            _("Email"): [row.email or "" for row in rows],
        }
    )
    order = list(table.column_names)
    with st.container(key="rows-wide"):
        _rows(table, rows, key="payments")
    with st.container(key="rows-narrow"):
        _rows(table.select([amount, status, date, *order[3:]]), rows, key="payments-narrow")
    st.caption(_("Select a row for details."))
    context.draw_zone()
    reference = st.session_state.pop("payment_to_open", None)
    if reference is not None:
        query = {"ref": reference, "back": query_params.whole()}
        st.switch_page("pages/payment.py", query_params=query)


def _rows(table: pa.Table, rows: Sequence[PaymentView], *, key: str) -> None:
    amount, status, credited = _("Amount"), _("Status"), _("Credited")
    widget = f"{key}-{rows[0].payment_id}-{rows[-1].payment_id}-{len(rows)}"
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        on_select=partial(_open, widget, [row.reference for row in rows]),
        selection_mode="single-row",
        key=widget,
        column_config={
            amount: st.column_config.TextColumn(alignment="right", width=_width(table, amount)),
            status: st.column_config.TextColumn(width=_width(table, status)),
            credited: st.column_config.TextColumn(alignment="right"),
        },
    )


def _width(table: pa.Table, column: str) -> int:
    """Return how many pixels show a column whole: the browser measures its first rows only."""
    texts = (column, *table.column(column).to_pylist())
    longest = max(
        sum(2 if east_asian_width(char) in "FW" else 1 for char in each) for each in texts
    )
    return longest * _CHARACTER_PIXELS + _CELL_PIXELS


def _credited(row: PaymentView) -> str:
    return formats.money(row.credit) if row.entry_sequence is not None else ""


def _receipt(row: PaymentView) -> str:
    if payment_documents.offers_receipt(row):
        return _("Ready")
    is_due = row.status is PaymentStatus.SUCCESS and not row.has_lost_dispute
    return _("Processing") if is_due else ""


def _open(widget: str, references: Sequence[str]) -> None:
    rows = st.session_state[widget]["selection"]["rows"]
    if rows and rows[0] < len(references):
        st.session_state["payment_to_open"] = references[rows[0]]
