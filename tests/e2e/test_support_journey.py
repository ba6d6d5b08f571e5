"""Support helps a customer: within the limit alone, and above it with somebody of finance."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, PHONE, open_popover
from tests.support.accessibility import serious_violations
from tests.support.journey_accounts import account_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from sqlalchemy.orm import Session, sessionmaker

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_support_issues_a_voucher_and_the_customer_redeems_it(
    portal_sessions: sessionmaker[Session],
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    viewport: dict[str, int],
) -> None:
    email = new_owner("vn")
    account = account_of(portal_sessions, email)
    agent = sign_in("support@demo.example", viewport, "/")
    agent.get_by_role("textbox", name="Account name, account number").fill(email)
    agent.keyboard.press("Enter")
    agent.get_by_role("button", name=f"Open account {account}").click()
    expect(agent.get_by_text("Account opened")).not_to_be_visible()  # nobody's hand did
    agent.get_by_text("Actions", exact=True).click()
    expect(agent.get_by_role("combobox", name="Campaign")).to_be_visible()
    assert serious_violations(agent) == {}
    code = issue_voucher(agent, "Slow answers on Monday")
    customer = sign_in(email, viewport, "/billing?tab=vouchers")
    customer.get_by_role("button", name=f"Redeem {code}").click()
    expect(customer.get_by_text("Your voucher has been applied successfully.")).to_be_visible()
    expect(customer.get_by_role("link", name="Balance ₫500,000")).to_be_visible()

    # Once more, on the pages that the first left behind.
    another = issue_voucher(agent, "And on Tuesday")
    assert another != code
    choose_action(agent, "Grant goodwill credit")
    expect(
        agent.get_by_text("Amounts above that need approval by a finance member.")
    ).to_be_visible()
    for each in (code, another):
        expect(agent.locator("code", has_text=each)).to_be_visible()
    if viewport == DESKTOP:  # a phone has the links in a menu
        agent.get_by_role("link", name="Payments", exact=True).click()
        expect(agent.get_by_role("heading", name="Payments", exact=True)).to_be_visible()
        agent.go_back()
        agent.get_by_role("radio", name="Actions").click()
        expect(
            agent.get_by_text("Amounts above that need approval by a finance member.")
        ).to_be_visible()
        expect(agent.locator("code")).to_have_count(0)
    customer.reload()
    customer.get_by_role("button", name=f"Redeem {another}").click()
    expect(customer.get_by_role("link", name="Balance ₫1,000,000")).to_be_visible()


def choose_action(agent: Page, name: str) -> None:
    """Choose what to do, on the page of an account."""
    agent.get_by_role("radio", name=name).click()


def issue_voucher(agent: Page, reason: str) -> str:
    """Issue a voucher to the account in view, and return its code."""
    before = agent.locator("code").all_inner_texts()
    agent.get_by_label("Reason").fill(reason)
    agent.get_by_label("Reason").press("Tab")
    agent.get_by_role("button", name="Issue voucher").click()
    # The message of the voucher before stands there until this one's takes its place.
    shown = agent.locator("code", has_not_text=before[0]) if before else agent.locator("code")
    expect(shown).to_be_visible()
    expect(agent.get_by_text("The customer can redeem it under Voucher list")).to_be_visible()
    code = shown.inner_text().strip()
    assert re.fullmatch("[A-Z2-9]{10}", code)
    return code


def test_above_the_limit_a_second_person_approves(
    portal_sessions: sessionmaker[Session],
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
) -> None:
    account = account_of(portal_sessions, new_owner("vn"))
    finance = sign_in(
        "finance@demo.example", DESKTOP, f"/account?account={account}&show=act&do=give_goodwill"
    )
    finance.get_by_label("Amount in VND").fill("90,000,000")
    finance.get_by_label("Reason").fill("A week without service")
    finance.get_by_role("button", name="Grant goodwill credit").dblclick()
    expect(finance.get_by_text("is waiting for approval by finance until")).to_be_visible()
    finance.get_by_role("link", name="Approvals").click()
    mine = finance.locator("[class*=st-key-request-]").filter(has_text=f"· {account}")
    expect(mine).to_have_count(1)
    expect(finance.get_by_text("1 of your requests is waiting")).to_be_visible()
    expect(
        mine.get_by_text("You requested this. Waiting for approval by another finance member.")
    ).to_be_visible()
    expect(mine.get_by_role("button", name="Approve…")).to_have_count(0)

    other = sign_in("controller@demo.example", PHONE, "/approvals")
    waiting = other.locator("[class*=st-key-request-]").filter(has_text=f"· {account}")
    expect(waiting.get_by_text("A week without service")).to_be_visible()
    assert serious_violations(other) == {}
    open_popover(waiting, "Approve…")
    other.get_by_role("button", name="Grant goodwill credit of ₫90,000,000").click()
    message = other.get_by_text(
        re.compile(rf"^Grant goodwill credit of ₫90,000,000, .*\({account}\)\.")
    )
    expect(message).to_contain_text("Request approved and carried out.")
    expect(message).to_be_in_viewport()

    finance.goto(finance.url.split("/approvals")[0] + f"/account?account={account}")
    expect(finance.get_by_role("link", name="Balance ₫90,000,000")).to_be_visible()
    assert serious_violations(finance) == {}
