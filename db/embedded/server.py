"""The built-in PostgreSQL: one server for a data folder, shared by several processes.

`acquire` makes the database on first use, starts its server or joins the one that runs, and
returns an address that stays the same for as long as anyone holds it. The last holder to release
stops the server. A holder that is killed counts no more, because the kernel drops its lock; a
server that is killed is started again by the holders that are left; a server that nobody holds
any more is joined, and stopped, by the next.

Who lives is never read from a process id alone, as containers reuse those: every process of the
server has inherited a locked file, and a process id counts only where that process runs the
program in this data directory.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg2
from psycopg2 import sql
from sqlalchemy.engine import URL

from db.embedded.data_directory import (
    OWNER,
    SOCKET_NAME,
    SUPERUSER,
    EmbeddedPostgresError,
    Place,
    Progress,
    bare_environment,
    check_version,
    clear_socket_folder,
    failure,
    find_place,
    identity,
    is_locked,
    make_cluster,
    make_folder,
    make_place,
    make_private_folder,
    open_private,
    plain_errors,
    read_path,
    remove_left_overs,
    remove_socket_folder,
    socket_folder,
    startup_lock,
    try_lock,
    unlock,
)
from db.embedded.programs import binaries_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

__all__ = ["EmbeddedPostgresError", "EmbeddedServer", "acquire", "remove", "stop"]

DATABASE = "credit_portal"

_DEFAULTS = {
    "shared_buffers": "256MB",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The log tells of starts, stops and recovery. A failed statement is told to the program that
    # sent it; repeated here it would spill customers' data and fill the disk.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
    "log_startup_progress_interval": "2s",
    # Containers that promise huge pages and have none kill the server that touches them.
    "huge_pages": "off",
}

_SHARED_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - looked at, never written
_SHARED_MEMORY_BYTES = 256 * 1024**2
_LOG_BYTES = 4 * 1024**2
_LOG_TAIL_BYTES = 4096
_WATCH_SECONDS = 1.0
_ORPHAN_GRACE_SECONDS = 5.0
"""How long what is left of a killed server may finish before it is killed as well."""
_START_ATTEMPTS = 3
_ROLES_ARE_GRANTED_SINCE = 160_000
"""Before, whoever may make roles may also take them."""
_STOP_SECONDS = 60.0
"""How long a server may take to stop before it is stopped without a last checkpoint."""

_logger = logging.getLogger(__name__)
_started: list[subprocess.Popen[bytes]] = []
"""Servers that this process started, kept to collect their exit codes."""


# ── Holding a server ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server that this process holds."""

    url: str = field(repr=False)
    """SQLAlchemy URL of the portal's database, as its owner. It holds the password."""
    data_directory: Path
    """The folder that was asked for, resolved."""
    cluster_directory: Path
    """PostgreSQL's own data directory (with postmaster.pid), which may be elsewhere for root."""
    _hold: _Hold = field(repr=False, compare=False)

    def release(self) -> None:
        """Let go of the server, and stop it if nobody else holds it. Again: no effect."""
        self._hold.release()


def acquire(
    data_directory: Path,
    *,
    report: Callable[[str], None] = _logger.info,
    settings: Mapping[str, str] | None = None,
) -> EmbeddedServer:
    """Return the running server of `data_directory`, made and started as needed.

    `report` is told in plain words what takes long. `settings` (of postgresql.conf) go over the
    defaults where this call starts the server; one that runs keeps its own. The server is
    released at the end of the process, if not before.

    Raises:
        EmbeddedPostgresError: there can be no server; the message says what to do.
    """
    if sys.platform == "win32":
        raise EmbeddedPostgresError(
            "The built-in PostgreSQL is for Linux and macOS. On Windows set DATABASE_URL to a"
            " PostgreSQL of your own (15 or newer)."
        )
    asked = data_directory.expanduser().resolve()
    with plain_errors(asked):
        make_folder(asked)
        with startup_lock(asked, report):
            place = find_place(asked) or make_place(asked, report)
            hold = _Hold(place, settings or {})
            try:
                remove_left_overs(place)
                binaries = binaries_for(place.account, place.made_by)
                if place.exists:
                    check_version(place, binaries)
                else:
                    make_cluster(place, binaries, report)
                _ensure_running(place, settings or {}, report)
                _ensure_database(place)
            except BaseException:
                hold.give_up()
                raise
        hold.watch()
        return EmbeddedServer(_url(place), asked, place.cluster, hold)


def stop(data_directory: Path) -> bool:
    """Stop the server of `data_directory` that nobody holds any more; False where none runs.

    Raises:
        EmbeddedPostgresError: living processes still use it.
    """
    asked = data_directory.expanduser().resolve()
    if sys.platform == "win32" or not (asked / "startup.lock").exists():
        return False
    with plain_errors(asked), startup_lock(asked, _logger.info):
        place = find_place(asked)
        return place is not None and _stop_unheld(place)


def remove(data_directory: Path) -> None:
    """Stop the server of `data_directory` and delete its database, wherever that is kept.

    Files that are not the database's stay.

    Raises:
        EmbeddedPostgresError: living processes still use it.
    """
    stop(data_directory)
    asked = data_directory.expanduser().resolve()
    if sys.platform == "win32" or not (asked / "startup.lock").exists():
        return
    with plain_errors(asked):
        base = read_path(asked / "location") or asked
        if base != asked:
            shutil.rmtree(base, ignore_errors=True)
        for pattern in (
            *("cluster", "new-cluster-*", "holders", "password-*", "socket-folder"),
            *("server.log*", "server.lock", "location", "startup.lock"),
        ):
            for path in asked.glob(pattern):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        with suppress(OSError):  # not empty: the rest is not ours
            asked.rmdir()


def _stop_unheld(place: Place) -> bool:
    users = _living_holders(place)
    if users:
        raise EmbeddedPostgresError(
            f"The database in {place.asked} is in use by {', '.join(users)}: end that first."
        )
    return _shut_down(place, _logger.info)


class _Hold:
    """One use of a server by this process: a locked file, and a watch over the server."""

    def __init__(self, place: Place, settings: Mapping[str, str]) -> None:
        self._place = place
        self._settings = settings
        self._process_id = os.getpid()
        self._ended = threading.Event()
        make_private_folder(place.holders)
        self._path = place.holders / f"{self._process_id}-{secrets.token_hex(4)}"
        self._descriptor = open_private(self._path)
        try_lock(self._descriptor)
        os.write(self._descriptor, f"process {self._process_id}".encode())
        atexit.register(self.release)

    def watch(self) -> None:
        """Keep the server running from now on."""
        threading.Thread(target=self._keep_alive, name="embedded-postgres", daemon=True).start()

    def release(self) -> None:
        """Stop the server if this was its last use. A forked child has nothing to release."""
        if self._ended.is_set() or self._process_id != os.getpid():
            return
        self._ended.set()
        asked = self._place.asked
        # Without its folder there is nobody to agree with: PostgreSQL notices, and stops itself.
        lock = startup_lock(asked, _logger.info) if asked.is_dir() else nullcontext()
        with plain_errors(asked), lock:
            self.give_up()

    def give_up(self) -> None:
        """Count no more; the caller has the startup lock."""
        self._ended.set()
        atexit.unregister(self.release)
        self._path.unlink(missing_ok=True)
        unlock(self._descriptor)
        if not _living_holders(self._place):
            _shut_down(self._place, _logger.info)

    def _keep_alive(self) -> None:
        seconds = _WATCH_SECONDS
        while not self._ended.wait(seconds):
            seconds = _WATCH_SECONDS
            try:
                if not _is_well(self._place):
                    self._restart()
                _trim_log(self._place)
            except (EmbeddedPostgresError, OSError) as error:
                _logger.error("The database has stopped and cannot be restarted: %s", error)  # noqa: TRY400 - plain words
                seconds = 10 * _WATCH_SECONDS

    def _restart(self) -> None:
        with startup_lock(self._place.asked, _logger.info):
            # Another holder may have been quicker, or this one released.
            if not self._ended.is_set() and not _is_well(self._place):
                _logger.warning("The database server has died; starting it again")
                _ensure_running(self._place, self._settings, _logger.warning)


def _living_holders(place: Place) -> list[str]:
    """Return what the living holders wrote of themselves, and forget the dead ones."""
    living = []
    for path in place.holders.glob("*"):
        if is_locked(path):
            living.append(path.read_text("utf-8"))
        else:
            path.unlink(missing_ok=True)
    return living


# ── Connecting ────────────────────────────────────────────────────────────────────────────────


def _url(place: Place) -> str:
    return URL.create(
        "postgresql+psycopg2",
        username=OWNER,
        password=place.password(OWNER),
        database=DATABASE,
        query={"host": str(read_path(place.socket_record)), "port": "5432"},
    ).render_as_string(hide_password=False)


def _connect(place: Place) -> Connection:
    return psycopg2.connect(
        user=SUPERUSER,
        password=place.password(SUPERUSER),
        host=str(read_path(place.socket_record)),
        port=5432,
        dbname="postgres",
        connect_timeout=5,
        application_name="credit-portal start",
    )


def _answers(place: Place) -> bool:
    """Tell whether the server takes connections.

    Raises:
        EmbeddedPostgresError: it does, and refuses our password.
    """
    # Else each question would leave a line in the log, where the progress of recovery is read.
    if not (_has_socket(place) and _is_ready(place)):
        return False
    try:
        _connect(place).close()
    except psycopg2.OperationalError as error:
        if "password authentication failed" in str(error):
            raise EmbeddedPostgresError(
                f"The database in {place.asked} does not know the password in"
                f" {place.base / f'password-{SUPERUSER}'}: put the right file back from a backup."
            ) from error
        return False
    return True


def _has_socket(place: Place) -> bool:
    folder = read_path(place.socket_record)
    return folder is not None and (folder / SOCKET_NAME).exists()


def _ensure_database(place: Place) -> None:
    """Make the owner's role and database where they are missing.

    The owner is no superuser: what it may do is what a hosted PostgreSQL would let it do.
    """
    try:
        with closing(_connect(place)) as connection:
            _make_owner(connection, place)
            connection.commit()
            connection.autocommit = True
            _make_database(connection)
    except psycopg2.Error as error:
        raise failure("The built-in database cannot be used.", str(error), place.base) from error


def _make_owner(connection: Connection, place: Place) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (OWNER,))
        if cursor.fetchone() is None:
            owner = sql.Identifier(OWNER)
            statements = [
                "CREATE ROLE {owner} LOGIN CREATEDB CREATEROLE PASSWORD {password}",
                "GRANT pg_monitor, pg_checkpoint TO {owner}",
            ]
            if connection.server_version >= _ROLES_ARE_GRANTED_SINCE:
                # Else the owner could not take the roles that its migrations make.
                statements.append("ALTER ROLE {owner} SET createrole_self_grant = 'set, inherit'")
            for statement in statements:
                cursor.execute(
                    sql.SQL(statement).format(
                        owner=owner, password=sql.Literal(place.password(OWNER))
                    )
                )


def _make_database(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
        if cursor.fetchone() is None:
            cursor.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    sql.Identifier(DATABASE), sql.Identifier(OWNER)
                )
            )


# ── The server's processes ────────────────────────────────────────────────────────────────────


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
    for child in tuple(_started):
        if child.poll() is not None:
            with suppress(ValueError):  # another thread was quicker
                _started.remove(child)


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


def _is_well(place: Place) -> bool:
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
        """End what has had its time.

        Raises:
            EmbeddedPostgresError: the server's lock is held, and not by a process we can see.
        """
        if self._since is None:
            self._since = Progress(_logger.info)
        if self._since.seconds < _ORPHAN_GRACE_SECONDS:
            return
        # What they have not committed is lost anyhow; what they have is in the log of changes.
        for orphan in orphans:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()
        if not orphans:
            raise EmbeddedPostgresError(
                f"The database in {self._place.asked} is in use where this process cannot see it,"
                " probably in another container. Stop it there, or use another DATA_DIR. Or set"
                " DATABASE_URL."
            )


def _ensure_running(
    place: Place, settings: Mapping[str, str], report: Callable[[str], None]
) -> None:
    """Join the server that runs, or start one; the caller has the startup lock."""
    _trim_log(place)
    if not _settle(place, report):
        _start(place, settings, report)


def _settle(place: Place, report: Callable[[str], None]) -> bool:
    """Wait until a server answers (True), or none of its processes is left (False)."""
    progress, remains = Progress(report), _Remains(place)
    while not _answers(place):
        # In this order: what runs after nobody had the lock was not started by the portal.
        held = is_locked(place.server_lock)
        postmaster = _postmaster(place)
        if postmaster is None:
            orphans = _processes(place)
            if not held and not orphans:
                return False
            remains.found(orphans)
            progress.wait(lambda: "Waiting for what is left of a killed database server to end")
            continue
        remains.none()
        if not held:
            raise EmbeddedPostgresError(
                f"A PostgreSQL that the portal did not start runs in {place.cluster} (process"
                f" {postmaster.pid}): stop it, or set DATABASE_URL to its address."
            )
        if _is_ready(place) and not _has_socket(place):
            # Something cleaned the temporary folder: nobody can connect, so nothing is lost.
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
        said = _log_since(place, log_bytes)
        was_killed = server.returncode < 0 or "was terminated by signal" in said
        if not (was_killed and remaining_attempts):
            raise failure("The built-in database has not started.", said, place.base)
        report("The database was killed while it started; starting it again")
        if _settle(place, report):
            return


def _launch(
    place: Place, settings: Mapping[str, str], report: Callable[[str], None]
) -> subprocess.Popen[bytes] | None:
    """Start a server and return None when it answers, or the process that has ended instead."""
    # It names a process that is gone, or a stranger with the same number.
    (place.cluster / "postmaster.pid").unlink(missing_ok=True)
    folder = socket_folder(place)
    clear_socket_folder(folder)
    progress = Progress(report)
    server = _spawn(place, _command(place, folder, settings), progress)
    _started.append(server)
    while not _answers(place):
        if server.poll() is not None:
            return server
        progress.wait(lambda: f"Starting the database: {_last_words(place)}")
    return None


def _spawn(
    place: Place, command: Sequence[str | Path], progress: Progress
) -> subprocess.Popen[bytes]:
    """Start `command` with the server's lock, which lives as long as the last of its processes."""
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


def _shut_down(place: Place, report: Callable[[str], None]) -> bool:
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


# ── The log ───────────────────────────────────────────────────────────────────────────────────


def _trim_log(place: Place) -> None:
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
    return next((said.strip() for _, mark, said in reversed(parts) if mark), "it says nothing yet")
