"""Changes that wait for a second administrator, and what became of the last ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain import audit
from domain.errors import BillingError, InvalidInput, NotAuthorised
from domain.permissions import allows
from domain.staff import (
    RequestState,
    Standing,
    approve_role_request,
    find_person,
    list_role_requests,
    object_to_role_request,
    reject_role_request,
    withdraw_role_request,
)
from domain.validation import MAX_REASON_LENGTH
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import approval_buttons, flash
from portal.ui.definition_list import definition_list
from portal.ui.formats import plain
from portal.ui.i18n import _
from portal.ui.labels import top_up as top_up_labels
from portal.ui.labels.staff import (
    change_words,
    decider_words,
    lapse_words,
    outcome_words,
    request_remark,
    request_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.staff import RoleRequest
    from portal.shell.page_context import PageContext
    from portal.ui.approval_buttons import Pressed

_PLACE = "staff_requests"
_REJECTING = "staff_rejecting"


def waiting_text(context: PageContext, request: RoleRequest) -> str:
    """Return for whom a request waits, or until when."""
    if request.effective_at is None:
        text = _("Waiting for approval by another administrator until {when}.")
        return text.format(when=context.date_time(request.expires_at))
    if not request.is_open_to_objection:
        text = _(
            "Takes effect on {when}, unless it is withdrawn or another administrator decides first."
        )
    elif request.user_id == context.visitor.actor.user_id:
        text = _(
            "Takes effect on {when}, unless you object, it is withdrawn, or another"
            " administrator decides first."
        )
    else:
        text = _(
            "Takes effect on {when}, unless it is withdrawn, {email} objects, or another"
            " administrator decides first."
        )
    return text.format(when=context.date_time(request.effective_at), email=request.email)


def draw_waiting(context: PageContext, requests: Sequence[RoleRequest]) -> None:
    """Draw what waits, with what this reader may do about it."""
    waiting = [each for each in requests if each.state is RequestState.REQUESTED]
    name = naming(context, {each.requested_by for each in waiting})
    if waiting:
        st.subheader(_("Requests"))
        me = audit.actor_name(context.visitor.actor)
        # What takes effect by itself waits for nobody.
        mine = [each for each in waiting if each.requested_by == me and not each.effective_at]
        approval_buttons.draw_own_count(len(mine))
    flash_item = flash.get_item(_PLACE)
    for request in waiting:  # the oldest first
        if flash_item is not None and request.request_id > flash_item:
            flash.show(_PLACE)
        with st.container(border=True, key=f"role-request-{request.request_id}"):
            _waiting(context, request, name)
    flash.show(_PLACE)
    flash.show(_REJECTING)  # where its request does not wait any more


def draw_ended(context: PageContext, requests: Sequence[RoleRequest]) -> None:
    """Draw what became of the last requests."""
    ended = [each for each in requests if each.state is not RequestState.REQUESTED]
    if ended:
        name = naming(
            context, {who for each in ended for who in (each.requested_by, each.decided_by)}
        )
        with st.expander(_("Earlier requests")):
            _table(context, ended, name)


def _waiting(context: PageContext, request: RoleRequest, name: Callable[[str | None], str]) -> None:
    st.markdown(f"**{plain(_change(request))}**")
    lines = {
        _("Status"): waiting_text(context, request),
        _("Reason"): request.reason,
        _("Requested by"): name(request.requested_by),
        _("Requested"): context.date_time(request.requested_at),
    }
    st.html(definition_list(lines))
    actor = context.visitor.actor
    if request.requested_by == audit.actor_name(actor):
        approval_buttons.button(
            _("Withdraw request"), place=_PLACE, action="withdraw", item=request.request_id
        )
    elif request.user_id == actor.user_id:
        _about_reader(context, request)
    elif allows(actor, "decide_role_request"):
        _buttons(request)


def _about_reader(context: PageContext, request: RoleRequest) -> None:
    """Draw what the person concerned may do: object, where nobody else may decide."""
    may_object = allows(context.visitor.actor, "object_to_role_request")
    if not (request.is_open_to_objection and may_object):
        st.caption(_("This request is about you. Another administrator decides."))
        return
    st.caption(_("This request is about you. It takes effect automatically, unless you object."))
    with st.popover(_("Object…")):
        st.markdown(
            _(
                "The change is stopped, and all administrators are notified by email. If"
                " administrators cannot agree, an operator with server access can make the"
                " change on the command line."
            )
        )
        approval_buttons.button(
            _("Object to change"),
            place=_PLACE,
            action="object",
            item=request.request_id,
            is_primary=True,
        )


def _buttons(request: RoleRequest) -> None:
    number = request.request_id
    with st.container(horizontal=True):
        approval_buttons.button(
            _("Approve change"), place=_PLACE, action="approve", item=number, is_primary=True
        )
        with st.popover(_("Reject…")):
            field = f"why-{number}"
            st.text_input(_("Reason (required)"), max_chars=MAX_REASON_LENGTH, key=field)
            if flash.get_item(_REJECTING) == number:
                flash.show(_REJECTING)
            approval_buttons.button(
                _("Reject change"), place=_PLACE, action="reject", item=number, field=field
            )


def decide_pressed(context: PageContext) -> None:
    """Carry out what was pressed before this run; before anything is read."""
    pressed = approval_buttons.take_pressed(_PLACE)
    if pressed is None:
        return
    text, is_good, place = _decide(context, pressed)
    flash.leave(place, text, is_good=is_good, item=pressed.item)


def _decide(context: PageContext, pressed: Pressed) -> tuple[str, bool, str]:
    """Return what to say, whether it was done, and where to say it."""
    try:
        request = _DECISIONS[pressed.action](context, pressed)
    except NotAuthorised:
        text = _("Waiting for approval by another administrator.")
        return _named(context, pressed.item, text), False, _PLACE
    except InvalidInput as error:  # it is about what was typed: beside that
        return top_up_labels.refusal(error), False, _REJECTING
    except BillingError as error:
        happened = approval_buttons.what_happened(context, error)
        if happened is None:
            return top_up_labels.refusal(error), False, _PLACE
        return _named(context, pressed.item, happened), False, _PLACE
    if request.state is RequestState.LAPSED:
        return _lapsed(context, request), False, _PLACE
    return outcome_words(request), True, _PLACE


def _change(request: RoleRequest) -> str:
    return change_words(request.email, request.before, request.after)


def _named(context: PageContext, number: int, text: str) -> str:
    """Say of which request something is true: it may not stand on the page any more."""
    for each in database.read_snapshot(list_role_requests, actor=context.visitor.actor):
        if each.request_id == number:
            is_lapsed = each.state is RequestState.LAPSED
            return _lapsed(context, each) if is_lapsed else f"{_change(each)}. {text}"
    return text


def _lapsed(context: PageContext, request: RoleRequest) -> str:
    """Return why a request ended without effect, and what to do now."""
    now = database.read_snapshot(find_person, email=request.email, actor=context.visitor.actor)
    return f"{_change(request)}: {lapse_words(request, Standing(now.role, now.is_disabled))}"


def _approve(context: PageContext, pressed: Pressed) -> RoleRequest:
    return database.transaction(
        approve_role_request, request_id=pressed.item, actor=context.visitor.actor
    )


def _reject(context: PageContext, pressed: Pressed) -> RoleRequest:
    return database.transaction(
        reject_role_request,
        request_id=pressed.item,
        reason=pressed.text,
        actor=context.visitor.actor,
    )


def _withdraw(context: PageContext, pressed: Pressed) -> RoleRequest:
    return database.transaction(
        withdraw_role_request, request_id=pressed.item, actor=context.visitor.actor
    )


def _object(context: PageContext, pressed: Pressed) -> RoleRequest:
    return database.transaction(
        object_to_role_request, request_id=pressed.item, actor=context.visitor.actor
    )


_DECISIONS = {
    "approve": _approve,
    "reject": _reject,
    "withdraw": _withdraw,
    "object": _object,
}


def _table(
    context: PageContext, ended: Sequence[RoleRequest], name: Callable[[str | None], str]
) -> None:
    table = pa.table(
        {
            _("Change"): [_change(each) for each in ended],
            _("Reason"): [each.reason for each in ended],
            _("Requested by"): [name(each.requested_by) for each in ended],
            _("Requested"): [context.date_time(each.requested_at) for each in ended],
            _("Status"): [request_state(each) for each in ended],
            _("Decided by"): [decider_words(each, name) for each in ended],
            _("Decided"): [
                context.date_time(each.decided_at) if each.decided_at else "" for each in ended
            ],
            _("Note"): [request_remark(each) for each in ended],
        }
    )
    st.dataframe(table, hide_index=True, height="content", key="ended_role_requests")
