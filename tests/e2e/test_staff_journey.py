"""Administrators give somebody a role, alone or two, and take the access review away."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import openpyxl
import pytest
from playwright.sync_api import expect

from domain import identity
from domain.actors import StaffRole, system_actor
from tests.e2e.conftest import DESKTOP, PHONE, open_popover, settle
from tests.support.accessibility import serious_violations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Locator, Page
    from sqlalchemy.orm import Session, sessionmaker

pytestmark = pytest.mark.browser


@pytest.fixture
def hire(portal_sessions: sessionmaker[Session]) -> Callable[[StaffRole | None], str]:
    """Return a function that makes a person, who belongs to no account, and returns the address."""

    def make(role: StaffRole | None) -> str:
        email = f"{uuid.uuid4().hex[:10]}@staff.example"
        with portal_sessions.begin() as session:
            identity.create_user(
                session,
                email=email,
                display_name="Sample Person",
                password=uuid.uuid4().hex,
                staff_role=role,
                actor=system_actor("tests"),
            )
        return email

    return make


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_role_is_given(
    hire: Callable[[StaffRole | None], str],
    sign_in: Callable[..., Page],
    viewport: dict[str, int],
    tmp_path: Path,
) -> None:
    email = hire(None)
    page = sign_in("admin@demo.example", viewport, "/staff")
    give_role(page, email)
    expect(page.get_by_text("Role Support assigned to")).to_be_in_viewport()
    expect(giving(page).get_by_role("textbox", name="Email")).to_have_value("")
    assert serious_violations(page) == {}
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download access review").click()
    path = tmp_path / "review.xlsx"
    downloading.value.save_as(path)
    people, may, did, flags = openpyxl.load_workbook(path).worksheets
    assert email in {row[1] for row in people.values}
    assert email in {row[0] for row in may.values}
    assert "Changed a staff role" in {row[1] for row in did.values}
    assert "controller@demo.example" in {row[0] for row in flags.values}
    agent = sign_in(email, viewport, "/approvals")
    expect(agent.get_by_text("No account requests are waiting")).to_be_visible()


def confirm(page: Page, label: str, about: str) -> None:
    """Open what asks once more, read whom it is about, and confirm."""
    open_popover(page, f"{label}…")
    expect(page.get_by_text(about)).to_be_visible()
    assert serious_violations(page) == {}
    page.get_by_role("button", name=label, exact=True).click()
    expect(page.get_by_text(about)).to_be_hidden()


def fill_in(field: Locator, text: str) -> None:
    """Fill in a field outside a form, and wait until the page has run with it."""
    settle(field.page)
    field.fill(text)
    field.press("Tab")
    settle(field.page)


def give_role(page: Page, email: str) -> None:
    settle(page)
    form = giving(page)
    form.get_by_role("textbox", name="Email", exact=True).fill(email)
    form.get_by_role("textbox", name="Reason").fill("Hired for the night shift")
    form.get_by_role("button", name="Assign role").click()


def giving(page: Page) -> Locator:
    """Return the form that gives somebody a role."""
    button = page.get_by_role("button", name="Assign role")
    return page.get_by_test_id("stForm").filter(has=button)


def test_a_role_of_a_customer_takes_a_second_administrator(
    hire: Callable[[StaffRole | None], str],
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
) -> None:
    second = hire(StaffRole.ADMIN)
    page = sign_in("admin@demo.example", DESKTOP, "/staff")
    other = sign_in(second, PHONE, "/staff")
    # The second request meets the page that the first left behind.
    for button, end in (("Approve change", "Approved"), ("Reject change", "Rejected")):
        email = new_owner("global")
        give_role(page, email)
        change = f"Change role of {email} from No role to Support"
        waits = page.get_by_text(
            f"Requested: {change}. Waiting for approval by another administrator"
        )
        expect(waits).to_be_in_viewport()  # below the card that came on top
        assert serious_violations(page) == {}
        other.goto(other.url)
        if button == "Reject change":
            open_popover(other, "Reject…")
            other.get_by_role("button", name=button).click()
            expect(other.get_by_text("Enter a reason.")).to_be_in_viewport()
            assert serious_violations(other) == {}
            other.get_by_role("textbox", name="Reason (required)").fill("A customer of ours")
            other.keyboard.press("Tab")
        other.get_by_role("button", name=button).click()
        expect(other.get_by_text(f"{end}: {change}.")).to_be_in_viewport()
        assert serious_violations(other) == {}


def test_a_customer_is_looked_up_and_shut_out(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], tmp_path: Path
) -> None:
    email = new_owner("global")
    customer = sign_in(email, DESKTOP, "/members")
    expect(customer.get_by_role("heading", name="Members", exact=True)).to_be_visible()
    page = sign_in("admin@demo.example", DESKTOP, "/staff")
    page.get_by_role("textbox", name="Person without a role").fill(email)
    page.get_by_role("button", name="Find person").click()
    expect(page.get_by_text("No role · Active")).to_be_visible()
    why = page.locator("[class*=st-key-staff_change_reason]").get_by_role("textbox")
    for _ in range(2):  # what asked closes, and asks again
        fill_in(why, "Stolen card")
        confirm(page, "Sign out everywhere", f"{email} is signed out in all browsers")
        message = page.get_by_text(f"{email} is signed out everywhere, and can sign in again.")
        expect(message).to_be_in_viewport()
        expect(why).to_have_value("")
    fill_in(why, "Stolen card")
    confirm(page, "Disable person", f"{email} is signed out everywhere and cannot sign in")
    expect(page.get_by_text("No role · Disabled")).to_be_visible()
    expect(page.get_by_text(f"{email} disabled and signed out.")).to_be_in_viewport()
    assert serious_violations(page) == {}
    customer.reload()
    expect(customer.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Roles only (CSV)").click()
    path = tmp_path / "roles.csv"
    downloading.value.save_as(path)
    lines = path.read_text("utf-8-sig").splitlines()
    assert any("admin@demo.example" in line and "all accounts" in line for line in lines)
