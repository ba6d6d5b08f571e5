"""Refunds of bank transfers: they wait for finance, and end by a payout or are cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from db.models import Payment, Refund
from domain.actors import StaffRole, user_actor
from domain.ledger.balances import account_summary
from domain.payments import cancel_refund, record_payout
from domain.payments.bank_transfers import decide_transfer
from domain.support import CompletedAction
from tests.factories import SYSTEM, UNIT
from tests.gateways import dong, payer
from tests.support.refunds import refund
from tests.support.transfers import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

CHECKER = user_actor(901, staff_role=StaffRole.FINANCE)


@pytest.fixture
def refunded(session: Session) -> Payment:
    """A payment by bank transfer, of which a part goes back."""
    account, _owner = payer(session)
    transfer = record(session, account)
    payment_id = decide_transfer(session, transfer_id=transfer, is_approved=True, actor=CHECKER)
    payment = session.get_one(Payment, payment_id)
    assert isinstance(refund(session, payment, CHECKER, dong(1_000_000)), CompletedAction)
    session.commit()
    return payment


def texts(elements: Any) -> list[str]:
    return [element.value.replace("\\", "") for element in elements]


def state(session: Session) -> str:
    session.rollback()
    return session.scalars(select(Refund.state)).one()


def balance(session: Session, payment: Payment) -> int:
    found = account_summary(session, actor=SYSTEM, account_id=payment.account_id)
    return found.balance_micros // UNIT


def refund_id(session: Session) -> int:
    return session.scalars(select(Refund.id)).one()


def test_work_list_shows_refunds_that_wait_for_payout(
    staff_page: Callable[..., AppTest], refunded: Payment
) -> None:
    app = staff_page("payments", StaffRole.FINANCE, waiting="yes")
    assert "Refunds waiting for finance (1)" in texts(app.subheader)
    table = app.dataframe[0].value
    assert table["Amount"].tolist() == ["₫1,000,000"]
    assert table["Payment"].tolist() == [f"/payments?ref={refunded.reference}"]


def test_support_sees_a_payout_and_records_none(
    session: Session, staff_page: Callable[..., AppTest], refunded: Payment
) -> None:
    app = staff_page("payments", StaffRole.SUPPORT, ref=refunded.reference)
    assert "Refund waiting for payout" in texts(app.subheader)
    number = refund_id(session)
    keys = {each.key for each in app.button}
    assert not keys & {f"pay_out-{number}", f"cancel_refund-{number}"}


def test_recorded_payout_ends_the_refund(
    session: Session, staff_page: Callable[..., AppTest], refunded: Payment
) -> None:
    number = refund_id(session)
    app = staff_page("payments", StaffRole.FINANCE, ref=refunded.reference)
    app.text_input(key=f"payout-reference-{number}").set_value("FT900")
    app.button(key=f"pay_out-{number}").click().run()
    assert "Payout recorded. Refund paid." in texts(app.success)
    assert "Refund waiting for payout" not in texts(app.subheader)
    assert state(session) == "succeeded"
    assert balance(session, refunded) == 19_000_000


def test_cancelled_refund_grants_its_credit_again(
    session: Session, staff_page: Callable[..., AppTest], refunded: Payment
) -> None:
    number = refund_id(session)
    app = staff_page("payments", StaffRole.FINANCE, ref=refunded.reference)
    app.text_input(key=f"cancel-reason-{number}").set_value("The customer changed their mind")
    app.button(key=f"cancel_refund-{number}").click().run()
    assert any(message.startswith("Refund cancelled.") for message in texts(app.success))
    assert state(session) == "failed"
    assert balance(session, refunded) == 20_000_000


@pytest.mark.parametrize(
    "ended",
    [
        ("cancel_refund", "Nothing was changed: the refund was already cancelled by user:901, "),
        ("pay_out", "Nothing was changed: the refund was already recorded as paid by user:901, "),
    ],
)
@pytest.mark.parametrize("pressed", ["cancel_refund", "pay_out"])
def test_late_press_says_who_ended_the_refund(
    session: Session,
    staff_page: Callable[..., AppTest],
    refunded: Payment,
    pressed: str,
    ended: tuple[str, str],
) -> None:
    action, message = ended
    number = refund_id(session)
    app = staff_page("payments", StaffRole.FINANCE, ref=refunded.reference)
    app.text_input(key=f"payout-reference-{number}").set_value("FT901")
    app.text_input(key=f"cancel-reason-{number}").set_value("The customer changed their mind")
    if action == "pay_out":
        record_payout(session, refund_id=number, reference="FT900", actor=CHECKER)
    else:
        cancel_refund(session, refund_id=number, reason="Wrong account", actor=CHECKER)
    session.commit()
    app.button(key=f"{pressed}-{number}").click().run()
    assert not app.exception
    (error,) = texts(app.error)
    assert error.startswith(message)
    assert not app.success
