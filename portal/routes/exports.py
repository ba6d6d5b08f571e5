"""Exports: a form that requests a file, and the address of a finished file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from starlette.responses import FileResponse

from domain.errors import ExportsBusy, InvalidInput, NotFound
from domain.history.export_jobs import ExportOptions, ExportState
from domain.history.pages import history_count
from domain.validation import whole_number
from portal.exports import jobs
from portal.routes.forms import Form, form_route
from portal.routes.responses import DOWNLOAD_HEADERS, MEDIA_TYPES, message, redirect
from portal.runtime.database import read_snapshot
from portal.ui import formats
from portal.ui.i18n import _, available_languages, current_language, use

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from domain.history.export_jobs import Export
    from portal.routes.requests import Call

_PATIENCE_SECONDS = 20
"""How long a browser waits for a file of few rows; any other shows its progress on the page."""
_SHORT_PATIENCE_SECONDS = 1
_RETRY_SECONDS = 30


def routes() -> list[BaseRoute]:
    """Return the routes of exports."""
    return [
        form_route("/exports/history", Form(_submit, for_signed_in=True)),
        form_route("/exports/file", Form(None, show=_show_file, for_signed_in=True)),
    ]


def _submit(call: Call) -> Response:
    """Start an export, and answer with the file; one that takes long is shown on the page."""
    actor = call.visitor.actor(call.client.address)
    try:
        options = _options(call)
        count = read_snapshot(
            history_count, actor=actor, account_id=options.account_id, filters=options.filters
        )
        job_id, waiting = jobs.start(actor, options)
        is_small = count is not None and not count.is_capped
        waiting.join(_PATIENCE_SECONDS if is_small else _SHORT_PATIENCE_SECONDS)
        export = jobs.find(actor, job_id)
    except InvalidInput:
        return _misunderstood(call)
    except NotFound:
        return _not_found(call)
    except ExportsBusy:
        return _busy(call)
    return _file(export) or redirect(f"/?{_page(call, export)}")


def _show_file(call: Call, *_reply: object) -> Response:
    actor = call.visitor.actor(call.client.address)
    try:
        export = jobs.find(actor, whole_number(call.given("id")))
    except NotFound:
        return _not_found(call)
    return _file(export) or _not_found(call)


def _file(export: Export) -> Response | None:
    """Return the file of an export; the right to read it has been checked."""
    path = jobs.file_of(export)
    if path is None or export.state is not ExportState.DONE:
        return None
    day = export.created_at.astimezone(formats.time_zone(export.options.zone)).date()
    extension = export.options.file_format
    name = f"credit-history-{export.account_id}-{day.isoformat()}.{extension}"
    media_type = MEDIA_TYPES[extension]
    return FileResponse(path, filename=name, media_type=media_type, headers=DOWNLOAD_HEADERS)


# ── The requested options ─────────────────────────────────────────────────────────────────────────
def _options(call: Call) -> ExportOptions:
    """Return the options of the page's form; raise InvalidInput for any that no page offers."""
    try:
        options = ExportOptions.from_json(json.loads(call.given("options")))
    except (ValueError, RecursionError) as error:
        raise InvalidInput("export", "not_valid") from error
    language = options.language if options.language in available_languages() else current_language()
    use(language)
    zone = str(formats.time_zone(options.zone))
    return replace(options, file_format=call.given("format"), zone=zone, language=language)


# ── Answers ────────────────────────────────────────────────────────────────────────────────────
def _page(call: Call, export: Export) -> str:
    """Return the query of the page that the form stood on, with the export to watch."""
    query = [pair for pair in parse_qsl(call.given("page")) if pair[0] != "export"]
    return urlencode([*query, ("export", str(export.job_id))])


def _not_found(call: Call) -> Response:
    text = _("File not found, or no longer available. Export it again.")
    return message(call, _("Not found"), text, status=404)


def _misunderstood(call: Call) -> Response:
    text = _("The page is out of date. Load it again, then download the file.")
    return message(call, _("Something went wrong"), text, status=422)


def _busy(call: Call) -> Response:
    text = _("Other exports are running. Try again in a minute.")
    response = message(call, _("Temporarily busy"), text, status=503)
    response.headers["Retry-After"] = str(_RETRY_SECONDS)
    return response
