"""Shared parts of our own routes' forms: methods, tokens, the signed-in user, answers.

Requests are parsed in the event loop; they are handled in a worker thread, which may wait for the
database.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from anyio.lowlevel import RunVar
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from domain.errors import InvalidInput, Overloaded, RateLimited
from domain.fraud_signals import network_of, networks_of
from domain.validation import check_keepable, is_whole_number
from portal.routes.refusals import Refusals
from portal.routes.requests import (
    FIRST,
    Call,
    Reply,
    address_of,
    client_of,
    is_own_origin,
    language_of,
    own_path,
    read_fields,
)
from portal.routes.responses import apologise, message, plain_answer, redirect
from portal.runtime import cookies, logs
from portal.runtime.sessions import find_signed_in_user
from portal.runtime.settings import settings
from portal.runtime.worker_queue import QueueFull, WorkerQueue
from portal.ui.i18n import _, use
from portal.ui.labels.forms import busy_text, fault_text, wait_text
from portal.ui.urls import sign_in_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

MAX_FORM_BYTES = 64 * 1024
_MAX_COOKIE_LENGTH = 100

_SHOWN: RunVar[WorkerQueue] = RunVar("forms that anyone is shown")
_SENT: RunVar[WorkerQueue] = RunVar("forms that anyone has sent")
_MAX_CONCURRENT = 1
"""A thread each for the forms that people who are not signed in look at, and for those that they
send: who asks for very many forms keeps nobody from signing in, and pages have the other threads.
"""

_MAX_WAITING = 100
_RETRY_AFTER_SECONDS = 10

_log = logging.getLogger(__name__)


class Form:
    """The ASGI application behind one form: GET shows it, POST submits it, the rest is a 405.

    A POST must come from a page of this origin and carry the token that was in the form. Without
    `show` there is only the POST: the form is on another page. One that `is_costly` to draw is not
    drawn again for a client that has to wait. Where it `leads_back`, a sign-in on the way returns
    to it.
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
            fields = await read_fields(request)
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
        if self._for_signed_in and call.user is None:
            leads_back = self._show is not None and self._leads_back
            return redirect(sign_in_path(own_path(request) if leads_back else "/"))
        if request.method == "POST":
            return self._checked_submit(call)
        if self._show is None:
            return plain_answer(405)
        return _with_form_cookie(call, self._show(call, FIRST))

    def _checked_submit(self, call: Call) -> Response:
        if self._submit is None:
            return plain_answer(405)
        if not _comes_from_own_form(call):
            text = _("The form was open for too long. Send it again.")
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
        """Answer a network that still has to wait, in the event loop, without a query."""
        if not await self._refusals.delay():
            return plain_answer(429, {"Retry-After": str(seconds)})
        use(language_of(request))
        call = Call(request, {}, client_of(request), None, "", None)
        response = _please_wait(call, Reply(wait_text(seconds), status=429))
        response.headers["Retry-After"] = str(seconds)
        return response

    def _again(self, call: Call, reply: Reply) -> Response:
        if self._show is None:
            title = _("Something went wrong")
            text = reply.alert or next(iter(reply.faults.values()), "")
            return message(call, title, text, status=reply.status)
        return _with_form_cookie(call, self._show(call, reply))


def _please_wait(call: Call, reply: Reply) -> Response:
    """Return a page of one sentence: drawing the form again is the load that a flood is after."""
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
    """Return whether a request declares more than a form's size, so that it need not be read."""
    length = request.headers.get("content-length", "0")
    return not is_whole_number(length) or int(length) > MAX_FORM_BYTES


def _disconnects(receive: Receive) -> Receive:
    """Return a `receive` that only reports that the client has disconnected.

    An answer that is sent in parts listens for that meanwhile. The rest of a body is discarded, and
    one that is too long ends the answer.
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


# ── The signed-in user ────────────────────────────────────────────────────────────────────────────


def _call(request: Request, fields: Mapping[str, str], *, for_signed_in: bool) -> Call:
    token = request.cookies.get(cookies.session_cookie(settings()))
    user = find_signed_in_user(token) if for_signed_in else None
    if user is not None:
        logs.name_actor(user.actor(client_of(request).address))
    return Call(
        request=request,
        fields=fields,
        client=client_of(request),
        session_token=token,
        form_secret=_form_cookie_of(request) or secrets.token_urlsafe(32),
        user=user,
    )


def _form_cookie_of(request: Request) -> str | None:
    value = request.cookies.get(cookies.form_cookie(settings()), "")
    return value if 0 < len(value) <= _MAX_COOKIE_LENGTH else None


def _with_form_cookie(call: Call, response: Response) -> Response:
    if call.user is None and _form_cookie_of(call.request) is None:
        name = cookies.form_cookie(settings())
        cookies.set_cookie(
            response, name, call.form_secret, settings=settings(), same_site="strict"
        )
    return response


def _comes_from_own_form(call: Call) -> bool:
    secret = call.session_token if call.user is not None else _form_cookie_of(call.request)
    if secret is None or not cookies.is_form_token(call.given("form_token"), secret):
        return False
    return is_own_origin(call.request.headers)


def _guarded(
    answer: Callable[[Request, Mapping[str, str]], Response],
    request: Request,
    fields: Mapping[str, str],
) -> Response:
    """Answer, and on an error show an id that the log has too."""
    # Each worker thread's call has a context of its own: the language affects no other request.
    use(language_of(request))
    try:
        return answer(request, fields)
    except Exception as error:  # noqa: BLE001 - the last resort of every form
        return apologise(request, error)
