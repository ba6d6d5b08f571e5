"""The whole portal without a mouse: every control is reached by Tab, seen, and does its work."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from portal import demo
from tests.e2e.conftest import DESKTOP, settle
from tests.support.journeys import OWNER

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

MAX_STEPS = 80
NAME = """() => {
  const it = document.activeElement;
  const labels = it.labels ? [...it.labels].map(label => label.innerText) : [];
  const within = it.closest('[data-testid="stDataFrame"]') ? ['a table'] : [];
  const text = it.innerText && it.innerText.length < 80 ? it.innerText : '';
  return [it.getAttribute('aria-label'), ...labels, text, it.value, ...within]
    .filter(Boolean).join(' | ').replace(/\\s+/g, ' ');
}"""
IS_SEEN = """async () => {
  const it = document.activeElement;
  if (it.closest('[data-testid="stDataFrame"]')) { return true; }  // it draws its own frame
  const looks = () => {
    const all = [];
    for (let one = it, step = 0; one && step < 5; one = one.parentElement, step += 1) {
      const style = getComputedStyle(one);
      all.push(style.outline, style.boxShadow, style.borderColor, style.backgroundColor);
    }
    return all.join();
  };
  // Colours take their time to change.
  const settled = async () => {
    await new Promise(done => setTimeout(done, 600));
    return looks();
  };
  const focused = await settled();
  it.blur();
  const blurred = await settled();
  it.focus({preventScroll: true});
  return focused !== blurred;
}"""


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus is called so; it must be seen to have it."""
    settle(page)
    passed = []
    for _ in range(MAX_STEPS):
        page.keyboard.press("Tab")
        found = page.evaluate(NAME)
        if re.search(name, found):
            assert page.evaluate(IS_SEEN), f"{found} does not show that it has the focus"
            return
        passed.append(found)
    pytest.fail(f"Tab never came to {name}: " + "; ".join(passed))


def enter(page: Page, portal_url: str, email: str) -> None:
    """Sign in by typing."""
    page.goto(portal_url + "/sign-in")
    page.get_by_label("Email").focus()
    page.keyboard.type(email)
    page.keyboard.press("Tab")
    page.keyboard.type(demo.PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Menu").wait_for()
    settle(page)


def test_a_customer_needs_no_mouse(portal_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(DESKTOP)
    enter(page, portal_url, OWNER)
    tab_to(page, "^Overview")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.get_by_text("Select a row").wait_for()
    tab_to(page, "^Service")
    page.keyboard.type("GPU VM")
    page.keyboard.press("Enter")
    page.wait_for_url("**service=gpu-vm**")
    page.keyboard.press("Escape")
    tab_to(page, "^Export Excel")
    with page.expect_download() as file:
        page.keyboard.press("Enter")
    assert file.value.suggested_filename.endswith(".xlsx")
    tab_to(page, "^a table")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Space")
    expect(page.get_by_text("Credit used")).to_be_visible()
    tab_to(page, "Back to Credit History")
    page.keyboard.press("Enter")
    page.get_by_text("Select a row").wait_for()


def test_usage_and_members_need_no_mouse(portal_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(DESKTOP)
    enter(page, portal_url, OWNER)
    tab_to(page, "^(bar_chart )?Usage|Usage$")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Top resources")).to_be_visible()
    tab_to(page, "^Period")
    page.keyboard.press("ArrowDown")
    page.keyboard.type("Last 90")
    page.keyboard.press("Enter")
    page.wait_for_url("**period=90**")
    page.goto(portal_url + "/members")
    expect(page.get_by_role("table", name="Members")).to_be_visible()
    tab_to(page, "^Email")
    page.keyboard.type("keyboard@journey.example")
    tab_to(page, "^Send invitation")
    page.keyboard.press("Enter")
    expect(page.get_by_text("keyboard@journey.example is invited with the role")).to_be_visible()
    tab_to(page, "Menu")
    page.keyboard.press("Enter")
    tab_to(page, "^Sign out")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sign-in**")


def test_staff_need_no_mouse(portal_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(DESKTOP)
    enter(page, portal_url, "finance@demo.example")
    tab_to(page, "^Account name, account number")
    page.keyboard.type("Japan")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name=re.compile("Open account"))).to_have_count(1)
    tab_to(page, "^Open account")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Usage by day")).to_be_visible()
    page.goto(portal_url + "/analytics")
    page.get_by_text("Credits issued and usage").first.wait_for()
    tab_to(page, "Show top accounts by usage")
    page.keyboard.press("Space")
    page.wait_for_url("**accounts=yes**")
    tab_to(page, "^Download as Excel|Download as Excel$")
    with page.expect_download() as file:
        page.keyboard.press("Enter")
    assert file.value.suggested_filename.startswith("analytics-")
