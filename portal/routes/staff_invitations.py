"""The link by which an invited colleague gets a sign-in and a role as staff."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain import staff
from domain.errors import Conflict, NotFound
from portal.routes.admission import admit, start_session
from portal.routes.forms import Form, form_route
from portal.routes.requests import FIRST, Call, Reply
from portal.routes.responses import message, render
from portal.runtime import cookies, database
from portal.runtime.sessions import find_signed_in_user
from portal.runtime.settings import settings
from portal.ui.i18n import _
from portal.ui.labels.roles import staff_role_name
from portal.ui.labels.staff import role_or_none

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute

PATH = "/accept-staff-invitation"


def routes() -> list[BaseRoute]:
    """Return the route of the form."""
    return [form_route(PATH, Form(_submit, show=_show))]


def _show(call: Call, reply: Reply = FIRST) -> Response:
    """Show which role is offered, and the one way on: join, sign out first, or sign in."""
    token = call.given("token")
    try:
        offer = database.read_snapshot(staff.find_role_offer, token=token)
    except NotFound:
        return _dead_link(call)
    user = find_signed_in_user(call.session_token)
    return render(
        call,
        "staff_invitation.html",
        reply,
        offer=offer,
        role=staff_role_name(offer.role),
        takes_approval=offer.takes_approval,
        token=token,
        signed_in_as=user.email if user else None,
        sign_out_token=cookies.form_token(call.session_token or ""),
        display_name=call.given("display_name"),
    )


def _submit(call: Call) -> Response:
    if find_signed_in_user(call.session_token) is not None:
        return _show(call, Reply(status=409))
    try:
        signed_in, request = staff.accept_staff_invitation(
            database.form_sessions(),
            token=call.given("token"),
            display_name=call.given("display_name"),
            password=call.given("password"),
            client=call.client,
            policy=settings().policy,
        )
    except NotFound:
        return _dead_link(call)
    except Conflict:
        # The address has signed up since the form was opened: the page shows the next step.
        return _show(call, Reply(status=409))
    if request is None:
        return admit(call, signed_in, "/")
    text = _(
        "You get the role {role} once another administrator approves, or after 24 hours if"
        " there is no other administrator. Then sign in again."
    )
    title = _("Your sign-in is ready")
    role = role_or_none(request.after.role)
    return start_session(call, signed_in, message(call, title, text.format(role=role)))


def _dead_link(call: Call) -> Response:
    return message(
        call,
        _("This invitation is no longer valid"),
        _(
            "The invitation was used, withdrawn or has expired, or its sender is no longer"
            " an administrator. If you have used it, sign in. Otherwise ask an administrator"
            " to send it again."
        ),
        link=("/sign-in", _("Sign in")),
        status=410,
    )
