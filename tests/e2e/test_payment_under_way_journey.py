"""A payment that was left at the gateway stands in Credit History, and opens from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, PHONE
from tests.support.journeys import open_first_row
from tests.support.top_up_journeys import leave_for_vnpay

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_payment_left_at_the_gateway_opens_from_the_history(
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    portal_url: str,
    viewport: dict[str, int],
) -> None:
    page = sign_in(new_owner("vn"), viewport)
    leave_for_vnpay(page)
    page.goto(f"{portal_url}/?tab=history")
    expect(page.get_by_text("1 row", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Balance ₫0")).to_be_visible()
    open_first_row(page)
    page.wait_for_url("**/payment?ref=*")
    expect(page.get_by_text("Waiting for VNPay")).to_be_visible()
