"""A payment that was paid, and what gateways state of its refunds and disputes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from db.models import Account, Payment
from domain import ledger
from domain.actors import StaffRole, user_actor
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    Outcome,
    RefundState,
    RefundUpdate,
)
from domain.payments import request_refund, send_refund
from domain.payments.gateway_updates import apply_updates
from domain.payments.reviews import review_discrepancy, reviews_of
from tests.factories import SYSTEM, charge, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.gateways.interface import GatewayUpdate
    from domain.money import Money
    from domain.payments.review_cases import ReviewCase


CREDIT = dong(550_000)
FINANCE = user_actor(900, staff_role=StaffRole.FINANCE)


class Paid:
    """A payment of 550,000 dong that was credited."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions
        self.gateway = ScriptedGateway()
        with sessions.begin() as session:
            self.account, owner = payer(session)
            started = begin(session, self.gateway, self.account, owner, CREDIT)
        self.payment_id, self.reference = started.payment_id, started.reference
        self.money = f"money-of-{self.reference}"
        assert self.apply(paid(self.reference, CREDIT, number=self.money)) is Outcome.RECORDED

    def apply(self, update: GatewayUpdate) -> Outcome:
        with self.sessions.begin() as session:
            outcome, _ = apply_updates(
                session, gateway=self.gateway, updates=(update,), actor=GATEWAYS
            )
        return outcome

    def ask(self, amount: Money, *, key: str | None = None) -> int:
        with self.sessions.begin() as session:
            return request_refund(
                session,
                payment_id=self.payment_id,
                amount=amount,
                reason="Paid twice",
                actor=FINANCE,
                idempotency_key=key or next_key("refund"),
            ).refund_id

    def send(self, refund_id: int) -> str:
        return send_refund(self.sessions, gateway=self.gateway, refund_id=refund_id)

    def spend(self, amount: int) -> None:
        with self.sessions.begin() as session:
            charge(session, self.account, amount, occurred_at=datetime.now(UTC))

    def refund_update(self, name: str, state: RefundState, amount: Money) -> RefundUpdate:
        return RefundUpdate(name, state, amount, gateway_payment_id=self.money)

    def dispute_update(
        self, state: DisputeState, name: str = "dp_1", amount: Money = CREDIT
    ) -> DisputeUpdate:
        return DisputeUpdate(name, state, amount, gateway_payment_id=self.money)

    def balance(self) -> int:
        query = text("SELECT balance_micros FROM account_balances WHERE account_id = :id")
        with self.sessions() as session:
            return int(session.execute(query, {"id": self.account}).scalar_one() / 1_000_000)

    def status(self) -> str:
        with self.sessions() as session:
            return session.get_one(Account, self.account).status

    def row(self) -> Payment:
        with self.sessions() as session:
            return session.get_one(Payment, self.payment_id)

    def all_of(self, model: Any) -> list[Any]:
        with self.sessions() as session:
            return list(session.scalars(select(model).order_by(model.id)))

    def discrepancies(self) -> tuple[ReviewCase, ...]:
        with self.sessions() as session:
            found = reviews_of(session, payment_id=self.payment_id, actor=FINANCE)
        return found.discrepancies

    def review(self, case_id: int, *, is_lost: bool | None = None) -> None:
        with self.sessions.begin() as session:
            review_discrepancy(
                session,
                payment_id=self.payment_id,
                case_id=case_id,
                reason="Seen there",
                actor=FINANCE,
                is_lost=is_lost,
            )

    def legs(self) -> dict[str, int]:
        """Return what stands on each account of the chart, in dong."""
        rows = text(
            "SELECT ledger_code, sum(amount_micros)::bigint / 1000000 FROM journal"
            " WHERE account_id = :id GROUP BY 1 HAVING sum(amount_micros) <> 0"
        )
        with self.sessions() as session:
            found = session.execute(rows, {"id": self.account}).all()
        return {row[0]: row[1] for row in found}


@pytest.fixture
def payment(sessions: sessionmaker[Session]) -> Any:
    made = Paid(sessions)
    yield made
    unbalanced = text(
        "SELECT account_id, currency FROM journal GROUP BY 1, 2 HAVING sum(amount_micros) <> 0"
    )
    with sessions() as session:
        assert ledger.verify_ledger(session, actor=SYSTEM) == []
        assert session.execute(unbalanced).all() == []
