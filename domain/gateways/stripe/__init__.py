"""Stripe in Japan: cards and convenience stores, in yen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.gateways.registry import GatewayKind
from domain.gateways.stripe.settings import NAME, read_account

if TYPE_CHECKING:
    from domain.gateways.registry import SettingsReader
    from domain.gateways.stripe.settings import StripeSettings


def _currency_for(country: str, _account_currency: str) -> str | None:
    return "JPY" if country == "JP" else None


def _read_settings(reader: SettingsReader) -> StripeSettings | None:
    return read_account(reader, "STRIPE", NAME)


KIND = GatewayKind(
    name=NAME,
    title="Stripe",
    rank=20,
    currency_for=_currency_for,
    read_settings=_read_settings,
    client="domain.gateways.stripe.client:StripeCheckout",
    demo_values={
        "STRIPE_SECRET_KEY": "sk_test_demo_0123456789",  # nosec B105 - the demo's, known to all
        "STRIPE_WEBHOOK_SECRETS": "whsec_demo_0123456789",
    },
)
