"""What the forms of our own routes share: methods, tokens, who asks, and how answers look.

Requests are parsed in the event loop; what they ask for is done in a worker thread, where the
database may be waited for.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from anyio import fail_after
from anyio.lowlevel import RunVar
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from domain import identity
from domain.errors import InvalidInput, Overloaded, RateLimited
from domain.fraud_signals import network_of, networks_of
from domain.validation import check_keepable, is_whole_number
from portal.routes.refusals import Refusals
from portal.runtime import cookies, database, logs
from portal.runtime.settings import settings
from portal.runtime.worker_queue import QueueFull, WorkerQueue
from portal.ui import branding
from portal.ui.i18n import _, choose_language, current_language, use
from portal.ui.labels import errors as error_labels
from portal.ui.labels.forms import busy_text, fault_text, wait_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.datastructures import Headers
    from starlette.types import Message, Receive, Scope, Send

MAX_FORM_BYTES = 64 * 1024
MEDIA_TYPES = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
}
DOWNLOAD_HEADERS = {"Cache-Control": "no-store", "Content-Encoding": "identity"}
"""A file is for whoever asked. To compress a large one again would block everybody's pages."""
_MAX_FIELDS = 50
_MAX_PATH_LENGTH = 2000
_MAX_COOKIE_LENGTH = 100
_TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
_DEFAULT_PORTS = {"http": 80, "https": 443}

_SHOWN: RunVar[WorkerQueue] = RunVar("forms that anyone is shown")
_SENT: RunVar[WorkerQueue] = RunVar("forms that anyone has sent")
_MAX_CONCURRENT = 1
"""A thread each for the forms that people who are not signed in look at, and for those that they
send: who asks for very many forms keeps nobody from signing in, and pages have the other threads.
"""

_MAX_WAITING = 100
_BODY_SECONDS = 20
"""A form is small: whoever takes longer to send it sends it never."""
_RETRY_AFTER_SECONDS = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a form, with all that its handler may need.

    `fields` are those of the query for a GET and those of the form for a POST. `visit` is who is
    signed in, on forms that need it. `form_secret` is the cookie's value that form tokens derive
    from.
    """

    request: Request
    fields: Mapping[str, str]
    client: identity.Client
    session_token: str | None
    form_secret: str
    visit: identity.Visit | None

    def given(self, name: str) -> str:
        """Return what was given for `name`, or an empty text."""
        return self.fields.get(name, "")

    @property
    def visitor(self) -> identity.Visit:
        """Return who is signed in, on a form that needs it."""
        if self.visit is None:
            raise RuntimeError("this form is for anyone: nobody need be signed in")
        return self.visit


@dataclass(frozen=True, slots=True)
class Reply:
    """How a form is shown: at first with nothing to say, again with what is wrong with it."""

    alert: str | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


FIRST = Reply()


class Form:
    """The ASGI application behind one form: GET shows it, POST submits it, the rest is a 405.

    A POST must come from a page of this origin and carry the token that was in the form. Without
    `show` there is only the POST: the form stands on another page. One that `is_costly` to
    draw is not drawn again for who has to wait. Where it `leads_back`, a sign-in on the way does.
    """

    def __init__(
        self,
        submit: Callable[[Call], Response] | None,
        *,
        show: Callable[[Call, Reply], Response] | None = None,
        for_signed_in: bool = False,
        is_costly: bool = False,
        leads_back: bool = True,
    ) -> None:
        self._is_costly = is_costly
        self._leads_back = leads_back
        self._submit = submit
        self._show = show
        self._for_signed_in = for_signed_in
        self._refusals = Refusals()
        self._methods = (["GET", "HEAD"] if show else []) + (["POST"] if submit else [])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        if request.method not in self._methods:
            response = plain_answer(405, {"Allow": ", ".join(self._methods)})
        elif _is_too_long(request):
            response = plain_answer(413)
        else:
            response = await self._respond(request)
        await response(scope, _disconnects(receive), send)

    async def _respond(self, request: Request) -> Response:
        if request.method == "POST":
            seconds = self._refusals.seconds_left(network_of(address_of(request)))
            if seconds:
                return await self._refuse_again(request, seconds)
        try:
            fields = await _fields(request)
        except HTTPException as error:
            return plain_answer(error.status_code)
        if self._for_signed_in:
            return await run_in_threadpool(_guarded, self._answer, request, fields)
        try:
            # The widest: who has a /48 has very many of the smaller ones.
            network = networks_of(address_of(request))[-1]
            return await _queue_for(request).run(
                _guarded, self._answer, request, fields, origin=network
            )
        except QueueFull:
            await self._refusals.delay()
            return plain_answer(503, {"Retry-After": str(_RETRY_AFTER_SECONDS)})

    def _answer(self, request: Request, fields: Mapping[str, str]) -> Response:
        check_keepable(request.path_params)
        if request.method != "POST":
            check_keepable(fields)
        call = _call(request, fields, for_signed_in=self._for_signed_in)
        if self._for_signed_in and call.visit is None:
            leads_back = self._show is not None and self._leads_back
            return redirect(sign_in_path(_own_path(request) if leads_back else "/"))
        if request.method == "POST":
            return self._checked_submit(call)
        if self._show is None:
            return plain_answer(405)
        return _with_form_cookie(call, self._show(call, FIRST))

    def _checked_submit(self, call: Call) -> Response:
        if self._submit is None:
            return plain_answer(405)
        if not _comes_from_own_form(call):
            text = _("This form was open for too long. Please send it again.")
            return self._again(call, Reply(text, status=403))
        try:
            check_keepable(call.fields)
            return self._submit(call)
        except InvalidInput as fault:
            return self._again(call, Reply(faults={fault.field: fault_text(fault)}, status=422))
        except RateLimited as error:
            seconds = error.retry_after_seconds
            if error.is_of_network:
                self._refusals.remember(network_of(call.client.address), seconds)
            return self._later(call, Reply(wait_text(seconds), status=429), seconds)
        except Overloaded as error:
            seconds = error.retry_after_seconds
            return self._later(call, Reply(busy_text(seconds), status=503), seconds)

    def _later(self, call: Call, reply: Reply, seconds: int) -> Response:
        response = _please_wait(call, reply) if self._is_costly else self._again(call, reply)
        response.headers["Retry-After"] = str(seconds)
        return response

    async def _refuse_again(self, request: Request, seconds: int) -> Response:
        """Answer a network that has to wait still, in the event loop: nothing is asked for it."""
        if not await self._refusals.delay():
            return plain_answer(429, {"Retry-After": str(seconds)})
        use(language_of(request))
        call = Call(request, {}, client_of(request), None, "", None)
        response = _please_wait(call, Reply(wait_text(seconds), status=429))
        response.headers["Retry-After"] = str(seconds)
        return response

    def _again(self, call: Call, reply: Reply) -> Response:
        if self._show is None:
            title = _("That did not work")
            text = reply.alert or next(iter(reply.faults.values()), "")
            return message(call, title, text, status=reply.status)
        return _with_form_cookie(call, self._show(call, reply))


def _please_wait(call: Call, reply: Reply) -> Response:
    """Return a page of one sentence: to draw the form again takes what a flood is after."""
    again = (call.request.url.path, _("Try again"))
    return message(call, _("Please wait"), reply.alert or "", link=again, status=reply.status)


def _queue_for(request: Request) -> WorkerQueue:
    """Return the queue of this event loop in which such a request from anyone waits."""
    place = _SENT if request.method == "POST" else _SHOWN
    queue = place.get(None)
    if queue is None:
        queue = WorkerQueue(_MAX_CONCURRENT, _MAX_WAITING)
        place.set(queue)
    return queue


def _is_too_long(request: Request) -> bool:
    """Whether a request says that it has more than a form, so that nobody need read it."""
    length = request.headers.get("content-length", "0")
    return not is_whole_number(length) or int(length) > MAX_FORM_BYTES


def _disconnects(receive: Receive) -> Receive:
    """Return what says that the client has gone, and nothing else.

    An answer that is sent in parts listens for that meanwhile. What is left of a body is for
    nobody, and one that is longer than may be ends the answer.
    """

    async def until_disconnect() -> Message:
        try:
            while (message := await receive())["type"] != "http.disconnect":
                pass
        except HTTPException:
            return {"type": "http.disconnect"}
        return message

    return until_disconnect


def form_route(path: str, form: Form) -> Route:
    """Return the route of a form: every method is ours, and a large body is refused."""
    return Route(path, endpoint=form, max_body_size=MAX_FORM_BYTES)


# ── Answers ────────────────────────────────────────────────────────────────────────────────────
def render(
    call: Call,
    template: str,
    reply: Reply = FIRST,
    **values: Any,  # noqa: ANN401 - Jinja takes any
) -> HTMLResponse:
    """Return a page that nobody keeps, and in which only our own style and script run."""
    token_secret = call.session_token if call.visit is not None else call.form_secret
    content = (
        _environment()
        .get_template(template)
        .render(
            _=_,
            reply=reply,
            language=current_language(),
            icon=branding.ICON,
            product=branding.NAME,
            form_token=cookies.form_token(token_secret or call.form_secret),
            style=Markup(_asset("page.css")),  # noqa: S704 - our own file
            script=Markup(_asset("page.js")),  # noqa: S704 - our own file
            mailbox="/mailbox" if settings().shows_mailbox else None,
            **values,
        )
    )
    return HTMLResponse(content, reply.status, _page_headers(current_language()))


def message(
    call: Call, title: str, text: str, *, link: tuple[str, str] | None = None, status: int = 200
) -> HTMLResponse:
    """Return a page that says one thing, with a link (address, words) to what comes next."""
    link = link or ("/", _("Go to billing"))
    reply = Reply(status=status)
    return render(call, "message.html", reply, title=title, text=text, link=link)


def redirect(path: str) -> RedirectResponse:
    """Send the browser to a path of this portal, by GET."""
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})


def plain_answer(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer for programs: a status and no page."""
    return Response(status_code=status, headers={"Cache-Control": "no-store", **(headers or {})})


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


@cache
def _content_policy() -> str:
    style, script = (
        base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()
        for name in ("page.css", "page.js")
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}';"
        " img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _page_headers(locale: str) -> dict[str, str]:
    return {
        "Cache-Control": "no-store",
        "Content-Language": locale,
        "Content-Security-Policy": _content_policy(),
    }


# ── Paths ──────────────────────────────────────────────────────────────────────────────────────
def local_path(given: str) -> str:
    """Return the path if it leads to a page of this portal, and "/" if it may lead elsewhere."""
    # Browsers take \\ for /, and drop tabs and line ends before they look.
    if not given.startswith("/") or given.startswith("//") or len(given) > _MAX_PATH_LENGTH:
        return "/"
    if "\\" in given or any(character <= " " or character == "\x7f" for character in given):
        return "/"
    try:
        parts = urlsplit(given)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc else given


def sign_in_path(next_path: str = "/") -> str:
    """Return where to sign in, and to come back from."""
    target = local_path(next_path)
    return "/sign-in" if target == "/" else f"/sign-in?next={quote(target, safe='/')}"


def _own_path(request: Request) -> str:
    if request.method == "POST" or not request.url.query:
        return request.url.path
    return f"{request.url.path}?{request.url.query}"


# ── Who asks ───────────────────────────────────────────────────────────────────────────────────
def address_of(request: Request) -> str:
    """Return the network address that the request comes from."""
    return request.client.host if request.client else ""


def client_of(request: Request) -> identity.Client:
    """Return where the request comes from."""
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


def visit_by(token: str | None) -> identity.Visit | None:
    """Return who is signed in by the value of a session cookie now, or None."""
    if not token:
        return None
    return database.read_one(identity.session_actor, token=token, policy=settings().policy)


def _call(request: Request, fields: Mapping[str, str], *, for_signed_in: bool) -> Call:
    token = request.cookies.get(cookies.session_cookie(settings()))
    visit = visit_by(token) if for_signed_in else None
    if visit is not None:
        logs.name_actor(visit.actor(client_of(request).address))
    return Call(
        request=request,
        fields=fields,
        client=client_of(request),
        session_token=token,
        form_secret=_form_cookie_of(request) or secrets.token_urlsafe(32),
        visit=visit,
    )


def _form_cookie_of(request: Request) -> str | None:
    value = request.cookies.get(cookies.form_cookie(settings()), "")
    return value if 0 < len(value) <= _MAX_COOKIE_LENGTH else None


def _with_form_cookie(call: Call, response: Response) -> Response:
    if call.visit is None and _form_cookie_of(call.request) is None:
        name = cookies.form_cookie(settings())
        cookies.set_cookie(
            response, name, call.form_secret, settings=settings(), same_site="strict"
        )
    return response


def _comes_from_own_form(call: Call) -> bool:
    secret = call.session_token if call.visit is not None else _form_cookie_of(call.request)
    if secret is None or not cookies.is_form_token(call.given("form_token"), secret):
        return False
    return is_own_origin(call.request.headers)


def is_own_origin(headers: Headers) -> bool:
    """Whether a request says that it comes from a page of this portal."""
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


async def _fields(request: Request) -> dict[str, str]:
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
        # Nobody hears the answer, and nothing went wrong here: the log has its usual line.
        raise HTTPException(400) from None


def _guarded(
    answer: Callable[[Request, Mapping[str, str]], Response],
    request: Request,
    fields: Mapping[str, str],
) -> Response:
    """Answer, and where that fails say so with an id that the log has too."""
    # Each worker thread's call has a context of its own: nobody else hears this language.
    use(language_of(request))
    try:
        return answer(request, fields)
    except Exception as error:  # noqa: BLE001 - the last resort of every form
        return apologise(request, error)


def write_down(request: Request, error: Exception) -> tuple[str, int]:
    """Log what went wrong; return what to say, with the number that the log has, and a status."""
    error_id = logs.current().id
    where = (error_id, request.method, request.url.path)
    if isinstance(error, InvalidInput):
        _log.info("error %s on %s %s: %s", *where, error)
        return error_labels.text_of(error), 400
    if error_labels.is_passing(error):
        _log.warning("error %s on %s %s: %s", *where, error)
        return error_labels.text_of_failure(error, error_id), 503
    _log.error("error %s on %s %s", *where, exc_info=error)
    return error_labels.text_of_failure(error, error_id), 500


def apologise(request: Request, error: Exception) -> Response:
    """Write down what went wrong, and return a page that says so."""
    text, status = write_down(request, error)
    title = {
        400: _("That did not work"),
        503: _("Not available right now"),
        500: _("Something went wrong"),
    }[status]
    call = Call(request, {}, client_of(request), None, "", None)
    return message(call, title, text, status=status)
