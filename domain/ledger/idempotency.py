"""The first answer to every write that is not a charge, given again to whoever repeats it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from domain.errors import IdempotencyMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

_FIND = text(
    "SELECT operation, request_hash, answer FROM idempotency_keys"
    " WHERE account_id = :account_id AND key = :key"
)
_KEEP = text(
    "INSERT INTO idempotency_keys (account_id, key, operation, request_hash, answer)"
    " VALUES (:account_id, :key, :operation, :request_hash, CAST(:answer AS jsonb))"
)


def request_digest(request: Mapping[str, Any]) -> bytes:
    """Return the digest of a request's values, whatever their order."""
    said = json.dumps(request, default=str, sort_keys=True)
    return hashlib.blake2b(said.encode(), digest_size=16).digest()


def first_answer(
    session: Session, *, account_id: int, key: str, operation: str, request: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what was answered to this key before, or None; call it under the account's lock.

    Raises IdempotencyMismatch where the key belongs to another operation or request.
    """
    found = session.execute(_FIND, {"account_id": account_id, "key": key}).one_or_none()
    if found is None:
        return None
    if found[0] != operation or bytes(found[1]) != request_digest(request):
        raise IdempotencyMismatch(key)
    answer: dict[str, Any] = found[2]
    return answer


def keep_answer(
    session: Session,
    *,
    account_id: int,
    key: str,
    operation: str,
    request: Mapping[str, Any],
    answer: Mapping[str, Any],
) -> None:
    """Keep the answer in the transaction of the write that it tells of."""
    session.execute(
        _KEEP,
        {
            "account_id": account_id,
            "key": key,
            "operation": operation,
            "request_hash": request_digest(request),
            "answer": json.dumps(answer),
        },
    )
