"""The life of a starter pack, in its history: its scope, what it leaves to others, and its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from domain import ledger
from domain.actors import MemberRole, StaffRole, user_actor
from domain.clock import CLOCK
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
from portal.ui.formats import MINUS
from tests.e2e.conftest import DESKTOP, settle
from tests.factories import SYSTEM, charge, grant, next_key
from tests.support.journey_accounts import account_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from sqlalchemy.orm import Session, sessionmaker

pytestmark = pytest.mark.browser

DAYS = 30


def dong(amount: int) -> Money:
    return Money.from_minor_units(amount, "VND")


def redeem_a_pack(session: Session, account: int, name: str) -> None:
    """Redeem 60,000 dong for AI Inference, and 40,000 for everything."""
    now = session.info[CLOCK]()
    finance, other = (user_actor(number, staff_role=StaffRole.FINANCE) for number in (901, 902))
    pack = CampaignTerms(
        name=name,
        description="Starter credit",
        offers=(
            CurrencyTerms(
                (GrantTemplate(dong(60_000), ("ai-inference",)), GrantTemplate(dong(40_000))),
                dong(1_000_000),
            ),
        ),
        redeem_from=now,
        redeem_until=now + timedelta(days=1),
        validity_days=DAYS,
        code_budget=1,
    )
    campaign = request_campaign(session, terms=pack, actor=finance, idempotency_key=name)
    decide_campaign(session, campaign_id=campaign, is_approved=True, actor=other)
    batch = generate_codes(
        session, campaign_id=campaign, count=1, actor=finance, idempotency_key=name
    )
    (code,) = codes_of_batch(session, batch_id=batch, actor=finance)
    owner = user_actor(
        session.scalars(
            text("SELECT user_id FROM account_members WHERE account_id = :id"), {"id": account}
        ).one(),
        memberships={account: MemberRole.OWNER},
    )
    redeem_code_unlimited(
        session, account_id=account, typed=code, actor=owner, idempotency_key=next_key(name)
    )


def test_scope_falls_through_and_expiry_says_so(
    portal_sessions: sessionmaker[Session],
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
) -> None:
    email = new_owner("vn")
    account = account_of(portal_sessions, email)
    start = datetime.now(UTC) - timedelta(days=DAYS + 5)
    with portal_sessions.begin() as session:
        session.info[CLOCK] = lambda: start
        redeem_a_pack(session, account, email)
        grant(session, account, 500_000, key=f"{email}-top-up")
    with portal_sessions.begin() as session:
        used_at = start + timedelta(days=1)
        session.info[CLOCK] = lambda: used_at
        # 50,000 of a service that the first part does not pay for: the second part, then top-up.
        charge(
            session, account, 50_000, occurred_at=used_at, service="gpu-vm", event_id=f"{email}-1"
        )
    with portal_sessions.begin() as session:
        ledger.expire_grants(session, actor=SYSTEM)

    page = sign_in(email, DESKTOP)
    expect(page.get_by_role("link", name="Balance ₫490,000")).to_be_visible()
    page.goto(page.url.split("/?")[0].rstrip("/") + "/billing?tab=history&row=e4")
    expect(page.get_by_text("Credit used")).to_be_visible()
    with portal_sessions() as session:
        kinds = session.execute(
            text(
                "SELECT g.kind, -a.amount_micros / 1000000 FROM allocations a"
                " JOIN grants g USING (account_id, grant_number)"
                " WHERE a.account_id = :id AND a.account_sequence = 4 ORDER BY a.line_number"
            ),
            {"id": account},
        ).all()
    assert [tuple(row) for row in kinds] == [("voucher", 40_000), ("top_up", 10_000)]

    page.goto(page.url.split("/billing")[0] + "/billing?tab=history&kind=expiry")
    expect(page.get_by_text("1 row")).to_be_visible()
    page.goto(page.url.split("/billing")[0] + "/billing?tab=history&row=e5")
    expect(page.get_by_text("Voucher credit expired")).to_be_visible()
    # The table behind tells it too, once it is drawn.
    expect(page.get_by_role("list").get_by_text(f"{MINUS}₫60,000")).to_be_visible()
    page.goto(page.url.split("/billing")[0] + "/billing?tab=vouchers")
    settle(page)
    expect(page.get_by_text("Times are in")).to_be_visible()
