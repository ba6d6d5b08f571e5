"""Proving a second factor once more while signed in, before it is changed.

Whoever has a copy of a session and the password could otherwise replace the factor by their own.
Signing in with a factor does not count: a page that passes a sign-in on gets exactly that.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from db.models import User, UserSession
from domain import clock
from domain.audit import record
from domain.errors import NotAuthorised
from domain.identity import passkeys
from domain.identity.factor_answers import FactorCheck, is_proven, judge_answer
from domain.identity.guesses import may_still_change
from domain.identity.passkeys import Ceremony
from domain.identity.users import actor_for, load_person, require_person_id

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.identity.factor_answers import FactorAnswer
    from domain.identity.passkeys import CeremonyOptions, RelyingParty
    from domain.identity.policy import AuthPolicy, Client
    from domain.identity.sessions import Visit
    from domain.identity.users import Person

CONFIRMED_FOR = timedelta(minutes=10)
"""How long factors can be changed after one was proven; each change takes the password too."""

_PURPOSE = "confirm"


def confirm_factor(
    sessions: sessionmaker[Session],
    *,
    visit: Visit,
    answer: FactorAnswer,
    client: Client,
    policy: AuthPolicy,
) -> bool:
    """Let a session change its person's factors for ten minutes.

    Returns False where the answer is wrong, and where the session has ended. Raises RateLimited.
    """
    check = FactorCheck(_PURPOSE, visit.session_id, client, policy)

    def find(session: Session) -> Person:
        person = load_person(session, User.id == visit.user_id)
        if person is None:
            raise NotAuthorised
        return person

    def lock(session: Session) -> Person:
        person = find(session)
        if not may_still_change(session, person, visit, client):
            raise NotAuthorised
        return person

    def confirm(session: Session, person: Person) -> bool:
        note_confirmation(session, visit.session_id)
        record(session, action="confirm_second_factor", actor=actor_for(person, client))
        return True

    try:
        is_confirmed = judge_answer(
            sessions,
            check,
            find=find,
            lock=lock,
            proves=lambda session, person: is_proven(session, person, answer, check),
            then=confirm,
        )
    except NotAuthorised:
        return False
    return is_confirmed is True


def confirmation_passkey_options(
    session: Session, *, actor: Actor, party: RelyingParty, policy: AuthPolicy
) -> CeremonyOptions:
    """Return what the browser needs to ask for one of the actor's passkeys.

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


def note_confirmation(session: Session, session_id: str | None) -> None:
    """Note that the person has just proven a factor in this session."""
    if session_id is not None:
        session.execute(
            update(UserSession)
            .where(UserSession.token_digest == bytes.fromhex(session_id))
            .values(factor_confirmed_at=clock.now(session))
        )


def is_factor_confirmed(session: Session, session_id: str | None) -> bool:
    """Whether a factor was proven in this session within the last ten minutes."""
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
