"""The built-in PostgreSQL: one server for a data folder, shared by several processes.

`acquire` makes the database on first use, starts its server or joins the one that runs, and returns
an address that stays the same for as long as anyone holds it. The last holder to release stops the
server. A holder that is killed counts no more, because the kernel drops its lock; a server that is
killed is started again by the holders that are left; a server without any holder left is joined,
and stopped, by the next.

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
import sys
import threading
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import sql
from sqlalchemy.engine import URL

from db.embedded.data_directory import (
    OWNER,
    Place,
    check_version,
    find_place,
    make_cluster,
    make_place,
    remove_left_overs,
)
from db.embedded.folders import (
    EmbeddedPostgresError,
    failure,
    make_folder,
    make_private_folder,
    open_private,
    plain_errors,
    read_path,
)
from db.embedded.locks import is_locked, startup_lock, try_lock, unlock
from db.embedded.postmaster import connect, ensure_running, is_well, shut_down, trim_log
from db.embedded.programs import binaries_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

__all__ = ["EmbeddedPostgresError", "EmbeddedServer", "acquire", "remove", "stop"]

DATABASE = "credit_portal"


_WATCH_SECONDS = 1.0
_ROLES_ARE_GRANTED_SINCE = 160_000
"""Before, whoever may make roles may also take them."""

_logger = logging.getLogger(__name__)


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
        """Release the server, and stop it if no one else holds it. A second call has no effect."""
        self._hold.release()


def acquire(
    data_directory: Path,
    *,
    report: Callable[[str], None] = _logger.info,
    settings: Mapping[str, str] | None = None,
) -> EmbeddedServer:
    """Return the running server of `data_directory`, made and started as needed.

    `report` receives a sentence about each step that takes long. `settings` (of postgresql.conf) go
    over the defaults where this call starts the server; one that runs keeps its own. The server is
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
                ensure_running(place, settings or {}, report)
                _ensure_database(place)
            except BaseException:
                hold.give_up()
                raise
        hold.watch()
        return EmbeddedServer(_url(place), asked, place.cluster, hold)


def stop(data_directory: Path) -> bool:
    """Stop the server of `data_directory` that no one holds any more; return False if none runs.

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
    return shut_down(place, _logger.info)


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
        # Without its folder there is no lock to agree on: PostgreSQL notices, and stops by itself.
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
            shut_down(self._place, _logger.info)

    def _keep_alive(self) -> None:
        seconds = _WATCH_SECONDS
        while not self._ended.wait(seconds):
            seconds = _WATCH_SECONDS
            try:
                if not is_well(self._place):
                    self._restart()
                trim_log(self._place)
            except (EmbeddedPostgresError, OSError) as error:
                _logger.error("The database has stopped and cannot be restarted: %s", error)  # noqa: TRY400 - plain words
                seconds = 10 * _WATCH_SECONDS

    def _restart(self) -> None:
        with startup_lock(self._place.asked, _logger.info):
            # Another holder may have been quicker, or this one released.
            if not self._ended.is_set() and not is_well(self._place):
                _logger.warning("The database server has stopped unexpectedly; restarting it")
                ensure_running(self._place, self._settings, _logger.warning)


def _living_holders(place: Place) -> list[str]:
    """Return what the living holders recorded, and remove the records of dead ones."""
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


def _ensure_database(place: Place) -> None:
    """Create the owner's role and database where they are missing.

    The owner is no superuser: what it may do is what a hosted PostgreSQL would let it do.
    """
    try:
        with closing(connect(place)) as connection:
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
                # Else the owner could not take the roles that its migrations create.
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
