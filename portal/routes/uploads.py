"""Files that staff upload: the body of a PUT, which `portal/ui/upload.py` sends from a form.

The user is looked up before the body is read, so that the process holds no file for anyone else.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from anyio import fail_after
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from domain.errors import BillingError, InvalidInput, NotAuthorised
from domain.uploads import MAX_BYTES, MEBIBYTE, keep_upload, require_upload
from portal.routes.requests import client_of, is_own_origin, language_of
from portal.routes.responses import plain_answer, write_down
from portal.runtime import cookies, database, logs
from portal.runtime.sessions import find_signed_in_user
from portal.runtime.settings import settings
from portal.ui.i18n import _, use
from portal.ui.labels import errors as error_labels
from portal.ui.upload import FAULTS, PATH, TOKEN_HEADER

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from domain.actors import Actor

_BODY_SECONDS = 300
"""The largest file by a slow line, at 30 kB a second."""


def routes() -> list[BaseRoute]:
    """Return the route of uploads: every method is ours, and a large body is refused."""
    return [Route(f"{PATH}/{{purpose}}/{{key}}", endpoint=UploadRoute(), max_body_size=MAX_BYTES)]


class UploadRoute:
    """Keep the body of a PUT for the person who sends it, under the key in its address."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: 204, or an error message."""
        request = Request(scope, receive)
        if request.method == "PUT":
            response = await self._put(request)
        else:
            response = plain_answer(405, {"Allow": "PUT"})
        await response(scope, receive, send)

    async def _put(self, request: Request) -> Response:
        purpose, key = request.path_params["purpose"], _key(request)
        if key is None:
            return plain_answer(404)
        use(language_of(request))
        try:
            actor = await run_in_threadpool(_actor, request, purpose)
            content = await _body(request)
            await run_in_threadpool(
                database.transaction,
                keep_upload,
                purpose=purpose,
                key=key,
                name=request.query_params.get("name", ""),
                content=content,
                actor=actor,
            )
        except HTTPException as error:
            return plain_answer(error.status_code)
        except InvalidInput as error:
            return _refusal(error, 422)
        except BillingError as error:
            return _words(error_labels.text_of(error), 403)
        except Exception as error:  # noqa: BLE001 - the last resort of every upload
            return _words(*write_down(request, error))
        return plain_answer(204)


async def _body(request: Request) -> bytes:
    """Return the file. Raises HTTPException: 400 where its sender hangs up, 408, or 413."""
    try:
        with fail_after(_BODY_SECONDS):
            return await request.body()
    except ClientDisconnect:
        raise HTTPException(400) from None
    except TimeoutError:
        raise HTTPException(408) from None


def _key(request: Request) -> uuid.UUID | None:
    try:
        return uuid.UUID(request.path_params["key"])
    except ValueError:
        return None


def _actor(request: Request, purpose: str) -> Actor:
    """Return who sends a file from a form of ours, and may. Raises NotAuthorised."""
    token = request.cookies.get(cookies.session_cookie(settings()), "")
    form_token = request.headers.get(TOKEN_HEADER, "")
    if not is_own_origin(request.headers) or not cookies.is_form_token(form_token, token):
        raise NotAuthorised
    user = find_signed_in_user(token)
    if user is None:
        raise NotAuthorised
    actor = user.actor(client_of(request).address)
    logs.name_actor(actor)
    require_upload(actor, purpose)
    return actor


def _refusal(error: InvalidInput, status: int) -> Response:
    text = FAULTS.get(error.reason)
    words = _(text).format(maximum=MAX_BYTES // MEBIBYTE) if text else str(error)
    return _words(words, status)


def _words(text: str, status: int) -> Response:
    return PlainTextResponse(text, status, {"Cache-Control": "no-store"})
