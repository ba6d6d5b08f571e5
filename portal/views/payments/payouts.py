"""Refunds that wait for finance: record the payout, or cancel the refund."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain import payments
from domain.errors import BillingError
from domain.gateways.registry import BANK
from domain.payments.payout_queries import list_payouts
from domain.permissions import allows
from domain.validation import MAX_REASON_LENGTH
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import approval_buttons, definition_list, formats
from portal.ui.formats import plain
from portal.ui.i18n import _
from portal.ui.labels import gateways as gateway_labels
from portal.ui.labels import top_up as top_up_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.payments.payout_queries import PayoutView
    from domain.payments.queries import PaymentView
    from portal.shell.page_context import PageContext
    from portal.ui.approval_buttons import Pressed

_PLACE = "payouts"
_MAX_REFERENCE_LENGTH = 200


def decide_pressed(context: PageContext, done: Callable[..., None]) -> None:
    """Carry out what was pressed before this run of the page; `done` tells and draws again."""
    pressed = approval_buttons.take_pressed(_PLACE)
    if pressed is None:
        return
    try:
        message = _decide(context, pressed)
    except BillingError as error:
        done(
            approval_buttons.what_happened(context, error) or top_up_labels.refusal(error),
            is_good=False,
        )
    else:
        done(message)


def _decide(context: PageContext, pressed: Pressed) -> str:
    actor = context.visitor.actor
    if pressed.action == "pay_out":
        database.transaction(
            payments.record_payout, refund_id=pressed.item, reference=pressed.text, actor=actor
        )
        return _("Payout recorded. Refund paid.")
    database.transaction(
        payments.cancel_refund, refund_id=pressed.item, reason=pressed.text, actor=actor
    )
    return _("Refund cancelled. Credit restored.")


def draw(context: PageContext, payment: PaymentView) -> None:
    """Draw the payment's refunds that wait for a payout, with what can be done about each."""
    found = database.read_snapshot(
        list_payouts, actor=context.visitor.actor, payment_id=payment.payment_id
    )
    name = naming(context, {each.requested_by for each in found})
    for each in found:
        with st.container(border=True, key=f"payout-{each.refund_id}"):
            _one(context, each, name)


def _one(context: PageContext, payout: PayoutView, name: Callable[[str | None], str]) -> None:
    is_transfer = payout.gateway == BANK
    st.subheader(_("Refund waiting for payout") if is_transfer else _("Refund without a response"))
    if not is_transfer:
        text = _(
            "{gateway} has not reported whether it paid this refund. Check it at the gateway,"
            " then decide."
        )
        st.markdown(plain(text.format(gateway=gateway_labels.title(payout.gateway))))
    lines = {
        _("Amount"): formats.money(payout.amount),
        _("Reason"): payout.reason,
        _("Requested by"): name(payout.requested_by),
        _("Requested"): context.date_time(payout.requested_at),
    }
    st.html(definition_list.definition_list(lines))
    if not allows(context.visitor.actor, "record_payout", payout.account_id):
        st.caption(_("Waiting for a finance member to pay it and record the payout."))
        return
    with st.container(horizontal=True):
        with st.popover(_("Record payout…")):
            st.markdown(_("Record the payout once the money has been sent."))
            field = f"payout-reference-{payout.refund_id}"
            st.text_input(
                _("Bank reference") if is_transfer else _("Gateway transaction ID"),
                max_chars=_MAX_REFERENCE_LENGTH,
                key=field,
            )
            approval_buttons.button(
                _("Record payout"),
                place=_PLACE,
                action="pay_out",
                item=payout.refund_id,
                field=field,
                is_primary=True,
            )
        with st.popover(_("Cancel refund…")):
            st.markdown(_("Use this if no money was sent. The credit is restored."))
            field = f"cancel-reason-{payout.refund_id}"
            st.text_input(_("Reason"), max_chars=MAX_REASON_LENGTH, key=field)
            approval_buttons.button(
                _("Cancel refund"),
                place=_PLACE,
                action="cancel_refund",
                item=payout.refund_id,
                field=field,
            )


def draw_all(context: PageContext) -> None:
    """Draw, above the list of payments, every refund that waits for its payout."""
    found = database.read_snapshot(list_payouts, actor=context.visitor.actor)
    if not found:
        return
    st.subheader(
        _("Refunds waiting for finance ({count})").format(count=formats.number(len(found)))
    )
    table = pa.table(
        {
            _("Requested"): [context.date_time(each.requested_at) for each in found],
            _("Account"): [f"{each.account_name} · {each.account_id}" for each in found],
            _("Amount"): [formats.money(each.amount) for each in found],
            _("Method"): [gateway_labels.title(each.gateway) for each in found],
            _("Reason"): [each.reason for each in found],
            _("Payment"): [f"/payments?ref={each.payment_reference}" for each in found],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="payouts",
        column_config={
            _("Amount"): st.column_config.TextColumn(alignment="right"),
            _("Payment"): st.column_config.LinkColumn(display_text=_("Open payment")),
        },
    )
    st.caption(
        plain(
            _(
                "Pay each refund, or check it at the gateway. Then open the payment, and record"
                " that the refund was paid."
            )
        )
    )
