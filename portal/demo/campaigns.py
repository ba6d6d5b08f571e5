"""The demo's campaigns, vouchers and exchange rates."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from domain import clock, vouchers
from domain.actors import system_actor
from domain.money import Money
from domain.payments import exchange_rates
from portal.demo.loading import ACTOR, person
from portal.demo.people import FINANCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session


_COST_OF_A_DOLLAR = {"VND": "25400", "JPY": "152.4"}
VOUCHER_CODE = "WELCOME100"
"""A code that every account of the demo can redeem once."""
_MAX_VOUCHERS = 1_000
_WELCOME = {
    "USD": Money.from_minor_units(10_000, "USD"),
    "EUR": Money.from_minor_units(10_000, "EUR"),
    "JPY": Money.from_minor_units(15_000, "JPY"),
    "VND": Money.from_minor_units(2_500_000, "VND"),
}
_APOLOGY = {
    "USD": Money.from_minor_units(2_000, "USD"),
    "EUR": Money.from_minor_units(2_000, "EUR"),
    "JPY": Money.from_minor_units(3_000, "JPY"),
    "VND": Money.from_minor_units(500_000, "VND"),
}


def load_rates(session: Session) -> None:
    """Put today's rates of exchange in force, so that a demo offers every payment method."""
    now = clock.now(session)
    for quoted, cost in _COST_OF_A_DOLLAR.items():
        rate_id = exchange_rates.request_rate(
            session,
            base_currency="USD",
            quote_currency=quoted,
            rate=Decimal(cost),
            margin_basis_points=150,
            source="sample rate",
            as_of=now,
            reason="sample rate",
            actor=ACTOR,
        )
        exchange_rates.load_rate(session, rate_id=rate_id, actor=system_actor("startup"))


def load_campaigns(session: Session) -> None:
    """Leave a code that any account of the demo can redeem, and vouchers that support can issue."""
    proposer, approver = (person(session, email) for email in FINANCE)
    known = {each.terms.name for each in vouchers.list_campaigns(session, actor=proposer)}
    now = clock.now(session)
    for terms in _campaigns(now):
        if terms.name in known:
            continue
        key = f"demo:{terms.name.lower()}"
        campaign = vouchers.request_campaign(
            session, terms=terms, actor=proposer, idempotency_key=key
        )
        vouchers.decide_campaign(session, campaign_id=campaign, is_approved=True, actor=approver)
        if not terms.is_for_support:
            vouchers.import_codes(
                session,
                campaign_id=campaign,
                typed=[VOUCHER_CODE],
                actor=proposer,
                idempotency_key=key,
            )


def _campaigns(now: datetime) -> tuple[vouchers.CampaignTerms, ...]:
    in_a_year = now + timedelta(days=365)
    welcome = vouchers.CampaignTerms(
        name="Welcome",
        description="Welcome credit",
        offers=_offers(_WELCOME),
        validity_days=30,
        code_budget=1,
        uses_per_code=_MAX_VOUCHERS,
        redeem_from=now,
        redeem_until=in_a_year,
    )
    apology = vouchers.CampaignTerms(
        name="Apology",
        description="For the trouble",
        offers=_offers(_APOLOGY),
        validity_days=60,
        code_budget=_MAX_VOUCHERS,
        uses_per_account=3,
        is_for_named_accounts=True,
        is_for_support=True,
        redeem_from=now,
        redeem_until=in_a_year,
    )
    return welcome, apology


def _offers(amounts: Mapping[str, Money]) -> tuple[vouchers.CurrencyTerms, ...]:
    return tuple(
        vouchers.CurrencyTerms(
            (vouchers.GrantTemplate(amount),), Money(amount.micros * _MAX_VOUCHERS, currency)
        )
        for currency, amount in amounts.items()
    )
