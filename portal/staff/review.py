"""The access review: who has which role on what, what it lets them do, who did, and the flags."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from domain.formulas import CsvWriter
from domain.permissions import PERMISSIONS, STAFF_LETTERS
from domain.queries.people import names_of
from domain.staff import (
    REVIEWED,
    StaffMember,
    list_access_flags,
    list_deeds,
    list_places,
    list_staff,
    record_review,
)
from portal import backend
from portal.i18n import _
from portal.roles import role_name, staff_role_name
from portal.spreadsheets import SmallWorkbook, write_cell
from portal.staff.words import factor_words, flag_words, role_or_none, role_words, state_words
from portal.ui.download_link import download_links

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from openpyxl.worksheet.worksheet import Worksheet
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.staff import AccessFlag, Deed, Place
    from portal.viewing import Viewing

_WIDTH = 26


def draw(here: Viewing) -> None:
    """Draw the flags and the links; a file is made when its link is followed, and audited."""
    st.subheader(_("Access review"))
    flags = backend.read(list_access_flags, actor=here.visitor.actor)
    if flags:
        table = pa.table(
            {
                _("Email"): [each.email for each in flags],
                _("Role"): [role_or_none(each.role) for each in flags],
                _("Flag"): [flag_words(each) for each in flags],
                _("Last"): [here.date_time(each.last_at) if each.last_at else "" for each in flags],
            }
        )
        st.dataframe(table, hide_index=True, height="content", key="access_flags")
    else:
        st.caption(_("No flags."))
    download_links(
        {
            _("Download the access review"): "/files/access-review.xlsx",
            _("The roles alone, as CSV"): "/files/access-review.csv",
        },
        {},
    )
    text = _("Who may do what, since when and by whom, and what they did in {days} days.")
    st.caption(text.format(days=REVIEWED.days))


@dataclass(frozen=True, slots=True)
class Review:
    """All that a review tells, of one moment; `names` are of who gave roles."""

    staff: tuple[StaffMember, ...]
    places: tuple[Place, ...]
    deeds: tuple[Deed, ...]
    flags: tuple[AccessFlag, ...]
    names: dict[str, str]


def _read(session: Session, *, actor: Actor) -> Review:
    staff = list_staff(session, actor=actor)
    places = list_places(session, actor=actor)
    givers = {who for each in staff for who in (each.given_by, each.approved_by)}
    givers |= {each.given_by for each in places}
    return Review(
        staff,
        places,
        list_deeds(session, actor=actor),
        list_access_flags(session, actor=actor),
        names_of(session, actor=actor, actors=givers),
    )


def make(actor: Actor, write: Callable[[Review], bytes]) -> bytes:
    """Return a file of who may do what now. Raises NotAuthorised."""
    backend.write(record_review, actor=actor)
    return write(backend.read(_read, actor=actor))


def _role_titles() -> list[str]:
    return [
        _("Name"),
        _("Email"),
        _("Role"),
        _("On"),
        _("State"),
        _("Two-factor"),
        _("Last sign-in (UTC)"),
        _("Given by"),
        _("Given (UTC)"),
        _("Approved by"),
        _("Flags"),
    ]


def _roles(found: Review) -> Iterator[tuple[str, ...]]:
    """Yield each role that somebody here holds, of staff and on accounts, and who has flags."""
    people = {each.user_id: each for each in found.staff}
    for each in found.staff:
        yield _role(found, each, role_words(each), _("everything"), each)
    for place in found.places:
        account = f"{place.account_name} · {place.account_id}"
        yield _role(found, people[place.user_id], role_name(place.role), account, place)
    for user_id, email in {each.user_id: each.email for each in found.flags}.items():
        if user_id not in people:
            yield ("", email, role_or_none(None), *[""] * 7, _flags(found, user_id))


def _role(
    found: Review, person: StaffMember, role: str, on: str, given: StaffMember | Place
) -> tuple[str, ...]:
    approved_by = given.approved_by if isinstance(given, StaffMember) else None
    return (
        person.display_name,
        person.email,
        role,
        on,
        state_words(person),
        factor_words(person),
        person.signed_in_at.isoformat() if person.signed_in_at else "",
        found.names.get(given.given_by or "", given.given_by or ""),
        given.given_at.isoformat() if given.given_at else "",
        found.names.get(approved_by or "", approved_by or ""),
        _flags(found, person.user_id),
    )


def _flags(found: Review, user_id: int) -> str:
    return "; ".join(flag_words(each) for each in found.flags if each.user_id == user_id)


def roles_csv(found: Review) -> bytes:
    """Return each role that somebody holds as a line: RFC 4180, with the mark that Excel needs."""
    written = io.StringIO()
    writer = CsvWriter(written)
    writer.writerow(_role_titles())
    writer.writerows(_roles(found))
    return written.getvalue().encode("utf-8-sig")


def workbook(found: Review) -> bytes:
    """Return the workbook: roles, what those of staff may do, what people did, and the flags."""
    book = SmallWorkbook()
    people = {each.user_id: each for each in found.staff}
    _fill(book.add_sheet(_("Roles")), _role_titles(), _roles(found))
    _fill(
        book.add_sheet(_("Who may")),
        [_("Email"), _("Role"), _("Action")],
        (
            (each.email, staff_role_name(each.role), permission.meaning)
            for each in found.staff
            if each.role is not None and not each.is_disabled
            for area in PERMISSIONS.values()
            for permission in area.values()
            if STAFF_LETTERS[each.role] in permission.letters
        ),
    )
    _fill(
        book.add_sheet(_("Who did")),
        [_("Email"), _("Action"), _("Times"), _("Last")],
        (
            (people[each.user_id].email, each.action, each.times, each.last_at.isoformat())
            for each in found.deeds
            if each.user_id in people
        ),
    )
    _fill(
        book.add_sheet(_("Flags")),
        [_("Email"), _("Role"), _("Flag"), _("Last (UTC)")],
        (
            (
                each.email,
                role_or_none(each.role),
                flag_words(each),
                each.last_at.isoformat() if each.last_at else "",
            )
            for each in found.flags
        ),
    )
    return book.content()


def _fill(sheet: Worksheet, titles: Sequence[str], rows: Iterable[Sequence[str | int]]) -> None:
    for number, row in enumerate((titles, *rows), start=1):
        for column, value in enumerate(row, start=1):
            write_cell(sheet, number, column, value)
    for number, cell in enumerate(sheet[1], start=1):
        cell.font = Font(bold=True)
        sheet.column_dimensions[get_column_letter(number)].width = _WIDTH
    sheet.freeze_panes = "A2"
