"""Which gateways a billing country has, and in which currency each is paid there."""

from __future__ import annotations

from dataclasses import dataclass

CONSENT_VERSION = "2026-11"
"""The version of the words that a customer agrees to before paying: new words, new version."""


@dataclass(frozen=True, slots=True)
class Method:
    """A gateway and the currency that is paid through it."""

    gateway: str
    currency: str


_OF_COUNTRY = {
    "VN": (Method("vnpay", "VND"), Method("paypal", "USD")),
    "JP": (Method("stripe", "JPY"), Method("paypal", "USD")),
}


def methods_of(country: str, account_currency: str) -> tuple[Method, ...]:
    """Return the methods of a billing country, the usual one first."""
    return _OF_COUNTRY.get(country, (Method("paypal", account_currency),))
