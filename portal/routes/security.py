"""Forms of signed-in people for their own security: password, sessions, signing out."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from domain import identity
from domain.errors import Conflict, NotFound
from domain.identity import Factor, SignInOutcome
from portal.routes.admission import CONFIRM_PATH, keep_session, with_next
from portal.routes.forms import Form, form_route
from portal.routes.requests import FIRST, Call, Reply
from portal.routes.responses import redirect, render
from portal.runtime import cookies, database
from portal.runtime.settings import settings
from portal.ui import formats
from portal.ui.i18n import _
from portal.ui.labels.forms import notice_text

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute

_PASSWORD_PATH = "/password"  # noqa: S105 - an address
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "Mac"),
    ("Linux", "Linux"),
)


def routes() -> list[BaseRoute]:
    """Return the routes of these forms."""
    return [
        form_route(_PASSWORD_PATH, Form(_submit_password, show=_show_password, for_signed_in=True)),
        form_route("/sessions", Form(_submit_sessions, show=_show_sessions, for_signed_in=True)),
        form_route(
            "/sign-out",
            Form(_submit_sign_out, show=_show_sign_out, for_signed_in=True, leads_back=False),
        ),
        form_route("/sign-out-everywhere", Form(_submit_sign_out_everywhere, for_signed_in=True)),
    ]


def _show_password(call: Call, reply: Reply = FIRST) -> Response:
    factors = database.read_snapshot(
        identity.list_second_factors,
        actor=call.visitor.actor(call.client.address),
        policy=settings().policy,
    )
    if not factors.may_change:
        return redirect(with_next(CONFIRM_PATH, _PASSWORD_PATH))
    return render(call, "password.html", reply, email=call.visitor.email)


def _submit_password(call: Call) -> Response:
    try:
        renewed = identity.change_password(
            database.form_sessions(),
            user=call.visitor,
            current_password=call.given("current_password"),
            new_password=call.given("new_password"),
            client=call.client,
            policy=settings().policy,
        )
    except Conflict:
        return redirect(with_next(CONFIRM_PATH, _PASSWORD_PATH))
    if renewed.outcome is not SignInOutcome.SIGNED_IN:
        fault = {"current_password": _("The current password is wrong.")}
        return _show_password(call, Reply(faults=fault, status=422))
    return keep_session(renewed, redirect("/sessions?notice=password_changed"))


def _show_sessions(call: Call, reply: Reply = FIRST) -> Response:
    actor = call.visitor.actor(call.client.address)
    sessions = database.read_snapshot(identity.list_sessions, actor=actor, policy=settings().policy)
    # A session's last use is kept to the minute: this one is in use now, and is listed first.
    context = call.visitor.session_id
    ordered = sorted(sessions, key=lambda each: each.session_id != context)
    return render(
        call,
        "sessions.html",
        reply,
        notice=notice_text(call.given("notice")),
        email=call.visitor.email,
        sessions=[_row(call, each) for each in ordered],
    )


def _row(call: Call, session: identity.SessionSummary) -> dict[str, Any]:
    zone = call.visitor.time_zone or "UTC"
    return {
        "id": session.session_id,
        "is_here": session.session_id == call.visitor.session_id,
        "browser": browser_name(session.user_agent),
        "factor": factor_name(session.factor),
        "address": session.address,
        "created_at": formats.date_time(session.created_at, zone),
        "last_seen_at": formats.date_time(session.last_seen_at, zone),
    }


def _submit_sessions(call: Call) -> Response:
    if call.given("session") == call.visitor.session_id:
        return _submit_sign_out(call)
    _revoke(call, call.given("session"))
    return redirect("/sessions?notice=session_ended")


def _show_sign_out(call: Call, reply: Reply = FIRST) -> Response:
    """Show the button, also for a page whose form is of an older token of the session."""
    return render(call, "sign_out.html", reply, email=call.visitor.email)


def _submit_sign_out(call: Call) -> Response:
    _revoke(call, call.visitor.session_id)
    return _leave("/sign-in?notice=signed_out")


def _submit_sign_out_everywhere(call: Call) -> Response:
    actor = call.visitor.actor(call.client.address)
    database.transaction(identity.revoke_all_sessions, actor=actor)
    return _leave("/sign-in?notice=signed_out_everywhere")


def _revoke(call: Call, session_id: str) -> None:
    actor = call.visitor.actor(call.client.address)
    # Ended already, in another tab: the request is fulfilled.
    with contextlib.suppress(NotFound):
        database.transaction(identity.revoke_session, session_id=session_id, actor=actor)


def _leave(path: str) -> Response:
    response = redirect(path)
    cookies.delete_cookie(response, cookies.session_cookie(settings()), settings())
    return response


def factor_name(factor: Factor) -> str:
    """Return the name of the factor that a session was opened with."""
    return {
        Factor.PASSWORD: _("password"),
        Factor.AUTHENTICATOR: _("password and authenticator app"),
        Factor.PASSKEY: _("passkey"),
        Factor.RECOVERY_CODE: _("password and recovery code"),
    }[factor]


def browser_name(user_agent: str) -> str:
    """Return a browser's name, as far as it can be recognised."""
    browser = next((name for sign, name in _BROWSERS if sign in user_agent), None)
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), None)
    if browser and system:
        return _("{browser} on {system}").format(browser=browser, system=system)
    return browser or system or _("Unknown browser")
