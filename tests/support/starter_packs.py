"""Starter packs and the payments that earn them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from domain.actors import StaffRole, user_actor
from domain.money import Money
from domain.vouchers import (
    CampaignTerms,
    CurrencyTerms,
    GrantTemplate,
    decide_campaign,
    request_campaign,
)
from tests.factories import next_key
from tests.gateways import ScriptedGateway

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


FINANCE = user_actor(901, staff_role=StaffRole.FINANCE)
ANOTHER = user_actor(902, staff_role=StaffRole.FINANCE)
STRIPE = ScriptedGateway(name="stripe")


def yen(amount: int) -> Money:
    return Money.from_minor_units(amount, "JPY")


TOP_UP, PACK = yen(3_000), yen(10_000)
SPLIT = (
    GrantTemplate(yen(1_000), ("gpu-container",)),
    GrantTemplate(yen(1_000), ("gpu-vm",)),
    GrantTemplate(yen(1_000), ("ai-notebook",)),
    GrantTemplate(yen(7_000)),
)


def pack(session: Session, *, budget: int = 1_000_000, minimum: int = 3_000, **changes: Any) -> int:
    """Return a campaign of a starter pack that was approved."""
    now = datetime.now(UTC)
    usual = CampaignTerms(
        name=next_key("Starter"),
        description="Starter pack",
        offers=(CurrencyTerms(SPLIT, yen(budget), yen(minimum)),),
        redeem_from=now - timedelta(days=1),
        redeem_until=now + timedelta(days=30),
        validity_days=30,
        trigger="first_top_up",
    )
    campaign_id = request_campaign(
        session, terms=replace(usual, **changes), actor=FINANCE, idempotency_key=next_key()
    )
    decide_campaign(session, campaign_id=campaign_id, is_approved=True, actor=ANOTHER)
    return campaign_id
