"""Read the settings of PayPal from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from domain.gateways.registry import SettingsReader

_API = "https://api-m.paypal.com"
_BRAND = "AI Marketplace"
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


@dataclass(frozen=True, slots=True)
class PayPalSettings:
    """An application's keys, its webhook's identifier, the API's address, and the shop's name.

    `api_base` is https://api-m.paypal.com, its sandbox's, or a stand-in on this computer.
    """

    client_id: str
    client_secret: str = field(repr=False)
    webhook_id: str = field(repr=False)
    api_base: str
    is_sandbox: bool
    brand_name: str

    @property
    def has_stand_in(self) -> bool:
        """Whether PayPal is played by a stand-in on this computer."""
        parts = urlsplit(self.api_base)
        return self.is_sandbox and parts.scheme == "http" and parts.hostname in _LOOPBACK


def read_settings(reader: SettingsReader) -> PayPalSettings | None:
    """Return how PayPal is reached, or None."""
    keys = reader.keys("PAYPAL_CLIENT_ID", "PAYPAL_CLIENT_SECRET", "PAYPAL_WEBHOOK_ID")
    if keys is None:
        return None
    api_base = reader.address("PAYPAL_API_URL", _API)
    if reader.uses_sandbox:
        api_base = f"{reader.sandbox_api}/paypal"
    settings = PayPalSettings(
        client_id=keys[0],
        client_secret=keys[1],
        webhook_id=keys[2],
        api_base=api_base,
        is_sandbox=reader.uses_sandbox or "sandbox" in api_base,
        brand_name=_BRAND,
    )
    if api_base.startswith("http://") and not settings.has_stand_in:
        reader.problems.append("PAYPAL_API_URL starts with https://.")
    return settings
