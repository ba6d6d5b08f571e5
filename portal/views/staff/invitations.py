"""Inviting colleagues as staff, and the invitations that are open."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from domain.actors import StaffRole
from domain.errors import BillingError, NotAuthorised, RateLimited
from domain.permissions import allows
from domain.staff import (
    Invitation,
    InvitationState,
    invite_staff,
    list_staff_invitations,
    resend_staff_invitation,
    withdraw_staff_invitation,
)
from domain.validation import MAX_REASON_LENGTH
from portal.runtime import database
from portal.runtime.settings import settings
from portal.shell.display_names import naming
from portal.ui import approval_buttons, checked, confirmation, flash, forms
from portal.ui.definition_list import definition_list
from portal.ui.formats import plain
from portal.ui.i18n import N_, _, current_language
from portal.ui.labels import errors as error_labels
from portal.ui.labels import top_up as top_up_labels
from portal.ui.labels.roles import staff_role_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from portal.shell.page_context import PageContext
    from portal.ui.approval_buttons import Pressed

_PLACE = "staff_invitations"
INVITING = "staff_inviting"
_MAX_EMAIL_LENGTH = 254
_ROLES: tuple[StaffRole, ...] = tuple(StaffRole)
_STATES = {
    InvitationState.OPEN: N_("The link works until {when}."),
    InvitationState.EXPIRED: N_("Expired on {when}. Send the invitation again, or withdraw it."),
    InvitationState.INVITER_NOT_ADMIN: N_(
        "The link no longer works: {name} is no longer an administrator. Send the invitation"
        " again, or withdraw it."
    ),
    InvitationState.HAS_SIGN_IN: N_(
        "This person has signed up. Withdraw the invitation, and assign the role below."
    ),
}


def execute_pressed(context: PageContext) -> None:
    """Carry out what was pressed before this run; before anything is read."""
    pressed = approval_buttons.take_pressed(_PLACE)
    if pressed is None:
        return
    confirmation.close_all()
    email = str(st.session_state.get(_address_of(pressed.item), ""))
    try:
        text = _ACTIONS[pressed.action](context, pressed)
    except BillingError as error:
        flash.leave(_PLACE, _refusal(error, email), is_good=False, item=pressed.item)
    else:
        flash.leave(_PLACE, text.format(email=email), item=pressed.item)


def draw_open(context: PageContext) -> None:
    """Draw the invitations that are open and, for administrators, what to do about them."""
    invitations = database.read_snapshot(list_staff_invitations, actor=context.visitor.actor)
    if not invitations:
        flash.show(_PLACE)
        return
    st.subheader(_("Open invitations"))
    if settings().shows_mailbox:
        link = f"[{_('the demo mailbox')}](/mailbox)"
        st.write(_("This demo sends no email. Read it in {mailbox}.").format(mailbox=link))
    name = naming(context, {each.invited_by for each in invitations})
    flash_item = flash.get_item(_PLACE)
    for each in invitations:  # the newest first
        if flash_item is not None and each.invitation_id < flash_item:
            flash.show(_PLACE)
        with st.container(border=True, key=f"staff-invitation-{each.invitation_id}"):
            _draw_one(context, each, name)
    flash.show(_PLACE)


def _draw_one(
    context: PageContext, invitation: Invitation, name: Callable[[str | None], str]
) -> None:
    inviter = name(invitation.invited_by)
    state = _(_STATES[invitation.state]).format(
        when=context.date_time(invitation.expires_at), name=inviter
    )
    st.markdown(f"**{plain(invitation.email)}** · {staff_role_name(invitation.role)}")
    lines = {
        _("Status"): state,
        _("Reason"): invitation.reason,
        _("Invited by"): inviter,
        _("Sent"): context.date_time(invitation.sent_at),
    }
    st.html(definition_list(lines))
    if not allows(context.visitor.actor, "manage_people"):
        return
    number = invitation.invitation_id
    # The button says which link it replaces: pressed twice, it sends one mail.
    sent_at = f"sent-at-{number}"
    st.session_state[sent_at] = invitation.sent_at.isoformat()
    # And whose it was, where the next run finds it on the page no more.
    st.session_state[_address_of(number)] = invitation.email
    with st.container(horizontal=True):
        if invitation.state is not InvitationState.HAS_SIGN_IN:
            approval_buttons.button(
                _("Send again"),
                place=_PLACE,
                action="resend_invitation",
                item=number,
                field=sent_at,
            )
        about = _("The link sent to {email} stops working. You can invite them again.")
        with confirmation.popover(
            _("Withdraw invitation…"),
            key=f"withdraw-{number}",
            about=about.format(email=invitation.email),
        ):
            approval_buttons.button(
                _("Withdraw invitation"),
                place=_PLACE,
                action="withdraw_invitation",
                item=number,
                is_primary=True,
            )


def _address_of(number: int) -> str:
    return f"invited-address-{number}"


def _resend(context: PageContext, pressed: Pressed) -> str:
    sent = database.transaction(
        resend_staff_invitation,
        invitation_id=pressed.item,
        sent_at=datetime.fromisoformat(pressed.text),
        actor=context.visitor.actor,
        policy=settings().policy,
        locale=current_language(),
    )
    if not sent.is_mailed_now:
        return _("{email} was already sent a new link, so no email was sent.")
    return _("New invitation link sent to {email}. The previous link no longer works.")


def _withdraw(context: PageContext, pressed: Pressed) -> str:
    database.transaction(
        withdraw_staff_invitation, invitation_id=pressed.item, actor=context.visitor.actor
    )
    return _("Invitation of {email} withdrawn. Its link no longer works.")


_ACTIONS = {"resend_invitation": _resend, "withdraw_invitation": _withdraw}


def draw_form(context: PageContext) -> None:
    """Draw the form that invites a colleague who has no sign-in."""
    st.subheader(_("Invite a colleague"))
    st.caption(
        _(
            "They get an email with a link to choose a password, and then have the role."
            " Finance and Administrator also need approval by a second administrator, or 24"
            " hours if there is none."
        )
    )
    key = partial(forms.key, INVITING)
    with st.form(key("invite_staff"), border=False):
        with st.grid(columns=2, min_column_width=220):
            email = st.text_input(
                _("Work email"), max_chars=_MAX_EMAIL_LENGTH, key=key("colleague_email")
            )
            role = checked.selectbox(
                _("Role"),
                _ROLES,
                format_func=staff_role_name,
                key=key("colleague_role"),
            )
        reason = st.text_input(
            _("Reason"), max_chars=MAX_REASON_LENGTH, key=key("colleague_reason")
        )
        is_sent = st.form_submit_button(_("Send invitation"), type="primary")
    if is_sent:
        _invite(context, email, role, reason)
    flash.show(INVITING)


def _invite(context: PageContext, email: str, role: StaffRole, reason: str) -> None:
    try:
        invitation = database.transaction(
            invite_staff,
            email=email,
            role=role,
            reason=reason,
            actor=context.visitor.actor,
            policy=settings().policy,
            locale=current_language(),
        )
    except BillingError as error:
        flash.leave(INVITING, _refusal(error, email.strip()), is_good=False)
    else:
        text = (
            _("{email} is invited with the role {role}. The link works until {when}.")
            if invitation.is_mailed_now
            else _(
                "{email} was already invited with the role {role}, so no email was sent. The"
                " link works until {when}. To email a new link, select Send again above."
            )
        )
        forms.empty(INVITING)
        flash.leave(
            INVITING,
            text.format(
                email=invitation.email,
                role=staff_role_name(invitation.role),
                when=context.date_time(invitation.expires_at),
            ),
        )


def _refusal(error: BillingError, email: str) -> str:
    if isinstance(error, NotAuthorised):
        return _("Your role changed: only administrators invite colleagues.")
    if isinstance(error, RateLimited):
        return error_labels.invitations_wait(error.retry_after_seconds)
    if getattr(error, "reason", None) == "invitation_over" and email:
        text = _("Nothing was changed: the invitation of {email} has been used or withdrawn.")
        return text.format(email=email)
    return top_up_labels.refusal(error)
