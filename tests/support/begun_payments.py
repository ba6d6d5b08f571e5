"""Payments that have begun at VNPay, and the messages that tell of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from db.models import Payment
from domain.gateways.interface import InboundMessage, Outcome, PaymentUpdate
from domain.gateways.vnpay.client import VNPay
from domain.gateways.vnpay.fields import hash_data, sign
from domain.gateways.vnpay.settings import VNPaySettings
from domain.payments import process_webhook
from domain.payments.gateway_updates import apply_updates
from domain.security.payload_encryption import Vault
from tests.gateways import GATEWAYS, begin, dong, payer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.payments import StartedPayment


SETTINGS = VNPaySettings("TESTTMN1", "secret-of-tests", "https://p.example", "https://a.example",
                         is_sandbox=False)  # fmt: skip
VAULT = Vault(b"the-secret-key-of-these-tests-0123456789")
CREDIT = dong(500_000)


def vnpay() -> VNPay:
    return VNPay(SETTINGS)


def ipn(reference: str, *, secret: str = SETTINGS.hash_secret, **changes: str) -> InboundMessage:
    given = {
        "vnp_TmnCode": "TESTTMN1",
        "vnp_Amount": "50000000",
        "vnp_PayDate": "20260115093312",
        "vnp_ResponseCode": "00",
        "vnp_TransactionNo": "14422574",
        "vnp_TransactionStatus": "00",
        "vnp_TxnRef": reference,
    } | {f"vnp_{name}": value for name, value in changes.items()}
    pairs = [*given.items(), ("vnp_SecureHash", sign(secret, hash_data(given.items())))]
    return InboundMessage("GET", {}, pairs, urlencode(pairs), b"", datetime.now(UTC))


def take(sessions: sessionmaker[Session], message: InboundMessage, gateway: Any = None) -> Outcome:
    outcome, _ = process_webhook(sessions, gateway=gateway or vnpay(), message=message, vault=VAULT)
    return outcome


class Begun:
    """A payment of an account in Vietnam that was begun and committed."""

    def __init__(self, sessions: sessionmaker[Session], *, site: str = "vn") -> None:
        self.sessions = sessions
        with sessions.begin() as session:
            self.account, self.owner = payer(session, site=site)
        self.started = self.another()
        self.reference = self.started.reference

    def another(self) -> StartedPayment:
        with self.sessions.begin() as session:
            return begin(session, vnpay(), self.account, self.owner, CREDIT)

    def row(self) -> Payment:
        with self.sessions() as session:
            return session.get_one(Payment, self.started.payment_id)

    def apply(self, update: PaymentUpdate, gateway: Any = None) -> Outcome:
        with self.sessions.begin() as session:
            outcome, _ = apply_updates(
                session, gateway=gateway or vnpay(), updates=(update,), actor=GATEWAYS
            )
            return outcome


@pytest.fixture
def begun(sessions: sessionmaker[Session]) -> Begun:
    return Begun(sessions)
