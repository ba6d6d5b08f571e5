"""The form with which finance refunds a payment, and the approval of what is above the limit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from db.models import Account, ApprovalRequest, Refund
from domain.actors import StaffRole, user_actor
from domain.gateways.interface import DisputeState, DisputeUpdate, GatewayRefused
from domain.payments.gateway_updates import apply_updates
from domain.support import PendingApproval
from portal.ui import send_refund
from tests.factories import UNIT, charge
from tests.gateways import GATEWAYS, ScriptedGateway, dong
from tests.support.refunds import PAID, pay, refund

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    from db.models import Payment


@pytest.fixture
def payment(session: Session) -> Payment:
    found = pay(session)
    charge(session, found.account_id, 400_000, occurred_at=datetime.now(UTC))
    session.commit()
    return found


def key(payment: Payment, name: str, waiting: int = 0) -> str:
    return f"refund-{payment.reference}-{PAID.micros}-{waiting}-{name}"


def texts(elements: Any) -> list[str]:
    return [element.value.replace("\\", "") for element in elements]


def facts(app: AppTest) -> str:
    return " ".join(element.proto.body for element in app.get("html"))


def send(app: AppTest, payment: Payment) -> AppTest:
    app.text_input(key=key(payment, "reason")).set_value("Paid by mistake")
    app.button(key=key(payment, "send")).click().run()
    assert not app.exception
    return app


def refund_above_limit(session: Session, payment: Payment) -> int:
    """Have another person of finance request a refund that needs an approval; return its id."""
    session.execute(text("UPDATE action_limits SET daily_micros = 0"))
    session.execute(
        text(
            "INSERT INTO users (id, email, display_name, password_hash, staff_role)"
            " OVERRIDING SYSTEM VALUE VALUES (77, 'f@example.com', 'Maker', 'x', 'finance')"
        )
    )
    waiting = refund(session, payment, user_actor(77, staff_role=StaffRole.FINANCE))
    assert isinstance(waiting, PendingApproval)
    session.commit()
    return waiting.request_id


def test_refund_form_shows_what_is_left_and_what_it_takes(
    session: Session, staff_page: Callable[..., AppTest], payment: Payment
) -> None:
    app = staff_page("payments", StaffRole.FINANCE, ref=payment.reference)
    assert "Left to refund: ₫500,000" in texts(app.markdown)
    app.text_input(key=key(payment, "amount")).set_value("300,000").run()
    shown = facts(app)
    for name, amount in (
        ("Credit clawed back", "₫300,000"),
        ("Balance before", "₫100,000"),
        ("Balance after", "-₫200,000"),
        ("Added to the amount due", "₫200,000"),
    ):
        assert f"<dt>{name}</dt><dd>{amount}</dd>" in shown.replace("\N{MINUS SIGN}", "-")
    assert session.scalars(select(Refund)).all() == []
    app.text_input(key=key(payment, "amount")).set_value("500,001").run()
    assert texts(app.error) == ["The amount is more than is left to refund."]
    app.text_input(key=key(payment, "amount")).set_value("300,000").run()
    left = "{} of ₫20,000,000 left for all accounts in 24 hours."
    message = (
        f"{left.format('₫20,000,000')} Amounts above that need approval by another finance member."
    )
    assert message in texts(app.caption)
    send(app, payment)
    assert texts(app.success) == [f"Refund requested. {left.format('₫19,700,000')}"]
    message = (
        f"{left.format('₫19,700,000')} Amounts above that need approval by another finance member."
    )
    assert message in texts(app.caption)
    session.rollback()
    assert session.scalars(select(Refund.pay_micros)).one() == 300_000_000_000


def test_refund_above_the_limit_waits_and_is_approved_by_another(
    session: Session, staff_page: Callable[..., AppTest], payment: Payment
) -> None:
    session.execute(text("UPDATE action_limits SET daily_micros = 0"))
    session.commit()
    app = staff_page("payments", StaffRole.FINANCE, ref=payment.reference)
    send(app, payment)
    assert "Above your limit of ₫0 for all accounts in 24 hours." in texts(app.success)[0]
    session.rollback()
    assert session.scalars(select(Refund)).all() == []
    waiting = session.scalars(select(ApprovalRequest)).one()
    assert "A refund of ₫500,000 is waiting for approval until" in texts(app.info)[0]
    app.text_input(key=key(payment, "reason", 1)).set_value("Paid by mistake")
    app.button(key=key(payment, "send", 1)).click().run()
    assert texts(app.error)[0].startswith("The same request is already waiting for approval.")
    app = staff_page("approvals", StaffRole.FINANCE)
    assert f"Payment {payment.reference}" in facts(app)
    assert not [each for each in app.button if each.key == f"approve-{waiting.id}"]


def test_refund_above_what_is_left_says_what_was_refunded(
    session: Session, staff_page: Callable[..., AppTest], payment: Payment
) -> None:
    app = staff_page("payments", StaffRole.FINANCE, ref=payment.reference)
    refund(session, pay(session), user_actor(1, staff_role=StaffRole.FINANCE), dong(200_000))
    session.execute(
        text("UPDATE action_limits SET daily_micros = :micros"), {"micros": 300_000 * UNIT}
    )
    session.commit()
    send(app, payment)
    (message,) = texts(app.success)
    assert message.startswith(
        "A refund of ₫500,000 is waiting for approval. Above your limit: you have refunded"
        " ₫200,000 of ₫300,000 within 24 hours, for all accounts. Another finance member decides"
    )
    updated = staff_page("approvals", StaffRole.FINANCE)
    limit = "₫300,000 for all accounts in 24 hours, ₫200,000 used"
    assert f"<dt>Limit of the requester</dt><dd>{limit}</dd>" in facts(updated)


def late(app: AppTest, payment: Payment) -> str:
    """Press the button of a form that was shown before; return what the page says."""
    app.text_input(key=key(payment, "reason")).set_value("Paid by mistake")
    app.button(key=key(payment, "send")).click().run()
    assert not app.exception
    assert not app.success
    (error,) = texts(app.error)
    return error


@pytest.mark.parametrize("amount", [500_000, 200_000])
def test_refund_after_one_of_another_person_says_who_and_when(
    session: Session, staff_page: Callable[..., AppTest], payment: Payment, amount: int
) -> None:
    app = staff_page("payments", StaffRole.FINANCE, ref=payment.reference)
    refund(session, payment, user_actor(77, staff_role=StaffRole.FINANCE), dong(amount))
    session.commit()
    message = late(app, payment)
    assert "Nothing was refunded" in message
    assert f"clawed back: ₫{amount:,} (user:77, " in message
    assert f"Left to refund: ₫{500_000 - amount:,}." in message
    session.rollback()
    assert session.scalars(select(Refund.pay_micros)).all() == [amount * UNIT]


def test_refund_after_a_request_of_another_person_says_so(
    session: Session, staff_page: Callable[..., AppTest], payment: Payment
) -> None:
    app = staff_page("payments", StaffRole.FINANCE, ref=payment.reference)
    session.execute(text("UPDATE action_limits SET daily_micros = 0"))
    refund(session, payment, user_actor(77, staff_role=StaffRole.FINANCE), dong(200_000))
    session.commit()
    assert "Request to refund ₫200,000: Waiting (user:77, " in late(app, payment)


def test_refund_of_money_in_dispute_says_so(
    session: Session, staff_page: Callable[..., AppTest], payment: Payment
) -> None:
    app = staff_page("payments", StaffRole.FINANCE, ref=payment.reference)
    opened = DisputeUpdate(
        "dispute-1",
        DisputeState.OPEN,
        PAID,
        gateway_payment_id=payment.gateway_payment_id,
        payment_reference=payment.reference,
    )
    apply_updates(session, gateway=ScriptedGateway(), updates=[opened], actor=GATEWAYS)
    session.commit()
    assert "Dispute opened, account frozen: ₫500,000 (System: gateways, " in late(app, payment)


def test_form_that_was_taken_away_says_why(
    session: Session, staff_page: Callable[..., AppTest], payment: Payment
) -> None:
    app = staff_page("payments", StaffRole.FINANCE, ref=payment.reference)
    app.text_input(key=key(payment, "reason")).set_value("Paid by mistake").run()
    refund(session, payment, user_actor(77, staff_role=StaffRole.FINANCE), dong(500_000))
    session.commit()
    app.run()
    assert "₫500,000 (user:77, " in texts(app.warning)[0]
    app.run()
    assert not app.warning


def test_faulty_refund_is_told_in_its_form(
    staff_page: Callable[..., AppTest], payment: Payment
) -> None:
    app = staff_page("payments", StaffRole.FINANCE, ref=payment.reference)
    app.button(key=key(payment, "send")).click().run()
    assert texts(app.error) == ["Enter a reason."]


def what(session: Session, payment: Payment) -> str:
    """Return how Approvals names the refund of the payment."""
    session.rollback()
    account = session.get_one(Account, payment.account_id)
    return f"Refund a payment of ₫500,000, {account.name} ({account.id})"


def test_approving_a_refund_requests_it(
    session: Session, staff_page: Callable[..., AppTest], payment: Payment
) -> None:
    waiting = refund_above_limit(session, payment)
    app = staff_page("approvals", StaffRole.FINANCE)
    app.button(key=f"approve-{waiting}").click().run()
    (message,) = texts(app.success)
    assert message == f"{what(session, payment)}. Request approved. Refund requested."
    session.rollback()
    assert session.scalars(select(Refund.requested_by)).one() == "user:77"


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the gateway refuse each refund."""
    gateway = ScriptedGateway(failure=GatewayRefused("vnpay", "too_late"))
    monkeypatch.setattr(send_refund, "gateway_of", lambda _name: gateway)


REFUSED = "VNPay declined the refund. The credit was restored."


@pytest.mark.usefixtures("refusing")
def test_refund_that_the_gateway_refuses_is_an_error(
    staff_page: Callable[..., AppTest], payment: Payment
) -> None:
    app = send(staff_page("payments", StaffRole.FINANCE, ref=payment.reference), payment)
    assert texts(app.error) == [REFUSED]
    assert not app.success


@pytest.mark.usefixtures("refusing")
def test_approved_refund_that_the_gateway_refuses_is_an_error(
    session: Session, staff_page: Callable[..., AppTest], payment: Payment
) -> None:
    waiting = refund_above_limit(session, payment)
    app = staff_page("approvals", StaffRole.FINANCE)
    app.button(key=f"approve-{waiting}").click().run()
    assert texts(app.error) == [f"{what(session, payment)}. {REFUSED}"]
    assert not app.success


@pytest.mark.parametrize("role", [StaffRole.SUPPORT, StaffRole.ADMIN])
def test_others_have_no_refund_form(
    staff_page: Callable[..., AppTest], payment: Payment, role: StaffRole
) -> None:
    app = staff_page("payments", role, ref=payment.reference)
    assert not [each for each in app.button if each.key and each.key.startswith("refund-")]
