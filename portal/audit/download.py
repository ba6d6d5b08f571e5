"""The rows that match, as files; that somebody took them stands in the log itself."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from domain.queries.audit import LARGEST_FILE, audit_rows, record_export
from portal import backend, formats
from portal.i18n import _, current_language, using
from portal.spreadsheets import Column, safe_text, write_workbook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.queries.audit import AuditFilter, AuditRow
    from portal.viewing import Viewing

_EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def draw(here: Viewing, wanted: AuditFilter) -> None:
    """Draw the buttons; a file is made when its button is pressed."""
    language = current_language()
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, name, mime, make in (
            (_("Download as Excel"), "audit.xlsx", _EXCEL, _workbook),
            (_("Download as CSV"), "audit.csv", "text/csv", _csv),
        ):
            st.download_button(
                label,
                partial(_make, here.visitor.actor, wanted, make, language),
                file_name=name,
                mime=mime,
                on_click="ignore",
                icon=":material/download:",
                key=name,
            )
        st.caption(
            _("The newest {count} rows that match, with times in UTC.").format(
                count=formats.number(LARGEST_FILE)
            )
        )


def _make(
    actor: Actor,
    wanted: AuditFilter,
    make: Callable[[Iterator[tuple[str | int | None, ...]]], bytes],
    language: str,
) -> bytes:
    """Return the file; it is made in a thread that knows nothing of the page's language."""
    backend.write(record_export, actor=actor, wanted=wanted)

    def written(session: Session) -> bytes:
        return make(_cells(each) for each in audit_rows(session, actor=actor, wanted=wanted))

    with using(language):
        return backend.read(written)


def _titles() -> list[str]:
    return [
        _("Number"),
        _("When (UTC)"),
        _("Who"),
        _("From"),
        _("What"),
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
        safe_text(json.dumps(row.details, ensure_ascii=False)),
    )


def _csv(rows: Iterator[tuple[str | int | None, ...]]) -> bytes:
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(_titles())
    writer.writerows(rows)
    return written.getvalue().encode("utf-8-sig")


def _workbook(rows: Iterator[tuple[str | int | None, ...]]) -> bytes:
    widths = (10, 32, 16, 16, 24, 12, 80)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.xlsx"
        write_workbook(
            path,
            name=_("Audit"),
            columns=[Column(title, width) for title, width in zip(_titles(), widths, strict=True)],
            rows=rows,
            row_count=LARGEST_FILE,
            heading=[_("Audit log")],
        )
        return path.read_bytes()
