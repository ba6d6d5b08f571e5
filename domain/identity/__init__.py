"""People: how they sign up, prove who they are, stay signed in, and leave.

No one is an actor before they have signed in, so the first services take no actor but a `Client`:
where the request comes from. None of them reveals whether an address is registered; only the
mailbox does.

Services that check a password take a `sessionmaker`: an attempt is counted and committed before the
slow hash runs, and no connection or lock is held while it runs.
"""

from domain.identity.authentication import (
    authenticate,
    authenticate_with_passkey,
    passkey_sign_in_options,
    verify_email,
)
from domain.identity.authenticators import AuthenticatorOffer
from domain.identity.cleanup import purge_identity
from domain.identity.email_links import RESET_PASSWORD, VERIFY_EMAIL, email_of_link
from domain.identity.factor_answers import FactorAnswer
from domain.identity.factor_confirmation import confirm_factor, confirmation_passkey_options
from domain.identity.invited import create_invited_person, invitation_actor, is_taken
from domain.identity.outcomes import Factor, SignIn, SignInOutcome
from domain.identity.passkeys import CeremonyOptions, PasskeyAnswer, PasskeySummary, RelyingParty
from domain.identity.password_reset import change_password, request_password_reset, reset_password
from domain.identity.pending import (
    PendingSignIn,
    find_pending,
    finish_set_up,
    finish_sign_in,
    pending_offer,
    pending_passkey_options,
)
from domain.identity.policy import AuthPolicy, Client
from domain.identity.second_factor import (
    Reauthentication,
    SecondFactors,
    add_own_passkey,
    begin_authenticator,
    confirm_own_authenticator,
    list_second_factors,
    own_authenticator_offer,
    own_passkey_options,
    remove_own_authenticator,
    remove_own_passkey,
    replace_recovery_codes,
    reset_second_factors,
)
from domain.identity.sessions import (
    MAX_USER_AGENT_LENGTH,
    SessionSummary,
    SignedInUser,
    choose_account,
    create_session,
    list_sessions,
    live_sessions,
    renew_own_session,
    revoke_all_sessions,
    revoke_session,
    session_actor,
    session_id_of,
    touch_session,
)
from domain.identity.sites import SiteChoice, country_codes, list_sites, site_of
from domain.identity.tokens import token_digest
from domain.identity.users import create_user, hash_new_password, normalise_email

__all__ = [
    "MAX_USER_AGENT_LENGTH",
    "RESET_PASSWORD",
    "VERIFY_EMAIL",
    "AuthPolicy",
    "AuthenticatorOffer",
    "CeremonyOptions",
    "Client",
    "Factor",
    "FactorAnswer",
    "PasskeyAnswer",
    "PasskeySummary",
    "PendingSignIn",
    "Reauthentication",
    "RelyingParty",
    "SecondFactors",
    "SessionSummary",
    "SignIn",
    "SignInOutcome",
    "SignedInUser",
    "SiteChoice",
    "add_own_passkey",
    "authenticate",
    "authenticate_with_passkey",
    "begin_authenticator",
    "change_password",
    "choose_account",
    "confirm_factor",
    "confirm_own_authenticator",
    "confirmation_passkey_options",
    "country_codes",
    "create_invited_person",
    "create_session",
    "create_user",
    "email_of_link",
    "find_pending",
    "finish_set_up",
    "finish_sign_in",
    "hash_new_password",
    "invitation_actor",
    "is_taken",
    "list_second_factors",
    "list_sessions",
    "list_sites",
    "live_sessions",
    "normalise_email",
    "own_authenticator_offer",
    "own_passkey_options",
    "passkey_sign_in_options",
    "pending_offer",
    "pending_passkey_options",
    "purge_identity",
    "remove_own_authenticator",
    "remove_own_passkey",
    "renew_own_session",
    "replace_recovery_codes",
    "request_password_reset",
    "reset_password",
    "reset_second_factors",
    "revoke_all_sessions",
    "revoke_session",
    "session_actor",
    "session_id_of",
    "site_of",
    "token_digest",
    "touch_session",
    "verify_email",
]
