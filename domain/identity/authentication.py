"""Signing in with a password, or with a passkey instead of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.models import User
from domain.audit import record
from domain.identity import passkeys
from domain.identity.email_links import VERIFY_EMAIL, mail_link, person_of_link, use_link
from domain.identity.guesses import is_unchanged, network_counters, prove_password, record_refusal
from domain.identity.outcomes import Factor, SignIn, SignInOutcome
from domain.identity.passkeys import Ceremony
from domain.identity.pending import admit
from domain.identity.sessions import open_session
from domain.identity.users import actor_for, load_person, mark_verified, may_mail, set_password
from domain.security import passwords, rate_limits

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from domain.identity.passkeys import CeremonyOptions, PasskeyAnswer, RelyingParty
    from domain.identity.policy import AuthPolicy, Client

_PASSKEY_SIGN_IN = "sign in"


def authenticate(
    sessions: sessionmaker[Session],
    *,
    email: str,
    password: str,
    client: Client,
    policy: AuthPolicy,
) -> SignIn:
    """Check the password, and open a session or, with a second factor, a pending sign-in.

    An unknown address takes as long as a wrong password. A person who has not confirmed their
    address gets the link again. Raises RateLimited before the password is looked at.
    """
    person = prove_password(sessions, email, password, client, policy)
    if person is None:
        return SignIn(SignInOutcome.WRONG)
    is_outdated = passwords.needs_rehash(person.password_hash)
    new_hash = passwords.hash_password(password) if is_outdated else None
    with sessions.begin() as session:
        if person.is_disabled:
            record_refusal(session, person, client, SignInOutcome.DISABLED)
            return SignIn(SignInOutcome.DISABLED)
        if not person.is_verified:
            if may_mail(session, person, policy, VERIFY_EMAIL):
                mail_link(session, person, VERIFY_EMAIL, client)
            record_refusal(session, person, client, SignInOutcome.UNVERIFIED)
            return SignIn(SignInOutcome.UNVERIFIED)
        if not is_unchanged(session, person):
            return SignIn(SignInOutcome.WRONG)
        if new_hash is not None:
            set_password(session, person.id, new_hash)
        return admit(session, person, client, policy)


def verify_email(
    sessions: sessionmaker[Session],
    *,
    token: str,
    password: str,
    client: Client,
    policy: AuthPolicy,
) -> SignIn:
    """Use a mailed link, with the password that was chosen at sign-up, and open a session.

    The password is required because anyone could have signed up with this address: its owner must
    not confirm another person's password. Raises NotFound where the link is used or expired,
    RateLimited.
    """
    with sessions() as session:
        person = person_of_link(session, token, VERIFY_EMAIL)
    proven = prove_password(sessions, person.email, password, client, policy)
    if proven is None or proven.id != person.id:
        return SignIn(SignInOutcome.WRONG)
    with sessions.begin() as session:
        if not is_unchanged(session, proven):
            return SignIn(SignInOutcome.WRONG)
        use_link(session, token, VERIFY_EMAIL)
        mark_verified(session, proven)
        record(session, action="verify_email", actor=actor_for(proven, client))
        return admit(session, proven, client, policy)


def passkey_sign_in_options(
    *, party: RelyingParty, binding: str, policy: AuthPolicy, now: datetime
) -> CeremonyOptions:
    """Return the browser's options for a passkey sign-in; `binding` is its form cookie.

    The database is not queried: the page with these options is public.
    """
    ceremony = Ceremony(_PASSKEY_SIGN_IN, party, binding)
    return passkeys.authentication_options(ceremony, now=now, policy=policy)


def authenticate_with_passkey(
    sessions: sessionmaker[Session],
    *,
    answer: PasskeyAnswer,
    party: RelyingParty,
    binding: str,
    client: Client,
    policy: AuthPolicy,
) -> SignIn:
    """Open a session by a passkey's answer: a device and what unlocks it are two factors.

    Raises RateLimited.
    """
    counters = network_counters(policy, policy.guesses_per_address, "passkey", client)
    with sessions.begin() as session:
        rate_limits.record_attempt(session, counters)
    with sessions.begin() as session:
        ceremony = Ceremony(_PASSKEY_SIGN_IN, party, binding)
        user_id = passkeys.verify_passkey(session, ceremony, answer=answer, policy=policy)
        person = None if user_id is None else load_person(session, User.id == user_id)
        if person is None:
            record_refusal(session, None, client, SignInOutcome.WRONG)
            return SignIn(SignInOutcome.WRONG)
        rate_limits.refund_attempt(session, counters)
        if person.is_disabled or not is_unchanged(session, person):
            record_refusal(session, person, client, SignInOutcome.DISABLED)
            return SignIn(SignInOutcome.DISABLED)
        return open_session(session, person, client, policy, Factor.PASSKEY)
