"""The rows that match, as files; that somebody took them stands in the log itself."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import streamlit as st

from domain.audit.queries import MAX_FILE_ROWS, audit_rows, record_export
from domain.formulas import CsvWriter
from portal.exports.spreadsheets import MAX_TEXT_LENGTH, Column, workbook_content
from portal.runtime import database
from portal.ui import formats
from portal.ui.download_link import download_links
from portal.ui.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.audit.queries import AuditFilter, AuditRow


def draw(filters: AuditFilter) -> None:
    """Draw the links; a file is made when its link is followed."""
    query = {
        "who": filters.who,
        "what": filters.action,
        "of": filters.account_id or None,
        "since": filters.since and filters.since.isoformat(),
        "until": filters.until and filters.until.isoformat(),
    }
    download_links(
        {_("Download as Excel"): "/files/audit.xlsx", _("Download as CSV"): "/files/audit.csv"},
        query,
    )
    text = _("Newest {count} matching rows, times in UTC.")
    st.caption(text.format(count=formats.number(MAX_FILE_ROWS)))


def make(
    actor: Actor,
    filters: AuditFilter,
    write: Callable[[Iterator[tuple[str | int | None, ...]]], bytes],
) -> bytes:
    """Return a file of the rows that are wanted. Raises NotAuthorised."""
    database.transaction(record_export, actor=actor, filters=filters)

    def written(session: Session) -> bytes:
        return write(_cells(each) for each in audit_rows(session, actor=actor, filters=filters))

    return database.read_snapshot(written)


def _titles() -> list[str]:
    return [
        _("Number"),
        _("Time (UTC)"),
        _("User"),
        _("From"),
        _("Action"),
        _("Account"),
        _("Details"),
    ]


def _cells(row: AuditRow) -> tuple[str | int | None, ...]:
    return (
        row.number,
        row.recorded_at.isoformat(),
        row.actor,
        row.address or "",
        row.action,
        row.account_id,
        json.dumps(row.details, ensure_ascii=False)[:MAX_TEXT_LENGTH],
    )


def csv_file(rows: Iterator[tuple[str | int | None, ...]]) -> bytes:
    """Return rows as CSV: RFC 4180, with the mark that Excel needs."""
    written = io.StringIO()
    writer = CsvWriter(written)
    writer.writerow(_titles())
    writer.writerows(rows)
    return written.getvalue().encode("utf-8-sig")


def workbook(rows: Iterator[tuple[str | int | None, ...]]) -> bytes:
    """Return rows as a workbook."""
    widths = (10, 32, 16, 16, 24, 12, 80)
    return workbook_content(
        name=_("Audit"),
        columns=[Column(title, width) for title, width in zip(_titles(), widths, strict=True)],
        rows=rows,
        row_count=MAX_FILE_ROWS,
        heading=[_("Audit log")],
    )
