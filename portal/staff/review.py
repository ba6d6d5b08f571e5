"""The access review as an Excel file: who may do what, and who did."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st
from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from domain.permissions import PERMISSIONS, STAFF_LETTERS
from domain.staff import REVIEWED, list_deeds, list_staff, record_review
from portal import backend
from portal.i18n import _, current_language, using
from portal.people import naming
from portal.roles import staff_role_name
from portal.spreadsheets import safe_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from openpyxl.worksheet.worksheet import Worksheet

    from domain.staff import Deed, StaffMember
    from portal.viewing import Viewing

_MIME = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_WIDTH = 26


def draw(here: Viewing) -> None:
    """Draw the button; the file is made when it is pressed, and that stands in the audit log."""
    st.download_button(
        _("Download the access review"),
        partial(_make, here, current_language()),
        file_name="access-review.xlsx",
        mime=_MIME,
        on_click="ignore",
        icon=":material/download:",
        key="access_review",
    )
    text = _("Who may do what, since when and by whom, and what they did in {days} days.")
    st.caption(text.format(days=REVIEWED.days))


def _make(here: Viewing, language: str) -> bytes:
    """Return the file; it is made in a thread that knows nothing of the page's language."""
    actor = here.visitor.actor
    backend.write(record_review, actor=actor)
    staff = backend.read(list_staff, actor=actor)
    deeds = backend.read(list_deeds, actor=actor)
    with using(language):
        return workbook(here, staff, deeds)


def workbook(here: Viewing, staff: Sequence[StaffMember], deeds: Sequence[Deed]) -> bytes:
    """Return the workbook: people, what their roles may do, and what they did. Times are UTC."""
    book = Workbook()
    book.remove(book.worksheets[0])
    people = {each.user_id: each for each in staff}
    name = naming(here, {each.given_by for each in staff})
    _fill(
        book.create_sheet(_("People")),
        [_("Name"), _("Email"), _("Role"), _("State"), _("Last seen"), _("Given by"), _("Given")],
        (
            (
                each.display_name,
                each.email,
                staff_role_name(each.role),
                _("Disabled") if each.is_disabled else _("Active"),
                each.last_seen_at.isoformat() if each.last_seen_at else "",
                name(each.given_by),
                each.given_at.isoformat() if each.given_at else "",
            )
            for each in staff
        ),
    )
    _fill(
        book.create_sheet(_("Who may")),
        [_("Email"), _("Role"), _("Action")],
        (
            (each.email, staff_role_name(each.role), permission.meaning)
            for each in staff
            if not each.is_disabled
            for area in PERMISSIONS.values()
            for permission in area.values()
            if STAFF_LETTERS[each.role] in permission.letters
        ),
    )
    _fill(
        book.create_sheet(_("Who did")),
        [_("Email"), _("Action"), _("Times"), _("Last")],
        (
            (people[each.user_id].email, each.action, each.times, each.last_at.isoformat())
            for each in deeds
            if each.user_id in people
        ),
    )
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _fill(sheet: Worksheet, titles: Sequence[str], rows: Iterable[Sequence[str | int]]) -> None:
    sheet.append(list(titles))
    for row in rows:
        sheet.append([safe_text(each) if isinstance(each, str) else each for each in row])
    for number, cell in enumerate(sheet[1], start=1):
        cell.font = Font(bold=True)
        sheet.column_dimensions[get_column_letter(number)].width = _WIDTH
    sheet.freeze_panes = "A2"
