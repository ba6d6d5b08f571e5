"""Cards in dollars and euros outside Japan, by a Stripe account, where the settings name one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.gateways.registry import GatewayKind
from domain.gateways.stripe.settings import read_account

if TYPE_CHECKING:
    from domain.gateways.registry import SettingsReader
    from domain.gateways.stripe.settings import StripeSettings

_NAME = "stripe_cards"
_CURRENCIES = frozenset(("USD", "EUR"))
_DEMO_SECRETS = ("sk_test_cards_0123456789", "whsec_cards_0123456789")


def _currency_for(country: str, account_currency: str) -> str | None:
    is_offered = country not in {"JP", "VN"} and account_currency in _CURRENCIES
    return account_currency if is_offered else None


def _read_settings(reader: SettingsReader) -> StripeSettings | None:
    """Return the account; a demo has the stand-in's with STRIPE_CARDS=1."""
    is_given = reader.text("STRIPE_CARDS_SECRET_KEY") or reader.text("STRIPE_CARDS_WEBHOOK_SECRETS")
    if not is_given and reader.text("STRIPE_CARDS") != "1":
        return None
    return read_account(reader, "STRIPE_CARDS", _NAME, _CURRENCIES)


KIND = GatewayKind(
    name=_NAME,
    title="Stripe (cards)",
    rank=30,
    currency_for=_currency_for,
    read_settings=_read_settings,
    client="domain.gateways.stripe.client:StripeCheckout",
    demo_values=dict(
        zip(("STRIPE_CARDS_SECRET_KEY", "STRIPE_CARDS_WEBHOOK_SECRETS"), _DEMO_SECRETS, strict=True)
    ),
)
