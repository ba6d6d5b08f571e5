"""Everything that happened to an account, and the notes of staff, on one line of time."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.errors import BillingError
from domain.history.rows import HistoryReference, HistoryStatus
from domain.payments.review_cases import kept_amount
from domain.support import MAX_NOTE_LENGTH, add_note
from domain.support.account_timeline import TimelineCursor, account_timeline
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import formats, pager, query_params, submit_once
from portal.ui.i18n import N_, _, ngettext
from portal.ui.labels import ledger as ledger_labels
from portal.ui.labels import support as support_labels
from portal.ui.labels.payments import step

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.ledger.balances import AccountSummary
    from domain.support.account_timeline import TimelineItem
    from portal.shell.page_context import PageContext

_NOTE = "note_once"
_CHANGES = {
    "open_account": N_("Account opened"),
    "add_member": N_("Member added"),
    "invite_member": N_("Member invited"),
    "resend_invitation": N_("Invitation sent again"),
    "withdraw_invitation": N_("Invitation withdrawn"),
    "accept_invitation": N_("Invitation accepted"),
    "change_role": N_("Member role changed"),
    "remove_member": N_("Member removed"),
    "leave_account": N_("Member left"),
    "save_billing_profile": N_("Billing information saved"),
    "lock_currency": N_("Currency chosen"),
    "save_preferences": N_("Preferences saved"),
    "resend_receipt": N_("Receipt sent again"),
    "export_history": N_("Credit History exported"),
    "record_transfer": N_("Bank transfer recorded"),
    "rejected_transfer": N_("Bank transfer rejected"),
    "write_off_debt": N_("Amount due written off"),
    "freeze": N_("Account frozen"),
    "thaw": N_("Account unfrozen"),
}


def draw(context: PageContext, account: AccountSummary) -> None:
    """Draw the form for a note and the timeline, newest first."""
    _note_form(context, account)
    query_params.set_widget("timeline_usage", query_params.get("usage") != "off")
    shows_usage = st.toggle(_("Usage by day"), key="timeline_usage", on_change=_show_usage)
    page = database.read_snapshot(
        account_timeline,
        actor=context.visitor.actor,
        account_id=account.account_id,
        older_than=_cursor(),
        with_usage=shows_usage,
    )
    if not page.items:
        st.info(_("No events yet."), icon=":material/history:")
        return
    _table(context, page.items)
    end = page.older
    pager.draw(None if end is None else f"{end.at.isoformat()}~{end.rank}~{end.number}")


def _show_usage() -> None:
    query_params.remove(pager.BEFORE)
    query_params.put("usage", None if st.session_state["timeline_usage"] else "off")


def _cursor() -> TimelineCursor | None:
    """Return where the address says that the page begins; the newest where it says nonsense."""
    try:
        at, rank, number = query_params.get(pager.BEFORE).split("~")
        moment = datetime.fromisoformat(at)
        cursor = TimelineCursor(moment, int(rank[:2]), int(number[:18]))
    except ValueError:
        return None
    return cursor if moment.tzinfo is not None else None


def _note_form(context: PageContext, account: AccountSummary) -> None:
    key = submit_once.key_for(_NOTE)
    with st.expander(_("Add a note"), icon=":material/edit_note:"):
        with st.form(f"note-{key}", border=False):
            written = st.text_area(
                _("Note (staff only)"), max_chars=MAX_NOTE_LENGTH, key=f"note_text-{key}"
            )
            is_sent = st.form_submit_button(_("Save note"))
        if not is_sent:
            return
        try:
            database.transaction(
                add_note,
                account_id=account.account_id,
                text=written,
                actor=context.visitor.actor,
                idempotency_key=key,
            )
        except BillingError as error:
            st.error(support_labels.refusal(context, error), icon=":material/error:")
        else:
            submit_once.forget(_NOTE)
            st.rerun()


def _table(context: PageContext, items: tuple[TimelineItem, ...]) -> None:
    name = naming(context, {each.actor for each in items})
    checked_by = naming(context, {each.checker for each in items}, in_sentence=True)
    table = pa.table(
        {
            _("Time"): [_when(context, each) for each in items],
            _("Event"): [_what(each) for each in items],
            _("Amount"): [
                "" if each.amount_micros is None else context.money(each.amount_micros, signed=True)
                for each in items
            ],
            _("User"): [_who(each, name(each.actor), checked_by(each.checker)) for each in items],
            _("Details"): [_details(each) for each in items],
            _("Open"): [_link(context, each) for each in items],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="timeline",
        column_config={
            _("Amount"): st.column_config.TextColumn(alignment="right"),
            _("Open"): st.column_config.LinkColumn(display_text=_("Open")),
        },
    )


def _what(item: TimelineItem) -> str:
    return _NAMED[item.kind](item)


def _entry(item: TimelineItem) -> str:
    return ledger_labels.description(item.code, item.details["parameters"])


def _when(context: PageContext, item: TimelineItem) -> str:
    if item.kind == "usage":
        return formats.date(date.fromisoformat(item.details["day"]))
    return context.date_time(item.at)


def _change(item: TimelineItem) -> str:
    return _(_CHANGES[item.code]) if item.code in _CHANGES else item.code.replace("_", " ")


def _request(item: TimelineItem) -> str:
    what, state = support_labels.action(item.code), support_labels.state(item.details["state"])
    return _("Requested: {what} · {state}").format(what=what, state=state)


_NAMED: dict[str, Callable[[TimelineItem], str]] = {
    "entry": _entry,
    "usage": lambda _item: _("Usage on this day"),
    "payment": lambda item: step(item.code),
    "note": lambda _item: _("Note"),
    "change": _change,
    "act": lambda item: support_labels.action(item.code),
    "request": _request,
}


def _who(item: TimelineItem, actor: str, checker: str) -> str:
    """Return who did it, and who approved or decided it; `checker` stands within a sentence."""
    if item.checker == item.actor:  # withdrawn
        return actor
    if checker and item.kind != "request":
        return _("{maker}, approved by {checker}").format(maker=actor, checker=checker)
    if checker:
        return _("{maker}, decided by {checker}").format(maker=actor, checker=checker)
    return actor


def _details(item: TimelineItem) -> str:
    if item.kind == "usage":
        calls = int(item.details["calls"])
        text = ngettext("{count} call", "{count} calls", calls)
        return text.format(count=formats.number(calls))
    parts = [_amount(item), *(item.details.get(name) for name in ("reason", "remark", "text"))]
    if item.kind == "act" and item.details.get("code"):
        parts.append(_("code ends in {end}").format(end=item.details["code"]))
    return " · ".join(part for part in parts if part)


def _amount(item: TimelineItem) -> str:
    """Return an amount that moved no credit, without the sign of what did."""
    found = kept_amount(item.details)
    if found is None:
        return ""
    amount = formats.money(found)
    return amount if item.kind == "act" else _("Amount requested: {amount}").format(amount=amount)


def _link(context: PageContext, item: TimelineItem) -> str:
    account = context.account.account_id if context.account else 0
    if item.kind == "entry":
        row = HistoryReference(HistoryStatus.SUCCESS, item.number)
        return f"/billing?account={account}&tab=history&row={row}"
    if item.kind == "payment":
        return f"/payments?ref={item.reference}"
    if item.kind == "usage":
        return f"/usage?account={account}"
    return ""
