"""VNPay: cards, bank accounts and wallets in Vietnam, in dong."""

from __future__ import annotations

from domain.gateways.registry import GatewayKind
from domain.gateways.vnpay.settings import read_settings


def _currency_for(country: str, _account_currency: str) -> str | None:
    return "VND" if country == "VN" else None


KIND = GatewayKind(
    name="vnpay",
    title="VNPay",
    rank=10,
    currency_for=_currency_for,
    read_settings=read_settings,
    client="domain.gateways.vnpay.client:VNPay",
    demo_values={
        "VNPAY_TMN_CODE": "DEMOTMN1",
        "VNPAY_HASH_SECRET": "DEMO-VNPAY-HASH-SECRET-0123456789",  # nosec B105 - known to all
    },
    webhook_methods=("GET",),
)
