"""PayPal: orders and captures, refunds, disputes, and webhooks."""

from __future__ import annotations

from domain.gateways.paypal.settings import read_settings
from domain.gateways.registry import GatewayKind


def _currency_for(country: str, account_currency: str) -> str | None:
    # PayPal takes no dong, and yen are paid through Stripe there.
    return "USD" if country in {"JP", "VN"} else account_currency


KIND = GatewayKind(
    name="paypal",
    title="PayPal",
    rank=40,
    currency_for=_currency_for,
    read_settings=read_settings,
    client="domain.gateways.paypal.client:PayPal",
    demo_values={
        "PAYPAL_CLIENT_ID": "demo-client-id",
        "PAYPAL_CLIENT_SECRET": "demo-client-secret-0123456789",  # nosec B105 - known to all
        "PAYPAL_WEBHOOK_ID": "DEMO-WEBHOOK-ID-0123456789",
    },
    reviews_payments=True,
)
