"""A signed-in person's own second factors: set up, listed, replaced and removed.

Every change requires the password again and, where there is a factor, for a proof of one within the
last minutes (factor_confirmation.py): neither an open browser nor a stolen session with the
password is enough. The person is notified by mail. Where a role must have a second factor, the last
one can be replaced but not removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.models import User
from domain import outbox
from domain.audit import record
from domain.errors import Conflict, NotAuthorised, NotFound
from domain.identity import authenticators, passkeys, recovery_codes
from domain.identity.factor_confirmation import may_change_factors, require_proof
from domain.identity.guesses import may_still_change, prove_password
from domain.identity.passkeys import Ceremony
from domain.identity.pending import has_second_factor
from domain.identity.sessions import revoke_user_sessions
from domain.identity.tokens import new_token
from domain.identity.users import (
    actor_for,
    load_person,
    lock_person,
    mail_person,
    require_person_id,
)
from domain.permissions import require, require_another
from domain.validation import checked_reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.identity.authenticators import AuthenticatorOffer
    from domain.identity.passkeys import (
        CeremonyOptions,
        PasskeyAnswer,
        PasskeySummary,
        RelyingParty,
    )
    from domain.identity.policy import AuthPolicy, Client
    from domain.identity.sessions import SignedInUser
    from domain.identity.users import Person

_TEMPLATE = "second_factor_changed"


@dataclass(frozen=True, slots=True)
class SecondFactors:
    """A person's factors beside the password; `is_required` by their role.

    `may_change`: there is none yet, or one was proven in this session within the last minutes.
    `recovery_code_set` names the present recovery codes (`replace_recovery_codes`).
    """

    has_authenticator: bool
    passkeys: tuple[PasskeySummary, ...]
    recovery_codes_left: int
    recovery_code_set: str
    is_required: bool
    may_change: bool

    @property
    def is_on(self) -> bool:
        """Whether sign-in requires more than the password."""
        return self.has_authenticator or bool(self.passkeys)


@dataclass(frozen=True, slots=True)
class Reauthentication:
    """A signed-in person who enters their password again, for a change of their factors."""

    user: SignedInUser
    password: str
    client: Client
    policy: AuthPolicy


def list_second_factors(session: Session, *, actor: Actor, policy: AuthPolicy) -> SecondFactors:
    """Return the actor's second factors. Raises NotAuthorised where they are not a person."""
    user_id = require_person_id(actor)
    return SecondFactors(
        has_authenticator=authenticators.has_authenticator(session, user_id),
        passkeys=passkeys.list_passkeys(session, user_id),
        recovery_codes_left=recovery_codes.count_recovery_codes(session, user_id),
        recovery_code_set=recovery_codes.recovery_code_set(session, user_id),
        is_required=actor.staff_role in policy.second_factor_roles,
        may_change=may_change_factors(session, user_id, actor.session_id),
    )


# ── The authenticator app ─────────────────────────────────────────────────────────────────────
def begin_authenticator(sessions: sessionmaker[Session], again: Reauthentication) -> str | None:
    """Offer the person a secret for an app; one that they have counts until this is confirmed.

    Returns the token by which the secret is looked at and confirmed, and None where the password
    is wrong. Raises RateLimited and, as all changes do, Conflict("factor_not_confirmed") where the
    person has a factor that was not proven lately.
    """
    token = new_token()

    def change(session: Session, person: Person) -> None:
        authenticators.offer_authenticator(session, person.id, token=token)

    return token if _change(sessions, again, change) else None


def own_authenticator_offer(
    session: Session, *, actor: Actor, token: str, email: str, issuer: str
) -> AuthenticatorOffer | None:
    """Return the secret that was offered with this token within the hour, or None."""
    user_id = require_person_id(actor)
    return authenticators.find_offer(session, user_id, token=token, email=email, issuer=issuer)


def confirm_own_authenticator(
    session: Session, *, code: str, token: str, actor: Actor, client: Client
) -> tuple[str, ...] | None:
    """Confirm the secret that was offered with this token; return None for a wrong code.

    Returns new recovery codes where the person had no second factor before, and else an empty
    tuple: theirs stay. They are signed out everywhere but here. Raises NotFound where no offer is
    left.
    """
    user_id = require_person_id(actor)
    # A concurrent sign-in waits, and is then required to give the factor.
    lock_person(session, User.id == user_id)
    person = load_person(session, User.id == user_id)
    if person is None:
        raise NotFound("user")
    is_first = not has_second_factor(session, user_id)
    if not authenticators.confirm_authenticator(session, user_id, code, token=token):
        return None
    codes = recovery_codes.make_recovery_codes(session, user_id) if is_first else ()
    revoke_user_sessions(session, user_id, except_session_id=actor.session_id)
    _tell(session, person, "app_added", client)
    record(session, action="add_authenticator", actor=actor)
    return codes


def remove_own_authenticator(sessions: sessionmaker[Session], again: Reauthentication) -> bool:
    """Forget the person's app. Raises Conflict("second_factor_required"), RateLimited."""

    def change(session: Session, person: Person) -> None:
        if not authenticators.remove_authenticator(session, person.id):
            return
        _after_removal(session, person, again)
        _tell(session, person, "app_removed", again.client)
        record(session, action="remove_authenticator", actor=actor_for(person, again.client))

    return _change(sessions, again, change)


# ── Passkeys ──────────────────────────────────────────────────────────────────────────────────
def own_passkey_options(
    session: Session, *, actor: Actor, email: str, party: RelyingParty, policy: AuthPolicy
) -> CeremonyOptions:
    """Return the browser's options to create a passkey for the actor. Raises NotAuthorised."""
    if actor.session_id is None:
        raise NotAuthorised
    return passkeys.registration_options(
        session,
        _ceremony(party, actor.session_id),
        user_id=require_person_id(actor),
        email=email,
        policy=policy,
    )


def add_own_passkey(
    sessions: sessionmaker[Session],
    again: Reauthentication,
    *,
    name: str,
    answer: PasskeyAnswer,
    party: RelyingParty,
) -> tuple[str, ...] | None:
    """Store a passkey that the person's device has created; None where the password is wrong.

    Returns recovery codes as `confirm_own_authenticator` does. Raises InvalidInput on "passkey" or
    "passkey_name", Conflict("too_many_passkeys"), RateLimited.
    """
    codes: tuple[str, ...] = ()

    def change(session: Session, person: Person) -> None:
        nonlocal codes
        is_first = not has_second_factor(session, person.id)
        passkeys.register_passkey(
            session,
            _ceremony(party, again.user.session_id),
            user_id=person.id,
            name=name,
            answer=answer,
            policy=again.policy,
        )
        codes = recovery_codes.make_recovery_codes(session, person.id) if is_first else ()
        revoke_user_sessions(session, person.id, except_session_id=again.user.session_id)
        _tell(session, person, "passkey_added", again.client)
        record(session, action="add_passkey", actor=actor_for(person, again.client))

    return codes if _change(sessions, again, change) else None


def remove_own_passkey(
    sessions: sessionmaker[Session], again: Reauthentication, *, key: str
) -> bool:
    """Forget one of the person's passkeys.

    Raises NotFound, Conflict("second_factor_required"), RateLimited.
    """

    def change(session: Session, person: Person) -> None:
        passkeys.remove_passkey(session, person.id, key=key)
        _after_removal(session, person, again)
        _tell(session, person, "passkey_removed", again.client)
        record(session, action="remove_passkey", actor=actor_for(person, again.client))

    return _change(sessions, again, change)


# ── Recovery codes ────────────────────────────────────────────────────────────────────────────
def replace_recovery_codes(
    sessions: sessionmaker[Session], again: Reauthentication, *, replaces: str | None = None
) -> tuple[str, ...] | None:
    """Return new recovery codes, which end the older ones; None where the password is wrong.

    `replaces` names the codes that the person saw (`SecondFactors.recovery_code_set`): the same
    request again does not end the codes that it has created. Raises Conflict: "no_second_factor",
    or "codes_replaced" where they have other codes by now; and RateLimited.
    """
    codes: tuple[str, ...] = ()

    def change(session: Session, person: Person) -> None:
        nonlocal codes
        if not has_second_factor(session, person.id):
            raise Conflict("no_second_factor")
        if replaces not in {None, recovery_codes.recovery_code_set(session, person.id)}:
            raise Conflict("codes_replaced")
        codes = recovery_codes.make_recovery_codes(session, person.id)
        _tell(session, person, "codes_replaced", again.client)
        record(session, action="replace_recovery_codes", actor=actor_for(person, again.client))

    return codes if _change(sessions, again, change) else None


# ── By an administrator ───────────────────────────────────────────────────────────────────────
def reset_second_factors(session: Session, *, user_id: int, reason: str, actor: Actor) -> None:
    """Remove all second factors of a person who has lost theirs, and sign them out everywhere.

    They are notified by mail. Where their role must have a second factor, they set one up at the
    next sign-in. Raises NotAuthorised, also about oneself; NotFound("user") and
    InvalidInput("reason").
    """
    require(actor, "manage_people")
    tidy_reason = checked_reason(reason)
    person = load_person(session, User.id == user_id)
    if person is None:
        raise NotFound("user")
    require_another(actor, f"user:{person.id}")
    lock_person(session, User.id == person.id)
    _remove_all(session, person.id)
    revoke_user_sessions(session, person.id)
    outbox.enqueue(
        session,
        recipient=person.email,
        template=_TEMPLATE,
        parameters={"change": "reset"},
        locale=person.locale or "en",
    )
    details = {"user_id": person.id, "reason": tidy_reason}
    record(session, action="reset_second_factors", actor=actor, details=details)


# ── Shared ────────────────────────────────────────────────────────────────────────────────────
def _change(
    sessions: sessionmaker[Session],
    again: Reauthentication,
    change: Callable[[Session, Person], None],
) -> bool:
    with sessions() as session:  # before the password: a required factor is proven first
        require_proof(session, again.user)
    person = prove_password(sessions, again.user.email, again.password, again.client, again.policy)
    if person is None or person.id != again.user.user_id:
        return False
    with sessions.begin() as session:
        if not may_still_change(session, person, again.user, again.client):
            return False
        require_proof(session, again.user)
        change(session, person)
    return True


def _after_removal(session: Session, person: Person, again: Reauthentication) -> None:
    """Refuse to leave staff without a required factor; end recovery codes that replace none."""
    if not has_second_factor(session, person.id):
        if person.staff_role in again.policy.second_factor_roles:
            raise Conflict("second_factor_required")
        recovery_codes.remove_recovery_codes(session, person.id)
    revoke_user_sessions(session, person.id, except_session_id=again.user.session_id)


def _remove_all(session: Session, user_id: int) -> None:
    authenticators.remove_authenticator(session, user_id)
    passkeys.remove_passkeys(session, user_id)
    recovery_codes.remove_recovery_codes(session, user_id)


def _tell(session: Session, person: Person, change: str, client: Client) -> None:
    parameters = {"change": change, "is_on": has_second_factor(session, person.id)}
    mail_person(session, person, _TEMPLATE, parameters, client)


def _ceremony(party: RelyingParty, session_id: str) -> Ceremony:
    return Ceremony("register", party, session_id)
