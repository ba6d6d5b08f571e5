"""Properties of a request: its network address, its origin, its language."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from anyio import fail_after
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from domain import identity
from portal.runtime import cookies
from portal.runtime.settings import settings
from portal.ui.i18n import choose_language

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import Headers


_MAX_FIELDS = 50
_DEFAULT_PORTS = {"http": 80, "https": 443}
_BODY_SECONDS = 20
"""A form is small: whoever takes longer to send it sends it never."""


def own_path(request: Request) -> str:
    """Return the path and query of a request, to return to later."""
    if request.method == "POST" or not request.url.query:
        return request.url.path
    return f"{request.url.path}?{request.url.query}"


def address_of(request: Request) -> str:
    """Return the network address that the request comes from."""
    return request.client.host if request.client else ""


def client_of(request: Request) -> identity.Client:
    """Return the client that the request comes from."""
    return identity.Client(
        address=address_of(request),
        user_agent=request.headers.get("user-agent", ""),
        locale=language_of(request),
    )


def language_of(request: Request) -> str:
    """Return the language to answer in: the address's, the cookie's, the browser's, or English."""
    return choose_language(
        request.query_params.get("lang"),
        request.cookies.get(cookies.LANGUAGE),
        request.headers.get("accept-language"),
    )


def is_own_origin(headers: Headers) -> bool:
    """Return whether a request states that it comes from a page of this portal."""
    origin = headers.get("origin", "")
    if settings().allows_any_host:
        host = headers.get("host", "")
        return bool(host) and origin in {f"http://{host}", f"https://{host}"}
    return origin == _configured_origin()


def own_origin(request: Request) -> str:
    """Return this portal's origin as browsers write it: of BASE_URL, else as it was reached."""
    if not settings().allows_any_host:
        return _configured_origin()
    if is_own_origin(request.headers):
        return request.headers["origin"]
    return f"{request.url.scheme}://{request.headers.get('host', '')}"


def _configured_origin() -> str:
    url = urlsplit(settings().base_url)
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    is_default = url.port in {None, _DEFAULT_PORTS.get(url.scheme)}
    return f"{url.scheme}://{host}" if is_default else f"{url.scheme}://{host}:{url.port}"


async def read_fields(request: Request) -> dict[str, str]:
    """Return the fields of a form, or of the query for other methods.

    Raises HTTPException for a body that is not a form, too many fields, or a body that does not
    end.
    """
    if request.method != "POST":
        return dict(request.query_params)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415)
    try:
        with fail_after(_BODY_SECONDS):
            async with request.form(max_files=0, max_fields=_MAX_FIELDS) as form:
                return {
                    name: value for name, value in form.items() if not isinstance(value, UploadFile)
                }
    except TimeoutError:
        raise HTTPException(408) from None
    except ClientDisconnect:
        # The client does not read the answer, and nothing failed: the log has its usual line.
        raise HTTPException(400) from None


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a form, with all that its handler may need.

    `fields` are those of the query for a GET and those of the form for a POST. `visit` is the
    signed-in user, on forms that need one. `form_secret` is the cookie's value that form tokens
    derive from.
    """

    request: Request
    fields: Mapping[str, str]
    client: identity.Client
    session_token: str | None
    form_secret: str
    user: identity.SignedInUser | None

    def given(self, name: str) -> str:
        """Return the value of the field `name`, or an empty text."""
        return self.fields.get(name, "")

    @property
    def visitor(self) -> identity.SignedInUser:
        """Return who is signed in, on a form that needs it."""
        if self.user is None:
            raise RuntimeError("this form is for anyone: nobody need be signed in")
        return self.user


@dataclass(frozen=True, slots=True)
class Reply:
    """The display of a form: at first without messages, again with its errors."""

    alert: str | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


FIRST = Reply()
