"""An administrator looks up who did what, and takes it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openpyxl
import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, PHONE, settle
from tests.support.accessibility import serious_violations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_an_administrator_reads_the_log(
    sign_in: Callable[..., Page], viewport: dict[str, int], tmp_path: Path
) -> None:
    page = sign_in("admin@demo.example", viewport, "/audit?what=sign_in")
    settle(page)
    expect(page.get_by_text("Times are in")).to_be_visible()
    assert serious_violations(page) == {}
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download as Excel").click()
    path = tmp_path / "audit.xlsx"
    downloading.value.save_as(path)
    (sheet,) = openpyxl.load_workbook(path).worksheets
    assert "sign_in" in {row[4] for row in sheet.values}
    page.goto(page.url.split("/audit")[0] + "/audit?who=person&person=nobody@demo.example")
    expect(page.get_by_text("No matching entries.")).to_be_visible()
