"""References that were recorded before banks' characters were asked for keep their credit."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from db.engine import make_engine, make_sessions
from db.migrate import _INI, migrate
from domain.actors import StaffRole, user_actor
from domain.payments.bank_transfers import Evidence, decide_transfer, record_transfer
from tests.gateways import dong, payer
from tests.support.keys import KNOWS_VAULT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

BEFORE = "0027"
_NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
MAKER = user_actor(900, staff_role=StaffRole.FINANCE)
CHECKER = user_actor(901, staff_role=StaffRole.FINANCE)
# As it was recorded, whether it was rejected, what was compared of it, and what is now. The second
# is another line than the first by the older rule alone.
RECORDED = [
    ("FT 1/A", False, "ft1a", "ft1a"),
    ("FT_1\u0410", False, "ft1\u0430", "ft1a#2"),
    ("\uff26\uff34\uff12", False, "ft2", "ft2#3"),
    ("ft-2", True, "ft2", "ft2"),
    ("FT-3", False, "ft3#5", "ft3"),
    ("FT 3", False, "ft3", "ft3#6"),
    ("\u632f\u8fbc", False, "\u632f\u8fbc", "#7"),
    ("FT_4", True, "ft4", "ft4#8"),
]


def record(session: Session, account: int) -> None:
    for number, (_written, is_rejected, _before, _after) in enumerate(RECORDED, 1):
        transfer = record_transfer(
            session,
            account_id=account,
            amount=dong(number),
            bank_reference=f"REF {number}",
            received_on=date(2026, 1, 15),
            evidence=Evidence("slip.pdf", b"%PDF-1.7 a slip"),
            remark="",
            actor=MAKER,
        )
        if is_rejected:
            decide_transfer(session, transfer_id=transfer, is_approved=False, actor=CHECKER)


def to_version(connection: Connection, version: str) -> None:
    config = Config(str(_INI))
    config.attributes["connection"] = connection
    command.downgrade(config, version)


def test_recorded_references_are_compared_anew_and_none_is_changed(
    make_database: Callable[[], str],
) -> None:
    url = make_database()
    engine = make_engine(url, role=None)
    with make_sessions(engine, {**KNOWS_VAULT, "clock": lambda: _NOON}).begin() as session:
        account, _owner = payer(session)
        record(session, account)
    with engine.begin() as connection:
        to_version(connection, BEFORE)
        for number, (written, _is_rejected, before, _after) in enumerate(RECORDED, 1):
            connection.execute(
                text(
                    "UPDATE bank_transfers SET bank_reference = :written,"
                    " normalised_reference = :before WHERE id = :id"
                ),
                {"written": written, "before": before, "id": number},
            )
    migrate(url)
    with engine.begin() as connection:
        found = connection.execute(
            text("SELECT bank_reference, normalised_reference FROM bank_transfers ORDER BY id")
        ).all()
        assert [tuple(row) for row in found] == [(row[0], row[3]) for row in RECORDED]
        to_version(connection, BEFORE)
    engine.dispose()
