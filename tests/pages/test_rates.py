"""The page of exchange rates: how far a rate is, why, and what a late decision is told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from domain.actors import StaffRole, user_actor
from domain.money import Money
from domain.payments.bank_transfers import Evidence, decide_transfer, record_transfer
from domain.payments.exchange_rates import decide_rate, list_rates, request_rate
from tests.gateways import dong, payer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

MAKER = user_actor(900, staff_role=StaffRole.FINANCE)
ADMIN = user_actor(902, staff_role=StaffRole.ADMIN)
WHY = "The central bank let it go"


@pytest.fixture
def page(staff_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    def shown(role: StaffRole = StaffRole.FINANCE) -> AppTest:
        return staff_page("rates", role)

    return shown


def propose(
    session: Session, rate: str, *, reason: str = "", margin_basis_points: int = 150
) -> int:
    rate_id = request_rate(
        session,
        base_currency="USD",
        quote_currency="VND",
        rate=Decimal(rate),
        margin_basis_points=margin_basis_points,
        source="the bank's website",
        as_of=datetime.now(UTC) - timedelta(minutes=5),
        reason=reason,
        actor=MAKER,
    )
    session.commit()
    return rate_id


def put_in_force(session: Session, rate: str) -> int:
    rate_id = propose(session, rate)
    decide_rate(session, rate_id=rate_id, is_approved=True, actor=ADMIN)
    session.commit()
    return rate_id


def fill(app: AppTest, rate: str, reason: str = "") -> AppTest:
    app.text_input(key="rate_value").set_value(rate)
    app.text_input(key="rate_source").set_value("the bank's website")
    app.text_input(key="rate_reason").set_value(reason)
    (sent,) = [button for button in app.button if button.label == "Request rate"]
    sent.click().run()
    assert not app.exception
    return app


def texts(elements: Any) -> list[str]:
    return [element.value.replace("\\", "") for element in elements]


def facts(app: AppTest) -> str:
    return " ".join(element.proto.body for element in app.get("html"))


def test_far_rate_asks_its_maker_for_a_reason(
    session: Session, page: Callable[..., AppTest]
) -> None:
    put_in_force(session, "25400")
    app = fill(page(), "254000")
    (error,) = texts(app.error)
    assert error.startswith("900 % above the rate in force, 25,400. Price of the same credit: 90 %")
    assert len(list_rates(session, actor=ADMIN)) == 1
    app = fill(app, "27940", WHY)
    assert texts(app.success) == ["Rate requested. Waiting for approval by another person."]
    assert "10 % above the rate in force, 25,400" in facts(app)
    assert WHY in facts(app)


@pytest.mark.parametrize(
    ("margin", "message"),
    [
        ("1e900000", "The margin must be between 0 and 20 percent."),
        ("-1e999999", "The margin must be between 0 and 20 percent."),
        ("-0.009", "The margin must be between 0 and 20 percent."),
        ("20.01", "The margin must be between 0 and 20 percent."),
        ("NaN", "The margin must be between 0 and 20 percent."),
        ("1.559", "Enter a margin with at most two decimals."),
        ("1e-999999", "Enter a margin with at most two decimals."),
    ],
)
def test_margin_that_is_none_is_refused_at_once(
    session: Session, page: Callable[..., AppTest], margin: str, message: str
) -> None:
    app = page()
    app.text_input(key="rate_margin").set_value(margin)
    assert texts(fill(app, "25400").error) == [message]
    assert not list_rates(session, actor=ADMIN)


def test_margin_asks_for_a_reason_too(session: Session, page: Callable[..., AppTest]) -> None:
    put_in_force(session, "25400")
    app = page()
    app.text_input(key="rate_margin").set_value("20")
    (error,) = texts(fill(app, "25400").error)
    assert error.startswith(
        "Same as the rate in force, 25,400. Price of the same credit: 23.12 % more."
    )
    fill(app, "25400", WHY)
    assert "<dd>23.12 % more</dd>" in facts(app)


def test_checker_reads_how_far_a_rate_is_and_why(
    session: Session, page: Callable[..., AppTest]
) -> None:
    put_in_force(session, "25400")
    rate_id = propose(session, "22860", reason=WHY)
    app = page()
    assert "10 % below the rate in force, 25,400" in facts(app)
    assert WHY in facts(app)
    app.button(key=f"approve-{rate_id}").click().run()
    assert texts(app.error)[0].startswith("A rate that differs by more than 5 %")
    app = page(StaffRole.ADMIN)
    app.button(key=f"approve-{rate_id}").click().run()
    assert texts(app.success) == ["Rate approved. It is now in force."]
    assert app.dataframe[0].value["Reason"].tolist()[0] == WHY


@pytest.mark.parametrize(
    ("is_approved", "message"), [(True, "already approved by"), (False, "already rejected by")]
)
def test_late_decision_on_a_rate_says_what_happened(
    session: Session, page: Callable[..., AppTest], *, is_approved: bool, message: str
) -> None:
    rate_id = propose(session, "25400")
    app = page(StaffRole.ADMIN)
    decide_rate(session, rate_id=rate_id, is_approved=is_approved, actor=ADMIN)
    session.commit()
    app.button(key=f"approve-{rate_id}").click().run()
    (error,) = texts(app.error)
    assert error.startswith(f"Nothing was changed: {message} user:902, ")


def test_superseded_rate_says_so_and_cannot_be_approved(
    session: Session, page: Callable[..., AppTest]
) -> None:
    put_in_force(session, "25400")
    older, newer = propose(session, "25500"), propose(session, "25600")
    app = page(StaffRole.ADMIN)
    decide_rate(session, rate_id=newer, is_approved=True, actor=ADMIN)
    session.commit()
    app.button(key=f"approve-{older}").click().run()
    (error,) = texts(app.error)
    assert error.startswith("Superseded: a newer rate has been in force since ")
    assert ", 25,600 with a margin of 1.5 %, approved by user:902. Reject this request" in error
    assert texts(app.warning) == [error]
    assert {button.key for button in app.button if button.key} & {
        f"approve-{older}",
        f"refuse-{older}",
    } == {f"refuse-{older}"}


def test_refusal_of_a_far_rate_names_both_rates_with_their_margins(
    session: Session, page: Callable[..., AppTest]
) -> None:
    put_in_force(session, "25400")
    app = page()
    app.text_input(key="rate_margin").set_value("20")
    figures = (
        "Requested: 25,400, or 20,320 with a margin of 20 %. In force: 25,400, or 25,019"
        " with a margin of 1.5 %. Difference: 0 %, or -18.78 % with margins."
    )
    (error,) = texts(fill(app, "25400").error)
    assert "with or without margin, needs a reason." in error
    assert figures in error
    rate_id = propose(session, "25400", reason=WHY, margin_basis_points=2_000)
    app = page()
    app.button(key=f"approve-{rate_id}").click().run()
    (error,) = texts(app.error)
    assert error == (
        "A rate that differs by more than 5 % from the rate in force, with or without margin, needs"
        f" approval by an administrator. {figures}"
    )


def test_page_says_until_when_a_rate_serves(session: Session, page: Callable[..., AppTest]) -> None:
    put_in_force(session, "25400")
    assert any(words.startswith("USD → VND: valid until ") for words in texts(page().caption))


def test_support_sees_rates_and_limits_and_changes_nothing(
    page: Callable[..., AppTest], session: Session
) -> None:
    put_in_force(session, "25400")
    propose(session, "25500")
    app = page(StaffRole.SUPPORT)
    assert len(app.dataframe) == 2
    assert not app.button
    assert not app.text_input


def test_rate_by_who_recorded_an_undecided_transfer_says_who_requests_it(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account, _owner = payer(session)
    waiting = propose(session, "25400")
    app = page()
    record_transfer(
        session,
        account_id=account,
        amount=dong(1_000_000),
        bank_reference="FT1",
        received_on=date(2026, 1, 15),
        evidence=Evidence("slip.pdf", b"%PDF-1.7 a slip"),
        remark="",
        actor=user_actor(1, staff_role=StaffRole.FINANCE),
    )
    decide_rate(session, rate_id=waiting, is_approved=True, actor=ADMIN)
    near = propose(session, "25410")
    message = (
        "You recorded a bank transfer in VND that is waiting for approval. Until it is decided,"
        " another finance member or an administrator must request and approve rates for VND."
    )
    # The form that was open is not sent for another currency.
    app = fill(app, "25420")
    assert texts(app.info) == [message]
    assert not app.success
    assert len(list_rates(session, actor=ADMIN)) == 2
    app = page()
    assert texts(app.info) == [message]
    assert app.selectbox(key="rate_credited").options == ["JPY"]
    app.button(key=f"approve-{near}").click().run()
    assert texts(app.error) == [message]
    assert [each.state for each in list_rates(session, actor=ADMIN)] == ["requested", "approved"]


def test_rates_of_other_currencies_are_requested_beside_a_closed_one(
    session: Session, page: Callable[..., AppTest]
) -> None:
    me = user_actor(1, staff_role=StaffRole.FINANCE)
    transfers = {
        currency: record_transfer(
            session,
            account_id=payer(session, site=site)[0],
            amount=Money(1_000_000_000, currency),
            bank_reference=f"FT{currency}",
            received_on=date(2026, 1, 15),
            evidence=Evidence("slip.pdf", b"%PDF-1.7 a slip"),
            remark="",
            actor=me,
        )
        for site, currency in (("vn", "VND"), ("jp", "JPY"))
    }
    session.commit()
    app = page()
    assert len(app.info) == 2 + 1, "nothing may be credited, and there is no rate yet"
    assert not app.selectbox(key="limits_currency").disabled
    assert "rate_value" not in [each.key for each in app.text_input]
    decide_transfer(session, transfer_id=transfers["JPY"], is_approved=True, actor=MAKER)
    session.commit()
    app = fill(page(), "155")
    assert texts(app.success) == ["Rate requested. Waiting for approval by another person."]
    (rate,) = list_rates(session, actor=ADMIN)
    assert (rate.base_currency, rate.quote_currency) == ("USD", "JPY")
