"""The server's processes: how they are started, watched and stopped."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg2

from db.embedded.data_directory import SUPERUSER, Place, bare_environment, identity
from db.embedded.folders import EmbeddedPostgresError, failure, open_private, read_path
from db.embedded.locks import Progress, is_locked, try_lock
from db.embedded.programs import binaries_for
from db.embedded.sockets import (
    SOCKET_NAME,
    clear_socket_folder,
    remove_socket_folder,
    socket_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg2.extensions import connection as Connection  # noqa: N812 - a class


_logger = logging.getLogger(__name__)
_DEFAULTS = {
    "shared_buffers": "256MB",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The log records starts, stops and recovery. A failed statement is reported to the program that
    # sent it; repeated in this log it would leak customers' data and fill the disk.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
    "log_startup_progress_interval": "2s",
    # Containers that promise huge pages and have none kill a server that uses them.
    "huge_pages": "off",
}
_SHARED_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - looked at, never written
_SHARED_MEMORY_BYTES = 256 * 1024**2
_LOG_BYTES = 4 * 1024**2
_LOG_TAIL_BYTES = 4096
_ORPHAN_GRACE_SECONDS = 5.0
"""How long what is left of a killed server may finish before it is killed as well."""
_START_ATTEMPTS = 3
_STOP_SECONDS = 60.0
"""How long a server may take to stop before it is stopped without a last checkpoint."""


started: list[subprocess.Popen[bytes]] = []
"""Servers that this process started, kept to collect their exit codes."""


def _answers(place: Place) -> bool:
    """Return whether the server takes connections.

    Raises:
        EmbeddedPostgresError: it does, and refuses our password.
    """
    # Else each question would leave a line in the log, where the progress of recovery is read.
    if not (_has_socket(place) and _is_ready(place)):
        return False
    try:
        connect(place).close()
    except psycopg2.OperationalError as error:
        if "password authentication failed" in str(error):
            raise EmbeddedPostgresError(
                f"The database in {place.asked} does not know the password in"
                f" {place.base / f'password-{SUPERUSER}'}: restore the right file from a backup."
            ) from error
        return False
    return True


def _has_socket(place: Place) -> bool:
    folder = read_path(place.socket_record)
    return folder is not None and (folder / SOCKET_NAME).exists()


def _processes(place: Place) -> list[psutil.Process]:
    """Return the living processes that run PostgreSQL in this place's data directory."""
    return [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "postgres" and _runs_in(process, place.cluster)
    ]


def _runs_in(process: psutil.Process, cluster: Path) -> bool:
    try:
        return process.name() == "postgres" and cluster.samefile(process.cwd())
    except (psutil.Error, OSError):
        return False


def _collect_exit_codes() -> None:
    # One by one: another thread may add a server meanwhile, which must not be lost.
    for child in tuple(started):
        if child.poll() is not None:
            with suppress(ValueError):  # another thread was quicker
                started.remove(child)


def _postmaster(place: Place) -> psutil.Process | None:
    """Return the living first process of the server; never a stranger that has its number."""
    try:
        process = psutil.Process(abs(int(_postmaster_file(place)[0])))
    except (psutil.Error, ValueError, IndexError):
        return None
    return process if _runs_in(process, place.cluster) else None


def _postmaster_file(place: Place) -> list[str]:
    try:
        return (place.cluster / "postmaster.pid").read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []


def _is_ready(place: Place) -> bool:
    lines = _postmaster_file(place)
    return bool(lines) and lines[-1].strip() == "ready"


def is_well(place: Place) -> bool:
    """Whether the server runs and answers at its socket."""
    _collect_exit_codes()
    return is_locked(place.server_lock) and _postmaster(place) is not None and _has_socket(place)


class _Remains:
    """Processes without a server: its orphans, or, in another container, out of our sight."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._since: Progress | None = None

    def none(self) -> None:
        """Begin anew: there is a server."""
        self._since = None

    def found(self, orphans: Sequence[psutil.Process]) -> None:
        """End processes whose time is over.

        Raises:
            EmbeddedPostgresError: the server's lock is held, and not by a process we can see.
        """
        if self._since is None:
            self._since = Progress(_logger.info)
        if self._since.seconds < _ORPHAN_GRACE_SECONDS:
            return
        # What they have not committed is lost in any case; what they have is in the write-ahead
        # log.
        for orphan in orphans:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()
        if not orphans:
            raise EmbeddedPostgresError(
                f"The database in {self._place.asked} is in use where this process cannot see it,"
                " probably in another container. Stop it there, or use another DATA_DIR. Or set"
                " DATABASE_URL."
            )


def ensure_running(
    place: Place, settings: Mapping[str, str], report: Callable[[str], None]
) -> None:
    """Join the server that runs, or start one; the caller has the startup lock."""
    trim_log(place)
    if not _settle(place, report):
        _start(place, settings, report)


def _settle(place: Place, report: Callable[[str], None]) -> bool:
    """Wait until a server answers (True), or none of its processes is left (False)."""
    progress, remains = Progress(report), _Remains(place)
    while not _answers(place):
        # In this order: what runs after the lock was free was not started by the portal.
        held = is_locked(place.server_lock)
        postmaster = _postmaster(place)
        if postmaster is None:
            orphans = _processes(place)
            if not held and not orphans:
                return False
            remains.found(orphans)
            progress.wait(lambda: "Waiting for a killed database server to exit")
            continue
        remains.none()
        if not held:
            raise EmbeddedPostgresError(
                f"A PostgreSQL that the portal did not start runs in {place.cluster} (process"
                f" {postmaster.pid}): stop it, or set DATABASE_URL to its address."
            )
        if _is_ready(place) and not _has_socket(place):
            # The temporary folder was cleaned up: no one can connect, so nothing is lost.
            with suppress(psutil.NoSuchProcess):
                postmaster.send_signal(signal.SIGINT)
        progress.wait(lambda: f"Waiting for the database: {_last_words(place)}")
    return True


def _start(place: Place, settings: Mapping[str, str], report: Callable[[str], None]) -> None:
    """Start a server where none of its processes lives, and wait until it answers.

    Raises:
        EmbeddedPostgresError: it ended instead.
    """
    for remaining_attempts in reversed(range(_START_ATTEMPTS)):
        log_bytes = place.log.stat().st_size if place.log.exists() else 0
        server = _launch(place, settings, report)
        if server is None:
            return
        output = _log_since(place, log_bytes)
        was_killed = server.returncode < 0 or "was terminated by signal" in output
        if not (was_killed and remaining_attempts):
            raise failure("The built-in database has not started.", output, place.base)
        report("The database was killed while starting; restarting it")
        if _settle(place, report):
            return


def _launch(
    place: Place, settings: Mapping[str, str], report: Callable[[str], None]
) -> subprocess.Popen[bytes] | None:
    """Start a server and return None when it answers, or the process that has ended instead."""
    # It names a process that has ended, or an unrelated one with the same number.
    (place.cluster / "postmaster.pid").unlink(missing_ok=True)
    folder = socket_folder(place)
    clear_socket_folder(folder)
    progress = Progress(report)
    server = _spawn(place, _command(place, folder, settings), progress)
    started.append(server)
    while not _answers(place):
        if server.poll() is not None:
            return server
        progress.wait(lambda: f"Starting the database: {_last_words(place)}")
    return None


def _spawn(
    place: Place, command: Sequence[str | Path], progress: Progress
) -> subprocess.Popen[bytes]:
    """Start `command` with the server's lock, held until the last of its processes ends."""
    lock = open_private(place.server_lock)
    log = open_private(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    user, group, extra_groups = identity(place.account)
    try:
        # Free but for the instants in which others look whether it is.
        while not try_lock(lock):
            progress.wait(lambda: "Waiting for the lock of the database")
        return subprocess.Popen(  # noqa: S603 - our own program, no shell, no input of strangers
            command,
            cwd="/",
            env=bare_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            # Ctrl-C in the terminal is for the portal, which then stops the server in good order.
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=extra_groups,
        )
    finally:
        os.close(lock)
        os.close(log)


def _command(place: Place, sockets: Path, settings: Mapping[str, str]) -> list[str | Path]:
    quoted = str(sockets).replace('"', '""')
    chosen = {
        **_DEFAULTS,
        "dynamic_shared_memory_type": _shared_memory_type(),
        **settings,
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": f'"{quoted}"',
        "unix_socket_permissions": "0700",
    }
    arguments = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
    return [
        binaries_for(place.account, place.made_by) / "postgres",
        "-D",
        place.cluster,
        *arguments,
    ]


def _shared_memory_type() -> str:
    """Return where parallel queries share memory: containers often have 64 MB of /dev/shm."""
    if sys.platform != "linux":
        return "posix"
    try:
        found = os.statvfs(_SHARED_MEMORY_FOLDER)
        open_to_all = _SHARED_MEMORY_FOLDER.stat().st_mode & 0o003 == 0o003  # noqa: PLR2004 - a mode
    except OSError:
        return "mmap"
    roomy = found.f_bavail * found.f_frsize >= _SHARED_MEMORY_BYTES
    return "posix" if roomy and open_to_all else "mmap"


def shut_down(place: Place, report: Callable[[str], None]) -> bool:
    """Stop the server in good order; False where none ran. The caller has the startup lock."""
    progress, remains = Progress(report), _Remains(place)
    asked_to_stop: set[tuple[int, signal.Signals]] = set()
    was_running = False
    while is_locked(place.server_lock):
        was_running = True
        postmaster = _postmaster(place)
        if postmaster is None:
            remains.found(_processes(place))
        else:
            how = signal.SIGINT if progress.seconds < _STOP_SECONDS else signal.SIGQUIT
            if (postmaster.pid, how) not in asked_to_stop:
                asked_to_stop.add((postmaster.pid, how))
                with suppress(psutil.NoSuchProcess):
                    postmaster.send_signal(how)
        progress.wait(lambda: "Waiting for the database to stop")
    _collect_exit_codes()
    remove_socket_folder(place)
    return was_running


def trim_log(place: Place) -> None:
    """Keep a log that has grown too long as server.log.1, and begin a new one."""
    with suppress(FileNotFoundError):
        if place.log.stat().st_size > _LOG_BYTES:
            # The server appends to the open file, so it must stay the same file.
            shutil.copyfile(place.log, place.log.with_name("server.log.1"))
            os.truncate(place.log, 0)


def _log_since(place: Place, start_bytes: int) -> str:
    with place.log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start_bytes, size - _LOG_TAIL_BYTES))
        return file.read().decode("utf-8", "replace")


def _last_words(place: Place) -> str:
    parts = [line.partition("LOG:") for line in _log_since(place, 0).splitlines()]
    return next((output.strip() for _, mark, output in reversed(parts) if mark), "no output yet")


def connect(place: Place) -> Connection:
    """Return a connection as the superuser."""
    return psycopg2.connect(
        user=SUPERUSER,
        password=place.password(SUPERUSER),
        host=str(read_path(place.socket_record)),
        port=5432,
        dbname="postgres",
        connect_timeout=5,
        application_name="credit-portal start",
    )
