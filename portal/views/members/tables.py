"""Who belongs to the account and who is invited, as tables that a phone shows as cards."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import streamlit as st

from portal.ui.i18n import _
from portal.ui.labels.roles import role_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domain.accounts.invitations import Invitation
    from domain.accounts.members import Member
    from portal.shell.page_context import PageContext


def draw_members(context: PageContext, members: Sequence[Member]) -> None:
    """Draw the people, the viewer marked."""
    names = (_("Name"), _("Email"), _("Role"), _("Since"))
    rows = [
        (
            _("{name} (you)").format(name=member.display_name)
            if member.user_id == context.visitor.user_id
            else member.display_name,
            member.email,
            _("{role}, cannot sign in").format(role=role_name(member.role))
            if member.is_disabled
            else role_name(member.role),
            context.date(member.added_at),
        )
        for member in members
    ]
    _table(_("Members"), names, rows)


def draw_invitations(context: PageContext, invitations: Sequence[Invitation]) -> None:
    """Draw who is invited, and until when the link works."""
    names = (_("Email"), _("Role"), _("Sent"), _("Expires"))
    rows = [
        (
            invitation.email,
            role_name(invitation.role),
            context.date(invitation.sent_at),
            _("Expired. Send it again.")
            if invitation.is_expired
            else context.date_time(invitation.expires_at),
        )
        for invitation in invitations
    ]
    _table(_("Invitations"), names, rows)
    if not all(invitation.is_expired for invitation in invitations):
        context.draw_zone()


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw text that people wrote, escaped; each cell knows its column's name for the phone."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-name="{html.escape(name)}">{html.escape(cell)}</td>'
            for name, cell in zip(names, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    st.html(
        f'<table class="people" aria-label="{html.escape(title)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
