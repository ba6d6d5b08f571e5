"""Answers of second factors: counted as guesses before they are checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from domain.identity import authenticators, passkeys, recovery_codes
from domain.identity.guesses import Guess, record_refusal
from domain.identity.outcomes import Factor, SignInOutcome
from domain.identity.passkeys import Ceremony
from domain.identity.users import mail_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.identity.passkeys import PasskeyAnswer, RelyingParty
    from domain.identity.policy import AuthPolicy, Client
    from domain.identity.users import Person

_GUESSES = "second factor"
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class FactorAnswer:
    """An answer: a code of an app or a recovery code, or a passkey's answer to `party`."""

    factor: Factor
    code: str = field(default="", repr=False)
    passkey: PasskeyAnswer | None = field(default=None, repr=False)
    party: RelyingParty | None = None


@dataclass(frozen=True, slots=True)
class FactorCheck:
    """The purpose of an answer: passkeys answer the ceremony of one purpose and one binding."""

    purpose: str
    binding: str = field(repr=False)
    client: Client
    policy: AuthPolicy

    def ceremony(self, party: RelyingParty) -> Ceremony:
        """Return the ceremony that a passkey of the party has to answer."""
        return Ceremony(self.purpose, party, self.binding)


def judge_answer(
    sessions: sessionmaker[Session],
    check: FactorCheck,
    *,
    find: Callable[[Session], Person],
    lock: Callable[[Session], Person],
    proves: Callable[[Session, Person], bool],
    then: Callable[[Session, Person], _Result],
) -> _Result | None:
    """Count a guess; where it is right, call `then` in the same transaction.

    `find` returns the person, and `lock` again, so that two concurrent calls wait for each other;
    both raise the caller's error where the person no longer exists. Returns None where the answer
    proves nothing. Raises RateLimited.
    """
    with sessions.begin() as session:
        person = find(session)
        guess = Guess(_GUESSES, str(person.id), client=check.client, policy=check.policy)
        refused = guess.count(
            session, find=lambda _session: person, warning="second_factor_guessed"
        )
    if refused is not None:
        raise refused
    with sessions.begin() as session:
        person = lock(session)
        if not proves(session, person):
            record_refusal(session, person, check.client, SignInOutcome.SECOND_FACTOR)
            return None
        guess.forgive(session)
        return then(session, person)


def is_proven(session: Session, person: Person, answer: FactorAnswer, check: FactorCheck) -> bool:
    """Return whether the answer is the person's; a code or an answer counts once.

    The person is notified by mail of a used recovery code.
    """
    if answer.factor is Factor.AUTHENTICATOR:
        return authenticators.use_code(session, person.id, answer.code)
    if answer.factor is Factor.RECOVERY_CODE:
        return _uses_recovery_code(session, person, answer.code, check.client)
    if answer.passkey is None or answer.party is None:
        return False
    owner = passkeys.verify_passkey(
        session, check.ceremony(answer.party), answer=answer.passkey, policy=check.policy
    )
    return owner == person.id


def _uses_recovery_code(session: Session, person: Person, code: str, client: Client) -> bool:
    if not recovery_codes.use_recovery_code(session, person.id, code):
        return False
    left = recovery_codes.count_recovery_codes(session, person.id)
    mail_person(session, person, "recovery_code_used", {"left": left}, client)
    return True
