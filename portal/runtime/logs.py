"""The log: one line an event, as text or as JSON, with the request's id and the user.

Every request, run of a page and run of a job is an activity with an id. The id is in each line that
is written meanwhile, in the answer's X-Request-Id, and on an error's page. The user is a number and
a role; no line contains a mail address.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pythonjsonlogger.json import JsonFormatter

from domain.audit import actor_name

if TYPE_CHECKING:
    from domain.actors import Actor
    from portal.runtime.settings import Settings

# No part of a mail address is longer. Without a bound, a long line takes time that grows with the
# square of its length.
_MAIL_ADDRESS = re.compile(r"[^\s@\"'<>()=,;:]{1,254}+@[^\s@\"'<>(),;:]{1,254}\.\w+")
_NO_ADDRESS = "(mail address)"
_SOURCES = ("streamlit", "uvicorn", "websockets")


@dataclass(slots=True)
class Activity:
    """Something that is being done for someone: a request, a run of a page, a run of a job."""

    id: str = field(default_factory=lambda: secrets.token_hex(6))
    actor: str | None = None
    role: str | None = None


_current: ContextVar[Activity | None] = ContextVar("activity", default=None)


def begin() -> Activity:
    """Start an activity: this context's log lines have its id from now on."""
    activity = Activity()
    _current.set(activity)
    return activity


def current() -> Activity:
    """Return the activity of this context, started now if there is none."""
    return _current.get() or begin()


def name_actor(actor: Actor) -> None:
    """Note who the activity is for."""
    activity = _current.get()
    if activity is not None:
        activity.actor = actor_name(actor)
        activity.role = _role_of(actor)


def _role_of(actor: Actor) -> str:
    if actor.staff_role is not None:
        return str(actor.staff_role)
    return "member" if actor.memberships else "none"


# ── Lines ─────────────────────────────────────────────────────────────────────────────────────
def set_up(settings: Settings) -> None:
    """Send log lines to standard error in the configured form; as JSON, those of all libraries.

    A second call also converts the handlers that libraries have set up since then.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Handler) or type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    root.addHandler(_Handler(settings))
    root.setLevel(settings.log_level.upper())
    # Each request has a line already, and these lines would have its whole address.
    logging.getLogger("uvicorn.access").disabled = True
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _SOURCES:
            _hand_over(logging.getLogger(name))
    # Errors of a page are logged by shell/page_runs.py, with the number that the page shows.
    logging.getLogger("streamlit.error_util").addFilter(_is_reported_once)
    streamlit_logger: Any = sys.modules.get("streamlit.logger")
    if streamlit_logger is not None:
        # Streamlit uses this function to give each logger that it creates later its own handler.
        streamlit_logger.setup_formatter = _hand_over


def _is_reported_once(record: logging.LogRecord) -> bool:
    return record.msg != "Uncaught app execution"


def _hand_over(logger: logging.Logger) -> None:
    """Have a library's lines formatted as all others, and not in a form of its own."""
    own = [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
    for handler in own:
        logger.removeHandler(handler)
    if own or not logger.handlers:
        logger.propagate = True


class _Handler(logging.StreamHandler):  # type: ignore[type-arg] # generic for type checkers alone
    """The one handler of the process."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(sys.stderr)
        self.setLevel(settings.log_level.upper())
        self.setFormatter(_Json() if settings.log_format == "json" else _Text())
        self.addFilter(_name_activity)


def _name_activity(record: logging.LogRecord) -> bool:
    """Put the activity into the line, unless the line is about another one."""
    activity = _current.get()
    if activity is not None and not hasattr(record, "request_id"):
        record.request_id = activity.id
        if activity.actor is not None:
            record.actor = activity.actor
            record.role = activity.role
    return True


class _Text(logging.Formatter):
    """Formats lines for people at a terminal."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the id and the actor at the end of its first line.

        More lines of it, such as a traceback, are indented: no received text looks like a line of
        its own.
        """
        first, *rest = super().format(record).splitlines() or [""]
        message = [getattr(record, name, None) for name in ("request_id", "actor", "role")]
        where = " ".join(str(each) for each in message if each)
        lines = [f"{first} [{where}]" if where else first, *(f"    {line}" for line in rest)]
        return _without_addresses("\n".join(lines))


class _Json(JsonFormatter):
    """Lines for machines."""

    def __init__(self) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            timestamp=True,
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object."""
        return _without_addresses(super().format(record))


def _without_addresses(line: str) -> str:
    return _MAIL_ADDRESS.sub(_NO_ADDRESS, line) if "@" in line else line
