"""The form with which finance refunds a payment, what it would take, and how a refund is sent."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import streamlit as st

from domain import payments
from domain.errors import BillingError, RefundRefused
from domain.money import Money
from domain.permissions import allows
from domain.queries.approvals import list_requests
from domain.support import Done, RefundPayment, act, preview_act
from domain.texts import LONGEST_REASON
from portal import backend, formats
from portal.formats import plain
from portal.gateways import gateway_of
from portal.i18n import _, current_language
from portal.top_up import words

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.queries.approvals import RequestView
    from domain.queries.payments import PaymentView
    from portal.viewing import Viewing

_ONCE = "refund_once"
_LONGEST_AMOUNT = 40


def draw(here: Viewing, payment: PaymentView, done: Callable[..., None]) -> None:
    """Draw the form for those who may refund, while something is left.

    `done` tells what was done, or with `is_good=False` what was not, and draws the page again.
    """
    left = payment.refundable
    if not allows(here.visitor.actor, "refund_payment", payment.account_id):
        return
    if payment.entry_sequence is None or left.micros <= 0:
        return
    with st.popover(_("Refund…"), icon=":material/undo:"):
        _form(here, payment, left, done)


def _form(here: Viewing, payment: PaymentView, left: Money, done: Callable[..., None]) -> None:
    waiting = _waiting(here, payment)
    # Another after each refund and request: a second click on the old form reaches nobody.
    key = f"refund-{payment.reference}-{left.micros}-{len(waiting)}"
    for request in waiting:
        text = _("A refund of {amount} waits for approval until {when}.")
        shown = text.format(
            amount=formats.money(request.amount), when=here.date_time(request.expires_at)
        )
        st.info(plain(shown), icon=":material/approval:")
    st.markdown(plain(_("Left to refund: {amount}").format(amount=formats.money(left))))
    typed = st.text_input(
        _("Amount ({currency})").format(currency=left.currency),
        formats.number(left.to_decimal().normalize()),
        max_chars=_LONGEST_AMOUNT,
        key=f"{key}-amount",
    )
    try:
        amount = Money.parse(typed, left.currency, locale=current_language())
        wish = RefundPayment(payment.payment_id, amount.micros, amount.currency)
        _show_effect(here, payment, wish)
    except BillingError as error:
        st.error(plain(words.refusal(error, left.currency)), icon=":material/error:")
        return
    reason = st.text_input(_("Reason"), max_chars=LONGEST_REASON, key=f"{key}-reason")
    if not st.button(_("Refund"), type="primary", key=f"{key}-send"):
        return
    try:
        told = _refund(here, payment, wish, reason)
    except RefundRefused as error:
        done(words.refusal(error), is_good=False)
    except BillingError as error:
        st.error(plain(words.refusal(error, left.currency)), icon=":material/error:")
    else:
        done(told)


def _waiting(here: Viewing, payment: PaymentView) -> list[RequestView]:
    requests = backend.read(list_requests, actor=here.visitor.actor, account_id=payment.account_id)
    return [
        each
        for each in requests
        if each.state == "waiting" and each.payment_reference == payment.reference
    ]


def _show_effect(here: Viewing, payment: PaymentView, wish: RefundPayment) -> None:
    """Say what the refund takes, as the service itself would do it now."""
    found = backend.write(
        preview_act, account_id=payment.account_id, wish=wish, actor=here.visitor.actor
    )
    currency = payment.credit.currency
    before, after = found.before, found.after
    lines = {
        _("Credit clawed back"): Money(before.balance_micros - after.balance_micros, currency),
        _("Balance before"): Money(before.balance_micros, currency),
        _("Balance after"): Money(after.balance_micros, currency),
    }
    due = after.due_micros - before.due_micros
    if due:
        lines[_("Added to the amount due")] = Money(due, currency)
    st.html(words.definition_list({name: formats.money(each) for name, each in lines.items()}))


def _refund(here: Viewing, payment: PaymentView, wish: RefundPayment, reason: str) -> str:
    """Refund within the limit, or request it; return what to say of it."""
    once: dict[str, str] = st.session_state.setdefault(_ONCE, {})
    became = backend.write(
        act,
        account_id=payment.account_id,
        wish=wish,
        reason=reason,
        actor=here.visitor.actor,
        idempotency_key=once.setdefault(f"{wish!r}|{reason}", uuid.uuid4().hex),
    )
    st.session_state.pop(_ONCE, None)
    if isinstance(became, Done):
        return send_refund(payment.gateway, became.refund_id)
    text = _(
        "A refund of {amount} is above your limit of the day. Another finance member decides under"
        " Approvals before {when}; until then nothing changes."
    )
    return text.format(amount=formats.money(became.amount), when=here.date_time(became.expires_at))


def send_refund(gateway_name: str, refund_id: int | None) -> str:
    """Send a refund that was requested, where its gateway is there; return what to say of it.

    Raises RefundRefused where the gateway does not pay it.
    """
    gateway = gateway_of(gateway_name)
    name, state = words.gateway(gateway_name), ""
    if gateway_name == "bank":
        return _("The refund was requested. Pay it from the bank account, and record the payout.")
    if gateway is not None and refund_id is not None:
        with st.spinner(_("Asking {gateway}…").format(gateway=name)):
            state = payments.send_refund(backend.sessions(), gateway=gateway, refund_id=refund_id)
    if state == "failed":
        raise RefundRefused(gateway_name)
    if state == payments.WAITS:
        return _(
            "The credit was taken, and the refund waits: {gateway} tells of one refund of a"
            " payment at a time. It is sent by itself once the one before it has settled."
        ).format(gateway=name)
    return _("The refund was asked for.")
