"""Runs of pages: the id, the duration, the outcome, and the message of a failed run."""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from portal.runtime import logs, metrics
from portal.ui.labels import errors as error_labels

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

_log = logging.getLogger(__name__)

_NO_PAGE = "start"
"""Of a run that failed before its page was known."""


@dataclass(slots=True)
class _Run:
    activity: logs.Activity
    started: float = field(default_factory=time.perf_counter)
    page: str = _NO_PAGE
    is_over: bool = False


_current: ContextVar[_Run | None] = ContextVar("run", default=None)


def begin() -> None:
    """Start a run of the script: its log lines have its id from now on."""
    _current.set(_Run(logs.begin()))


def run(page: StreamlitPage) -> None:
    """Run the page, and log its outcome; exceptions are passed on to the caller."""
    current = _current.get()
    if current is not None:
        current.page = _name(page)
    outcome = "stopped"
    try:
        page.run()
        outcome = "done"
    except Exception:
        outcome = "failed"
        raise
    finally:
        _end(outcome)


def show_error(error: Exception) -> bool:
    """Show that an error occurred, with an id that the log has too, and no detail."""
    current = _current.get()
    activity = logs.current()
    _log.error(
        "error %s on page %s", activity.id, current.page if current else _NO_PAGE, exc_info=error
    )
    _end("failed")
    st.error(error_labels.text_of_failure(error, activity.id), icon=":material/error:")
    return True


def _name(page: StreamlitPage) -> str:
    """Return the name of the page's file: titles are in the reader's language."""
    return Path(str(page._page)).stem  # noqa: SLF001 - no public API has the file


def _end(outcome: str) -> None:
    current = _current.get()
    if current is None or current.is_over:
        return
    current.is_over = True
    seconds = time.perf_counter() - current.started
    metrics.page_ran(current.page, outcome, seconds)
    _log.info(
        "page %s %s in %d ms",
        current.page,
        outcome,
        seconds * 1000,
        extra={
            "page": current.page,
            "outcome": outcome,
            "duration_milliseconds": round(seconds * 1000, 1),
        },
    )
