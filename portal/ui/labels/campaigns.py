"""What people read about campaigns: their states, their terms, and what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.errors import BillingError, Conflict, InvalidInput, NotAuthorised
from portal.ui import formats
from portal.ui.i18n import N_, _
from portal.ui.labels import ledger as ledger_labels
from portal.ui.labels import top_up as top_up_labels
from portal.ui.labels.analytics import country

if TYPE_CHECKING:
    from collections.abc import Mapping

    from domain.vouchers import CampaignTerms, CurrencyTerms
    from portal.shell.page_context import PageContext

_STATES = {
    "requested": N_("Waiting for approval"),
    "approved": N_("Running"),
    "rejected": N_("Rejected"),
    "ended": N_("Ended"),
}
_KINDS = {"generated": N_("Generated"), "imported": N_("Imported")}
_FAULTS = {
    ("name", "empty"): N_("Enter a campaign name."),
    ("description", "empty"): N_("Enter a description for customers, such as Spring credit."),
    ("redeem_until", "too_early"): N_(
        "The last day must be today or later, and after the first day."
    ),
    ("validity_days", "out_of_range"): N_("The credit must be valid for 1 to {maximum} days."),
    ("code_budget", "out_of_range"): N_("Enter 1 to {maximum} codes."),
    ("uses_per_code", "out_of_range"): N_("Redemptions per code must be 1 to {maximum}."),
    ("uses_per_account", "out_of_range"): N_("Redemptions per account must be 1 to {maximum}."),
    ("offers", "empty"): N_("Choose at least one currency."),
    ("offers", "wrong_currency"): N_("No account at the chosen sites uses {currency}."),
    ("parts", "not_positive"): N_("Enter amounts above 0."),
    ("budget", "below_amount"): N_("The budget must cover at least one redemption."),
    ("minimum_top_up", "empty"): N_("Enter the minimum top-up."),
    ("minimum_top_up", "not_positive"): N_("The minimum top-up must be above 0."),
    ("count", "out_of_range"): N_("Generate 1 to {maximum} codes at a time."),
    ("accounts", "empty"): N_("Enter account numbers, one per line."),
    ("accounts", "too_many"): N_("Enter at most {maximum} account numbers at a time."),
    ("accounts", "twice"): N_("Account {account} is listed twice. No codes were generated."),
    ("accounts", "unknown"): N_("Account {account} was not found. No codes were generated."),
    ("accounts", "not_a_number"): N_(
        "Line {line} is not an account number. No codes were generated."
    ),
    ("codes", "empty"): N_("The file has no codes. Put one code per line, or in the first column."),
    ("codes", "too_many"): N_("Import at most {maximum} codes at a time."),
    ("codes", "not_a_code"): N_(
        "Line {line} is not a voucher code (10 letters and digits). No codes were imported."
    ),
    ("codes", "twice"): N_("Line {line} repeats a code. No codes were imported."),
    ("codes", "taken"): N_("Code {code} already exists. No codes were imported."),
    ("codes", "too_many_to_revoke"): N_(
        "Revoke at most {maximum} codes at a time. Choose a batch."
    ),
    ("codes", "not_readable"): N_("The file cannot be read. Use a text, CSV or Excel file."),
    ("codes", "too_large"): N_("The file is too large. Import at most 100,000 codes at a time."),
}
_CONFLICTS = {
    "name_is_taken": N_("Another campaign has this name. Choose another name."),
    "codes_changed": N_(
        "Nothing was changed: the number of codes that can be revoked has changed. Check the"
        " number, and confirm again."
    ),
    "campaign_not_approved": N_(
        "Codes can be generated only while the campaign is approved and running."
    ),
    "code_budget_spent": N_(
        "The campaign has fewer codes left than requested. Enter a smaller number."
    ),
}


def state(code: str) -> str:
    """Return how a campaign stands."""
    return _(_STATES[code])


def kind(code: str) -> str:
    """Return where a batch of codes comes from."""
    return _(_KINDS[code])


def refusal(error: BillingError) -> str:
    """Return the sentence for why something is not possible."""
    if isinstance(error, InvalidInput) and (error.field, error.reason) in _FAULTS:
        return _(_FAULTS[error.field, error.reason]).format(**error.values)
    if isinstance(error, Conflict) and error.reason in _CONFLICTS:
        return _(_CONFLICTS[error.reason])
    if isinstance(error, NotAuthorised):
        return _("Another finance member must do this.")
    return top_up_labels.refusal(error)


def amounts(terms: CampaignTerms) -> str:
    """Return what one redemption gives, by currency."""
    return " · ".join(formats.money(offer.amount) for offer in terms.offers)


def facts(context: PageContext, terms: CampaignTerms) -> Mapping[str, str]:
    """Return the terms in plain words, by name."""
    lines = {
        _("Description for customers"): terms.description,
        _("How to redeem"): _("Voucher code")
        if terms.trigger == "code"
        else _("First top-up, once per payment instrument"),
    }
    for offer in terms.offers:
        lines[offer.budget.currency] = _offer(offer)
    lines |= {
        _("From"): context.date_time(terms.redeem_from),
        _("Redeem by"): context.date_time(terms.redeem_until),
        _("Credit valid for"): formats.days(terms.validity_days),
        _("Eligible accounts"): _audience(terms),
    }
    if terms.trigger == "code":
        lines[_("Maximum codes")] = formats.number(terms.code_budget)
        lines[_("Redemption limit")] = _("{code} per code, {account} per account").format(
            code=formats.number(terms.uses_per_code), account=formats.number(terms.uses_per_account)
        )
    if terms.is_for_support:
        lines[_("Support")] = _("Can issue vouchers of this campaign")
    if terms.blocks_suspects:
        lines[_("Abuse check")] = _("Linked accounts are rejected")
    return lines


def _offer(offer: CurrencyTerms) -> str:
    parts = " + ".join(
        _("{amount} for {services}").format(
            amount=formats.money(part.amount),
            services=", ".join(ledger_labels.service(slug) for slug in part.services)
            if part.services
            else _("all services"),
        )
        for part in offer.parts
    )
    text = _("{parts}; budget {budget}").format(parts=parts, budget=formats.money(offer.budget))
    if offer.minimum_top_up is None:
        return text
    least = _("minimum top-up {amount}").format(amount=formats.money(offer.minimum_top_up))
    return f"{text}; {least}"


def _audience(terms: CampaignTerms) -> str:
    parts = []
    if terms.is_for_named_accounts:
        parts.append(_("accounts with their own code"))
    if terms.is_for_new_accounts:
        parts.append(_("new accounts"))
    if terms.site_codes:
        parts.append(_("sites {names}").format(names=", ".join(terms.site_codes)))
    if terms.countries:
        names = ", ".join(country(code) for code in terms.countries)
        parts.append(_("billed in {names}").format(names=names))
    return "; ".join(parts) or _("all accounts")
