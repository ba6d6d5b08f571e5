"""Remarks on a balance: what it excludes, and what it can pay for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.ui.formats import plain
from portal.ui.i18n import _

if TYPE_CHECKING:
    from domain.ledger.balances import AccountOverview
    from portal.shell.page_context import PageContext


def draw_remarks(context: PageContext, found: AccountOverview) -> None:
    """Draw remarks on the amounts above: what they exclude, and what they can pay for."""
    if found.summary.ended_micros:
        text = _(
            "{amount} has expired and is no longer in the balance. Only usage from before"
            " the expiry date can still be charged to it."
        )
        st.caption(plain(text.format(amount=context.money(found.summary.ended_micros))))
    if found.restricted_micros:
        text = _("{amount} of the available credit is limited to certain services.")
        st.caption(plain(text.format(amount=context.money(found.restricted_micros))))
