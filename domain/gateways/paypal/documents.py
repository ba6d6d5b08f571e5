"""Read parts of PayPal's documents, or reject them: amounts, moments and lists."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from domain.errors import BillingError
from domain.gateways.guards import optional_text, required_text, sane_moment
from domain.gateways.interface import Limits
from domain.money import Money

Document = dict[str, Any]
MAX_USD, MAX_EUR, MAX_GBP, MAX_JPY = 10_000, 8_000, 5_500, 1_000_000
CURRENCIES: dict[str, int | None] = {
    "AUD": None,
    "BRL": None,
    "CAD": None,
    "CHF": None,
    "CNY": None,
    "CZK": None,
    "DKK": None,
    "EUR": MAX_EUR,
    "GBP": MAX_GBP,
    "HKD": None,
    "HUF": None,
    "ILS": None,
    "JPY": MAX_JPY,
    "MXN": None,
    "MYR": None,
    "NOK": None,
    "NZD": None,
    "PHP": None,
    "PLN": None,
    "SEK": None,
    "SGD": None,
    "THB": None,
    "TWD": None,
    "USD": MAX_USD,
}
"""What PayPal takes, and most of it. BRL, CNY and MYR only into accounts of their countries."""
WITHOUT_DECIMALS = frozenset(("HUF", "JPY", "TWD"))
"""Currencies that PayPal takes in whole units alone, whatever ISO 4217 says of them."""
_DECIMALS = 2
_AMOUNT = re.compile(r"(-?)(\d{1,15}(?:\.\d{1,2})?)", re.ASCII)


def limits(currency: str) -> Limits | None:
    """Return what PayPal takes of a currency in one payment, or None where it does not take it."""
    if currency not in CURRENCIES:
        return None
    smallest = Decimal(1).scaleb(-decimals_of(currency))
    largest = CURRENCIES[currency]
    return Limits(
        Money.from_decimal(smallest, currency),
        None if largest is None else Money.from_decimal(Decimal(largest), currency),
    )


def wire_amount(amount: Money) -> dict[str, str]:
    """Return an amount as PayPal wants it; raise ValueError where it has too many decimals."""
    exact = amount.to_decimal()
    rounded = exact.quantize(Decimal(1).scaleb(-decimals_of(amount.currency)))
    if rounded != exact:
        raise ValueError("too many decimals")
    return {"currency_code": amount.currency, "value": f"{rounded:f}"}


def decimals_of(currency: str) -> int:
    """Return how many decimals amounts of a currency have."""
    return 0 if currency in WITHOUT_DECIMALS else _DECIMALS


def read_amount(found: object) -> Money:
    """Return an amount of a document, without its sign; raise ValueError where it is none."""
    values = read_document(found)
    match = _AMOUNT.fullmatch(required_text(values.get("value")))
    if match is None:
        raise ValueError("not an amount")
    try:
        amount = Money.from_decimal(Decimal(match[2]), required_text(values.get("currency_code")))
        amount.to_minor_units()
    except BillingError:
        raise ValueError("not an amount of its currency") from None
    return amount


def read_document(found: object) -> Document:
    """Return what was found where a document stands; raise ValueError for anything else."""
    if not isinstance(found, dict):
        raise ValueError("not a document")  # noqa: TRY004 - what is read is wrong, not the call
    return found


def read_list(found: object) -> list[object]:
    """Return what was found where a list stands; raise ValueError for anything else."""
    if not isinstance(found, list):
        raise ValueError("not a list")  # noqa: TRY004 - as above
    return found


def read_latest_change(found: Document) -> datetime | None:
    """Return when something last changed, or None where that is not said."""
    text = optional_text(found.get("update_time")) or optional_text(found.get("create_time"))
    return None if text is None else read_moment(text)


def read_creation(found: Document) -> datetime | None:
    """Return when something was made, or None where that is not said."""
    text = optional_text(found.get("create_time"))
    return None if text is None else read_moment(text)


def read_moment(text: str) -> datetime:
    """Return a moment; raise ValueError where it is none, or of no time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return sane_moment(moment)


"""Most of a currency in one payment, in whole units: what PayPal published, a safe choice still.

Today PayPal's own limit depends on the account, and it refuses what lies above.
"""
