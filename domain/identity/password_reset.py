"""Changing a password, and setting a new one with a mailed link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.models import User
from domain.audit import record
from domain.errors import InvalidInput
from domain.identity.email_links import (
    RESET_PASSWORD,
    mail_link,
    person_of_link,
    use_link,
    void_links,
)
from domain.identity.factor_confirmation import require_proof
from domain.identity.guesses import may_still_change, network_counters, prove_password
from domain.identity.outcomes import SignIn, SignInOutcome
from domain.identity.sessions import SignedInUser, renew_session, revoke_user_sessions
from domain.identity.users import (
    actor_for,
    hash_new_password,
    known_form,
    load_person,
    lock_person,
    mail_person,
    mark_verified,
    may_mail,
    set_password,
)
from domain.security import passwords, rate_limits

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.identity.policy import AuthPolicy, Client


def change_password(
    sessions: sessionmaker[Session],
    *,
    user: SignedInUser,
    current_password: str,
    new_password: str,
    client: Client,
    policy: AuthPolicy,
) -> SignIn:
    """Set a new password, and sign the person out of all other sessions; renew this one's token.

    The outcome is SIGNED_IN, or WRONG where the current password is wrong or the session has
    ended. Raises InvalidInput on "new_password", RateLimited, and Conflict("factor_not_confirmed")
    where the person has a second factor that was not proven lately.
    """
    with sessions.begin() as session:
        require_proof(session, user)
        counter = rate_limits.counter(
            policy.key, policy.guesses_per_address, "new password", str(user.user_id)
        )
        rate_limits.record_attempt(session, [counter])
    person = prove_password(sessions, user.email, current_password, client, policy)
    if person is None or person.id != user.user_id:
        return SignIn(SignInOutcome.WRONG)
    passwords.check_password(new_password, email=user.email, field="new_password")
    if new_password == current_password:
        raise InvalidInput("new_password", "same_as_current")
    new_hash = passwords.hash_password(new_password)
    with sessions.begin() as session:
        if not may_still_change(session, person, user, client):
            return SignIn(SignInOutcome.WRONG)
        require_proof(session, user)
        set_password(session, person.id, new_hash)
        void_links(session, person.id)
        revoke_user_sessions(session, person.id, except_session_id=user.session_id)
        mail_person(session, person, "password_changed", {}, client)
        record(session, action="change_password", actor=actor_for(person, client))
        return renew_session(session, user.session_id)


def request_password_reset(
    session: Session, *, email: str, client: Client, policy: AuthPolicy
) -> None:
    """Mail a link to the address if it is a person's; the caller cannot detect whether it is.

    Raises RateLimited where too many requests come from the client's address.
    """
    rate_limits.record_attempt(
        session, network_counters(policy, policy.requests_per_address, "reset", client)
    )
    address = known_form(email)
    person = load_person(session, User.email == address) if address else None
    if (
        person is None
        or person.is_disabled
        or not may_mail(session, person, policy, RESET_PASSWORD)
    ):
        return
    mail_link(session, person, RESET_PASSWORD, client)
    record(session, action="request_password_reset", actor=actor_for(person, client))


def reset_password(
    sessions: sessionmaker[Session], *, token: str, password: str, client: Client
) -> None:
    """Set a new password with a mailed link, and sign the person out everywhere.

    The link was sent to their mailbox, so it proves the address too. Raises NotFound where the link
    is used or expired, InvalidInput on "password", Overloaded.
    """
    with sessions() as session:
        person = person_of_link(session, token, RESET_PASSWORD)
    new_hash = hash_new_password(password, email=person.email)
    with sessions.begin() as session:
        # Before the link, in the order of other code that voids links: otherwise they could
        # deadlock.
        lock_person(session, User.id == person.id)
        use_link(session, token, RESET_PASSWORD)
        set_password(session, person.id, new_hash)
        mark_verified(session, person)
        void_links(session, person.id)
        revoke_user_sessions(session, person.id)
        mail_person(session, person, "password_changed", {}, client)
        record(session, action="reset_password", actor=actor_for(person, client))
