"""Signing in with a password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain import passwords
from domain.audit import record
from domain.identity.email_links import VERIFY_EMAIL, mail_link, person_of_link, use_link
from domain.identity.guesses import is_unchanged, prove_password, record_refusal
from domain.identity.sessions import SignIn, SignInOutcome, open_session
from domain.identity.users import actor_for, mark_verified, may_mail, set_password

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.identity.policy import Client, Rules


def authenticate(
    sessions: sessionmaker[Session], *, email: str, password: str, client: Client, rules: Rules
) -> SignIn:
    """Check who it is, and open a session for them.

    An unknown address takes as long as a wrong password. Who has not confirmed their address
    gets the link again. Raises RateLimited before the password is looked at.
    """
    person = prove_password(sessions, email, password, client, rules)
    if person is None:
        return SignIn(SignInOutcome.WRONG)
    is_outdated = passwords.needs_rehash(person.password_hash)
    new_hash = passwords.hash_password(password) if is_outdated else None
    with sessions.begin() as session:
        if person.is_disabled:
            record_refusal(session, person, client, SignInOutcome.DISABLED)
            return SignIn(SignInOutcome.DISABLED)
        if not person.is_verified:
            if may_mail(session, person, rules):
                mail_link(session, person, VERIFY_EMAIL, client)
            record_refusal(session, person, client, SignInOutcome.UNVERIFIED)
            return SignIn(SignInOutcome.UNVERIFIED)
        if not is_unchanged(session, person):
            return SignIn(SignInOutcome.WRONG)
        if new_hash is not None:
            set_password(session, person.id, new_hash)
        return open_session(session, person, client, rules)


def verify_email(
    sessions: sessionmaker[Session], *, token: str, password: str, client: Client, rules: Rules
) -> SignIn:
    """Use a mailed link, with the password that was chosen at sign-up, and open a session.

    The password is asked for because anyone could have signed up with this address: its owner
    must not confirm somebody else's password. Raises NotFound where the link is used or too
    old, RateLimited.
    """
    with sessions() as session:
        person = person_of_link(session, token, VERIFY_EMAIL)
    proven = prove_password(sessions, person.email, password, client, rules)
    if proven is None or proven.id != person.id:
        return SignIn(SignInOutcome.WRONG)
    with sessions.begin() as session:
        if not is_unchanged(session, proven):
            return SignIn(SignInOutcome.WRONG)
        use_link(session, token, VERIFY_EMAIL)
        mark_verified(session, proven)
        record(session, action="verify_email", actor=actor_for(proven, client))
        return open_session(session, proven, client, rules)
