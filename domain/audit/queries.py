"""The audit log as finance and administrators read it, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, select, text, tuple_

from db.models import AuditRecord, User
from domain import audit
from domain.actors import StaffRole
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor

PAGE_SIZE = 50
MAX_FILE_ROWS = 200_000
"""Rows of one file: what is more is asked for by shorter periods."""

_BATCH_SIZE = 2_000
_READERS = (StaffRole.FINANCE, StaffRole.ADMIN)
_BY_PEOPLE = text("actor LIKE 'user:%'")
_ACTIONS = text("""
SELECT DISTINCT action
FROM (SELECT action FROM audit_log WHERE actor LIKE 'user:%' ORDER BY recorded_at DESC LIMIT 2000)
     AS lately
ORDER BY action
""")


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """A filter of rows: `who` is people, system or all, or one person's address."""

    who: str = "people"
    action: str = ""
    account_id: int = 0
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An action in the audit log; `actor` is an identifier such as `user:12`."""

    number: int
    recorded_at: datetime
    actor: str
    address: str | None
    action: str
    account_id: int | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditCursor:
    """The last row of a page."""

    recorded_at: datetime
    number: int


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Rows, and the cursor of older ones (None: there are none)."""

    rows: tuple[AuditRow, ...]
    older: AuditCursor | None


def audit_page(
    session: Session,
    *,
    actor: Actor,
    filters: AuditFilter,
    older_than: AuditCursor | None = None,
    page_size: int = PAGE_SIZE,
) -> AuditPage:
    """Return the newest rows that the filter wants, or those older than a cursor.

    Raises NotAuthorised for all but finance and administrators.
    """
    require(actor, "see_audit")
    statement = _selected_filters(session, filters).limit(page_size + 1)
    if older_than is not None:
        place = tuple_(AuditRecord.recorded_at, AuditRecord.id)
        statement = statement.where(place < (older_than.recorded_at, older_than.number))
    rows = [_row(each) for each in session.scalars(statement)]
    shown = tuple(rows[:page_size])
    is_last = len(rows) <= page_size
    return AuditPage(
        shown, None if is_last else AuditCursor(shown[-1].recorded_at, shown[-1].number)
    )


def audit_rows(session: Session, *, actor: Actor, filters: AuditFilter) -> Iterator[AuditRow]:
    """Yield the newest `MAX_FILE_ROWS` rows that the filter wants, in bounded memory."""
    require(actor, "see_audit")
    options = {"stream_results": True, "yield_per": _BATCH_SIZE}
    statement = (
        _selected_filters(session, filters).limit(MAX_FILE_ROWS).execution_options(**options)
    )
    for each in session.scalars(statement):
        yield _row(each)


def record_export(session: Session, *, actor: Actor, filters: AuditFilter) -> None:
    """Record that a person exports rows of the audit log."""
    require(actor, "see_audit")
    details = {"who": filters.who, "what": filters.action, "account": filters.account_id}
    audit.record(session, action="export_audit", actor=actor, details=details)


def actions_of_people(session: Session, *, actor: Actor) -> tuple[str, ...]:
    """Return the recent actions of people, as options of a filter."""
    require(actor, "see_audit")
    return tuple(session.scalars(_ACTIONS))


def _selected_filters(session: Session, filters: AuditFilter) -> Select[AuditRecord]:
    statement = select(AuditRecord).order_by(AuditRecord.recorded_at.desc(), AuditRecord.id.desc())
    if filters.who == "people":
        statement = statement.where(_BY_PEOPLE)
    elif filters.who == "system":
        statement = statement.where(AuditRecord.actor.like("system:%"))
    elif filters.who != "all":
        person = session.scalars(
            select(User.id).where(User.email == filters.who.strip().lower())
        ).one_or_none()
        statement = statement.where(_BY_PEOPLE, AuditRecord.actor == f"user:{person or 0}")
    if filters.action:
        statement = statement.where(AuditRecord.action == filters.action)
    if filters.account_id:
        statement = statement.where(AuditRecord.account_id == filters.account_id)
    if filters.since is not None:
        statement = statement.where(AuditRecord.recorded_at >= filters.since)
    if filters.until is not None:
        statement = statement.where(AuditRecord.recorded_at < filters.until)
    return statement


def _row(each: AuditRecord) -> AuditRow:
    return AuditRow(
        number=each.id,
        recorded_at=each.recorded_at,
        actor=each.actor,
        address=each.address,
        action=each.action,
        account_id=each.account_id,
        details=each.details,
    )
