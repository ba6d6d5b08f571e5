"""Keep the first result of every write that is not a charge, and return it when it is repeated."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.bulk import fetch_rows
from domain.errors import IdempotencyMismatch
from domain.validation import check_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

_FIND = """
SELECT operation, request_hash, answer FROM idempotency_keys
WHERE account_id = %(account_id)s AND key = %(key)s
"""
_KEEP = text(
    "INSERT INTO idempotency_keys (account_id, key, operation, request_hash, answer)"
    " VALUES (:account_id, :key, :operation, :request_hash, CAST(:answer AS jsonb))"
)


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A write that is carried out once: its key in the account, and what was asked.

    Raises InvalidInput where the key, or text of what was asked, is not one line.
    """

    account_id: int
    key: str
    operation: str
    request: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Look at the text of the request, which every service brings here before it writes."""
        check_text(idempotency_key=self.key, **self.request)

    @property
    def request_hash(self) -> bytes:
        """The digest of what was asked, whatever the order of its values."""
        return request_digest(self.request)


def request_digest(request: Mapping[str, Any]) -> bytes:
    """Return the digest of a request's values, whatever their order."""
    content = json.dumps(request, default=str, sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def stored_response(session: Session, write: IdempotentRequest) -> dict[str, Any] | None:
    """Return what was answered to this key before, or None; call it under the account's lock.

    Raises IdempotencyMismatch where the key belongs to another operation or request.
    """
    found = fetch_rows(session, _FIND, account_id=write.account_id, key=write.key)
    if not found:
        return None
    [(operation, request_hash, answer)] = found
    if operation != write.operation or bytes(request_hash) != write.request_hash:
        raise IdempotencyMismatch(write.key)
    first: dict[str, Any] = answer
    return first


def store_response(session: Session, write: IdempotentRequest, answer: Mapping[str, Any]) -> None:
    """Keep the answer in the transaction of the write that it tells of."""
    names = ("account_id", "key", "operation", "request_hash", "answer")
    session.execute(_KEEP, dict(zip(names, answer_row(write, answer), strict=True)))


def answer_row(
    write: IdempotentRequest, answer: Mapping[str, Any]
) -> tuple[int, str, str, bytes, str]:
    """Return the row of `idempotency_keys` that keeps the answer, for `Posting.add_row`."""
    return write.account_id, write.key, write.operation, write.request_hash, json.dumps(answer)
