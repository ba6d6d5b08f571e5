"""Why a voucher code gives nothing, in the reader's language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.errors import BillingError, NotAuthorised, RateLimited, VoucherRefused
from portal.ui import formats
from portal.ui.i18n import N_, _, ngettext
from portal.ui.labels import errors as error_labels
from portal.ui.labels.forms import wait_text

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext


LOST = N_("Your role changed; you can no longer redeem codes. Ask an owner of the account.")
_REFUSALS = {
    "unknown": N_("Code not found. Check its 10 letters and digits."),
    "used": N_("This code has already been used."),
    "revoked": N_("This code has been revoked. Ask the issuer of the code."),
    "not_for_this_account": N_("This code is for a different account."),
    "wrong_currency": N_("This code is for a different currency."),
    "wrong_site": N_("This code is for a different site."),
    "wrong_country": N_("This code is not for the country of your billing information."),
    "no_billing_profile": N_("Fill in your billing information first, under Settings."),
    "not_new": N_("This code is for new accounts only: before any top-up, voucher or usage."),
    "suspect": N_("This code cannot be used with this account. Please contact support."),
    "budget_spent": N_("The budget of this campaign is used up. Ask the issuer of the code."),
}
_REFUSALS_WITH_MOMENT = {
    "expired": N_("This code expired on {when}."),
    "not_yet": N_("This code can be used from {when}."),
}


def refusal(context: PageContext, error: BillingError) -> str:
    """Return the sentence for why a code gives nothing."""
    if isinstance(error, RateLimited):
        return wait_text(error.retry_after_seconds)
    if isinstance(error, NotAuthorised):
        return _(LOST)
    if not isinstance(error, VoucherRefused):
        return error_labels.text_of(error)
    if error.when is not None and error.reason in _REFUSALS_WITH_MOMENT:
        text = _(_REFUSALS_WITH_MOMENT[error.reason])
        return text.format(when=context.date_time(error.when))
    if error.limit is not None:
        text = ngettext(
            "Limit of {count} redemption per account reached.",
            "Limit of {count} redemptions per account reached.",
            error.limit,
        )
        return text.format(count=formats.number(error.limit))
    return _(_REFUSALS[error.reason])
