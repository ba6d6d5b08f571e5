"""From the Add credit button to the higher balance, and every way in which that can go wrong."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from domain.payments.rates_in_force import rate_in_force
from tests.e2e.conftest import DESKTOP, PHONE
from tests.support.top_up_journeys import go_to_review, leave_for_vnpay

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from sqlalchemy.orm import Session, sessionmaker

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_dong_by_vnpay_raise_the_balance(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = sign_in(new_owner("vn"), viewport)
    expect(page.get_by_role("link", name="Balance ₫0")).to_be_visible()
    leave_for_vnpay(page)
    expect(page.get_by_text("1.000.000 VND")).to_be_visible()
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_text("₫1,000,000 was added to your balance")).to_be_visible()
    expect(page.get_by_role("link", name="Balance ₫1,000,000")).to_be_visible()
    page.reload()
    expect(page.get_by_text("₫1,000,000 was added to your balance")).to_be_visible()
    receipt = page.get_by_role("link", name="Open receipt (PDF)")
    expect(receipt).to_be_visible()
    answer = page.request.get(str(receipt.evaluate("link => link.href")))
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.body().startswith(b"%PDF")
    page.get_by_role("link", name="Balance").click()
    page.get_by_role("radio", name="Payment History").click()
    expect(page.get_by_text("Select a row for details.")).to_be_visible()
    page.get_by_role("radio", name="Credit History").click()
    expect(page.get_by_text("1 row", exact=True)).to_be_visible()


@pytest.mark.parametrize(
    ("choice", "message"),
    [("Cancel", "was cancelled"), ("Fail: not enough money", "VNPay declined this payment")],
)
def test_what_was_not_paid_is_not_credited(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], choice: str, message: str
) -> None:
    page = sign_in(new_owner("vn"))
    leave_for_vnpay(page)
    page.get_by_role("button", name=choice).click()
    expect(page.get_by_text(message)).to_be_visible()
    expect(page.get_by_role("link", name="Balance ₫0")).to_be_visible()
    expect(page.get_by_text("Credit", exact=True)).to_have_count(0)
    # The amount stays, and another method is one click away.
    page.get_by_role("button", name=re.compile("^Try (again|another method)$")).click()
    expect(page.get_by_text("₫1,000,000 of credit will be added.")).to_be_visible()
    page.get_by_text("PayPal (in USD)").click()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("margin of 1.5 %")).to_be_visible()


def test_suspected_money_waits_for_a_person(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page]
) -> None:
    page = sign_in(new_owner("vn"))
    leave_for_vnpay(page)
    page.get_by_role("button", name="Pay, and be suspected of fraud").click()
    expect(page.get_by_text("under review by our staff")).to_be_visible()
    expect(page.get_by_role("link", name="Balance ₫0")).to_be_visible()


def leave_for_stripe(page: Page) -> None:
    go_to_review(page, "¥10,000", "Stripe")
    page.get_by_role("button", name="Pay ¥10,000").click()
    page.wait_for_url("**/stripe/**")
    expect(page.get_by_text("10,000").first).to_be_visible()


def test_yen_by_card_raise_the_balance(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page]
) -> None:
    page = sign_in(new_owner("jp"))
    leave_for_stripe(page)
    page.get_by_role("button", name="Pay by card", exact=True).click()
    expect(page.get_by_text("¥10,000 was added to your balance")).to_be_visible()
    expect(page.get_by_role("link", name="Balance ¥10,000")).to_be_visible()


def test_yen_at_a_convenience_store_come_later(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page]
) -> None:
    page = sign_in(new_owner("jp"))
    leave_for_stripe(page)
    page.get_by_role("button", name="Pay at a convenience store").click()
    page.get_by_role("button", name="Back to the shop, and pay later").click()
    page.wait_for_url("**/payment?ref=**")
    expect(page.get_by_text("Waiting for your payment")).to_be_visible()
    expect(page.get_by_role("link", name="Balance ¥0")).to_be_visible()
    shop = page.url
    page.go_back()
    page.get_by_role("button", name="Pay at the store now").click()
    page.goto(shop)
    expect(page.get_by_role("link", name="Balance ¥10,000")).to_be_visible()


# ── Elsewhere, and dollars for a wallet of dong: PayPal ───────────────────────────────────────
def test_dollars_by_paypal_raise_the_balance(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page]
) -> None:
    page = sign_in(new_owner("global"))
    go_to_review(page, "$100.00", "PayPal", "France")
    page.get_by_role("button", name="Pay $100.00").click()
    page.wait_for_url("**/paypal/**")
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_text("$100.00 was added to your balance")).to_be_visible()
    expect(page.get_by_role("link", name="Balance $100.00")).to_be_visible()


def test_dollars_buy_dong_at_the_rate_that_was_shown(
    portal_sessions: sessionmaker[Session],
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
) -> None:
    # Another journey may have changed the demo's rate of 25,400.
    with portal_sessions() as session:
        rate = rate_in_force(session, base_currency="USD", quote_currency="VND").rate
    cents = math.ceil(Decimal(100_000_000) / (rate * Decimal("0.985")))
    page = sign_in(new_owner("vn"))
    go_to_review(page, "₫1,000,000", "PayPal")
    expect(page.get_by_text("margin of 1.5 %")).to_be_visible()
    page.get_by_role("button", name=f"Pay ${cents / 100:.2f}").click()
    page.wait_for_url("**/paypal/**")
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_text("₫1,000,000 was added to your balance")).to_be_visible()
