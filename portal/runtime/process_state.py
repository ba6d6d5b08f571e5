"""Objects that routes, jobs and pages share for the lifetime of the process.

Streamlit drops this project's modules from sys.modules when a watched file changes, and pages
import them anew. A module without a file is not dropped, and keeps the one object of each name.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_kept = sys.modules.setdefault("_portal_process", ModuleType("_portal_process"))
_lock = _kept.__dict__.setdefault("lock", threading.Lock())


def shared(name: str, make: Callable[[], T]) -> T:
    """Return this process's object of that name, created by the first caller."""
    with _lock:
        if name not in _kept.__dict__:
            _kept.__dict__[name] = make()
        found: T = _kept.__dict__[name]
        return found
