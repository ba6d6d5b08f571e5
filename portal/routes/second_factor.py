"""The second step of a sign-in: a code, a passkey or a recovery code, or setting up the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain import identity
from domain.errors import Conflict, NotFound
from domain.identity import SignInOutcome
from portal.routes.admission import (
    SECOND_FACTOR_PATH,
    SET_UP_PATH,
    TWO_FACTOR_PATH,
    admit,
    start_session,
    with_next,
)
from portal.routes.codes import qr_code, show_recovery_codes
from portal.routes.factor_form import FactorForm, answer_of, show_factor_form, wrong_answer_text
from portal.routes.forms import Form, form_route
from portal.routes.passkeys import relying_party
from portal.routes.requests import FIRST, Call, Reply
from portal.routes.responses import redirect, render
from portal.runtime import cookies, database
from portal.runtime.sessions import find_signed_in_user
from portal.runtime.settings import settings
from portal.ui import branding
from portal.ui.i18n import _
from portal.ui.labels.forms import wrong_code_text
from portal.ui.urls import local_path, sign_in_path

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from domain.identity import CeremonyOptions, PendingSignIn


def routes() -> list[BaseRoute]:
    """Return the routes of these forms."""
    return [
        form_route(SECOND_FACTOR_PATH, Form(_submit, show=_show)),
        form_route(SET_UP_PATH, Form(_submit_set_up, show=_show_set_up)),
    ]


# ── With an existing factor ───────────────────────────────────────────────────────────────────────
def _show(call: Call, reply: Reply = FIRST) -> Response:
    try:
        pending = database.read_snapshot(identity.find_pending, token=_token(call))
    except NotFound:
        return redirect(sign_in_path(_next(call)))
    if pending.must_set_up:
        return redirect(with_next(SET_UP_PATH, _next(call)))
    form = FactorForm(
        action=SECOND_FACTOR_PATH,
        intro=_("Signing in as {email}").format(email=pending.email),
        has_authenticator=pending.has_authenticator,
        has_recovery_codes=pending.has_recovery_codes,
        passkey_options=_passkey_options(call, pending),
        other_path=with_next(SECOND_FACTOR_PATH, _next(call)),
        way_out=("/sign-in", _("Use a different account")),
        next_path=_next(call),
    )
    return show_factor_form(call, form, reply)


def _passkey_options(call: Call, pending: PendingSignIn) -> CeremonyOptions | None:
    """Return the browser's options for a passkey, where the person has one for this host."""
    party = relying_party(call)
    if party is None or not pending.has_passkeys:
        return None
    return database.read_snapshot(
        identity.pending_passkey_options, token=_token(call), party=party, policy=settings().policy
    )


def _submit(call: Call) -> Response:
    try:
        result = identity.finish_sign_in(
            database.form_sessions(),
            token=_token(call),
            answer=answer_of(call),
            client=call.client,
            policy=settings().policy,
        )
    except NotFound:
        return redirect(sign_in_path(_next(call)))
    if result.outcome is SignInOutcome.SIGNED_IN:
        return admit(call, result, _next(call))
    return _show(call, Reply(wrong_answer_text(call), status=403))


# ── Setting one up on the way ─────────────────────────────────────────────────────────────────
def _show_set_up(call: Call, reply: Reply = FIRST) -> Response:
    try:
        pending = database.read_snapshot(identity.find_pending, token=_token(call))
        offer = database.read_snapshot(
            identity.pending_offer, token=_token(call), issuer=branding.NAME
        )
    except NotFound:
        return _after_set_up(call)
    if offer is None:
        path = sign_in_path(_next(call)) if pending.must_set_up else SECOND_FACTOR_PATH
        return redirect(path)
    return render(
        call,
        "set_up_authenticator.html",
        reply,
        action=SET_UP_PATH,
        intro=_(
            "Your role requires two-factor authentication. Set it up once, with an authenticator"
            " app."
        ),
        email=pending.email,
        next_path=_next(call),
        offer="",
        secret=offer.secret,
        qr_code=qr_code(offer.uri),
        way_back=("/sign-in", _("Use a different account")),
    )


def _submit_set_up(call: Call) -> Response:
    try:
        result, codes = identity.finish_set_up(
            database.form_sessions(),
            token=_token(call),
            code=call.given("code"),
            client=call.client,
            policy=settings().policy,
        )
    except NotFound:
        return _after_set_up(call)
    except Conflict:
        return redirect(with_next(SECOND_FACTOR_PATH, _next(call)))
    if result.outcome is SignInOutcome.SIGNED_IN:
        page = show_recovery_codes(call, codes, next_path=_next(call))
        return start_session(call, result, page)
    return _show_set_up(
        call, Reply(faults={"code": wrong_code_text(call.given("code"))}, status=422)
    )


def _after_set_up(call: Call) -> Response:
    """Redirect after a finished set-up: a repeated request has already shown the recovery codes."""
    if call.request.method == "POST" and find_signed_in_user(call.session_token) is not None:
        return redirect(f"{TWO_FACTOR_PATH}?notice=codes_shown_once")
    return redirect(sign_in_path(_next(call)))


def _token(call: Call) -> str:
    return call.request.cookies.get(cookies.pending_cookie(settings()), "")


def _next(call: Call) -> str:
    return local_path(call.given("next"))
