"""What the stand-ins keep on disk, a key among it, is for their owner alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.paypal_certificates import load_or_make
from sandbox.store import Store, make_private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(autouse=True)
def _everybody_may_read() -> Iterator[None]:
    """The process that makes files keeps nothing from anybody by itself."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
    return {".": stat.S_IMODE(folder.stat().st_mode), **found}


def test_stand_ins_that_are_started_make_private_files_and_leave_the_folder_above_as_it_is(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data" / "sandbox"
    subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "sandbox", "--port=0", f"--folder={folder}", "--until-input-ends"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=300,
    )
    found = modes(folder)
    assert "sandbox.db" in found
    assert {mode for name, mode in found.items() if name != "."} == {0o600}
    assert found["."] == 0o700
    assert modes(folder.parent)["."] == 0o777


def test_files_that_an_older_release_left_open_are_closed(tmp_path: Path) -> None:
    folder = tmp_path / "sandbox"
    make_private_folder(folder)
    load_or_make(folder)
    store = Store(folder / "sandbox.db")
    store.put("order", "1", {"state": "open"})
    assert set(modes(folder).values()) == {0o700, 0o600}
    folder.chmod(0o755)
    for each in folder.iterdir():
        each.chmod(0o644)
    make_private_folder(folder)
    load_or_make(folder)
    again = Store(folder / "sandbox.db")
    assert again.get("order", "1") == {"state": "open"}
    found = modes(folder)
    assert set(found) == {
        ".",
        "paypal-webhooks.pem",
        "sandbox.db",
        "sandbox.db-shm",
        "sandbox.db-wal",
    }
    assert found.pop(".") == 0o700
    assert set(found.values()) == {0o600}
    again.close()
    store.close()
