"""Passwords: which are good enough, and how they are kept (argon2id)."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn

from domain.errors import InvalidInput, Overloaded
from domain.validation import normalised

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_LENGTH = 10
MAX_LENGTH = 200

_GUESSABLE_BELOW = 2
"""zxcvbn scores 0 to 4; below 2, a million guesses find the password."""

_SCORED_LENGTH = 72
"""zxcvbn takes no longer text; what is longer is judged by its beginning."""

_HASHER = PasswordHasher(parallelism=1)
"""RFC 9106's second choice (64 MiB, 3 passes), in one thread: pages go on in the other ones."""

_TURNS = max(1, (os.cpu_count() or 1) // 2)
_MAX_WAITING = 40
_RUNNING = threading.BoundedSemaphore(_TURNS)
_PLACES = threading.BoundedSemaphore(_TURNS + _MAX_WAITING)
_MAX_WAIT_SECONDS = 5
_RETRY_AFTER_SECONDS = 10


def check_password(password: str, *, email: str, field: str = "password") -> None:
    """Refuse a password that is short, long, or easy to guess from the address.

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
    with _turn():
        is_guessable = _is_guessable(text, [email, local_part])
    if is_guessable:
        raise InvalidInput(field, "guessable")


def hash_password(password: str) -> str:
    """Return the argon2id hash in the form that contains its parameters.

    It takes the processor for a while: no transaction may be open meanwhile. Raises Overloaded.
    """
    with _turn():
        return _HASHER.hash(_normalised(password))


def verify_password(password: str, password_hash: str | None) -> bool:
    """Return whether the password matches the hash; equally slow for None (an unknown person).

    Raises Overloaded.
    """
    known = password_hash is not None
    text = _normalised(password)
    try:
        with _turn():
            _HASHER.verify(password_hash if password_hash is not None else _nobodys_hash(), text)
    except (VerificationError, InvalidHashError):
        return False
    return known


@contextmanager
def _turn() -> Iterator[None]:
    """Wait for a slot for slow work: a burst of it leaves the processor to other requests.

    Raises Overloaded where too many wait already, or the wait is long.
    """
    if not _PLACES.acquire(blocking=False):
        raise Overloaded(_RETRY_AFTER_SECONDS)
    try:
        if not _RUNNING.acquire(timeout=_MAX_WAIT_SECONDS):
            raise Overloaded(_RETRY_AFTER_SECONDS)
        try:
            yield
        finally:
            _RUNNING.release()
    finally:
        _PLACES.release()


def needs_rehash(password_hash: str) -> bool:
    """Return whether the hash was created with other parameters than new ones are."""
    return _HASHER.check_needs_rehash(password_hash)


@cache
def _nobodys_hash() -> str:
    return _HASHER.hash("nobody has this password")


def _is_guessable(text: str, known_words: list[str]) -> bool:
    score: int = zxcvbn(text[:_SCORED_LENGTH], user_inputs=known_words)["score"]
    return score < _GUESSABLE_BELOW


def _normalised(password: str) -> str:
    # Keyboards differ in how they compose a letter such as ệ; the person typed the same one.
    return normalised(password, "NFKC", longest=MAX_LENGTH)
