"""Money that a gateway took for a payment that is not known here: somebody has to find out why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from portal.ui import formats
from portal.ui.formats import plain
from portal.ui.i18n import _
from portal.ui.labels import gateways as gateway_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domain.payments import UnmatchedWebhook
    from portal.shell.page_context import PageContext

MAX_SHOWN = 50


def draw(context: PageContext, found: Sequence[UnmatchedWebhook]) -> None:
    """Draw the webhook events about such money, if there are any."""
    if not found:
        return
    count = formats.number(len(found))
    st.subheader(_("Unapplied receipts ({count})").format(count=count))
    table = pa.table(
        {
            _("Received"): [context.date_time(each.received_at) for each in found],
            _("Method"): [gateway_labels.title(each.gateway) for each in found],
            _("Event"): [each.event_type for each in found],
            _("Event ID"): [each.event_id for each in found],
        }
    )
    st.dataframe(table, hide_index=True, height="content", key="unmatched_webhooks")
    st.caption(
        plain(
            _(
                "These receipts match no payment. Check each event at the gateway, and refund the"
                " money there if it is not ours."
            )
        )
    )
