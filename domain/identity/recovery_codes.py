"""Recovery codes: each replaces a lost device, once."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, update

from db.models import RecoveryCode
from domain import clock
from domain.security.digests import keyed_digest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

COUNT = 10
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Letters and digits that nobody takes for each other on paper."""

_HALF = 5
"""Two groups of five: 31^10 possible codes, about 2^49."""


def make_recovery_codes(session: Session, user_id: int) -> tuple[str, ...]:
    """Return new codes for the person; their older ones stop working.

    They leave this function once: only digests are kept.
    """
    remove_recovery_codes(session, user_id)
    codes = tuple(_random_code() for _ in range(COUNT))
    now = clock.now(session)
    session.add_all(
        RecoveryCode(code_digest=_digest(session, user_id, code), user_id=user_id, created_at=now)
        for code in codes
    )
    session.flush()
    return codes


def use_recovery_code(session: Session, user_id: int, code: str) -> bool:
    """Return whether this is an unused code of the person; it is used from now on."""
    used = session.execute(
        update(RecoveryCode)
        .where(
            RecoveryCode.code_digest == _digest(session, user_id, code),
            RecoveryCode.user_id == user_id,
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=clock.now(session))
        .returning(RecoveryCode.user_id)
    ).scalar_one_or_none()
    return used is not None


def count_recovery_codes(session: Session, user_id: int) -> int:
    """Return how many codes the person has left."""
    count: int = session.execute(
        select(func.count()).where(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))
    ).scalar_one()
    return count


def recovery_code_set(session: Session, user_id: int) -> str:
    """Return an identifier of the person's present codes, used ones too, that reveals none."""
    digests = select(RecoveryCode.code_digest).where(RecoveryCode.user_id == user_id)
    return hashlib.sha256(b"".join(sorted(session.scalars(digests)))).hexdigest()


def remove_recovery_codes(session: Session, user_id: int) -> None:
    """Delete all codes of the person."""
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))


def _random_code() -> str:
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(2 * _HALF))
    return f"{letters[:_HALF]}-{letters[_HALF:]}"


def _digest(session: Session, user_id: int, code: str) -> bytes:
    tidy = "".join(each for each in code.lower() if each.isalnum())
    digest = keyed_digest(session, "recovery code", str(user_id), tidy)
    if digest is None:
        raise RuntimeError("recovery codes are kept as keyed digests, and this session has no key")
    return digest
