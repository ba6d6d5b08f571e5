"""A customer asks where the credit went, and comes from a bar to its charges."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, PHONE, choose, settle
from tests.support.accessibility import serious_violations
from tests.support.journeys import OWNER

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def open_usage(page: Page) -> None:
    settle(page)
    page.goto(page.url.split("?")[0].rstrip("/") + "/usage")
    expect(page.get_by_text("Top resources")).to_be_visible()
    settle(page)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_usage_has_no_serious_violation(
    sign_in: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = sign_in(OWNER, viewport)
    open_usage(page)
    page.locator("g.bars g.point").first.wait_for()
    assert serious_violations(page) == {}


def test_a_click_on_a_bar_opens_its_charges(sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER, DESKTOP)
    open_usage(page)
    page.locator("g.bars g.point").nth(2).click(force=True)
    page.wait_for_url(re.compile(r"tab=history.*kind=charge.*from=\d{4}-\d\d-\d\d.*service="))
    expect(page.get_by_text(re.compile(r"^[\d,]+ rows?$"))).to_be_visible()


def test_the_period_is_kept_by_reload(sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER, DESKTOP)
    open_usage(page)
    choose(page, "Period", "Last 90 days")
    page.wait_for_url("**period=90**")
    page.reload()
    settle(page)
    expect(page.get_by_role("combobox", name="Period")).to_have_attribute("value", "Last 90 days")
