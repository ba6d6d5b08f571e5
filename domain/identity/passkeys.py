"""Passkeys: key pairs on a person's devices (WebAuthn Level 3, https://www.w3.org/TR/webauthn-3/).

A device signs a challenge for one origin only, so a look-alike site gets nothing that works on the
portal. A challenge is not kept: it is derived from what the browser holds already (a session, a
pending sign-in or the form cookie) and from a state that contains its expiry, and each is accepted
once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import cbor2
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import base64url_to_bytes, parse_registration_credential_json
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from db.models import Passkey, UsedChallenge, User
from domain import clock
from domain.errors import Conflict, InvalidInput, NotFound
from domain.identity.plain_cbor import is_plain, is_plain_authenticator_data
from domain.identity.users import lock_person
from domain.validation import checked_name, whole_number

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.identity.policy import AuthPolicy

MAX_PASSKEYS = 20
MAX_ANSWER_LENGTH = 16_384
CHALLENGE_LIFETIME = timedelta(minutes=10)
_CLOCK_DIFFERENCE = timedelta(minutes=1)
"""How far the clocks of the portal and of the database may be apart."""

_MAX_CREDENTIAL_ID_BYTES = 1023
"""The longest that WebAuthn allows."""


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """The party that requests a passkey: its host, the origin of the page, and a name."""

    id: str
    origin: str
    name: str


@dataclass(frozen=True, slots=True)
class Ceremony:
    """One exchange with a device: its purpose, its relying party, its browser.

    `binding` is a secret of the browser's: a challenge that was made for one is of no use in
    another.
    """

    purpose: str
    party: RelyingParty
    binding: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CeremonyOptions:
    """The options for the browser, as JSON, and `state`, which is returned with the answer.

    The state says until when the challenge counts, and which one it is of those of its second.
    """

    json: str
    state: str


@dataclass(frozen=True, slots=True)
class PasskeyAnswer:
    """The browser's response: the device's answer, as JSON, and the state that it received.

    Both come from outside.
    """

    credential: str = field(repr=False)
    state: str


@dataclass(frozen=True, slots=True)
class PasskeySummary:
    """One of a person's passkeys; `key` identifies it, and grants no access."""

    key: str
    name: str
    created_at: datetime
    last_used_at: datetime | None


def list_passkeys(session: Session, user_id: int) -> tuple[PasskeySummary, ...]:
    """Return the person's passkeys, the oldest first."""
    rows = session.scalars(
        select(Passkey)
        .where(Passkey.user_id == user_id)
        .order_by(Passkey.created_at, Passkey.credential_id)
    )
    return tuple(
        PasskeySummary(_key_of(row.credential_id), row.name, row.created_at, row.last_used_at)
        for row in rows
    )


def count_passkeys(session: Session, user_id: int) -> int:
    """Return how many passkeys the person has."""
    count: int = session.execute(
        select(func.count()).where(Passkey.user_id == user_id)
    ).scalar_one()
    return count


# ── Registering ───────────────────────────────────────────────────────────────────────────────
def registration_options(
    session: Session, ceremony: Ceremony, *, user_id: int, email: str, policy: AuthPolicy
) -> CeremonyOptions:
    """Return the browser's options to create a passkey for the person."""
    state = _new_state(clock.now(session))
    options = generate_registration_options(
        rp_id=ceremony.party.id,
        rp_name=ceremony.party.name,
        user_id=_handle_of(user_id),
        user_name=email,
        challenge=_challenge(ceremony, state, policy),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=_descriptors(session, user_id),
    )
    return CeremonyOptions(options_to_json(options), state)


def register_passkey(
    session: Session,
    ceremony: Ceremony,
    *,
    user_id: int,
    name: str,
    answer: PasskeyAnswer,
    policy: AuthPolicy,
) -> None:
    """Store the passkey that a device has created.

    Raises InvalidInput on "passkey" where the answer is none to this ceremony, or on
    "passkey_name"; and Conflict("too_many_passkeys").
    """
    tidy_name = checked_name(name, "passkey_name")
    challenge = _expected_challenge(session, ceremony, answer, policy)
    if challenge is None:
        raise InvalidInput("passkey", "too_late")
    try:
        given = parse_registration_credential_json(_read(answer))
        _check_attestation(given.response.attestation_object)
        verified = verify_registration_response(
            credential=given,
            expected_challenge=challenge,
            expected_rp_id=ceremony.party.id,
            expected_origin=ceremony.party.origin,
            require_user_verification=True,
        )
    except Exception as error:  # whatever untrusted bytes do to parsers, they prove nothing
        raise InvalidInput("passkey", "not_accepted") from error
    if count_passkeys(session, user_id) >= MAX_PASSKEYS:
        raise Conflict("too_many_passkeys")
    if not _take(session, challenge, answer):
        raise InvalidInput("passkey", "too_late")
    added = session.execute(
        insert(Passkey)
        .values(
            credential_id=verified.credential_id,
            user_id=user_id,
            name=tidy_name,
            public_key=verified.credential_public_key,
            sign_count=verified.sign_count,
            transports=sorted(each.value for each in given.response.transports or ()),
            created_at=clock.now(session),
        )
        .on_conflict_do_nothing(index_elements=[Passkey.credential_id])
        .returning(Passkey.user_id)
    ).scalar_one_or_none()
    if added is None:
        raise InvalidInput("passkey", "not_accepted")


def remove_passkey(session: Session, user_id: int, *, key: str) -> str:
    """Forget one of the person's passkeys; return its name. Raises NotFound."""
    for row in session.scalars(select(Passkey).where(Passkey.user_id == user_id)):
        if hmac.compare_digest(_key_of(row.credential_id).encode(), key.encode()):
            name = row.name
            session.delete(row)
            session.flush()
            return name
    raise NotFound("passkey")


def remove_passkeys(session: Session, user_id: int) -> None:
    """Forget all passkeys of the person."""
    session.execute(delete(Passkey).where(Passkey.user_id == user_id))


# ── Signing in ────────────────────────────────────────────────────────────────────────────────
def own_authentication_options(
    session: Session, ceremony: Ceremony, *, user_id: int, policy: AuthPolicy
) -> CeremonyOptions:
    """Return the browser's options to request one of the person's passkeys."""
    descriptors = _descriptors(session, user_id)
    return authentication_options(
        ceremony, now=clock.now(session), policy=policy, allowed=descriptors
    )


def authentication_options(
    ceremony: Ceremony,
    *,
    now: datetime,
    policy: AuthPolicy,
    allowed: list[PublicKeyCredentialDescriptor] | None = None,
) -> CeremonyOptions:
    """Return the browser's options to request one of these passkeys, or any that it has."""
    state = _new_state(now)
    options = generate_authentication_options(
        rp_id=ceremony.party.id,
        challenge=_challenge(ceremony, state, policy),
        allow_credentials=allowed,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return CeremonyOptions(options_to_json(options), state)


def verify_passkey(
    session: Session, ceremony: Ceremony, *, answer: PasskeyAnswer, policy: AuthPolicy
) -> int | None:
    """Return whose passkey has answered the ceremony, or None; an answer counts once."""
    challenge = _expected_challenge(session, ceremony, answer, policy)
    given = _readable(answer)
    row = None if given is None else _find(session, given.credential_id)
    if challenge is None or given is None or row is None:
        return None
    if given.user_handle not in {None, _handle_of(row.user_id)}:
        return None
    try:
        verified = verify_authentication_response(
            credential=given.credential,
            expected_challenge=challenge,
            expected_rp_id=ceremony.party.id,
            expected_origin=ceremony.party.origin,
            credential_public_key=row.public_key,
            credential_current_sign_count=row.sign_count,
            require_user_verification=True,
        )
    except Exception:  # noqa: BLE001 - whatever outside bytes do to parsers, they prove nothing
        return None
    if not _take(session, challenge, answer):
        return None
    row.sign_count = verified.new_sign_count
    row.last_used_at = clock.now(session)
    session.flush()
    return row.user_id


@dataclass(frozen=True, slots=True)
class _Given:
    """A device's answer as far as it is read before anything is verified."""

    credential: dict[str, Any]
    credential_id: bytes
    user_handle: bytes | None


def _check_attestation(content: bytes) -> None:
    """Raise ValueError where a decoder could be kept busy by it."""
    if not is_plain(content):
        raise ValueError("no plain CBOR")
    if not is_plain_authenticator_data(cbor2.loads(content)["authData"]):
        raise ValueError("no plain authenticator data")


def _readable(answer: PasskeyAnswer) -> _Given | None:
    try:
        credential = _read(answer)
        if not is_plain_authenticator_data(
            base64url_to_bytes(credential["response"]["authenticatorData"])
        ):
            return None
        handle = credential["response"].get("userHandle")
        return _Given(
            credential,
            base64url_to_bytes(credential["id"]),
            base64url_to_bytes(handle) if handle else None,
        )
    except Exception:  # noqa: BLE001 - whatever outside bytes do to parsers, they prove nothing
        return None


def _find(session: Session, credential_id: bytes) -> Passkey | None:
    """Return the passkey, locked; changes of a person's passkeys lock the person first."""
    if not 0 < len(credential_id) <= _MAX_CREDENTIAL_ID_BYTES:
        return None
    owner = select(Passkey.user_id).where(Passkey.credential_id == credential_id)
    lock_person(session, User.id == owner.scalar_subquery())
    return session.get(Passkey, credential_id, with_for_update=True, populate_existing=True)


# ── Challenges ────────────────────────────────────────────────────────────────────────────────
def _new_state(now: datetime) -> str:
    """Return a state: until when in seconds since 1970, and something that no other has."""
    return f"{int((now + CHALLENGE_LIFETIME).timestamp())}.{secrets.token_urlsafe(8)}"


def _challenge(ceremony: Ceremony, state: str, policy: AuthPolicy) -> bytes:
    parts = ("passkey", ceremony.purpose, ceremony.party.id, ceremony.binding, state)
    return hmac.new(policy.key, "\0".join(parts).encode(), hashlib.sha256).digest()


def _expected_challenge(
    session: Session, ceremony: Ceremony, answer: PasskeyAnswer, policy: AuthPolicy
) -> bytes | None:
    """Return the challenge that must have been answered, or None where it has expired."""
    now = int(clock.now(session).timestamp())
    longest = (CHALLENGE_LIFETIME + _CLOCK_DIFFERENCE).total_seconds()
    if not now < _end_of(answer.state) <= now + longest:
        return None
    return _challenge(ceremony, answer.state, policy)


def _end_of(state: str) -> int:
    """Return when a state expires in seconds since 1970; 0 where it is invalid."""
    return whole_number(state.partition(".")[0])


def _take(session: Session, challenge: bytes, answer: PasskeyAnswer) -> bool:
    """Take the challenge, once and for all; False where it was taken before."""
    taken = session.execute(
        insert(UsedChallenge)
        .values(
            challenge_digest=hashlib.sha256(challenge).digest(),
            expires_at=datetime.fromtimestamp(_end_of(answer.state), UTC),
        )
        .on_conflict_do_nothing(index_elements=[UsedChallenge.challenge_digest])
        .returning(UsedChallenge.challenge_digest)
    ).scalar_one_or_none()
    return taken is not None


# ── Forms ─────────────────────────────────────────────────────────────────────────────────────
def _read(answer: PasskeyAnswer) -> dict[str, Any]:
    """Return the answer as JSON; raise the parser's error where it is invalid or too long."""
    if len(answer.credential) > MAX_ANSWER_LENGTH:
        raise ValueError("longer than any answer of a device")
    found: dict[str, Any] = json.loads(answer.credential)
    return found


def _descriptors(session: Session, user_id: int) -> list[PublicKeyCredentialDescriptor]:
    rows = session.scalars(select(Passkey).where(Passkey.user_id == user_id))
    return [
        PublicKeyCredentialDescriptor(
            id=row.credential_id,
            transports=[AuthenticatorTransport(each) for each in row.transports],
        )
        for row in rows
    ]


def _handle_of(user_id: int) -> bytes:
    """Return the user handle: the device's identifier of the person, without personal data."""
    return f"user:{user_id}".encode()


def _key_of(credential_id: bytes) -> str:
    return hashlib.sha256(credential_id).hexdigest()
