"""Finance opens Analytics, narrows it, comes to an account's charges, and takes the Excel file."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from openpyxl import load_workbook
from playwright.sync_api import expect

from tests.e2e.conftest import choose, settle
from tests.support.journeys import OWNER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

FINANCE = "finance@demo.example"
MINUS = "\N{MINUS SIGN}"
PARTS = (
    "Opening balance",
    "Credits issued",
    "Usage",
    "Expired",
    "Refunds and chargebacks",
    "Reversals and write-offs",
)
END = "Closing balance"


def open_analytics(page: Page, query: str = "") -> None:
    settle(page)
    page.goto(page.url.split("?")[0].rstrip("/") + "/analytics" + query)
    expect(page.get_by_role("heading", name="Credits issued and usage")).to_be_visible()
    settle(page)


def figure(page: Page, name: str) -> Decimal:
    """Return a figure at the top, as a number."""
    metric = page.get_by_test_id("stMetric").filter(has_text=name)
    shown = metric.get_by_test_id("stMetricValue").inner_text()
    return Decimal(re.sub(r"[^\d.-]", "", shown.replace(MINUS, "-")))


def choose_first_row(page: Page, heading: str) -> None:
    """Click into the first row of the table under a heading; it is drawn on a canvas."""
    settle(page)
    title = page.get_by_role("heading", name=heading, exact=True)
    title.evaluate("title => title.scrollIntoView({block: 'start'})")
    below = title.locator("xpath=following::*[@data-testid='stDataFrame']").first
    below.click(position={"x": 18, "y": 52})


def test_finance_comes_from_the_whole_to_an_accounts_charges(sign_in: Callable[..., Page]) -> None:
    page = sign_in(FINANCE)
    page.get_by_role("link", name="Analytics").click()
    expect(page.get_by_role("heading", name="Credits issued and usage")).to_be_visible()
    choose(page, "Site", "Japan")
    page.wait_for_url("**site=jp**")
    settle(page)
    # Each is shown in whole yen by itself; that they add up exactly is seen in the file below.
    difference = sum(figure(page, name) for name in PARTS) - figure(page, END)
    assert abs(difference) <= Decimal(len(PARTS) + 1) / 2
    choose_first_row(page, "Services")
    page.wait_for_url(re.compile(r"service=.*accounts=yes|accounts=yes.*service="))
    expect(page.get_by_text("Credit is not recorded by service")).to_be_visible()
    choose_first_row(page, "Accounts")
    page.wait_for_url(re.compile(r"account=\d+.*tab=history.*kind=charge.*from=.*service="))
    expect(page.get_by_text("You are viewing account")).to_be_visible()
    expect(page.get_by_text(re.compile(r"^[\d,]+ rows?$"))).to_be_visible()


def test_a_click_on_a_bar_shows_its_accounts_and_back_undoes_it(
    sign_in: Callable[..., Page],
) -> None:
    page = sign_in(FINANCE)
    open_analytics(page)
    whole = figure(page, "Usage")
    page.locator("g.bars g.point").nth(2).click(force=True)
    page.wait_for_url(re.compile(r"period=own.*accounts=yes"))
    expect(page.get_by_text("Select a row to see the account's charges")).to_be_visible()
    settle(page)
    assert 0 > figure(page, "Usage") > whole
    page.go_back()
    expect(page.get_by_text("Select a row to see the account's charges")).to_have_count(0)
    settle(page)
    assert figure(page, "Usage") == whole
    assert page.url.endswith("/analytics")


def test_the_excel_file_has_the_figures_of_the_page(
    sign_in: Callable[..., Page], tmp_path: Path
) -> None:
    page = sign_in(FINANCE)
    open_analytics(page, "?site=jp&period=90")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as Excel").click()
    file = tmp_path / "analytics.xlsx"
    download.value.save_as(file)
    assert re.fullmatch(r"analytics-[\d-]+\.xlsx", download.value.suggested_filename)
    book = load_workbook(file)
    amounts: dict[str, Decimal] = {}
    for currency, what, _number, exact in book["Summary"].iter_rows(
        min_row=8, max_col=4, values_only=True
    ):
        assert currency == "JPY"
        name = str(what).split(":")[0]
        amounts[name] = amounts.get(name, Decimal(0)) + Decimal(str(exact))
    assert amounts.keys() == {*PARTS, END}
    assert sum(amounts[name] for name in PARTS) == amounts[END]
    for name, exact_amount in amounts.items():
        assert round(exact_amount) == figure(page, name), name  # yen have no decimals
    message = {row[0].value: row[1].value for row in book["Summary"].iter_rows(max_row=5)}
    assert message["Site"] == "Japan"


@pytest.mark.parametrize("email", [OWNER, "support@demo.example"])
def test_nobody_else_finds_it_by_its_address(sign_in: Callable[..., Page], email: str) -> None:
    page = sign_in(email, path="/analytics")
    settle(page)
    expect(page.get_by_role("link", name="Billing")).to_be_visible()
    expect(page.get_by_role("link", name="Analytics")).to_have_count(0)
    expect(page.get_by_role("heading", name="Credits issued and usage")).to_have_count(0)
    assert "Closing balance" not in page.inner_text("body")
