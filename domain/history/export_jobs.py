"""Exports of Credit History: the options of a file, and the jobs that write the files.

A file is written by a process of its own. Its job's row holds the progress; a job without an update
for a while is lost, and counts as failed. Files are kept for a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, text

from db.models import ExportJob
from domain import audit, clock
from domain.errors import ExportsBusy, InvalidInput, NotFound
from domain.history.rows import HistoryFilter, HistoryStatus
from domain.permissions import require

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

FORMATS = ("xlsx", "csv")
MAX_CONCURRENT = 2
"""As many files are written at once; a person has one of them at most."""
KEPT_FOR = timedelta(days=1)
LOST_AFTER = timedelta(minutes=2)
_MAX_ID = 2**63 - 1
_MAX_WORDS = 200

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('export_jobs', 0))")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of a file: which rows of which account, and in which format."""

    account_id: int
    filters: HistoryFilter
    file_format: str
    zone: str
    language: str

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON keeps them."""
        filters = self.filters
        return {
            "account_id": self.account_id,
            "file_format": self.file_format,
            "zone": self.zone,
            "language": self.language,
            "services": sorted(filters.services),
            "statuses": sorted(filters.statuses),
            "kinds": sorted(filters.kinds),
            "occurred_from": _written(filters.occurred_from),
            "occurred_before": _written(filters.occurred_before),
            "text": filters.text,
        }

    @classmethod
    def from_json(cls, kept: object) -> ExportOptions:
        """Return the options that `to_json` wrote; raise InvalidInput for anything else."""
        try:
            return cls._read(kept)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidInput("export", "not_valid") from error

    @classmethod
    def _read(cls, kept: Any) -> ExportOptions:  # noqa: ANN401 - JSON from wherever
        account_id = kept["account_id"]
        if type(account_id) is not int or not 0 < account_id <= _MAX_ID:
            raise ValueError(account_id)
        return cls(
            account_id=account_id,
            filters=HistoryFilter(
                services=_words(kept["services"]),
                statuses=frozenset(HistoryStatus(status) for status in _words(kept["statuses"])),
                kinds=_words(kept["kinds"]),
                occurred_from=_moment(kept["occurred_from"]),
                occurred_before=_moment(kept["occurred_before"]),
                text=_word(kept["text"]),
            ),
            file_format=_word(kept["file_format"]),
            zone=_word(kept["zone"]),
            language=_word(kept["language"]),
        )


class ExportState(StrEnum):
    """The state of a job."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Export:
    """A job: `rows_total` is None until the rows are counted."""

    job_id: int
    account_id: int
    options: ExportOptions
    state: ExportState
    rows_total: int | None
    rows_written: int
    created_at: datetime
    expires_at: datetime

    @property
    def file_name(self) -> str:
        """The name of the file in the folder of exports."""
        return f"{self.job_id}.{self.options.file_format}"


# ── The jobs ───────────────────────────────────────────────────────────────────────────────────
def begin_export(session: Session, *, actor: Actor, options: ExportOptions) -> int:
    """Take a place among the files that are written, and return the job's id.

    An export by staff is audited. Raises NotFound where the actor may not read the account,
    InvalidInput for a format that there is not, and ExportsBusy where no place is free.
    """
    require(actor, "see_account", options.account_id)
    if actor.user_id is None:
        raise NotFound("account")
    if options.file_format not in FORMATS:
        raise InvalidInput("format", "not_valid")
    session.execute(_ONE_AT_A_TIME)
    now = clock.now(session)
    running = session.scalars(
        select(ExportJob.user_id).where(
            ExportJob.state == ExportState.RUNNING, ExportJob.progress_at > now - LOST_AFTER
        )
    ).all()
    if len(running) >= MAX_CONCURRENT or actor.user_id in running:
        raise ExportsBusy
    job = ExportJob(
        user_id=actor.user_id,
        account_id=options.account_id,
        options=options.to_json(),
        created_at=now,
        progress_at=now,
        expires_at=now + KEPT_FOR,
    )
    session.add(job)
    session.flush()
    if actor.reads_as_staff(options.account_id):
        details = {"export": job.id, "format": options.file_format}
        audit.record(
            session,
            action="export_history",
            actor=actor,
            account_id=options.account_id,
            details=details,
        )
    return job.id


def find_export(session: Session, *, actor: Actor, job_id: int) -> Export:
    """Return a job of the actor's own. Raises NotFound for any other, and once it has expired.

    A person who may no longer read the account may no longer read its files either.
    """
    job = session.get(ExportJob, job_id)
    now = clock.now(session)
    if job is None or actor.user_id is None or job.user_id != actor.user_id:
        raise NotFound("export")
    if job.expires_at <= now:
        raise NotFound("export")
    require(actor, "see_account", job.account_id)
    state = ExportState(job.state)
    if state is ExportState.RUNNING and job.progress_at <= now - LOST_AFTER:
        state = ExportState.FAILED
    return Export(
        job_id=job.id,
        account_id=job.account_id,
        options=ExportOptions.from_json(job.options),
        state=state,
        rows_total=job.rows_total,
        rows_written=job.rows_written,
        created_at=job.created_at,
        expires_at=job.expires_at,
    )


def note_progress(
    session: Session, *, actor: Actor, job_id: int, progress: tuple[int, int] | None = None
) -> None:
    """Record the progress of the file: rows written, and rows in total.

    Raises NotAuthorised unless the actor is the system.
    """
    require(actor, "run_jobs")
    job = session.get(ExportJob, job_id, with_for_update=True)
    if job is None:
        return
    if progress is not None:
        job.rows_written, job.rows_total = progress
    job.progress_at = clock.now(session)


def finish_export(session: Session, *, actor: Actor, job_id: int, state: ExportState) -> None:
    """Record the outcome; a job that has ended already stays as it is. Raises NotAuthorised."""
    require(actor, "run_jobs")
    job = session.get(ExportJob, job_id, with_for_update=True)
    if job is not None and job.state == ExportState.RUNNING:
        job.state = state
        job.finished_at = clock.now(session)


def forget_exports(session: Session, *, actor: Actor) -> int:
    """Forget the jobs whose files are no longer kept, and return how many those were.

    Raises NotAuthorised unless the actor is the system.
    """
    require(actor, "run_jobs")
    gone = delete(ExportJob).where(ExportJob.expires_at <= clock.now(session))
    return len(session.scalars(gone.returning(ExportJob.id)).all())


def kept_exports(session: Session, *, actor: Actor) -> frozenset[int]:
    """Return the jobs whose files are kept. Raises NotAuthorised but for the system."""
    require(actor, "run_jobs")
    kept = select(ExportJob.id).where(ExportJob.expires_at > clock.now(session))
    return frozenset(session.scalars(kept))


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(kept: str | None) -> datetime | None:
    if kept is None:
        return None
    moment = datetime.fromisoformat(kept)
    if moment.tzinfo is None:
        raise ValueError(kept)
    return moment.astimezone(UTC)


def _words(kept: object) -> frozenset[str]:
    if not isinstance(kept, list) or len(kept) > _MAX_WORDS:
        raise TypeError(kept)
    return frozenset(_word(word) for word in kept)


def _word(kept: object) -> str:
    if not isinstance(kept, str) or "\0" in kept:
        raise TypeError(kept)
    kept.encode()  # JSON can hold half a character, which the database and files cannot
    return kept
