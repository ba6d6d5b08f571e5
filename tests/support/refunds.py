"""Refunds that members of staff request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from db.models import Payment
from domain.actors import StaffRole
from domain.payments.gateway_updates import apply_updates
from domain.support import RefundPayment, perform_or_request
from tests.factories import next_key
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.money import Money


PAID = dong(500_000)
LIMIT = dong(600_000)


@pytest.fixture
def maker(session: Session, make_person: Callable[[StaffRole], Actor]) -> Actor:
    session.execute(
        text(
            "UPDATE action_limits SET daily_micros = :micros"
            " WHERE action = 'refund_payment' AND currency = 'VND'"
        ),
        {"micros": LIMIT.micros},
    )
    return make_person(StaffRole.FINANCE)


def pay(session: Session) -> Payment:
    account, owner = payer(session)
    gateway = ScriptedGateway()
    started = begin(session, gateway, account, owner, PAID)
    update = paid(started.reference, PAID, number=next_key("money"))
    apply_updates(session, gateway=gateway, updates=(update,), actor=GATEWAYS)
    return session.get_one(Payment, started.payment_id)


def refund(
    session: Session, payment: Payment, actor: Actor, amount: Money = PAID, key: str = ""
) -> Any:
    return perform_or_request(
        session,
        account_id=payment.account_id,
        action=RefundPayment(payment.id, amount.micros, amount.currency),
        reason="Paid by mistake",
        actor=actor,
        idempotency_key=key or next_key("refund"),
    )
