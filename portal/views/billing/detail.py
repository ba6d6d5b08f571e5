"""One row of the history, opened: which grants paid it, the calls behind it, the balance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.errors import InvalidInput, NotFound
from domain.history.details import entry_with_calls, hold_detail, refusal_detail
from domain.history.rows import HistoryReference, HistoryStatus
from domain.permissions import allows
from domain.support.queries import acts_of_entry
from domain.support.staff_actions import STAFF_REVERSIBLE_KINDS
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import formats, query_params
from portal.ui.formats import plain
from portal.ui.i18n import _
from portal.ui.labels import ledger as ledger_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from domain.history.details import CallsPage, EntryDetail, GrantMovement
    from domain.ledger.balances import AccountSummary
    from portal.shell.page_context import PageContext


def draw(context: PageContext, account: AccountSummary, reference: str) -> None:
    """Draw the row that the address names, or say that this account has none such."""
    st.button(_("Back to Credit History"), on_click=_close, icon=":material/arrow_back:")
    drawers = {
        HistoryStatus.SUCCESS: _entry,
        HistoryStatus.FAILED: _refusal,
        HistoryStatus.PROCESSING: _hold,
    }
    try:
        filters = HistoryReference.parse(reference)
        drawers[filters.status](context, account, filters.number)
        context.draw_zone()
    except (InvalidInput, NotFound):
        st.warning(_("Entry not found on this account."), icon=":material/search_off:")


def _close() -> None:
    query_params.remove("row", "calls")


def _open(reference: HistoryReference) -> None:
    query_params.remove("calls")
    query_params.put("row", str(reference))


def _entry(context: PageContext, account: AccountSummary, number: int) -> None:
    after_line = query_params.get_number("calls")
    entry, calls = database.read_snapshot(
        entry_with_calls,
        actor=context.visitor.actor,
        account_id=account.account_id,
        sequence=number,
        after_line=after_line,
    )
    st.subheader(_("Entry {number}").format(number=entry.sequence))
    facts = {
        _("Description"): ledger_labels.description(
            entry.description_code, entry.description_parameters
        ),
        _("Service"): ledger_labels.service(entry.service),
        _("Source"): ledger_labels.source(entry.source),
        _("Occurred"): context.occurred(entry.occurred_at, kind=entry.kind, source=entry.source),
        _("Posted"): context.date_time(entry.posted_at),
        _("Posting date"): formats.date(entry.accounting_date),
        _("Exact amount"): context.money(entry.amount_micros, exact=True, signed=True),
        _("Balance before"): context.money(entry.balance_before_micros, exact=True),
        _("Balance after"): context.money(entry.balance_after_micros, exact=True),
    }
    if entry.actor is not None:
        facts |= _posted_by(context, account, entry)
    _facts(facts)
    _relations(context, entry)
    if (
        allows(context.visitor.actor, "act_on_account", account.account_id)
        and entry.kind in STAFF_REVERSIBLE_KINDS
    ):
        st.page_link(
            st.session_state["account_page"],
            label=_("Reverse entry"),
            icon=":material/undo:",
            query_params={
                "account": str(account.account_id),
                "show": "act",
                "do": "reverse_entry",
                "entry": str(entry.sequence),
            },
        )
    if entry.payment_reference is not None:
        st.page_link(
            st.session_state["payment_page"],
            label=_("Open payment"),
            icon=":material/payments:",
            query_params={"ref": entry.payment_reference, "back": query_params.whole()},
        )
    _movements(context, entry)
    if entry.call_count:
        _calls(context, account, entry.call_count, calls, is_first=not after_line)


def _posted_by(context: PageContext, account: AccountSummary, entry: EntryDetail) -> dict[str, str]:
    """Return, for staff, who posted it, and who of them agreed and why."""
    acts = database.read_snapshot(
        acts_of_entry,
        actor=context.visitor.actor,
        account_id=account.account_id,
        entry_sequence=entry.sequence,
    )
    name = naming(
        context, [entry.actor, *(who for each in acts for who in (each.maker, each.checker))]
    )
    facts = {_("Posted by"): name(entry.actor)}
    for act in acts:
        facts[_("Requested by")] = name(act.maker)
        facts[_("Approved by")] = name(act.checker)
        facts[_("Reason")] = act.reason
    return facts


def _facts(facts: Mapping[str, str]) -> None:
    lines = [f"- {name}: **{plain(value)}**" for name, value in facts.items() if value]
    st.markdown("\n".join(lines))


def _relations(context: PageContext, entry: EntryDetail) -> None:
    related = [(_("Reverses entry {number}: {amount}"), entry.reverses)] if entry.reverses else []
    related += [(_("Reversed by entry {number}: {amount}"), one) for one in entry.reversed_by]
    for text, other in related:
        amount = context.money(other.amount_micros, exact=True, signed=True)
        st.button(
            plain(text.format(number=other.sequence, amount=amount)),
            key=f"related-{other.sequence}",
            on_click=_open,
            args=(HistoryReference(HistoryStatus.SUCCESS, other.sequence),),
            icon=":material/undo:",
        )


def _movements(context: PageContext, entry: EntryDetail) -> None:
    if not entry.movements:
        st.caption(
            _(
                "This entry did not change the balance: its amount is less than one millionth of"
                " the currency."
            )
        )
        return
    is_charge = entry.kind == "charge"
    _title(_("Credit used") if is_charge else _("Credit grants changed"))
    table = pa.Table.from_pylist(
        [
            {
                _("Credit"): ledger_labels.credit_kind(movement.kind),
                _("Amount"): context.money(movement.amount_micros, exact=True, signed=True),
                _("Remaining"): context.money(movement.remaining_after_micros, exact=True),
                _("From"): movement.origin or _debt(movement),
                _("Expires"): context.date_time(movement.expires_at)
                if movement.expires_at
                else _("Never"),
            }
            for movement in entry.movements
        ]
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="movements",
        column_config={_("Amount"): right, _("Remaining"): right},
    )


def _debt(movement: GrantMovement) -> str:
    """Return which debt a line makes or settles, in words."""
    if movement.debt_cause is None:
        return ""
    return ledger_labels.debt(movement.debt_cause, movement.debt_service or "")


def _calls(
    context: PageContext, account: AccountSummary, count: int, page: CallsPage, *, is_first: bool
) -> None:
    _title(_("Calls ({count})").format(count=formats.number(count)))
    table = pa.Table.from_pylist(
        [
            {
                _("Time"): context.date_time(call.occurred_at),
                _("Exact cost"): formats.exact_money(call.exact_micros, account.currency),
                _("Usage"): ledger_labels.measures(call.quantities),
                _("Model"): call.model,
                _("Call"): call.event_id,
            }
            for call in page.calls
        ]
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="calls",
        column_config={_("Exact cost"): right},
    )
    if is_first and page.next_after_line is None:
        return
    with st.container(horizontal=True):
        st.button(_("First calls"), disabled=is_first, on_click=_show_calls, args=(0,))
        st.button(
            _("More calls"),
            disabled=page.next_after_line is None,
            on_click=_show_calls,
            args=(page.next_after_line or 0,),
        )


def _show_calls(after_line: int) -> None:
    query_params.put("calls", str(after_line) if after_line else None)


def _title(text: str) -> None:
    st.markdown(f"**{plain(text)}**")


def _refusal(context: PageContext, account: AccountSummary, number: int) -> None:
    refusal = database.read_snapshot(
        refusal_detail,
        actor=context.visitor.actor,
        account_id=account.account_id,
        number=number,
    )
    st.subheader(_("Declined charge: {reason}").format(reason=ledger_labels.reason(refusal.reason)))
    _facts(
        {
            _("Description"): ledger_labels.description(
                refusal.description_code, refusal.description_parameters
            ),
            _("Service"): ledger_labels.service(refusal.service),
            _("Source"): ledger_labels.source(refusal.source),
            _("Occurred"): context.date_time(refusal.occurred_at),
            _("Amount requested"): context.money(refusal.amount_micros, exact=True),
            _("Available at that time"): context.money(refusal.available_micros, exact=True),
        }
    )
    st.caption(_("Nothing was charged."))


def _hold(context: PageContext, account: AccountSummary, number: int) -> None:
    hold = database.read_snapshot(
        hold_detail,
        actor=context.visitor.actor,
        account_id=account.account_id,
        number=number,
    )
    st.subheader(_("Hold {number}").format(number=hold.number))
    _facts(
        {
            _("Service"): ledger_labels.service(hold.service),
            _("Source"): ledger_labels.source(hold.source),
            _("Placed"): context.date_time(hold.placed_at),
            _("Expires"): context.date_time(hold.expires_at),
            _("Status"): ledger_labels.hold_status(hold.outcome),
            _("Exact amount"): context.money(hold.amount_micros, exact=True),
        }
    )
    if hold.entry_sequence is not None:
        st.button(
            _("Open entry {number}, which captured this hold").format(number=hold.entry_sequence),
            on_click=_open,
            args=(HistoryReference(HistoryStatus.SUCCESS, hold.entry_sequence),),
        )
    _title(_("Credit on hold") if hold.outcome is None else _("Credit that was on hold"))
    table = pa.Table.from_pylist(
        [
            {
                _("Credit"): ledger_labels.credit_kind(part.kind),
                _("Amount"): context.money(part.amount_micros, exact=True),
                _("From"): part.origin or "",
                _("Expires"): context.date_time(part.expires_at) if part.expires_at else _("Never"),
            }
            for part in hold.parts
        ]
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        table, hide_index=True, height="content", key="parts", column_config={_("Amount"): right}
    )
