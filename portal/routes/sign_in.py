"""The forms of people who are not signed in: sign in, sign up, confirm, forgot, reset."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from babel import Locale
from babel.numbers import get_currency_name

from domain import identity
from domain.accounts.sign_up import SignUp, sign_up
from domain.errors import NotFound
from domain.identity import RESET_PASSWORD, VERIFY_EMAIL, SignInOutcome
from portal.routes.admission import admit, is_admitted
from portal.routes.forms import Form, form_route
from portal.routes.passkeys import answer_in, passkey_values, relying_party
from portal.routes.requests import FIRST, Call, Reply
from portal.routes.responses import message, redirect, render
from portal.runtime import database
from portal.runtime.sessions import find_signed_in_user
from portal.runtime.settings import settings
from portal.ui.i18n import _, current_language
from portal.ui.labels.forms import fault_text, notice_text
from portal.ui.urls import local_path

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from domain.identity import CeremonyOptions


def routes() -> list[BaseRoute]:
    """Return the routes of these forms."""
    return [
        form_route("/sign-in", Form(_submit_sign_in, show=_show_sign_in)),
        # A limit of its own: wrong passwords from an address do not block its people's passkeys.
        form_route("/sign-in/passkey", Form(_submit_passkey, show=_show_sign_in)),
        form_route("/sign-up", Form(_submit_sign_up, show=_show_sign_up, is_costly=True)),
        form_route("/verify-email", Form(_submit_verify, show=_show_verify)),
        form_route("/forgot-password", Form(_submit_forgot, show=_show_forgot)),
        form_route("/reset-password", Form(_submit_reset, show=_show_reset)),
        form_route("/check-mail", Form(None, show=_show_check_mail)),
    ]


# ── Sign in ────────────────────────────────────────────────────────────────────────────────────
def _show_sign_in(call: Call, reply: Reply = FIRST) -> Response:
    next_path = local_path(call.given("next"))
    if call.request.method == "GET" and find_signed_in_user(call.session_token) is not None:
        return redirect(next_path)
    return render(
        call,
        "sign_in.html",
        reply,
        notice=notice_text(call.given("notice")),
        email=call.given("email"),
        next_path=next_path,
        passkey=passkey_values(_passkey_options(call)),
    )


def _submit_sign_in(call: Call) -> Response:
    result = identity.authenticate(
        database.form_sessions(),
        email=call.given("email"),
        password=call.given("password"),
        client=call.client,
        policy=settings().policy,
    )
    if is_admitted(result):
        return admit(call, result, local_path(call.given("next")))
    return _show_sign_in(call, Reply(_refusal_text(result.outcome), status=403))


def _refusal_text(outcome: SignInOutcome) -> str:
    if outcome is SignInOutcome.UNVERIFIED:
        return _("Confirm your email address first. We have sent you the link again.")
    if outcome is SignInOutcome.DISABLED:
        return _("Your sign-in is disabled. Contact support, or an administrator if you are staff.")
    return _("The email address or the password is wrong.")


# ── With a passkey ─────────────────────────────────────────────────────────────────────────────
def _passkey_options(call: Call) -> CeremonyOptions | None:
    party = relying_party(call)
    if party is None:
        return None
    return identity.passkey_sign_in_options(
        party=party,
        binding=call.form_secret,
        policy=settings().policy,
        now=datetime.now(UTC),
    )


def _submit_passkey(call: Call) -> Response:
    answer, party = answer_in(call), relying_party(call)
    if answer is None or party is None:
        return _show_sign_in(call)
    result = identity.authenticate_with_passkey(
        database.form_sessions(),
        answer=answer,
        party=party,
        binding=call.form_secret,
        client=call.client,
        policy=settings().policy,
    )
    if result.outcome is SignInOutcome.SIGNED_IN:
        return admit(call, result, local_path(call.given("next")))
    if result.outcome is SignInOutcome.WRONG:
        text = _("The passkey was not accepted. Sign in with your password.")
        return _show_sign_in(call, Reply(text, status=403))
    return _show_sign_in(call, Reply(_refusal_text(result.outcome), status=403))


# ── Sign up ────────────────────────────────────────────────────────────────────────────────────
def _show_sign_up(call: Call, reply: Reply = FIRST) -> Response:
    country = call.given("country")
    return render(
        call,
        "sign_up.html",
        reply,
        typed={name: call.given(name) for name in ("email", "display_name", "account_name")},
        country=country,
        currency=call.given("currency"),
        countries=_countries(current_language()),
        sites=[_site_choice(site, country) for site in database.read_snapshot(identity.list_sites)],
    )


def _submit_sign_up(call: Call) -> Response:
    form = SignUp(
        email=call.given("email"),
        display_name=call.given("display_name"),
        password=call.given("password"),
        account_name=call.given("account_name"),
        country=call.given("country"),
        currency=call.given("currency"),
    )
    faults = sign_up(
        database.form_sessions(), form=form, client=call.client, policy=settings().policy
    )
    if faults:
        texts = {fault.field: fault_text(fault) for fault in faults}
        return _show_sign_up(call, Reply(faults=texts, status=422))
    return redirect("/check-mail?for=sign-up")


@cache
def _countries(language: str) -> tuple[tuple[str, str], ...]:
    """Return (code, name) of every country, sorted by its name in the reader's language."""
    names = Locale.parse(language).territories
    return tuple(
        sorted(
            ((code, names.get(code, code)) for code in identity.country_codes()),
            key=lambda country: country[1].casefold(),
        )
    )


def _site_choice(site: identity.SiteChoice, country: str) -> dict[str, Any]:
    locale = Locale.parse(current_language())
    return {
        "country": site.country or "",
        "label": locale.territories.get(site.country or "") or _("Other countries"),
        "currencies": [
            (code, f"{code} · {get_currency_name(code, locale=locale)}") for code in site.currencies
        ],
        "is_chosen": site.country in {country, None},
    }


# ── Links from mails ───────────────────────────────────────────────────────────────────────────
def _show_verify(call: Call, reply: Reply = FIRST) -> Response:
    email = _email_of_link(call, VERIFY_EMAIL)
    if email is None:
        return _dead_link(call)
    return render(
        call,
        "verify_email.html",
        reply,
        email=email,
        token=call.given("token"),
    )


def _submit_verify(call: Call) -> Response:
    try:
        result = identity.verify_email(
            database.form_sessions(),
            token=call.given("token"),
            password=call.given("password"),
            client=call.client,
            policy=settings().policy,
        )
    except NotFound:
        return _dead_link(call)
    if is_admitted(result):
        return admit(call, result, "/")
    return _show_verify(call, Reply(_("The password is wrong."), status=403))


def _show_forgot(call: Call, reply: Reply = FIRST) -> Response:
    return render(
        call,
        "forgot_password.html",
        reply,
        email=call.given("email"),
    )


def _submit_forgot(call: Call) -> Response:
    database.transaction(
        identity.request_password_reset,
        email=call.given("email"),
        client=call.client,
        policy=settings().policy,
    )
    return redirect("/check-mail?for=reset")


def _show_reset(call: Call, reply: Reply = FIRST) -> Response:
    email = _email_of_link(call, RESET_PASSWORD)
    if email is None:
        return _dead_link(call)
    return render(
        call,
        "reset_password.html",
        reply,
        email=email,
        token=call.given("token"),
    )


def _submit_reset(call: Call) -> Response:
    try:
        identity.reset_password(
            database.form_sessions(),
            token=call.given("token"),
            password=call.given("password"),
            client=call.client,
        )
    except NotFound:
        return _dead_link(call)
    return redirect("/sign-in?notice=password_reset")


def _email_of_link(call: Call, purpose: str) -> str | None:
    try:
        return database.read_snapshot(
            identity.email_of_link, token=call.given("token"), purpose=purpose
        )
    except NotFound:
        return None


def _dead_link(call: Call) -> Response:
    return message(
        call,
        _("This link is no longer valid"),
        _(
            "The link was already used or has expired. Sign in, or request a new link from the"
            " sign-in page."
        ),
        link=("/sign-in", _("Sign in")),
        status=410,
    )


def _show_check_mail(call: Call, reply: Reply = FIRST) -> Response:
    text = (
        _(
            "If an account uses this address, we have sent a link to it. The link works for one"
            " hour."
        )
        if call.given("for") == "reset"
        else _("We have sent you an email. Open the link in the email to finish.")
    )
    link = ("/sign-in", _("Sign in"))
    return message(call, _("Check your email"), text, link=link, status=reply.status)
