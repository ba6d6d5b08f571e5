"""Read the settings of a Stripe account from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from domain.gateways.registry import SettingsReader

NAME = "stripe"
_API = "https://api.stripe.com"


@dataclass(frozen=True, slots=True)
class StripeSettings:
    """The keys of an account and Stripe's address.

    While a webhook secret is exchanged for another, both are there: either may have signed.
    `name` is the gateway's, and `currencies` are those that it may be paid in, or None for all
    that Stripe is asked for.
    """

    secret_key: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    api_base: str
    is_sandbox: bool
    name: str = NAME
    currencies: frozenset[str] | None = None


def read_account(
    reader: SettingsReader, prefix: str, name: str, currencies: frozenset[str] | None = None
) -> StripeSettings | None:
    """Return how the account of the variables with this prefix is reached, or None."""
    key_name, secrets_name = f"{prefix}_SECRET_KEY", f"{prefix}_WEBHOOK_SECRETS"
    keys = reader.keys(key_name, secrets_name)
    if keys is None:
        return None
    secrets = tuple(part.strip() for part in keys[1].split(",") if part.strip())
    if keys[0] and not keys[0].startswith(("sk_", "rk_")):
        reader.problems.append(f"{key_name} starts with sk_ or rk_.")
    if keys[1] and not (secrets and all(each.startswith("whsec_") for each in secrets)):
        reader.problems.append(f"{secrets_name} has secrets that start with whsec_.")
    return StripeSettings(
        secret_key=keys[0],
        webhook_secrets=secrets,
        api_base=f"{reader.sandbox_api}/{name}" if reader.uses_sandbox else _API,
        is_sandbox=reader.uses_sandbox or "_test_" in keys[0],
        name=name,
        currencies=currencies,
    )
