"""What people read when the domain says no: what happened, and what to do now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from portal.ui.i18n import N_, _, ngettext

if TYPE_CHECKING:
    from domain.errors import BillingError

_TEXTS = {
    "not_found": N_("Not found, or you do not have access. Go back to Billing."),
    "not_authorised": N_("Your role does not allow this. Ask an owner of the account."),
    "conflict": N_("The data has changed. Reload the page."),
    "invalid_input": N_("The page address has an invalid filter. Reset the filters."),
    "rate_limited": N_("Too many attempts. Wait a few minutes, then try again."),
}
_REASONS = {
    "email_taken": N_("This address already has a sign-in. Sign in instead."),
    "imported_with_other_accounts": N_(
        "This file was already imported for other accounts. Import it with the same accounts."
    ),
    "second_factor_exists": N_("Two-factor authentication is already set up. Sign in with it."),
    "tax_policy_is_in_force": N_("A tax policy that is in force cannot be changed. Add a new one."),
    "last_owner": N_("An account needs an owner. Make another member an owner first."),
    "already_a_member": N_("This person is already a member of the account."),
    "already_invited": N_(
        "This address is already invited. To email a new link, select Send again under Open"
        " invitations above."
    ),
    "already_requested": N_(
        "The same request is already waiting for approval. To change it, withdraw it under"
        " Approvals."
    ),
    "role_request_open": N_(
        "Another change for this person is waiting under Requests. Approve, reject or withdraw"
        " that request first."
    ),
    "last_admin": N_("This is the last administrator. Assign that role to another person first."),
    "staff_role": N_(
        "You have a staff role, or a request for one. Use another email address for a"
        " customer account."
    ),
    "has_role": N_("This person already has a role. Change it under Change a person."),
    "has_sign_in": N_("This person already has a sign-in. Assign the role under Assign a role."),
    "invited_with_another_role": N_(
        "This address is already invited with another role. Withdraw that invitation first."
    ),
    "invitation_over": N_("Nothing was changed: the invitation has been used or withdrawn."),
    "too_many_invitations": N_("Too many invitations are open. Withdraw some first."),
    "not_an_email": N_("This is not an email address."),
}

_FAULTS = {
    ("quote", "another_amount"): N_("This quote is for a different amount. Get a new quote."),
    ("expires_at", "before_start"): N_("The expiry date must be after the start date."),
    ("expires_at", "in_past"): N_("The expiry date must be in the future."),
    ("hold_number", "capture_is_not_refusable"): N_("A captured hold cannot be declined."),
    ("hold_number", "other_service"): N_("This hold is for another service."),
    ("quantities", "missing"): N_("A meter quantity is missing."),
    ("quantities", "negative"): N_("Usage quantities cannot be negative."),
    ("amount_micros", "more_than_owed"): N_("The amount is higher than the amount due."),
    ("consideration_micros", "negative"): N_("The price paid for credit cannot be negative."),
    ("exact_micros", "negative"): N_("The amount of a charge cannot be negative."),
    ("site", "no_tax_policy"): N_("This site has no tax policy for this date. Add one first."),
    ("occurred_at", "no_time_zone"): N_("Add a time zone to the time."),
    ("time_zone", "not_a_place"): N_("Enter an IANA time zone, such as Asia/Tokyo."),
    ("time_zone", "not_known"): N_("This time zone does not exist. Use one such as Asia/Tokyo."),
    ("currency", "not_at_this_site"): N_("This currency is not available on this site."),
    ("lines", "not_balanced"): N_("The lines of a journal entry must balance in each currency."),
    ("lines", "unknown_account"): N_("The chart of accounts has no account with this code."),
    ("minimum_top_up", "not_for_codes"): N_("Only starter packs have a minimum top-up."),
    ("method", "not_in_this_country"): N_("This payment method is not available in your country."),
    ("method", "not_in_this_currency"): N_("This payment method does not accept this currency."),
    ("quote_currency", "same_currency"): N_("Choose two different currencies."),
    ("period", "unusable"): N_("The page address has an invalid period. Reset the filters."),
    ("tax_code", "wrong_format"): N_("The tax code does not have the format of your country."),
}
"""By field and reason, where a reason alone does not say what to do."""

_MINUTE_SECONDS = 60
_HOUR_MINUTES = 60
_MAX_SHOWN_IN_MINUTES = 90
_TOO_LONG = frozenset(("57014", "55P03"))
"""SQLSTATEs of a statement that took too long, or waited too long for another."""


def text_of_failure(error: Exception, error_id: str) -> str:
    """Return the message for what nobody foresaw: what to do, and the number that the log has."""
    if isinstance(error, PoolExhausted):
        text = _("The portal is busy. Try again in a minute. ({id})")
    elif isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) in _TOO_LONG:
        text = _(
            "This request took too long. Choose a shorter period or fewer rows, or try"
            " again. ({id})"
        )
    elif is_passing(error):
        text = _("The portal is restarting. Try again in a minute. ({id})")
    else:
        text = _(
            "Something went wrong. If it happens again, contact support with this number: {id}"
        )
    return text.format(id=error_id)


def is_passing(error: Exception) -> bool:
    """Whether it is worth trying again: the database is away, at its limit, or too slow."""
    is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return is_lost or isinstance(error, InterfaceError | OperationalError | PoolExhausted)


def text_of(error: BillingError) -> str:
    """Return the message for a refusal of the domain, in the reader's language."""
    reason = getattr(error, "reason", None)
    fault = _FAULTS.get((getattr(error, "field", ""), reason or ""))
    if fault is not None:
        return _(fault)
    if reason in _REASONS:
        return _(_REASONS[reason])
    return _(_TEXTS.get(error.code, N_("This cannot be done now. Reload the page.")))


def invitations_wait(seconds: int) -> str:
    """Return that invitations are too many, and when the next one may be sent."""
    return _("Too many invitations. Try again in {time}.").format(time=_time(seconds))


def changes_wait(count: int, seconds: int) -> str:
    """Return that one administrator has made all changes of staff that an hour has room for."""
    text = _(
        "You have made {count} changes within an hour. Wait {time}. You can still disable"
        " people and sign them out."
    )
    return text.format(count=count, time=_time(seconds))


def _time(seconds: int) -> str:
    """Return a time to wait, rounded up: a try that comes too early is refused again."""
    minutes = -(-seconds // _MINUTE_SECONDS)
    if seconds < _MINUTE_SECONDS:
        return ngettext("{count} second", "{count} seconds", seconds).format(count=seconds)
    if minutes <= _MAX_SHOWN_IN_MINUTES:
        return ngettext("{count} minute", "{count} minutes", minutes).format(count=minutes)
    hours = -(-minutes // _HOUR_MINUTES)
    return ngettext("{count} hour", "{count} hours", hours).format(count=hours)
