"""The audit log as a hash chain: each row's digest covers the previous one, so no row can change.

A job seals what is not sealed yet, in its own order: a row whose transaction ended late is sealed
late, and breaks nothing. The digest of position N is

    SHA-256(digest of N-1 || UTF-8 of the JSON array
            [N, id, recorded_at, actor, address, action, account_id, details])

where the digest before the first is 32 zero bytes, the array has no spaces and escapes everything
that is not ASCII, `recorded_at` is in microseconds since 1970 (UTC), and `details` is the text that
PostgreSQL writes for jsonb. A person who can write to the whole database could build a new chain;
they cannot build one that fits a head (a position and its digest) that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, text

from db.models import AuditSeal
from domain import clock
from domain.errors import InvalidInput
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from domain.actors import Actor

GENESIS = bytes(32)
"""What stands for the digest before the first."""

LATEST = timedelta(hours=24)
"""No transaction lasts longer than this: what it wrote is sealed, or looked for, until then."""

_BATCH_SIZE = 5_000
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('audit_seals', 0))")
_ROW = """a.id, CAST(extract(epoch FROM a.recorded_at) * 1000000 AS bigint) AS recorded_at,
       a.actor, a.address, a.action, a.account_id, CAST(a.details AS text) AS details"""
# Rows older than one that was sealed a day ago are sealed too, or were written by hand.
_NEXT = text(f"""
SELECT {_ROW}
FROM audit_log a
WHERE a.id > coalesce((SELECT max(audit_id) FROM audit_seals WHERE sealed_at = (
                         SELECT max(sealed_at) FROM audit_seals WHERE sealed_at < :since)), 0)
  AND NOT EXISTS (SELECT FROM audit_seals s WHERE s.audit_id = a.id)
ORDER BY a.id LIMIT :most
""")  # noqa: S608 - constant text
_CHAIN = text(f"""
SELECT s.position, s.digest, s.audit_id, {_ROW}
FROM audit_seals s LEFT JOIN audit_log a ON a.id = s.audit_id
ORDER BY s.position
""")  # noqa: S608 - constant text
_NOT_SEALED = text("""
SELECT count(*) AS waiting, min(a.id) FILTER (WHERE a.recorded_at < :since) AS forgotten
FROM audit_log a LEFT JOIN audit_seals s ON s.audit_id = a.id WHERE s.audit_id IS NULL
""")


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain, or a position in it that was recorded elsewhere."""

    position: int
    digest: bytes

    def __str__(self) -> str:
        """Return it in the form that people record, such as `12:9f86d0` with all of its digits."""
        return f"{self.position}:{self.digest.hex()}"

    @classmethod
    def parse(cls, kept: str) -> Head:
        """Return a head that was kept; raise InvalidInput("head", "not_a_head")."""
        position, _, digest = kept.strip().partition(":")
        try:
            head = cls(int(position), bytes.fromhex(digest))
        except ValueError:
            raise InvalidInput("head", "not_a_head") from None
        if head.position < 1 or len(head.digest) != len(GENESIS):
            raise InvalidInput("head", "not_a_head")
        return head


@dataclass(frozen=True, slots=True)
class Break:
    """The first place where the chain does not hold.

    `kind` is seal_missing (in the middle), row_deleted, row_changed (or swapped with another),
    never_sealed (a row that was written past the sealer), cut (a kept head is beyond the end) or
    other_chain (a kept head has another digest). `audit_id` names the row, if it is known.
    """

    kind: str
    position: int
    audit_id: int | None


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of a proof: `rows` in the chain up to `head`, and how many wait for the sealer."""

    rows: int
    waiting: int
    head: Head | None
    first_break: Break | None


@dataclass(frozen=True, slots=True)
class ChainState:
    """The length of the chain, without a proof."""

    head: Head | None
    sealed_at: datetime | None
    waiting: int


def seal_audit_log(session: Session, *, actor: Actor, limit: int = _BATCH_SIZE) -> int:
    """Seal the next rows of the audit log and return how many; again and in parallel, once each."""
    require(actor, "seal_audit")
    session.execute(_LOCK)
    now = clock.now(session)
    last = _last(session)
    position, digest = (0, GENESIS) if last is None else (last.position, last.digest)
    rows = session.execute(_NEXT, {"since": now - LATEST, "most": limit}).all()
    seals = []
    for row in rows:
        position += 1
        digest = digest_of(digest, position, row)
        seals.append({"position": position, "audit_id": row.id, "digest": digest, "sealed_at": now})
    if seals:
        session.execute(insert(AuditSeal), seals)
    return len(seals)


def digest_of(before: bytes, position: int, row: Row[Any]) -> bytes:
    """Return the digest of a row at a position, after the digest before it."""
    content = [
        position,
        row.id,
        row.recorded_at,
        row.actor,
        row.address,
        row.action,
        row.account_id,
        row.details,
    ]
    return hashlib.sha256(before + json.dumps(content, separators=(",", ":")).encode()).digest()


def verify_audit(session: Session, *, actor: Actor, kept: Head | None = None) -> Proof:
    """Prove the whole chain, in bounded memory, and that it has a head that was kept.

    Raises NotAuthorised for all but the system, finance and administrators.
    """
    require(actor, "verify_audit")
    session.execute(text("SET LOCAL statement_timeout = 0"))
    head: Head | None = None
    found: Break | None = None
    rows = 0
    for head, found in _links(session, kept):
        rows = 0 if head is None else head.position
        if found is not None:
            return Proof(rows, 0, head, found)
    if kept is not None and kept.position > rows:
        found = Break("cut", rows + 1, None)
    since = clock.now(session) - LATEST
    waiting, forgotten = session.execute(_NOT_SEALED, {"since": since}).one()
    if found is None and forgotten is not None:
        found = Break("never_sealed", rows + 1, forgotten)
    return Proof(rows, waiting, head, found)


def _links(session: Session, kept: Head | None) -> Iterator[tuple[Head | None, Break | None]]:
    """Yield the head after each link that holds, and the first that does not."""
    head: Head | None = None
    options = {"stream_results": True, "yield_per": _BATCH_SIZE}
    for row in session.execute(_CHAIN, execution_options=options):
        expected = 1 if head is None else head.position + 1
        if row.position != expected:
            yield head, Break("seal_missing", expected, None)
            return
        if row.id is None:
            yield head, Break("row_deleted", expected, row.audit_id)
            return
        before = GENESIS if head is None else head.digest
        if digest_of(before, expected, row) != bytes(row.digest):
            yield head, Break("row_changed", expected, row.audit_id)
            return
        head = Head(expected, bytes(row.digest))
        if kept is not None and kept.position == expected and kept.digest != head.digest:
            yield head, Break("other_chain", expected, row.audit_id)
            return
        yield head, None


def chain_state(session: Session, *, actor: Actor) -> ChainState:
    """Return the chain's length and the number of waiting rows, for finance and administrators."""
    require(actor, "see_audit")
    last = _last(session)
    since = clock.now(session) - LATEST
    waiting = len(session.execute(_NEXT, {"since": since, "most": _BATCH_SIZE}).all())
    if last is None:
        return ChainState(None, None, waiting)
    return ChainState(Head(last.position, bytes(last.digest)), last.sealed_at, waiting)


def _last(session: Session) -> AuditSeal | None:
    newest = select(AuditSeal).order_by(AuditSeal.position.desc()).limit(1)
    return session.scalars(newest).one_or_none()
