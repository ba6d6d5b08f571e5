"""What one can do on the Members page: invite, change, remove, leave; each carried out once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from domain.accounts import members as services
from domain.accounts.invitations import invite_member, resend_invitation, withdraw_invitation
from domain.actors import MemberRole
from domain.errors import BillingError, Conflict, RateLimited
from domain.identity import normalise_email
from portal.runtime import database
from portal.runtime.settings import settings
from portal.shell import page_context
from portal.ui import checked, confirmation, flash, forms, partial_runs, submit_once
from portal.ui.formats import plain
from portal.ui.i18n import _, current_language
from portal.ui.labels import errors as error_labels
from portal.ui.labels.roles import role_name, role_rights
from portal.ui.lost_rights import remember_pressed, show_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.accounts.invitations import Invitation
    from domain.accounts.members import Member
    from domain.ledger.balances import AccountSummary
    from portal.shell.page_context import PageContext

_ONCE = "members_once"
_INVITING = "members_inviting"
_PENDING = "members_pending"
_CHANGING = "members_changing"
_LEAVING = "members_leaving"
_OWN = "members_own"
_NAMED = "members_invited_already"
MANAGE = "manage_members"
_ROLES = (MemberRole.READER, MemberRole.BILLING, MemberRole.OWNER)


def show_lost_right(*, may_manage: bool) -> None:
    """Say so where somebody pressed a button here and may manage members no more."""
    text = _("Your role changed; you can no longer manage members. Ask an owner of the account.")
    show_lost(MANAGE, text, is_allowed=may_manage)


def draw_own_outcome() -> None:
    """Say what people did to themselves: the page has no place beside what they pressed any more.

    Whoever left an account sees another one, or none.
    """
    flash.show(_OWN)


def draw_invite(context: PageContext, account_id: int) -> None:
    """Draw the form that invites an address."""
    st.subheader(_("Invite a member"))
    key = partial(forms.key, _INVITING)
    with st.form(key(f"invite-{account_id}")):
        email = st.text_input(
            _("Email"), max_chars=254, autocomplete="off", key=key("invite_email")
        )
        role = _role_choice(key("invite_role"), MemberRole.READER)
        is_sent = st.form_submit_button(
            _("Send invitation"), type="primary", on_click=remember_pressed, args=(MANAGE,)
        )
    if is_sent:

        def invite(key: str) -> None:
            try:
                database.transaction(
                    invite_member,
                    account_id=account_id,
                    email=email,
                    role=role,
                    actor=context.visitor.actor,
                    idempotency_key=key,
                    policy=settings().policy,
                    locale=current_language(),
                )
            except Conflict as conflict:
                if conflict.reason == "already_invited":
                    st.session_state[_NAMED] = normalise_email(email)
                raise

        with st.spinner(_("Sending…")):
            message = _("{email} is invited with the role {role}.")
            _act(invite, message.format(email=email.strip(), role=role_name(role)), place=_INVITING)
    flash.show(_INVITING)


def draw_change(context: PageContext, account_id: int, members: Sequence[Member]) -> None:
    """Draw the choice of a member, and what can be done about them."""
    st.subheader(_("Change or remove a member"))
    names = {member.user_id: f"{member.display_name} · {member.email}" for member in members}
    by_id = {member.user_id: member for member in members}
    # Oneself last: it is mostly about somebody else.
    order = sorted(names, key=lambda each: each == context.visitor.user_id)
    user_id = checked.selectbox(
        _("Member"),
        order,
        format_func=lambda each: names.get(each, ""),
        key=f"chosen_member-{account_id}",
    )
    member = by_id[user_id]
    role = _role_choice(f"new_role-{account_id}-{user_id}", member.role)
    with st.container(horizontal=True):
        is_change = _manage_button(
            _("Change role"), key="change_role", is_disabled=role is member.role
        )
        is_removal = _manage_button(_("Remove…"), key="remove", icon=":material/person_remove:")
    if is_change:

        def change(key: str) -> None:
            database.transaction(
                services.change_role,
                account_id=account_id,
                user_id=user_id,
                role=role,
                actor=context.visitor.actor,
                idempotency_key=key,
            )

        message = _("Role of {name} changed to {role}.")
        message = message.format(name=member.display_name, role=role_name(role))
        done_place = _place_of(context, member)
        _act(change, message, place=_CHANGING, done_place=done_place)
    if is_removal:
        _confirm_removal(context, account_id, member)
    flash.show(_CHANGING)


def draw_pending(context: PageContext, account_id: int, invitations: Sequence[Invitation]) -> None:
    """Draw the choice of an invitation: to send it again, or to withdraw it."""
    if not invitations:
        flash.show(_PENDING)
        return
    emails = {each.invitation_id: each.email for each in invitations}
    chosen = f"chosen_invitation-{account_id}"
    named = st.session_state.pop(_NAMED, None)
    for number, address in emails.items():
        if address == named:
            st.session_state[chosen] = number
    invitation_id = checked.selectbox(
        _("Invitation"), list(emails), format_func=lambda each: emails.get(each, ""), key=chosen
    )
    email = emails[invitation_id]
    about = _("The link sent to {email} stops working. You can invite them again.")
    with st.container(horizontal=True):
        is_again = _manage_button(_("Send again"), key="resend", icon=":material/send:")
        with confirmation.popover(
            _("Withdraw invitation…"),
            key=f"withdraw-{invitation_id}",
            about=about.format(email=email),
        ):
            is_withdrawn = _manage_button(_("Withdraw invitation"), key="withdraw", is_primary=True)
    if is_again:

        def resend(key: str) -> None:
            database.transaction(
                resend_invitation,
                account_id=account_id,
                invitation_id=invitation_id,
                actor=context.visitor.actor,
                idempotency_key=key,
                policy=settings().policy,
                locale=current_language(),
            )

        message = _("New invitation link sent to {email}. The previous link no longer works.")
        with st.spinner(_("Sending…")):
            _act(resend, message.format(email=email), place=_PENDING)
    if is_withdrawn:

        def withdraw(key: str) -> None:
            database.transaction(
                withdraw_invitation,
                account_id=account_id,
                invitation_id=invitation_id,
                actor=context.visitor.actor,
                idempotency_key=key,
            )

        message = _("Invitation of {email} withdrawn. Its link no longer works.")
        _act(withdraw, message.format(email=email), place=_PENDING)
    flash.show(_PENDING)


def draw_leave(context: PageContext, account: AccountSummary) -> None:
    """Draw the way out of an account for whoever belongs to it."""
    if st.button(_("Leave this account…"), icon=":material/logout:", key="leave"):
        _confirm_leaving(context, account)
    flash.show(_LEAVING)


def _place_of(context: PageContext, member: Member) -> str:
    return _OWN if member.user_id == context.visitor.user_id else _CHANGING


def _manage_button(
    label: str,
    *,
    key: str,
    icon: str | None = None,
    is_disabled: bool = False,
    is_primary: bool = False,
) -> bool:
    return st.button(
        label,
        key=key,
        icon=icon,
        type="primary" if is_primary else "secondary",
        disabled=is_disabled,
        on_click=remember_pressed,
        args=(MANAGE,),
    )


def _role_choice(key: str, role: MemberRole) -> MemberRole:
    chosen = checked.radio(
        _("Role"),
        _ROLES,
        index=_ROLES.index(role),
        format_func=role_name,
        captions=[role_rights(each) for each in _ROLES],
        key=key,
    )
    return MemberRole(chosen)


def _confirm_removal(context: PageContext, account_id: int, member: Member) -> None:
    name = plain(member.display_name)

    @partial_runs.dialog(_("Remove this member?"))
    def confirm(context: PageContext) -> None:
        def remove(key: str) -> None:
            database.transaction(
                services.remove_member,
                account_id=account_id,
                user_id=member.user_id,
                actor=context.visitor.actor,
                idempotency_key=key,
            )

        text = _(
            "{name} ({email}) loses access to this account immediately. You can invite them again."
        )
        st.write(text.format(name=name, email=plain(member.email)))
        if st.button(_("Remove {name}").format(name=name), type="primary", key="remove_for_good"):
            message = _("{name} removed.").format(name=member.display_name)
            done_place = _place_of(context, member)
            _act(remove, message, place=_CHANGING, done_place=done_place)

    confirm(context)


def _confirm_leaving(context: PageContext, account: AccountSummary) -> None:
    @partial_runs.dialog(_("Leave this account?"))
    def confirm(context: PageContext) -> None:
        def leave(key: str) -> None:
            database.transaction(
                services.leave_account,
                account_id=account.account_id,
                actor=context.visitor.actor,
                idempotency_key=key,
            )
            # The account may be in the address: it is somebody else's from now on.
            page_context.look_away()

        text = _("You lose access to {account} immediately. An owner can invite you again.")
        st.write(text.format(account=plain(account.name)))
        if st.button(_("Leave account"), type="primary", key="leave_for_good"):
            message = _("You have left {account}.").format(account=account.name)
            _act(leave, message, place=_LEAVING, done_place=_OWN)

    confirm(context)


def _act(
    act: Callable[[str], None],
    done: str,
    *,
    place: str,
    done_place: str | None = None,
) -> None:
    """Carry out under a key that stays the same until there is an answer; then draw anew.

    What is said when it is done names who and what, and so tells one request from the next. The
    place where it is said is also the form, which is empty again then; `done_place` is another one
    where the form may be gone.
    """
    confirmation.close_all()
    form = f"{_ONCE}-{done}"
    key = submit_once.key_for(form)
    try:
        act(key)
    except BillingError as error:
        submit_once.forget(form)
        flash.leave(place, _refusal(error), is_good=False)
    else:
        submit_once.forget(form)
        forms.empty(place)
        flash.leave(done_place or place, done)


def _refusal(error: BillingError) -> str:
    if isinstance(error, RateLimited):
        return error_labels.invitations_wait(error.retry_after_seconds)
    return error_labels.text_of(error)
