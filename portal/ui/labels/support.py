"""What staff read about acts on accounts: their names, what became of them, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.errors import BillingError, Conflict, InvalidInput, VoucherRefused
from domain.permissions import allows
from portal.ui import approval_buttons, formats
from portal.ui.i18n import N_, _
from portal.ui.labels import ledger as ledger_labels
from portal.ui.labels import top_up as top_up_labels
from portal.ui.labels import vouchers

if TYPE_CHECKING:
    from domain.support import Allowance
    from domain.support.queries import RequestView
    from portal.shell.page_context import PageContext

ACTIONS = {
    "issue_voucher": N_("Issue a voucher"),
    "apply_code": N_("Apply a voucher code"),
    "give_goodwill": N_("Grant goodwill credit"),
    "reverse_entry": N_("Reverse an entry"),
}
LIMITED_ACTIONS = {**ACTIONS, "refund_payment": N_("Refund a payment")}
"""The acts of an account's page, and those of other pages that have a limit too."""
_COMPLETED = {
    "issue_voucher": N_(
        "Voucher of {amount} issued. The customer can redeem it under Voucher list."
    ),
    "apply_code": N_("Voucher code applied: {amount} of voucher credit granted to {account}."),
    "give_goodwill": N_("Goodwill credit of {amount} granted to {account}."),
    "reverse_entry": N_("Entry reversed: {amount} on {account}."),
}
_ABOVE = {
    "reverse_entry": N_(
        "Above your limit: you have reversed {used} of {limit} on this account within 24 hours."
    ),
    "refund_payment": N_(
        "Above your limit: you have refunded {used} of {limit} within 24 hours, for all accounts."
    ),
}
_GIVEN_ABOVE = N_(
    "Above your limit: you have granted this account {used} of {limit} within 24 hours."
)
_STATES = {
    "requested": N_("Waiting"),
    "approved": N_("Approved"),
    "rejected": N_("Rejected"),
    "withdrawn": N_("Withdrawn"),
    "expired": N_("Expired"),
}
_VOUCHERS = {
    "not_for_support": N_(
        "Support cannot issue vouchers of this campaign. Choose another campaign."
    ),
    "revoked": N_("The campaign has ended, or the code was revoked."),
    "wrong_country": N_(
        "The campaign is not available in the country of the customer's billing information."
    ),
    "suspect": N_("This campaign is not open to linked accounts. See the flags above."),
    "no_billing_profile": N_(
        "Billing information is missing. Ask the customer to fill it in under Billing, Settings."
    ),
}
_FAULTS = {
    ("amount", "not_positive"): N_("Enter an amount above 0."),
    ("days", "out_of_range"): N_("Choose 1 to {maximum} days."),
    ("entry", "not_reversible"): N_(
        "This entry cannot be reversed. To claw back top-up credit, refund its payment."
    ),
    ("entry_number", "empty"): N_("Enter the entry number from Credit History."),
    ("text", "empty"): N_("Enter a note."),
    ("daily", "out_of_range"): N_("Enter 0 or more."),
}
_CONFLICTS = {
    "maker_may_not": N_(
        "The requester no longer has permission. Reject the request, and have it requested again."
    ),
    "limits_changed": N_("Another person has changed this limit. Reload the page."),
    "code_budget_spent": N_("No codes are left in this campaign. Choose another campaign."),
    "campaign_not_approved": N_("This campaign is not running. Choose another campaign."),
}
_CODES = {
    ("reversal_exceeds_original", ""): N_(
        "The amount is more than can be reversed. Spent voucher and goodwill credit is not"
        " reversed."
    ),
    ("not_authorised", ""): N_("Your role does not allow this."),
    ("not_found", "entry"): N_("Entry not found on this account."),
}


def action(code: str) -> str:
    """Return the name of an act."""
    return _(LIMITED_ACTIONS.get(code, code))


def completed(code: str) -> str:
    """Return the sentence for a completed act, with places for `amount` and `account`."""
    return _(_COMPLETED[code])


def state(code: str) -> str:
    """Return what became of a request."""
    return _(_STATES.get(code, code))


def what(request: RequestView) -> str:
    """Return what a request asks for, besides its amount."""
    code, parameters = request.action, request.parameters
    if code == "issue_voucher":
        return _("Voucher of campaign {name}").format(name=request.campaign or "")
    if code == "apply_code":
        return _("Code ending in {end}").format(end=str(parameters["code"])[-4:])
    if code == "reverse_entry":
        text = (
            _("Entry {number}, including spent credit")
            if parameters.get("includes_spent")
            else _("Entry {number}")
        )
        return text.format(number=parameters["entry_sequence"])
    if code == "refund_payment":
        return _("Payment {reference}").format(reference=request.payment_reference or "")
    lasting = _("Valid for {days}").format(days=formats.days(parameters["days"]))
    services = parameters.get("services")
    if not services:
        return lasting
    return f"{lasting} · {', '.join(ledger_labels.service(slug) for slug in services)}"


def allowance_left(allowance: Allowance) -> str:
    """Return how much of a limit is left for the person who reads it."""
    text = (
        _("{left} of {limit} left for this account in 24 hours.")
        if allowance.is_by_account
        else _("{left} of {limit} left for all accounts in 24 hours.")
    )
    return text.format(left=formats.money(allowance.left), limit=formats.money(allowance.limit))


def approved_by(context: PageContext) -> str:
    """Return who approves what is above the limit of the person who reads it."""
    if allows(context.visitor.actor, "decide_request"):
        return _("Amounts above that need approval by another finance member.")
    return _("Amounts above that need approval by a finance member.")


def why_it_waits(code: str, allowance: Allowance) -> str:
    """Return why an action is above the limit of the person who asked for it."""
    if allowance.used.micros:
        text = _(_ABOVE.get(code, _GIVEN_ABOVE))
    elif allowance.is_by_account:
        text = _("Above your limit of {limit} for one account in 24 hours.")
    else:
        text = _("Above your limit of {limit} for all accounts in 24 hours.")
    return text.format(used=formats.money(allowance.used), limit=formats.money(allowance.limit))


def allowance_of_requester(allowance: Allowance) -> str:
    """Return the limit of whoever requested something, and what of it is used, for the approver."""
    text = (
        _("{limit} for one account in 24 hours, {used} used for this account")
        if allowance.is_by_account
        else _("{limit} for all accounts in 24 hours, {used} used")
    )
    return text.format(used=formats.money(allowance.used), limit=formats.money(allowance.limit))


def refusal(context: PageContext, error: BillingError, currency: str | None = None) -> str:
    """Return why an act, or a decision, is not possible; `currency` is that of typed amounts."""
    happened = approval_buttons.what_happened(context, error)
    if happened is not None:
        return happened
    if isinstance(error, VoucherRefused):
        own = _VOUCHERS.get(error.reason)
        return _(own) if own else vouchers.refusal(context, error)
    if isinstance(error, InvalidInput) and (error.field, error.reason) in _FAULTS:
        return _(_FAULTS[error.field, error.reason]).format(**error.values)
    if isinstance(error, Conflict) and error.reason in _CONFLICTS:
        return _(_CONFLICTS[error.reason])
    named = _CODES.get((error.code, getattr(error, "kind", "")))
    return _(named) if named else top_up_labels.refusal(error, currency)
