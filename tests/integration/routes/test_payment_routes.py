"""The way to a gateway and to receipts, as browsers ask for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update
from starlette.applications import Starlette
from starlette.testclient import TestClient

from db.models import AccountMember, Payment
from domain import identity
from portal.routes import payments, receipts, sign_in
from portal.runtime import database
from tests.factories import SYSTEM
from tests.gateways import ScriptedGateway, begin, dong, payer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

HERE = "http://localhost:8501"
EMAIL, PASSWORD = "lan@example.com", "violet-kettle-9-march"
FORM_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]+)"')
GATEWAY = "https://pay.example.com/1"


pytestmark = pytest.mark.usefixtures("portal")


def signed_in(role: str) -> tuple[TestClient, str]:
    """Return the browser of a member of an account with an open payment, and its reference."""

    def make(session: Session) -> str:
        account, owner = payer(session)
        started = begin(session, ScriptedGateway(), account, owner, dong(500_000))
        opened = update(Payment).where(Payment.id == started.payment_id)
        session.execute(opened.values(state="pending", redirect_url=GATEWAY))
        user = identity.create_user(
            session,
            email=EMAIL,
            display_name="Lan",
            password=PASSWORD,
            staff_role=None,
            actor=SYSTEM,
        )
        session.add(AccountMember(account_id=account, user_id=user, role=role))
        return started.reference

    reference = database.transaction(make)
    browser = TestClient(
        Starlette(routes=[*sign_in.routes(), *payments.routes(), *receipts.routes()]),
        base_url=HERE,
        follow_redirects=False,
        headers={"accept": "text/html", "origin": HERE},
    )
    [token] = FORM_TOKEN.findall(browser.get("/sign-in").text)[:1]
    answer = browser.post(
        "/sign-in", data={"form_token": token, "email": EMAIL, "password": PASSWORD}
    )
    assert answer.status_code == 303
    return browser, reference


@pytest.mark.parametrize("role", ["owner", "billing"])
def test_who_may_pay_is_led_to_the_gateway(role: str) -> None:
    browser, reference = signed_in(role)
    assert browser.get(f"/pay/{reference}").headers["location"] == GATEWAY


def test_a_reader_is_led_to_the_payment_s_page() -> None:
    browser, reference = signed_in("reader")
    answer = browser.get(f"/pay/{reference}")
    assert answer.headers["location"].endswith(f"/payment?ref={reference}")


@pytest.mark.parametrize("place", ["9" * 5_000, "00", "0", "-1", "\u0661", "1e1", "2"])
def test_a_receipt_that_is_none_is_not_found(place: str) -> None:
    browser, reference = signed_in("owner")
    assert browser.get(f"/receipts/{reference}/{place}").status_code == 404
