"""Members: who belongs to the account, who is invited, and what owners can change about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.accounts.members import list_members
from portal.runtime import database
from portal.runtime.settings import settings
from portal.shell import page_context
from portal.ui.i18n import _
from portal.views.members import actions, tables

if TYPE_CHECKING:
    from domain.accounts.members import AccountPeople
    from portal.shell.page_context import PageContext


def _invitations(context: PageContext, account_id: int, people: AccountPeople) -> None:
    st.subheader(_("Open invitations"))
    if not people.invitations:
        st.write(_("No open invitations."))
        actions.draw_pending(context, account_id, people.invitations)
        return
    tables.draw_invitations(context, people.invitations)
    if settings().shows_mailbox:
        link = f"[{_('the demo mailbox')}](/mailbox)"
        st.write(_("This demo sends no email. Read it in {mailbox}.").format(mailbox=link))
    actions.draw_pending(context, account_id, people.invitations)


def _draw(context: PageContext) -> None:
    account = page_context.account_or_stop(context)
    people = database.read_snapshot(
        list_members, actor=context.visitor.actor, account_id=account.account_id
    )
    actions.show_lost_right(may_manage=people.may_manage)
    tables.draw_members(context, people.members)
    if not people.members:
        st.info(_("No members yet. Invite one below."), icon=":material/group_off:")
    if people.may_manage:
        if len(people.members) == 1:
            text = _("You are the only member. Invite a colleague as a second owner.")
            st.info(text, icon=":material/group_add:")
        _invitations(context, account.account_id, people)
        actions.draw_invite(context, account.account_id)
        if people.members:
            actions.draw_change(context, account.account_id, people.members)
    else:
        st.caption(_("Only owners invite people, change roles and remove members."))
    if account.account_id in context.visitor.actor.memberships:
        st.divider()
        actions.draw_leave(context, account)


st.title(_("Members"))
actions.draw_own_outcome()
_draw(st.session_state["page_context"])
