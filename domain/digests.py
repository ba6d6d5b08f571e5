"""Keyed digests: what people have in common is compared without being kept in clear.

The key is derived from the portal's secret key and travels with each session, as its clock does.
Under another secret key everything has another digest: what was known before is not recognised.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

DIGEST_KEY = "digest_key"
"""Where a session has it: `Session(..., info={DIGEST_KEY: digest_key(secret_key)})`."""


@dataclass(frozen=True, slots=True)
class DigestKey:
    """The key, which shows in no text."""

    value: bytes = field(repr=False)


_KEY_BYTES = 32
_PURPOSE = b"credit-portal account signals"


def digest_key(secret_key: bytes) -> DigestKey:
    """Return the key of digests: the same after every start, and of no use for anything else."""
    return DigestKey(HKDF(SHA256(), _KEY_BYTES, salt=None, info=_PURPOSE).derive(secret_key))


def keyed_digest(session: Session, *parts: str) -> bytes | None:
    """Return the digest of what `parts` name, such as ("email", address).

    None in a session without a key, as tools have that know no secret of the portal's.
    """
    key: DigestKey | None = session.info.get(DIGEST_KEY)
    if key is None:
        return None
    message = b"\0".join(part.encode() for part in parts)
    return hmac.new(key.value, message, hashlib.sha256).digest()
