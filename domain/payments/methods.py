"""List the gateways of a billing country, and the currency in which each is paid there."""

from __future__ import annotations

from dataclasses import dataclass

from domain.gateways.registry import gateway_kinds

CONSENT_VERSION = "2026-11"
"""The version of the words that a customer agrees to before paying: new words, new version."""


@dataclass(frozen=True, slots=True)
class Method:
    """A gateway and the currency that is paid through it."""

    gateway: str
    currency: str


def methods_of(country: str, account_currency: str) -> tuple[Method, ...]:
    """Return the methods of a billing country, the usual one first."""
    offers = {
        name: kind.currency_for(country, account_currency) for name, kind in gateway_kinds().items()
    }
    return tuple(Method(name, currency) for name, currency in offers.items() if currency)
