"""Who is signed in, by the token of their session."""

from __future__ import annotations

from domain import identity
from portal.runtime import database
from portal.runtime.settings import settings


def find_signed_in_user(token: str | None) -> identity.SignedInUser | None:
    """Return who is signed in by the value of a session cookie now, or None."""
    if not token:
        return None
    return database.read_one(identity.session_actor, token=token, policy=settings().policy)
