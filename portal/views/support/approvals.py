"""What waits for a second person, and what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain import audit
from domain.actors import StaffRole
from domain.errors import BillingError, InvalidInput
from domain.permissions import allows
from domain.support import (
    approve_request,
    list_request_allowances,
    reject_request,
    withdraw_request,
)
from domain.support.queries import list_requests, waiting_counts
from domain.validation import MAX_REASON_LENGTH
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import approval_buttons, flash, formats, send_refund
from portal.ui.definition_list import definition_list
from portal.ui.formats import plain
from portal.ui.i18n import N_, _
from portal.ui.labels import support as support_labels
from portal.ui.labels import top_up as top_up_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.support import Allowance
    from domain.support.queries import RequestView, WaitingCounts
    from portal.shell.page_context import PageContext
    from portal.ui.approval_buttons import Pressed

_PLACE = "approvals"
_ELSEWHERE: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("campaigns", N_("Campaigns ({count})"), "campaigns_page", {}),
    ("transfers", N_("Bank transfers ({count})"), "bank_transfers_page", {}),
    ("rates", N_("Exchange rates ({count})"), "rates_page", {}),
    ("payments", N_("Payments under review ({count})"), "payments_page", {"waiting": "yes"}),
    ("roles", N_("Staff ({count})"), "staff_page", {}),
)


def draw(context: PageContext) -> None:
    """Draw what waits, for all staff to see and for finance to decide."""
    requests = database.read_snapshot(list_requests, actor=context.visitor.actor)
    pressed = approval_buttons.take_pressed(_PLACE)
    if pressed is not None:
        _decide(context, pressed, next((r for r in requests if r.request_id == pressed.item), None))
    name = naming(
        context, {who for each in requests for who in (each.requested_by, each.decided_by)}
    )
    _elsewhere(database.read_snapshot(waiting_counts, actor=context.visitor.actor))
    waiting = [each for each in requests if each.state == "requested"]
    st.header(_("Waiting for approval"))
    if not waiting:
        text = _(
            "No account requests are waiting for approval. Campaigns, bank transfers, rates"
            " and payments list their own requests."
        )
        st.info(text, icon=":material/task_alt:")
    me = audit.actor_name(context.visitor.actor)
    approval_buttons.draw_own_count(sum(each.requested_by == me for each in waiting))
    allowances = database.read_snapshot(list_request_allowances, actor=context.visitor.actor)
    flash_item = flash.get_item(_PLACE)
    for request in waiting:  # the oldest first
        if flash_item is not None and request.request_id > flash_item:
            flash.show(_PLACE)
        with st.container(border=True, key=f"request-{request.request_id}"):
            _waiting(context, request, allowances.get(request.request_id), name)
    flash.show(_PLACE)
    decided = [each for each in requests if each.state != "requested"]
    if decided:
        st.header(_("Decided"))
        _table(context, decided, name)


def _elsewhere(counts: WaitingCounts) -> None:
    """Draw the ways to what is decided on pages of its own."""
    with st.container(horizontal=True):
        for field, label, page, query in _ELSEWHERE:
            count = getattr(counts, field)
            if count:
                st.page_link(
                    st.session_state[page],
                    label=_(label).format(count=formats.number(count)),
                    icon=":material/arrow_forward:",
                    query_params=query,
                )


def _waiting(
    context: PageContext,
    request: RequestView,
    allowance: Allowance | None,
    name: Callable[[str | None], str],
) -> None:
    title = f"{support_labels.action(request.action)} · {formats.money(request.amount)}"
    st.subheader(plain(title))
    lines = {
        _("Account"): f"{request.account_name} · {request.account_id}",
        _("Details"): support_labels.what(request),
        _("Reason"): request.reason,
        _("Requested by"): name(request.requested_by),
        **_limit_of_requester(allowance),
        _("Requested"): context.date_time(request.requested_at),
        _("Expires"): context.date_time(request.expires_at),
    }
    st.html(definition_list(lines))
    is_mine = request.requested_by == audit.actor_name(context.visitor.actor)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(
            st.session_state["account_page"],
            label=_("Open account"),
            icon=":material/search:",
            query_params={"account": str(request.account_id)},
        )
        if request.payment_reference is not None:
            st.page_link(
                st.session_state["payments_page"],
                label=_("Open payment"),
                icon=":material/receipt_long:",
                query_params={"ref": request.payment_reference},
            )
        if is_mine:
            approval_buttons.button(
                _("Withdraw request"), place=_PLACE, action="withdraw", item=request.request_id
            )
        elif allows(context.visitor.actor, "decide_request"):
            _buttons(request)
    if is_mine:
        text = (
            _("You requested this. Waiting for approval by another finance member.")
            if context.visitor.actor.staff_role is StaffRole.FINANCE
            else _("You requested this. Waiting for approval by a finance member.")
        )
        st.caption(text)


def _limit_of_requester(allowance: Allowance | None) -> dict[str, str]:
    """Return the line of the limit; none of a request that came after the limits were read."""
    if allowance is None:
        return {}
    return {_("Limit of the requester"): support_labels.allowance_of_requester(allowance)}


def _buttons(request: RequestView) -> None:
    amount, number = formats.money(request.amount), request.request_id
    with st.popover(_("Approve…")):
        st.markdown(
            _("The limits and the account are checked again, then the request takes effect.")
        )
        label = _("{what} of {amount}").format(
            what=support_labels.action(request.action), amount=amount
        )
        approval_buttons.button(label, place=_PLACE, action="approve", item=number, is_primary=True)
    with st.popover(_("Reject…")):
        field = f"why-{number}"
        st.text_input(_("Reason"), max_chars=MAX_REASON_LENGTH, key=field)
        approval_buttons.button(
            _("Reject request"), place=_PLACE, action="refuse", item=number, field=field
        )


def _decide(context: PageContext, pressed: Pressed, request: RequestView | None) -> None:
    try:
        text = _DECISIONS[pressed.action](context, pressed, request)
    except BillingError as error:
        message = support_labels.refusal(context, error)
        if request is not None and request.action == "refund_payment":
            message = approval_buttons.what_happened(context, error) or top_up_labels.refusal(error)
        if not isinstance(error, InvalidInput):  # which is about what was typed beside it
            message = _named(request, message)
        flash.leave(_PLACE, message, is_good=False, item=pressed.item)
    else:
        flash.leave(_PLACE, text, item=pressed.item)


def _named(request: RequestView | None, text: str) -> str:
    """Say of which request something is true: it may not stand among those that wait any more."""
    return text if request is None else f"{_what(request)}. {text}"


def _what(request: RequestView) -> str:
    return _("{what} of {amount}, {account} ({number})").format(
        what=support_labels.action(request.action),
        amount=formats.money(request.amount),
        account=request.account_name,
        number=request.account_id,
    )


def _approve(context: PageContext, pressed: Pressed, request: RequestView | None) -> str:
    done = database.transaction(
        approve_request, request_id=pressed.item, actor=context.visitor.actor
    )
    if done.refund_id is None or request is None or request.payment_gateway is None:
        return _named(request, _("Request approved and carried out."))
    text = _named(request, _("Request approved."))
    return f"{text} {send_refund.send_refund(request.payment_gateway, done.refund_id)}"


def _refuse(context: PageContext, pressed: Pressed, request: RequestView | None) -> str:
    database.transaction(
        reject_request, request_id=pressed.item, reason=pressed.text, actor=context.visitor.actor
    )
    return _named(request, _("Request rejected. Nothing was changed."))


def _withdraw(context: PageContext, pressed: Pressed, request: RequestView | None) -> str:
    database.transaction(withdraw_request, request_id=pressed.item, actor=context.visitor.actor)
    return _named(request, _("Request withdrawn. Nothing was changed."))


_DECISIONS = {"approve": _approve, "refuse": _refuse, "withdraw": _withdraw}


def _table(
    context: PageContext, decided: Sequence[RequestView], name: Callable[[str | None], str]
) -> None:
    table = pa.table(
        {
            _("Requested"): [context.date_time(each.requested_at) for each in decided],
            _("Account"): [f"{each.account_name} · {each.account_id}" for each in decided],
            _("Action"): [support_labels.action(each.action) for each in decided],
            _("Amount"): [formats.money(each.amount) for each in decided],
            _("Reason"): [each.reason for each in decided],
            _("Requested by"): [name(each.requested_by) for each in decided],
            _("Status"): [support_labels.state(each.state) for each in decided],
            _("Decided by"): [name(each.decided_by) for each in decided],
            _("Note"): [each.remark or "" for each in decided],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="decided",
        column_config={_("Amount"): st.column_config.TextColumn(alignment="right")},
    )
