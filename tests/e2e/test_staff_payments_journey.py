"""Support explains a payment, and finance gives it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.test_accessibility import serious_violations
from tests.e2e.test_top_up_journey import leave_for_vnpay

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_support_explains_a_payment_and_finance_refunds_it(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page]
) -> None:
    customer = sign_in(new_owner("vn"))
    leave_for_vnpay(customer)
    customer.get_by_role("button", name="Pay", exact=True).click()
    expect(customer.get_by_text("was added to your balance")).to_be_visible()
    reference = customer.url.split("ref=")[1]

    support = sign_in("support@demo.example", path="/payments")
    support.get_by_label("Reference, the gateway's number").fill(reference)
    support.keyboard.press("Enter")
    expect(support.get_by_text("Tick a row to see everything")).to_be_visible()
    assert serious_violations(support) == {}
    support.goto(f"{support.url.split('?')[0]}?ref={reference}")
    expect(support.get_by_text("Success · Paid")).to_be_visible()
    expect(support.get_by_role("button", name="Refund…")).to_have_count(0)
    support.get_by_role("button", name="Ask the gateway now").click()
    expect(support.get_by_text("The gateway was asked")).to_be_visible()
    assert serious_violations(support) == {}

    finance = sign_in("finance@demo.example", path=f"/payments?ref={reference}")
    finance.get_by_role("button", name="Refund…").click()
    finance.get_by_label("Reason").fill("Paid twice")
    finance.get_by_role("button", name="Refund", exact=True).click()
    expect(finance.get_by_text("The refund was asked for")).to_be_visible()
    expect(finance.get_by_text("Success · Refunded")).to_be_visible()
    customer.reload()
    expect(customer.get_by_role("link", name="Balance ₫0")).to_be_visible()
