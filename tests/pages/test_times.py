"""Each page that shows a time names its zone once; what has a day alone is shown as a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from db.models import Payment
from domain.accounts.invitations import invite_member
from domain.actors import MemberRole, StaffRole
from domain.billing_profiles import BillingProfile, ProfileKind, save_profile
from domain.payments.bank_transfers import decide_transfer
from portal.runtime.settings import settings
from tests.factories import SYSTEM, charge, next_key
from tests.gateways import ScriptedGateway, begin, dong, payer
from tests.pages.conftest import FURTHEST_EAST, FURTHEST_WEST
from tests.support.transfers import CHECKER, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

RECEIVED = datetime.now(UTC) - timedelta(days=40)


def day_of(moment: datetime) -> str:
    return f"{moment:%b} {moment.day}, {moment.year}"


@pytest.fixture
def transfer(session: Session) -> Payment:
    """A bank transfer of 40 days ago that was approved, beside what other tabs have times for."""
    account, owner = payer(session)
    recorded = record(session, account, received_on=RECEIVED.date())
    decide_transfer(session, transfer_id=recorded, is_approved=True, actor=CHECKER)
    charge(session, account, 1_000, occurred_at=datetime.now(UTC))
    begin(session, ScriptedGateway(), account, owner, dong(500_000))
    profile = BillingProfile(ProfileKind.PERSONAL, "Lan", "lan@example.com", "2 Street", "VN")
    save_profile(
        session,
        account_id=account,
        profile=profile,
        currency=None,
        expected_version=1,
        actor=SYSTEM,
        idempotency_key=next_key("profile"),
    )
    invite_member(
        session,
        account_id=account,
        email="invited@example.com",
        role=MemberRole.READER,
        actor=SYSTEM,
        idempotency_key="invitation",
        policy=settings().policy,
    )
    session.commit()
    return session.scalars(select(Payment).where(Payment.gateway == "bank")).one()


def zones(app: AppTest) -> list[str]:
    texts = [each.value.replace("\\", "") for each in app.caption]
    return [text for text in texts if text.startswith("Times are in ")]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"tab": "history"},
        {"tab": "history", "row": "e1"},
        {"tab": "payments"},
        {"tab": "settings"},
    ],
    ids=lambda query: "-".join(query.values()) or "overview",
)
def test_billing_names_the_zone_of_its_times_once(
    show: Callable[..., AppTest], transfer: Payment, query: dict[str, str]
) -> None:
    app = show(transfer.account_id, **query)
    assert zones(app) == ["Times are in Asia/Tokyo."]


@pytest.mark.parametrize("name", ["payment", "members"])
def test_page_names_the_zone_of_its_times_once(
    show: Callable[..., AppTest], transfer: Payment, name: str
) -> None:
    app = show(transfer.account_id)
    app.switch_page(f"pages/{name}.py")
    app.query_params["ref"] = transfer.reference
    assert zones(app.run()) == ["Times are in Asia/Tokyo."]


@pytest.mark.parametrize("is_open", [False, True])
def test_payments_name_the_zone_of_their_times_once(
    staff_page: Callable[..., AppTest], transfer: Payment, *, is_open: bool
) -> None:
    query = {"ref": transfer.reference} if is_open else {}
    app = staff_page("payments", StaffRole.FINANCE, **query)
    assert zones(app) == ["Times are in Asia/Tokyo."]


@pytest.mark.parametrize(
    "name", ["approvals", "audit", "bank_transfers", "campaigns", "rates", "staff"]
)
@pytest.mark.usefixtures("transfer")
def test_page_of_staff_names_the_zone_of_its_times_once(
    staff_page: Callable[..., AppTest], name: str
) -> None:
    assert zones(staff_page(name, StaffRole.ADMIN)) == ["Times are in Asia/Tokyo."]


@pytest.mark.parametrize("section", ["timeline", "act"])
def test_account_names_the_zone_of_its_times_once(
    staff_page: Callable[..., AppTest], transfer: Payment, section: str
) -> None:
    query = {"account": str(transfer.account_id), "show": section}
    assert zones(staff_page("account", StaffRole.SUPPORT, **query)) == ["Times are in Asia/Tokyo."]


def facts_of(app: AppTest) -> str:
    return " ".join(str(each.proto.body) for each in app.get("html"))


@pytest.mark.parametrize("time_zone", [FURTHEST_EAST, FURTHEST_WEST])
def test_day_of_a_bank_transfer_is_a_day_wherever_its_reader_is(
    show: Callable[..., AppTest],
    staff_page: Callable[..., AppTest],
    transfer: Payment,
    time_zone: str,
) -> None:
    day = day_of(RECEIVED)

    def look(**query: str) -> AppTest:
        return show(transfer.account_id, time_zone=time_zone, **query)

    def dates(app: AppTest) -> Any:
        table = app.dataframe[0].value
        return table["Date"].tolist()

    assert dates(look(tab="history"))[-1] == day
    assert day in dates(look(tab="payments"))
    row = look(tab="history", row="e1")
    assert any(f"Occurred: **{day}**" in text.value for text in row.markdown)
    app = look()
    app.switch_page("pages/payment.py")
    app.query_params["ref"] = transfer.reference
    assert f"<dt>Received</dt><dd>{day}</dd>" in facts_of(app.run())
    staff = staff_page("payments", StaffRole.FINANCE, ref=transfer.reference)
    assert f"<dt>Received</dt><dd>{day}</dd>" in facts_of(staff)
