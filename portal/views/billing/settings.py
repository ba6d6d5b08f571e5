"""Settings: who is billed, in which currency, what it said before, and how one sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st
from babel import Locale

from domain.actors import MemberRole
from domain.billing_profiles import ProfileKind, current_profile, profile_choices, profile_history
from portal.runtime import database
from portal.ui import billing_profile_form, definition_list
from portal.ui.i18n import _, current_language
from portal.ui.lost_rights import show_lost
from portal.views.billing import display

if TYPE_CHECKING:
    from domain.billing_profiles import ProfileVersion
    from domain.ledger.balances import AccountSummary
    from portal.shell.page_context import PageContext

_SAVED = "billing_profile_saved"


def draw(context: PageContext, account: AccountSummary) -> None:
    """Draw the tab: a form for those who may change it, the facts for everybody else."""
    actor, account_id = context.visitor.actor, account.account_id
    current = database.read_snapshot(current_profile, actor=actor, account_id=account_id)
    st.subheader(_("Billing information"))
    if st.session_state.pop(_SAVED, False):
        st.success(
            _("Billing information saved. It appears on new receipts and invoices."),
            icon=":material/check_circle:",
        )
    may_save = actor.memberships.get(account_id) in {MemberRole.OWNER, MemberRole.BILLING}
    text = _(
        "Your role changed; you can no longer change the billing information. Ask an owner of the"
        " account."
    )
    show_lost(billing_profile_form.SAVE_PROFILE, text, is_allowed=may_save)
    if may_save:
        choices = database.read_snapshot(profile_choices, actor=actor, account_id=account_id)
        version = current.version if current is not None else 0
        saved = billing_profile_form.draw(
            context,
            choices,
            current,
            key=f"billing_profile-{account_id}-{version}",
            submit_label=_("Save"),
        )
        if saved is not None:
            st.session_state[_SAVED] = True
            st.rerun()
    elif current is None:
        st.info(_("No billing information yet. Ask an owner of the account to enter it."))
    else:
        st.html(definition_list.definition_list(_facts(current)))
    _history(context, account_id)
    display.draw(context, account)


def _facts(version: ProfileVersion) -> dict[str, str]:
    profile = version.profile
    countries = Locale.parse(current_language()).territories
    kinds = {ProfileKind.PERSONAL: _("Personal"), ProfileKind.COMPANY: _("Company")}
    return {
        _("Billing type"): kinds[profile.kind],
        _("Name"): profile.name,
        _("Email"): profile.email,
        _("Address"): ", ".join(filter(None, (profile.address, profile.city))),
        _("Country"): countries.get(profile.country, profile.country),
        _("Tax code"): profile.tax_code or _("none"),
    }


def _history(context: PageContext, account_id: int) -> None:
    versions = database.read_snapshot(
        profile_history, actor=context.visitor.actor, account_id=account_id
    )
    if len(versions) < 2:  # noqa: PLR2004 - one version is the present one
        return
    with st.expander(_("Previous versions"), icon=":material/history:"):
        columns: dict[str, list[str]] = {_("Saved"): []}
        for version in versions:
            columns[_("Saved")].append(context.date_time(version.changed_at))
            for name, value in _facts(version).items():
                columns.setdefault(name, []).append(value)
        st.dataframe(pa.table(columns), hide_index=True, height="content")
        context.draw_zone()
