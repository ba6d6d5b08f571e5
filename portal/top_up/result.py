"""What became of a payment: asked of the gateway at once, then watched until it is decided."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

import streamlit as st

from domain import payments
from domain.errors import BillingError
from domain.payments.doubts import REFUSED_BY_STAFF
from domain.queries.payments import PaymentStatus, find_payment
from portal import backend, formats
from portal.formats import plain
from portal.gateways import gateway_of
from portal.i18n import _
from portal.top_up import words

if TYPE_CHECKING:
    from domain.queries.payments import PaymentView
    from portal.viewing import Viewing

_LOOK_EVERY_SECONDS = 2
_ASK_EVERY_SECONDS = 10
_ASKED = "payment_asked"


def draw(here: Viewing, payment: PaymentView, *, came_back_without_paying: bool) -> None:
    """Draw the result; where somebody came back without paying, the payment is given up first."""
    is_payer = payment.account_id in here.visitor.actor.memberships
    if came_back_without_paying and payment.is_open and is_payer:
        payment = _give_up(here, payment)
    if payment.is_open or (came_back_without_paying and payment.state == "cancelled"):
        before = payment.state
        payment = _ask(here, payment)
        if payment.state != before and not payment.is_open:
            st.rerun()  # the balance above was read before
    if payment.is_open:
        _watch(here, payment.reference)
    else:
        _decided(here, payment)


@st.fragment(run_every=_LOOK_EVERY_SECONDS)
def _watch(here: Viewing, reference: str) -> None:
    """Look again and again; once it is decided, draw the whole page, with its new balance."""
    payment = _ask(here, _read(here, reference))
    if not payment.is_open:
        st.rerun()
    _open(here, payment)


def _read(here: Viewing, reference: str) -> PaymentView:
    return backend.read(find_payment, actor=here.visitor.actor, reference=reference)


def _give_up(here: Viewing, payment: PaymentView) -> PaymentView:
    backend.write(payments.give_up, reference=payment.reference, actor=here.visitor.actor)
    return _read(here, payment.reference)


def _ask(here: Viewing, payment: PaymentView) -> PaymentView:
    """Have the gateway asked, at most every few seconds, by those who may pay."""
    gateway = gateway_of(payment.gateway)
    asked: dict[str, float] = st.session_state.setdefault(_ASKED, {})
    is_due = time.monotonic() - asked.get(payment.reference, -_ASK_EVERY_SECONDS) >= (
        _ASK_EVERY_SECONDS
    )
    if gateway is None or not is_due:
        return payment
    asked[payment.reference] = time.monotonic()
    try:
        payments.check_payment(
            backend.sessions(),
            gateway=gateway,
            payment_id=payment.payment_id,
            actor=here.visitor.actor,
        )
    except BillingError:
        return payment  # somebody who may look only: the clock asks too
    return _read(here, payment.reference)


# ── What is drawn ─────────────────────────────────────────────────────────────────────────────
def _open(here: Viewing, payment: PaymentView) -> None:
    gateway = words.gateway(payment.gateway)
    if payment.state == "awaiting":
        st.info(
            _("Waiting for your money. The credit comes as soon as you have paid."),
            icon=":material/hourglass_top:",
        )
        if payment.pay_by is not None:
            until = _("Pay until {moment}.").format(moment=here.date_time(payment.pay_by))
            st.markdown(plain(until))
    else:
        text = _("Waiting for {gateway}. This page changes by itself.").format(gateway=gateway)
        st.info(text, icon=":material/hourglass_top:")
    _facts(here, payment)
    is_payer = payment.account_id in here.visitor.actor.memberships
    if payment.redirect_url is not None and payment.state == "pending" and is_payer:
        label = _("Not paid yet? Go to {gateway}").format(gateway=gateway)
        st.html(f'<a href="/pay/{payment.reference}" target="_self">{label}</a>')


def _decided(here: Viewing, payment: PaymentView) -> None:
    credit = formats.money(payment.credit)
    if payment.status is PaymentStatus.SUCCESS:
        text = _("{amount} was added to your balance. Thank you.").format(amount=credit)
        st.success(plain(text), icon=":material/check_circle:")
    elif payment.state == "under_review":
        st.warning(
            _(
                "This payment is being looked at by our staff. Nothing is lost: here and in"
                " Payment History you see what becomes of it."
            ),
            icon=":material/policy:",
        )
    elif payment.state == "failed" and payment.code == REFUSED_BY_STAFF:
        st.error(
            _(
                "This payment was not accepted, and nothing was credited. Money that came for it"
                " goes back the way it came."
            ),
            icon=":material/undo:",
        )
    elif payment.state == "cancelled":
        st.warning(_("This payment was cancelled. Nothing was charged."), icon=":material/cancel:")
    elif payment.state == "expired":
        st.warning(
            _("This payment took too long and has expired. If you did pay, it still counts."),
            icon=":material/timer_off:",
        )
    else:
        st.error(
            _("This payment did not go through. Nothing was credited. Try again."),
            icon=":material/error:",
        )
    _facts(here, payment)
    if payment.has_receipt:
        label = html.escape(_("Open the receipt (PDF)"))
        st.html(f'<a href="/receipts/{payment.reference}" target="_blank">{label}</a>')
    elif payment.status is PaymentStatus.SUCCESS:
        _await_receipt(here, payment.reference)
    st.page_link(st.session_state["billing_page"], label=_("Go to Billing"))


@st.fragment(run_every=_LOOK_EVERY_SECONDS)
def _await_receipt(here: Viewing, reference: str) -> None:
    """Look until the clock's job has made the receipt, and draw the page again with it."""
    if _read(here, reference).has_receipt:
        st.rerun()
    st.caption(_("The receipt is made in a moment, and goes to you by mail too."))


def _facts(here: Viewing, payment: PaymentView) -> None:
    lines = {
        _("Payment"): payment.reference,
        _("Method"): words.gateway(payment.gateway),
        _("Amount paid") if payment.paid_at else _("Amount"): formats.money(payment.pay),
        _("Credit"): formats.money(payment.credit),
        _("Status"): words.state(payment),
        _("Started"): here.date_time(payment.created_at),
    }
    if payment.is_sandbox:
        lines[_("Note")] = _("Test money: nothing was charged.")
    st.html(words.definition_list(lines))
