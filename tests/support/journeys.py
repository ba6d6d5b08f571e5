"""Steps that several journeys in a browser take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.conftest import settle

if TYPE_CHECKING:
    from playwright.sync_api import Page


OWNER = "owner@demo.example"


def open_first_row(page: Page) -> None:
    """Click into the first row; the table is drawn on a canvas, once for each width of screen."""
    settle(page)
    table = page.get_by_test_id("stDataFrame").locator("visible=true").first
    table.evaluate("table => table.scrollIntoView({block: 'start'})")
    table.click(position={"x": 18, "y": 52})
