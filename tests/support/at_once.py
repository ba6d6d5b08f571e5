"""Two transactions that meet at a place, so that neither sees what the other is about to write."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_WAIT_SECONDS = 120


class AtOnce:
    """A function that two threads begin together, the first time that each of them comes there.

    A transaction that is run again goes through by itself.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._barrier = threading.Barrier(2)
        self._been = threading.local()

    def __call__(self, *args: Any, **values: Any) -> Any:
        """Wait for the other thread, then do what the function does."""
        if not hasattr(self._been, "here"):
            self._been.here = True
            self._barrier.wait(_WAIT_SECONDS)
        return self._function(*args, **values)
