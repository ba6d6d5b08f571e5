"""Files that staff upload in a form, kept for a day until the form is sent.

A file arrives by a request of its own, before its form: the process that handles the form finds it
in the database. It is named by a random key of the page, and only its uploader can read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from db.models import Upload
from domain import audit, clock
from domain.errors import InvalidInput, NotAuthorised
from domain.permissions import require
from domain.validation import check_text

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session

    from domain.actors import Actor

EVIDENCE, CODES = "evidence", "codes"
PURPOSES = {EVIDENCE: "record_transfer", CODES: "make_codes"}
"""What a file may be for, and who may hand it in: an action of the table of permissions."""

MEBIBYTE = 1024 * 1024
MAX_BYTES = 8 * MEBIBYTE
MAX_OF_ONE_PERSON_BYTES = 5 * MAX_BYTES
KEPT_FOR = timedelta(days=1)

_MAX_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """An uploaded file: its name and its content are untrusted."""

    key: UUID
    name: str
    content: bytes


def keep_upload(
    session: Session, *, purpose: str, key: UUID, name: str, content: bytes, actor: Actor
) -> None:
    """Keep a file until its form is sent; the same key again replaces it.

    Raises InvalidInput("file"): "empty", "too_large", or "too_many" where the person's files
    together are too large; NotAuthorised, also where the key is another person's.
    """
    require_upload(actor, purpose)
    user_id = _person(actor)
    check_text(file=name)
    if not content:
        raise InvalidInput("file", "empty")
    if len(content) > MAX_BYTES:
        raise InvalidInput("file", "too_large", maximum=MAX_BYTES // MEBIBYTE)
    # Uploads of one person run one after the other: each counts those before it.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("uploads", user_id))))
    others = session.scalar(
        select(func.coalesce(func.sum(func.length(Upload.content)), 0)).where(
            Upload.user_id == user_id, Upload.key != key
        )
    )
    if (others or 0) + len(content) > MAX_OF_ONE_PERSON_BYTES:
        raise InvalidInput("file", "too_many")
    row = {
        "purpose": purpose,
        "name": name[-_MAX_NAME_LENGTH:],
        "content": content,
        "uploaded_at": clock.now(session),
    }
    kept = session.scalar(
        insert(Upload)
        .values(key=key, user_id=user_id, **row)
        .on_conflict_do_update(
            index_elements=[Upload.key], set_=row, where=Upload.user_id == user_id
        )
        .returning(Upload.user_id)
    )
    if kept is None:
        raise NotAuthorised
    details = {"purpose": purpose, "bytes": len(content)}
    audit.record(session, action="upload_file", actor=actor, details=details)


def find_upload(session: Session, *, purpose: str, key: UUID, actor: Actor) -> UploadedFile | None:
    """Return the file that the person handed in under this key, or None."""
    row = session.execute(
        select(Upload.name, Upload.content).where(_own(purpose, key, actor))
    ).one_or_none()
    return None if row is None else UploadedFile(key, row.name, bytes(row.content))


def name_of_upload(session: Session, *, purpose: str, key: UUID, actor: Actor) -> str | None:
    """Return the name of the file that the person handed in under this key, or None."""
    return session.scalar(select(Upload.name).where(_own(purpose, key, actor)))


def drop_upload(session: Session, *, key: UUID, actor: Actor) -> None:
    """Forget a file of the person's own: its form was sent. Again: no effect."""
    session.execute(delete(Upload).where(Upload.key == key, Upload.user_id == _person(actor)))


def purge_uploads(session: Session, *, actor: Actor) -> int:
    """Forget files whose form was not sent within a day; return how many."""
    require(actor, "run_jobs")
    forgotten = session.scalars(
        delete(Upload)
        .where(Upload.uploaded_at < clock.now(session) - KEPT_FOR)
        .returning(Upload.key)
    )
    return len(forgotten.all())


def require_upload(actor: Actor, purpose: str) -> None:
    """Check that the actor may upload files for this purpose. Raises NotAuthorised."""
    if purpose not in PURPOSES:
        raise NotAuthorised
    require(actor, PURPOSES[purpose])


def _own(purpose: str, key: UUID, actor: Actor) -> ColumnElement[bool]:
    """Return the condition for the person's own file under this key. Raises NotAuthorised."""
    require_upload(actor, purpose)
    return and_(Upload.key == key, Upload.user_id == _person(actor), Upload.purpose == purpose)


def _person(actor: Actor) -> int:
    if actor.user_id is None:
        raise NotAuthorised
    return actor.user_id
