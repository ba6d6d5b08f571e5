"""What people read about a form: why a field was refused, and how long to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.ui.i18n import _

if TYPE_CHECKING:
    from domain.errors import InvalidInput

_MINUTE_SECONDS = 60
_CODE_DIGITS = 6


def fault_text(fault: InvalidInput) -> str:
    """Return the sentence for what is wrong with a field."""
    texts = {
        ("email", "not_an_email"): _("This is not an email address."),
        ("display_name", "empty"): _("Enter your name."),
        ("account_name", "empty"): _("Enter an account name."),
        ("passkey", "not_accepted"): _("The passkey was not accepted. Try again."),
        ("passkey", "too_late"): _("The request took too long. Try again."),
        ("passkey_name", "empty"): _("Enter a passkey name."),
        ("country", "empty"): _("Choose your country."),
        ("country", "unknown"): _("Choose your country."),
        ("currency", "not_at_site"): _(
            "Choose a currency available in your country: {currencies}."
        ),
    }
    by_reason = {
        "too_short": _("Use at least {minimum} characters."),
        "too_long": _("Use at most {maximum} characters."),
        "same_as_current": _("Choose a password that differs from your current one."),
        "same_as_email": _("Do not use your email address as the password."),
        "guessable": _("This password is easy to guess. Choose a longer or less common password."),
        "control_characters": _("Use letters, digits and punctuation only."),
    }
    text = texts.get((fault.field, fault.reason)) or by_reason.get(fault.reason)
    return (text or _("Check this field.")).format(**fault.values)


def wrong_code_text(code: str, *, or_recovery_code: bool = False) -> str:
    """Return the sentence for a code that is none of the authenticator app's now.

    `or_recovery_code`: the page has a link to enter one of those instead.
    """
    if or_recovery_code and any(each.isalpha() for each in code):
        return _("Enter the 6-digit code from your app, or use a recovery code below.")
    digits = "".join(code.split())
    if len(digits) != _CODE_DIGITS or not digits.isdecimal():
        return _("Enter the 6-digit code from your app.")
    return _("The code is wrong, expired or already used. Wait for the next code, then enter it.")


def wait_text(seconds: int) -> str:
    """Return the sentence for too many tries."""
    if seconds < _MINUTE_SECONDS:
        return _("Too many attempts. Wait {seconds} seconds, then try again.").format(
            seconds=seconds
        )
    minutes = -(-seconds // _MINUTE_SECONDS)
    if minutes == 1:
        return _("Too many attempts. Wait a minute, then try again.")
    return _("Too many attempts. Wait {minutes} minutes, then try again.").format(minutes=minutes)


def busy_text(seconds: int) -> str:
    """Return the sentence for a form that many others send at this moment."""
    text = _("The portal is busy. Try again in {seconds} seconds.")
    return text.format(seconds=seconds)


def notice_text(code: str) -> str | None:
    """Return the sentence for what was just done, by its code in the address."""
    return {
        "signed_out": _("You are signed out."),
        "signed_out_everywhere": _("You are signed out everywhere."),
        "password_reset": _("Your password is changed. Sign in with the new one."),
        "password_changed": _("Your password is changed. You are signed out everywhere else."),
        "session_ended": _("The browser is signed out."),
        "app_added": _("Authenticator app set up. You are signed out everywhere else."),
        "passkey_added": _("Passkey added. You are signed out everywhere else."),
        "codes_shown_once": _(
            "Recovery codes are shown once. If you did not save them, create new ones below."
        ),
        "second_factor_removed": _("Second factor removed. You are signed out everywhere else."),
    }.get(code)
