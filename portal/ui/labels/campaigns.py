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
    ("name", "empty"): N_("Give the campaign a name."),
    ("description", "empty"): N_("Write what the customer reads, such as Spring credit."),
    ("redeem_until", "too_early"): N_("The last day is today or later, and after the first."),
    ("validity_days", "out_of_range"): N_("The credit lasts 1 to {maximum} days."),
    ("code_budget", "out_of_range"): N_("A campaign has 1 to {maximum} codes."),
    ("uses_per_code", "out_of_range"): N_("A code can be used 1 to {maximum} times."),
    ("uses_per_account", "out_of_range"): N_("An account can use it 1 to {maximum} times."),
    ("offers", "empty"): N_("Choose at least one currency."),
    ("offers", "wrong_currency"): N_("No account of the chosen sites has {currency}."),
    ("parts", "not_positive"): N_("Enter amounts above 0."),
    ("budget", "below_amount"): N_("The budget covers at least one redemption."),
    ("minimum_top_up", "empty"): N_("Enter the least top-up that earns it."),
    ("minimum_top_up", "not_positive"): N_("The least top-up is above 0."),
    ("count", "out_of_range"): N_("Make 1 to {maximum} codes at once."),
    ("accounts", "empty"): N_("Enter the accounts' numbers, one on each line."),
    ("accounts", "too_many"): N_("Name {maximum} accounts at once, or fewer."),
    ("accounts", "twice"): N_("Account {account} stands there twice. No code was made."),
    ("accounts", "unknown"): N_("There is no account {account}. No code was made."),
    ("accounts", "not_a_number"): N_("Line {line} is no account's number. No code was made."),
    ("codes", "empty"): N_("The file has no codes: one on each line, or in its first column."),
    ("codes", "too_many"): N_("Bring in {maximum} codes at once, or fewer."),
    ("codes", "not_a_code"): N_(
        "Line {line} is no code: ten letters and digits. Nothing was brought in."
    ),
    ("codes", "twice"): N_("Line {line} has a code a second time. Nothing was brought in."),
    ("codes", "taken"): N_("The code {code} exists already. Nothing was brought in."),
    ("codes", "too_many_to_revoke"): N_("Revoke at most {maximum} codes at a time: by batch."),
    ("codes", "not_readable"): N_("This is no text, CSV or Excel file that can be read."),
    ("codes", "too_large"): N_("The file is too large. Bring in 100,000 codes at once, or fewer."),
}
_CONFLICTS = {
    "name_is_taken": N_("Another campaign has this name. Choose another."),
    "codes_changed": N_(
        "Nothing was changed: the number of codes that can be revoked has changed. Look at it, and"
        " confirm it again."
    ),
    "campaign_not_approved": N_("Codes are made once it is approved, and while it runs."),
    "code_budget_spent": N_("That is more codes than the campaign has left."),
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
        return _("This is for somebody else of finance to do.")
    return top_up_labels.refusal(error)


def amounts(terms: CampaignTerms) -> str:
    """Return what one redemption gives, by currency."""
    return " · ".join(formats.money(offer.amount) for offer in terms.offers)


def facts(context: PageContext, terms: CampaignTerms) -> Mapping[str, str]:
    """Return the terms in plain words, by name."""
    lines = {
        _("The customer reads"): terms.description,
        _("Earned by"): _("A code")
        if terms.trigger == "code"
        else _("The first top-up, once a payment instrument"),
    }
    for offer in terms.offers:
        lines[offer.budget.currency] = _offer(offer)
    lines |= {
        _("From"): context.date_time(terms.redeem_from),
        _("Until"): context.date_time(terms.redeem_until),
        _("The credit lasts"): formats.days(terms.validity_days),
        _("For"): _audience(terms),
    }
    if terms.trigger == "code":
        lines[_("Codes at most")] = formats.number(terms.code_budget)
        lines[_("Uses")] = _("{code} a code, {account} an account").format(
            code=formats.number(terms.uses_per_code), account=formats.number(terms.uses_per_account)
        )
    if terms.is_for_support:
        lines[_("Support")] = _("Can issue vouchers of it to an account")
    if terms.blocks_suspects:
        lines[_("Abuse")] = _("Refused to accounts that look like somebody's second one")
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
    least = _("top-up of {amount} or more").format(amount=formats.money(offer.minimum_top_up))
    return f"{text}; {least}"


def _audience(terms: CampaignTerms) -> str:
    parts = []
    if terms.is_for_named_accounts:
        parts.append(_("accounts that a code was made for"))
    if terms.is_for_new_accounts:
        parts.append(_("new accounts"))
    if terms.site_codes:
        parts.append(_("sites {names}").format(names=", ".join(terms.site_codes)))
    if terms.countries:
        names = ", ".join(country(code) for code in terms.countries)
        parts.append(_("billed in {names}").format(names=names))
    return "; ".join(parts) or _("everybody")
