"""The gateways that the product knows: each module of this package that has a `KIND`.

To add one, write a module or package beside the others with a `KIND`; nothing else of the code
names gateways. What customers read about it (portal/ui/labels/gateways.py) and a stand-in for the
demo (sandbox/) may follow.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from domain import gateways

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from domain.gateways.interface import Gateway

BANK = "bank"
"""Bank transfers: people record and approve them, and no gateway is asked."""


class SettingsReader(Protocol):
    """The variables of one gateway, as a `KIND` reads them; what is wrong goes into `problems`."""

    problems: list[str]
    sandbox_url: str
    """Where browsers reach the gateway's stand-in, if `uses_sandbox`."""
    sandbox_api: str
    """Where the portal reaches it."""
    uses_sandbox: bool
    """Whether the stand-in takes the gateway's place: true only after `keys`."""

    def text(self, name: str) -> str | None:
        """Return a variable, or None where it is empty."""

    def parts(self, name: str) -> tuple[str, ...]:
        """Return the parts of a variable between commas."""

    def keys(self, *names: str) -> tuple[str, ...] | None:
        """Return what the gateway knows us by, the demo's included; None where nothing is given."""

    def address(self, name: str, default: str) -> str:
        """Return an address that starts with https://, without a slash at its end."""


@dataclass(frozen=True, slots=True)
class GatewayKind:
    """What the product has to know of a gateway before it is spoken to.

    `rank` orders gateways on screen, the lowest first. `currency_for` returns the currency that is
    paid in, by billing country and the account's currency, or None where it is not offered.
    `client` is the import path of the class that `read_settings` makes settings for: importing it
    may take long. `demo_values` are the variables' values in the demo, which nothing else takes.
    """

    name: str
    title: str
    rank: int
    currency_for: Callable[[str, str], str | None]
    read_settings: Callable[[SettingsReader], object | None]
    client: str
    demo_values: Mapping[str, str] = field(default_factory=dict)
    webhook_methods: tuple[str, ...] = ("POST",)
    reviews_payments: bool = False
    """Whether it may hold money for a review of its own after the customer has paid."""

    def connect(self, settings: object) -> Gateway:
        """Return the gateway of these settings."""
        make: Callable[[Any], Gateway] = pkgutil.resolve_name(self.client)
        return make(settings)


_registered: dict[str, GatewayKind] = {}


def register(kind: GatewayKind) -> None:
    """Add a gateway that lives outside of this package, such as a company's own.

    Raises ValueError where its name is taken.
    """
    if kind.name == BANK or kind.name in gateway_kinds():
        raise ValueError(f"there is a gateway {kind.name} already")
    _registered[kind.name] = kind


def unregister(name: str) -> None:
    """Remove a gateway that was added by `register`."""
    del _registered[name]


def gateway_kinds() -> dict[str, GatewayKind]:
    """Return every gateway by its name, in the order of their ranks."""
    kinds = (*_built_in(), *_registered.values())
    return {kind.name: kind for kind in sorted(kinds, key=lambda kind: kind.rank)}


def gateway_names() -> tuple[str, ...]:
    """Return the names that payments may have, the bank's last."""
    return (*gateway_kinds(), BANK)


def reviews_payments(name: str) -> bool:
    """Return whether a gateway may hold a payment for a review of its own."""
    kind = gateway_kinds().get(name)
    return kind is not None and kind.reviews_payments


@cache
def _built_in() -> tuple[GatewayKind, ...]:
    modules = (
        importlib.import_module(found.name)
        for found in pkgutil.iter_modules(gateways.__path__, f"{gateways.__name__}.")
        if found.name != __name__
    )
    kinds = (getattr(module, "KIND", None) for module in modules)
    return tuple(kind for kind in kinds if isinstance(kind, GatewayKind))
