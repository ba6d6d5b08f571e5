"""Display settings of the signed-in person: language, time zone and currency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.identity.preferences import save_preferences, time_zones
from portal.runtime import database
from portal.ui import checked, formats
from portal.ui.i18n import _, available_languages, language_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.ledger.balances import AccountSummary
    from portal.shell.page_context import PageContext

_SAVED = "preferences_saved"


def draw(context: PageContext, account: AccountSummary) -> None:
    """Draw the form of the person's own language and time zone, and say what is not theirs."""
    st.subheader(_("Display"))
    if st.session_state.pop(_SAVED, False):
        st.success(_("Display settings saved."), icon=":material/check_circle:")
    currency = _("Amounts are shown in {currency}, the currency of this account.")
    st.caption(formats.plain(currency.format(currency=account.currency)))
    visitor = context.visitor
    with st.form("preferences", border=True):
        language = _choice(
            _("Your language"), available_languages(), visitor.locale, names=language_name
        )
        zone = _choice(
            _("Your time zone"), time_zones(), visitor.time_zone, names=lambda name: name
        )
        st.caption(
            _(
                "These settings change only your display. Statements use the time zone of the"
                " account's site."
            )
        )
        is_sent = st.form_submit_button(_("Save display"))
    if is_sent:
        database.transaction(
            save_preferences,
            actor=visitor.actor,
            locale=language or None,
            time_zone=zone or None,
        )
        st.session_state[_SAVED] = True
        st.rerun()


def _choice(
    label: str, known: Sequence[str], current: str | None, *, names: Callable[[str], str]
) -> str:
    """Draw the choice among what is known and what was chosen before; "" is the browser's word."""
    options = ["", *known]
    if current and current not in options:
        options.insert(1, current)
    chosen: str | None = checked.selectbox(
        label,
        options,
        index=options.index(current or ""),
        format_func=lambda value: names(value) if value else _("Browser default"),
        width=360,
    )
    return chosen or ""
