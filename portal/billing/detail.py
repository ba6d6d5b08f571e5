"""One row of the history, opened: which grants paid it, the calls behind it, the balance."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from domain.errors import InvalidInput, NotFound
from domain.queries.details import entry_calls, entry_detail, hold_detail, refusal_detail
from domain.queries.history_rows import HistoryReference, HistoryStatus
from portal import backend, descriptions, formats
from portal.formats import plain
from portal.i18n import _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from domain.queries.balances import AccountSummary
    from domain.queries.details import EntryDetail
    from portal.viewing import Viewing


def draw(
    viewing: Viewing, account: AccountSummary, reference: str, names: Mapping[str, str]
) -> None:
    """Draw the row that the address names, or say that this account has none such."""
    try:
        wanted = HistoryReference.parse(reference)
        with st.container(border=True, key="detail"):
            if wanted.status is HistoryStatus.SUCCESS:
                _entry(viewing, account, wanted.number, names)
            elif wanted.status is HistoryStatus.FAILED:
                _refusal(viewing, account, wanted.number, names)
            else:
                _hold(viewing, account, wanted.number, names)
            st.button(_("Close"), on_click=_close, icon=":material/close:")
    except (InvalidInput, NotFound):
        st.query_params.pop("row", None)
        st.warning(_("This account has no such row."), icon=":material/search_off:")


def _close() -> None:
    st.query_params.pop("row", None)


def _entry(
    viewing: Viewing, account: AccountSummary, number: int, names: Mapping[str, str]
) -> None:
    entry = backend.read(
        entry_detail,
        actor=viewing.visitor.actor,
        account_id=account.account_id,
        sequence=number,
    )
    st.subheader(_("Entry {number}").format(number=entry.sequence))
    _facts(
        {
            _("What"): descriptions.description(
                entry.description_code, entry.description_parameters
            ),
            _("Service"): descriptions.service(entry.service, names),
            _("Occurred"): viewing.date_time(entry.occurred_at),
            _("Posted"): viewing.date_time(entry.posted_at),
            _("Booked on"): formats.date(entry.accounting_date),
            _("Exact amount"): viewing.money(entry.amount_micros, exact=True, signed=True),
            _("Balance before"): viewing.money(entry.balance_before_micros, exact=True),
            _("Balance after"): viewing.money(entry.balance_after_micros, exact=True),
        }
    )
    _relations(viewing, entry)
    _movements(viewing, entry)
    if entry.call_count:
        _calls(viewing, account, entry)


def _facts(facts: Mapping[str, str]) -> None:
    st.markdown("\n".join(f"- {name}: **{plain(value)}**" for name, value in facts.items()))


def _relations(viewing: Viewing, entry: EntryDetail) -> None:
    if entry.reverses is not None:
        st.write(_("Reverses entry {number}.").format(number=entry.reverses.sequence))
    for other in entry.reversed_by:
        text = _("Reversed by entry {number}: {amount}.")
        amount = viewing.money(other.amount_micros, exact=True, signed=True)
        st.write(plain(text.format(number=other.sequence, amount=amount)))


def _movements(viewing: Viewing, entry: EntryDetail) -> None:
    if not entry.movements:
        st.caption(_("This entry moved no credit: its amount is below a millionth."))
        return
    st.markdown(f"**{_('Which credit this moved')}**")
    table = pd.DataFrame(
        [
            {
                _("Credit"): descriptions.credit_kind(movement.kind),
                _("From"): movement.origin or "",
                _("Expires"): viewing.date_time(movement.expires_at)
                if movement.expires_at
                else _("Never"),
                _("Amount"): viewing.money(movement.amount_micros, exact=True, signed=True),
                _("Left there"): viewing.money(movement.remaining_after_micros, exact=True),
            }
            for movement in entry.movements
        ]
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        table,
        hide_index=True,
        key="movements",
        column_config={_("Amount"): right, _("Left there"): right},
    )


def _calls(viewing: Viewing, account: AccountSummary, entry: EntryDetail) -> None:
    key = f"calls-{entry.sequence}"
    after = st.session_state.get(key, 0)
    page = backend.read(
        entry_calls,
        actor=viewing.visitor.actor,
        account_id=account.account_id,
        sequence=entry.sequence,
        after_line=after,
    )
    title = _("The calls behind it ({count})").format(count=formats.number(entry.call_count))
    st.markdown(f"**{title}**")
    table = pd.DataFrame(
        [
            {
                _("Time"): viewing.date_time(call.occurred_at),
                _("Model"): call.model,
                _("Used"): _quantities(call.quantities),
                _("Exact cost"): formats.exact_money(Decimal(call.exact_micros), account.currency),
                _("Call"): call.event_id,
            }
            for call in page.calls
        ]
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(table, hide_index=True, key="calls", column_config={_("Exact cost"): right})
    with st.container(horizontal=True):
        if after:
            st.button(_("First calls"), on_click=_show_calls, args=(key, 0))
        if page.next_after_line is not None:
            st.button(_("More calls"), on_click=_show_calls, args=(key, page.next_after_line))


def _show_calls(key: str, after_line: int) -> None:
    st.session_state[key] = after_line


def _quantities(quantities: Mapping[str, int | str]) -> str:
    return " · ".join(
        f"{formats.number(formats.quantity(value))} {name.replace('-', ' ')}"
        for name, value in quantities.items()
    )


def _refusal(
    viewing: Viewing, account: AccountSummary, number: int, names: Mapping[str, str]
) -> None:
    refusal = backend.read(
        refusal_detail,
        actor=viewing.visitor.actor,
        account_id=account.account_id,
        number=number,
    )
    st.subheader(_("Refused: {reason}").format(reason=descriptions.reason(refusal.reason)))
    _facts(
        {
            _("Service"): descriptions.service(refusal.service, names),
            _("Source"): descriptions.source(refusal.source),
            _("Occurred"): viewing.date_time(refusal.occurred_at),
            _("Needed"): viewing.money(refusal.amount_micros, exact=True),
            _("Available then"): viewing.money(refusal.available_micros, exact=True),
        }
    )


def _hold(viewing: Viewing, account: AccountSummary, number: int, names: Mapping[str, str]) -> None:
    hold = backend.read(
        hold_detail,
        actor=viewing.visitor.actor,
        account_id=account.account_id,
        number=number,
    )
    st.subheader(_("Hold {number}").format(number=hold.number))
    _facts(
        {
            _("Service"): descriptions.service(hold.service, names),
            _("Source"): descriptions.source(hold.source),
            _("Placed"): viewing.date_time(hold.placed_at),
            _("Ends by"): viewing.date_time(hold.expires_at),
            **{
                descriptions.credit_kind(part.kind): viewing.money(part.amount_micros, exact=True)
                for part in hold.parts
            },
        }
    )
