"""Credit History: filters and places that live in the address, and rows that open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.errors import InvalidInput
from domain.gateways.registry import gateway_names
from domain.history.cursors import HistoryCursor
from domain.history.pages import history_view
from domain.history.rows import HISTORY_KINDS, MAX_TEXT_LENGTH, HistoryFilter, HistoryStatus
from portal.runtime import database
from portal.ui import checked, formats, query_params
from portal.ui.i18n import _, ngettext
from portal.ui.labels import ledger as ledger_labels
from portal.ui.labels import top_up as top_up_labels
from portal.views.billing import detail, export

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import tzinfo

    from pandas.io.formats.style import Styler

    from domain.history.rows import CappedCount, HistoryPage, HistoryRow
    from domain.ledger.balances import AccountSummary
    from portal.shell.page_context import PageContext

_FILTERS = ("service", "status", "kind", "from", "to", "zone", "text")
_PLACES = ("older", "newer")
_LONG = "long_history"
_FIRST_DAY = date(2000, 1, 1)
_LAST_DAY = date(2099, 12, 31)
_MUTED = {"light": "#5b6472", "dark": "#a7b1c0"}
"""Text that is told apart from the rest, and still at more than 4.5 to 1 on its ground."""
_PAYMENT_TO_OPEN = "history_payment_to_open"


def draw(context: PageContext, account: AccountSummary) -> None:
    """Draw the tab: the row that the address names, or the rows that pass its filters."""
    if query_params.get("row"):
        detail.draw(context, account, query_params.get("row"))
        return
    filters = _filters(context)
    older, newer = _cursor("older"), _cursor("newer")
    is_known_to_be_long = _is_known_to_be_long(account, filters)
    found = database.read_snapshot(
        history_view,
        actor=context.visitor.actor,
        account_id=account.account_id,
        filters=filters,
        older_than=older,
        newer_than=None if older else newer,
        is_counted=not is_known_to_be_long,
    )
    if found.count is not None and found.count.is_capped:
        st.session_state.setdefault(_LONG, set()).add((account.account_id, filters))
    _count_line(found.count)
    has_rows = bool(found.page.rows) or found.page.older is not None
    export.draw(context, account, filters, has_rows=has_rows)
    if found.page.rows:
        _tables(context, account, found.page)
    else:
        _empty(filters, found.page)
    _pager(context, found.page, is_first=older is None and newer is None)
    if found.page.rows or found.page.searched_to is not None:
        context.draw_zone()


def _is_known_to_be_long(account: AccountSummary, filters: HistoryFilter) -> bool:
    """Whether these rows were more than are counted when they were last shown here.

    Only holds come to an end; without them rows get no fewer.
    """
    has_updates = not filters.statuses or HistoryStatus.SUCCESS in filters.statuses
    return has_updates and (account.account_id, filters) in st.session_state.get(_LONG, ())


# ── Filters ────────────────────────────────────────────────────────────────────────────────────
def _filters(context: PageContext) -> HistoryFilter:
    names = ledger_labels.service_names()
    with st.expander(_("Filters"), expanded=True, icon=":material/filter_list:", key="filters"):
        with st.container(horizontal=True):
            services = _choice(
                _("Service"), "service", [*names, *gateway_names(), "system"], ledger_labels.service
            )
            statuses = _choice(_("Status"), "status", list(HistoryStatus), ledger_labels.status)
            kinds = _choice(_("Type"), "kind", list(HISTORY_KINDS), ledger_labels.kind)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            first = _day(_("From"), "from")
            last = _day(_("To"), "to")
            search_text = _text(_("Search"), "text")
            st.button(_("Reset filters"), on_click=_reset, icon=":material/restart_alt:")
        zone = _zone_of_days(context)
        if zone is not context.zone and (first or last):
            text = _("From and To are dates in {zone}. Times below are in your time zone.")
            st.caption(formats.plain(text.format(zone=zone)))
    return HistoryFilter(
        services=frozenset(services),
        statuses=frozenset(HistoryStatus(status) for status in statuses),
        kinds=frozenset(kinds),
        occurred_from=_midnight(zone, first),
        occurred_before=_midnight(zone, last and last + timedelta(days=1)),
        text=search_text,
    )


def _choice(
    label: str, name: str, options: Sequence[str], shown: Callable[[str], str]
) -> list[str]:
    given = st.query_params.get_all(name)
    key = f"history_{name}"
    query_params.set_widget(key, [option for option in options if option in given])
    chosen: list[str] = checked.multiselect(
        label,
        options,
        format_func=shown,
        key=key,
        placeholder=_("All"),
        on_change=_remember,
        args=(name,),
    )
    return chosen


def _day(label: str, name: str) -> date | None:
    key = f"history_{name}"
    query_params.set_widget(key, _date_in_address(name))
    chosen: date | None = checked.date_input(
        label,
        value=None,
        min_value=_FIRST_DAY,
        max_value=_LAST_DAY,
        key=key,
        format="YYYY-MM-DD",
        on_change=_remember,
        args=(name,),
    )
    return chosen


def _date_in_address(name: str) -> date | None:
    try:
        day = date.fromisoformat(query_params.get(name))
    except ValueError:
        return None
    return day if _FIRST_DAY <= day <= _LAST_DAY else None


def _text(label: str, name: str) -> str:
    key = f"history_{name}"
    query_params.set_widget(key, query_params.get(name)[:MAX_TEXT_LENGTH])
    return st.text_input(
        label,
        key=key,
        max_chars=MAX_TEXT_LENGTH,
        placeholder=_("Resource, model, code …"),
        on_change=_remember,
        args=(name,),
    )


def _remember(name: str) -> None:
    """Put a filter's new value into the address, and begin at the newest row again."""
    query_params.remove(*_PLACES)
    value = st.session_state[f"history_{name}"]
    query_params.put(name, value.isoformat() if isinstance(value, date) else value)


def _reset() -> None:
    query_params.remove(*_FILTERS, *_PLACES)


def _zone_of_days(context: PageContext) -> tzinfo:
    """Return the zone of From and To: the viewer's, or one that the address names.

    A link from a chart uses the days of the account's site.
    """
    given = query_params.get("zone")
    zone = formats.time_zone(given) if given else context.zone
    return context.zone if str(zone) == str(context.zone) else zone


def _midnight(zone: tzinfo, day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), tzinfo=zone)


# ── Rows ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class _Line:
    """What the tables show of a row; `opens` is its name, or its payment's, in an address."""

    occurred: str
    service: str
    source: str
    description: str
    code: str
    status: str
    amount: str
    opens: str
    is_payment: bool


def _line(context: PageContext, row: HistoryRow) -> _Line:
    is_payment = row.payment_reference is not None
    return _Line(
        occurred=context.occurred(row.occurred_at, kind=row.kind, source=row.source),
        service=ledger_labels.service(row.service),
        source=ledger_labels.source(row.source),
        description=top_up_labels.under_way(row.description_code, row.service)
        if is_payment
        else ledger_labels.description(row.description_code, row.description_parameters),
        code=_code(row),
        status=ledger_labels.status(row.status),
        # Money that has not come adds nothing yet: no plus.
        amount=context.money(row.amount_micros, signed=not is_payment),
        opens=row.payment_reference or str(row.reference),
        is_payment=is_payment,
    )


def _count_line(found: CappedCount | None) -> None:
    """Say how many rows there are."""
    if found is not None and found.is_capped:
        st.caption(_("More than {count} rows").format(count=formats.number(found.count)))
    elif found is not None and found.count:
        text = ngettext("{count} row", "{count} rows", found.count)
        st.caption(text.format(count=formats.number(found.count)))


def _empty(filters: HistoryFilter, page: HistoryPage) -> None:
    if page.older is not None:
        st.info(_("No results so far. Search older rows."))
    elif filters.is_empty:
        st.info(_("No entries yet. Add credit to get started."))
    else:
        st.info(_("No results. Reset the filters, or choose a longer period."))


def _tables(context: PageContext, account: AccountSummary, page: HistoryPage) -> None:
    """Draw the rows twice, for wide and for narrow screens; the style sheet hides one."""
    lines = [_line(context, row) for row in page.rows]
    amount = _("Amount ({currency})").format(currency=account.currency)
    table = pa.table(
        {
            _("Date"): [line.occurred for line in lines],
            _("Service"): [line.service for line in lines],
            _("Source"): [line.source for line in lines],
            _("Description"): [line.description for line in lines],
            _("Code"): [line.code for line in lines],
            _("Status"): [line.status for line in lines],
            amount: [line.amount for line in lines],
        }
    )
    everything = list(table.column_names)
    amount_first = [everything[0], amount, *everything[1:-1]]
    with st.container(key="rows-wide"):
        _table(table, everything, lines, key="wide")
    with st.container(key="rows-narrow"):
        _table(table, amount_first, lines, key="narrow")
    st.caption(_("Select a row for details."))
    reference = st.session_state.pop(_PAYMENT_TO_OPEN, None)
    if reference is not None:
        query = {"ref": reference, "back": query_params.whole()}
        st.switch_page("pages/payment.py", query_params=query)


def _table(table: pa.Table, order: list[str], lines: Sequence[_Line], *, key: str) -> None:
    # The key holds the rows: a choice in them is none in the rows of another page.
    widget = f"{key}-{lines[0].opens}-{lines[-1].opens}-{len(lines)}"
    st.dataframe(
        _muted(table.select(order), lines),
        hide_index=True,
        height="content",
        on_select=partial(_open, widget, lines),
        selection_mode="single-row",
        key=widget,
        column_config={
            _("Description"): st.column_config.TextColumn(width=330),
            _("Code"): st.column_config.TextColumn(width=90),
            **{
                name: st.column_config.TextColumn(alignment="right")
                for name in (order[1], order[-1])
                if name.endswith(")")
            },
        },
    )


def _muted(table: pa.Table, lines: Sequence[_Line]) -> pa.Table | Styler:
    """Return the table with payments under way in a muted colour; a plain one is drawn faster."""
    if not any(line.is_payment for line in lines):
        return table
    colour = _MUTED["dark" if st.context.theme.type == "dark" else "light"]
    styles = [f"color: {colour}" if line.is_payment else "" for line in lines]
    return table.to_pandas().style.apply(lambda _column: styles, axis=0)


def _open(widget: str, lines: Sequence[_Line]) -> None:
    """Open the row whose box was ticked; a cell is chosen by whoever only passes with Tab."""
    rows = st.session_state[widget]["selection"]["rows"]
    if not rows or rows[0] >= len(lines):
        return
    line = lines[rows[0]]
    if line.is_payment:
        st.session_state[_PAYMENT_TO_OPEN] = line.opens
    else:
        query_params.put("row", line.opens)


def _code(row: HistoryRow) -> str:
    return str(row.description_parameters.get("origin") or "") if row.kind == "voucher" else ""


# ── Pages ──────────────────────────────────────────────────────────────────────────────────────
def _cursor(name: str) -> HistoryCursor | None:
    token = query_params.get(name)
    if not token:
        return None
    try:
        return HistoryCursor.decode(token)
    except InvalidInput:
        query_params.remove(name)
        return None


def _pager(context: PageContext, page: HistoryPage, *, is_first: bool) -> None:
    if page.searched_to is not None:
        until = _("Searched back to {date}.").format(date=context.date_time(page.searched_to))
        st.caption(formats.plain(until))
    if is_first and page.older is None:
        return
    is_searching = page.searched_to is not None
    with st.container(horizontal=True, key="pager"):
        st.button(
            _("Newest"),
            disabled=is_first,
            on_click=_go,
            icon=":material/keyboard_double_arrow_left:",
        )
        st.button(
            _("Newer"),
            disabled=page.newer is None,
            on_click=_go,
            args=("newer", page.newer),
            icon=":material/chevron_left:",
        )
        st.button(
            _("Search older") if is_searching else _("Older"),
            disabled=page.older is None,
            on_click=_go,
            args=("older", page.older),
            icon=":material/chevron_right:",
        )


def _go(name: str = "", cursor: HistoryCursor | None = None) -> None:
    query_params.remove(*_PLACES)
    if cursor is not None:
        query_params.put(name, cursor.encode())
