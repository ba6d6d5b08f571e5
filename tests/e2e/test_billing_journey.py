"""A customer signs in, sees the balance, filters, and opens a charge; nobody sees another's."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Error, expect

from tests.e2e.conftest import DESKTOP, PHONE, choose, settle
from tests.support.journeys import OWNER, open_first_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_customer_sees_the_balance_filters_and_opens_a_charge(
    sign_in: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = sign_in(OWNER, viewport)
    header = page.get_by_role("link", name=re.compile(r"Balance \$\d"))
    expect(header).to_be_visible()
    expect(page.get_by_text("Total balance")).to_be_visible()
    expect(page.get_by_text("Voucher credit").first).to_be_visible()
    page.get_by_text("Credit History").click()
    expect(page.get_by_text(re.compile(r"^[\d,]+ rows$"))).to_be_visible()
    choose(page, "Service", "AI Inference")
    page.keyboard.press("Escape")
    page.wait_for_url("**service=ai-inference**")
    open_first_row(page)
    expect(page.get_by_text("Credit used")).to_be_in_viewport()
    expect(page.get_by_text(re.compile(r"Calls \(\d"))).to_be_visible()
    expect(page.get_by_text("Balance after")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Credit used")).to_be_visible()
    page.get_by_role("button", name="Back to Credit History").click()
    expect(page.get_by_text("Select a row")).to_be_visible()
    assert page.url.endswith("service=ai-inference")


def test_back_undoes_a_filter_and_leaves_a_row(sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER)
    page.get_by_text("Credit History").click()
    everything = page.get_by_text(re.compile(r"^[\d,]+ rows$")).inner_text()
    choose(page, "Type", "Top-up")
    page.keyboard.press("Escape")
    expect(page.get_by_text(re.compile(r"^\d rows$"))).to_be_visible()
    open_first_row(page)
    expect(page.get_by_text("Credit grants changed")).to_be_visible()
    page.go_back()
    expect(page.get_by_text(re.compile(r"^\d rows$"))).to_be_visible()
    page.go_back()
    expect(page.get_by_text(everything)).to_be_visible()
    page.go_back()
    expect(page.get_by_text("Total balance")).to_be_visible()


def test_pages_lead_to_older_rows_and_back(sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER, path="/?tab=history")
    page.get_by_role("button", name="Older").click()
    page.wait_for_url("**older=**")
    settle(page)
    page.get_by_role("button", name="Newer").click()
    page.wait_for_url("**newer=**")
    settle(page)
    expect(page.get_by_role("button", name="Newer")).to_be_disabled()
    page.get_by_role("button", name="Newest").click()
    expect(page.get_by_role("button", name="Newest")).to_be_disabled()


def test_the_balance_stands_at_the_top_right(sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER)
    box = page.get_by_role("link", name=re.compile(r"Balance \$\d")).bounding_box()
    assert box is not None
    assert box["x"] > DESKTOP["width"] / 2
    assert box["y"] < 200


@pytest.mark.parametrize("path", ["/?account=1001", "/?account=99999", "/?account=x", "/?row=e1"])
def test_editing_the_address_shows_nothing_of_another_account(
    sign_in: Callable[..., Page], path: str
) -> None:
    page = sign_in("owner.jp@demo.example", path=path)
    expect(page.get_by_text("Demo Japan")).to_be_visible()
    expect(page.get_by_text("Total balance")).to_be_visible()
    assert "Demo Vietnam" not in page.inner_text("body")
    assert "₫" not in page.inner_text("body")


def test_a_reader_of_two_accounts_switches_between_them(sign_in: Callable[..., Page]) -> None:
    page = sign_in("reader@demo.example")
    expect(page.get_by_role("link", name=re.compile(r"Balance"))).to_be_visible()
    page.get_by_role("combobox", name="Account").click()
    page.get_by_role("option", name="Demo Europe").click()
    expect(page.get_by_role("link", name=re.compile(r"Balance.*€"))).to_be_visible()


def test_support_finds_an_account_and_is_told_whose_it_is(sign_in: Callable[..., Page]) -> None:
    page = sign_in("support@demo.example")
    page.get_by_label("Account name, account number").fill("Japan")
    page.keyboard.press("Enter")
    found = page.get_by_role("button", name=re.compile("Open account"))
    expect(found).to_have_count(1)
    found.click()
    expect(page.get_by_text("Usage by day")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile(r"Balance ¥"))).to_be_visible()
    page.get_by_role("link", name="Billing", exact=True).click()
    expect(page.get_by_text("Total balance")).to_be_visible()
    page.reload()
    expect(page.get_by_text("as staff")).to_be_visible()
    page.get_by_text("Credit History").click()
    expect(page.get_by_text("as staff")).to_be_visible()
    expect(page.get_by_text("Select a row")).to_be_visible()


def test_sign_out_ends_the_session_for_every_tab(sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER)
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_role("button", name="Menu").wait_for()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in**")
    # The portal closes pages of ended sessions by itself: this one may be gone before the click.
    with suppress(Error):
        other.get_by_text("Credit History").click(timeout=10_000)
    other.wait_for_url("**/sign-in**")
