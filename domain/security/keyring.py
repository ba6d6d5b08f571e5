"""The portal's secret keys: the one that encrypts, and older ones that still decrypt.

A secret key encrypts other keys and nothing else: those of `data_keys`, under which documents and
messages are kept, and that of `portal_keys`. A change of the secret key rewrites these few bytes,
never the stored data, which cannot be changed.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEY_BYTES = 32
_ID_BYTES = 8
_WRAPPING = b"credit-portal data keys"
_NAMING = b"credit-portal name of a secret key"


class UnknownKey(Exception):  # noqa: N818 - as domain.errors
    """No secret key that the portal was given decrypts it."""


class Keyring:
    """Encrypts keys under the secret key, and decrypts them under it or an older one."""

    def __init__(self, secret_key: bytes, previous: Iterable[bytes] = ()) -> None:
        self._secrets = {_id(each): each for each in (secret_key, *previous)}
        self._wrappers = {
            key_id: Fernet(base64.urlsafe_b64encode(derive(each, _WRAPPING)))
            for key_id, each in self._secrets.items()
        }
        self.current_id = _id(secret_key)

    @property
    def ids(self) -> tuple[str, ...]:
        """The identifiers of all keys, which reveal nothing of them; the current one is first."""
        return tuple(self._wrappers)

    def without_previous(self) -> Keyring:
        """Return a keyring with the current secret key alone."""
        return Keyring(self.secret)

    def wrap(self, key: bytes) -> bytes:
        """Return a key encrypted under the secret key of now, which `current_id` names."""
        return self._wrappers[self.current_id].encrypt(key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the key that was encrypted, under whichever key. Raises UnknownKey."""
        return self._open(wrapped)[1]

    def secret_behind(self, wrapped: bytes) -> bytes:
        """Return the secret key under which a key was encrypted. Raises UnknownKey."""
        return self._secrets[self._open(wrapped)[0]]

    @property
    def secret(self) -> bytes:
        """The secret key of now."""
        return self._secrets[self.current_id]

    def _open(self, wrapped: bytes) -> tuple[str, bytes]:
        for key_id, wrapper in self._wrappers.items():
            try:
                return key_id, wrapper.decrypt(wrapped)
            except InvalidToken:
                continue
        raise UnknownKey


def derive(secret: bytes, purpose: bytes, length: int = _KEY_BYTES) -> bytes:
    """Return a key for one purpose, of no use for another."""
    return HKDF(SHA256(), length, salt=None, info=purpose).derive(secret)


def _id(secret: bytes) -> str:
    return derive(secret, _NAMING, _ID_BYTES).hex()
