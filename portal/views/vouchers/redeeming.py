"""Add Voucher: a code is typed, or one that waits is taken, and the balance is higher."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import BillingError, NotAuthorised, RateLimited, VoucherRefused
from domain.permissions import allows
from domain.vouchers import read_code, redeem_code
from portal.runtime import database
from portal.runtime.settings import settings
from portal.ui import formats
from portal.ui.formats import plain
from portal.ui.i18n import N_, _
from portal.ui.labels import errors as error_labels
from portal.ui.labels.forms import wait_text
from portal.ui.lost_rights import remember_pressed, show_lost

if TYPE_CHECKING:
    from domain.ledger.balances import AccountSummary
    from domain.vouchers import Redeemed
    from portal.shell.page_context import PageContext

_TOLD = "voucher_told"
_KEY = "voucher_key"
_MAX_LENGTH = 40
REDEEM = "redeem_code"
_LOST = N_("Your role changed; you can no longer redeem codes. Ask an owner of the account.")
_REFUSALS = {
    "unknown": N_("There is no such code. Check it: ten letters and digits."),
    "used": N_("This code was used already."),
    "used_by_this_account": N_("This account had its share of this offer already."),
    "revoked": N_("This code is no longer valid. Ask whoever gave it to you."),
    "not_for_this_account": N_("This code is for another account."),
    "wrong_currency": N_("This code is for another currency than this account's."),
    "wrong_site": N_("This code is for another site than this account's."),
    "wrong_country": N_("This code is not for the country of your billing information."),
    "no_billing_profile": N_("Fill in your billing information first, under Settings."),
    "not_new": N_("This code is for new accounts only: before any top-up, voucher or usage."),
    "suspect": N_("This code cannot be used with this account. Please contact support."),
    "budget_spent": N_("All credit of this offer was given. Ask whoever gave the code to you."),
}
_REFUSALS_WITH_MOMENT = {
    "expired": N_("This code had to be used before {when}."),
    "not_yet": N_("This code can be used from {when}."),
}


def may_redeem(context: PageContext, account: AccountSummary) -> bool:
    """Whether this person may turn codes into credit of the account."""
    return allows(context.visitor.actor, REDEEM, account.account_id)


def show_told(context: PageContext, account: AccountSummary) -> None:
    """Say what was redeemed in the run before this one, or that it is not allowed any more."""
    show_lost(REDEEM, _(_LOST), is_allowed=may_redeem(context, account))
    told: str | None = st.session_state.pop(_TOLD, None)
    if told is not None:
        st.success(plain(told), icon=":material/redeem:")


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
        st.session_state.pop(_KEY, None)
        st.session_state[_TOLD] = _success(context, redeemed)
        st.rerun()


def _request_key() -> str:
    key: str = st.session_state.setdefault(_KEY, uuid.uuid4().hex)
    return key


def _success(context: PageContext, redeemed: Redeemed) -> str:
    done = _("Your voucher has been applied successfully.")
    gave = _("{amount} was added, for use until {when}.").format(
        amount=formats.money(redeemed.amount), when=context.date_time(redeemed.expires_at)
    )
    return f"{done} {gave}"


def refusal(context: PageContext, error: BillingError) -> str:
    """Return the sentence for why a code gives nothing."""
    if isinstance(error, RateLimited):
        return wait_text(error.retry_after_seconds)
    if isinstance(error, NotAuthorised):
        return _(_LOST)
    if not isinstance(error, VoucherRefused):
        return error_labels.text_of(error)
    if error.when is not None and error.reason in _REFUSALS_WITH_MOMENT:
        text = _(_REFUSALS_WITH_MOMENT[error.reason])
        return text.format(when=context.date_time(error.when))
    return _(_REFUSALS[error.reason])
