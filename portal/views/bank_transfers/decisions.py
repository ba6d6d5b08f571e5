"""Transfers that wait for a second person, and those that were decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain import audit
from domain.errors import BillingError, NotAuthorised
from domain.payments.bank_transfers import decide_transfer, list_transfers
from domain.permissions import allows
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import approval_buttons, definition_list, flash, formats
from portal.ui.download_link import download_links
from portal.ui.formats import plain
from portal.ui.i18n import N_, _
from portal.ui.labels import top_up as top_up_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.payments.bank_transfers import RecordedTransfer
    from portal.shell.page_context import PageContext

_PLACE = "bank_transfers"
_STATES = {"approved": N_("Credited"), "rejected": N_("Rejected")}
_CONFLICTS = {
    "no_billing_profile": N_(
        "The account has no billing information. Ask its owner to fill it in under Billing,"
        " Settings."
    ),
}


def draw(context: PageContext, transfers: Sequence[RecordedTransfer]) -> None:
    """Draw what waits, then what was decided."""
    name = naming(
        context, {who for each in transfers for who in (each.requested_by, each.decided_by)}
    )
    waiting = [each for each in transfers if each.state == "requested"]
    decided = [each for each in transfers if each.state != "requested"]
    st.header(_("Waiting for approval"))
    if not waiting:
        st.info(_("No transfers are waiting for approval."), icon=":material/task_alt:")
    flash_item = flash.get_item(_PLACE)
    for transfer in waiting:  # the newest first
        if flash_item is not None and transfer.transfer_id < flash_item:
            flash.show(_PLACE)
        with st.container(border=True, key=f"transfer-{transfer.transfer_id}"):
            _waiting(context, transfer, name)
    flash.show(_PLACE)
    if decided:
        st.header(_("Decided"))
        _table(decided, name)


def decide_pressed(context: PageContext) -> None:
    """Carry out what was pressed before this run; before the transfers are read."""
    pressed = approval_buttons.take_pressed(_PLACE)
    if pressed is not None:
        _decide(context, pressed.item, is_approved=pressed.action == "approve")


def _waiting(
    context: PageContext, transfer: RecordedTransfer, name: Callable[[str | None], str]
) -> None:
    st.subheader(plain(f"{formats.money(transfer.amount)} · {transfer.account_name}"))
    lines = {
        _("Account"): str(transfer.account_id),
        _("Bank reference"): transfer.bank_reference,
        _("Received on"): formats.date(transfer.received_on),
        _("Recorded by"): name(transfer.requested_by),
        _("Recorded"): context.date_time(transfer.requested_at),
    }
    if transfer.note:
        lines[_("Note")] = transfer.note
    st.html(definition_list.definition_list(lines))
    with st.container(horizontal=True):
        if allows(context.visitor.actor, "see_evidence"):
            download_links(
                {_("Open evidence"): "/files/evidence"}, {"transfer": transfer.transfer_id}
            )
        is_mine = transfer.requested_by == audit.actor_name(context.visitor.actor)
        if allows(context.visitor.actor, "decide_transfer") and not is_mine:
            _buttons(transfer)
    if is_mine:
        st.caption(_("You recorded this. Waiting for approval by another finance member."))


def _buttons(transfer: RecordedTransfer) -> None:
    amount, name = formats.money(transfer.amount), transfer.account_name
    number = transfer.transfer_id
    with st.popover(_("Approve…")):
        text = _("{amount} is credited to {name} immediately. Only a refund can reverse it.")
        st.markdown(plain(text.format(amount=amount, name=name)))
        label = _("Approve transfer of {amount}").format(amount=amount)
        approval_buttons.button(label, place=_PLACE, action="approve", item=number, is_primary=True)
    with st.popover(_("Reject…")):
        st.markdown(
            _(
                "Nothing is credited. The transfer can then be recorded again with the correct"
                " details."
            )
        )
        approval_buttons.button(_("Reject transfer"), place=_PLACE, action="refuse", item=number)


def _decide(context: PageContext, transfer_id: int, *, is_approved: bool) -> None:
    try:
        database.transaction(
            decide_transfer,
            transfer_id=transfer_id,
            is_approved=is_approved,
            actor=context.visitor.actor,
        )
    except NotAuthorised:
        _tell(transfer_id, _("Waiting for approval by another finance member."), is_good=False)
    except BillingError as error:
        conflict = _CONFLICTS.get(getattr(error, "reason", ""))
        message = approval_buttons.what_happened(context, error)
        text = message or (_(conflict) if conflict else top_up_labels.refusal(error))
        _tell(transfer_id, text, is_good=False)
    else:
        text = (
            _approved(context, transfer_id)
            if is_approved
            else _("Transfer rejected. Nothing was credited.")
        )
        _tell(transfer_id, text)


def _tell(transfer_id: int, text: str, *, is_good: bool = True) -> None:
    """Draw the page again, with this where the transfer stands or stood."""
    flash.leave(_PLACE, text, is_good=is_good, item=transfer_id)


def _approved(context: PageContext, transfer_id: int) -> str:
    transfers = database.read_snapshot(list_transfers, actor=context.visitor.actor)
    for each in transfers:
        if each.transfer_id == transfer_id:
            text = _("{amount} credited to {name}.")
            return text.format(amount=formats.money(each.amount), name=each.account_name)
    return _("Transfer credited.")


def _table(decided: Sequence[RecordedTransfer], name: Callable[[str | None], str]) -> None:
    table = pa.table(
        {
            _("Received on"): [formats.date(each.received_on) for each in decided],
            _("Account"): [f"{each.account_name} · {each.account_id}" for each in decided],
            _("Amount"): [formats.money(each.amount) for each in decided],
            _("Status"): [_(_STATES[each.state]) for each in decided],
            _("Bank reference"): [each.bank_reference for each in decided],
            _("Recorded by"): [name(each.requested_by) for each in decided],
            _("Decided by"): [name(each.decided_by) for each in decided],
            _("Payment"): [
                f"/payments?ref={each.payment_reference}" if each.payment_reference else ""
                for each in decided
            ],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        column_config={
            _("Amount"): st.column_config.TextColumn(alignment="right"),
            _("Payment"): st.column_config.LinkColumn(display_text=_("Open transfer")),
        },
    )
