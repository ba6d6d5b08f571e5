"""Links to the documents of a payment."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import streamlit as st

from domain import payments
from portal.runtime import database
from portal.ui.i18n import N_, _

if TYPE_CHECKING:
    from domain.payments.queries import PaymentView
    from portal.shell.page_context import PageContext


_DOCUMENTS = {
    "credit_note": N_("Credit note {number} (PDF)"),
    "cancellation": N_("Cancellation {number} (PDF)"),
}


def draw_documents(context: PageContext, payment: PaymentView) -> None:
    """Draw a link to the receipt, and to each credit note and cancellation that followed it."""
    names = database.read_snapshot(
        payments.list_document_names, payment_id=payment.payment_id, actor=context.visitor.actor
    )
    for place, (kind, number) in enumerate(names, start=1):
        label = _("Open receipt (PDF)") if place == 1 else _(_DOCUMENTS[kind]).format(number=number)
        path = f"/receipts/{payment.reference}" + (f"/{place}" if place > 1 else "")
        st.html(f'<a href="{path}" target="_blank">{html.escape(label)}</a>')


def offers_receipt(payment: PaymentView) -> bool:
    """Return whether the receipt exists, and its money was not lost since."""
    return payment.has_receipt and not payment.has_lost_dispute
