"""Money on the bank account becomes credit, by two people of finance."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import PHONE, open_popover
from tests.support.accessibility import serious_violations
from tests.support.journey_accounts import account_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from sqlalchemy.orm import Session, sessionmaker

pytestmark = pytest.mark.browser

PDF = b"%PDF-1.4\n1 0 obj <</Type /Catalog>> endobj\ntrailer <</Root 1 0 R>>\n%%EOF\n"


@pytest.mark.timeout(300)
def test_finance_records_transfers_and_somebody_else_approves_them(
    portal_sessions: sessionmaker[Session],
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    tmp_path: Path,
) -> None:
    email = new_owner("vn")
    account = account_of(portal_sessions, email)
    slip = tmp_path / "advice.pdf"
    slip.write_bytes(PDF)

    # The rates' journey is the other's: who sets the rate of a currency records no transfer in it.
    finance = sign_in("controller@demo.example", path="/bank_transfers")
    finance.get_by_label("Account number").fill(str(account))
    finance.keyboard.press("Enter")
    admin = sign_in("finance@demo.example", PHONE, "/bank_transfers")
    customer = sign_in(email)
    # The second meets the form and the list that the first left behind, and looks like a repeat.
    given = (("20,000,000", "₫20,000,000", False), ("20.000.000", "₫40,000,000", True))
    for typed, balance, is_repeat in given:
        line = f"FT{uuid.uuid4().hex[:10]}"
        fill(finance, typed, line, slip)
        if is_repeat:
            confirm_another(finance)
        record(finance, line)
        approve(admin, line)
        customer.reload()
        expect(customer.get_by_role("link", name=f"Balance {balance}")).to_be_visible()


def fill(finance: Page, typed: str, line: str, slip: Path) -> None:
    """Fill in a transfer of 20,000,000 dong for the account that was named."""
    finance.get_by_label("Amount (VND)").fill(typed)
    finance.get_by_role("textbox", name="Bank reference").fill(line)
    finance.locator("input[type=file]").set_input_files(slip)
    expect(finance.get_by_text("advice.pdf")).to_be_visible()


def confirm_another(finance: Page) -> None:
    """Be told that it looks like a transfer recorded before, and say that it is another."""
    finance.get_by_role("button", name="Record transfer").click()
    expect(
        finance.get_by_text("This account already has a transfer of ₫20,000,000")
    ).to_be_visible()
    assert serious_violations(finance) == {}
    finance.get_by_text("This is a separate transfer of the same amount and date").click()


def record(finance: Page, line: str) -> None:
    """Record what was filled in, and find it waiting for somebody else."""
    finance.get_by_role("button", name="Record transfer").click()
    expect(
        finance.get_by_text("Transfer of ₫20,000,000 recorded for Lan's account")
    ).to_be_visible()
    mine = finance.locator("[class*=st-key-transfer-]").filter(has_text=line)
    expect(
        mine.get_by_text("You recorded this. Waiting for approval by another finance member.")
    ).to_be_visible()
    expect(mine.get_by_role("button", name="Approve…")).to_have_count(0)
    assert serious_violations(finance) == {}


def approve(admin: Page, line: str) -> None:
    """Read the evidence and approve the transfer."""
    admin.reload()
    waiting = admin.locator("[class*=st-key-transfer-]").filter(has_text=line)
    with admin.expect_download() as download:
        waiting.get_by_role("link", name="Open evidence").click()
    assert Path(download.value.path()).read_bytes() == PDF
    open_popover(waiting, "Approve…")
    assert serious_violations(admin) == {}
    admin.get_by_role("button", name="Approve transfer of ₫20,000,000").click()
    expect(admin.get_by_text("₫20,000,000 credited to Lan's account.")).to_be_visible()


def test_support_sees_transfers_and_changes_nothing(sign_in: Callable[..., Page]) -> None:
    support = sign_in("support@demo.example", path="/bank_transfers")
    expect(support.get_by_role("heading", name="Bank transfers")).to_be_visible()
    expect(support.get_by_role("heading", name="Waiting for approval")).to_be_visible()
    expect(support.get_by_role("heading", name="Record a bank transfer")).to_have_count(0)
    expect(support.get_by_role("link", name="Open evidence")).to_have_count(0)
