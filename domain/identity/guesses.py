"""Password checks: wrong guesses are counted before they are checked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, select

from db.models import User, UserSession
from domain import clock, fraud_signals
from domain.audit import record
from domain.errors import NotAuthorised, RateLimited
from domain.identity.outcomes import SignInOutcome
from domain.identity.users import (
    Person,
    known_form,
    load_person,
    lock_person,
    mail_person,
    outside_actor,
)
from domain.rights import with_current_rights
from domain.security import passwords, rate_limits
from domain.security.rate_limits import Counter, Limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.identity.policy import AuthPolicy, Client
    from domain.identity.sessions import SignedInUser

_WIDER_NETWORKS_MORE = 2
"""A network that holds many others has so many times their free guesses."""
_WARNED_EVERY = Limit(1, timedelta(hours=24), timedelta(hours=24), timedelta(hours=24))
_WARNED_IN_ALL = replace(_WARNED_EVERY, free=5)
_NETWORK_KNOWN_FOR = timedelta(days=90)


class Guess:
    """A guess at a person's password or factor: counted before it is checked.

    Counted are those at the person from the client's network, those at any person from there, and
    those at the person from networks in which they never signed in: an attacker who guesses from
    many networks is slowed down, and does not lock the person out at home.
    """

    def __init__(self, purpose: str, name: str, *, client: Client, policy: AuthPolicy) -> None:
        self._client = client
        self._policy = policy
        self._network = fraud_signals.network_of(client.address)
        self._mine = rate_limits.counter(
            policy.key, policy.guesses_per_person, purpose, name, self._network
        )
        self._others = network_counters(policy, policy.guesses_per_address, purpose, client)
        self._everywhere = [
            rate_limits.counter(policy.key, policy.guesses_of_person, f"{purpose} everywhere", name)
        ]
        self.person: Person | None = None

    def count(
        self, session: Session, *, find: Callable[[Session], Person | None], warning: str
    ) -> RateLimited | None:
        """Count the guess, and keep the person whom it is about.

        Raises RateLimited, before any person is looked up, where there are too many from here.
        Where there are too many from everywhere the refusal is returned, to be raised after the
        commit: the person is notified by the mail `warning`, once a day.
        """
        rate_limits.record_attempt(session, [self._mine, *self._others])
        self.person = find(session)
        if self.person is not None and _is_known_in(session, self._network, self.person):
            self._everywhere = []
        try:
            with session.begin_nested():
                rate_limits.record_attempt(session, self._everywhere)
        except RateLimited as refusal:
            rate_limits.refund_attempt(session, [self._mine, *self._others])
            self._warn(session, warning)
            return refusal
        return None

    def forgive(self, session: Session) -> None:
        """Uncount a right guess, and with it the person's wrong ones from this network."""
        # As they are counted: those of the network first, and then the person's of everywhere.
        rate_limits.refund_attempt(session, self._others, reset=[self._mine])
        rate_limits.refund_attempt(session, self._everywhere)

    def _warn(self, session: Session, warning: str) -> None:
        if self.person is not None and not self.person.is_disabled:
            _mail_seldom(session, self.person, warning, self._client, self._policy)


def prove_password(
    sessions: sessionmaker[Session], email: str, password: str, client: Client, policy: AuthPolicy
) -> Person | None:
    """Return the person if this is their password. Raises RateLimited."""
    address = known_form(email)

    def find(session: Session) -> Person | None:
        return load_person(session, User.email == address) if address else None

    guess = Guess("guess", address or email, client=client, policy=policy)
    with sessions.begin() as session:
        refused = guess.count(session, find=find, warning="password_guessed")
    if refused is not None:
        raise refused
    person = guess.person
    if not passwords.verify_password(password, person.password_hash if person else None):
        with sessions.begin() as session:
            record_refusal(session, person, client, SignInOutcome.WRONG)
        return None
    with sessions.begin() as session:
        guess.forgive(session)
    return person


def warn_of_new_network(
    session: Session, person: Person, client: Client, policy: AuthPolicy
) -> None:
    """Mail the person that their password was entered from a network not used lately.

    For a person with a second factor: a sign-in that stops there has the password and not the
    factor. Once a day of each network, so that the person's own travels do not hide an attacker.
    """
    network = fraud_signals.network_of(client.address)
    if not _is_known_in(session, network, person):
        _mail_seldom(session, person, "password_entered", client, policy, network)


def _mail_seldom(
    session: Session, person: Person, warning: str, client: Client, policy: AuthPolicy, *what: str
) -> None:
    """Mail a warning once a day for each `what`, and a few times a day in total."""
    name = str(person.id)
    counters = [
        rate_limits.counter(policy.key, _WARNED_EVERY, "warned", warning, name, *what),
        rate_limits.counter(policy.key, _WARNED_IN_ALL, "warned in all", warning, name),
    ]
    if rate_limits.try_attempt(session, counters):
        mail_person(session, person, warning, {}, client)


def _is_known_in(session: Session, network: str, person: Person) -> bool:
    """Return whether the person has signed in from this network lately."""
    since = clock.now(session) - _NETWORK_KNOWN_FOR
    addresses = session.scalars(
        select(UserSession.address)
        .where(UserSession.user_id == person.id, UserSession.created_at > since)
        .distinct()
    )
    return any(fraud_signals.network_of(each) == network for each in addresses)


def is_unchanged(session: Session, person: Person) -> bool:
    """Lock the person, and return whether nothing has changed since the password was checked."""
    return lock_person(
        session,
        and_(
            User.id == person.id,
            User.password_hash == person.password_hash,
            User.staff_role.is_not_distinct_from(person.staff_role),
            User.disabled_at.is_(None),
        ),
    )


def may_still_change(session: Session, person: Person, user: SignedInUser, client: Client) -> bool:
    """Lock a signed-in person, and return whether they and their session are unchanged.

    Another browser may have signed them out while the password was checked.
    """
    if not is_unchanged(session, person):
        return False
    try:
        with_current_rights(session, user.actor(client.address))
    except NotAuthorised:
        return False
    return True


def record_refusal(
    session: Session, person: Person | None, client: Client, outcome: SignInOutcome
) -> None:
    """Record in the audit log that a sign-in was refused."""
    details = {"reason": outcome.value, "user_id": person.id if person else None}
    record(session, action="refuse_sign_in", actor=outside_actor(client), details=details)


def network_counters(
    policy: AuthPolicy, limit: Limit, purpose: str, client: Client
) -> list[Counter]:
    """Return the counters of the client's network and of the wider ones around it."""
    return [
        rate_limits.counter(
            policy.key,
            replace(limit, free=limit.free * _WIDER_NETWORKS_MORE**wider),
            purpose,
            network,
            is_of_network=True,
        )
        for wider, network in enumerate(fraud_signals.networks_of(client.address))
    ]
