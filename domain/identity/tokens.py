"""Tokens that open something: only a digest of each is kept."""

from __future__ import annotations

import hashlib
import secrets

_TOKEN_BYTES = 32


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def token_digest(token: str) -> bytes:
    """Return the digest of a token for storage: the token cannot be recovered from it."""
    return hashlib.sha256(token.encode()).digest()
