"""A gateway that somebody adds to the product: this file, and nothing else."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain.gateways.interface import (
    GatewayPaymentState,
    Outcome,
    PaymentUpdate,
    WebhookEvent,
    WebhookRefused,
)
from domain.gateways.registry import GatewayKind
from domain.money import Money
from tests.gateways import ScriptedGateway

if TYPE_CHECKING:
    from domain.gateways.interface import InboundMessage
    from domain.gateways.registry import SettingsReader

NAME = "sepa"


@dataclass(frozen=True)
class AddedSettings:
    key: str


def _read_settings(reader: SettingsReader) -> AddedSettings | None:
    keys = reader.keys("SEPA_KEY")
    return None if keys is None else AddedSettings(keys[0])


class AddedGateway(ScriptedGateway):
    """Takes euros; its webhooks are signed with its key, as they are."""

    def __init__(self, settings: AddedSettings) -> None:
        super().__init__(name=NAME)
        self._key = settings.key

    def parse_webhook(self, message: InboundMessage) -> WebhookEvent:
        if not hmac.compare_digest(message.headers.get("x-key", ""), self._key):
            raise WebhookRefused(Outcome.BAD_SIGNATURE, "key")
        event = json.loads(message.body)
        update = PaymentUpdate(
            GatewayPaymentState.PAID,
            reference=event["reference"],
            gateway_payment_id=event["id"],
            amount=Money.from_minor_units(event["cents"], "EUR"),
        )
        return WebhookEvent(event["id"], "paid", (update,))


KIND = GatewayKind(
    name=NAME,
    title="SEPA Direct Debit",
    rank=35,
    currency_for=lambda country, currency: "EUR" if country == "FR" and currency == "EUR" else None,
    read_settings=_read_settings,
    client=f"{__name__}:AddedGateway",
)
