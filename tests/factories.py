"""Accounts, grants and charges for tests, made through the services that everyone uses."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from domain import ledger
from domain.accounts import open_account
from domain.actors import system_actor
from domain.catalogue.configuration import ConfigurationFile
from domain.catalogue.loading import load_sites

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

SYSTEM = system_actor("tests")
Amount = int | str | Decimal
UNIT = 1_000_000
"""Micros in a currency unit."""

_numbers = itertools.count(1)


def next_key(prefix: str = "key") -> str:
    """Return an idempotency key that was not used before in this run."""
    return f"{prefix}-{next(_numbers)}"


def make_site(session: Session, *, code: str, zone: str) -> str:
    """Open a site for dollars in this time zone, and return its code."""
    text_of_file = f"""
        [[site]]
        code = "{code}"
        name = "{code.title()}"
        legal_entity = "Sample"
        time_zone = "{zone}"
        default_currency = "USD"
        currencies = ["USD"]

        [[site.tax]]
        valid_from = 2020-01-01
        tax_point = "USAGE"
        tax_rate = 0.00
        place_of_supply = "ZZ"
    """
    load_sites(session, file=ConfigurationFile("sites.toml", text_of_file))
    return code


def make_account(session: Session, *, site: str = "global", currency: str = "USD") -> int:
    """Open an account."""
    return open_account(
        session, site_code=site, name=next_key("Account"), currency=currency, actor=SYSTEM
    )


def grant(
    session: Session, account_id: int, amount: Amount, *, kind: str = "top_up", **terms: Any
) -> int:
    """Grant `amount` currency units and return the grant's number; paid in full if a top-up."""
    key = terms.pop("key", None) or next_key("grant")
    source = terms.pop("source", "bank" if kind == "top_up" else kind)
    amount_micros = int(Decimal(amount) * UNIT)
    terms.setdefault("consideration_micros", amount_micros if kind in {"top_up", "plan"} else 0)
    posted = ledger.add_grant(
        session,
        account_id=account_id,
        terms=ledger.GrantTerms(kind=kind, amount_micros=amount_micros, **terms),
        source=source,
        actor=SYSTEM,
        idempotency_key=key,
    )
    return posted.grant_number


def make_charge(
    account_id: int,
    amount: Amount,
    *,
    occurred_at: datetime,
    service: str = "ai-inference",
    event_id: str | None = None,
    **options: Any,
) -> ledger.Charge:
    """Return a charge of `amount` currency units with one item."""
    item = ledger.ChargeItem(
        origin="tests",
        event_id=event_id or next_key("event"),
        exact_micros=Decimal(amount) * UNIT,
        occurred_at=occurred_at,
    )
    return ledger.Charge(
        account_id=account_id, service=service, source="test-model", items=(item,), **options
    )


def charge(
    session: Session, account_id: int, amount: Amount, *, occurred_at: datetime, **options: Any
) -> ledger.ChargeOutcome:
    """Post one charge."""
    one = make_charge(account_id, amount, occurred_at=occurred_at, **options)
    return ledger.charge(session, charge=one, actor=SYSTEM)
