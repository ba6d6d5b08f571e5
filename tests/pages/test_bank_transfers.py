"""The page of bank transfers, for each who may and may not use it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from domain.actors import StaffRole, user_actor
from domain.payments.bank_transfers import Evidence, decide_transfer, record_transfer
from domain.payments.exchange_rates import request_rate
from domain.uploads import EVIDENCE
from tests.factories import make_account
from tests.gateways import dong, payer
from tests.support.uploads import hand_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

PDF = b"%PDF-1.7 a slip"
MAKER = user_actor(900, staff_role=StaffRole.FINANCE)
AMOUNT = "₫20,000,000"


@pytest.fixture
def page(staff_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    def shown(role: StaffRole = StaffRole.FINANCE, **query: str) -> AppTest:
        return staff_page("bank_transfers", role, **query)

    return shown


def recorded(session: Session, account: int, reference: str = "FT1") -> int:
    number = record_transfer(
        session,
        account_id=account,
        amount=dong(20_000_000),
        bank_reference=reference,
        received_on=date(2026, 1, 15),
        evidence=Evidence("slip.pdf", PDF),
        remark="",
        is_confirmed=True,
        actor=MAKER,
    )
    session.commit()
    return number


def a_payer(session: Session) -> int:
    account, _owner = payer(session)
    session.commit()
    return account


def fill(app: AppTest, *, evidence: bytes = PDF, **fields: str) -> AppTest:
    for name, value in {"amount": "20,000,000", "reference": "FT1", **fields}.items():
        app.text_input(key=f"transfer_{name}_0").set_value(value)
    hand_in(app, "transfer_evidence_0", EVIDENCE, "slip.pdf", evidence)
    (sent,) = [button for button in app.button if button.label == "Record transfer"]
    return sent.click().run()


def texts(elements: Any) -> list[str]:
    return [element.value for element in elements]


def test_an_empty_page_says_that_nothing_waits(page: Callable[..., AppTest]) -> None:
    app = page()
    assert texts(app.info) == ["No transfers are waiting for approval."]
    assert "Record a bank transfer" in texts(app.header)


def test_a_transfer_is_recorded_and_then_somebody_else_decides(
    session: Session, page: Callable[..., AppTest]
) -> None:
    app = fill(page(**{"for": str(a_payer(session))}))
    assert not app.error
    assert app.success[0].value.startswith(f"Transfer of {AMOUNT} recorded for")
    assert any(AMOUNT in text for text in texts(app.subheader))
    assert "You recorded this. Waiting for approval by another finance member." in texts(
        app.caption
    )
    assert app.text_input(key="transfer_amount_1").value == ""
    assert not [button for button in app.button if "Credit" in button.label]


def test_the_same_line_again_is_recorded_once(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = str(a_payer(session))
    fill(page(**{"for": account}))
    app = fill(page(**{"for": account}))
    assert not app.error
    assert len(app.subheader) == 1


def test_same_amount_and_day_is_confirmed_in_the_form(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = a_payer(session)
    recorded(session, account, "FT9")
    app = page(**{"for": str(account)})
    assert not app.checkbox
    app.date_input(key="transfer_received_on_0").set_value(date(2026, 1, 15))
    app = fill(app)
    assert ", with bank reference FT9" in app.warning[0].value.replace("\\", "")
    assert len(app.subheader) == 1
    assert app.text_input(key="transfer_reference_0").value == "FT1"
    app.checkbox(key="transfer_confirmed_0").check()
    app = fill(app)
    assert not app.warning
    assert app.success[0].value.startswith(f"Transfer of {AMOUNT} recorded for")
    assert len(app.subheader) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"amount": "0"}, "Enter an amount above 0."),
        ({"amount": "ten"}, "Enter an amount"),
        ({"amount": "20.5"}, "decimals"),
        ({"reference": " "}, "Enter the bank reference"),
        ({"reference": "\u0410T1"}, "has an invalid character"),
        ({"evidence": b"MZ a program"}, "as PDF, PNG or JPEG"),
        ({"evidence": PDF + b" 4111 1111 1111 1111"}, "a card number"),
    ],
    ids=["nothing", "words", "decimals", "reference", "cyrillic", "program", "card"],
)
def test_each_fault_is_said_plainly(
    session: Session, page: Callable[..., AppTest], changes: dict[str, Any], words: str
) -> None:
    app = fill(page(**{"for": str(a_payer(session))}), **changes)
    (error,) = texts(app.error)
    assert words in error
    assert texts(app.info) == ["No transfers are waiting for approval."]


def test_evidence_is_asked_for(session: Session, page: Callable[..., AppTest]) -> None:
    app = page(**{"for": str(a_payer(session))})
    app.text_input(key="transfer_amount_0").set_value("20,000,000")
    (sent,) = [button for button in app.button if button.label == "Record transfer"]
    sent.click().run()
    assert texts(app.error) == ["Upload the evidence. Another finance member needs it to approve."]


def test_an_account_without_billing_information_is_told_of(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = make_account(session, site="vn", currency="VND")
    session.commit()
    app = fill(page(**{"for": str(account)}))
    assert "has no billing information" in app.error[0].value


@pytest.mark.parametrize("number", ["999999999", "abc", "１"])  # noqa: RUF001
def test_an_account_that_does_not_exist_is_told_of(
    page: Callable[..., AppTest], number: str
) -> None:
    app = page(**{"for": number})
    assert texts(app.error) == ["Account not found."]


def test_somebody_else_approves(session: Session, page: Callable[..., AppTest]) -> None:
    number = recorded(session, a_payer(session))
    app = page()
    app.button(key=f"approve-{number}").click().run()
    assert app.success[0].value.startswith(f"{AMOUNT} credited to")
    assert texts(app.info) == ["No transfers are waiting for approval."]
    assert app.dataframe[0].value["Status"].tolist() == ["Credited"]


def test_somebody_else_refuses(session: Session, page: Callable[..., AppTest]) -> None:
    number = recorded(session, a_payer(session))
    app = page()
    app.button(key=f"refuse-{number}").click().run()
    assert app.success[0].value == "Transfer rejected. Nothing was credited."
    assert app.dataframe[0].value["Status"].tolist() == ["Rejected"]


def test_outcome_stands_where_the_transfer_stood(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = a_payer(session)
    numbers = [recorded(session, account, f"FT{number}") for number in range(3)]
    app = page()
    for number, expected in zip((numbers[1], numbers[2], numbers[0]), (1, 0, 0), strict=True):
        app.button(key=f"refuse-{number}").click().run()
        assert not app.exception
        (message,) = app.success
        order = [
            "Success" if message in getattr(each, "children", {}).values() else type(each).__name__
            for each in app.main.children.values()
        ]
        shown = order.index("Success")
        waiting = [each for each in order[:shown] if each not in {"Title", "Header", "Info"}]
        assert len(waiting) == expected, order


def test_what_was_decided_meanwhile_is_told(session: Session, page: Callable[..., AppTest]) -> None:
    number = recorded(session, a_payer(session))
    app = page()
    checker = user_actor(901, staff_role=StaffRole.FINANCE)
    decide_transfer(session, transfer_id=number, is_approved=False, actor=checker)
    session.commit()
    app.button(key=f"approve-{number}").click().run()
    (error,) = texts(app.error)
    assert error.replace("\\", "").startswith("Nothing was changed: already rejected by user:901, ")
    assert app.dataframe[0].value["Status"].tolist() == ["Rejected"]


def evidence_links(app: AppTest) -> list[str]:
    """Return where the page leads to evidence."""
    return re.findall(
        r'href="(/files/evidence[^"]*)"', " ".join(each.proto.body for each in app.get("html"))
    )


def test_an_administrator_looks_and_moves_no_money(
    session: Session, page: Callable[..., AppTest]
) -> None:
    transfer = recorded(session, a_payer(session))
    app = page(StaffRole.ADMIN)
    assert "Record a bank transfer" not in texts(app.header)
    assert any(AMOUNT in text for text in texts(app.subheader))
    assert not [button for button in app.button if button.key]
    assert evidence_links(app) == [f"/files/evidence?transfer={transfer}&amp;lang=en"]


def test_support_looks_without_the_evidence(session: Session, page: Callable[..., AppTest]) -> None:
    recorded(session, a_payer(session))
    app = page(StaffRole.SUPPORT)
    assert "Record a bank transfer" not in texts(app.header)
    assert any(AMOUNT in text for text in texts(app.subheader))
    assert not [button for button in app.button if button.key]
    assert evidence_links(app) == []


def set_a_rate(session: Session) -> None:
    """Have the person who looks at the page request a rate of their own."""
    request_rate(
        session,
        base_currency="USD",
        quote_currency="VND",
        rate=Decimal(25400),
        margin_basis_points=150,
        source="bank",
        as_of=datetime.now(UTC) - timedelta(minutes=5),
        actor=user_actor(1, staff_role=StaffRole.FINANCE),
    )
    session.commit()


def test_transfer_by_who_set_a_rate_says_who_records_it(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = a_payer(session)
    set_a_rate(session)
    for _ in range(2):
        app = page(**{"for": str(account)})
        assert texts(app.info) == [
            "No transfers are waiting for approval.",
            (
                "You requested or approved a pending or current exchange rate for VND."
                " Another finance member must record transfers in VND."
            ),
        ]
        assert [each.key for each in app.text_input] == ["transfer_account"], "there is no form"
    other, _owner = payer(session, site="jp")
    session.commit()
    app = page(**{"for": str(other)})
    assert "transfer_amount_0" in [each.key for each in app.text_input]


def test_form_of_who_set_a_rate_meanwhile_says_so(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = a_payer(session)
    app = page(**{"for": str(account)})
    set_a_rate(session)
    app = fill(app)
    assert not app.exception
    assert texts(app.info)[-1].startswith(
        "You requested or approved a pending or current exchange rate for VND"
    )
    assert texts(app.subheader) == []
