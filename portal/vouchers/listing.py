"""The Voucher list tab: what waits for the account, and what was redeemed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.vouchers.queries import account_vouchers, waiting_vouchers
from portal import backend, descriptions, formats
from portal.formats import plain
from portal.i18n import N_, _
from portal.ui.lost_rights import remember_pressed
from portal.vouchers import redeeming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domain.ledger.balances import AccountSummary
    from domain.vouchers.queries import VoucherRow, WaitingVoucher
    from portal.viewing import Viewing

_STATES = {
    "active": N_("Active"),
    "used_up": N_("Used up"),
    "expired": N_("Expired"),
    "revoked": N_("Revoked"),
}


def draw(viewing: Viewing, account: AccountSummary) -> None:
    """Draw the tab."""
    actor, account_id = viewing.visitor.actor, account.account_id
    redeeming.show_told(viewing, account)
    waiting = backend.read(waiting_vouchers, actor=actor, account_id=account_id)
    for voucher in waiting:
        with st.container(border=True, key=f"waiting-{voucher.code}"):
            _waiting(viewing, account, voucher)
    redeeming.draw(viewing, account)
    rows = backend.read(account_vouchers, actor=actor, account_id=account_id)
    st.subheader(_("Vouchers"))
    if rows:
        _table(viewing, rows)
    elif redeeming.may_redeem(viewing, account):
        st.info(_("No voucher yet. Enter a code above."), icon=":material/redeem:")
    else:
        st.info(_("No voucher was redeemed for this account."), icon=":material/redeem:")
    if rows or waiting:
        viewing.draw_zone()


def _waiting(viewing: Viewing, account: AccountSummary, voucher: WaitingVoucher) -> None:
    st.markdown(plain(f"{formats.money(voucher.amount)} · {voucher.description}"))
    until = _("Redeem it before {when}. Its credit then lasts {days}.").format(
        when=viewing.date_time(voucher.redeem_until), days=formats.days(voucher.validity_days)
    )
    st.caption(plain(until))
    if redeeming.may_redeem(viewing, account):
        label = _("Redeem {code}").format(code=voucher.code)
        if st.button(
            label,
            type="primary",
            key=f"redeem-{voucher.code}",
            on_click=remember_pressed,
            args=(redeeming.REDEEM,),
        ):
            redeeming.redeem(viewing, account, voucher.code)


def _table(viewing: Viewing, rows: Sequence[VoucherRow]) -> None:
    names = descriptions.service_names()
    table = pa.table(
        {
            _("Code"): [row.code or "" for row in rows],
            _("Description"): [row.description for row in rows],
            _("Added date"): [viewing.date_time(row.added_at) for row in rows],
            _("Amount"): [formats.money(row.amount) for row in rows],
            _("Remaining credit"): [formats.money(row.remaining) for row in rows],
            _("Validity period"): [
                _("until {when}").format(when=viewing.date_time(row.expires_at)) for row in rows
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
