"""A process that stops in the middle of a payment, for whoever kills it there.

`python -m tests.payment_worker URL STEP PAYMENT`: it prints "here" at the step and waits.
"""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Never

from db.engine import make_engine, make_sessions
from db.models import Payment
from domain.actors import MemberRole, user_actor
from domain.gateways.interface import InboundMessage, WebhookEvent
from domain.money import Money
from domain.payments import open_checkout, process_webhook, send_refund
from domain.security.payload_encryption import Vault
from tests.gateways import ScriptedGateway, paid
from tests.support.keys import KNOWS_VAULT

if TYPE_CHECKING:
    from domain.gateways.interface import (
        Acknowledgement,
        Checkout,
        CheckoutRequest,
        Outcome,
        RefundRequest,
        RefundUpdate,
    )

VAULT = Vault(b"the-secret-key-of-these-tests-0123456789")
MESSAGE = InboundMessage("POST", {}, (), "", b"{}", datetime(2026, 3, 10, tzinfo=UTC))


def stop_here() -> Never:
    sys.stdout.write("here\n")
    sys.stdout.flush()
    threading.Event().wait()
    raise AssertionError("unreachable: it is killed")


class Telling(ScriptedGateway):
    """Tells that one payment was paid."""

    reference = ""
    amount = Money.zero("VND")

    def parse_webhook(self, message: InboundMessage) -> WebhookEvent:
        assert message.body
        fact = paid(self.reference, self.amount, number=f"money-{self.reference}")
        return WebhookEvent(f"event-{self.reference}", "paid", (fact,))


class StopsBeforeTheAnswer(Telling):
    """Is killed after the commit and before the gateway has its answer."""

    def acknowledge(self, outcome: Outcome) -> Acknowledgement:
        assert outcome
        stop_here()


class StopsAfterTheCall(Telling):
    """Is killed when the gateway has done what was asked, before that is written down."""

    def create_checkout(self, request: CheckoutRequest) -> Checkout:
        super().create_checkout(request)
        stop_here()

    def refund(self, request: RefundRequest) -> RefundUpdate:
        super().refund(request)
        stop_here()


def main() -> None:
    url, step, number = sys.argv[1:4]
    sessions = make_sessions(make_engine(url), KNOWS_VAULT)
    with sessions() as session:
        payment = session.get_one(Payment, int(number)) if step != "refund" else None
    gateway = StopsBeforeTheAnswer() if step == "notification" else StopsAfterTheCall()
    if step == "refund":
        send_refund(sessions, gateway=gateway, refund_id=int(number))
    elif payment is not None and step == "notification":
        gateway.reference = payment.reference
        gateway.amount = Money(payment.pay_micros, payment.pay_currency)
        process_webhook(sessions, gateway=gateway, message=MESSAGE, vault=VAULT)
    elif payment is not None:
        open_checkout(
            sessions,
            gateway=gateway,
            payment_id=payment.id,
            return_url="https://portal.example/back",
            cancel_url="https://portal.example/back",
            customer_ip="127.0.0.1",
            actor=user_actor(1, memberships={payment.account_id: MemberRole.OWNER}),
        )


if __name__ == "__main__":
    main()
