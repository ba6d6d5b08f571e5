"""Credit History: filters that live in the address, pages, and the row that is open."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from domain.errors import InvalidInput
from domain.queries.accounts import service_names
from domain.queries.cursors import HistoryCursor
from domain.queries.history import history_count, history_page
from domain.queries.history_rows import HISTORY_KINDS, HistoryFilter, HistoryStatus
from portal import backend, descriptions, formats
from portal.billing import detail
from portal.i18n import _, ngettext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from domain.queries.balances import AccountSummary
    from domain.queries.history_rows import CappedCount, HistoryPage, HistoryRow
    from portal.viewing import Viewing

_OTHER_SERVICES = ("vnpay", "stripe", "paypal", "bank", "system")
_FILTERS = ("service", "status", "kind", "from", "to", "text")
_PLACES = ("older", "newer", "row")


def draw(viewing: Viewing, account: AccountSummary) -> None:
    """Draw the tab."""
    names = backend.read(service_names)
    wanted = _filters(viewing, names)
    actor, account_id = viewing.visitor.actor, account.account_id
    page = backend.read(
        history_page,
        actor=actor,
        account_id=account_id,
        wanted=wanted,
        older_than=_cursor("older"),
        newer_than=_cursor("newer"),
    )
    count = backend.read(history_count, actor=actor, account_id=account_id, wanted=wanted)
    if count is not None:
        _count_line(count)
    if not page.rows:
        _empty(wanted, page)
        return
    _table(viewing, page.rows, names)
    _pager(page)
    reference = st.query_params.get("row")
    if reference:
        detail.draw(viewing, account, reference, names)


def _filters(viewing: Viewing, names: Mapping[str, str]) -> HistoryFilter:
    services = [*names, *_OTHER_SERVICES]
    with st.expander(_("Filters"), expanded=True, icon=":material/filter_list:", key="filters"):
        with st.container(horizontal=True):
            chosen = _choice(
                _("Service"), "service", services, lambda slug: descriptions.service(slug, names)
            )
            statuses = _choice(
                _("Status"),
                "status",
                [status.value for status in HistoryStatus],
                descriptions.status,
            )
            kinds = _choice(_("Kind"), "kind", list(HISTORY_KINDS), descriptions.kind)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            first = _day(_("From"), "from")
            last = _day(_("To"), "to")
            sought = _text(_("Text"), "text")
            st.button(_("Reset filters"), on_click=_reset, icon=":material/restart_alt:")
    return HistoryFilter(
        services=frozenset(chosen),
        statuses=frozenset(HistoryStatus(status) for status in statuses),
        kinds=frozenset(kinds),
        occurred_from=_midnight(viewing, first),
        occurred_before=_midnight(viewing, last and last + timedelta(days=1)),
        text=sought,
    )


def _choice(
    label: str, name: str, options: Sequence[str], shown: Callable[[str], str]
) -> list[str]:
    key = f"history_{name}"
    if key not in st.session_state:
        given = st.query_params.get_all(name)
        st.session_state[key] = [option for option in options if option in given]
    chosen: list[str] = st.multiselect(
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
    if key not in st.session_state:
        st.session_state[key] = _date_in_address(name)
    chosen: date | None = st.date_input(
        label, value=None, key=key, format="YYYY-MM-DD", on_change=_remember, args=(name,)
    )
    return chosen


def _date_in_address(name: str) -> date | None:
    try:
        return date.fromisoformat(st.query_params.get(name, ""))
    except ValueError:
        return None


def _text(label: str, name: str) -> str:
    key = f"history_{name}"
    if key not in st.session_state:
        st.session_state[key] = st.query_params.get(name, "")[:100]
    return st.text_input(
        label,
        key=key,
        max_chars=100,
        placeholder=_("Model, code, reason …"),
        on_change=_remember,
        args=(name,),
    )


def _remember(name: str) -> None:
    """Put a filter's new value into the address, and begin at the newest row again."""
    for place in _PLACES:
        st.query_params.pop(place, None)
    value = st.session_state[f"history_{name}"]
    if not value:
        st.query_params.pop(name, None)
    elif isinstance(value, date):
        st.query_params[name] = value.isoformat()
    else:
        st.query_params[name] = value


def _reset() -> None:
    for name in (*_FILTERS, *_PLACES):
        st.query_params.pop(name, None)
        st.session_state.pop(f"history_{name}", None)


def _midnight(viewing: Viewing, day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), tzinfo=viewing.zone)


def _cursor(parameter: str) -> HistoryCursor | None:
    token = st.query_params.get(parameter)
    if not token or (parameter == "newer" and st.query_params.get("older")):
        return None
    try:
        return HistoryCursor.decode(token)
    except InvalidInput:
        st.query_params.pop(parameter, None)
        return None


def _count_line(found: CappedCount) -> None:
    shown = formats.number(found.count)
    if found.is_capped:
        st.caption(_("More than {count} rows").format(count=shown))
    else:
        st.caption(ngettext("{count} row", "{count} rows", found.count).format(count=shown))


def _empty(wanted: HistoryFilter, page: HistoryPage) -> None:
    if page.older is not None:
        st.info(_("Nothing found so far. Older rows are not searched yet."))
        _pager(page)
    elif wanted.is_empty:
        st.info(_("Nothing has happened yet. Credit and usage will show here."))
    else:
        st.info(_("No row matches. Reset the filters, or choose a longer time."))


def _table(viewing: Viewing, rows: Sequence[HistoryRow], names: Mapping[str, str]) -> None:
    amount = _("Amount ({currency})").format(
        currency=viewing.account.currency if viewing.account else ""
    )
    table = pd.DataFrame(
        [
            {
                _("Date"): viewing.date_time(row.occurred_at),
                _("Service"): descriptions.service(row.service, names),
                _("Source"): descriptions.source(row.source),
                _("Description"): descriptions.description(
                    row.description_code, row.description_parameters
                ),
                _("Code"): _code(row),
                _("Status"): descriptions.status(row.status),
                amount: viewing.money(row.amount_micros, signed=True),
            }
            for row in rows
        ]
    )
    event = st.dataframe(
        table,
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode="single-row",
        key=f"rows-{rows[0].reference}-{rows[-1].reference}",
        column_config={
            _("Description"): st.column_config.TextColumn(width=280),
            amount: st.column_config.TextColumn(alignment="right"),
        },
    )
    chosen = event["selection"]["rows"]
    if chosen and chosen[0] < len(rows):
        st.query_params["row"] = str(rows[chosen[0]].reference)
    st.caption(_("Tick a row to see which credit paid it, and the calls behind it."))


def _code(row: HistoryRow) -> str:
    return str(row.description_parameters.get("origin") or "") if row.kind == "voucher" else ""


def _pager(page: HistoryPage) -> None:
    with st.container(horizontal=True):
        st.button(
            _("Newer"),
            disabled=page.newer is None,
            on_click=_go,
            args=("newer", page.newer),
            icon=":material/chevron_left:",
        )
        st.button(
            _("Older"),
            disabled=page.older is None,
            on_click=_go,
            args=("older", page.older),
            icon=":material/chevron_right:",
        )


def _go(parameter: str, cursor: HistoryCursor | None) -> None:
    for place in _PLACES:
        st.query_params.pop(place, None)
    if cursor is not None:
        st.query_params[parameter] = cursor.encode()
