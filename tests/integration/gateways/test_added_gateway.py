"""A gateway that is registered is offered, paid through, found and named: by its own file alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from db.models import Payment
from domain.actors import MemberRole, StaffRole, user_actor
from domain.billing_profiles import BillingProfile, ProfileKind, save_profile
from domain.gateways import registry
from domain.history.pages import history_page
from domain.history.rows import HistoryFilter
from domain.money import Money
from domain.payments import PaymentState, methods_of
from domain.support.account_search import find_accounts
from portal.routes import payments
from portal.runtime import database, process_state
from portal.runtime.gateways import gateway_faults, gateway_of, gateways
from portal.runtime.settings import load_settings, settings
from portal.ui.labels import gateways as gateway_labels
from portal.ui.labels import ledger as ledger_labels
from tests.factories import SYSTEM, make_account, next_key
from tests.gateways import begin
from tests.support import added_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.payments import StartedPayment

SUPPORT = user_actor(77, staff_role=StaffRole.SUPPORT)


@pytest.fixture(autouse=True)
def _added(portal: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: ARG001
    """Have the gateway registered, its key given, and this process's gateways made anew."""
    monkeypatch.setattr(process_state, "_kept", type(process_state._kept)("_kept"))
    monkeypatch.setenv("SEPA_KEY", "its-key")
    settings.cache_clear()
    registry.register(added_gateway.KIND)
    yield
    registry.unregister(added_gateway.NAME)


def owner_of(account_id: int) -> Actor:
    return user_actor(70_000 + account_id, memberships={account_id: MemberRole.OWNER})


def started(session: Session) -> tuple[int, StartedPayment]:
    account_id = make_account(session, site="global", currency="EUR")
    profile = BillingProfile(
        kind=ProfileKind.PERSONAL,
        name="Lan Tran",
        email="lan@example.com",
        address="1 Sample Street",
        country="FR",
    )
    save_profile(
        session,
        account_id=account_id,
        profile=profile,
        currency=None,
        expected_version=0,
        actor=SYSTEM,
        idempotency_key=next_key("profile"),
    )
    gateway = gateway_of(added_gateway.NAME)
    assert gateway is not None
    credit = Money.from_minor_units(5_000, "EUR")
    return account_id, begin(session, gateway, account_id, owner_of(account_id), credit)


def test_added_gateway_is_offered_by_country_in_its_place() -> None:
    names = [method.gateway for method in methods_of("FR", "EUR")]
    assert names == ["stripe_cards", "sepa", "paypal"]
    assert "sepa" not in {method.gateway for method in methods_of("DE", "EUR")}
    assert list(gateways()) == ["vnpay", "stripe", "sepa", "paypal"]


def test_added_gateway_with_wrong_settings_is_left_out_by_name() -> None:
    chosen = load_settings({"SEPA_KEY": "two words"})
    assert "sepa" not in chosen.gateways.by_name
    assert any("The gateway sepa is not offered" in each for each in gateway_faults(chosen))
    assert "sepa" not in load_settings({}).gateways.by_name


def test_added_gateway_credits_by_its_webhook_and_is_found() -> None:
    account_id, payment = database.transaction(started)
    browser = TestClient(Starlette(routes=payments.routes()))
    event = {"reference": payment.reference, "id": "sepa-77", "cents": 5_000}
    refused = browser.post("/webhooks/sepa", json=event, headers={"x-key": "another"})
    taken = browser.post("/webhooks/sepa", json=event, headers={"x-key": "its-key"})
    again = browser.post("/webhooks/sepa", json=event, headers={"x-key": "its-key"})
    assert [each.text for each in (refused, taken, again)] == [
        "bad_signature",
        "recorded",
        "repeated",
    ]
    assert browser.get("/webhooks/sepa").status_code == 405

    row = database.transaction(lambda session: session.scalars(select(Payment)).one())
    assert (row.gateway, row.state) == ("sepa", PaymentState.SUCCEEDED)
    found = database.read_one(find_accounts, actor=SUPPORT, search_text="sepa-77")
    assert [each.account_id for each in found] == [account_id]
    page = database.read_snapshot(
        history_page,
        actor=owner_of(account_id),
        account_id=account_id,
        filters=HistoryFilter(services=frozenset(("sepa",))),
    )
    assert len(page.rows) == 1


def test_added_gateway_has_its_title_in_labels_and_filters() -> None:
    assert gateway_labels.title("sepa") == "SEPA Direct Debit"
    assert ledger_labels.source("sepa") == "SEPA Direct Debit"
    assert gateway_labels.accepted("sepa") == ""
    assert registry.gateway_names() == ("vnpay", "stripe", "stripe_cards", "sepa", "paypal", "bank")


@pytest.mark.parametrize("name", ["vnpay", "bank", "sepa"])
def test_name_that_is_taken_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        registry.register(replace(added_gateway.KIND, name=name))
