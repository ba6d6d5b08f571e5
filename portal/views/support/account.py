"""What an account is, at a glance, for staff."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.accounts.members import list_members
from domain.billing_profiles import current_profile
from domain.fraud_signals import reasons_of
from domain.ledger.balances import account_overview
from domain.support.queries import list_requests
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import formats
from portal.ui.balance_remarks import draw_remarks
from portal.ui.definition_list import definition_list
from portal.ui.formats import plain
from portal.ui.i18n import N_, _
from portal.ui.labels import ledger as ledger_labels
from portal.ui.labels import support as support_labels
from portal.ui.labels.roles import role_name

if TYPE_CHECKING:
    from domain.ledger.balances import AccountSummary
    from portal.shell.page_context import PageContext

_TIES = {
    "instrument": N_("Same payment instrument as another account"),
    "tax_code": N_("Same tax code as another account"),
    "email": N_("Same email as another account, or an alias of it"),
    "address": N_("Same address as another account"),
    "network_address": N_("Many new accounts from one network address"),
}
_STATUSES = {"active": N_("Active"), "frozen": N_("Frozen"), "closed": N_("Closed")}


def draw(context: PageContext, account: AccountSummary) -> None:
    """Draw its facts, what waits for it, and the ways to its pages."""
    actor, account_id = context.visitor.actor, account.account_id
    found = database.read_snapshot(account_overview, actor=actor, account_id=account_id)
    people = database.read_snapshot(list_members, actor=actor, account_id=account_id)
    profile = database.read_snapshot(current_profile, actor=actor, account_id=account_id)
    kinds = [
        f"{ledger_labels.credit_kind(part.kind)} {context.money(part.remaining_micros)}"
        for part in found.kinds
        if part.remaining_micros
    ]
    lines = {
        _("Account"): f"{account.name} · {account_id}",
        _("Status"): _(_STATUSES.get(account.status, account.status)),
        _("Balance"): context.money(account.balance_micros),
        _("Available"): context.money(found.available_micros),
        _("On hold"): context.money(account.held_micros),
        _("Amount due"): context.money(found.due_micros),
        _("Balance by credit type"): " · ".join(kinds) or _("No credit"),
        _("Members"): ", ".join(
            f"{each.display_name} ({each.email}, {role_name(each.role)})" for each in people.members
        )
        or _("No one"),
        _("Billing information"): _("Not entered")
        if profile is None
        else f"{profile.profile.name} · {profile.profile.email} · {profile.profile.country}",
    }
    st.html(definition_list(lines))
    draw_remarks(context, found)
    _waiting(context, account_id)
    _ties(context, account_id)


def _waiting(context: PageContext, account_id: int) -> None:
    requests = database.read_snapshot(
        list_requests, actor=context.visitor.actor, account_id=account_id
    )
    waiting = [each for each in requests if each.state == "requested"]
    name = naming(context, {each.requested_by for each in waiting}, in_sentence=True)
    for each in waiting:
        text = _("Waiting for approval: {what}, {amount}, requested by {name}.").format(
            what=support_labels.action(each.action),
            amount=formats.money(each.amount),
            name=name(each.requested_by),
        )
        st.warning(plain(text), icon=":material/hourglass_top:")


def _ties(context: PageContext, account_id: int) -> None:
    """Say what the account has in common with others, which advises and decides nothing."""
    for reason in database.read_snapshot(
        reasons_of, account_id=account_id, actor=context.visitor.actor
    ):
        with st.expander(plain(f"{_(_TIES[reason.kind])}: {reason.shown}"), icon=":material/link:"):
            lines = [
                _("{name} · {id}, since {when}").format(
                    name=other.name, id=other.account_id, when=context.date_time(other.since)
                )
                for other in reason.accounts
            ]
            st.markdown("\n".join(f"- {plain(line)}" for line in lines))
