"""What people read when the domain says no: what happened, and what to do now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.i18n import N_, _

if TYPE_CHECKING:
    from domain.errors import BillingError

_TEXTS = {
    "not_found": N_("This is not here, or not for you to see. Go back to Billing."),
    "not_authorised": N_("Your role does not allow this. Ask an owner of the account."),
    "conflict": N_("Something has changed meanwhile. Load the page again."),
    "invalid_input": N_("Something in the address cannot be read. Reset the filters."),
    "rate_limited": N_("Too many attempts. Wait a little, then try again."),
}
_REASONS = {
    "last_owner": N_("An account keeps an owner. Make somebody else one first."),
    "already_a_member": N_("This person belongs to the account already."),
    "already_invited": N_("This address is invited already. You can send the mail again below."),
    "not_an_email": N_("This is not an email address."),
}


def text_of(error: BillingError) -> str:
    """Return the message for a refusal of the domain, in the reader's language."""
    reason = getattr(error, "reason", None)
    if reason in _REASONS:
        return _(_REASONS[reason])
    return _(_TEXTS.get(error.code, N_("This cannot be done now. Load the page again.")))
