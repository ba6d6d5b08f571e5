"""What a webhook costs: how often its handling goes to the database and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from domain.gateways.interface import Outcome
from domain.payments import handle_webhook
from portal.runtime import database
from tests.gateways import begin, dong, payer
from tests.round_trips import RoundTrips
from tests.support.begun_payments import VAULT, ipn, vnpay
from tests.support.keys import TEST_VAULT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from domain.actors import Actor
    from domain.gateways.interface import InboundMessage


@pytest.fixture
def trips(database_url: str) -> Iterator[RoundTrips]:
    """The portal's own connections, counted."""
    database.connect(database_url, vault=TEST_VAULT)
    yield RoundTrips(database.engine())
    database.disconnect()


def make_payer() -> tuple[int, Actor]:
    """Return an account that may pay, and its owner."""
    return database.transaction(payer)


def start(account: tuple[int, Actor]) -> str:
    """Begin a payment and return its reference."""
    started = database.transaction(
        lambda session: begin(session, vnpay(), account[0], account[1], dong(500_000))
    )
    return started.reference


def handle(message: InboundMessage) -> Outcome:
    outcome, _ = handle_webhook(database.transaction, gateway=vnpay(), message=message, vault=VAULT)
    return outcome


def test_a_first_payment_of_an_account_takes_at_most_14_round_trips(trips: RoundTrips) -> None:
    message = ipn(start(make_payer()))
    with trips.counting() as sent:
        assert handle(message) is Outcome.RECORDED
    assert (sent[0], sent[-1]) == ("BEGIN", "COMMIT")
    assert len(sent) <= 14, "\n".join(sent)


def test_a_payment_takes_at_most_13_round_trips(trips: RoundTrips) -> None:
    account = make_payer()
    handle(ipn(start(account)))
    message = ipn(start(account), TransactionNo="14422575")
    with trips.counting() as sent:
        assert handle(message) is Outcome.RECORDED
    assert (sent[0], sent[-1]) == ("BEGIN", "COMMIT")
    assert len(sent) <= 13, "\n".join(sent)


def test_a_repeated_webhook_takes_at_most_4_round_trips(trips: RoundTrips) -> None:
    message = ipn(start(make_payer()))
    handle(message)
    with trips.counting() as sent:
        assert handle(message) is Outcome.REPEATED
    assert (sent[0], sent[-1]) == ("BEGIN", "COMMIT")
    assert len(sent) <= 4, "\n".join(sent)


def test_a_forged_webhook_takes_at_most_7_round_trips(trips: RoundTrips) -> None:
    message = ipn(start(make_payer()), secret="guessed")
    with trips.counting() as sent:
        assert handle(message) is Outcome.BAD_SIGNATURE
    assert (sent[0], sent[-1]) == ("BEGIN", "COMMIT")
    assert len(sent) <= 7, "\n".join(sent)
