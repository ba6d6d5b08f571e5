"""The folder of the server's socket, which is short and private."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from db.embedded.data_directory import Account, Place, can_enter
from db.embedded.folders import EmbeddedPostgresError, is_private, read_path, write_private

SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES = 103
"""The shortest limit of the systems we run on (macOS)."""


def socket_folder(place: Place) -> Path:
    """Return the private folder for the socket: the previous one, or a new short one.

    The same folder means the same address, so that clients reach a restarted server again.
    """
    recorded = read_path(place.socket_record)
    if recorded is not None and _own_again(recorded, place.account):
        return recorded
    for parent in dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))):  # noqa: S108 - mkdtemp
        longest = len(os.fsencode(parent)) + len(f"/credit-portal-xxxxxxxx/{SOCKET_NAME}")
        # A comma separates hosts in a connection's address.
        if longest > _SOCKET_PATH_BYTES or "," in str(parent) or not parent.is_dir():
            continue
        if place.account is not None and not can_enter(place.account, parent):
            continue
        folder = Path(tempfile.mkdtemp(prefix="credit-portal-", dir=parent))
        _hand_over(folder, place.account)
        write_private(place.socket_record, str(folder))
        return folder
    raise EmbeddedPostgresError(
        "The built-in database finds no folder with a short name for its socket: set TMPDIR to one."
    )


def remove_socket_folder(place: Place) -> None:
    """Remove the folder of a server that has stopped."""
    folder = read_path(place.socket_record)
    if folder is not None and is_private(folder, place.account):
        clear_socket_folder(folder)
        with suppress(OSError):  # not empty: someone put a file there
            folder.rmdir()
    place.socket_record.unlink(missing_ok=True)


def clear_socket_folder(folder: Path) -> None:
    """Remove what a killed server left."""
    for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (folder / name).unlink(missing_ok=True)


def _own_again(folder: Path, account: Account | None) -> bool:
    if not folder.exists() and folder.parent.is_dir():
        try:
            folder.mkdir(mode=0o700)
        except OSError:
            return False
        _hand_over(folder, account)
    return is_private(folder, account)


def _hand_over(folder: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(folder, account.user_id, account.group_id)
