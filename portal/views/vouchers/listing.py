"""The Voucher list tab: what waits for the account, and what was redeemed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.vouchers.queries import account_vouchers, waiting_vouchers
from portal.runtime import database
from portal.ui import formats
from portal.ui.formats import plain
from portal.ui.i18n import N_, _
from portal.ui.labels import ledger as ledger_labels
from portal.ui.lost_rights import remember_pressed
from portal.views.vouchers import redeeming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domain.ledger.balances import AccountSummary
    from domain.vouchers.queries import VoucherRow, WaitingVoucher
    from portal.shell.page_context import PageContext

_STATES = {
    "active": N_("Active"),
    "used_up": N_("Used up"),
    "expired": N_("Expired"),
    "revoked": N_("Revoked"),
}


def draw(context: PageContext, account: AccountSummary) -> None:
    """Draw the tab."""
    actor, account_id = context.visitor.actor, account.account_id
    redeeming.show_flash(context, account)
    waiting = database.read_snapshot(waiting_vouchers, actor=actor, account_id=account_id)
    for voucher in waiting:
        with st.container(border=True, key=f"waiting-{voucher.code}"):
            _waiting(context, account, voucher)
    redeeming.draw(context, account)
    rows = database.read_snapshot(account_vouchers, actor=actor, account_id=account_id)
    st.subheader(_("Vouchers"))
    if rows:
        _table(context, rows)
    elif redeeming.may_redeem(context, account):
        st.info(_("No vouchers yet. Enter a voucher code above."), icon=":material/redeem:")
    else:
        st.info(_("No vouchers redeemed for this account yet."), icon=":material/redeem:")
    if rows or waiting:
        context.draw_zone()


def _waiting(context: PageContext, account: AccountSummary, voucher: WaitingVoucher) -> None:
    st.markdown(plain(f"{formats.money(voucher.amount)} · {voucher.description}"))
    until = _("Redeem before {when}. The credit is then valid for {days}.").format(
        when=context.date_time(voucher.redeem_until), days=formats.days(voucher.validity_days)
    )
    st.caption(plain(until))
    if redeeming.may_redeem(context, account):
        label = _("Redeem {code}").format(code=voucher.code)
        if st.button(
            label,
            type="primary",
            key=f"redeem-{voucher.code}",
            on_click=remember_pressed,
            args=(redeeming.REDEEM,),
        ):
            redeeming.redeem(context, account, voucher.code)


def _table(context: PageContext, rows: Sequence[VoucherRow]) -> None:
    names = ledger_labels.service_names()
    table = pa.table(
        {
            _("Code"): [row.code or "" for row in rows],
            _("Description"): [row.description for row in rows],
            _("Added date"): [context.date_time(row.added_at) for row in rows],
            _("Amount"): [formats.money(row.amount) for row in rows],
            _("Remaining credit"): [formats.money(row.remaining) for row in rows],
            _("Validity period"): [
                _("until {when}").format(when=context.date_time(row.expires_at)) for row in rows
            ],
            _("Applicable services"): [
                ", ".join(names.get(slug, slug) for slug in row.services) or _("All services")
                for row in rows
            ],
            _("Status"): [_(_STATES[row.status]) for row in rows],
        }
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="vouchers",
        column_config={_("Amount"): right, _("Remaining credit"): right},
    )
