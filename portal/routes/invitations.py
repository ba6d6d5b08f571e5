"""The link of an invitation: accept it as who one is, or sign up with it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from domain import identity
from domain.accounts import invitations
from domain.errors import Conflict, NotFound
from portal.routes.admission import admit
from portal.routes.forms import Form, form_route
from portal.routes.requests import FIRST, Call, Reply
from portal.routes.responses import message, redirect, render
from portal.runtime import cookies, database
from portal.runtime.sessions import find_signed_in_user
from portal.runtime.settings import settings
from portal.ui.i18n import _
from portal.ui.labels import errors as error_labels
from portal.ui.labels.roles import role_name, role_rights
from portal.ui.urls import sign_in_path as path_to_sign_in

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute

PATH = "/accept-invitation"


def routes() -> list[BaseRoute]:
    """Return the route of the form."""
    return [form_route(PATH, Form(_submit, show=_show))]


def _show(call: Call, reply: Reply = FIRST) -> Response:
    """Show the offer, and the one next step: join, sign in, sign up, or sign out first."""
    token = call.given("token")
    try:
        offer = database.read_snapshot(invitations.find_offer, token=token)
    except NotFound:
        return _dead_link(call)
    user = find_signed_in_user(call.session_token)
    if user is not None and user.staff_role is not None and user.email == offer.email:
        return _not_for_staff(call, Conflict("staff_role"))
    return render(
        call,
        "invitation.html",
        reply,
        offer=offer,
        role=role_name(offer.role),
        rights=role_rights(offer.role),
        token=token,
        signed_in_as=user.email if user else None,
        is_for_visitor=user is not None and user.email == offer.email,
        sign_in=path_to_sign_in(f"{PATH}?token={quote(token)}"),
        sign_out_token=cookies.form_token(call.session_token or ""),
        display_name=call.given("display_name"),
    )


def _submit(call: Call) -> Response:
    user = find_signed_in_user(call.session_token)
    try:
        return _accept(call, user) if user is not None else _sign_up(call)
    except NotFound:
        return _dead_link(call)
    except Conflict as conflict:
        return _not_for_staff(call, conflict)


def _not_for_staff(call: Call, conflict: Conflict) -> Response:
    title = _("You cannot accept this invitation")
    return message(call, title, error_labels.text_of(conflict), status=409)


def _accept(call: Call, user: identity.SignedInUser) -> Response:
    actor = user.actor(call.client.address)
    account_id = database.transaction(
        invitations.accept_invitation, token=call.given("token"), actor=actor
    )
    database.transaction(
        identity.choose_account, session_id=user.session_id, account_id=account_id, actor=actor
    )
    return redirect("/")


def _sign_up(call: Call) -> Response:
    try:
        signed_in, _account_id = invitations.sign_up_invited(
            database.form_sessions(),
            token=call.given("token"),
            display_name=call.given("display_name"),
            password=call.given("password"),
            client=call.client,
            policy=settings().policy,
        )
    except Conflict:
        # The address has signed up since the form was opened: the page requests a sign-in now.
        return _show(call, Reply(status=409))
    return admit(call, signed_in, "/")


def _dead_link(call: Call) -> Response:
    return message(
        call,
        _("This invitation is no longer valid"),
        _(
            "The invitation was used, withdrawn or has expired. Ask the person who invited"
            " you to send it again."
        ),
        link=("/", _("Go to billing")),
        status=410,
    )
