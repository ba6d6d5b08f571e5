"""The same people top up again: the second time meets an account that has paid before."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from sqlalchemy import select

from db.models import Payment
from domain.payments.polling import CHECK_FAILED
from domain.payments.records import count_events
from tests.e2e.conftest import DESKTOP, PHONE, reference_in
from tests.support.journeys import open_first_row
from tests.support.top_up_journeys import fill_profile, go_to_review, leave_for_vnpay

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from sqlalchemy.orm import Session, sessionmaker

pytestmark = pytest.mark.browser

WAYS = {
    "vn-vnpay": ("vn", "₫1,000,000", "VNPay", None, ("₫1,000,000", "₫2,000,000")),
    "vn-paypal": ("vn", "₫1,000,000", "PayPal", None, ("₫1,000,000", "₫2,000,000")),
    "jp-card": ("jp", "¥10,000", "Stripe", None, ("¥10,000", "¥20,000")),
    "jp-konbini": ("jp", "¥10,000", "Stripe", None, ("¥10,000", "¥20,000")),
    "jp-paypal": ("jp", "¥10,000", "PayPal", None, ("¥10,000", "¥20,000")),
    "fr-paypal": ("global", "$100.00", "PayPal", "France", ("$100.00", "$200.00")),
}
TO_PAY = re.compile(r"^Pay [₫¥$][\d,.]+$")


def pay(page: Page, way: str) -> None:
    """Pay at the gateway's page, as soon as it is there."""
    if way == "jp-card":
        page.get_by_role("button", name="Pay by card", exact=True).click()
    elif way == "jp-konbini":
        page.get_by_role("button", name="Pay at a convenience store").click()
        page.get_by_role("button", name="Pay at the store now").click()
    else:
        page.get_by_role("button", name="Pay", exact=True).click()


def see(page: Page, message: str) -> None:
    """Wait for words that follow a gateway's answer; several processes have a part in it."""
    expect(page.get_by_text(message)).to_be_visible(timeout=30_000)


def top_up(page: Page, way: str, *, has_profile: bool) -> None:
    """Go from the button to the gateway and pay there."""
    _site, preset, method, country, _balances = WAYS[way]
    go_to_review(page, preset, method, country, has_profile=has_profile)
    page.get_by_role("button", name=TO_PAY).click()
    page.wait_for_url(re.compile("/(stripe|paypal|vnpay|paymentv2)/|vpcpay"))
    pay(page, way)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", WAYS)
def test_top_up_twice_by_the_same_person_adds_up(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], way: str
) -> None:
    site, preset, *_rest, balances = WAYS[way]
    page = sign_in(new_owner(site))
    for number, balance in enumerate(balances):
        top_up(page, way, has_profile=number > 0)
        see(page, f"{preset} was added to your balance")
        expect(page.get_by_role("link", name=f"Balance {balance}")).to_be_visible()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["vn-vnpay", "jp-card", "fr-paypal"])
def test_top_up_by_a_second_member_needs_no_profile(
    new_owner: Callable[[str], str],
    new_billing_member: Callable[[str], str],
    sign_in: Callable[..., Page],
    way: str,
) -> None:
    site, preset, *_rest, (first, second) = WAYS[way]
    owner = new_owner(site)
    page = sign_in(owner)
    top_up(page, way, has_profile=False)
    see(page, f"{preset} was added to your balance")
    expect(page.get_by_role("link", name=f"Balance {first}")).to_be_visible()
    member = sign_in(new_billing_member(owner), PHONE)
    top_up(member, way, has_profile=True)
    see(member, f"{preset} was added to your balance")
    expect(member.get_by_role("link", name=f"Balance {second}")).to_be_visible()


# ── Errors and choices ────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_errors_stand_at_their_field_in_view(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = sign_in(new_owner("global"), viewport)
    page.get_by_role("button", name="Add credit").click()
    page.get_by_label("Name", exact=True).wait_for()
    page.get_by_label("Name", exact=True).fill("")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Enter a name.")).to_be_in_viewport()
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.get_by_label("Name", exact=True).fill("Lan Tran")
    page.get_by_label("Address").fill("1 Rue de Rivoli")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Choose a country.")).to_be_in_viewport()
    expect(page.get_by_role("combobox", name="Country")).to_be_focused()
    fill_profile(page, "France")

    amount = page.get_by_role("textbox", name="Or another amount")
    expect(amount).to_have_attribute("placeholder", "$25.00")
    for typed, message in (
        ("1,5", "Enter it as 1.50 or 1,500.00 USD."),
        ("3", "Minimum is $25.00."),
    ):
        amount.fill(typed)
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text(message)).to_be_in_viewport()
        expect(amount).to_be_focused()
    # What was touched last counts, and Back keeps it.
    page.get_by_text("$50.00", exact=True).first.click()
    expect(amount).to_have_value("")
    amount.fill("40")
    amount.press("Tab")
    expect(page.get_by_role("radio", name="$50.00")).not_to_be_checked()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("$40.00 of credit will be added.")).to_be_visible()
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_role("textbox", name="Or another amount")).to_have_value("40")


# ── A gateway that hangs ──────────────────────────────────────────────────────────────────────
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["vn-vnpay", "jp-card", "fr-paypal"])
def test_result_is_drawn_at_once_while_the_gateway_hangs(
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    portal_url: str,
    portal_sessions: sessionmaker[Session],
    hanging_gateways: Callable[[], None],
    *,
    way: str,
) -> None:
    """The gateway's socket takes the connection and never answers: a question ends as failed."""
    site, preset, method, country, _balances = WAYS[way]
    page = sign_in(new_owner(site))
    go_to_review(page, preset, method, country)
    page.get_by_role("button", name=TO_PAY).click()
    page.wait_for_url(re.compile("/(stripe|paypal|vnpay|paymentv2)/|vpcpay"))
    page.goto(f"{portal_url}/?tab=history")
    expect(page.get_by_text("1 row", exact=True)).to_be_visible()
    open_first_row(page)
    page.wait_for_url("**/payment?ref=*")
    reference = reference_in(page.url)
    expect(page.get_by_text(f"Waiting for {method}")).to_be_visible()
    hanging_gateways()
    page.goto(f"{portal_url}/payment?ref={reference}")
    expect(page.get_by_text(f"Waiting for {method}")).to_be_visible()
    expect(page.get_by_text(reference)).to_be_visible()
    with portal_sessions() as session:
        payment = session.scalars(select(Payment).where(Payment.reference == reference)).one()
        assert count_events(session, payment, CHECK_FAILED) == 0, "the question is still open"
    hanging_gateways()
    leave = page.get_by_role("link", name=f"Not paid yet? Go to {method}")
    leave.click()
    pay(page, way)
    see(page, f"{preset} was added to your balance")


@pytest.mark.timeout(300)
def test_payment_left_at_the_gateway_is_paid_on_a_second_visit(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], portal_url: str
) -> None:
    page = sign_in(new_owner("vn"))
    leave_for_vnpay(page)
    page.goto(portal_url)
    leave_for_vnpay(page, has_profile=True)
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_role("link", name="Balance ₫1,000,000")).to_be_visible()
    page.goto(f"{portal_url}/?tab=history")
    expect(page.get_by_text("2 rows", exact=True)).to_be_visible()


@pytest.mark.timeout(300)
def test_add_credit_stays_open_while_its_page_learns_of_a_payment(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page], portal_url: str
) -> None:
    """The page that watches the payment draws itself again, once for the credit and the receipt."""
    page = sign_in(new_owner("vn"))
    leave_for_vnpay(page)
    watching = page.context.new_page()
    watching.goto(f"{portal_url}/?tab=history")
    expect(watching.get_by_text("1 row", exact=True)).to_be_visible()
    open_first_row(watching)
    expect(watching.get_by_text("Waiting for VNPay")).to_be_visible()
    watching.get_by_role("button", name="Add credit").click()
    dialog = watching.get_by_role("dialog")
    amount = dialog.get_by_role("textbox", name="Or another amount")
    amount.fill("600.000")
    amount.press("Tab")
    page.get_by_role("button", name="Pay", exact=True).click()
    see(watching, "₫1,000,000 was added to your balance")
    watching.get_by_text("Open receipt (PDF)").wait_for(state="attached")
    expect(amount).to_have_value("600.000")
    dialog.get_by_role("button", name="Continue").click()
    expect(dialog.get_by_text("₫600,000 of credit will be added.")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    watching.get_by_role("button", name="Add credit").click()
    expect(amount).to_have_value("")


def test_billing_information_is_saved_twice(
    new_owner: Callable[[str], str], sign_in: Callable[..., Page]
) -> None:
    page = sign_in(new_owner("vn"), path="/billing?tab=settings")
    address = page.get_by_label("Address")
    message = page.get_by_text(
        "Billing information saved. It appears on new receipts and invoices."
    )
    for street in ("1 Nguyen Hue", "2 Nguyen Hue"):
        address.fill(street)
        page.get_by_role("button", name="Save", exact=True).click()
        expect(message).to_be_visible()
        expect(address).to_have_value(street)
        page.reload()
        address.wait_for()
        expect(message).to_have_count(0)
    expect(page.get_by_text("Previous versions")).to_be_visible()
