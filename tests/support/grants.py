"""What remains of grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from tests.factories import UNIT

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def remaining(session: Session, account_id: int) -> dict[int, float]:
    """What remains of each grant (0: the overdraft), in currency units."""
    rows = session.execute(
        text("SELECT grant_number, remaining_micros FROM grant_balances WHERE account_id = :id"),
        {"id": account_id},
    )
    return {number: left / UNIT for number, left in rows}
