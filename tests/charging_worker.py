"""Charges for ever and prints each batch once it is committed: the victim of the crash test."""

from __future__ import annotations

import sys
import uuid
from datetime import UTC, datetime
from decimal import Decimal

from db.engine import make_engine, make_sessions
from domain.actors import system_actor
from domain.ledger import Charge, ChargeItem, charge_batch

ACTOR = system_actor("crash-test")


def main(url: str, accounts: list[int]) -> None:
    """Commit batches of one charge an account, and acknowledge each on standard output."""
    sessions = make_sessions(make_engine(url, pool_size=1))
    while True:
        event_id = uuid.uuid4().hex
        charges = [_charge(account, event_id) for account in accounts]
        with sessions() as session:
            charge_batch(session, charges=charges, actor=ACTOR)
            session.commit()
        sys.stdout.write(f"{event_id}\n")
        sys.stdout.flush()


def _charge(account: int, event_id: str) -> Charge:
    item = ChargeItem("crash", event_id, Decimal("12.345678"), datetime.now(UTC))
    return Charge(account, "ai-inference", "model", (item,), refusable=False)


if __name__ == "__main__":
    main(sys.argv[1], [int(account) for account in sys.argv[2:]])
