"""The access review: who has which role on what, what it lets them do, who did, and the flags."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import streamlit as st

from domain import clock
from domain.formulas import CsvWriter
from domain.identity.queries import emails_of
from domain.permissions import PERMISSIONS, STAFF_LETTERS
from domain.staff import (
    REVIEWED,
    StaffMember,
    list_access_flags,
    list_account_roles,
    list_activity,
    list_staff,
    record_review,
)
from portal.exports.spreadsheets import Column, SmallWorkbook
from portal.runtime import database
from portal.ui.download_link import download_links
from portal.ui.i18n import _
from portal.ui.labels.audit import action_words
from portal.ui.labels.roles import role_name, staff_role_name
from portal.ui.labels.staff import (
    approver_words,
    factor_words,
    flag_words,
    role_or_none,
    role_words,
    state_words,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.staff import AccessFlag, AccountRole, ActivitySummary
    from portal.shell.page_context import PageContext

_WIDTH = 26
_Cell: TypeAlias = str | int | datetime | None


def draw(context: PageContext) -> None:
    """Draw the flags and the links; a file is made when its link is followed, and audited."""
    st.subheader(_("Access review"))
    flags = database.read_snapshot(list_access_flags, actor=context.visitor.actor)
    if flags:
        table = pa.table(
            {
                _("Email"): [each.email for each in flags],
                _("Role"): [role_or_none(each.role) for each in flags],
                _("Flag"): [flag_words(each) for each in flags],
                _("Last action"): [
                    context.date_time(each.last_at) if each.last_at else "" for each in flags
                ],
            }
        )
        st.dataframe(table, hide_index=True, height="content", key="access_flags")
    else:
        st.caption(_("No flags."))
    download_links(
        {
            _("Download access review"): "/files/access-review.xlsx",
            _("Roles only (CSV)"): "/files/access-review.csv",
        },
        {},
    )
    text = _(
        "Roles and permissions, their dates and approvers, and actions in the last {days} days."
    )
    st.caption(text.format(days=REVIEWED.days))


@dataclass(frozen=True, slots=True)
class Review:
    """All that a review tells, of the moment `made_at`.

    `givers` are the addresses of who gave roles, by how facts name people.
    """

    made_at: datetime
    staff: tuple[StaffMember, ...]
    places: tuple[AccountRole, ...]
    deeds: tuple[ActivitySummary, ...]
    flags: tuple[AccessFlag, ...]
    givers: dict[str, str]


def _read(session: Session, *, actor: Actor) -> Review:
    staff = list_staff(session, actor=actor)
    places = list_account_roles(session, actor=actor)
    givers = {who for each in staff for who in (each.given_by, each.approved_by)}
    givers |= {each.given_by for each in places}
    return Review(
        clock.now(session),
        staff,
        places,
        list_activity(session, actor=actor),
        list_access_flags(session, actor=actor),
        emails_of(session, actor=actor, actors=givers),
    )


def make(actor: Actor, write: Callable[[Review], bytes]) -> bytes:
    """Return a file of who may do what now. Raises NotAuthorised."""
    database.transaction(record_review, actor=actor)
    return write(database.read_snapshot(_read, actor=actor))


def _role_titles() -> list[str]:
    return [
        _("Name"),
        _("Email"),
        _("Role"),
        _("On"),
        _("State"),
        _("Two-factor"),
        _("Last sign-in (UTC)"),
        _("Assigned by"),
        _("Assigned (UTC)"),
        _("Approved by"),
        _("Flags"),
    ]


def _roles(found: Review) -> Iterator[tuple[_Cell, ...]]:
    """Yield each role that somebody here holds, of staff and on accounts, and who has flags."""
    people = {each.user_id: each for each in found.staff}
    for each in found.staff:
        yield _role(found, each, role_words(each), _("all accounts"), each)
    for place in found.places:
        account = f"{place.account_name} · {place.account_id}"
        yield _role(found, people[place.user_id], role_name(place.role), account, place)
    for user_id, email in {each.user_id: each.email for each in found.flags}.items():
        if user_id not in people:
            yield ("", email, role_or_none(None), *[None] * 7, _flags(found, user_id))


def _role(
    found: Review, person: StaffMember, role: str, on: str, given: StaffMember | AccountRole
) -> tuple[_Cell, ...]:
    approved_by = given.approved_by if isinstance(given, StaffMember) else None

    def name(actor: str | None) -> str:
        return found.givers.get(actor or "", actor or "")

    return (
        person.display_name,
        person.email,
        role,
        on,
        state_words(person),
        factor_words(person),
        person.signed_in_at,
        name(given.given_by),
        given.given_at,
        approver_words(approved_by, name),
        _flags(found, person.user_id),
    )


def _flags(found: Review, user_id: int) -> str:
    return "; ".join(flag_words(each) for each in found.flags if each.user_id == user_id)


def roles_csv(found: Review) -> bytes:
    """Return each role that somebody holds as a line: RFC 4180, with the mark that Excel needs."""
    written = io.StringIO()
    writer = CsvWriter(written)
    writer.writerow(_role_titles())
    writer.writerows(map(_as_text, _roles(found)))
    return written.getvalue().encode("utf-8-sig")


def _as_text(row: Sequence[_Cell]) -> list[str]:
    return [
        each.isoformat() if isinstance(each, datetime) else "" if each is None else str(each)
        for each in row
    ]


def workbook(found: Review) -> bytes:
    """Return the workbook: roles, what those of staff may do, what people did, and the flags."""
    book = SmallWorkbook()
    people = {each.user_id: each for each in found.staff}
    _fill(book, found, _("Roles"), _role_titles(), _roles(found))
    _fill(
        book,
        found,
        _("People with permission"),
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
        book,
        found,
        _("Permissions used"),
        [_("Email"), _("Action"), _("Count"), _("Last (UTC)")],
        (
            (people[each.user_id].email, action_words(each.action), each.times, each.last_at)
            for each in found.deeds
            if each.user_id in people
        ),
    )
    _fill(
        book,
        found,
        _("Flags"),
        [_("Email"), _("Role"), _("Flag"), _("Last (UTC)")],
        (
            (each.email, role_or_none(each.role), flag_words(each), each.last_at)
            for each in found.flags
        ),
    )
    return book.content()


def _fill(
    book: SmallWorkbook,
    found: Review,
    name: str,
    titles: Sequence[str],
    rows: Iterable[Sequence[_Cell]],
) -> None:
    """Add a sheet: of what and when it is, then the table."""
    book.add_table(
        name,
        caption=_("Access review: {sheet}").format(sheet=name),
        heading=[[_("Created on (UTC)"), found.made_at], [_("All times are in UTC.")]],
        columns=[Column(title, _WIDTH) for title in titles],
        rows=rows,
    )
