"""People take Credit History with them as a file, and it adds up to the balance they see."""

from __future__ import annotations

import csv
import re
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

import pytest
from openpyxl import load_workbook
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, PHONE, settle
from tests.support.accessibility import serious_violations
from tests.support.journeys import OWNER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

BALANCE = re.compile(r"Balance \$([\d,.]+)")
COIN = Decimal("0.01")


def download(page: Page, button: str) -> Path:
    settle(page)
    with page.expect_download() as expected:
        page.get_by_role("button", name=button).click()
    found: Path = expected.value.path()
    return found.rename(found.with_name(expected.value.suggested_filename))


def test_no_table_offers_a_file_whose_texts_nobody_guards(sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER, DESKTOP)
    page.goto(page.url.split("?")[0] + "?tab=history")
    page.get_by_text("Select a row").wait_for()
    settle(page)
    page.get_by_test_id("stDataFrame").locator("visible=true").first.hover()
    expect(page.get_by_role("button", name=re.compile("^Search"))).not_to_have_count(0)
    unguarded = page.locator('button[aria-label^="Download as CSV"]')
    expect(unguarded).not_to_have_count(0)  # it is Streamlit's, and hidden
    expect(unguarded.locator("visible=true")).to_have_count(0)


def balance_on(page: Page) -> Decimal:
    """Return the balance that the header of the page shows."""
    shown = BALANCE.search(page.get_by_role("link", name=BALANCE).inner_text())
    assert shown is not None
    return Decimal(shown.group(1).replace(",", ""))


def exact_sum(path: Path) -> Decimal:
    sheet = load_workbook(path)["Credit History"]
    rows = sheet.iter_rows(min_row=10, values_only=True)
    return sum((Decimal(str(row[8])) for row in rows if row[6] == "Success"), Decimal(0))


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_workbook_of_everything_adds_up_to_the_balance(
    sign_in: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = sign_in(OWNER, viewport)
    page.goto(page.url.split("?")[0] + "?tab=history")
    page.get_by_text("Select a row").wait_for()
    path = download(page, "Export Excel")
    assert re.fullmatch(r"credit-history-\d+-\d{4}-\d\d-\d\d\.xlsx", path.name)
    assert exact_sum(path).quantize(COIN, ROUND_HALF_UP) == balance_on(page)
    assert serious_violations(page) == {}


def test_a_csv_has_the_rows_that_the_page_counts(sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER, DESKTOP)
    page.goto(page.url.split("?")[0] + "?tab=history&kind=charge&service=gpu-vm")
    counted = page.get_by_text(re.compile(r"^[\d,]+ rows?$"))
    counted.wait_for()
    count = int(re.sub(r"\D", "", counted.inner_text()))
    path = download(page, "Export CSV")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count > 0
    assert {row["Service"] for row in rows} == {"GPU VM"}
    assert all(row["Exact amount (USD)"].startswith("-") for row in rows)


def test_support_exports_the_account_that_it_looks_at(sign_in: Callable[..., Page]) -> None:
    page = sign_in("support@demo.example")
    page.get_by_label("Account name, account number").fill("Japan")
    page.keyboard.press("Enter")
    found = page.get_by_role("button", name=re.compile("Open account"))
    expect(found).to_have_count(1)
    found.click()
    page.get_by_text("Usage by day").wait_for()
    page.get_by_role("link", name="Billing", exact=True).click()
    page.get_by_text("Total balance").wait_for()
    page.get_by_text("Credit History").click()
    page.get_by_text("Select a row").wait_for()
    looked_at = re.search(r"account=(\d+)", page.url)
    assert looked_at is not None
    path = download(page, "Export Excel")
    sheet = load_workbook(path)["Credit History"]
    assert f"(account {looked_at.group(1)})" in str(sheet["A1"].value)


def test_a_file_is_offered_again_until_it_is_closed(sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER, DESKTOP)
    page.goto(page.url.split("?")[0] + "?tab=history&export=999999")
    page.get_by_text("This file is no longer available.").wait_for()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_text("This file is no longer available.")).to_be_hidden()
    assert "export=" not in page.url


def test_nothing_to_export_is_nothing_to_click(sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER, DESKTOP)
    page.goto(page.url.split("?")[0] + "?tab=history&text=no-such-thing-at-all")
    page.get_by_text("No results.").wait_for()
    expect(page.get_by_role("button", name="Export Excel")).to_be_disabled()
