"""What settings say of each of the product's own gateways, by its type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from domain.gateways.paypal.settings import PayPalSettings
from domain.gateways.stripe.settings import StripeSettings
from domain.gateways.vnpay.settings import VNPaySettings

if TYPE_CHECKING:
    from portal.runtime.gateway_settings import GatewaySettings

T = TypeVar("T")


@dataclass(frozen=True)
class ChosenGateways:
    """The settings of each gateway, or None where it is not offered."""

    settings: GatewaySettings

    @property
    def vnpay(self) -> VNPaySettings | None:
        return self._of("vnpay", VNPaySettings)

    @property
    def stripe(self) -> StripeSettings | None:
        return self._of("stripe", StripeSettings)

    @property
    def stripe_cards(self) -> StripeSettings | None:
        return self._of("stripe_cards", StripeSettings)

    @property
    def paypal(self) -> PayPalSettings | None:
        return self._of("paypal", PayPalSettings)

    def _of(self, name: str, kind: type[T]) -> T | None:
        found = self.settings.by_name.get(name)
        assert found is None or isinstance(found, kind)
        return found
