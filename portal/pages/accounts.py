"""Accounts: staff search for an account and open it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.support.account_search import find_accounts
from portal.runtime import database
from portal.ui.formats import plain
from portal.ui.i18n import _

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Accounts"))
search_text = st.text_input(
    _("Account name, account number, email, payment reference or voucher code"),
    max_chars=100,
    key="sought_account",
)
found = database.read_snapshot(
    find_accounts, actor=context.visitor.actor, search_text=search_text or ""
)
if not found:
    text = (
        _(
            "No account found. Search by account name, account number, a member's full email"
            " address, payment reference or voucher code."
        )
        if search_text
        and database.read_snapshot(find_accounts, actor=context.visitor.actor, search_text="")
        else _("No accounts yet.")
    )
    st.info(text, icon=":material/search_off:")
for account in found:
    with st.container(
        border=True, horizontal=True, vertical_alignment="center", key=f"found-{account.account_id}"
    ):
        st.write(f"**{plain(account.name)}**  \n{account.account_id} · {account.currency}")
        if st.button(
            _("Open account {id}").format(id=account.account_id),
            key=f"open-{account.account_id}",
        ):
            st.switch_page(
                st.session_state["account_page"],
                query_params={"account": str(account.account_id)},
            )
