"""The audit log: its chain, the filters, and the rows."""

from __future__ import annotations

import json
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import streamlit as st

from domain.audit.chain import chain_state
from domain.audit.queries import AuditCursor, AuditFilter, actions_of_people, audit_page
from domain.validation import MAX_NUMBER_LENGTH
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import checked, formats, pager, query_params
from portal.ui.formats import plain
from portal.ui.i18n import N_, _
from portal.views.audit import download

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from domain.audit.queries import AuditRow
    from portal.shell.page_context import PageContext

_WHO = {
    "people": N_("People"),
    "system": N_("System"),
    "all": N_("Everyone"),
    "person": N_("One person"),
}
_MAX_EMAIL_LENGTH = 254


def draw(context: PageContext) -> None:
    """Draw the state of the chain, the filters, the rows and the ways to take them away."""
    _chain(context)
    filters = _selected_filters(context)
    page = database.read_snapshot(
        audit_page, actor=context.visitor.actor, filters=filters, older_than=_cursor()
    )
    if not page.rows:
        st.info(
            _("No matching entries. Choose another person or a longer period."),
            icon=":material/history:",
        )
        return
    _table(context, page.rows)
    context.draw_zone()
    end = page.older
    pager.draw(None if end is None else f"{end.recorded_at.isoformat()}~{end.number}")
    download.draw(filters)


def _chain(context: PageContext) -> None:
    state = database.read_snapshot(chain_state, actor=context.visitor.actor)
    if state.head is None or state.sealed_at is None:
        text = _("No entries are in the hash chain yet. Entries are added every minute.")
    else:
        text = _(
            "{count} entries are in the hash chain, the last added at {when}; {waiting}"
            " waiting. To verify that no entry was changed or removed, run verify-audit."
            " Chain head: {head}"
        ).format(
            count=formats.number(state.head.position),
            when=context.date_time(state.sealed_at),
            waiting=formats.number(state.waiting),
            head=state.head,
        )
    st.caption(plain(text))


def _selected_filters(context: PageContext) -> AuditFilter:
    """Draw the filters as the address has them, and return what they say."""
    who = query_params.get("who")
    query_params.set_widget("audit_who", who if who in _WHO else "people")
    query_params.set_widget("audit_person", query_params.get("person"))
    actions = ["", *database.read_snapshot(actions_of_people, actor=context.visitor.actor)]
    action = query_params.get("what")
    if action not in actions:
        actions.append(action)
    query_params.set_widget("audit_what", action)
    query_params.set_widget("audit_account", str(query_params.get_number("of") or ""))
    with st.grid(columns=4, min_column_width=200):
        checked.selectbox(
            _("User"),
            list(_WHO),
            format_func=lambda name: _(_WHO[name]),
            key="audit_who",
            on_change=_keep,
            args=("who",),
        )
        checked.selectbox(
            _("Action"),
            actions,
            format_func=lambda name: name.replace("_", " ") or _("All actions"),
            key="audit_what",
            on_change=_keep,
            args=("what",),
        )
        st.text_input(
            _("Account number"),
            max_chars=MAX_NUMBER_LENGTH,
            key="audit_account",
            on_change=_keep,
            args=("account", "of"),
        )
        days = checked.date_input(
            _("Days"), value=[], max_value=context.today.date(), key="audit_days", on_change=_newest
        )
    if st.session_state["audit_who"] == "person":
        st.text_input(
            _("Email"),
            max_chars=_MAX_EMAIL_LENGTH,
            key="audit_person",
            on_change=_keep,
            args=("person",),
        )
    since, until = _period(context, days)
    name = st.session_state["audit_who"]
    return AuditFilter(
        who=(st.session_state["audit_person"] or "-") if name == "person" else name,
        action=st.session_state["audit_what"],
        account_id=query_params.get_number("of"),
        since=since,
        until=until,
    )


def _keep(widget: str, name: str = "") -> None:
    _newest()
    query_params.put(name or widget, st.session_state[f"audit_{widget}"])


def _newest() -> None:
    query_params.remove(pager.BEFORE)


def _period(context: PageContext, days: Any) -> tuple[datetime | None, datetime | None]:  # noqa: ANN401 - a tuple while it is being chosen
    """Return the moments that the chosen days begin and end at, on the viewer's clock."""
    chosen: tuple[date, ...] = days if isinstance(days, tuple) else (days,)
    if not chosen:
        return None, None
    first, last = chosen[0], chosen[-1]
    return (
        datetime.combine(first, time(), context.zone),
        datetime.combine(last + timedelta(days=1), time(), context.zone),
    )


def _cursor() -> AuditCursor | None:
    try:
        at, number = query_params.get(pager.BEFORE).split("~")
        cursor = AuditCursor(datetime.fromisoformat(at), int(number[:MAX_NUMBER_LENGTH]))
    except ValueError:
        return None
    return cursor if cursor.recorded_at.tzinfo is not None else None


def _table(context: PageContext, rows: Sequence[AuditRow]) -> None:
    name = naming(context, {each.actor for each in rows})
    table = pa.table(
        {
            _("Time"): [context.date_time(each.recorded_at) for each in rows],
            _("User"): [name(each.actor) for each in rows],
            _("Action"): [each.action.replace("_", " ") for each in rows],
            _("Account"): [
                f"/account?account={each.account_id}" if each.account_id else "" for each in rows
            ],
            _("Details"): [_details(each) for each in rows],
            _("From"): [each.address or "" for each in rows],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="audit",
        column_config={
            _("Account"): st.column_config.LinkColumn(display_text="account=([0-9]+)"),
            _("Details"): st.column_config.TextColumn(width="large"),
        },
    )


def _details(row: AuditRow) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in sorted(row.details.items())
    )
