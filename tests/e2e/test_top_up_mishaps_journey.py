"""A top-up where messages come late, often or never, and where people click twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from tests.e2e.conftest import reference_in
from tests.support.top_up_journeys import go_to_review, leave_for_vnpay

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from sqlalchemy.orm import Session, sessionmaker

pytestmark = pytest.mark.browser

_LOOKS, _LOOK_EVERY_MILLISECONDS = 40, 4_000


@pytest.mark.parametrize("delivery", ["Ten seconds later", "Five times at once", "Never"])
def test_the_result_is_right_whatever_comes_first(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], delivery: str
) -> None:
    page = sign_in(new_owner("vn"))
    leave_for_vnpay(page)
    page.get_by_label("How the merchant hears of it").select_option(label=delivery)
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_text("₫1,000,000 was added to your balance")).to_be_visible()
    expect(page.get_by_role("link", name="Balance ₫1,000,000")).to_be_visible()


@pytest.mark.timeout(240)
def test_the_reconciler_mends_what_nobody_told_us(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], portal_url: str
) -> None:
    """The customer pays and never comes back, and the gateway's message never comes."""
    page = sign_in(new_owner("vn"))
    leave_for_vnpay(page)
    # Paid, but by a request that follows no redirect: the browser never comes back.
    action = page.locator("form").get_attribute("action") or ""
    answer = page.request.post(
        action, form={"outcome": "succeed", "delivery": "never"}, max_redirects=0
    )
    assert answer.status == 303
    balance = page.get_by_role("link", name=re.compile("^.*Balance ₫"))
    for _ in range(_LOOKS):
        page.goto(f"{portal_url}/?tab=settings")
        balance.wait_for()
        if "₫1,000,000" in balance.inner_text():
            return
        page.wait_for_timeout(_LOOK_EVERY_MILLISECONDS)
    pytest.fail("the clock's job did not ask the gateway")


def test_two_clicks_on_pay_are_one_payment(
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    portal_sessions: sessionmaker[Session],
) -> None:
    email = new_owner("vn")
    page = sign_in(email)
    go_to_review(page, "₫500,000", "VNPay")
    page.get_by_role("button", name="Pay ₫500,000").dblclick()
    page.wait_for_url("**/vpcpay.html**")
    count = text(
        "SELECT count(*) FROM payments p JOIN account_members m USING (account_id)"
        " JOIN users u ON u.id = m.user_id WHERE u.email = :email"
    )
    with portal_sessions() as session:
        assert session.execute(count, {"email": email}).scalar_one() == 1


def test_a_payment_of_somebody_else_is_not_shown(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], portal_url: str
) -> None:
    page = sign_in(new_owner("vn"))
    leave_for_vnpay(page)
    page.get_by_role("button", name="Pay", exact=True).click()
    page.get_by_text("was added to your balance").wait_for()
    address = page.url
    stranger = sign_in(new_owner("vn"), path=address.removeprefix(portal_url))
    expect(stranger.get_by_text("Payment not found.")).to_be_visible()
    reference = reference_in(address)
    for path in (f"/receipts/{reference}", f"/pay/{reference}"):
        assert stranger.request.get(portal_url + path).status == 404
