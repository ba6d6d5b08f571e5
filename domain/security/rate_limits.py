"""Wrong guesses and repeated requests are counted, and slowed down more the more there are.

A try is counted before it is judged, in a transaction of its own: tries that arrive together
are each counted, and no more of them are judged than the limit allows.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain import clock
from domain.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Limit:
    """The number of free attempts, and the growth of the waits after them.

    After `free` attempts each further one starts a wait of `first_wait`, doubled every time up to
    `longest_wait`. After `forgotten_after` without an attempt the count starts again.
    """

    free: int
    first_wait: timedelta
    longest_wait: timedelta
    forgotten_after: timedelta


@dataclass(frozen=True, slots=True)
class Counter:
    """A limit, and the digest of the party whose attempts are counted.

    `is_of_network`: they are those of a whole network.
    """

    key_digest: bytes
    limit: Limit
    is_of_network: bool = False


def counter(key: bytes, limit: Limit, *parts: str, is_of_network: bool = False) -> Counter:
    """Return the counter of `parts`, such as ("sign-in", address).

    The digest is keyed: neither addresses nor emails can be read or guessed from the table.
    """
    message = b"\0".join(part.encode() for part in parts)
    return Counter(hmac.new(key, message, hashlib.sha256).digest(), limit, is_of_network)


_COUNT = text(
    """
INSERT INTO throttles AS t (key_digest, window_started_at, failures) VALUES (:key, :now, 1)
ON CONFLICT (key_digest) DO UPDATE
SET window_started_at = EXCLUDED.window_started_at,
    failures = CASE WHEN t.window_started_at <= :forgotten_before THEN 1 ELSE t.failures + 1 END
WHERE t.window_started_at <= :forgotten_before
   OR t.failures < :free
   OR t.window_started_at + LEAST(
        CAST(:first_wait AS interval) * power(2, LEAST(t.failures - :free, 30)),
        CAST(:longest_wait AS interval)) <= :now
RETURNING failures
"""
)

_STATE = text("SELECT window_started_at, failures FROM throttles WHERE key_digest = :key")
_GIVE_BACK = text(
    "UPDATE throttles SET failures = failures - 1 WHERE key_digest = :key AND failures > 0"
)
_FORGET = text("DELETE FROM throttles WHERE key_digest = :key")
_PURGE = text("DELETE FROM throttles WHERE window_started_at <= :before RETURNING failures")


def record_attempt(session: Session, counters: Iterable[Counter]) -> None:
    """Count one attempt on every counter; raise RateLimited where one of them requires a wait.

    A refused attempt must count nowhere: let the error end the transaction or savepoint.
    """
    now = clock.now(session)
    # Always in the order of the keys: tries that share counters wait, and never deadlock.
    for each in sorted(counters, key=_key):
        limit = each.limit
        counted = session.execute(
            _COUNT,
            {
                "key": each.key_digest,
                "now": now,
                "forgotten_before": now - limit.forgotten_after,
                "free": limit.free,
                "first_wait": limit.first_wait,
                "longest_wait": limit.longest_wait,
            },
        ).scalar_one_or_none()
        if counted is None:
            seconds = _seconds_to_wait(session, each, now)
            raise RateLimited(seconds, is_of_network=each.is_of_network)


def try_attempt(session: Session, counters: Iterable[Counter]) -> bool:
    """Return whether the attempt was counted; for requests that must not reveal a refusal."""
    try:
        with session.begin_nested():
            record_attempt(session, counters)
    except RateLimited:
        return False
    return True


def refund_attempt(
    session: Session, counters: Iterable[Counter], *, reset: Iterable[Counter] = ()
) -> None:
    """Take back one try that turned out right; `reset` counters start anew, among the others.

    In the order of the keys, as tries are counted: else each could wait for the other.
    """
    statements = {each.key_digest: _GIVE_BACK for each in counters}
    statements |= {each.key_digest: _FORGET for each in reset}
    for key, statement in sorted(statements.items(), key=itemgetter(0)):
        session.execute(statement, {"key": key})


def purge(session: Session, *, before: datetime) -> int:
    """Delete counters that stood still since `before`; return how many."""
    return len(session.execute(_PURGE, {"before": before}).all())


def _key(each: Counter) -> bytes:
    return each.key_digest


def _seconds_to_wait(session: Session, each: Counter, now: datetime) -> int:
    started_at: datetime
    failures: int
    started_at, failures = session.execute(_STATE, {"key": each.key_digest}).one()
    limit = each.limit
    wait = min(limit.first_wait * (1 << min(failures - limit.free, 30)), limit.longest_wait)
    return max(1, math.ceil((started_at + wait - now).total_seconds()))
