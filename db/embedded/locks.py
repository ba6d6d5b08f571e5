"""Locks of the embedded server's folder, and the progress that a start reports to its waiters."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

from db.embedded.folders import open_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

POLL_SECONDS = 0.05


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process alone; False where another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Unlock and close an open file, also for a child that is being forked just now."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Return whether a running process holds the lock on the file at `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two concurrent checks do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


class Progress:
    """Reports every few seconds what is being waited for, and nothing at first."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """Begin to wait."""
        self._report = report
        self._begun = time.monotonic()
        self._next_seconds = 1.0

    @property
    def seconds(self) -> float:
        """How long the wait has taken."""
        return time.monotonic() - self._begun

    def wait(self, describe: Callable[[], str]) -> None:
        """Wait a moment, and report what `describe` returns where that is due."""
        if self.seconds >= self._next_seconds:
            self._report(f"{describe()} ({self.seconds:.0f} s)")
            self._next_seconds = self.seconds + 5
        time.sleep(POLL_SECONDS)  # noqa: TID251 - one step of a poll


@contextmanager
def startup_lock(asked: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock as the only process that starts, stops or counts on the folder `asked`."""
    descriptor = open_private(asked / "startup.lock")
    try:
        progress = Progress(report)
        while not try_lock(descriptor):
            progress.wait(lambda: "Waiting for another process that starts or stops the database")
        yield
    finally:
        unlock(descriptor)
