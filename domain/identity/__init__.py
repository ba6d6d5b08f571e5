"""People: how they sign up, prove who they are, stay signed in, and leave.

Nobody acts before they have signed in, so the first services take no actor but a `Client`: where
the request comes from. None of them tells whether an address is known; the mailbox does.

Services that check a password take a `sessionmaker`: a try is counted and committed before the
slow hash runs, and no connection or lock is held while it runs.
"""

from domain.identity.authentication import authenticate, verify_email
from domain.identity.cleanup import purge_identity
from domain.identity.email_links import RESET_PASSWORD, VERIFY_EMAIL, email_of_link
from domain.identity.password_reset import change_password, request_password_reset, reset_password
from domain.identity.policy import Client, Rules
from domain.identity.sessions import (
    LONGEST_USER_AGENT,
    SessionSummary,
    SignIn,
    SignInOutcome,
    Visit,
    choose_account,
    create_session,
    list_sessions,
    live_sessions,
    revoke_all_sessions,
    revoke_session,
    session_actor,
    session_id_of,
    touch_session,
)
from domain.identity.sign_up import SignUp, sign_up, sign_up_faults
from domain.identity.sites import SiteChoice, country_codes, list_sites, site_of
from domain.identity.tokens import token_digest
from domain.identity.users import (
    create_user,
    create_user_with_hash,
    hash_new_password,
    normalise_email,
)

__all__ = [
    "LONGEST_USER_AGENT",
    "RESET_PASSWORD",
    "VERIFY_EMAIL",
    "Client",
    "Rules",
    "SessionSummary",
    "SignIn",
    "SignInOutcome",
    "SignUp",
    "SiteChoice",
    "Visit",
    "authenticate",
    "change_password",
    "choose_account",
    "country_codes",
    "create_session",
    "create_user",
    "create_user_with_hash",
    "email_of_link",
    "hash_new_password",
    "list_sessions",
    "list_sites",
    "live_sessions",
    "normalise_email",
    "purge_identity",
    "request_password_reset",
    "reset_password",
    "revoke_all_sessions",
    "revoke_session",
    "session_actor",
    "session_id_of",
    "sign_up",
    "sign_up_faults",
    "site_of",
    "token_digest",
    "touch_session",
    "verify_email",
]
