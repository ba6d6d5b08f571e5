"""Finance proposes a rate, somebody else approves it; and what may be topped up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, PHONE, choose
from tests.support.accessibility import serious_violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_one_proposes_a_rate_and_another_approves_it(sign_in: Callable[..., Page]) -> None:
    finance = sign_in("finance@demo.example", path="/rates")
    finance.get_by_label("Credit per unit paid").fill("nonsense")
    finance.get_by_label("Source").fill("the bank's website")
    finance.get_by_role("button", name="Request rate").click()
    expect(finance.get_by_text("Enter the rate as a number above 0")).to_be_visible()
    admin = sign_in("admin@demo.example", path="/rates")
    # The second rate meets the form and the table that the first left behind.
    for typed, shown in (("25400.5", "25,400.5"), ("25410.5", "25,410.5")):
        rate = finance.get_by_label("Credit per unit paid")
        rate.fill(typed)
        rate.press("Tab")
        finance.get_by_label("Source").fill("the bank's website")
        finance.get_by_role("button", name="Request rate").click()
        expect(
            finance.get_by_text("You requested this. Waiting for approval by another person.")
        ).to_be_visible()
        expect(finance.get_by_role("button", name="Approve")).to_have_count(0)

        admin.reload()
        expect(admin.get_by_text(f"1 USD = {shown} VND")).to_be_visible()
        admin.get_by_role("button", name="Approve").click()
        expect(admin.get_by_text("Rate approved. It is now in force.")).to_be_visible()
        finance.reload()
        finance.get_by_label("Credit per unit paid").wait_for()
        expect(
            finance.get_by_text("You requested this. Waiting for approval by another person.")
        ).to_have_count(0)


def await_form(page: Page, *, least: str) -> None:
    """Wait until this form stands alone: the one before it stays until the run has ended."""
    field = page.get_by_label("Minimum")
    expect(field.and_(page.locator(f'[value="{least}"]'))).to_have_count(1)
    expect(field).to_have_count(1)


def test_finance_changes_what_is_offered(sign_in: Callable[..., Page]) -> None:
    page = sign_in("finance@demo.example", path="/rates")
    page.get_by_label("Change limits for").wait_for()
    choose(page, "Change limits for", "CHF", "CHF")
    # Whoever types before the page is drawn for the new currency types into the old one.
    await_form(page, least="20")
    offered = page.get_by_label("Preset amounts")
    expect(offered).to_be_visible()
    offered.fill("1 2")
    page.get_by_role("button", name="Save").click()
    expect(
        page.get_by_text("Presets must lie between the minimum and the maximum.")
    ).to_be_visible()
    message = page.get_by_text("They apply to new payments.")
    for amounts in ("30 60 90", "40 80"):
        offered.fill(amounts)
        page.get_by_role("button", name="Save").click()
        expect(message).to_be_visible()
        # Any act takes the words away, so that the next time they are those of the next time.
        choose(page, "Change limits for", "CZK", "CZK")
        expect(message).to_have_count(0)
        choose(page, "Change limits for", "CHF", "CHF")
        await_form(page, least="20")
        expect(offered).to_have_value(amounts)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_has_no_serious_violation(
    sign_in: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = sign_in("finance@demo.example", viewport, "/rates")
    page.get_by_text("Change limits for").wait_for()
    assert serious_violations(page) == {}


def test_support_sees_rates_and_changes_nothing(sign_in: Callable[..., Page]) -> None:
    page = sign_in("support@demo.example", path="/rates")
    expect(page.get_by_role("heading", name="Rates and limits")).to_be_visible()
    expect(page.get_by_role("heading", name="Top-ups")).to_be_visible()
    expect(page.get_by_text("Change limits for")).to_have_count(0)
    expect(page.get_by_role("button", name="Request rate")).to_have_count(0)
