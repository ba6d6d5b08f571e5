"""Shared parts of commands: their registry, their output, the database they work on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from domain.actors import system_actor
from portal import startup
from portal.runtime import installation
from portal.runtime.settings import Settings, settings

if TYPE_CHECKING:
    from collections.abc import Iterator


ACTOR = system_actor("command-line")
commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Credit portal: serve it, and look after its data. The README lists the settings.",
)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if asked:
        say(installation.version())
        raise typer.Exit


@commands.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take what every command understands."""


class CommandError(Exception):
    """The command cannot be carried out; the message is the sentence to print."""


class DifferenceError(CommandError):
    """The proof has failed; the message states the difference."""


class IncompleteCheckError(Exception):
    """A proof could not be carried out, so that nothing is known; `cause` states why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def proving() -> Iterator[None]:
    """Raise IncompleteCheckError for any error in the block but a DifferenceError."""
    try:
        yield
    except DifferenceError:
        raise
    except SystemExit:
        raise IncompleteCheckError(CommandError("Stopped before everything was checked.")) from None
    except Exception as error:
        raise IncompleteCheckError(error) from error


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


@contextmanager
def connected_database(
    loaded: Settings | None = None, *, needs_keys: bool = True
) -> Iterator[Settings]:
    """Have the database connected and up to date while a command works."""
    chosen = loaded or settings()
    running = startup.connect(chosen, report=say, needs_keys=needs_keys)
    try:
        yield chosen
    finally:
        running.stop()
