"""The Add credit dialog: where it begins, what it keeps, and where its errors stand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select
from streamlit.testing.v1 import AppTest

from db.models import AccountMember, Payment
from domain.accounts import open_account
from domain.actors import MemberRole, user_actor
from domain.billing_profiles import current_profile
from domain.errors import Conflict
from domain.gateways.interface import GatewayRefused
from domain.identity import create_user
from domain.ledger.balances import account_summary
from domain.money import Money
from domain.payments.exchange_rates import Quote
from portal.runtime import database
from portal.shell import page_context
from portal.shell.visitor import Visitor
from portal.ui.formats import time_zone
from portal.views.top_up import dialog
from tests.factories import SYSTEM, make_account
from tests.gateways import ScriptedGateway, away, payer
from tests.support.keys import TEST_VAULT
from tests.support.owner import as_owner
from tests.support.people import register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

GATEWAYS = {name: ScriptedGateway(name) for name in ("vnpay", "stripe", "paypal")}
SITES = {"vn": "VND", "jp": "JPY", "global": "USD"}


def _dialog() -> None:
    """Draw the open dialog as a page of its own: AppTest cannot go through a dialog."""
    import streamlit as st  # noqa: PLC0415 - AppTest runs this function as a script of its own

    from portal.views.top_up import dialog as add_credit  # noqa: PLC0415 - as above

    here = st.session_state["here"]
    add_credit._draw(here)


@pytest.fixture
def gateways(monkeypatch: pytest.MonkeyPatch) -> dict[str, ScriptedGateway]:
    made = {name: ScriptedGateway(name) for name in GATEWAYS}
    monkeypatch.setattr(dialog, "gateway_of", made.get)
    return made


@pytest.fixture
def opened(
    database_url: str, gateways: object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., AppTest]]:
    """Open the dialog at a step, for the owner of an account."""
    database.connect(database_url, vault=TEST_VAULT)
    assert gateways

    def make(account_id: int, step: str = "amount", user_id: int = 1, **chosen: Any) -> AppTest:
        actor = user_actor(user_id, memberships={account_id: MemberRole.OWNER})
        database.transaction(register, actor)
        visitor = Visitor(
            user_id=user_id,
            display_name="Sample Person",
            email="sample@example.com",
            locale="en",
            time_zone="UTC",
            actor=actor,
            account_id=account_id,
            session_id="session",
            form_token="token",
        )
        monkeypatch.setattr(page_context, "require_visitor", lambda: visitor)
        account = database.read_snapshot(account_summary, actor=actor, account_id=account_id)
        app = AppTest.from_function(_dialog, default_timeout=30)
        app.session_state["here"] = page_context.PageContext(visitor, account, time_zone("UTC"))
        app.session_state["add_credit"] = dialog._Steps(account_id, step, **chosen)
        return run(app)

    yield make
    database.disconnect()


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def click(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return run(app)


def choose(app: AppTest, micros: int | None) -> AppTest:
    presets: Any = app.get("button_group")[0]
    presets.set_value(micros)
    return run(app)


def type_amount(app: AppTest, text: str) -> AppTest:
    field(app, "Or another amount").set_value(text)
    return run(app)


def field(app: AppTest, label: str) -> Any:
    return next(each for each in app.text_input if each.label.startswith(label))


def preset(app: AppTest) -> int | None:
    key = app.session_state["add_credit"].widget("preset")
    value: int | None = app.session_state[key]
    return value


def errors(app: AppTest) -> list[str]:
    return [error.value.replace("\\", "") for error in app.error]


def account_at(session: Session, site: str) -> int:
    account, _owner = payer(session, site=site)
    session.commit()
    return account


# ── Where it begins ───────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("site", SITES)
def test_add_credit_with_billing_profile_opens_at_the_amount(
    show: Callable[..., AppTest], session: Session, site: str
) -> None:
    app = show(account_at(session, site))
    click(app, "Add credit")
    assert field(app, "Or another amount").label == f"Or another amount ({SITES[site]})"


def test_add_credit_stays_open_with_what_was_entered_when_the_page_runs_again(
    show: Callable[..., AppTest], session: Session
) -> None:
    app = show(account_at(session, "vn"))
    click(app, "Add credit")
    type_amount(app, "600.000")
    click(app, "Continue")
    assert [each.label for each in app.radio if each.label == "Payment method"]
    run(app)
    assert "₫600,000 of credit will be added." in [text.value for text in app.markdown]
    click(app, "Back")
    assert field(app, "Or another amount").value == "600.000"


def test_add_credit_closes_where_the_account_was_lost_meanwhile(
    show: Callable[..., AppTest], session: Session
) -> None:
    app = show(account_at(session, "vn"))
    click(app, "Add credit")
    app.session_state["add_credit"].account_id = 1
    run(app)
    assert "add_credit" not in app.session_state
    assert errors(app)
    assert not [each for each in app.text_input if each.label.startswith("Or another")]


def test_add_credit_without_billing_profile_asks_for_it_first(
    show: Callable[..., AppTest], session: Session
) -> None:
    account = make_account(session, site="vn", currency="VND")
    session.commit()
    app = show(account)
    click(app, "Add credit")
    assert field(app, "Name").value == "Sample Person"


def test_billing_profile_begins_with_what_sign_up_said(
    opened: Callable[..., AppTest], session: Session
) -> None:
    person = create_user(
        session,
        email="sample@example.com",
        display_name="Sample Person",
        password="a long sentence of words",
        staff_role=None,
        actor=SYSTEM,
    )
    account = open_account(
        session,
        site_code="global",
        name="Account",
        currency="USD",
        country="FR",
        owner_user_id=person,
        actor=SYSTEM,
    )
    session.commit()
    app = opened(account, "profile", person)
    assert field(app, "Name").value == "Sample Person"
    assert field(app, "Email for receipts").value == "sample@example.com"
    assert app.selectbox[0].value == "FR"
    field(app, "Address").set_value("1 Rue de Rivoli")
    click(app, "Continue")
    assert not app.error, errors(app)
    assert field(app, "Or another amount").label.endswith("(USD)")
    actor = user_actor(person, memberships={account: MemberRole.OWNER})
    saved = current_profile(session, actor=actor, account_id=account)
    assert saved is not None
    assert (saved.profile.name, saved.profile.country) == ("Sample Person", "FR")


def test_company_does_not_begin_with_a_persons_name(
    opened: Callable[..., AppTest], session: Session
) -> None:
    account = make_account(session, site="vn", currency="VND")
    session.commit()
    app = opened(account, "profile")
    app.radio[0].set_value("Company")
    run(app)
    assert field(app, "Company name").value == ""


# ── Errors ────────────────────────────────────────────────────────────────────────────────────
def order_of(app: AppTest, *kinds: str) -> list[tuple[str, str]]:
    """Return labels of fields and texts of errors in the order in which they are drawn."""
    return [
        (element.type, getattr(element, "label", "") or str(getattr(element, "value", "")))
        for element in app.main
        if element.type in kinds
    ]


def test_billing_profile_errors_stand_below_their_fields(
    opened: Callable[..., AppTest], session: Session
) -> None:
    account = make_account(session, site="vn", currency="VND")
    session.commit()
    app = opened(account, "profile")
    field(app, "Email for receipts").set_value("no address")
    click(app, "Continue")
    assert errors(app) == ["This is not an email address.", "Enter an address."]
    drawn = [text for _kind, text in order_of(app, "text_input", "error")]
    assert drawn.index("This is not an email address.") == drawn.index("Email for receipts") + 1
    assert drawn.index("Enter an address.") == drawn.index("Address") + 1
    scripts = [each.proto.body for each in app.get("html") if "scrollIntoView" in each.proto.body]
    assert len(scripts) == 1
    assert "-email" in scripts[0], "the first of them is brought into view"


@pytest.mark.parametrize(
    ("site", "typed", "message"),
    [
        ("vn", "", "Choose or enter an amount."),
        ("vn", "1.5", "Enter a whole number: VND has no decimals."),
        ("vn", "5", "Minimum is ₫500,000."),
        ("jp", "3.000,5", "Enter a whole number: JPY has no decimals."),
        ("global", "1,5", "The amount is ambiguous. Enter it as 1.50 or 1,500.00 USD."),
        ("global", "1.500", "The amount is ambiguous. Enter it as 1.50 or 1,500.00 USD."),
        ("global", "25.0000", "Enter an amount with at most 2 decimals."),
        ("global", "a lot", "Enter an amount in digits, such as 5,000.00."),
    ],
)
def test_amount_error_says_what_to_enter(
    opened: Callable[..., AppTest], session: Session, site: str, typed: str, message: str
) -> None:
    app = opened(account_at(session, site))
    type_amount(app, typed)
    click(app, "Continue")
    assert errors(app) == [message]
    drawn = order_of(app, "text_input", "error", "button")
    assert [kind for kind, _text in drawn] == ["text_input", "error", "button"]


@pytest.mark.parametrize(
    ("site", "typed", "credit"),
    [
        ("vn", "500.000", 500_000),
        ("vn", "500,000", 500_000),
        ("jp", "3.000", 3_000),
        ("jp", "3 000", 3_000),
        ("global", "1,234", 1_234),
    ],
)
def test_amount_is_read_as_people_write_it(
    opened: Callable[..., AppTest], session: Session, site: str, typed: str, credit: int
) -> None:
    app = opened(account_at(session, site))
    type_amount(app, typed)
    click(app, "Continue")
    assert not app.error
    assert app.session_state["add_credit"].credit.to_decimal() == credit


@pytest.mark.parametrize(
    ("site", "example"), [("vn", "₫500,000"), ("jp", "¥3,000"), ("global", "$25.00")]
)
def test_example_amount_is_of_the_wallets_currency(
    opened: Callable[..., AppTest], session: Session, site: str, example: str
) -> None:
    app = opened(account_at(session, site))
    assert field(app, "Or another amount").placeholder == example


# ── The last act counts, and Back keeps it ────────────────────────────────────────────────────
def test_preset_clears_what_was_typed_and_typing_clears_the_preset(
    opened: Callable[..., AppTest], session: Session
) -> None:
    app = opened(account_at(session, "vn"))
    chosen = 1_000_000_000_000
    choose(app, chosen)
    assert preset(app) == chosen
    type_amount(app, "30.000")
    assert preset(app) is None
    choose(app, chosen)
    assert field(app, "Or another amount").value == ""
    assert preset(app) == chosen


def test_preset_clicked_right_after_typing_wins(
    opened: Callable[..., AppTest], session: Session
) -> None:
    """A click takes the text along: both changes arrive together, and the click was the last."""
    app = opened(account_at(session, "vn"))
    field(app, "Or another amount").set_value("30.000")
    choose(app, 1_000_000_000_000)
    assert field(app, "Or another amount").value == ""
    assert preset(app) == 1_000_000_000_000


@pytest.mark.parametrize("typed", [None, "750.000"])
def test_back_keeps_what_was_chosen(
    opened: Callable[..., AppTest], session: Session, typed: str | None
) -> None:
    app = opened(account_at(session, "vn"))
    if typed is None:
        choose(app, 1_000_000_000_000)
    else:
        type_amount(app, typed)
    click(app, "Continue")
    app.radio[0].set_value(app.radio[0].options[0])
    click(app, "Continue")
    app.checkbox[0].check()
    run(app)
    click(app, "Back")
    assert app.radio[0].index == 0
    click(app, "Continue")
    assert app.checkbox[0].value, "nothing has changed about what was agreed to"
    click(app, "Back")
    click(app, "Back")
    assert field(app, "Or another amount").value == (typed or "")
    assert preset(app) == (None if typed else 1_000_000_000_000)


def test_consent_is_asked_anew_for_other_terms(
    opened: Callable[..., AppTest], session: Session
) -> None:
    app = opened(account_at(session, "global"))
    type_amount(app, "30")
    click(app, "Continue")
    click(app, "Continue")
    app.checkbox[0].check()
    run(app)
    click(app, "Back")
    click(app, "Back")
    type_amount(app, "40")
    click(app, "Continue")
    click(app, "Continue")
    assert not app.checkbox[0].value


# ── Paying ────────────────────────────────────────────────────────────────────────────────────
def at_review(opened: Callable[..., AppTest], account: int) -> AppTest:
    app = opened(account)
    type_amount(app, "500.000")
    click(app, "Continue")
    click(app, "Continue")
    app.checkbox[0].check()
    return run(app)


@pytest.mark.parametrize("role", [MemberRole.READER, None])
def test_whoever_may_no_longer_pay_begins_no_payment_in_an_open_dialog(
    opened: Callable[..., AppTest],
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    role: MemberRole | None,
) -> None:
    account = account_at(session, "vn")
    app = at_review(opened, account)
    memberships = {} if role is None else {account: role}
    actor = user_actor(1, memberships=memberships)
    with as_owner(session):
        session.execute(delete(AccountMember))
    session.commit()
    database.transaction(register, actor)
    visitor = replace(app.session_state["here"].visitor, actor=actor)
    monkeypatch.setattr(page_context, "require_visitor", lambda: visitor)
    click(app, "Pay ₫500,000")
    assert len(errors(app)) == 1
    assert session.scalars(select(Payment.id)).all() == []


def test_payment_that_a_gateway_refuses_can_be_tried_again(
    opened: Callable[..., AppTest], gateways: dict[str, ScriptedGateway], session: Session
) -> None:
    app = at_review(opened, account_at(session, "vn"))
    gateways["vnpay"].failure = GatewayRefused("vnpay", "no")
    click(app, "Pay ₫500,000")
    assert errors(app) == ["VNPay did not accept this payment. Nothing was charged."]
    gateways["vnpay"].failure = None
    click(app, "Pay ₫500,000")
    assert not app.error
    assert app.session_state["add_credit"].step == "leave"
    states = session.scalars(select(Payment.state).order_by(Payment.id)).all()
    assert states == ["failed", "pending"]


def test_gateway_that_does_not_answer_is_tried_again_with_the_same_payment(
    opened: Callable[..., AppTest], gateways: dict[str, ScriptedGateway], session: Session
) -> None:
    app = at_review(opened, account_at(session, "vn"))
    gateways["vnpay"].failure = away()
    click(app, "Pay ₫500,000")
    assert "is not responding" in errors(app)[0]
    gateways["vnpay"].failure = None
    click(app, "Pay ₫500,000")
    assert session.scalars(select(Payment.state)).all() == ["pending"]


def test_price_that_cannot_be_had_stands_at_the_method(
    opened: Callable[..., AppTest], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_rate(*_args: object, **_values: object) -> None:
        raise Conflict("no_rate")

    monkeypatch.setattr(dialog, "make_quote", no_rate)
    app = opened(account_at(session, "vn"))
    type_amount(app, "500.000")
    click(app, "Continue")
    app.radio[0].set_value(app.radio[0].options[1])
    click(app, "Continue")
    assert errors(app) == [
        (
            "No exchange rate is available for this payment method. Choose another, or contact"
            " support."
        )
    ]
    assert app.radio[0].index == 1


def test_locked_price_names_the_zone_of_its_end(
    opened: Callable[..., AppTest], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = datetime(2026, 11, 29, 15, 30, tzinfo=UTC)
    account = account_at(session, "vn")
    credit, pay = Money.from_minor_units(500_000, "VND"), Money.from_minor_units(1_999, "USD")
    quote = Quote(1, account, pay, credit, Decimal(25019), 150, "sample", until, until)
    monkeypatch.setattr(dialog, "make_quote", lambda *_args, **_values: quote)
    app = opened(account)
    type_amount(app, "500.000")
    click(app, "Continue")
    app.radio[0].set_value(app.radio[0].options[1])
    click(app, "Continue")
    shown = " ".join(str(each.proto.body) for each in app.get("html"))
    assert "<dt>Locked until</dt><dd>Nov 29, 2026, 3:30:00" in shown
    assert [each.value for each in app.caption] == ["Times are in UTC."]


def test_another_method_is_offered_with_the_amount_kept(
    opened: Callable[..., AppTest], session: Session
) -> None:
    credit = Money.from_minor_units(750_000, "VND")
    app = opened(
        account_at(session, "vn"), "method", credit=credit, instead_of="vnpay", typed="750,000"
    )
    assert app.radio[0].index == 1
    click(app, "Back")
    assert field(app, "Or another amount").value == "750,000"
