"""Authenticator apps: one-time codes of a secret that the portal and the person's device share.

The codes are those of RFC 6238 (TOTP) as every such app makes them: SHA-1, six digits, one for each
30 seconds. The secret is sealed by a key that is derived from the key of digests, which is itself
kept under the secret key: a change of SECRET_KEY leaves it readable.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import pyotp
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import update

from db.models import Authenticator
from domain import clock
from domain.errors import NotFound
from domain.identity.tokens import token_digest
from domain.security.digests import DIGEST_KEY
from domain.security.keyring import derive

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.security.digests import DigestKey

STEP_SECONDS = 30
_DIGITS = 6
_ALLOWED_DRIFT_STEPS = 1
"""The code before and the one after count too: clocks differ, and people type slowly (RFC 6238)."""

_OFFER_LIFETIME = timedelta(hours=1)
_PURPOSE = b"credit-portal authenticator secrets"


@dataclass(frozen=True, slots=True)
class AuthenticatorOffer:
    """A secret to enter into an app: as text, and as the address that a QR code carries."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


def has_authenticator(session: Session, user_id: int) -> bool:
    """Return whether the person has an app whose first code was entered."""
    found = _find(session, user_id)
    return found is not None and found.sealed_secret is not None


def offer_authenticator(session: Session, user_id: int, *, token: str) -> None:
    """Create a new secret for the person's app; an existing one is valid until this is confirmed.

    Only the holder of `token` can see and confirm it: a secret that another person requested is
    never shown to this one. An earlier offer is discarded.
    """
    now = clock.now(session)
    sealed = _box(session).encrypt(pyotp.random_base32().encode())
    row = _find(session, user_id, lock=True)
    if row is None:
        row = Authenticator(
            user_id=user_id, sealed_offer=sealed, offer_digest=token_digest(token), offered_at=now
        )
        session.add(row)
    else:
        row.sealed_offer, row.offer_digest, row.offered_at = sealed, token_digest(token), now
    session.flush()


def find_offer(
    session: Session, user_id: int, *, token: str, email: str, issuer: str
) -> AuthenticatorOffer | None:
    """Return the secret that the token's holder was offered within the hour, or None."""
    row = _find(session, user_id)
    if row is None or not _is_open(row, token, clock.now(session)):
        return None
    secret = _open(session, row.sealed_offer)
    if secret is None:
        return None
    uri = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=issuer)
    return AuthenticatorOffer(secret, uri)


def confirm_authenticator(session: Session, user_id: int, code: str, *, token: str) -> bool:
    """Accept the offered secret, if this is a code of it; return False for the same code again.

    Raises NotFound where the token has no offer, or the offer is more than an hour old.
    """
    row = _find(session, user_id, lock=True)
    now = clock.now(session)
    if row is None or not _is_open(row, token, now):
        raise NotFound("authenticator_offer")
    secret = _open(session, row.sealed_offer)
    step = _step_of(secret, code, now, after=None)
    if step is None:
        return False
    row.sealed_secret, row.confirmed_at, row.last_step = row.sealed_offer, now, step
    row.sealed_offer = row.offer_digest = row.offered_at = None
    session.flush()
    return True


def withdraw_offer(session: Session, user_id: int) -> None:
    """Forget the secret that the person was offered; an app that they have stays."""
    row = _find(session, user_id, lock=True)
    if row is not None:
        row.sealed_offer = row.offer_digest = row.offered_at = None
        session.flush()


def purge_offers(session: Session) -> int:
    """Forget secrets that were offered more than an hour ago; return how many."""
    ended = session.execute(
        update(Authenticator)
        .where(Authenticator.offered_at <= clock.now(session) - _OFFER_LIFETIME)
        .values(sealed_offer=None, offer_digest=None, offered_at=None)
        .returning(Authenticator.user_id)
    ).all()
    return len(ended)


def use_code(session: Session, user_id: int, code: str) -> bool:
    """Return whether this is a code of the person's app; each works once."""
    row = _find(session, user_id, lock=True)
    if row is None or row.sealed_secret is None:
        return False
    secret = _open(session, row.sealed_secret)
    step = _step_of(secret, code, clock.now(session), after=row.last_step)
    if step is None:
        return False
    row.last_step = step
    session.flush()
    return True


def remove_authenticator(session: Session, user_id: int) -> bool:
    """Remove the person's app and any offered secret; return whether there was an app."""
    row = _find(session, user_id, lock=True)
    if row is None:
        return False
    had_app = row.sealed_secret is not None
    session.delete(row)
    session.flush()
    return had_app


def _find(session: Session, user_id: int, *, lock: bool = False) -> Authenticator | None:
    return session.get(Authenticator, user_id, with_for_update=lock or None, populate_existing=True)


def _is_open(row: Authenticator, token: str, now: datetime) -> bool:
    return (
        row.offered_at is not None
        and row.offered_at > now - _OFFER_LIFETIME
        and hmac.compare_digest(row.offer_digest or b"", token_digest(token))
    )


def _step_of(secret: str | None, code: str, now: datetime, *, after: int | None) -> int | None:
    """Return the number of the 30 seconds that the code is of, if it is a code of about now."""
    tidy = "".join(code.split())
    if secret is None or len(tidy) != _DIGITS or not (tidy.isascii() and tidy.isdigit()):
        return None
    app = pyotp.TOTP(secret, interval=STEP_SECONDS, digits=_DIGITS)
    this_step = int(now.timestamp()) // STEP_SECONDS
    for step in range(this_step - _ALLOWED_DRIFT_STEPS, this_step + _ALLOWED_DRIFT_STEPS + 1):
        if hmac.compare_digest(app.generate_otp(step), tidy) and (after is None or step > after):
            return step
    return None


def _open(session: Session, sealed: bytes | None) -> str | None:
    """Return the secret, or None where its key is lost (a previous SECRET_KEY that is unknown)."""
    if sealed is None:
        return None
    try:
        return _box(session).decrypt(sealed).decode()
    except InvalidToken:
        return None


def _box(session: Session) -> Fernet:
    key: DigestKey | None = session.info.get(DIGEST_KEY)
    if key is None:
        raise RuntimeError("the secrets of authenticators are sealed, and this session has no key")
    return Fernet(base64.urlsafe_b64encode(derive(key.value, _PURPOSE)))
