"""An administrator gives somebody a role, and takes the access review away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openpyxl
import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, PHONE
from tests.e2e.test_accessibility import serious_violations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_role_is_given(
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    viewport: dict[str, int],
    tmp_path: Path,
) -> None:
    email = new_owner("global")
    page = sign_in("admin@demo.example", viewport, "/staff")
    page.get_by_role("textbox", name="Email", exact=True).fill(email)
    page.get_by_role("textbox", name="Reason").first.fill("Hired for the night shift")
    page.get_by_role("button", name="Give the role").click()
    expect(page.get_by_text("They have the role now")).to_be_visible()
    assert serious_violations(page) == {}
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download the access review").click()
    path = tmp_path / "review.xlsx"
    downloading.value.save_as(path)
    people, may, did, _flags = openpyxl.load_workbook(path).worksheets
    assert email in {row[1] for row in people.values}
    assert email in {row[0] for row in may.values}
    assert "change_staff_role" in {row[1] for row in did.values}
    agent = sign_in(email, viewport, "/approvals")
    expect(agent.get_by_text("Nothing waits here.")).to_be_visible()


def test_a_customer_is_looked_up_and_shut_out(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], tmp_path: Path
) -> None:
    email = new_owner("global")
    customer = sign_in(email, DESKTOP, "/members")
    expect(customer.get_by_role("heading", name="Members", exact=True)).to_be_visible()
    page = sign_in("admin@demo.example", DESKTOP, "/staff")
    page.get_by_role("textbox", name="Somebody without a role").fill(email)
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_text("No role · Active")).to_be_visible()
    page.get_by_role("textbox", name="Reason").last.fill("Stolen card")
    page.get_by_role("button", name="Disable", exact=True).click()
    expect(page.get_by_text("No role · Disabled")).to_be_visible()
    assert serious_violations(page) == {}
    customer.reload()
    expect(customer.get_by_role("button", name="Sign in")).to_be_visible()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="The roles alone, as CSV").click()
    path = tmp_path / "roles.csv"
    downloading.value.save_as(path)
    lines = path.read_text("utf-8-sig").splitlines()
    assert any("admin@demo.example" in line and "everything" in line for line in lines)
