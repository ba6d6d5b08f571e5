"""A customer's first top-up by card earns a starter pack, split over services."""

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
    end_campaign,
    request_campaign,
)
from tests.e2e.conftest import DESKTOP, PHONE, settle
from tests.support.accessibility import serious_violations
from tests.support.top_up_journeys import go_to_review

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page
    from sqlalchemy.orm import Session, sessionmaker

pytestmark = pytest.mark.browser

MAKER, CHECKER = (user_actor(number, staff_role=StaffRole.FINANCE) for number in (901, 902))


def yen(amount: int) -> Money:
    return Money.from_minor_units(amount, "JPY")


@pytest.fixture
def starter_pack(portal_sessions: sessionmaker[Session]) -> Iterator[None]:
    """A campaign that more than the usual top-up of these tests earns, while the test runs."""
    parts = (
        GrantTemplate(yen(1_000), ("gpu-container",)),
        GrantTemplate(yen(1_000), ("gpu-vm",)),
        GrantTemplate(yen(1_000), ("ai-notebook",)),
        GrantTemplate(yen(7_000)),
    )
    now = datetime.now(UTC)
    terms = CampaignTerms(
        name=f"Starter {uuid.uuid4().hex}",
        description="Starter pack",
        offers=(CurrencyTerms(parts, yen(100_000), yen(30_000)),),
        redeem_from=now - timedelta(days=1),
        redeem_until=now + timedelta(days=1),
        validity_days=30,
        trigger="first_top_up",
        countries=("JP",),
        is_for_new_accounts=True,
    )
    with portal_sessions.begin() as session:
        number = request_campaign(
            session, terms=terms, actor=MAKER, idempotency_key=uuid.uuid4().hex
        )
        decide_campaign(session, campaign_id=number, is_approved=True, actor=CHECKER)
    yield
    with portal_sessions.begin() as session:
        end_campaign(session, campaign_id=number, actor=MAKER)


def pay_by_card(page: Page) -> None:
    go_to_review(page, "¥30,000", "Stripe")
    page.get_by_role("button", name="Pay ¥30,000").click()
    page.wait_for_url("**/stripe/**")
    page.get_by_label("What it is paid with").select_option(label="Jcb …0505")
    page.get_by_role("button", name="Pay by card", exact=True).click()
    expect(page.get_by_text("¥30,000 was added to your balance")).to_be_visible()


@pytest.mark.usefixtures("starter_pack")
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_first_top_up_by_card_earns_the_starter_pack_once(
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    portal_url: str,
    viewport: dict[str, int],
) -> None:
    page = sign_in(new_owner("jp"), viewport)
    pay_by_card(page)
    # The clock's job asks Stripe which card it was, and gives the pack.
    balance = page.get_by_role("link", name="Balance ¥40,000")
    for _ in range(12):
        page.goto(portal_url)
        page.get_by_role("link", name="Balance ¥").wait_for()
        if balance.is_visible():
            break
        page.wait_for_timeout(2_500)
    expect(balance).to_be_visible()
    expect(page.get_by_text("¥10,000").first).to_be_visible()
    page.get_by_text("Credit History").click()
    expect(page.get_by_text("5 rows", exact=True)).to_be_visible()
    assert serious_violations(page) == {}
    page.get_by_text("Voucher list").click()
    settle(page)
    expect(page.get_by_text("Times are in")).to_be_visible()
    assert serious_violations(page) == {}

    another = sign_in(new_owner("jp"), viewport)
    pay_by_card(another)
    another.wait_for_timeout(10_000)
    another.goto(portal_url)
    expect(another.get_by_role("link", name="Balance ¥30,000")).to_be_visible()
