"""Files and folders that belong to the server's account, and are private."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from db.embedded.data_directory import Account


_TAIL_LINES = 12
_NO_ROOM = (
    *("No space left on device", "Disk quota exceeded"),
    *("File too large", "File size limit exceeded"),
)
_NOT_ALLOWED = ("Permission denied", "Operation not permitted", "Read-only file system")
USE_ANOTHER_DATABASE = "You can also set DATABASE_URL to a PostgreSQL of your own (15 or newer)."


class EmbeddedPostgresError(RuntimeError):
    """The built-in PostgreSQL cannot be used; the message says why, and what to do."""


@contextmanager
def plain_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the operating system into a sentence that says what to do."""
    try:
        yield
    except OSError as error:
        described = f"{error.strerror or error}: {error.filename or folder}"
        raise failure("The built-in database cannot use its folder.", described, folder) from error


def failure(what: str, output: str, folder: Path) -> EmbeddedPostgresError:
    """Return the error for the step `what`, with the advice that fits its `output`."""
    if any(sign in output for sign in _NO_ROOM):
        advice = f"No space left on the disk of {folder}. Free some space, then start again."
    elif any(sign in output for sign in _NOT_ALLOWED):
        advice = (
            f"This user may not use {folder}, or what it stands in: set DATA_DIR to a folder that"
            " they own, or give them this one."
        )
    else:
        advice = f"Its folder is {folder}; its output is below."
    tail = "\n".join(output.strip().splitlines()[-_TAIL_LINES:])
    return EmbeddedPostgresError(f"{what} {advice} {USE_ANOTHER_DATABASE}\n{tail}")


def open_private(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a file that only its owner may read; a new one belongs to the owner of its folder."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    _give_to_owner_of_folder(path, descriptor)
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` so that a crash leaves the old content or the new, never a part."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.fsencode(text) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_path(path: Path) -> Path | None:
    """Return the path that the file at `path` names, or None where there is no such file."""
    try:
        return Path(os.fsdecode(path.read_bytes().removesuffix(b"\n")))
    except FileNotFoundError:
        return None


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create `folder` for this user alone; root's may also be crossed by the server's user."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise


def make_private_folder(folder: Path) -> None:
    """Create a missing private folder, owned by the owner of its parent."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        _give_to_owner_of_folder(folder, folder)


def _give_to_owner_of_folder(path: Path, target: int | Path) -> None:
    """Keep root from leaving anything behind that the folder's owner cannot use."""
    if os.geteuid() == 0:
        folder = path.parent.stat()
        if folder.st_uid != 0:
            os.chown(target, folder.st_uid, folder.st_gid)


def is_private(folder: Path, account: Account | None) -> bool:
    """Whether a folder exists and only its account can change it."""
    try:
        found = folder.lstat()
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
            return False
        raise
    owner = os.geteuid() if account is None else account.user_id
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == owner
        and stat.S_IMODE(found.st_mode) == 0o700  # noqa: PLR2004 - a mode
    )
