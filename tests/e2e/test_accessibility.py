"""No serious axe violation on any page, and none at all on our own forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import DESKTOP, PHONE
from tests.support.accessibility import axe_source, serious_violations
from tests.support.journeys import OWNER, open_first_row
from tests.support.top_up_journeys import fill_profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_billing_has_no_serious_violation(
    sign_in: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = sign_in(OWNER, viewport)
    page.get_by_text("Credit grants (in the order they are used)").wait_for()
    assert serious_violations(page) == {}
    page.get_by_text("Credit History").click()
    page.get_by_text("Select a row").wait_for()
    assert serious_violations(page) == {}
    open_first_row(page)
    page.get_by_role("button", name="Back to Credit History").wait_for()
    assert serious_violations(page) == {}
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="Sign out").wait_for()
    assert serious_violations(page) == {}


def test_the_look_up_of_accounts_has_no_serious_violation(sign_in: Callable[..., Page]) -> None:
    page = sign_in("support@demo.example")
    page.get_by_role("button", name="Open account").first.wait_for()
    assert serious_violations(page) == {}


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_analytics_has_no_serious_violation(
    sign_in: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = sign_in("finance@demo.example", viewport, "/analytics?accounts=yes")
    page.locator("g.bars g.point").first.wait_for()
    page.get_by_text("Select a row to see the account's charges").wait_for()
    assert serious_violations(page) == {}


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_way_to_a_payment_has_no_serious_violation(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = sign_in(new_owner("vn"), viewport)
    page.get_by_role("button", name="Add credit").click()
    page.get_by_text("It appears on your receipts").wait_for()
    assert serious_violations(page) == {}
    fill_profile(page)
    page.get_by_text("Or another amount").wait_for()
    assert serious_violations(page) == {}
    page.get_by_role("textbox", name="Or another amount").fill("600000")
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("Payment method").wait_for()
    assert serious_violations(page) == {}
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("I agree that credit").click()
    assert serious_violations(page) == {}
    page.get_by_role("button", name="Pay ₫600,000").click()
    page.wait_for_url("**/vpcpay.html**")
    page.get_by_role("button", name="Pay", exact=True).click()
    page.get_by_text("was added to your balance").wait_for()
    assert serious_violations(page) == {}
    for tab, message in (("payments", "Select a row"), ("settings", "Billing information")):
        page.goto(page.url.split("/payment")[0].split("/?")[0] + f"/?tab={tab}")
        page.get_by_text(message).first.wait_for()
        assert serious_violations(page) == {}


@pytest.mark.parametrize("path", ["/sign-in", "/sign-up", "/forgot-password", "/mailbox"])
def test_own_forms_have_no_violation(
    portal_url: str, open_page: Callable[..., Page], path: str
) -> None:
    page = open_page(PHONE)
    page.goto(portal_url + path)
    page.evaluate(axe_source())
    result = page.evaluate("async () => await axe.run(document)")
    assert [violation["id"] for violation in result["violations"]] == []
