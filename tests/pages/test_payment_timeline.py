"""What staff see of a payment that the gateway could not be asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import Payment
from domain.actors import StaffRole
from domain.payments import check_payment
from domain.payments.polling import REFUND_UNANSWERED
from domain.payments.records import add_event
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, payer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker
    from streamlit.testing.v1 import AppTest


def test_timeline_shows_a_failed_check_with_its_error(
    staff_page: Callable[..., AppTest], sessions: sessionmaker[Session]
) -> None:
    gateway = ScriptedGateway(failure=KeyError("a secret of the customer"))
    with sessions.begin() as session:
        account, owner = payer(session)
        made = begin(session, gateway, account, owner, dong(1_000_000))
        payment = session.scalars(select(Payment)).one()
        add_event(session, payment, REFUND_UNANSWERED, actor=GATEWAYS, details={"refund": 1})
    check_payment(sessions, gateway=gateway, payment_id=made.payment_id, actor=owner)
    app = staff_page("payments", StaffRole.SUPPORT, ref=made.reference)
    shown = " ".join(app.dataframe[0].value.to_csv().split())
    assert "Gateway response not processed, to be retried (KeyError" in shown
    assert "No response to the refund from the gateway for a week" in shown
    assert "secret" not in shown
