"""Payment History and the ways back to it from a payment: its own link, and the browser's Back."""

from __future__ import annotations

import re
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


@pytest.mark.timeout(240)
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_payment_leads_back_to_the_history_that_it_was_opened_from(
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    portal_url: str,
    viewport: dict[str, int],
) -> None:
    page = sign_in(new_owner("vn"), viewport)
    leave_for_vnpay(page)
    page.goto(f"{portal_url}/billing?tab=payments&status=pending")
    for way_back in ("link", "browser"):
        open_first_row(page)
        page.wait_for_url("**/payment?ref=*")
        link = page.get_by_role("link", name="Back to Payment History")
        expect(link).to_be_visible()
        if way_back == "link":
            link.click()
        else:
            page.go_back()
        expect(page.get_by_text("Select a row for details.")).to_be_visible()
        expect(page.get_by_role("combobox", name="Status")).to_have_value("Pending")
        expect(page).to_have_url(re.compile(r"\?tab=payments&status=pending$"))
