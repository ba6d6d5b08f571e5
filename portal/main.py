"""Every run of every page: who is it, which pages do they have, the header, and the page."""

from __future__ import annotations

from contextlib import nullcontext

import streamlit as st

from domain.errors import BillingError, NotFound
from domain.permissions import allows
from domain.support.queries import waiting_counts
from portal.runtime import database
from portal.shell import header, page_context, page_runs
from portal.ui import branding, page_state
from portal.ui.i18n import _
from portal.ui.labels import errors as error_labels
from portal.views.top_up import dialog

page_runs.begin()
st.set_page_config(page_title=branding.NAME, page_icon=branding.ICON, layout="wide")

try:
    context = page_context.start()
except NotFound:
    page_context.look_away()
    context = page_context.start()
    st.warning(
        _("Account not found. Your own account is shown.")
        if context.account
        else _("Account not found."),
        icon=":material/search_off:",
    )

actor = context.visitor.actor
waiting = database.read_one(waiting_counts, actor=actor).total if actor.is_staff else 0
# The first page has no name in the address; one that is kept in a link has to be found all the
# same: whoever's first page it is has it in the list twice.
billing = st.Page(
    "pages/billing.py",
    title=_("Billing"),
    icon=":material/receipt_long:",
    url_path="billing" if actor.is_staff else "home",
)
usage = st.Page("pages/usage.py", title=_("Usage"), icon=":material/bar_chart:")
accounts = st.Page(
    "pages/accounts.py", title=_("Accounts"), icon=":material/search:", url_path="home"
)
members = st.Page("pages/members.py", title=_("Members"), icon=":material/group:")
analytics = st.Page("pages/analytics.py", title=_("Analytics"), icon=":material/query_stats:")
payment = st.Page(
    "pages/payment.py",
    title=_("Payment"),
    icon=":material/payments:",
    url_path="payment",
    visibility="hidden",
)
rates = st.Page("pages/rates.py", title=_("Rates and limits"), icon=":material/currency_exchange:")
bank_transfers = st.Page(
    "pages/bank_transfers.py", title=_("Bank transfers"), icon=":material/account_balance:"
)
account = st.Page("pages/account.py", title=_("Account"), icon=":material/badge:")
approvals = st.Page(
    "pages/approvals.py",
    title=_("Approvals ({count})").format(count=waiting) if waiting else _("Approvals"),
    icon=":material/approval:",
    url_path="approvals",
)
for_customers = [billing, usage, members, payment]
payments = st.Page("pages/payments.py", title=_("Payments"), icon=":material/payments:")
campaigns = st.Page("pages/campaigns.py", title=_("Campaigns"), icon=":material/redeem:")
audit_log = st.Page("pages/audit.py", title=_("Audit"), icon=":material/fact_check:")
staff = st.Page("pages/staff.py", title=_("Staff"), icon=":material/shield_person:")
for_staff = [
    each
    for each, action in (
        (accounts, "find_accounts"),
        (account, "find_accounts"),
        (payments, "look_up_payments"),
        (approvals, "see_requests"),
        (campaigns, "see_campaigns"),
        (bank_transfers, "see_transfers"),
        (analytics, "see_analytics"),
        (rates, "see_rates"),
        (audit_log, "see_audit"),
        (staff, "review_access"),
    )
    if allows(actor, action)
]
by_name = st.Page(
    "pages/accounts.py" if actor.is_staff else "pages/billing.py",
    title=accounts.title if actor.is_staff else billing.title,
    url_path="accounts" if actor.is_staff else "billing",
    visibility="hidden",
)
# Flat: what sections make of it on a phone is no list to a screen reader.
page = st.navigation([*for_staff, *for_customers, by_name], position="top")
st.set_page_config(page_title=branding.title(page.title))
st.session_state["page_context"] = context
for name, each in {
    "billing": billing,
    "payment": payment,
    "account": account,
    "campaigns": campaigns,
    "payments": payments,
    "bank_transfers": bank_transfers,
    "rates": rates,
    "staff": staff,
}.items():
    st.session_state[f"{name}_page"] = each

header.draw(context, billing, add_credit=dialog.open_dialog)
dialog.draw_open(context)
try:
    # It shows only where the page takes its time, as a first look at a large account may. Each
    # has a thread of its own, so that a page that is merely drawn again goes without.
    seen = (page.url_path, context.account and context.account.account_id)
    is_new = st.session_state.get("seen") != seen
    st.session_state["seen"] = seen
    if is_new:
        page_state.forget()
    with st.skeleton(height=240) if is_new else nullcontext(st.empty()):
        page_runs.run(page)
except BillingError as error:
    st.error(error_labels.text_of(error), icon=":material/error:")
