"""The command line: `python -m portal COMMAND`.

An error is one clear line, and exit 1; exit 2 for invalid arguments, and where `verify-ledger` or
`verify-audit` could not look.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from db.embedded.server import EmbeddedPostgresError
from db.migrate import UnknownVersionError
from domain.errors import BillingError, InvalidInput
from portal.cli import data, pages, serve, users, verify
from portal.cli.shared import CommandError, IncompleteCheckError, commands
from portal.runtime import ports
from portal.runtime.settings import SettingsError
from portal.ui.labels.forms import fault_text

if TYPE_CHECKING:
    from types import FrameType
_MODULES = (serve, data, users, verify, pages)
"""Importing them lists their commands."""

_EXPECTED = (
    CommandError,
    SettingsError,
    ports.PortError,
    BillingError,
    EmbeddedPostgresError,
    UnknownVersionError,
    DBAPIError,
    OSError,
)


def main() -> None:
    """Run the command that the arguments name, and exit with its status."""
    signal.signal(signal.SIGTERM, _exit_quietly)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        commands()
    except IncompleteCheckError as stopped:
        _complain(stopped.cause)
        sys.exit(2)
    except _EXPECTED as error:
        _complain(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(error: Exception) -> None:
    if isinstance(error, _EXPECTED):
        print(_sentence(error), file=sys.stderr)
    else:
        traceback.print_exception(error)


def _exit_quietly(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _sentence(error: Exception) -> str:
    if isinstance(error, SettingsError):
        return "The settings need a change:\n" + "\n".join(error.problems)
    if isinstance(error, DBAPIError):
        return f"Unexpected database error: {_first_line(error.orig)}"
    if isinstance(error, InvalidInput) and error.field in {"email", "password", "display_name"}:
        return fault_text(error)
    if isinstance(error, InvalidInput) and (error.field, error.reason) in _FILE_FAULTS:
        return _FILE_FAULTS[error.field, error.reason].format(**error.values)
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else " that"
        return f"This system does not allow{where}: {error.strerror}."
    return str(error)


_FILE_FAULTS = {
    ("file", "missing_columns"): (
        "The first line of the file has no column {columns}."
        " A file of calls has the columns TIMESTAMP, ContextTokens and GeneratedTokens."
    ),
    ("file", "doubled_columns"): "The first line of the file has more than one column {columns}.",
    ("file", "not_csv"): "The first line of the file is not comma-separated values.",
    ("file", "add_an_id_column"): (
        "The file has more than {most} rows without an id, too many to tell apart:"
        " add a column named id, different in every row."
    ),
    ("account", "unknown"): "Account not found: {account}.",
    ("head", "not_a_head"): "The head is not one that verify-audit printed, such as 120442:9f86d0…",
}


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
