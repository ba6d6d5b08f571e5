"""Keyed digests: compare what people have in common without storing it in clear.

The key travels with each session, as its clock does. It is derived from the first secret key that a
database is used with, and stored there under the current one (secret_keys.py): a change of the
secret key changes no digest. Under another key everything would have another digest, and earlier
digests would no longer match.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from domain.security.keyring import derive

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

DIGEST_KEY = "digest_key"
"""Where a session has it: `Session(..., info={DIGEST_KEY: digest_key(secret_key)})`."""


@dataclass(frozen=True, slots=True)
class DigestKey:
    """The key, which shows in no text."""

    value: bytes = field(repr=False)


_PURPOSE = b"credit-portal account signals"


def digest_key(secret_key: bytes) -> DigestKey:
    """Return the key of digests: the same after every start, and of no use for anything else."""
    return DigestKey(derive(secret_key, _PURPOSE))


def keyed_digest(session: Session, *parts: str) -> bytes | None:
    """Return the digest of `parts`, such as ("email", address).

    None in a session without a key, as used by tools without the portal's secret.
    """
    key: DigestKey | None = session.info.get(DIGEST_KEY)
    if key is None:
        return None
    message = b"\0".join(part.encode() for part in parts)
    return hmac.new(key.value, message, hashlib.sha256).digest()
