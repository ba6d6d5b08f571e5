"""Passwords: which are good enough, and how they are kept (argon2id)."""

from __future__ import annotations

import threading
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn

from domain.errors import InvalidInput

MIN_LENGTH = 10
MAX_LENGTH = 200

_GUESSABLE_BELOW = 2
"""zxcvbn scores 0 to 4; below 2, a million guesses find the password."""

_SCORED_LENGTH = 72
"""zxcvbn takes no longer text; what is longer is judged by its beginning."""

_HASHER = PasswordHasher()

_AT_ONCE = threading.BoundedSemaphore(4)
"""Each hash takes 64 MiB while it runs: a wave of sign-ins must wait, not exhaust the memory."""


def check_password(password: str, *, email: str, field: str = "password") -> None:
    """Refuse a password that is short, long, or easy to guess for who knows the address.

    Raises InvalidInput on `field` with the reason too_short, too_long, same_as_email or guessable.
    """
    text = _normalised(password)
    if len(text) < MIN_LENGTH:
        raise InvalidInput(field, "too_short", minimum=MIN_LENGTH)
    if len(text) > MAX_LENGTH:
        raise InvalidInput(field, "too_long", maximum=MAX_LENGTH)
    local_part = email.partition("@")[0]
    if text.lower() in {email.lower(), local_part.lower()}:
        raise InvalidInput(field, "same_as_email")
    if _is_guessable(text, [email, local_part]):
        raise InvalidInput(field, "guessable")


def hash_password(password: str) -> str:
    """Return the argon2id hash with its parameters, in the form that tells both."""
    with _AT_ONCE:
        return _HASHER.hash(_normalised(password))


def verify_password(password: str, password_hash: str | None) -> bool:
    """Whether the password is the hash's; as slow for None, which stands for nobody."""
    known = password_hash is not None
    text = _normalised(password[: MAX_LENGTH * 2])
    try:
        with _AT_ONCE:
            _HASHER.verify(password_hash if password_hash is not None else _nobodys_hash(), text)
    except (VerificationError, InvalidHashError):
        return False
    return known


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than new ones are."""
    return _HASHER.check_needs_rehash(password_hash)


@cache
def _nobodys_hash() -> str:
    return _HASHER.hash("nobody has this password")


def _is_guessable(text: str, known_words: list[str]) -> bool:
    score: int = zxcvbn(text[:_SCORED_LENGTH], user_inputs=known_words)["score"]
    return score < _GUESSABLE_BELOW


def _normalised(password: str) -> str:
    # Keyboards differ in how they compose a letter such as ệ; the person typed the same one.
    return unicodedata.normalize("NFKC", password)
