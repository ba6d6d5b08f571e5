"""Support explains a payment, finance gives it back, and two people decide about doubtful money."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import PHONE, open_popover, reference_in, settle
from tests.support.accessibility import serious_violations
from tests.support.top_up_journeys import leave_for_vnpay

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

LOOKS, LOOK_EVERY_MILLISECONDS = 40, 1_000


@pytest.mark.timeout(300)
def test_support_explains_a_payment_and_finance_refunds_it(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page]
) -> None:
    customer = sign_in(new_owner("vn"))
    reference = paid_payment(customer, has_profile=False)

    support = sign_in("support@demo.example", path="/payments")
    support.get_by_label("Payment reference").fill(reference)
    support.keyboard.press("Enter")
    expect(support.get_by_text("Select a row for details.")).to_be_visible()
    assert serious_violations(support) == {}
    support.goto(f"{support.url.split('?')[0]}?ref={reference}")
    expect(support.get_by_text("Success · Paid")).to_be_visible()
    expect(support.get_by_role("button", name="Refund…")).to_have_count(0)
    support.get_by_role("button", name="Refresh from gateway").click()
    expect(support.get_by_text("Refreshed from the gateway")).to_be_visible()
    assert serious_violations(support) == {}

    finance = sign_in("finance@demo.example", path=f"/payments?ref={reference}")
    refund(finance)
    customer.reload()
    expect(customer.get_by_role("link", name="Balance ₫0")).to_be_visible()
    expect(customer.get_by_text("₫1,000,000 of this payment was refunded.")).to_be_visible()
    expect(customer.get_by_role("table", name="Refunds and disputes")).to_be_visible()
    expect(customer.get_by_text("Paid twice")).to_have_count(0)

    # The same people once more, on what the first refund left behind.
    again = paid_payment(customer, has_profile=True)
    finance.goto(f"{finance.url.split('?')[0]}?ref={again}")
    refund(finance)
    customer.reload()
    expect(customer.get_by_role("link", name="Balance ₫0")).to_be_visible()


def paid_payment(customer: Page, *, has_profile: bool) -> str:
    """Pay by VNPay, and return the payment's reference."""
    leave_for_vnpay(customer, has_profile=has_profile)
    customer.get_by_role("button", name="Pay", exact=True).click()
    expect(customer.get_by_text("was added to your balance")).to_be_visible()
    return reference_in(customer.url)


def refund(finance: Page) -> None:
    """Refund the payment in view, and ask the gateway until the money has gone out."""
    open_popover(finance, "Refund…")
    finance.get_by_label("Reason").fill("Paid twice")
    finance.get_by_role("button", name="Refund payment", exact=True).click()
    expect(finance.get_by_text("Refund requested.")).to_be_visible()
    expect(finance.get_by_text("Success · Refund pending")).to_be_visible()
    for _ in range(LOOKS):
        settle(finance)
        finance.get_by_role("button", name="Refresh from gateway").click()
        expect(finance.get_by_text("Refreshed from the gateway")).to_be_visible()
        if finance.get_by_text("Success · Refunded").count():
            return
        finance.wait_for_timeout(LOOK_EVERY_MILLISECONDS)
    pytest.fail("the gateway did not pay the refund")


def test_two_people_accept_suspected_money(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page]
) -> None:
    customer = sign_in(new_owner("vn"))
    leave_for_vnpay(customer)
    customer.get_by_role("button", name="Pay, and be suspected of fraud").click()
    expect(customer.get_by_text("Your payment is received and under review")).to_be_visible()
    reference = reference_in(customer.url)

    finance = sign_in("finance@demo.example", path=f"/payments?ref={reference}")
    expect(finance.get_by_role("heading", name="This payment needs a decision")).to_be_visible()
    open_popover(finance, "Request approval…")
    expect(
        finance.get_by_text("₫1,000,000 is credited once another finance member approves")
    ).to_be_visible()
    finance.get_by_label("Reason").locator("visible=true").fill("The bank vouches for it")
    finance.get_by_role("button", name="Request approval", exact=True).click()
    expect(
        finance.get_by_text(
            "You requested approval. Waiting for approval by another finance member"
        )
    ).to_be_visible()
    expect(finance.get_by_role("button", name="Reject…")).to_have_count(0)
    assert serious_violations(finance) == {}

    support = sign_in("support@demo.example", PHONE, f"/payments?ref={reference}")
    expect(support.get_by_text("Waiting for a finance member.")).to_be_visible()
    expect(support.get_by_role("button", name="Approve…")).to_have_count(0)
    assert serious_violations(support) == {}

    admin = sign_in("controller@demo.example", path="/payments?waiting=yes")
    expect(admin.get_by_text("Needs a decision (")).to_be_visible()
    admin.goto(f"{admin.url.split('?')[0]}?ref={reference}")
    expect(admin.get_by_text("The bank vouches for it")).to_be_visible()
    open_popover(admin, "Approve…")
    admin.get_by_label("Reason").locator("visible=true").fill("Agreed")
    admin.get_by_role("button", name="Approve payment").click()
    expect(admin.get_by_text("Payment approved. Credit granted.")).to_be_visible()
    expect(admin.get_by_role("heading", name="Approved by two people")).to_be_visible()
    customer.reload()
    expect(customer.get_by_role("link", name="Balance ₫1,000,000")).to_be_visible()


def test_refused_money_is_owed_until_it_was_given_back(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page]
) -> None:
    customer = sign_in(new_owner("vn"))
    leave_for_vnpay(customer)
    customer.get_by_role("button", name="Pay, and be suspected of fraud").click()
    expect(customer.get_by_text("under review by our staff")).to_be_visible()
    reference = reference_in(customer.url)

    finance = sign_in("finance@demo.example", PHONE, f"/payments?ref={reference}")
    open_popover(finance, "Reject…")
    finance.get_by_label("Reason").locator("visible=true").fill("Nobody vouches for it")
    finance.get_by_role("button", name="Reject payment").click()
    expect(finance.get_by_text("₫1,000,000 to be returned manually")).to_be_visible()
    assert serious_violations(finance) == {}
    open_popover(finance, "Record return…")
    finance.get_by_label("Gateway or bank reference").fill("FT 77")
    finance.get_by_role("button", name="Record return", exact=True).click()
    expect(finance.get_by_text("₫1,000,000 returned")).to_be_visible()
    customer.reload()
    expect(customer.get_by_text("was rejected, and nothing was credited")).to_be_visible()
    expect(customer.get_by_role("link", name="Balance ₫0")).to_be_visible()
