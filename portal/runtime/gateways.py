"""The gateways of this process, as the settings have them, and the vault of their messages."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from domain.gateways.registry import gateway_kinds
from portal.runtime.process_state import shared
from portal.runtime.settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from domain.gateways.interface import Gateway
    from domain.security.payload_encryption import Vault
    from portal.runtime.settings import Settings

_log = logging.getLogger(__name__)


def gateways() -> Mapping[str, Gateway]:
    """Return every offered gateway by name. They keep connections and tokens."""
    return shared("gateways", _make)


def gateway_of(name: str) -> Gateway | None:
    """Return the gateway of that name, or None where it is not offered."""
    return gateways().get(name)


def gateway_faults(given: Settings) -> tuple[str, ...]:
    """Return a sentence for each gateway that is not offered because its settings are wrong."""
    return tuple(
        f"The gateway {name} is not offered: {' '.join(sentences)}"
        for name, sentences in given.gateways.faults.items()
    )


def log_gateway_faults(given: Settings) -> None:
    """Log every gateway that is not offered, with its invalid settings."""
    for fault in gateway_faults(given):
        _log.error("%s", fault)


def _make() -> dict[str, Gateway]:
    kinds = gateway_kinds()
    return {
        name: kinds[name].connect(chosen) for name, chosen in settings().gateways.by_name.items()
    }


@cache
def vault() -> Vault:
    """Return the vault that seals personal data, under keys that SECRET_KEY encrypts."""
    return settings().vault
