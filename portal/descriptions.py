"""Names and sentences for what the ledger keeps as codes, in the reader's language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portal import formats
from portal.i18n import N_, _, ngettext

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = {
    "top_up": N_("Top-up"),
    "voucher": N_("Voucher"),
    "plan": N_("Plan"),
    "adjustment": N_("Goodwill"),
    "charge": N_("Usage"),
    "expiry": N_("Expiry"),
    "refund": N_("Refund"),
    "dispute": N_("Dispute"),
    "write_off": N_("Debt written off"),
    "reversal": N_("Reversal"),
    "settlement_of_debt": N_("Debt settled"),
    "hold": N_("Hold"),
    "overdraft": N_("Owed"),
}
_CREDIT_KINDS = {
    "plan": N_("Plan credit"),
    "voucher": N_("Voucher credit"),
    "adjustment": N_("Goodwill credit"),
    "top_up": N_("Top-up credit"),
    "overdraft": N_("Owed"),
}
_STATUSES = {
    "success": N_("Success"),
    "failed": N_("Failed"),
    "processing": N_("Processing"),
}
_GRANT_STATUSES = {
    "active": N_("Active"),
    "held": N_("Held"),
    "scheduled": N_("Not started"),
    "ended": N_("Ended"),
}
_REASONS = {
    "insufficient_credit": N_("not enough credit"),
    "account_frozen": N_("the account is frozen"),
    "in_debt": N_("the account owes money"),
    "too_old": N_("it was reported too late"),
}
_SOURCES = {
    "system": N_("System"),
    "bank": N_("Bank transfer"),
    "voucher": N_("Voucher"),
    "plan": N_("Plan"),
    "adjustment": N_("Goodwill"),
    "vnpay": "VNPay",
    "stripe": "Stripe",
    "paypal": "PayPal",
}


def kind(code: str) -> str:
    """Return the name of a kind of entry."""
    return _(_KINDS.get(code, code))


def credit_kind(code: str) -> str:
    """Return the name of a kind of credit."""
    return _(_CREDIT_KINDS.get(code, code))


def status(code: str) -> str:
    """Return the name of a row's status."""
    return _(_STATUSES.get(code, code))


def grant_status(code: str) -> str:
    """Return the name of a grant's status."""
    return _(_GRANT_STATUSES.get(code, code))


def reason(code: str) -> str:
    """Return why something was refused, as the end of a sentence."""
    return _(_REASONS.get(code, code))


def source(code: str) -> str:
    """Return what moved the money or used the credit; resources keep their own names."""
    return _(_SOURCES[code]) if code in _SOURCES else code


def service(slug: str, names: Mapping[str, str]) -> str:
    """Return the name of a service, of a gateway, or of the system."""
    return names.get(slug) or source(slug)


def description(code: str, parameters: Mapping[str, Any]) -> str:
    """Return the sentence that a description code and its parameters stand for."""
    if code == "usage":
        return _usage(parameters)
    if code == "reversal":
        return _("Reversal of entry {number}").format(number=parameters.get("reverses", ""))
    if code == "expiry":
        name = credit_kind(str(parameters.get("grant_kind", "")))
        return _("{credit} expired").format(credit=name)
    given = parameters.get("origin") or parameters.get("reason") or ""
    name = kind(code)
    return f"{name} · {given}" if given else name


def _usage(parameters: Mapping[str, Any]) -> str:
    calls = int(parameters.get("calls", 0))
    quantities = parameters.get("quantities")
    if not isinstance(quantities, dict) or not calls:
        return _("Usage")
    words = [ngettext("{count} call", "{count} calls", calls).format(count=formats.number(calls))]
    words += [
        f"{formats.number(formats.quantity(value))} {str(name).replace('-', ' ')}"
        for name, value in quantities.items()
    ]
    return " · ".join(words)
