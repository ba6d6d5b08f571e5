"""A process that writes one export, so that no page waits for it.

`python -m portal.exports.worker` reads its options as JSON from standard input, and DATABASE_URL
from its environment.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from domain import clock
from domain.actors import MemberRole, StaffRole, system_actor, user_actor
from domain.history import export_jobs
from domain.history.export_jobs import ExportOptions, ExportState
from portal.exports import files
from portal.runtime import database
from portal.ui import i18n

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.actors import Actor

_SYSTEM = system_actor("export")
_NICENESS = 10
_REPORT_SECONDS = 1

_log = logging.getLogger(__name__)


def describe(actor: Actor, options: ExportOptions, job_id: int, path: Path) -> dict[str, Any]:
    """Return the worker's options, in a form that JSON can carry."""
    return {
        "user_id": actor.user_id,
        "staff_role": actor.staff_role,
        "memberships": {str(account): role for account, role in actor.memberships.items()},
        "options": options.to_json(),
        "job_id": job_id,
        "path": str(path),
    }


def main() -> None:
    """Write the file; an error ends the process, which its parent sees."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    os.umask(0o077)
    message = json.load(sys.stdin)
    database.connect(os.environ["DATABASE_URL"], pool_size=1, statement_timeout_seconds=0)
    write(message)
    database.disconnect()


def write(message: dict[str, Any]) -> None:
    """Write the file that `describe` described, under a name of its own until it is whole."""
    options = ExportOptions.from_json(message["options"])
    i18n.use(options.language)
    actor = user_actor(
        message["user_id"],
        staff_role=StaffRole(message["staff_role"]) if message["staff_role"] else None,
        memberships={int(key): MemberRole(role) for key, role in message["memberships"].items()},
    )
    path = Path(message["path"])
    part = unfinished(path)
    database.read_snapshot(
        lambda session: files.write_export(
            session,
            part,
            actor=actor,
            options=options,
            made_at=clock.now(session),
            report=_reporter(message["job_id"]),
        )
    )
    part.replace(path)
    database.transaction(
        export_jobs.finish_export, actor=_SYSTEM, job_id=message["job_id"], state=ExportState.DONE
    )


def unfinished(path: Path) -> Path:
    """Return the name that a file has until it is whole."""
    return path.with_suffix(".part")


def note_progress(job_id: int, progress: tuple[int, int] | None = None) -> None:
    """Record in the job's row that the file is being written; ignore errors of the database."""
    try:
        database.transaction(
            export_jobs.note_progress, actor=_SYSTEM, job_id=job_id, progress=progress
        )
    except SQLAlchemyError:
        _log.warning("the progress of export %d cannot be noted", job_id, exc_info=True)


def _reporter(job_id: int) -> Callable[[int, int], None]:
    """Return a callback that records the progress in the job's row, once a second."""
    reported_at = monotonic()

    def report(done: int, count: int) -> None:
        nonlocal reported_at
        if monotonic() - reported_at >= _REPORT_SECONDS or done == count:
            reported_at = monotonic()
            note_progress(job_id, (done, count))

    return report


if __name__ == "__main__":
    main()
