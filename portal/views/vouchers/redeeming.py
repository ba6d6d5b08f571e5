"""Add Voucher: a code is typed, or one that waits is taken, and the balance is higher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import BillingError
from domain.permissions import allows
from domain.vouchers import read_code, redeem_code
from portal.runtime import database
from portal.runtime.settings import settings
from portal.ui import formats, submit_once
from portal.ui.formats import plain
from portal.ui.i18n import _
from portal.ui.labels.vouchers import LOST, refusal
from portal.ui.lost_rights import remember_pressed, show_lost

if TYPE_CHECKING:
    from domain.ledger.balances import AccountSummary
    from domain.vouchers import Redeemed
    from portal.shell.page_context import PageContext

_FLASH = "voucher_told"
_KEY = "voucher_key"
_MAX_LENGTH = 40
REDEEM = "redeem_code"


def may_redeem(context: PageContext, account: AccountSummary) -> bool:
    """Whether this person may turn codes into credit of the account."""
    return allows(context.visitor.actor, REDEEM, account.account_id)


def show_flash(context: PageContext, account: AccountSummary) -> None:
    """Say what was redeemed in the run before this one, or that it is not allowed any more."""
    show_lost(REDEEM, _(LOST), is_allowed=may_redeem(context, account))
    message: str | None = st.session_state.pop(_FLASH, None)
    if message is not None:
        st.success(plain(message), icon=":material/redeem:")


def draw(context: PageContext, account: AccountSummary) -> None:
    """Draw the form, for those who may redeem."""
    if not may_redeem(context, account):
        return
    st.subheader(_("Add Voucher"))
    with st.form(f"voucher-{_request_key()}", border=False):
        typed = st.text_input(
            _("Voucher code"),
            max_chars=_MAX_LENGTH,
            placeholder="ABCD234567",
            key=f"voucher_code-{_request_key()}",
            width=320,
        )
        is_sent = st.form_submit_button(_("Apply Code"), on_click=remember_pressed, args=(REDEEM,))
    if is_sent:
        redeem(context, account, typed)


def redeem(context: PageContext, account: AccountSummary, typed: str) -> None:
    """Redeem a code and draw the page again with the new balance, or say why not."""
    try:
        redeemed = redeem_code(
            database.sessions(context.visitor.actor),
            account_id=account.account_id,
            typed=typed,
            actor=context.visitor.actor,
            # The same until something was redeemed: a second click asks for the same once more.
            idempotency_key=f"{_request_key()}:{read_code(typed)}",
            key=settings().policy.key,
        )
    except BillingError as error:
        st.error(refusal(context, error), icon=":material/error:")
    else:
        submit_once.forget(_KEY)
        st.session_state[_FLASH] = _success(context, redeemed)
        st.rerun()


def _request_key() -> str:
    return submit_once.key_for(_KEY)


def _success(context: PageContext, redeemed: Redeemed) -> str:
    done = _("Your voucher has been applied successfully.")
    gave = _("{amount} of voucher credit added, expires on {when}.").format(
        amount=formats.money(redeemed.amount), when=context.date_time(redeemed.expires_at)
    )
    return f"{done} {gave}"
