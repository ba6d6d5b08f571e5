"""Transactions of services that make their own, since they wait for a network in between."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

T = TypeVar("T")

RETRIED_SQLSTATES = frozenset(("40001", "40P01", "23505"))
"""SQLSTATEs of a transaction that another was faster than: once more, it sees what that wrote."""

MAX_ATTEMPTS = 4

_log = logging.getLogger(__name__)


def sqlstate(error: DBAPIError) -> str | None:
    """Return PostgreSQL's code of an error, or None where the server did not answer."""
    code: str | None = getattr(error.orig, "pgcode", None)
    return code


def run_transaction(sessions: sessionmaker[Session], work: Callable[[Session], T]) -> T:
    """Do the work in a transaction and commit it; one that lost a race is run again."""
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            with sessions.begin() as session:
                return work(session)
        except DBAPIError as error:
            if attempt == MAX_ATTEMPTS or sqlstate(error) not in RETRIED_SQLSTATES:
                raise
            _log.info("a transaction is run again: %s", sqlstate(error))
    raise AssertionError("unreachable: the last attempt returns or raises")
