"""Where the built-in PostgreSQL keeps its files, which user runs it, and how the files are made.

A requested folder contains, for every user but root:

    startup.lock             held by a process that starts, stops or counts
    server.lock              inherited, locked, by every process of the server: held = alive
    holders/                 one locked file for each process that uses the server
    cluster/                 PostgreSQL's own data directory
    password-<role>          one secret a role
    socket-folder            names the short folder with the server's socket
    server.log, server.log.1

Root may not run PostgreSQL, so there an unprivileged user does. Where that user cannot reach the
asked folder, all but `startup.lock` lives in a folder of root's store, and the file `location`
names it. Permissions of folders that exist are never changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from db.embedded.folders import (
    USE_ANOTHER_DATABASE,
    EmbeddedPostgresError,
    failure,
    read_path,
    sync_folder,
    write_private,
)

if sys.platform != "win32":
    import pwd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SUPERUSER = "postgres"
OWNER = "credit_portal"

ROOT_STORES = (Path("/var/lib/credit-portal"), Path("/var/tmp/credit-portal"))  # noqa: S108 - checked by root_store
"""Where root keeps what the unprivileged user must reach, best first."""


@dataclass(frozen=True)
class Account:
    """The operating-system user that runs the server when root starts it."""

    user_id: int
    group_id: int


@dataclass(frozen=True)
class Place:
    """The files of one server: what was asked for, and where things really are."""

    asked: Path
    base: Path
    account: Account | None
    """None: the server runs as the user of this process."""

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.base / "cluster"

    @property
    def holders(self) -> Path:
        """The folder with one locked file for each process that uses the server."""
        return self.base / "holders"

    @property
    def server_lock(self) -> Path:
        """The file that every process of the server keeps locked while it runs."""
        return self.base / "server.lock"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.base / "server.log"

    @property
    def socket_record(self) -> Path:
        """The file that names the folder with the server's socket."""
        return self.base / "socket-folder"

    @property
    def exists(self) -> bool:
        """Whether a database has been created in this place."""
        return (self.cluster / "PG_VERSION").exists()

    @property
    def made_by(self) -> int | None:
        """The major version of PostgreSQL that created the database; None where none exists."""
        try:
            message = (self.cluster / "PG_VERSION").read_text("utf-8").strip()
        except FileNotFoundError:
            return None
        return int(message) if message.isdecimal() else None

    def password(self, role: str) -> str:
        """Return the secret of `role`; create it as long as there is no database.

        Raises:
            EmbeddedPostgresError: there is a database, and its secret is gone.
        """
        path = self.base / f"password-{role}"
        try:
            return path.read_text("utf-8").strip()
        except FileNotFoundError:
            if self.exists:
                raise EmbeddedPostgresError(
                    f"{path} is missing: it holds the password of the database. Restore it from"
                    f" a backup, or remove {self.asked} to start with an empty database."
                ) from None
        password = secrets.token_urlsafe(32)
        write_private(path, password)
        return password


# ── Programs ──────────────────────────────────────────────────────────────────────────────────


def run_as(account: Account | None, command: Sequence[str | Path]) -> tuple[int, str]:
    """Run `command` as `account` in a bare environment; return its exit code and output."""
    user, group, extra_groups = identity(account)
    done = subprocess.run(  # noqa: S603 - our own programs, no shell, no input of strangers
        command,
        cwd="/",
        env=bare_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        user=user,
        group=group,
        extra_groups=extra_groups,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def identity(account: Account | None) -> tuple[int | None, int | None, list[int] | None]:
    """Return user, group and extra groups of a process that shall run as `account`."""
    if account is None:
        return None, None, None
    return account.user_id, account.group_id, []


def bare_environment() -> dict[str, str]:
    """Return an environment without foreign locales, PG* variables or libraries."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


# ── Root ──────────────────────────────────────────────────────────────────────────────────────


def root_store() -> Path:
    """Return root's own folder, which other users may cross and may not list or change."""
    for store in ROOT_STORES:
        try:
            store.mkdir(mode=0o711)
            store.chmod(0o711)
        except FileExistsError:
            pass
        except OSError:
            continue
        found = store.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022:
            return store
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and the user that runs it instead can be given no folder:"
        f" none of {', '.join(map(str, ROOT_STORES))} can be made, or belongs to root alone. Start"
        f" the portal as another user. {USE_ANOTHER_DATABASE}"
    )


def _choose_account(asked: Path) -> Account:
    """Return the user that runs the server for root: the folder's owner, or a service user."""
    owner = asked.stat().st_uid
    for entry in _users(owner):
        account = Account(entry.pw_uid, entry.pw_gid)
        if account.user_id != 0 and can_enter(account, Path("/")):
            return account
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and this machine has no other user that can run it."
        f" Start the portal as another user. {USE_ANOTHER_DATABASE}"
    )


def _users(owner: int) -> Iterator[pwd.struct_passwd]:
    """Yield the users that may run the server for root, the fittest first."""
    # initdb insists on a user with a name.
    with suppress(KeyError):
        yield pwd.getpwuid(owner)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            yield pwd.getpwnam(name)
    yield from pwd.getpwall()


def can_enter(account: Account, folder: Path) -> bool:
    """Check with the kernel, which knows modes, ACLs and mounts, whether `account` may enter."""
    try:
        return run_as(account, ["/bin/sh", "-c", 'cd -- "$1"', "sh", folder])[0] == 0
    except OSError:
        return False


def _move_out(asked: Path, account: Account, report: Callable[[str], None]) -> Path:
    """Create a folder in root's store for `account`, and leave a pointer to it in `asked`."""
    store = root_store()
    name = hashlib.sha256(os.fsencode(asked)).hexdigest()[:12]
    for older in store.glob(f"{name}-*"):
        report(f"An older database of {asked} is in {older}: remove it if you do not need it.")
    base = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=store))
    os.chown(base, 0, account.group_id)
    base.chmod(0o710)
    write_private(asked / "location", str(base))
    report(f"The database is kept in {base}: {asked} is closed to the user that runs it for root.")
    return base


def find_place(asked: Path) -> Place | None:
    """Return where the database of the folder `asked` is; None where there is none yet.

    Raises:
        EmbeddedPostgresError: the folder points to another that is gone.
    """
    base = read_path(asked / "location") or asked
    if base != asked and not base.is_dir():
        raise EmbeddedPostgresError(
            f"The database of {asked} was kept in {base}, which no longer exists. Restore it"
            f" from a backup, or remove {asked} to start with an empty database."
        )
    place = Place(asked, base, None)
    if not place.exists:
        return None
    if os.geteuid() != 0:
        return place
    owner = place.cluster.stat()
    if owner.st_uid == 0:
        raise EmbeddedPostgresError(
            f"The files in {place.cluster} belong to root, who may not run PostgreSQL. Give them"
            f" to another user, for example with: chown -R nobody '{place.cluster}'"
        )
    return Place(asked, base, Account(owner.st_uid, owner.st_gid))


def make_place(asked: Path, report: Callable[[str], None]) -> Place:
    """Choose where the database of the folder `asked` is to be, and which account runs it."""
    if (asked / "PG_VERSION").exists():
        raise EmbeddedPostgresError(
            f"{asked} is the data directory of another PostgreSQL. Set DATA_DIR to a folder of its"
            " own, or start that PostgreSQL and set DATABASE_URL."
        )
    if os.geteuid() != 0:
        return Place(asked, asked, None)
    account = _choose_account(asked)
    base = read_path(asked / "location") or asked
    if base != asked:
        os.chown(base, 0, account.group_id)
    elif not can_enter(account, asked):
        base = _move_out(asked, account, report)
    return Place(asked, base, account)


# ── A new database ────────────────────────────────────────────────────────────────────────────


def make_cluster(place: Place, binaries: Path, report: Callable[[str], None]) -> None:
    """Create PostgreSQL's data directory in a temporary place and move it in when it is complete.

    Raises:
        EmbeddedPostgresError: it cannot be made.
    """
    report(f"Creating a new database in {place.base} …")
    staging = Path(tempfile.mkdtemp(prefix="new-cluster-", dir=place.base))
    try:
        place.password(OWNER)
        password = staging / "password"
        write_private(password, place.password(SUPERUSER))
        if place.account is not None:
            for path in (staging, password):
                os.chown(path, place.account.user_id, place.account.group_id)
        options = _initdb_options(read_version(place.account, binaries))
        command: list[str | Path] = [
            binaries / "initdb",
            f"--pgdata={staging / 'cluster'}",
            f"--pwfile={password}",
            *options,
        ]
        code, output = run_as(place.account, command)
        if code != 0:
            raise failure("The built-in database cannot be created.", output, place.base)
        (staging / "cluster").rename(place.cluster)
        sync_folder(place.base)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


_BUILTIN_LOCALE_SINCE = 17
_INITDB_SETS_SINCE = 16


def _initdb_options(major: int) -> list[str]:
    # The same everywhere: no locale of the machine affects sorting or messages.
    if major >= _BUILTIN_LOCALE_SINCE:
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    else:
        # The system's library decides what is a letter and which is its capital.
        letters = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
        locale = ["--locale=C", f"--lc-ctype={letters}"]
    return [
        f"--username={SUPERUSER}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        *locale,
        "--no-instructions",
        *(["--set=huge_pages=off"] if major >= _INITDB_SETS_SINCE else []),
    ]


def remove_left_overs(place: Place) -> None:
    """Remove what a killed process left of a database that it was creating."""
    for left_over in place.base.glob("new-cluster-*"):
        shutil.rmtree(left_over, ignore_errors=True)


def check_version(place: Place, binaries: Path) -> None:
    """Refuse a database that another major version of PostgreSQL created.

    Raises:
        EmbeddedPostgresError: it did.
    """
    ours = read_version(place.account, binaries)
    theirs = place.made_by
    if theirs != ours:
        raise EmbeddedPostgresError(
            f"The database in {place.asked} was made by PostgreSQL {theirs}; the programs in"
            f" {binaries} are of PostgreSQL {ours}, which cannot read it. Install PostgreSQL"
            f" {theirs} beside it or set PG_BIN to the folder of its programs; or dump the database"
            f" with PostgreSQL {theirs} and load it into a new folder."
        )


def read_version(account: Account | None, binaries: Path) -> int:
    """Return the major version of PostgreSQL's programs. Raises EmbeddedPostgresError."""
    code, output = run_as(account, [binaries / "postgres", "--version"])
    found = re.search(r"\(PostgreSQL\) (\d+)", output)
    if code != 0 or found is None:
        raise failure("PostgreSQL's programs cannot be run.", output, binaries)
    return int(found[1])
