"""Campaigns, codes and customers who redeem them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from domain.actors import MemberRole, StaffRole, user_actor
from domain.billing_profiles import BillingProfile, ProfileKind, save_profile
from domain.money import Money
from domain.vouchers import (
    CampaignTerms,
    CurrencyTerms,
    GrantTemplate,
    codes_of_batch,
    decide_campaign,
    generate_codes,
    redeem_code_unlimited,
    request_campaign,
)
from tests.factories import SYSTEM, make_account, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor


FINANCE = user_actor(901, staff_role=StaffRole.FINANCE)
ANOTHER = user_actor(902, staff_role=StaffRole.FINANCE)


def dollars(amount: int) -> Money:
    return Money.from_minor_units(amount * 100, "USD")


def offer(amount: int = 50, budget: int = 5_000) -> CurrencyTerms:
    return CurrencyTerms((GrantTemplate(dollars(amount)),), dollars(budget))


def terms(**changes: Any) -> CampaignTerms:
    now = datetime.now(UTC)
    usual = CampaignTerms(
        name=next_key("Spring"),
        description="Spring credit",
        offers=(offer(),),
        redeem_from=now - timedelta(days=1),
        redeem_until=now + timedelta(days=30),
        validity_days=30,
        code_budget=1_000,
    )
    return replace(usual, **changes)


def campaign(session: Session, **changes: Any) -> int:
    campaign_id = request_campaign(
        session, terms=terms(**changes), actor=FINANCE, idempotency_key=next_key()
    )
    decide_campaign(session, campaign_id=campaign_id, is_approved=True, actor=ANOTHER)
    return campaign_id


def codes(session: Session, campaign_id: int, count: int = 1) -> list[str]:
    batch = generate_codes(
        session, campaign_id=campaign_id, count=count, actor=FINANCE, idempotency_key=next_key()
    )
    return list(codes_of_batch(session, batch_id=batch, actor=FINANCE))


def a_code(session: Session, **changes: Any) -> str:
    return codes(session, campaign(session, **changes))[0]


def customer(
    session: Session, *, site: str = "global", currency: str = "USD", country: str = "SG"
) -> tuple[int, Actor]:
    """Return an account with a billing profile, and its owner."""
    account = make_account(session, site=site, currency=currency)
    owner = user_actor(account + 100_000, memberships={account: MemberRole.OWNER})
    save_profile(
        session,
        account_id=account,
        profile=BillingProfile(
            ProfileKind.PERSONAL, "Lan Tran", "lan@example.com", "1 Sample Street", country
        ),
        currency=None,
        expected_version=0,
        actor=SYSTEM,
        idempotency_key="profile",
    )
    return account, owner


def redeem(session: Session, account: int, owner: Actor, code: str, key: str = "") -> Any:
    return redeem_code_unlimited(
        session,
        account_id=account,
        typed=code,
        actor=owner,
        idempotency_key=key or next_key("redeem"),
    )
