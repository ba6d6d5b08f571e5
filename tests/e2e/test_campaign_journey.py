"""A starter pack: proposed, approved by somebody else, its codes taken away, and redeemed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import openpyxl
import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from tests.e2e.conftest import DESKTOP, PHONE, choose
from tests.support.accessibility import serious_violations
from tests.support.journey_accounts import account_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page
    from sqlalchemy.orm import Session, sessionmaker

pytestmark = pytest.mark.browser


def choose_one(page: Page, label: str, option: str) -> None:
    """Choose one of many in a field that takes several."""
    choose(page, label, option, option)
    page.keyboard.press("Escape")


def propose(page: Page, name: str) -> None:
    page.get_by_label("Name (internal)").fill(name)
    page.get_by_label("Description for customers").fill("Starter credit")
    choose_one(page, "Currencies", "VND")
    page.get_by_label("Split credit by service").fill("2")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Part 2 in VND")).to_be_visible()
    choose_one(page, "Services of part 1", "AI Inference")
    fill_amounts(page)
    page.get_by_role("button", name="Request campaign").click()
    expect(
        page.get_by_text("Requested. Waiting for approval by another finance member.")
    ).to_be_visible()


def fill_amounts(page: Page) -> None:
    page.get_by_label("Part 1 in VND").fill("600,000")
    page.get_by_label("Part 2 in VND").fill("400,000")
    page.get_by_label("Total budget in VND").fill("100,000,000")
    page.keyboard.press("Tab")


def propose_again(page: Page, name: str) -> None:
    """Propose the same under another name, from the form that the first left behind."""
    message = page.get_by_text("Requested. Waiting for approval by another finance member.")
    page.get_by_label("Name (internal)").fill(name)
    page.keyboard.press("Tab")
    expect(message).to_have_count(0)
    fill_amounts(page)
    page.get_by_role("button", name="Request campaign").click()
    expect(message).to_be_visible()


@pytest.mark.timeout(300)
def test_a_starter_pack_gives_its_split(
    portal_sessions: sessionmaker[Session],
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    tmp_path: Path,
) -> None:
    name = f"Starter {uuid.uuid4().hex[:8]}"
    finance = sign_in("finance@demo.example", DESKTOP, "/campaigns")
    propose(finance, name)
    propose_again(finance, f"{name} again")

    other = sign_in("controller@demo.example", DESKTOP, "/approvals")
    other.get_by_role("link", name="Campaigns (").click()
    expect(other.get_by_text("Select a row for details.")).to_be_visible()
    assert serious_violations(other) == {}
    email = new_owner("vn")
    account_of(portal_sessions, email)
    other = sign_in("controller@demo.example", PHONE, "/approvals")
    customer = sign_in(email, PHONE)
    given = (("₫1,000,000", "2 rows"), ("₫2,000,000", "4 rows"))
    for proposed, (balance, rows) in zip((name, f"{name} again"), given, strict=True):
        with portal_sessions() as session:
            number = session.scalars(
                text("SELECT id FROM campaigns WHERE name = :name"), {"name": proposed}
            ).one()
        codes = approve_and_make_codes(other, number, tmp_path)
        redeem(customer, codes[0], balance, rows)


def approve_and_make_codes(other: Page, number: int, folder: Path) -> list[str]:
    """Approve a campaign, and take its hundred codes away."""
    other.goto(f"{other.url.split('/approvals')[0].split('/campaigns')[0]}/campaigns?id={number}")
    expect(other.get_by_text("₫600,000 for AI Inference + ₫400,000 for all")).to_be_visible()
    assert serious_violations(other) == {}
    other.get_by_role("button", name="Approve campaign").click()
    expect(other.get_by_text("Campaign approved. Codes can now be generated.")).to_be_visible()
    other.get_by_role("button", name="Generate codes").click()
    expect(other.get_by_text("100 codes generated.")).to_be_visible()
    assert serious_violations(other) == {}
    with other.expect_download() as downloading:
        other.get_by_role("link", name="Download as Excel").click()
    path = folder / f"codes-{number}.xlsx"
    downloading.value.save_as(path)
    (sheet,) = openpyxl.load_workbook(path).worksheets
    codes = [str(row[0]) for row in sheet.values if row[0] and row[0] != "Code"]
    assert len(set(codes)) == 100
    return codes


def redeem(customer: Page, code: str, balance: str, rows: str) -> None:
    """Redeem a code, and find the balance and the history that follow."""
    customer.get_by_text("Overview").click()
    customer.get_by_label("Voucher code").fill(code)
    customer.get_by_role("button", name="Apply Code").click()
    expect(customer.get_by_role("link", name=f"Balance {balance}")).to_be_visible()
    customer.get_by_text("Credit History").click()
    expect(customer.get_by_text(rows)).to_be_visible()
