"""Answers of our own routes: pages by templates, messages, redirects, refusals."""

from __future__ import annotations

import base64
import hashlib
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from domain.errors import InvalidInput
from portal.routes.requests import FIRST, Call, Reply, client_of
from portal.runtime import cookies, logs
from portal.runtime.settings import settings
from portal.ui import branding
from portal.ui.i18n import _, current_language
from portal.ui.labels import errors as error_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request


_log = logging.getLogger(__name__)

MEDIA_TYPES = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
}
DOWNLOAD_HEADERS = {"Cache-Control": "no-store", "Content-Encoding": "identity"}
"""A file is for whoever asked. To compress a large one again would block everybody's pages."""
_TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


def render(
    call: Call,
    template: str,
    reply: Reply = FIRST,
    **values: Any,  # noqa: ANN401 - Jinja takes any
) -> HTMLResponse:
    """Return a page that is not cached, and in which only our own style and script run."""
    token_secret = call.session_token if call.user is not None else call.form_secret
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
    """Return a page with one message and a link (address, label) to the next step."""
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


def write_down(request: Request, error: Exception) -> tuple[str, int]:
    """Log an error; return the message with the log's id, and a status."""
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
    """Log an error, and return a page about it."""
    text, status = write_down(request, error)
    title = {
        400: _("Something went wrong"),
        503: _("Temporarily unavailable"),
        500: _("Something went wrong"),
    }[status]
    call = Call(request, {}, client_of(request), None, "", None)
    return message(call, title, text, status=status)
