"""The answer to a right password: a session, or the way to the second factor."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from domain import identity
from domain.identity import SignIn, SignInOutcome
from portal.routes.responses import redirect
from portal.runtime import cookies, database
from portal.runtime.sessions import find_signed_in_user
from portal.runtime.settings import settings

if TYPE_CHECKING:
    from starlette.responses import Response

    from portal.routes.requests import Call

SECOND_FACTOR_PATH = "/second-factor"
SET_UP_PATH = "/set-up-second-factor"
TWO_FACTOR_PATH = "/two-factor"
CONFIRM_PATH = f"{TWO_FACTOR_PATH}/confirm"
"""Where a signed-in person proves a second factor, before what protects them is changed."""

_STEPS = {
    SignInOutcome.SECOND_FACTOR: SECOND_FACTOR_PATH,
    SignInOutcome.SET_UP_FACTOR: SET_UP_PATH,
}


def is_admitted(result: SignIn) -> bool:
    """Whether the password was right, so that `admit` has a step to continue with."""
    return result.outcome is SignInOutcome.SIGNED_IN or result.outcome in _STEPS


def admit(call: Call, result: SignIn, next_path: str) -> Response:
    """Send a person whose password was right on: into the portal, or to the remaining step."""
    if result.outcome is SignInOutcome.SIGNED_IN:
        return start_session(call, result, redirect(next_path))
    response = redirect(with_next(_STEPS[result.outcome], next_path))
    cookies.set_cookie(
        response,
        cookies.pending_cookie(settings()),
        result.token,
        settings=settings(),
        same_site="strict",
        max_age_seconds=int(result.lifetime.total_seconds()),
    )
    return response


def start_session(call: Call, result: SignIn, response: Response) -> Response:
    """Have the browser hold the new session from this response on, and end the one that it had."""
    earlier = find_signed_in_user(call.session_token)
    if earlier is not None:
        database.transaction(
            identity.revoke_session,
            session_id=earlier.session_id,
            actor=earlier.actor(call.client.address),
        )
    keep_session(result, response)
    for name in (cookies.form_cookie(settings()), cookies.pending_cookie(settings())):
        cookies.delete_cookie(response, name, settings())
    return response


def keep_session(result: SignIn, response: Response) -> Response:
    """Have the browser hold the session that it has under another token from this response on."""
    cookies.set_cookie(
        response,
        cookies.session_cookie(settings()),
        result.token,
        settings=settings(),
        same_site="lax",
        max_age_seconds=int(result.lifetime.total_seconds()),
    )
    return response


def with_next(path: str, next_path: str) -> str:
    """Return a path that keeps where to go afterwards."""
    return path if next_path == "/" else f"{path}?next={quote(next_path, safe='/')}"
