"""A second account of the Stripe sandbox, with payments of its own: cards outside Japan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sandbox.stripe import account_routes

if TYPE_CHECKING:
    from starlette.routing import Route

    from sandbox.app import Context

NAME = "stripe_cards"
DEMO_SECRET_KEY = "sk_test_cards_0123456789"  # noqa: S105 - public
DEMO_WEBHOOK_SECRET = "whsec_cards_0123456789"  # noqa: S105 - public


def routes(context: Context) -> list[Route]:
    """Return the routes of the account, as `sandbox.stripe` has them."""
    own = replace(context, store=context.store.part(NAME))
    return account_routes(own, NAME, DEMO_SECRET_KEY, DEMO_WEBHOOK_SECRET)
