"""The current time: the database's clock, or the one that the session was created with.

Demo data and tests simulate months in seconds; their sessions have a clock of their own,
`Session(..., info={"clock": function})`, and go through the same services as everyone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

CLOCK = "clock"

PLACES_OF_ZONES = {
    "CET": "Europe/Brussels",
    "EET": "Europe/Athens",
    "MET": "Europe/Brussels",
    "WET": "Europe/Lisbon",
}
"""Names that are zones with summer time to browsers and Python, and offsets without to PostgreSQL.

Beside each stands the zone that both know and that has the same time.
"""

_KNOWS = text("SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = :zone)")


def given(session: Session | Connection) -> datetime | None:
    """Return the time of the session's own clock; None if the database's clock applies."""
    clock: Callable[[], datetime] | None = session.info.get(CLOCK)
    return None if clock is None else clock()


def now(session: Session, known: datetime | None = None) -> datetime:
    """Return this very instant (not the transaction's start), in UTC.

    `known` is the time that the database returned in a statement that ran in any case.
    """
    message = given(session) or known
    if message is not None:
        return message
    instant: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return instant


def knows_zone(session: Session, *, zone: str) -> bool:
    """Return whether the database knows the time zone of this name."""
    known: bool = session.execute(_KNOWS, {"zone": zone}).scalar_one()
    return known
