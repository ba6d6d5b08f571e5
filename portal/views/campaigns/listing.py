"""The campaigns there are, and one of them with its terms and the decision about it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain import audit
from domain.errors import BillingError, NotFound
from domain.permissions import allows
from domain.vouchers import decide_campaign, end_campaign, find_campaign, list_campaigns
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import approval_buttons, flash, formats, query_params
from portal.ui.definition_list import definition_list
from portal.ui.formats import plain
from portal.ui.i18n import N_, _
from portal.ui.labels import campaigns as campaign_labels
from portal.views.campaigns import OUTCOME, codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domain.vouchers import CampaignView
    from portal.shell.page_context import PageContext

_PLACE = "campaigns"
_DONE = {
    "approve": N_("Campaign approved. Codes can now be generated."),
    "refuse": N_("Campaign rejected. Its codes cannot be redeemed."),
    "end": N_("Campaign ended. Its codes can no longer be redeemed."),
}


def decide_pressed(context: PageContext) -> None:
    """Carry out what was pressed before this run of the page; before a campaign is read."""
    pressed = approval_buttons.take_pressed(_PLACE)
    if pressed is None:
        return
    actor = context.visitor.actor
    try:
        if pressed.action == "end":
            database.transaction(end_campaign, campaign_id=pressed.item, actor=actor)
        else:
            is_approved = pressed.action == "approve"
            database.transaction(
                decide_campaign, campaign_id=pressed.item, is_approved=is_approved, actor=actor
            )
    except BillingError as error:
        flash.leave(
            OUTCOME,
            approval_buttons.what_happened(context, error) or campaign_labels.refusal(error),
            is_good=False,
        )
    else:
        flash.leave(OUTCOME, _(_DONE[pressed.action]))


def draw_all(context: PageContext) -> None:
    """Draw the list; a ticked row goes to the address."""
    campaigns = database.read_snapshot(list_campaigns, actor=context.visitor.actor)
    if not campaigns:
        text = _("No campaigns yet. Request one below.")
        st.info(text, icon=":material/redeem:")
        return
    table = pa.table(
        {
            _("Campaign"): [each.terms.name for each in campaigns],
            _("Status"): [campaign_labels.state(each.state) for each in campaigns],
            _("Credit per redemption"): [campaign_labels.amounts(each.terms) for each in campaigns],
            _("Credit granted"): [
                " · ".join(formats.money(amount) for amount in each.granted) for each in campaigns
            ],
            _("Redemptions"): [formats.number(each.redemptions) for each in campaigns],
            _("Codes"): [formats.number(each.codes) for each in campaigns],
            _("Redeem by"): [context.date_time(each.terms.redeem_until) for each in campaigns],
        }
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        on_select=partial(_open, [each.campaign_id for each in campaigns]),
        selection_mode="single-row",
        key="campaigns",
        column_config={_("Redemptions"): right, _("Codes"): right},
    )
    st.caption(_("Select a row for details."))


def _open(ids: Sequence[int]) -> None:
    rows = st.session_state["campaigns"]["selection"]["rows"]
    if rows and rows[0] < len(ids):
        query_params.put("id", str(ids[rows[0]]))


def draw_one(context: PageContext, campaign_id: int) -> None:
    """Draw a campaign, what can be decided about it, and its codes."""
    st.button(
        _("Back to campaigns"),
        icon=":material/arrow_back:",
        on_click=query_params.remove,
        args=("id",),
    )
    try:
        found = database.read_snapshot(
            find_campaign, campaign_id=campaign_id, actor=context.visitor.actor
        )
    except NotFound:
        st.warning(_("Campaign not found."), icon=":material/search_off:")
        return
    name = naming(context, [found.requested_by, found.decided_by])
    st.header(plain(found.terms.name))
    lines = {
        _("Status"): campaign_labels.state(found.state),
        **campaign_labels.facts(context, found.terms),
        _("Credit granted"): _("{amounts} in {count} redemptions").format(
            amounts=" · ".join(formats.money(amount) for amount in found.granted),
            count=formats.number(found.redemptions),
        ),
        _("Requested by"): name(found.requested_by),
    }
    if found.decided_by is not None:
        lines[_("Decided by")] = name(found.decided_by)
    st.html(definition_list(lines))
    if allows(context.visitor.actor, "decide_campaign"):
        _decisions(context, found)
    if allows(context.visitor.actor, "see_batches") and found.terms.trigger == "code":
        codes.draw(context, found)


def _decisions(context: PageContext, found: CampaignView) -> None:
    if found.state == "requested" and found.requested_by == audit.actor_name(context.visitor.actor):
        st.caption(_("You requested this. Waiting for approval by another finance member."))
    elif found.state == "requested":
        with st.container(horizontal=True):
            approval_buttons.button(
                _("Approve campaign"),
                place=_PLACE,
                action="approve",
                item=found.campaign_id,
                is_primary=True,
            )
            approval_buttons.button(
                _("Reject campaign"), place=_PLACE, action="refuse", item=found.campaign_id
            )
    elif found.state == "approved":
        with st.popover(_("End campaign…")):
            st.markdown(_("Its codes can no longer be redeemed. Credit already redeemed stays."))
            approval_buttons.button(
                _("End campaign"), place=_PLACE, action="end", item=found.campaign_id
            )
