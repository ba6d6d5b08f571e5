"""What a gateway states and the books do not have: listed, and reviewed by finance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.payments.review_queries import list_discrepancies
from domain.permissions import allows
from domain.validation import MAX_REASON_LENGTH
from portal.runtime import database
from portal.ui import approval_buttons, definition_list, formats
from portal.ui.formats import plain
from portal.ui.i18n import N_, _

if TYPE_CHECKING:
    from domain.money import Money
    from domain.payments.queries import PaymentView
    from domain.payments.review_cases import ReviewCase
    from portal.shell.page_context import PageContext

WHY = {
    "refund_in_other_currency": N_(
        "The gateway refunded in a different currency than was paid. No credit was clawed"
        " back for this refund."
    ),
    "refund_amount_changed": N_(
        "The gateway changed the amount of a refund. The ledger keeps the first amount."
    ),
    "amount_changed": N_(
        "The gateway reports a different amount for this payment than was credited. The"
        " credit stays."
    ),
    "refund_of_another_payment": N_(
        "The gateway had reported this refund for another payment, where it is posted. No"
        " credit of this payment was clawed back."
    ),
    "dispute_of_another_payment": N_(
        "The gateway had reported this dispute for another payment, where it is posted. This"
        " payment's account is not frozen."
    ),
    "dispute_outcome_unknown": N_("The gateway closed this dispute with an unknown outcome code."),
}
_AMOUNT_DIFFERS = N_("Amount differs at the gateway")
_TITLES = {
    "refund_of_another_payment": N_("Refund reported for two payments"),
    "dispute_of_another_payment": N_("Dispute reported for two payments"),
    "dispute_outcome_unknown": N_("Dispute closed with an unknown outcome"),
}


def draw(
    context: PageContext, payment: PaymentView, case: ReviewCase, *, place: str, ends_dispute: bool
) -> None:
    """Draw one with its amounts, and the form with which finance ends it, and its dispute."""
    st.subheader(_(_TITLES.get(case.reason, _AMOUNT_DIFFERS)))
    st.markdown(plain(_(WHY[case.reason])))
    lines = {
        _("Amount reported by the gateway"): _amount(case.amount),
        _("Since"): context.date_time(case.since),
    }
    if case.reason != "dispute_outcome_unknown":
        lines = {_("Amount posted"): _amount(case.expected), **lines}
    names = {
        _("Gateway transaction ID"): case.gateway_payment_id,
        _("Gateway refund ID"): case.gateway_refund_id,
        _("Gateway dispute ID"): case.gateway_dispute_id,
        _("Posted to payment"): case.other_payment,
        _("Gateway code"): case.code,
    }
    lines |= {name: value for name, value in names.items() if value}
    st.html(definition_list.definition_list(lines))
    if not allows(context.visitor.actor, "decide_payment", payment.account_id):
        st.caption(_("Waiting for a finance member to compare it with the gateway."))
        return
    title, text, buttons = _form_of_dispute() if ends_dispute else _form_of_review()
    with st.popover(title), st.form(f"form-review-{case.id}", border=False):
        st.markdown(text)
        field = f"line-review-{case.id}"
        st.text_input(
            _("Reason (finding and action taken)"), max_chars=MAX_REASON_LENGTH, key=field
        )
        with st.container(horizontal=True):
            for action, label in buttons.items():
                approval_buttons.submit_button(
                    label, place=place, action=action, item=case.id, field=field
                )


def _form_of_review() -> tuple[str, str, dict[str, str]]:
    """Return the title and text of the form, and its buttons by what they do."""
    text = _("Compare the payment with the gateway, and correct any error on either side.")
    return _("Mark as reviewed…"), text, {"review": _("Mark as reviewed")}


def _form_of_dispute() -> tuple[str, str, dict[str, str]]:
    """Return the same of the form that ends a dispute."""
    text = _(
        "Check the outcome of the dispute at the gateway. The account stays frozen until then."
    )
    buttons = {
        "dispute_won": _("Record as won"),
        "dispute_lost": _("Record as lost"),
    }
    return _("Close dispute…"), text, buttons


def draw_all(context: PageContext) -> None:
    """Draw, above the list of payments, every amount that waits for a review."""
    found = database.read_snapshot(list_discrepancies, actor=context.visitor.actor)
    if not found:
        return
    count = formats.number(len(found))
    st.subheader(_("Discrepancies with the gateway ({count})").format(count=count))
    table = pa.table(
        {
            _("Since"): [context.date_time(each.discrepancy.since) for each in found],
            _("Account"): [f"{each.account_name} · {each.account_id}" for each in found],
            _("Amount posted"): [_amount(each.discrepancy.expected) for each in found],
            _("Amount reported by the gateway"): [
                _amount(each.discrepancy.amount) for each in found
            ],
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
            _("Amount posted"): right,
            _("Amount reported by the gateway"): right,
            _("Payment"): st.column_config.LinkColumn(display_text=_("Open payment")),
        },
    )


def _amount(amount: Money | None) -> str:
    return _("none") if amount is None else formats.money(amount)
