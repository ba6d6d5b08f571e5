"""Encryption of erasable personal data, by a key for each account and year.

Rows that hold it are insert-only. To erase it, its key is destroyed, and to let it lapse, the keys
of old years are. Each key is wrapped by one that only the environment has (keyring.py). The values
of mails are kept under keys that belong to no account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import text

from db.bulk import fetch_rows
from domain import clock
from domain.errors import NotFound
from domain.security.keyring import Keyring, UnknownKey

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

NOBODY = 0
"""The account of what cannot be told to be about one."""

VAULT = "vault"
"""Where a session has it that needs one by itself: `Session(..., info={VAULT: vault})`."""

_MARK = b":"

_FIND = "SELECT wrapped_key FROM data_keys WHERE account_id = %(account_id)s AND year = %(year)s"
_KEEP = text("""
INSERT INTO data_keys (account_id, year, wrapped_key, wrapped_by)
VALUES (:account_id, :year, :wrapped_key, :wrapped_by)
ON CONFLICT (account_id, year) DO NOTHING RETURNING wrapped_key
""")
_DESTROY = text("DELETE FROM data_keys WHERE account_id = :account_id")
_DESTROY_OLD = text("DELETE FROM data_keys WHERE year < :year RETURNING account_id")


class Vault:
    """Seals and opens, by keys that are wrapped by the portal's secret key, or were by an older."""

    def __init__(self, keys: Keyring | bytes) -> None:
        self._keyring = keys if isinstance(keys, Keyring) else Keyring(keys)

    def seal(
        self, session: Session, *, account_id: int, content: bytes, at: datetime | None = None
    ) -> bytes:
        """Return the content encrypted by the account's key of the year, created where needed.

        `at` is when the content was received, in UTC; it defaults to now.
        """
        year = (at or clock.now(session)).year
        sealed = self._key(session, account_id, year).encrypt(content)
        return str(year).encode() + _MARK + sealed

    def open(self, session: Session, *, account_id: int, sealed: bytes) -> bytes:
        """Decrypt sealed content. Raises NotFound where its key is gone or another account's."""
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
            "wrapped_key": self._keyring.wrap(made),
            "wrapped_by": self._keyring.current_id,
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
            return Fernet(self._keyring.unwrap(bytes(rows[0][0])))
        except UnknownKey:
            raise NotFound("data_key") from None


def vault_of(session: Session) -> Vault:
    """Return the session's own vault. Raises RuntimeError where the session has none."""
    vault: Vault | None = session.info.get(VAULT)
    if vault is None:
        raise RuntimeError("what this session keeps is sealed, and it has no vault to do it by")
    return vault


def destroy_keys(session: Session, *, account_id: int) -> None:
    """Make everything unreadable that was sealed for an account."""
    session.execute(_DESTROY, {"account_id": account_id})


def destroy_keys_before(session: Session, *, year: int) -> int:
    """Destroy the keys of content sealed before a year; return the number of keys."""
    return len(session.execute(_DESTROY_OLD, {"year": year}).all())
