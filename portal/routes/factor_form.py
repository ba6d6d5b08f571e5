"""The form for a second factor: a code, a passkey or a recovery code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain.identity import Factor, FactorAnswer
from portal.routes.passkeys import answer_in, passkey_values, relying_party
from portal.routes.responses import render
from portal.ui.i18n import _
from portal.ui.labels.forms import wrong_code_text

if TYPE_CHECKING:
    from starlette.responses import Response

    from domain.identity import CeremonyOptions
    from portal.routes.requests import Call, Reply

_RECOVERY = Factor.RECOVERY_CODE.value


@dataclass(frozen=True, slots=True)
class FactorForm:
    """The texts and fields of a factor form; `other_path` shows it with the other kind of code.

    `passkey_options` are None where the person has no passkey that works here.
    """

    action: str
    intro: str
    has_authenticator: bool
    has_recovery_codes: bool
    passkey_options: CeremonyOptions | None
    other_path: str
    way_out: tuple[str, str]
    next_path: str = "/"


def show_factor_form(call: Call, form: FactorForm, reply: Reply) -> Response:
    """Return the page: first for the app or passkey, and by a link for a recovery code."""
    with_recovery = call.given("use") == _RECOVERY and form.has_recovery_codes
    return render(
        call,
        "second_factor.html",
        reply,
        form_of=form,
        with_recovery=with_recovery,
        asks_code=form.has_authenticator and not with_recovery,
        passkey=None if with_recovery else passkey_values(form.passkey_options),
        other_way=_other_way(form, with_recovery=with_recovery)
        if form.has_recovery_codes
        else None,
    )


def answer_of(call: Call) -> FactorAnswer:
    """Return the submitted second factor."""
    passkey, party = answer_in(call), relying_party(call)
    if passkey is not None and party is not None:
        return FactorAnswer(Factor.PASSKEY, passkey=passkey, party=party)
    is_recovery = call.given("use") == _RECOVERY
    factor = Factor.RECOVERY_CODE if is_recovery else Factor.AUTHENTICATOR
    return FactorAnswer(factor, code=call.given("code"))


def wrong_answer_text(call: Call) -> str:
    """Return the error message for the submitted second factor."""
    if call.given("passkey"):
        return _("The passkey was not accepted. Try again.")
    if call.given("use") == _RECOVERY:
        return _("The recovery code is wrong, already used or replaced. Enter another one.")
    return wrong_code_text(call.given("code"), or_recovery_code=True)


def _other_way(form: FactorForm, *, with_recovery: bool) -> tuple[str, str]:
    """Return the address and the label of the other kind of proof."""
    if with_recovery:
        return form.other_path, _("Use your app or passkey")
    separator = "&" if "?" in form.other_path else "?"
    return f"{form.other_path}{separator}use={_RECOVERY}", _("Use a recovery code")
