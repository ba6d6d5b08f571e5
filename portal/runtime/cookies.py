"""The cookies of the portal, and the form tokens that are derived from them.

The session cookie opens a session. The form cookie, which no other site can have sent along, stands
in for it on the forms of people who are not signed in yet. The pending cookie opens only the page
for the second factor.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from starlette.responses import Response

    from portal.runtime.settings import Settings

LANGUAGE = "lang"
"""The cookie with the language that someone chose; no secret, so that a page's script sets it."""


def session_cookie(settings: Settings) -> str:
    """Return the session cookie's name."""
    return _name("credit_portal_session", settings)


def form_cookie(settings: Settings) -> str:
    """Return the form cookie's name."""
    return _name("credit_portal_form", settings)


def pending_cookie(settings: Settings) -> str:
    """Return the name of the cookie of a person whose second factor is pending."""
    return _name("credit_portal_sign_in", settings)


def set_cookie(
    response: Response,
    name: str,
    value: str,
    *,
    settings: Settings,
    same_site: Literal["lax", "strict"],
    max_age_seconds: int | None = None,
) -> None:
    """Have the browser keep a cookie that no script reads and only this host gets."""
    response.set_cookie(
        name,
        value,
        max_age=max_age_seconds,
        path="/",
        secure=settings.secure_cookies,
        httponly=True,
        samesite=same_site,
    )


def delete_cookie(response: Response, name: str, settings: Settings) -> None:
    """Have the browser delete a cookie."""
    response.delete_cookie(name, path="/", secure=settings.secure_cookies, httponly=True)


def form_token(secret: str) -> str:
    """Return the token that proves that this portal served a form to the cookie's holder."""
    return hmac.new(secret.encode(), b"form token", hashlib.sha256).hexdigest()


def is_form_token(token: str, secret: str) -> bool:
    """Return whether the token was derived from this cookie's value."""
    return hmac.compare_digest(token.encode(), form_token(secret).encode())


def _name(name: str, settings: Settings) -> str:
    # With this prefix browsers accept the cookie from this host alone, for all its paths, over TLS.
    return f"__Host-{name}" if settings.secure_cookies else name
