"""The line above every page: whose account this is, its balance, and the way out."""

from __future__ import annotations

import html
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from domain.accounts.queries import own_accounts
from domain.actors import MemberRole
from domain.errors import BillingError
from portal.runtime import database
from portal.shell.page_context import look_away
from portal.shell.visitor import choose_account, current_visitor, sign_out_form
from portal.ui import checked, query_params
from portal.ui.formats import plain
from portal.ui.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlit.navigation.page import StreamlitPage

    from portal.shell.page_context import PageContext

_STYLE = Path(__file__).with_name("style.css")


def draw(
    context: PageContext, billing: StreamlitPage, *, add_credit: Callable[[int], None]
) -> None:
    """Draw the header; the balance at the right leads to Billing, the button calls `add_credit`."""
    st.html(_STYLE)
    with st.container(
        horizontal=True, horizontal_alignment="right", vertical_alignment="center", key="header"
    ):
        _account_name(context)
        if context.account is not None:
            balance = context.money(context.account.balance_micros)
            st.page_link(
                billing,
                label=plain(_("Balance {amount}").format(amount=balance)),
                icon=":material/account_balance_wallet:",
            )
        _add_credit(context, add_credit)
        _menu(context)


def _add_credit(context: PageContext, add_credit: Callable[[int], None]) -> None:
    """Draw the button for those who may pay for the account."""
    account = context.account
    if account is None:
        return
    role = context.visitor.actor.memberships.get(account.account_id)
    if role not in {MemberRole.OWNER, MemberRole.BILLING}:
        return
    st.button(
        _("Add credit"),
        type="primary",
        icon=":material/add:",
        key="add_credit_open",
        on_click=add_credit,
        args=(account.account_id,),
    )


def _menu(context: PageContext) -> None:
    """Draw the user's menu: their name, their sessions, and signing out."""
    visitor = context.visitor
    with st.popover(_("Menu"), icon=":material/account_circle:", key="menu"):
        st.html(
            f"<p><strong>{html.escape(visitor.display_name)}</strong><br>"
            f"{html.escape(visitor.email)}</p>"
            f'<nav class="account-menu" aria-label="{html.escape(_("Your sign-in"))}">'
            f'<a href="/sessions" target="_self">{html.escape(_("Where you are signed in"))}</a>'
            f'<a href="/two-factor" target="_self">'
            f"{html.escape(_('Two-factor authentication'))}</a>"
            f'<a href="/password" target="_self">{html.escape(_("Change password"))}</a>'
            "</nav>"
        )
        st.html(sign_out_form(visitor, _("Sign out")), width="content")


def _account_name(context: PageContext) -> None:
    """Draw the account's name, or let the user choose among several."""
    account = context.account
    memberships = context.visitor.actor.memberships
    if account is None:
        st.markdown(plain(context.visitor.display_name), width="content")
    elif len(memberships) > 1 and account.account_id in memberships:
        _switcher(context)
    else:
        st.markdown(plain(account.name), width="content")


def _switcher(context: PageContext) -> None:
    """Let the user choose by name; typing narrows the list, however many there are."""
    own = database.read_snapshot(own_accounts, actor=context.visitor.actor)
    names = {account.account_id: f"{account.name} · {account.currency}" for account in own}
    shared = {name for name, count in Counter(names.values()).items() if count > 1}
    for account_id, name in names.items():
        if name in shared:
            names[account_id] = f"{name} · {account_id}"
    # An account that was just left may still be the one in view.
    current = context.account.account_id if context.account else None
    is_known = current in names

    def switch() -> None:
        # A callback runs before the page does, which redirects people without a session to sign-in.
        visitor = current_visitor()
        if visitor is None:
            return
        with suppress(BillingError):  # no longer theirs: the page has only what is
            choose_account(visitor, st.session_state["account_choice"])
        look_away()

    query_params.set_widget("account_choice", current if is_known else next(iter(names)))
    checked.selectbox(
        _("Account ({count} in total)").format(count=len(names)),
        list(names),
        format_func=lambda account_id: names.get(account_id, ""),
        key="account_choice",
        on_change=switch,
        label_visibility="collapsed",
        icon=":material/swap_horiz:",
        width=300,
    )
