"""Personal data that is kept and must be erasable: encrypted by a key of its account and year.

Rows that hold it are insert-only. To erase it, its key is destroyed, and to let it lapse, the keys
of old years are. Each key is wrapped by one that only the environment has.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import text

from db.bulk import fetch_rows
from domain import clock
from domain.errors import NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

NOBODY = 0
"""The account of what cannot be told to be about one."""

_KEY_BYTES = 32
_PURPOSE = b"credit-portal data keys"
_MARK = b":"

_FIND = "SELECT wrapped_key FROM data_keys WHERE account_id = %(account_id)s AND year = %(year)s"
_KEEP = text("""
INSERT INTO data_keys (account_id, year, wrapped_key) VALUES (:account_id, :year, :wrapped_key)
ON CONFLICT (account_id, year) DO NOTHING RETURNING wrapped_key
""")
_DESTROY = text("DELETE FROM data_keys WHERE account_id = :account_id")
_DESTROY_OLD = text("DELETE FROM data_keys WHERE year < :year RETURNING account_id")


class Vault:
    """Seals and opens. Its own key is derived from the portal's secret key."""

    def __init__(self, secret_key: bytes) -> None:
        derived = HKDF(SHA256(), _KEY_BYTES, salt=None, info=_PURPOSE).derive(secret_key)
        self._wrapper = Fernet(base64.urlsafe_b64encode(derived))

    def seal(
        self, session: Session, *, account_id: int, content: bytes, at: datetime | None = None
    ) -> bytes:
        """Return the content encrypted by the account's key of the year, made where need be.

        `at` is when the content came, in UTC; without it, it is of now.
        """
        year = (at or clock.now(session)).year
        sealed = self._key(session, account_id, year).encrypt(content)
        return str(year).encode() + _MARK + sealed

    def open(self, session: Session, *, account_id: int, sealed: bytes) -> bytes:
        """Return what was sealed. Raises NotFound where its key was destroyed or is another's."""
        year, _, token = sealed.partition(_MARK)
        key = self._find(session, account_id, int(year))
        if key is None:
            raise NotFound("data_key")
        try:
            return key.decrypt(token)
        except InvalidToken:
            raise NotFound("data_key") from None

    def _key(self, session: Session, account_id: int, year: int) -> Fernet:
        found = self._find(session, account_id, year)
        if found is not None:
            return found
        made = Fernet.generate_key()
        row = {
            "account_id": account_id,
            "year": year,
            "wrapped_key": self._wrapper.encrypt(made),
        }
        if session.execute(_KEEP, row).first() is not None:
            return Fernet(made)
        kept = self._find(session, account_id, year)  # another's, which was first
        if kept is None:
            raise NotFound("data_key")
        return kept

    def _find(self, session: Session, account_id: int, year: int) -> Fernet | None:
        rows = fetch_rows(session, _FIND, account_id=account_id, year=year)
        if not rows:
            return None
        try:
            return Fernet(self._wrapper.decrypt(bytes(rows[0][0])))
        except InvalidToken:
            raise NotFound("data_key") from None


def destroy_keys(session: Session, *, account_id: int) -> None:
    """Make everything unreadable that was sealed for an account."""
    session.execute(_DESTROY, {"account_id": account_id})


def destroy_keys_before(session: Session, *, year: int) -> int:
    """Let lapse what was sealed before a year; return how many keys went."""
    return len(session.execute(_DESTROY_OLD, {"year": year}).all())
