"""A customer turns a code into credit, and finds it again."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from domain.actors import StaffRole, user_actor
from domain.money import Money
from domain.vouchers import (
    CampaignTerms,
    CurrencyTerms,
    GrantTemplate,
    decide_campaign,
    import_codes,
    request_campaign,
)
from portal import demo
from tests.e2e.conftest import DESKTOP, PHONE, settle
from tests.support.accessibility import serious_violations
from tests.support.journey_accounts import account_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from sqlalchemy.orm import Session, sessionmaker

pytestmark = pytest.mark.browser


MAKER, CHECKER = (user_actor(number, staff_role=StaffRole.FINANCE) for number in (901, 902))


def new_code(sessions: sessionmaker[Session]) -> str:
    """Return the only code of another campaign, worth 100,000 dong."""
    amount, now = Money.from_minor_units(100_000, "VND"), datetime.now(UTC)
    code = uuid.uuid4().hex[:10].upper()
    terms = CampaignTerms(
        name=f"Second {code}",
        description="Second credit",
        offers=(CurrencyTerms((GrantTemplate(amount),), amount),),
        redeem_from=now - timedelta(days=1),
        redeem_until=now + timedelta(days=1),
        validity_days=30,
        code_budget=1,
        uses_per_code=1,
    )
    with sessions.begin() as session:
        number = request_campaign(session, terms=terms, actor=MAKER, idempotency_key=code)
        decide_campaign(session, campaign_id=number, is_approved=True, actor=CHECKER)
        import_codes(session, campaign_id=number, typed=[code], actor=MAKER, idempotency_key=code)
    return code


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_customer_redeems_a_code(
    portal_sessions: sessionmaker[Session],
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    viewport: dict[str, int],
) -> None:
    email = new_owner("vn")
    page = sign_in(email, viewport)
    code = page.get_by_label("Voucher code")
    apply = page.get_by_role("button", name="Apply Code")
    code.fill(demo.VOUCHER_CODE)
    apply.click()
    expect(page.get_by_text("Fill in your billing information first")).to_be_visible()
    account_of(portal_sessions, email)
    code.fill("no such code")
    apply.click()
    expect(page.get_by_text("Code not found.")).to_be_visible()
    assert serious_violations(page) == {}
    code.fill(" welcome-100 ")
    apply.dblclick()
    expect(page.get_by_text("Your voucher has been applied successfully.")).to_be_visible()
    expect(page.get_by_role("link", name="Balance ₫2,500,000")).to_be_visible()

    page.get_by_text("Voucher list").click()
    settle(page)
    expect(page.get_by_text("Times are in")).to_be_visible()
    assert serious_violations(page) == {}
    code.fill(demo.VOUCHER_CODE)
    apply.click()
    expect(page.get_by_text("Limit of 1 redemption per account reached.")).to_be_visible()
    page.get_by_text("Credit History").click()
    expect(page.get_by_text("1 row")).to_be_visible()

    # Another code, by the same person in the same session.
    page.get_by_text("Overview").click()
    code.fill(new_code(portal_sessions))
    apply.click()
    expect(page.get_by_text("Your voucher has been applied successfully.")).to_be_visible()
    expect(page.get_by_role("link", name="Balance ₫2,600,000")).to_be_visible()
    page.get_by_text("Credit History").click()
    expect(page.get_by_text("2 rows")).to_be_visible()
