"""Steps from Add credit to a gateway, in a browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.e2e.conftest import choose

if TYPE_CHECKING:
    from playwright.sync_api import Page


def fill_profile(page: Page, country: str | None = None) -> None:
    """Enter who is billed; name, email and the country of a site of one stand there already."""
    if country is not None:
        choose(page, "Country", country, country)
    page.get_by_label("Name", exact=True).wait_for()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Lan Tran")
    expect(page.get_by_label("Email for receipts")).to_have_value(re.compile("@example.com$"))
    page.get_by_label("Address").fill("1 Nguyen Hue")
    page.get_by_role("button", name="Continue").click()


def go_to_review(
    page: Page, preset: str, method: str, country: str | None = None, *, has_profile: bool = False
) -> None:
    """Go through Add credit; an account that `has_profile` begins at the amount."""
    page.get_by_role("button", name="Add credit").click()
    dialog = page.get_by_role("dialog")
    if not has_profile:
        fill_profile(page, country)
    dialog.get_by_text("Or another amount").wait_for()
    dialog.get_by_text(preset, exact=True).first.click()
    expect(dialog.get_by_role("radio", name=preset)).to_be_checked()
    dialog.get_by_role("button", name="Continue").click()
    dialog.get_by_text("Payment method").wait_for()
    dialog.get_by_text(f"{method} (in").click()
    expect(dialog.get_by_role("radio", name=f"{method} (in")).to_be_checked()
    dialog.get_by_role("button", name="Continue").click()
    dialog.get_by_text("I agree that credit").click()


def leave_for_vnpay(page: Page, *, has_profile: bool = False) -> None:
    go_to_review(page, "₫1,000,000", "VNPay", has_profile=has_profile)
    page.get_by_role("button", name="Pay ₫1,000,000").click()
    page.wait_for_url("**/vpcpay.html**")
