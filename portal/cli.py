"""The command line: `python -m portal COMMAND`. What goes wrong is one clear line, and exit 1."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path  # noqa: TC003 - Typer reads annotations
from typing import TYPE_CHECKING, Annotated

import typer
import uvicorn
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.exc import DBAPIError

from db.embedded.server import EmbeddedPostgresError
from domain import ledger, payments, staff
from domain.actors import StaffRole, system_actor
from domain.audit import chain
from domain.audit.chain import Head
from domain.errors import BillingError, Conflict, InvalidInput, NotFound
from domain.ledger.chart_page import chart_page
from domain.metering import usage
from domain.permissions_page import permissions_page
from domain.security import secret_keys
from domain.staff import find_person
from portal import demo, startup
from portal.routes import proxies
from portal.runtime import database, gateway_sandbox, logs, ports
from portal.runtime.gateways import gateway_faults, gateways
from portal.runtime.http_protocol import TimeLimitedHTTP, TimeLimitedWebSocket
from portal.runtime.settings import ROOT, Settings, SettingsError, settings
from portal.ui import formats
from portal.ui.labels.forms import fault_text

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from types import FrameType

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from domain.audit.chain import Break

_ACTOR = system_actor("command-line")
_GRACE_SECONDS = 5
_OBJECTS_BETWEEN_COLLECTIONS = 50_000

_BREAKS = {
    "seal_missing": "its seal is missing.",
    "row_deleted": "the row was deleted.",
    "row_changed": "the row was changed, or swapped with another.",
    "never_sealed": "the row was written past the sealer.",
    "cut": "the chain ends before the head that was kept.",
    "other_chain": "the head that was kept is of another chain.",
}

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Credit portal: serve it, and look after its data. The README lists the settings.",
)


class CommandError(Exception):
    """The command cannot be carried out; the message is the sentence for whoever gave it."""


_EXPECTED = (
    CommandError,
    SettingsError,
    ports.PortError,
    BillingError,
    EmbeddedPostgresError,
    DBAPIError,
    OSError,
)


def main() -> None:
    """Run the command that the arguments name, and exit with its status."""
    signal.signal(signal.SIGTERM, _exit_quietly)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        commands()
    except _EXPECTED as error:
        print(_sentence(error), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _exit_quietly(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _sentence(error: Exception) -> str:
    if isinstance(error, SettingsError):
        return "The settings need a change:\n" + "\n".join(error.problems)
    if isinstance(error, DBAPIError):
        return f"The database does not answer as it should: {_first_line(error.orig)}"
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
        "The file's first line names no column {columns}."
        " A file of calls has the columns TIMESTAMP, ContextTokens and GeneratedTokens."
    ),
    ("file", "doubled_columns"): "The file's first line names more than one column {columns}.",
    ("file", "not_csv"): "The file's first line is no line of comma-separated values.",
    ("file", "add_an_id_column"): (
        "The file has more than {most} rows without an id, too many to tell apart:"
        " add a column named id, different in every row."
    ),
    ("account", "unknown"): "There is no account {account}.",
}


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def _database(loaded: Settings | None = None, *, needs_keys: bool = True) -> Iterator[Settings]:
    """Have the database connected and up to date while a command works."""
    chosen = loaded or settings()
    running = startup.connect(chosen, report=_say, needs_keys=needs_keys)
    try:
        yield chosen
    finally:
        running.stop()


# ── Serving ───────────────────────────────────────────────────────────────────────────────────
@commands.command()
def serve(
    port: Annotated[
        int | None, typer.Option(help="Where to listen. Without it: PORT, or 8501.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; put a proxy with TLS in front.")
    ] = "127.0.0.1",
) -> None:
    """Start the portal, with sample accounts where it has its own database."""
    if port is not None:
        # Links in mails and the pages' own idea of their address go by the setting.
        os.environ["PORT"] = str(port)
    chosen = settings()
    listener = ports.listen(host, chosen.port)
    logs.set_up(chosen)
    _hear_startup()
    os.chdir(ROOT)
    _say("Starting the portal")
    proxies.leave_headers_to_portal()
    # Streamlit takes seconds to import, which other commands need not wait for.
    from app import app  # noqa: PLC0415

    guarded = _GuardedStart(app)
    server = _Server(_server_settings(guarded), chosen, host)
    try:
        with gateway_sandbox.running(chosen):
            server.run(sockets=[listener])
    except (KeyboardInterrupt, SystemExit):
        # Stopped by a signal, or not started; the lines below tell which.
        pass
    finally:
        listener.close()
    if guarded.failure is not None:
        raise guarded.failure
    _say("Stopped.")


def _hear_startup() -> None:
    """Show in plain words what takes long before the portal is ready."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("portal.startup")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False


def _server_settings(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        http=TimeLimitedHTTP,
        ws=TimeLimitedWebSocket,
        # The application decides itself whose X-Forwarded-For counts: portal/routes/proxies.py.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level=logging.WARNING,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


class _GuardedStart:
    """Keeps why the application could not start, for one sentence instead of a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        is_answered = False

        async def answer(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            # Without the traceback that a failure's message has.
            await send({"type": message["type"]})

        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            self.failure = error
            if is_answered:
                raise
            await send({"type": "lifespan.startup.failed"})


class _Server(uvicorn.Server):
    """A server that says where it listens, and in demo mode how to sign in, once it is ready."""

    def __init__(self, config: uvicorn.Config, chosen: Settings, host: str) -> None:
        super().__init__(config)
        self._chosen = chosen
        self._host = host

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            await asyncio.to_thread(_announce, self._chosen, self._host)


def _announce(chosen: Settings, host: str) -> None:
    address = chosen.base_url
    if chosen.allows_any_host and host not in {"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"}:  # noqa: S104 - compared
        address = f"http://{host}:{chosen.port}"
    _say(f"\nThe portal is ready: {address}   (Ctrl-C stops it)")
    if chosen.demo:
        _say_sign_ins()
    if chosen.gateways.sandbox_url is not None:
        _say("\nPayments go to stand-ins of the gateways, with test money.")
    for fault in gateway_faults(chosen):
        _say(f"\n{fault}")


def _say_sign_ins() -> None:
    width = max(len(email) for email, _role in demo.SIGN_INS)
    _say(f"\nSign in as one of these; the password is {demo.PASSWORD}")
    for email, role in demo.SIGN_INS:
        _say(f"  {email:<{width}}  {role}")
    _say(f"\nA voucher code to try: {demo.VOUCHER_CODE}")


# ── The database ──────────────────────────────────────────────────────────────────────────────
@commands.command()
def migrate() -> None:
    """Bring the database's tables, the sites and the price list up to date."""
    with _database(needs_keys=False):
        _say("The database is up to date.")


@commands.command("demo")
def load_demo() -> None:
    """Load the sample accounts and their usage; where they exist, change nothing."""
    if not settings().demo:
        raise CommandError(
            "The demo's password is known to everybody, so it is for demo mode alone: set DEMO=1."
        )
    with _database():
        demo.load(database.sessions(), report=_say)
    _say("The demo is loaded.")
    _say_sign_ins()


@commands.command("rotate-key")
def rotate_key(
    *,
    discard_lost: Annotated[
        bool,
        typer.Option(
            "--discard-lost",
            help="Delete the keys that no secret key opens, and with them what they encrypted.",
        ),
    ] = False,
) -> None:
    """Bring every key in the database under SECRET_KEY, so that no older one is needed."""
    with _database(needs_keys=False) as chosen, _progress() as progress:
        task = progress.add_task("Keys", total=None)
        done = secret_keys.rotate_keys(
            database.sessions(),
            keyring=chosen.keyring,
            actor=_ACTOR,
            discard_lost=discard_lost,
            on_batch=lambda count: progress.advance(task, count),
        )
    _say(f"Keys in the database: {done.total}. Rewritten now: {done.rewrapped}.")
    if done.discarded:
        _say(f"Deleted, because no secret key opens them: {done.lost}.")
    if not done.is_complete:
        raise CommandError(
            f"Keys that SECRET_KEY does not open: {done.remaining}. Add the key that they are under"
            " to SECRET_KEY_PREVIOUS and run this again; a portal that still runs with another"
            " SECRET_KEY makes more of them."
        )
    _say("SECRET_KEY opens all of them: SECRET_KEY_PREVIOUS is no longer needed.")


@commands.command("create-user")
def create_user(
    email: Annotated[str, typer.Option(prompt="Email")],
    name: Annotated[str, typer.Option(prompt="Name")],
    role: Annotated[
        StaffRole | None, typer.Option(help="What the person does as staff. Without it: no staff.")
    ] = None,
) -> None:
    """Make a person whose address needs no proof, such as the first administrator."""
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    with _database():
        try:
            database.transaction(
                staff.create_person,
                email=email,
                display_name=name,
                password=password,
                role=role,
                actor=_ACTOR,
            )
        except Conflict:
            raise CommandError(f"There is a person with the address {email} already.") from None
    _say(f"Made {email}" + (f", {role}." if role else "."))


@commands.command("reset-second-factor")
def reset_second_factor(
    email: Annotated[str, typer.Argument(help="Whose app, passkeys and recovery codes are lost.")],
    reason: Annotated[str, typer.Option(prompt="Reason")],
) -> None:
    """Remove somebody's second factors, such as those of the only administrator.

    They are signed out and told by mail. Finance and administrators set a new one up when they
    sign in next.
    """
    with _database():
        try:
            person = database.read_snapshot(find_person, email=email, actor=_ACTOR)
        except NotFound:
            raise CommandError(f"Nobody has signed up with the address {email}.") from None
        database.transaction(
            staff.reset_second_factors, user_id=person.user_id, reason=reason, actor=_ACTOR
        )
    _say(f"{email} signs in with the password alone, or sets up a new second factor.")


@commands.command()
def jobs() -> None:
    """Run the clock's jobs (expiry, mail, checks) until stopped; for JOBS=0 elsewhere."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    logs.set_up(settings())
    running = startup.prepare(replace(settings(), runs_jobs=True), report=_say)
    try:
        _say("The jobs run. Ctrl-C stops them.")
        stop.wait()
    finally:
        running.stop()
    _say("Stopped.")


# ── Payments ──────────────────────────────────────────────────────────────────────────────────
@commands.command("check-payments")
def check_payments() -> None:
    """Ask the gateways about every payment and refund that is due, as the clock's job does."""
    with _database() as chosen:
        for fault in gateway_faults(chosen):
            _say(fault)
        _say(payments.check_due(database.sessions(), gateways=gateways(), actor=_ACTOR))


# ── The ledger ────────────────────────────────────────────────────────────────────────────────
@commands.command("import-usage")
def import_usage(
    file: Annotated[Path, typer.Argument(help="The file of calls.")],
    account: Annotated[
        list[int] | None,
        typer.Option(help="Where rows name no account: spread them over these (repeat it)."),
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Where rows go that cannot be charged.")
    ] = None,
) -> None:
    """Charge every call of a file once; again, or after a break, it charges what is missing.

    Calls without an id are known by their content and their account: the same rows in another
    file that names other accounts are other calls.
    """
    if not file.is_file():
        raise CommandError(f"There is no file {file}.")
    rejects_path = rejects or file.with_name(f"{file.name}.rejects.csv")
    if rejects_path.exists() and rejects_path.samefile(file):
        raise CommandError("The rejects would replace the file of calls: name another file.")
    with _database(), _progress() as progress, _rare_collections():
        task = progress.add_task(file.name, total=None)

        def report(done_rows: int, total_rows: int | None) -> None:
            progress.update(task, completed=done_rows, total=total_rows)

        try:
            summary = usage.import_usage(
                database.sessions(),
                path=file,
                accounts=account or (),
                rejects_path=rejects_path,
                actor=_ACTOR,
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
        _say(f"  {words:<15} {formats.number(count, locale='en'):>15}")
    for currency, exact_micros in sorted(summary.totals.items()):
        _say(f"  {'sum':<15} {formats.exact_money(exact_micros, currency, locale='en'):>15}")
    if summary.rejected:
        _say(f"Rows that cannot be charged, and why: {rejects_path}")


@commands.command("verify-ledger")
def verify_ledger() -> None:
    """Recompute every balance from the facts; exit 1 where anything differs."""
    with _database(needs_keys=False):
        differences = database.transaction(ledger.verify_ledger, actor=_ACTOR)
        unpaid = database.transaction(ledger.top_ups_without_payment, actor=_ACTOR)
    for difference in differences:
        _say(_difference_text(difference))
    if unpaid:
        _say(f"Top-ups without a payment, imported by the system: {len(unpaid)}")
    if differences:
        raise CommandError(f"The ledger is not right. Differences: {len(differences)}")
    _say("The ledger is right.")


@commands.command("permissions")
def permissions() -> None:
    """Print who may do what, as docs/permissions.md has it."""
    typer.echo(permissions_page(), nl=False)


@commands.command("chart-of-accounts")
def chart_of_accounts() -> None:
    """Print the accounts of the journal, as docs/chart-of-accounts.md has them."""
    typer.echo(chart_page(), nl=False)


@commands.command("verify-audit")
def verify_audit(
    head: Annotated[
        str, typer.Option(help="A head that was kept elsewhere, as this command printed it.")
    ] = "",
) -> None:
    """Prove that nothing of the audit log was changed or removed; exit 1 where it was."""
    kept = Head.parse(head) if head else None
    with _database(needs_keys=False):
        proof = database.transaction(chain.verify_audit, actor=_ACTOR, kept=kept)
    if proof.first_break is not None:
        raise CommandError(_break_text(proof.first_break))
    _say(f"The audit log is proved: {proof.rows} rows. Waiting for a seal: {proof.waiting}.")
    if proof.head is not None:
        _say(f"Keep this head where nobody of the database comes: {proof.head}")


def _break_text(found: Break) -> str:
    where = f"position {found.position}"
    if found.audit_id is not None:
        where += f", row {found.audit_id}"
    return f"The audit log is broken at {where}: {_BREAKS[found.kind]}"


def _difference_text(difference: ledger.Difference) -> str:
    where = f"account {difference.account_id}" if difference.account_id else "no account"
    return (
        f"{difference.check}: {where}, {difference.key}:"
        f" expected {difference.expected}, found {difference.found}"
    )
