"""Amounts that a gateway states and the books do not have: listed, and reviewed by finance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.permissions import allows
from domain.queries.payment_reviews import list_discrepancies
from domain.texts import LONGEST_REASON
from portal import approving, backend, formats
from portal.formats import plain
from portal.i18n import N_, _
from portal.top_up import words

if TYPE_CHECKING:
    from domain.money import Money
    from domain.payments.doubts import Doubt
    from domain.queries.payments import PaymentView
    from portal.viewing import Viewing

WHY = {
    "refund_in_other_currency": N_(
        "The gateway refunded in another currency than was paid. No credit was clawed back for it."
    ),
    "refund_amount_changed": N_(
        "The gateway states another amount of a refund than before. The books keep the first one."
    ),
    "amount_changed": N_(
        "The gateway states another amount of this payment than was credited. The credit stays."
    ),
}


def draw(here: Viewing, payment: PaymentView, doubt: Doubt, *, place: str) -> None:
    """Draw one with its amounts, and the form with which finance ends it."""
    st.subheader(_("The gateway states another amount"))
    st.markdown(plain(_(WHY[doubt.reason])))
    lines = {
        _("Amount booked"): _amount(doubt.expected),
        _("Amount stated by the gateway"): _amount(doubt.amount),
        _("Since"): here.date_time(doubt.since),
    }
    if doubt.gateway_payment_id:
        lines[_("Gateway transaction ID")] = doubt.gateway_payment_id
    if doubt.gateway_refund_id:
        lines[_("Gateway refund ID")] = doubt.gateway_refund_id
    st.html(words.definition_list(lines))
    if not allows(here.visitor.actor, "decide_payment", payment.account_id):
        st.caption(_("Finance compares it with the gateway, and records what was found."))
        return
    with st.popover(_("Mark as reviewed…")), st.form(f"form-review-{doubt.id}", border=False):
        st.markdown(_("Compare it with the gateway, and put right there or here what is wrong."))
        field = f"line-review-{doubt.id}"
        st.text_input(_("Reason (what was found and done)"), max_chars=LONGEST_REASON, key=field)
        approving.submit_button(
            _("Mark as reviewed"), place=place, action="review", item=doubt.id, field=field
        )


def draw_all(here: Viewing) -> None:
    """Draw, above the list of payments, every amount that waits for a review."""
    found = backend.read(list_discrepancies, actor=here.visitor.actor)
    if not found:
        return
    count = formats.number(len(found))
    st.subheader(_("Amounts that differ from the gateway ({count})").format(count=count))
    table = pa.table(
        {
            _("Since"): [here.date_time(each.discrepancy.since) for each in found],
            _("Account"): [f"{each.account_name} · {each.account_id}" for each in found],
            _("Amount booked"): [_amount(each.discrepancy.expected) for each in found],
            _("Amount stated by the gateway"): [_amount(each.discrepancy.amount) for each in found],
            _("Reason"): [_(WHY[each.discrepancy.reason]) for each in found],
            _("Payment"): [f"/payments?ref={each.payment_reference}" for each in found],
        }
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="discrepancies",
        column_config={
            _("Amount booked"): right,
            _("Amount stated by the gateway"): right,
            _("Payment"): st.column_config.LinkColumn(display_text=_("Open payment")),
        },
    )


def _amount(amount: Money | None) -> str:
    return _("none") if amount is None else formats.money(amount)
