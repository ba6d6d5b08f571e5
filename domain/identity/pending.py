"""Pending sign-ins: the step between the password and the session, for the second factor.

After the right password a person holds the token of a pending sign-in for some minutes. It opens
only the page that asks for the second factor, or sets one up for staff who must have one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import PendingSignIn as PendingSignInRow
from db.models import User
from domain import clock
from domain.audit import record
from domain.errors import Conflict, NotFound
from domain.identity import authenticators, passkeys, recovery_codes
from domain.identity.factor_answers import FactorCheck, is_proven, judge_answer
from domain.identity.guesses import warn_of_new_network
from domain.identity.outcomes import Factor, SignIn, SignInOutcome
from domain.identity.passkeys import Ceremony
from domain.identity.sessions import end_pending_sign_ins, open_session
from domain.identity.tokens import new_token, token_digest
from domain.identity.users import actor_for, load_person, lock_person, mail_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.identity.authenticators import AuthenticatorOffer
    from domain.identity.factor_answers import FactorAnswer
    from domain.identity.passkeys import CeremonyOptions, RelyingParty
    from domain.identity.policy import AuthPolicy, Client
    from domain.identity.users import Person

_LIFETIME = timedelta(minutes=10)
_PURPOSE = "second factor"


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """A pending sign-in: the person, and the factors that they can use."""

    email: str
    has_authenticator: bool
    has_passkeys: bool
    has_recovery_codes: bool

    @property
    def must_set_up(self) -> bool:
        """Whether there is no second factor yet, and the person's role wants one."""
        return not (self.has_authenticator or self.has_passkeys)


def admit(session: Session, person: Person, client: Client, policy: AuthPolicy) -> SignIn:
    """Sign in a person whose password was right, or start a pending sign-in for a factor."""
    token = new_token()
    if has_second_factor(session, person.id):
        warn_of_new_network(session, person, client, policy)
        outcome = SignInOutcome.SECOND_FACTOR
    elif person.staff_role in policy.second_factor_roles:
        authenticators.offer_authenticator(session, person.id, token=token)
        outcome = SignInOutcome.SET_UP_FACTOR
    else:
        return open_session(session, person, client, policy)
    now = clock.now(session)
    session.add(
        PendingSignInRow(
            token_digest=token_digest(token),
            user_id=person.id,
            created_at=now,
            expires_at=now + _LIFETIME,
        )
    )
    session.flush()
    record(session, action="ask_second_factor", actor=actor_for(person, client))
    return SignIn(outcome, token, _LIFETIME)


def has_second_factor(session: Session, user_id: int) -> bool:
    """Return whether the person signs in with more than a password."""
    return authenticators.has_authenticator(session, user_id) or (
        passkeys.count_passkeys(session, user_id) > 0
    )


def find_pending(session: Session, *, token: str) -> PendingSignIn:
    """Return the pending sign-in. Raises NotFound where it has ended or expired."""
    person = _person_of(session, token)
    return PendingSignIn(
        email=person.email,
        has_authenticator=authenticators.has_authenticator(session, person.id),
        has_passkeys=passkeys.count_passkeys(session, person.id) > 0,
        has_recovery_codes=recovery_codes.count_recovery_codes(session, person.id) > 0,
    )


def pending_offer(session: Session, *, token: str, issuer: str) -> AuthenticatorOffer | None:
    """Return the secret for the app of a person who must set one up. Raises NotFound."""
    person = _person_of(session, token)
    if has_second_factor(session, person.id):
        return None
    return authenticators.find_offer(
        session, person.id, token=token, email=person.email, issuer=issuer
    )


def pending_passkey_options(
    session: Session, *, token: str, party: RelyingParty, policy: AuthPolicy
) -> CeremonyOptions:
    """Return the browser's options to request one of the person's passkeys. Raises NotFound."""
    person = _person_of(session, token)
    ceremony = Ceremony(_PURPOSE, party, token)
    return passkeys.own_authentication_options(session, ceremony, user_id=person.id, policy=policy)


# ── Finishing ─────────────────────────────────────────────────────────────────────────────────
def finish_sign_in(
    sessions: sessionmaker[Session],
    *,
    token: str,
    answer: FactorAnswer,
    client: Client,
    policy: AuthPolicy,
) -> SignIn:
    """Sign in with a second factor of the person's.

    The outcome is SIGNED_IN or WRONG. Raises NotFound where the pending sign-in is over, and
    RateLimited.
    """
    check = _check(token, client, policy)
    return _finish(
        sessions,
        check,
        answer.factor,
        proves=lambda session, person: is_proven(session, person, answer, check),
    )


def finish_set_up(
    sessions: sessionmaker[Session], *, token: str, code: str, client: Client, policy: AuthPolicy
) -> tuple[SignIn, tuple[str, ...]]:
    """Sign in with the first code of an app set up during sign-in; return recovery codes too.

    Raises NotFound where the pending sign-in or the offered secret has expired, Conflict
    ("second_factor_exists") where the person has a second factor by now, and RateLimited.
    """
    codes: tuple[str, ...] = ()

    def proves(session: Session, person: Person) -> bool:
        nonlocal codes
        if has_second_factor(session, person.id):
            raise Conflict("second_factor_exists")
        if not authenticators.confirm_authenticator(session, person.id, code, token=token):
            return False
        codes = recovery_codes.make_recovery_codes(session, person.id)
        actor = actor_for(person, client)
        record(session, action="add_authenticator", actor=actor)
        mail_person(session, person, "second_factor_changed", {"change": "app_added"}, client)
        return True

    check = _check(token, client, policy)
    return _finish(sessions, check, Factor.AUTHENTICATOR, proves=proves), codes


def _finish(
    sessions: sessionmaker[Session],
    check: FactorCheck,
    factor: Factor,
    *,
    proves: Callable[[Session, Person], bool],
) -> SignIn:
    def let_in(session: Session, person: Person) -> SignIn:
        end_pending_sign_ins(session, person.id)
        return open_session(session, person, check.client, check.policy, factor)

    signed_in = judge_answer(
        sessions,
        check,
        find=lambda session: _person_of(session, check.binding),
        lock=lambda session: _person_of(session, check.binding, lock=True),
        proves=proves,
        then=let_in,
    )
    return signed_in or SignIn(SignInOutcome.WRONG)


def _person_of(session: Session, token: str, *, lock: bool = False) -> Person:
    """Return who is signing in, or raise NotFound; locked, two who finish wait for each other."""
    pending = select(PendingSignInRow.user_id).where(
        PendingSignInRow.token_digest == token_digest(token),
        PendingSignInRow.expires_at > clock.now(session),
    )
    if lock:
        lock_person(session, User.id == pending.scalar_subquery())
    person = load_person(session, User.id == pending.scalar_subquery())
    if person is None or person.is_disabled:
        raise NotFound("pending_sign_in")
    return person


def _check(token: str, client: Client, policy: AuthPolicy) -> FactorCheck:
    return FactorCheck(_PURPOSE, token, client, policy)
