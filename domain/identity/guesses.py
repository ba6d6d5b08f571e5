"""Passwords are checked here, and wrong guesses are counted before they are judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import User, UserSession
from domain import clock, passwords, signals, throttling
from domain.audit import record
from domain.errors import RateLimited
from domain.identity.sessions import SignInOutcome
from domain.identity.users import Person, known_form, load_person, mail_person, outside_actor
from domain.throttling import Counter, Limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from domain.identity.policy import Client, Rules

_WIDER_NETWORKS_MORE = 2
"""A network that holds many others has so many times their free guesses."""
_WARNED_EVERY = Limit(1, timedelta(hours=24), timedelta(hours=24), timedelta(hours=24))
_NETWORK_KNOWN_FOR = timedelta(days=90)


def prove_password(
    sessions: sessionmaker[Session], email: str, password: str, client: Client, rules: Rules
) -> Person | None:
    """Return the person if this is their password. Raises RateLimited."""
    address = known_form(email)
    mine, others = _guess_counters(rules, address or email, client)
    with sessions.begin() as session:
        throttling.count_try(session, [mine, *others])
        person = load_person(session, User.email == address) if address else None
        everywhere = _guesses_everywhere(session, person, address or email, client, rules)
        refused = _refused_everywhere(session, everywhere, person, client, rules)
        if refused is not None:
            throttling.give_back(session, [mine, *others])
    if refused is not None:
        raise refused
    if not passwords.verify_password(password, person.password_hash if person else None):
        with sessions.begin() as session:
            record_refusal(session, person, client, SignInOutcome.WRONG)
        return None
    with sessions.begin() as session:
        throttling.forget(session, [mine])
        throttling.give_back(session, [*others, *everywhere])
    return person


def _guesses_everywhere(
    session: Session, person: Person | None, email: str, client: Client, rules: Rules
) -> list[Counter]:
    """Return the counter of a person's guesses from everywhere, or none from where they are known.

    So whoever guesses from many networks is slowed down, and shuts nobody out at home.
    """
    if person is not None:
        since = clock.now(session) - _NETWORK_KNOWN_FOR
        addresses = session.scalars(
            select(UserSession.address)
            .where(UserSession.user_id == person.id, UserSession.created_at > since)
            .distinct()
        )
        network = signals.network_of(client.address)
        if any(signals.network_of(each) == network for each in addresses):
            return []
    return [throttling.counter(rules.key, rules.guesses_of_person, "guess everywhere", email)]


def _refused_everywhere(
    session: Session,
    everywhere: Sequence[Counter],
    person: Person | None,
    client: Client,
    rules: Rules,
) -> RateLimited | None:
    """Count the try; return the refusal, of which the person is told by mail, once a day."""
    try:
        with session.begin_nested():
            throttling.count_try(session, everywhere)
    except RateLimited as refusal:
        if person is not None and not person.is_disabled:
            warned = throttling.counter(rules.key, _WARNED_EVERY, "warned", str(person.id))
            if throttling.counts_try(session, [warned]):
                mail_person(session, person, "password_guessed", {}, client)
        return refusal
    return None


def is_unchanged(session: Session, person: Person) -> bool:
    """Lock the person, and say whether nothing has changed since the password was checked."""
    still = session.execute(
        select(User.id)
        .where(
            User.id == person.id,
            User.password_hash == person.password_hash,
            User.disabled_at.is_(None),
        )
        .with_for_update(key_share=True)
    ).scalar_one_or_none()
    return still is not None


def record_refusal(
    session: Session, person: Person | None, client: Client, outcome: SignInOutcome
) -> None:
    """Write down that somebody was not let in."""
    details = {"reason": outcome.value, "user_id": person.id if person else None}
    record(session, action="refuse_sign_in", actor=outside_actor(client), details=details)


def _guess_counters(rules: Rules, email: str, client: Client) -> tuple[Counter, list[Counter]]:
    """Return the counter of one person's guesses from here, and those of everybody's."""
    network = signals.network_of(client.address)
    return (
        throttling.counter(rules.key, rules.guesses_per_person, "guess", email, network),
        network_counters(rules, rules.guesses_per_address, "guess", client),
    )


def network_counters(rules: Rules, limit: Limit, purpose: str, client: Client) -> list[Counter]:
    """Return the counters of the client's network and of the wider ones around it."""
    return [
        throttling.counter(
            rules.key,
            replace(limit, free=limit.free * _WIDER_NETWORKS_MORE**wider),
            purpose,
            network,
        )
        for wider, network in enumerate(signals.networks_of(client.address))
    ]
