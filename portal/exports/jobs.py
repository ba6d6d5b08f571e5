"""Starts the processes that write exports, and locates their files."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from domain import clock
from domain.actors import system_actor
from domain.history import export_jobs
from domain.history.export_jobs import Export, ExportOptions, ExportState
from domain.jobs import Job
from portal.exports import worker
from portal.runtime import database
from portal.runtime.installation import ROOT
from portal.runtime.settings import settings

if TYPE_CHECKING:
    from pathlib import Path

    from domain.actors import Actor

_SYSTEM = system_actor("export")
_SIGN_OF_LIFE_SECONDS = 20
_KEPT_VARIABLES = frozenset(
    ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT", "TEMP", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
)
_DATABASE_VARIABLES = ("PGSSL", "PGPASSFILE")

_log = logging.getLogger(__name__)


def folder() -> Path:
    """Return the private folder of the files, beside the portal's own database."""
    made = settings().data_directory / "exports"
    made.mkdir(mode=0o700, parents=True, exist_ok=True)
    return made


def start(actor: Actor, options: ExportOptions) -> tuple[int, threading.Thread]:
    """Have a process write the file; return the job's id, and the thread that waits for it.

    In a zone that the database does not know, such as a zone of this machine only, the dates are
    UTC's. Raises NotFound, InvalidInput and ExportsBusy as `begin_export` does.
    """
    if not database.read_one(clock.knows_zone, zone=options.zone):
        options = replace(options, zone="UTC")
    job_id = database.transaction(export_jobs.begin_export, actor=actor, options=options)
    path = folder() / f"{job_id}.{options.file_format}"
    message = worker.describe(actor, options, job_id, path)
    # A thread ends with its process; that loses the export, and its row shows so.
    waiting = threading.Thread(
        target=_work,
        args=(job_id, json.dumps(message), path),
        name=f"export-{job_id}",
        daemon=True,
    )
    waiting.start()
    return job_id, waiting


def find(actor: Actor, job_id: int) -> Export:
    """Return an export of the actor's own. Raises NotFound."""
    return database.read_snapshot(export_jobs.find_export, actor=actor, job_id=job_id)


def file_of(export: Export) -> Path | None:
    """Return the file of an export that is done, or None where it is not there any more."""
    path = folder() / export.file_name
    return path if export.state is ExportState.DONE and path.is_file() else None


def remove_forgotten() -> int:
    """Delete the files of this process's folder that are no longer kept; return how many."""
    found = [path for path in folder().iterdir() if path.is_file()]
    kept = database.read_snapshot(export_jobs.kept_exports, actor=_SYSTEM)
    gone = [path for path in found if path.stem not in {str(job_id) for job_id in kept}]
    return sum(_delete(path) for path in gone)


def _delete(path: Path) -> bool:
    """Delete a file; return whether it is gone: a file that cannot be deleted fails no export."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        _log.warning("a file of exports cannot be deleted", exc_info=True)
        return False
    return True


def job() -> Job:
    """Return the job that removes expired exports, and deletes their files."""

    def forget(_stop: threading.Event) -> str:
        forgotten = database.transaction(export_jobs.forget_exports, actor=_SYSTEM)
        return f"{forgotten} forgotten, {remove_forgotten()} files deleted"

    return Job("forget_exports", timedelta(hours=1), forget)


def _work(job_id: int, message: str, path: Path) -> None:
    """Run the worker; however it ends, the job's row does not stay "running" for long."""
    try:
        # Where several processes serve, each deletes the files in its own folder.
        remove_forgotten()
        process = subprocess.Popen(  # noqa: S603 - our own module, no untrusted argument
            _command(),
            env=environment(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        faults = _wait(process, job_id, message)
        if process.returncode:
            _log.error("export %d failed: %s", job_id, faults)
    finally:
        # First, so that a caller who sees the end of the job finds everything finished.
        _delete(worker.unfinished(path))
        database.transaction(
            export_jobs.finish_export, actor=_SYSTEM, job_id=job_id, state=ExportState.FAILED
        )


def _wait(process: subprocess.Popen[str], job_id: int, message: str) -> str:
    """Wait for the worker and keep its job alive: counting the rows may take long."""
    given: str | None = message
    try:
        while True:
            try:
                return process.communicate(given, timeout=_SIGN_OF_LIFE_SECONDS)[1]
            except subprocess.TimeoutExpired:
                given = None
                worker.note_progress(job_id)
    finally:
        process.kill()
        process.wait()


def _command() -> list[str]:
    return [sys.executable, "-m", worker.__name__]


def environment() -> dict[str, str]:
    """Return the worker's environment: the database, and none of the portal's secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith(_DATABASE_VARIABLES)
    }
    url = database.engine().url.render_as_string(hide_password=False)
    return {**kept, "DATABASE_URL": url, "PYTHONUTF8": "1"}
