"""Every run of every page: who is it, which pages do they have, the header, and the page."""

from __future__ import annotations

from contextlib import nullcontext

import streamlit as st

from domain.actors import StaffRole
from domain.errors import BillingError, NotFound
from domain.queries.approvals import waiting_counts
from portal import backend, header, messages, reruns, tab, viewing
from portal.i18n import _

reruns.begin()
st.set_page_config(page_title=tab.NAME, page_icon=tab.ICON, layout="wide")

try:
    here = viewing.start()
except NotFound:
    viewing.look_away()
    here = viewing.start()
    st.warning(
        _("There is no such account. This is your own.")
        if here.account
        else _("There is no such account."),
        icon=":material/search_off:",
    )

waiting = (
    backend.look_up(waiting_counts, actor=here.visitor.actor).total
    if here.visitor.actor.staff_role is StaffRole.FINANCE
    else 0
)
billing = st.Page("pages/billing.py", title=_("Billing"), icon=":material/receipt_long:")
usage = st.Page("pages/usage.py", title=_("Usage"), icon=":material/bar_chart:")
accounts = st.Page("pages/accounts.py", title=_("Accounts"), icon=":material/search:")
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
actor = here.visitor.actor
account = st.Page("pages/account.py", title=_("Account"), icon=":material/badge:")
approvals = st.Page(
    "pages/approvals.py",
    title=_("Approvals ({count})").format(count=waiting) if waiting else _("Approvals"),
    icon=":material/approval:",
    url_path="approvals",
)
for_customers = [billing, usage, members, payment]
payments = st.Page("pages/payments.py", title=_("Payments"), icon=":material/payments:")
for_staff = [accounts, account, payments, approvals]
if not actor.is_staff:
    pages = {"": for_customers}
elif actor.staff_role is StaffRole.SUPPORT:
    pages = {"": [*for_staff, *for_customers]}
else:
    # More than one line holds: what is not needed all day long is a click further.
    pages = {
        "": for_staff,
        _("Finance"): [bank_transfers, analytics, rates],
        _("Customer's pages"): for_customers,
    }
page = st.navigation(pages, position="top")
st.set_page_config(page_title=tab.title(page.title))
st.session_state["viewing"] = here
st.session_state["billing_page"] = billing
st.session_state["payment_page"] = payment
st.session_state["account_page"] = account
st.session_state["usage_page"] = usage
st.session_state["members_page"] = members

header.draw(here, billing)
try:
    # It shows only where the page takes its time, as a first look at a large account may. Each
    # has a thread of its own, so that a page that is merely drawn again goes without.
    seen = (page.url_path, here.account and here.account.account_id)
    is_new = st.session_state.get("seen") != seen
    st.session_state["seen"] = seen
    with st.skeleton(height=240) if is_new else nullcontext(st.empty()):
        reruns.run(page)
except BillingError as error:
    st.error(messages.text_of(error), icon=":material/error:")
