"""A person's own page of second factors: an authenticator app, passkeys and recovery codes."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from domain import identity
from domain.errors import Conflict, InvalidInput, NotFound
from domain.identity import Reauthentication, SignInOutcome
from portal.routes.admission import CONFIRM_PATH, keep_session, with_next
from portal.routes.admission import TWO_FACTOR_PATH as PATH
from portal.routes.codes import qr_code, show_recovery_codes
from portal.routes.factor_form import FactorForm, answer_of, show_factor_form, wrong_answer_text
from portal.routes.forms import Form, form_route
from portal.routes.passkeys import answer_in, passkey_values, relying_party
from portal.routes.requests import FIRST, Call, Reply
from portal.routes.responses import redirect, render
from portal.routes.security import browser_name
from portal.runtime import database
from portal.runtime.settings import settings
from portal.ui import branding, formats
from portal.ui.i18n import _
from portal.ui.labels.forms import notice_text, wrong_code_text
from portal.ui.urls import local_path

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from domain.identity import CeremonyOptions, PasskeySummary, SecondFactors

APP_PATH = f"{PATH}/app"


def routes() -> list[BaseRoute]:
    """Return the routes of these forms."""
    return [
        form_route(PATH, Form(_submit, show=_show, for_signed_in=True)),
        form_route(APP_PATH, Form(_submit_app, show=_begin_again, for_signed_in=True)),
        form_route(CONFIRM_PATH, Form(_submit_confirm, show=_show_confirm, for_signed_in=True)),
    ]


def _show(call: Call, reply: Reply = FIRST) -> Response:
    found = _factors(call)
    return render(
        call,
        "two_factor.html",
        reply,
        notice=notice_text(call.given("notice")),
        email=call.visitor.email,
        has_authenticator=found.has_authenticator,
        passkeys=[_passkey_row(call, each) for each in found.passkeys],
        codes_left=found.recovery_codes_left,
        code_set=found.recovery_code_set,
        is_on=found.is_on,
        is_required=found.is_required,
        may_change=found.may_change,
        confirm_path=CONFIRM_PATH,
        passkey=passkey_values(_passkey_options(call)),
        passkey_name=call.given("passkey_name") or browser_name(call.client.user_agent),
    )


def _factors(call: Call) -> SecondFactors:
    return database.read_snapshot(
        identity.list_second_factors,
        actor=call.visitor.actor(call.client.address),
        policy=settings().policy,
    )


def _passkey_row(call: Call, passkey: PasskeySummary) -> dict[str, Any]:
    zone = call.visitor.time_zone or "UTC"
    used = passkey.last_used_at
    return {
        "key": passkey.key,
        "name": passkey.name,
        "created_at": formats.date_time(passkey.created_at, zone),
        "last_used": _("last used {time}").format(time=formats.date_time(used, zone))
        if used
        else _("never used"),
    }


def _passkey_options(call: Call) -> CeremonyOptions | None:
    party = relying_party(call)
    if party is None:
        return None
    return database.read_snapshot(
        identity.own_passkey_options,
        actor=call.visitor.actor(call.client.address),
        email=call.visitor.email,
        party=party,
        policy=settings().policy,
    )


# ── Proving a factor before they are changed ──────────────────────────────────────────────────
def _show_confirm(call: Call, reply: Reply = FIRST) -> Response:
    factors = _factors(call)
    if factors.may_change:
        return redirect(_after_proof(call))
    form = FactorForm(
        action=CONFIRM_PATH,
        intro=_("Confirm your identity before you change how you sign in."),
        has_authenticator=factors.has_authenticator,
        has_recovery_codes=factors.recovery_codes_left > 0,
        passkey_options=_confirmation_options(call, factors),
        other_path=with_next(CONFIRM_PATH, _after_proof(call)),
        way_out=(PATH, _("Cancel")),
        next_path=_after_proof(call),
    )
    return show_factor_form(call, form, reply)


def _confirmation_options(call: Call, factors: SecondFactors) -> CeremonyOptions | None:
    party = relying_party(call)
    if party is None or not factors.passkeys:
        return None
    return database.read_snapshot(
        identity.confirmation_passkey_options,
        actor=call.visitor.actor(call.client.address),
        party=party,
        policy=settings().policy,
    )


def _after_proof(call: Call) -> str:
    """Return the address of the page where the person wanted to change something."""
    path = local_path(call.given("next"))
    return PATH if path == "/" else path


def _submit_confirm(call: Call) -> Response:
    renewed = identity.confirm_factor(
        database.form_sessions(),
        user=call.visitor,
        answer=answer_of(call),
        client=call.client,
        policy=settings().policy,
    )
    if renewed.outcome is SignInOutcome.SIGNED_IN:
        return keep_session(renewed, redirect(_after_proof(call)))
    return _show_confirm(call, Reply(wrong_answer_text(call), status=403))


# ── Changes ───────────────────────────────────────────────────────────────────────────────────
def _submit(call: Call) -> Response:
    again = Reauthentication(
        call.visitor, call.given("current_password"), call.client, settings().policy
    )
    try:
        response = _change(call, again)
    except NotFound:
        # Removed already, in another tab: the request is fulfilled.
        return redirect(f"{PATH}?notice=second_factor_removed")
    except Conflict as conflict:
        if conflict.reason == "factor_not_confirmed":
            return redirect(CONFIRM_PATH)
        return _show(call, Reply(_conflict_text(conflict.reason), status=409))
    if response is None:
        fault = {"current_password": _("The current password is wrong.")}
        return _show(call, Reply(faults=fault, status=422))
    return response


def _change(call: Call, again: Reauthentication) -> Response | None:
    """Carry out the pressed button's action; return None where the password is wrong."""
    action, _separator, key = call.given("action").partition(":")
    sessions = database.form_sessions()
    if action == "add_app":
        token = identity.begin_authenticator(sessions, again)
        return None if token is None else _show_app(call, token)
    if action == "remove_app":
        done = identity.remove_own_authenticator(sessions, again)
        return redirect(f"{PATH}?notice=second_factor_removed") if done else None
    if action == "remove_passkey":
        done = identity.remove_own_passkey(sessions, again, key=key)
        return redirect(f"{PATH}?notice=second_factor_removed") if done else None
    if action == "replace_codes":
        # The form names the codes that it replaces: reloading the page that shows new ones sends it
        # again, and would silently end the codes that were saved.
        codes = identity.replace_recovery_codes(sessions, again, replaces=call.given("code_set"))
        return _codes_page(call, codes, "")
    if action == "add_passkey":
        return _add_passkey(call, again)
    return _show(call)


def _add_passkey(call: Call, again: Reauthentication) -> Response | None:
    answer, party = answer_in(call), relying_party(call)
    if answer is None or party is None:
        raise InvalidInput("passkey", "not_accepted")
    codes = identity.add_own_passkey(
        database.form_sessions(), again, name=call.given("passkey_name"), answer=answer, party=party
    )
    response = _codes_page(call, codes, "passkey_added")
    return None if response is None else _renewed(call, response)


def _codes_page(call: Call, codes: tuple[str, ...] | None, notice: str) -> Response | None:
    """Show new recovery codes once, or return to the page where there are none."""
    if codes is None:
        return None
    if codes:
        return show_recovery_codes(call, codes, next_path=PATH)
    return redirect(f"{PATH}?notice={notice}")


def _renewed(call: Call, response: Response) -> Response:
    """Sign out copies of the session too: all other sessions end when a factor is added."""
    actor = call.visitor.actor(call.client.address)
    return keep_session(database.transaction(identity.renew_own_session, actor=actor), response)


def _conflict_text(reason: str) -> str:
    return {
        "second_factor_required": _(
            "Your role requires two-factor authentication. Add another factor before you"
            " remove the last one."
        ),
        "codes_replaced": _(
            "Your new recovery codes are active and were shown once. If you did not save"
            " them, create new ones below."
        ),
        "no_second_factor": _("Add an authenticator app or a passkey first."),
        "too_many_passkeys": _(
            "You have reached the maximum number of passkeys. Remove one first."
        ),
    }[reason]


# ── The authenticator app ─────────────────────────────────────────────────────────────────────
def _show_app(call: Call, token: str, reply: Reply = FIRST) -> Response:
    """Show the secret only right after its person has entered the password, never by an address."""
    offer = database.read_snapshot(
        identity.own_authenticator_offer,
        actor=call.visitor.actor(call.client.address),
        token=token,
        email=call.visitor.email,
        issuer=branding.NAME,
    )
    if offer is None:
        return _show(call, Reply(_too_late_text(), status=409))
    replaces = _("Your current app works until you enter a code from the new one.")
    return render(
        call,
        "set_up_authenticator.html",
        reply,
        action=APP_PATH,
        intro=replaces if _factors(call).has_authenticator else "",
        email=call.visitor.email,
        next_path="/",
        offer=token,
        secret=offer.secret,
        qr_code=qr_code(offer.uri),
        way_back=(PATH, _("Cancel")),
    )


def _begin_again(call: Call, reply: Reply) -> Response:
    """Show the start of a set-up: the secret has no address at which it could be read again.

    A form that is sent again, as by a reload of the next page, has the previous token.
    """
    if reply is FIRST:
        return redirect(PATH)
    is_of_before = reply.status == HTTPStatus.FORBIDDEN
    return _show(call, Reply(_too_late_text(), status=reply.status) if is_of_before else reply)


def _too_late_text() -> str:
    return _(
        "This setup has ended, or was replaced in another tab. Your current settings are"
        " shown below. Recovery codes are shown only once: create new ones if you have not"
        " saved them."
    )


def _submit_app(call: Call) -> Response:
    try:
        codes = database.transaction(
            identity.confirm_own_authenticator,
            code=call.given("code"),
            token=call.given("offer"),
            actor=call.visitor.actor(call.client.address),
            client=call.client,
        )
    except NotFound:
        return _show(call, Reply(_too_late_text(), status=409))
    if codes is None:
        fault = {"code": wrong_code_text(call.given("code"))}
        return _show_app(call, call.given("offer"), Reply(faults=fault, status=422))
    if codes:
        return _renewed(call, show_recovery_codes(call, codes, next_path=PATH))
    return _renewed(call, redirect(f"{PATH}?notice=app_added"))
