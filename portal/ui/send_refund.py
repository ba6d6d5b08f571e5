"""Sending a refund to its gateway, and the message about the outcome."""

from __future__ import annotations

import streamlit as st

from domain import payments
from domain.errors import RefundRefused
from portal.runtime import database
from portal.runtime.gateways import gateway_of
from portal.ui.i18n import _
from portal.ui.labels import gateways as gateway_labels


def send_refund(gateway_name: str, refund_id: int | None) -> str:
    """Send a requested refund, where its gateway is offered; return the message about it.

    Raises RefundRefused where the gateway does not pay it.
    """
    gateway = gateway_of(gateway_name)
    name, state = gateway_labels.title(gateway_name), ""
    if gateway_name == "bank":
        return _("Refund requested. Pay it from the bank account, then record the payout.")
    if gateway is not None and refund_id is not None:
        with st.spinner(_("Contacting {gateway}…").format(gateway=name)):
            state = payments.send_refund(database.sessions(), gateway=gateway, refund_id=refund_id)
    if state == "failed":
        raise RefundRefused(gateway_name)
    if state == payments.WAITS:
        return _(
            "Refund queued, credit clawed back. {gateway} accepts one refund per payment at"
            " a time: this refund is sent automatically once the previous one has settled."
        ).format(gateway=name)
    return _("Refund requested.")
