"""The form with which finance refunds a payment, what it would take, and how a refund is sent.

A press is remembered with what the form showed, and carried out by the next run of the page: where
the payment has changed since, the form is another one, and the person reads what changed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import BillingError, RefundRefused
from domain.money import Money
from domain.payments.timeline import payment_timeline
from domain.permissions import allows
from domain.support import (
    CompletedAction,
    RefundPayment,
    get_allowance,
    perform_or_request,
    preview_action,
)
from domain.support.queries import list_requests
from domain.validation import MAX_REASON_LENGTH
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import definition_list, formats, submit_once
from portal.ui.formats import plain
from portal.ui.i18n import _, current_language
from portal.ui.labels import payments as payment_labels
from portal.ui.labels import support as support_labels
from portal.ui.labels import top_up as top_up_labels
from portal.ui.send_refund import send_refund

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.payments.queries import PaymentView
    from domain.payments.timeline import PaymentTimeline, TimelineStep
    from domain.support.queries import RequestView
    from portal.shell.page_context import PageContext

_PRESSED = "refund_pressed"
_FAULT = "refund_fault"
_ONCE = "refund_once"
_LAST = "refund_last"
_FORM = "refund_form"
_MAX_AMOUNT_LENGTH = 40
_CHANGES = ("refund_", "dispute_")
"""How the steps begin that change what is left to refund."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What of a payment a form went by: its steps, what is left, and the requests that wait."""

    steps: int
    left_micros: int
    requests: tuple[int, ...]
    last_request: int

    def is_still(self, now: _Shown) -> bool:
        """Whether the form would be the same now."""
        return (self.left_micros, self.requests) == (now.left_micros, now.requests)


@dataclass(frozen=True, slots=True)
class _Pressed:
    """What was typed when the button was pressed, and what the form had shown."""

    amount: str
    reason: str
    shown: _Shown


def refund_pressed(context: PageContext, found: PaymentTimeline, done: Callable[..., None]) -> None:
    """Carry out the refund that was pressed before this run; `done` tells and draws again."""
    pressed: _Pressed | None = st.session_state.pop(_PRESSED, None)
    # A second click on the form that was just carried out asks for nothing more.
    if pressed is None or pressed.shown == st.session_state.get(_LAST):
        return
    payment, currency = found.payment, found.payment.pay.currency
    message, is_good = _what_changed(context, found, pressed.shown), False
    if message is None:
        try:
            amount = Money.parse(pressed.amount, currency, locale=current_language())
            staff_action = RefundPayment(payment.payment_id, amount.micros, amount.currency)
            message, is_good = _refund(context, payment, staff_action, pressed.reason), True
        except RefundRefused as error:
            message = top_up_labels.refusal(error)
        except BillingError as error:
            # Somebody may have been faster by less than this run took.
            now = database.read_snapshot(
                payment_timeline, actor=context.visitor.actor, reference=payment.reference
            )
            message = _what_changed(context, now, pressed.shown)
            if message is None:
                st.session_state[_FAULT] = top_up_labels.refusal(error, currency)
                return
    st.session_state[_LAST] = pressed.shown
    done(message, is_good=is_good)


def draw(context: PageContext, found: PaymentTimeline) -> None:
    """Draw the form for those who may refund, while something is left."""
    payment, left = found.payment, found.payment.refundable
    if not allows(context.visitor.actor, "refund_payment", payment.account_id):
        return
    if payment.entry_sequence is None:
        return
    _tell_of_lost_form(context, found)
    if left.micros <= 0:
        return
    with st.popover(_("Refund…"), icon=":material/undo:"):
        _form(context, found, left)


def _tell_of_lost_form(context: PageContext, found: PaymentTimeline) -> None:
    """Say what changed where it took away a form that was being filled in."""
    form: tuple[str, _Shown] | None = st.session_state.pop(_FORM, None)
    if form is None:
        return
    key, shown = form
    is_carried_out = shown == st.session_state.get(_LAST)
    is_of_payment = key.startswith(_key_start(found.payment))
    if is_carried_out or not is_of_payment or not st.session_state.get(f"{key}-reason"):
        return
    message = _what_changed(context, found, shown)
    if message is not None:
        st.warning(plain(message), icon=":material/info:")


def _key_start(payment: PaymentView) -> str:
    return f"refund-{payment.reference}-"


def _form(context: PageContext, found: PaymentTimeline, left: Money) -> None:
    payment, requests = found.payment, _requests(context, found.payment)
    shown = _shown(found, requests)
    waiting = [each for each in requests if each.request_id in shown.requests]
    # Another after each refund and request: what was typed into the old form is of the past.
    key = f"{_key_start(payment)}{left.micros}-{len(waiting)}"
    st.session_state[_FORM] = (key, shown)
    for request in waiting:
        text = _("A refund of {amount} is waiting for approval until {when}.")
        message = text.format(
            amount=formats.money(request.amount), when=context.date_time(request.expires_at)
        )
        st.info(plain(message), icon=":material/approval:")
    st.markdown(plain(_("Left to refund: {amount}").format(amount=formats.money(left))))
    typed = st.text_input(
        _("Amount ({currency})").format(currency=left.currency),
        formats.number(left.to_decimal().normalize()),
        max_chars=_MAX_AMOUNT_LENGTH,
        key=f"{key}-amount",
    )
    try:
        amount = Money.parse(typed, left.currency, locale=current_language())
        staff_action = RefundPayment(payment.payment_id, amount.micros, amount.currency)
        _show_effect(context, payment, staff_action)
    except BillingError as error:
        st.error(plain(top_up_labels.refusal(error, left.currency)), icon=":material/error:")
        return
    _say_limit(context, payment)
    st.text_input(_("Reason"), max_chars=MAX_REASON_LENGTH, key=f"{key}-reason")
    st.button(
        _("Refund payment"),
        type="primary",
        key=f"{key}-send",
        on_click=_remember,
        args=(key, shown),
    )
    fault: str | None = st.session_state.pop(_FAULT, None)
    if fault is not None:
        st.error(plain(fault), icon=":material/error:")


def _say_limit(context: PageContext, payment: PaymentView) -> None:
    allowance = database.read_snapshot(
        get_allowance,
        action=RefundPayment.name,
        account_id=payment.account_id,
        currency=payment.pay.currency,
        actor=context.visitor.actor,
    )
    text = f"{support_labels.allowance_left(allowance)} {support_labels.approved_by(context)}"
    st.caption(plain(text))


def _remember(key: str, shown: _Shown) -> None:
    amount, reason = (
        str(st.session_state.get(f"{key}-{name}", "")) for name in ("amount", "reason")
    )
    st.session_state[_PRESSED] = _Pressed(amount, reason, shown)


def _shown(found: PaymentTimeline, requests: Sequence[RequestView]) -> _Shown:
    return _Shown(
        steps=len(found.steps),
        left_micros=found.payment.refundable.micros,
        requests=tuple(each.request_id for each in requests if each.state == "requested"),
        last_request=max((each.request_id for each in requests), default=0),
    )


def _what_changed(context: PageContext, found: PaymentTimeline, shown: _Shown) -> str | None:
    """Return what changed a form since it was shown, by whom and when; None where it did not."""
    requests = _requests(context, found.payment)
    if shown.is_still(_shown(found, requests)):
        return None
    steps = [each for each in found.steps[shown.steps :] if each.kind.startswith(_CHANGES)]
    made = [
        each
        for each in requests
        if each.request_id > shown.last_request
        or (each.request_id in shown.requests and each.state != "requested")
    ]
    people = {each.actor for each in steps}
    people |= {each.decided_by or each.requested_by for each in made}
    name = naming(context, people)
    changes = [
        _("{what} ({name}, {when})").format(
            what=_step(each), name=name(each.actor), when=context.date_time(each.happened_at)
        )
        for each in steps
    ]
    changes += [
        _("Request to refund {amount}: {state} ({name}, {when})").format(
            amount=formats.money(each.amount),
            state=support_labels.state(each.state),
            name=name(each.decided_by or each.requested_by),
            when=context.date_time(each.decided_at or each.requested_at),
        )
        for each in made
    ]
    text = _(
        "Nothing was refunded: the payment has changed. {changes}. Left to refund: {left}."
        " Check the amount, and if the refund is still needed, try again."
    )
    left = formats.money(found.payment.refundable)
    return text.format(changes=". ".join(changes), left=left)


def _step(taken: TimelineStep) -> str:
    amount = payment_labels.amount(taken)
    step = payment_labels.step(taken.kind)
    return f"{step}: {amount}" if amount else step


def _requests(context: PageContext, payment: PaymentView) -> list[RequestView]:
    """Return the requests to refund a payment, whatever became of them."""
    requests = database.read_snapshot(
        list_requests, actor=context.visitor.actor, account_id=payment.account_id
    )
    return [each for each in requests if each.payment_reference == payment.reference]


def _show_effect(context: PageContext, payment: PaymentView, staff_action: RefundPayment) -> None:
    """Say what the refund takes, as the service itself would do it now."""
    found = database.transaction(
        preview_action,
        account_id=payment.account_id,
        action=staff_action,
        actor=context.visitor.actor,
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
    st.html(
        definition_list.definition_list({name: formats.money(each) for name, each in lines.items()})
    )


def _refund(
    context: PageContext, payment: PaymentView, staff_action: RefundPayment, reason: str
) -> str:
    """Refund within the limit, or request it; return what to say of it."""
    became = database.transaction(
        perform_or_request,
        account_id=payment.account_id,
        action=staff_action,
        reason=reason,
        actor=context.visitor.actor,
        idempotency_key=submit_once.key_for(_ONCE, f"{staff_action!r}|{reason}"),
    )
    submit_once.forget(_ONCE)
    if isinstance(became, CompletedAction):
        sent = send_refund(payment.gateway, became.refund_id)
        if became.allowance is None:
            return sent
        return f"{sent} {support_labels.allowance_left(became.allowance)}"
    text = _(
        "A refund of {amount} is waiting for approval. {why} Another finance member decides"
        " under Approvals before {when}. Until then nothing changes."
    )
    return text.format(
        amount=formats.money(became.amount),
        why=support_labels.why_it_waits(staff_action.name, became.allowance),
        when=context.date_time(became.expires_at),
    )
