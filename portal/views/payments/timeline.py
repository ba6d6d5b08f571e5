"""One payment for staff: its facts, what happened, and what can be done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain import audit, payments
from domain.actors import StaffRole
from domain.payments.discrepancies import get_exceptions
from domain.payments.timeline import payment_timeline
from portal.runtime import database
from portal.runtime.gateways import gateway_of, vault
from portal.shell.display_names import naming
from portal.ui import definition_list, formats, payment_documents, query_params
from portal.ui.formats import plain
from portal.ui.i18n import _
from portal.ui.labels import gateways as gateway_labels
from portal.ui.labels import payments as payment_labels
from portal.ui.labels import top_up as top_up_labels
from portal.views.payments import decision, payouts, refunding

if TYPE_CHECKING:
    from domain.payments.queries import PaymentView
    from domain.payments.timeline import PaymentTimeline
    from portal.shell.page_context import PageContext

_FLASH = "payments_told"
_LOOKED_AT = "payments_looked_at"


def draw(context: PageContext, reference: str) -> None:
    """Draw the payment. Raises NotFound where there is none."""
    payouts.decide_pressed(context, _done)
    found = database.read_snapshot(
        payment_timeline, actor=context.visitor.actor, reference=reference
    )
    decision.decide_pressed(context, found.payment, _done)
    refunding.refund_pressed(context, found, _done)
    _remember_look(context, found.payment)
    if st.button(_("Back to payments"), icon=":material/arrow_back:"):
        query_params.remove("ref")
        st.rerun()
    _tell()
    st.html(definition_list.definition_list(_facts(context, found.payment)))
    decision.draw(context, found.payment)
    payouts.draw(context, found.payment)
    _exceptions(context, found.payment)
    _actions(context, found)
    _steps(context, found)
    _messages(context, found)


def _exceptions(context: PageContext, payment: PaymentView) -> None:
    """Say where the payment's money and credit differ, and what to do about it."""
    found = database.read_snapshot(
        get_exceptions, payment_id=payment.payment_id, actor=context.visitor.actor
    )
    if found.money_without_credit.micros:
        text = _(
            "Money without credit: {amount}. The credit was reversed, but the money was not"
            " refunded. Refund it to the customer."
        )
        shown = text.format(amount=formats.money(found.money_without_credit))
        st.warning(plain(shown), icon=":material/balance:")
    if found.credit_without_money.micros:
        text = _(
            "Refunds and disputes exceed this payment by {amount}. Compare them with the"
            " gateway, and claim the difference there."
        )
        shown = text.format(amount=formats.money(found.credit_without_money))
        st.warning(plain(shown), icon=":material/balance:")


def _remember_look(context: PageContext, payment: PaymentView) -> None:
    looked_at: set[int] = st.session_state.setdefault(_LOOKED_AT, set())
    if context.visitor.actor.reads_as_staff(payment.account_id) and (
        payment.payment_id not in looked_at
    ):
        database.transaction(
            audit.record,
            action="look_at_payment",
            actor=context.visitor.actor,
            account_id=payment.account_id,
            details={"payment": payment.payment_id},
        )
        looked_at.add(payment.payment_id)


def _tell() -> None:
    message: tuple[str, bool] | None = st.session_state.pop(_FLASH, None)
    if message is not None:
        text, is_good = message
        (st.success if is_good else st.error)(plain(text))


def _facts(context: PageContext, payment: PaymentView) -> dict[str, str]:
    return {
        _("Payment"): payment.reference,
        _("Account"): str(payment.account_id),
        _("Status"): f"{top_up_labels.status(payment.status)} · {top_up_labels.state(payment)}",
        _("Method"): gateway_labels.title(payment.gateway),
        _("Gateway transaction ID"): payment.gateway_payment_id or _("none yet"),
        _("Amount"): formats.money(payment.pay),
        **top_up_labels.credit(payment),
        _("Refunded"): formats.money(payment.refunded),
        **_pending_refund(payment),
        top_up_labels.begun_title(payment): top_up_labels.begun(context, payment),
        _("Email"): payment.email or "",
    }


def _pending_refund(payment: PaymentView) -> dict[str, str]:
    if not payment.refund_pending.micros:
        return {}
    return {_("Refund pending"): formats.money(payment.refund_pending)}


# ── What can be done ──────────────────────────────────────────────────────────────────────────
def _actions(context: PageContext, found: PaymentTimeline) -> None:
    payment, role = found.payment, context.visitor.actor.staff_role
    with st.container(horizontal=True):
        gateway = gateway_of(payment.gateway)
        if gateway is not None and st.button(_("Refresh from gateway"), icon=":material/sync:"):
            _ask(context, found)
        can_send = role in {StaffRole.SUPPORT, StaffRole.FINANCE}
        if (
            payment_documents.offers_receipt(payment)
            and can_send
            and st.button(_("Send receipt again"), icon=":material/send:")
        ):
            _resend(context, payment)
        refunding.draw(context, found)
        if payment_documents.offers_receipt(payment):
            payment_documents.draw_documents(context, payment)
        st.page_link(
            st.session_state["billing_page"],
            label=_("Open account"),
            query_params={"account": str(payment.account_id)},
        )


def _done(text: str, *, is_good: bool = True) -> None:
    st.session_state[_FLASH] = (text, is_good)
    st.rerun()


def _ask(context: PageContext, found: PaymentTimeline) -> None:
    payment = found.payment
    gateway = gateway_of(payment.gateway)
    if gateway is None:
        return
    with st.spinner(
        _("Contacting {gateway}…").format(gateway=gateway_labels.title(payment.gateway))
    ):
        payments.check_payment(
            database.sessions(context.visitor.actor),
            gateway=gateway,
            payment_id=payment.payment_id,
            actor=context.visitor.actor,
        )
    now = database.read_snapshot(
        payment_timeline, actor=context.visitor.actor, reference=payment.reference
    )
    is_news = (now.payment.state, now.steps) != (payment.state, found.steps)
    _done(
        _("Refreshed from the gateway. See the timeline below.")
        if is_news
        else _("Refreshed from the gateway. No changes.")
    )


def _resend(context: PageContext, payment: PaymentView) -> None:
    recipient = database.transaction(
        payments.resend_receipt,
        vault=vault(),
        reference=payment.reference,
        actor=context.visitor.actor,
    )
    _done(_("Receipt sent to {email}.").format(email=recipient))


# ── What happened ─────────────────────────────────────────────────────────────────────────────
def _steps(context: PageContext, found: PaymentTimeline) -> None:
    st.subheader(_("Timeline"))
    name = naming(context, {each.actor for each in found.steps})
    reasons = {each.refund_id: each.reason or "" for each in found.refunds}
    table = pa.table(
        {
            _("Time"): [context.date_time(each.happened_at) for each in found.steps],
            _("Event"): [payment_labels.taken(each) for each in found.steps],
            _("Amount"): [payment_labels.amount(each) for each in found.steps],
            _("Reason"): [payment_labels.reason(each, reasons) for each in found.steps],
            _("User"): [name(each.actor) for each in found.steps],
        }
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(table, hide_index=True, height="content", column_config={_("Amount"): right})


def _messages(context: PageContext, found: PaymentTimeline) -> None:
    st.subheader(_("Webhook events"))
    if not found.messages:
        st.caption(
            _("No webhook events. The payment is also refreshed from the gateway automatically.")
        )
        return
    table = pa.table(
        {
            _("Time"): [context.date_time(each.received_at) for each in found.messages],
            _("Event"): [each.event_type for each in found.messages],
            _("Outcome"): [each.outcome for each in found.messages],
            _("Event ID"): [each.event_id for each in found.messages],
        }
    )
    st.dataframe(table, hide_index=True, height="content")
