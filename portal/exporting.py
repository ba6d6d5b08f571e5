"""Starts the processes that write exports, and knows where the files are."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from domain import exports
from domain.actors import system_actor
from domain.exports import Export, ExportState, ExportWish
from portal import backend, export_worker
from portal.settings import ROOT, settings

if TYPE_CHECKING:
    from pathlib import Path

    from domain.actors import Actor

_SYSTEM = system_actor("export")
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


def start(actor: Actor, wish: ExportWish) -> tuple[int, threading.Thread]:
    """Have a process write the file; return the job's id, and the thread that waits for it.

    Raises NotFound, InvalidInput and ExportsBusy as `begin_export` does.
    """
    job_id = backend.write(exports.begin_export, actor=actor, wish=wish)
    told = export_worker.describe(actor, wish, job_id, folder() / f"{job_id}.{wish.file_format}")
    # A thread ends with its process; that loses the export, and its row tells so.
    waiting = threading.Thread(target=_work, args=(job_id, json.dumps(told)), daemon=True)
    waiting.start()
    return job_id, waiting


def find(actor: Actor, job_id: int) -> Export:
    """Return an export of the actor's own. Raises NotFound."""
    return backend.read(exports.find_export, actor=actor, job_id=job_id)


def file_of(export: Export) -> Path | None:
    """Return the file of an export that is done, or None where it is not there any more."""
    path = folder() / export.file_name
    return path if export.state is ExportState.DONE and path.is_file() else None


def _work(job_id: int, told: str) -> None:
    """Run the worker; whatever ends it, the job's row does not say "running" for long."""
    try:
        done = subprocess.run(  # noqa: S603 - our own module, no word of it from outside
            [sys.executable, "-m", export_worker.__name__],
            input=told,
            env=_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            _log.error("export %d failed: %s", job_id, done.stderr)
    finally:
        backend.write(exports.finish_export, actor=_SYSTEM, job_id=job_id, state=ExportState.FAILED)


def _environment() -> dict[str, str]:
    """Return what the worker needs to know: the database, and none of the portal's secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith(_DATABASE_VARIABLES)
    }
    url = backend.engine().url.render_as_string(hide_password=False)
    return {**kept, "DATABASE_URL": url, "PYTHONUTF8": "1"}
