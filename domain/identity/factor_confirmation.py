"""Proving a second factor once more while signed in, before it is changed.

An attacker with a copy of a session and the password could otherwise replace the factor by their
own. Signing in with a factor does not count: a page that passes a sign-in on gets exactly that. The
session gets another token with it, so that a copy of it profits from no proof.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from db.models import User, UserSession
from domain import clock
from domain.audit import record
from domain.errors import Conflict, NotAuthorised
from domain.identity import passkeys
from domain.identity.factor_answers import FactorCheck, is_proven, judge_answer
from domain.identity.guesses import may_still_change
from domain.identity.outcomes import SignIn, SignInOutcome
from domain.identity.passkeys import Ceremony
from domain.identity.pending import has_second_factor
from domain.identity.sessions import renew_session
from domain.identity.users import actor_for, load_person, require_person_id

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.identity.factor_answers import FactorAnswer
    from domain.identity.passkeys import CeremonyOptions, RelyingParty
    from domain.identity.policy import AuthPolicy, Client
    from domain.identity.sessions import SignedInUser
    from domain.identity.users import Person

CONFIRMED_FOR = timedelta(minutes=10)
"""How long factors can be changed after one was proven; each change takes the password too."""

_PURPOSE = "confirm"


def confirm_factor(
    sessions: sessionmaker[Session],
    *,
    user: SignedInUser,
    answer: FactorAnswer,
    client: Client,
    policy: AuthPolicy,
) -> SignIn:
    """Let a session change its person's factors for ten minutes, under another token.

    The outcome is SIGNED_IN, or WRONG where the answer is wrong or the session has ended. Raises
    RateLimited.
    """
    check = FactorCheck(_PURPOSE, user.session_id, client, policy)

    def find(session: Session) -> Person:
        person = load_person(session, User.id == user.user_id)
        if person is None:
            raise NotAuthorised
        return person

    def lock(session: Session) -> Person:
        person = find(session)
        if not may_still_change(session, person, user, client):
            raise NotAuthorised
        return person

    def confirm(session: Session, person: Person) -> SignIn:
        _note_confirmation(session, user.session_id)
        record(session, action="confirm_second_factor", actor=actor_for(person, client))
        return renew_session(session, user.session_id)

    try:
        renewed = judge_answer(
            sessions,
            check,
            find=find,
            lock=lock,
            proves=lambda session, person: is_proven(session, person, answer, check),
            then=confirm,
        )
    except NotAuthorised:
        renewed = None
    return renewed or SignIn(SignInOutcome.WRONG)


def confirmation_passkey_options(
    session: Session, *, actor: Actor, party: RelyingParty, policy: AuthPolicy
) -> CeremonyOptions:
    """Return the browser's options to request one of the actor's passkeys.

    Raises NotAuthorised without a session.
    """
    if actor.session_id is None:
        raise NotAuthorised
    return passkeys.own_authentication_options(
        session,
        Ceremony(_PURPOSE, party, actor.session_id),
        user_id=require_person_id(actor),
        policy=policy,
    )


def may_change_factors(session: Session, user_id: int, session_id: str | None) -> bool:
    """Return whether there is no factor, or one was proven in this session within ten minutes."""
    return not has_second_factor(session, user_id) or _is_confirmed(session, session_id)


def require_proof(session: Session, user: SignedInUser) -> None:
    """Raise Conflict("factor_not_confirmed") unless the session may change what protects it."""
    if not may_change_factors(session, user.user_id, user.session_id):
        raise Conflict("factor_not_confirmed")


def _note_confirmation(session: Session, session_id: str) -> None:
    session.execute(
        update(UserSession)
        .where(UserSession.token_digest == bytes.fromhex(session_id))
        .values(factor_confirmed_at=clock.now(session))
    )


def _is_confirmed(session: Session, session_id: str | None) -> bool:
    if session_id is None:
        return False
    since = clock.now(session) - CONFIRMED_FOR
    found = session.execute(
        select(UserSession.token_digest).where(
            UserSession.token_digest == bytes.fromhex(session_id),
            UserSession.factor_confirmed_at > since,
        )
    )
    return found.one_or_none() is not None
