"""kill -9 in the middle of a payment: nothing doubled, nothing lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from db.models import Payment, Refund
from domain import ledger
from domain.actors import StaffRole, user_actor
from domain.gateways.interface import Outcome
from domain.money import Money
from domain.payments import open_checkout, process_webhook, request_refund, send_refund
from domain.payments.gateway_updates import apply_updates
from tests.factories import SYSTEM, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer
from tests.payment_worker import MESSAGE, VAULT, Telling

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor

ROOT = Path(__file__).parents[3]
CREDIT = dong(500_000)


def kill_at(url: str, step: str, number: int) -> None:
    """Run the worker up to its step, and kill it there."""
    worker = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "tests.payment_worker", url, step, str(number)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "here\n"
    worker.kill()
    worker.wait()
    worker.stdout.close()


@pytest.fixture
def started(sessions: sessionmaker[Session]) -> tuple[int, str, Actor]:
    with sessions.begin() as session:
        account, owner = payer(session)
        payment = begin(session, ScriptedGateway(), account, owner, CREDIT)
    return payment.payment_id, payment.reference, owner


def credits_of(sessions: sessionmaker[Session]) -> list[int]:
    with sessions() as session:
        assert ledger.verify_ledger(session, actor=SYSTEM) == []
        return list(session.scalars(text("SELECT amount_micros FROM entries")))


def test_killed_between_the_commit_and_the_answer(
    sessions: sessionmaker[Session], database_url: str, started: tuple[int, str, Actor]
) -> None:
    payment_id, reference, _owner = started
    kill_at(database_url, "notification", payment_id)
    assert credits_of(sessions) == [CREDIT.micros]
    # The gateway has no answer and comes again.
    again = Telling()
    again.reference, again.amount = reference, CREDIT
    outcome, _ = process_webhook(sessions, gateway=again, message=MESSAGE, vault=VAULT)
    assert outcome is Outcome.REPEATED
    assert credits_of(sessions) == [CREDIT.micros]


def test_killed_between_the_gateway_s_checkout_and_our_commit(
    sessions: sessionmaker[Session], database_url: str, started: tuple[int, str, Actor]
) -> None:
    payment_id, reference, owner = started
    kill_at(database_url, "checkout", payment_id)
    with sessions() as session:
        assert session.get_one(Payment, payment_id).state == "created"
    gateway = ScriptedGateway()
    open_checkout(
        sessions,
        gateway=gateway,
        payment_id=payment_id,
        return_url="https://portal.example/back",
        cancel_url="https://portal.example/back",
        customer_ip="127.0.0.1",
        actor=owner,
    )
    # The same reference, which the gateway knows: it is the same checkout.
    assert gateway.asked == [f"create {reference}"]
    with sessions.begin() as session:
        apply_updates(session, gateway=gateway, updates=(paid(reference, CREDIT),), actor=GATEWAYS)
    assert credits_of(sessions) == [CREDIT.micros]


def test_killed_between_the_gateway_s_refund_and_our_commit(
    sessions: sessionmaker[Session], database_url: str, started: tuple[int, str, Actor]
) -> None:
    payment_id, reference, _owner = started
    gateway = ScriptedGateway()
    with sessions.begin() as session:
        apply_updates(session, gateway=gateway, updates=(paid(reference, CREDIT),), actor=GATEWAYS)
    with sessions.begin() as session:
        refund = request_refund(
            session,
            payment_id=payment_id,
            amount=Money(CREDIT.micros, "VND"),
            reason="Paid twice",
            actor=user_actor(900, staff_role=StaffRole.FINANCE),
            idempotency_key=next_key(),
        ).refund_id
    kill_at(database_url, "refund", refund)
    with sessions() as session:
        row = session.get_one(Refund, refund)
        assert (row.state, row.reference is not None) == ("requested", True)
    assert send_refund(sessions, gateway=gateway, refund_id=refund) == "succeeded"
    assert gateway.asked == [f"refund {row.reference}"]
    assert credits_of(sessions) == [CREDIT.micros, -CREDIT.micros]
    with sessions() as session:
        assert len(session.scalars(select(Refund)).all()) == 1
