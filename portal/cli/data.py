"""Commands for the data: migrations, demo, keys, jobs, payments, usage."""

from __future__ import annotations

import gc
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from domain import key_rotation, payments
from domain.errors import Conflict
from domain.metering import usage
from portal import demo, startup
from portal.cli.serve import say_sign_ins
from portal.cli.shared import ACTOR, CommandError, commands, connected_database, say
from portal.runtime import database, logs
from portal.runtime.gateways import gateway_faults, gateways
from portal.runtime.settings import settings
from portal.ui import formats

if TYPE_CHECKING:
    from collections.abc import Iterator


_OBJECTS_BETWEEN_COLLECTIONS = 50_000


@commands.command()
def migrate() -> None:
    """Bring the database's tables, the sites and the price list up to date."""
    with connected_database(needs_keys=False):
        say("The database is up to date.")


@commands.command("demo")
def load_demo() -> None:
    """Load the sample accounts and their usage; where they exist, change nothing."""
    if not settings().demo:
        raise CommandError(
            "The demo password is public, so it works only in demo mode: set DEMO=1."
        )
    with connected_database():
        demo.load(database.sessions(), report=say)
    say("Demo data loaded.")
    say_sign_ins()


@commands.command("rotate-key")
def rotate_key(
    *,
    discard_lost: Annotated[
        bool,
        typer.Option(
            "--discard-lost",
            help="Delete the keys that no secret key can decrypt, and the data that they encrypt.",
        ),
    ] = False,
) -> None:
    """Bring every key in the database under SECRET_KEY, so that no older one is needed."""
    with connected_database(needs_keys=False) as chosen, _progress() as progress:
        task = progress.add_task("Keys", total=None)
        done = key_rotation.rotate_keys(
            database.sessions(),
            keyring=chosen.keyring,
            actor=ACTOR,
            discard_lost=discard_lost,
            on_batch=lambda count: progress.advance(task, count),
        )
    say(f"Keys in the database: {done.total}. Rewritten now: {done.rewrapped}.")
    if done.discarded:
        say(f"Deleted, because no secret key opens them: {done.lost}.")
    if not done.is_complete:
        raise CommandError(
            f"Keys that SECRET_KEY does not open: {done.remaining}. Add the key that they are under"
            " to SECRET_KEY_PREVIOUS and run this again; a portal that still runs with another"
            " SECRET_KEY makes more of them."
        )
    say("SECRET_KEY opens all of them: SECRET_KEY_PREVIOUS is no longer needed.")


@commands.command()
def jobs() -> None:
    """Run the scheduled jobs until stopped, beside portals that run with JOBS=0."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    logs.set_up(settings())
    running = startup.prepare(replace(settings(), runs_jobs=True), report=say)
    try:
        say("Running jobs. Press Ctrl-C to stop.")
        stop.wait()
    finally:
        running.stop()
    say("Stopped.")


@commands.command("check-payments")
def check_payments() -> None:
    """Ask the gateways about every payment and refund that is due, as the clock's job does."""
    with connected_database() as chosen:
        for fault in gateway_faults(chosen):
            say(fault)
        say(payments.check_due(database.sessions(), gateways=gateways(), actor=ACTOR))


@commands.command("import-usage")
def import_usage(
    file: Annotated[Path, typer.Argument(help="CSV file of calls.")],
    account: Annotated[
        list[int] | None,
        typer.Option(help="Account for rows that name none (repeat to spread them over several)."),
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="File for rows that cannot be charged.")
    ] = None,
) -> None:
    """Charge every call of a file once; again, or after a break, it charges what is missing.

    Calls without an id are known by their content and their account: the same rows in another
    file that names other accounts are other calls.
    """
    if not file.is_file():
        raise CommandError(f"File not found: {file}.")
    rejects_path = rejects or file.with_name(f"{file.name}.rejects.csv")
    if rejects_path.exists() and rejects_path.samefile(file):
        raise CommandError("The rejects would replace the file of calls: name another file.")
    with connected_database(), _progress() as progress, _rare_collections():
        task = progress.add_task(file.name, total=None)

        def report(done_rows: int, total_rows: int | None) -> None:
            progress.update(task, completed=done_rows, total=total_rows)

        try:
            summary = usage.import_usage(
                database.sessions(),
                path=file,
                accounts=account or (),
                rejects_path=rejects_path,
                actor=ACTOR,
                report=report,
            )
        except Conflict:
            raise CommandError(
                "This file was imported before, spread over other accounts:"
                " name the same ones, or none."
            ) from None
    _say_summary(summary, rejects_path)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Have the garbage collector look rarely: rows make no cycles, and the program stays."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )


def _say_summary(summary: usage.ImportSummary, rejects_path: Path) -> None:
    counts = (
        ("calls", summary.calls),
        ("charged now", summary.charged),
        ("charged before", summary.replayed),
        ("refused", summary.refused),
        ("rejected", summary.rejected),
    )
    for words, count in counts:
        say(f"  {words:<15} {formats.number(count, locale='en'):>15}")
    for currency, exact_micros in sorted(summary.totals.items()):
        say(f"  {'sum':<15} {formats.exact_money(exact_micros, currency, locale='en'):>15}")
    if summary.rejected:
        say(f"Rows that cannot be charged, and why: {rejects_path}")
