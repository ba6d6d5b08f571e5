"""Downloads for staff, generated on request with the current rights of the signed-in person.

They are not stored. Downloads of the audit log, of an access review and of codes are audited.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import Response

from domain.analytics.queries import analytics_choices
from domain.audit.queries import AuditFilter
from domain.errors import BillingError, InvalidInput
from domain.metering.queries import GRAINS
from domain.payments.bank_transfers import evidence_of
from domain.validation import check_text, whole_number
from portal.routes.forms import Form, form_route
from portal.routes.responses import DOWNLOAD_HEADERS, MEDIA_TYPES, message
from portal.runtime import database
from portal.ui.i18n import _
from portal.ui.labels import errors as error_labels
from portal.ui.period_picker import Days
from portal.views.analytics import download as analytics_file
from portal.views.analytics.filters import NO_COUNTRY, AnalyticsFilters
from portal.views.audit import download as audit_file
from portal.views.campaigns import codes as codes_file
from portal.views.staff import review as review_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.routing import BaseRoute

    from domain.actors import Actor
    from portal.routes.requests import Call, Reply

_REFUSED = {"not_found": 404, "not_authorised": 403}


@dataclass(frozen=True, slots=True)
class File:
    """A file's name, its media type, and its content."""

    name: str
    media_type: str
    content: bytes


def routes() -> list[BaseRoute]:
    """Return the routes of all files that are created on request."""
    return [
        form_route(path, Form(None, show=partial(_show, make), for_signed_in=True))
        for path, make in _MAKERS.items()
    ]


def _show(make: Callable[[Call, Actor], File], call: Call, _reply: Reply) -> Response:
    try:
        file = make(call, call.visitor.actor(call.client.address))
    except BillingError as error:
        status = _REFUSED.get(error.code, 422)
        return message(call, _("File not found"), error_labels.text_of(error), status=status)
    headers = {
        **DOWNLOAD_HEADERS,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name)}",
    }
    return Response(file.content, headers=headers, media_type=file.media_type)


# ── The content of each file ──────────────────────────────────────────────────────────────────────
def _audit(call: Call, actor: Actor, *, extension: str) -> File:
    filters = AuditFilter(
        who=_text(call, "who") or "people",
        action=_text(call, "what"),
        account_id=whole_number(call.given("of")),
        since=_moment(call, "since"),
        until=_moment(call, "until"),
    )
    write = audit_file.workbook if extension == "xlsx" else audit_file.csv_file
    content = audit_file.make(actor, filters, write)
    return File(f"audit.{extension}", MEDIA_TYPES[extension], content)


def _review(_call: Call, actor: Actor, *, extension: str) -> File:
    write = review_file.workbook if extension == "xlsx" else review_file.roles_csv
    content = review_file.make(actor, write)
    return File(f"access-review.{extension}", MEDIA_TYPES[extension], content)


def _codes(call: Call, actor: Actor, *, extension: str) -> File:
    batch_id = whole_number(call.given("batch"))
    write = codes_file.workbook if extension == "xlsx" else codes_file.csv_file
    content = codes_file.make(actor, batch_id, write)
    return File(f"codes-{batch_id}.{extension}", MEDIA_TYPES[extension], content)


def _evidence(call: Call, actor: Actor) -> File:
    number = whole_number(call.given("transfer"))
    media_type, content = database.read_snapshot(evidence_of, transfer_id=number, actor=actor)
    # A generated name: the uploaded one was chosen by the person who recorded the transfer.
    return File(f"evidence-{number}.{media_type.rpartition('/')[2]}", media_type, content)


def _analytics(call: Call, actor: Actor) -> File:
    choices = database.read_snapshot(analytics_choices, actor=actor)
    first, last = _day(call, "first"), _day(call, "last")
    if last < first:
        raise InvalidInput("last", "before_first")
    countries = [code or NO_COUNTRY for code in choices.countries]
    filters = AnalyticsFilters(
        Days(first, last, _one_of(call, "grain", GRAINS)),
        site=_one_of(call, "site", ["", *choices.sites]),
        country=_one_of(call, "country", ["", *countries]),
        currency=_one_of(call, "currency", ["", *choices.currencies]),
        service=_one_of(call, "service", ["", *choices.services]),
    )
    content = analytics_file.make(actor, filters, choices)
    return File(f"analytics-{first}-{last}.xlsx", MEDIA_TYPES["xlsx"], content)


_MAKERS: dict[str, Callable[[Call, Actor], File]] = {
    "/files/audit.xlsx": partial(_audit, extension="xlsx"),
    "/files/audit.csv": partial(_audit, extension="csv"),
    "/files/access-review.xlsx": partial(_review, extension="xlsx"),
    "/files/access-review.csv": partial(_review, extension="csv"),
    "/files/codes.xlsx": partial(_codes, extension="xlsx"),
    "/files/codes.csv": partial(_codes, extension="csv"),
    "/files/analytics.xlsx": _analytics,
    "/files/evidence": _evidence,
}


# ── The requested file ────────────────────────────────────────────────────────────────────────────
def _text(call: Call, name: str) -> str:
    text = call.given(name)
    check_text(**{name: text})
    return text


def _one_of(call: Call, name: str, options: Collection[str]) -> str:
    text = call.given(name)
    if text not in options:
        raise InvalidInput(name, "not_offered")
    return text


def _day(call: Call, name: str) -> date:
    try:
        return date.fromisoformat(call.given(name))
    except ValueError as error:
        raise InvalidInput(name, "not_a_date") from error


def _moment(call: Call, name: str) -> datetime | None:
    text = call.given(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(name, "not_a_date") from error
    if moment.tzinfo is None:
        raise InvalidInput(name, "not_a_date")
    return moment
