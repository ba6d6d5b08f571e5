"""Who is looking at a page, from the session's row in the database, at every run of a script."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import streamlit as st

from domain import identity
from portal.runtime import cookies, database
from portal.runtime.sessions import find_signed_in_user
from portal.runtime.settings import settings
from portal.ui.branding import BUTTON_STYLE
from portal.ui.urls import sign_in_path

if TYPE_CHECKING:
    from typing import Never

    from domain.actors import Actor


@dataclass(frozen=True, slots=True)
class Visitor:
    """The signed-in person as the database has them at this moment.

    `account_id` is the account that this session acts on, or None for a user without one.
    `session_id` identifies the session and grants no access. `form_token` goes into forms that are
    posted to our own routes.
    """

    user_id: int
    display_name: str
    email: str
    locale: str | None
    time_zone: str | None
    actor: Actor
    account_id: int | None
    session_id: str
    form_token: str = field(repr=False)


def current_visitor() -> Visitor | None:
    """Return who is signed in in this browser now, or None."""
    token = st.context.cookies.to_dict().get(cookies.session_cookie(settings()))
    user = find_signed_in_user(token)
    if token is None or user is None:
        return None
    if user.touch_due:
        database.transaction(identity.touch_session, session_id=user.session_id)
    return Visitor(
        user_id=user.user_id,
        display_name=user.display_name,
        email=user.email,
        locale=user.locale,
        time_zone=user.time_zone,
        actor=user.actor(st.context.ip_address),
        account_id=user.account_id,
        session_id=user.session_id,
        form_token=cookies.form_token(token),
    )


def current_actor() -> Actor | None:
    """Return the actor of who is signed in in this browser now, or None."""
    visitor = current_visitor()
    return visitor.actor if visitor else None


def require_visitor() -> Visitor:
    """Return who is signed in; send everyone else to sign in and back, and end the script."""
    visitor = current_visitor()
    if visitor is None:
        go_to_sign_in()
    return visitor


def go_to_sign_in() -> Never:
    """Redirect the browser to sign-in with a way back to the current page; end the script."""
    path = urlsplit(st.context.url or "/").path or "/"
    query = urlencode([(key, value) for key in st.query_params for value in _values(key)])
    target = sign_in_path(f"{path}?{query}" if query else path)
    # No character of the path can end the script: json quotes it, and "<" is escaped.
    quoted = json.dumps(target).replace("<", "\\u003c")
    st.html(f"<script>location.replace({quoted})</script>", unsafe_allow_javascript=True)
    st.stop()


def _values(key: str) -> list[str]:
    return st.query_params.get_all(key)


def choose_account(visitor: Visitor, account_id: int) -> None:
    """Switch this session to another of the user's accounts. Raises NotFound."""
    database.transaction(
        identity.choose_account,
        session_id=visitor.session_id,
        account_id=account_id,
        actor=visitor.actor,
    )


def sign_out_form(visitor: Visitor, label: str) -> str:
    """Return the HTML of a button that signs out, for `st.html`: a page cannot drop a cookie."""
    return (
        '<form method="post" action="/sign-out" target="_self">'
        f'<input type="hidden" name="form_token" value="{visitor.form_token}">'
        f'<button type="submit" style="{BUTTON_STYLE}">{html.escape(label)}</button></form>'
    )
