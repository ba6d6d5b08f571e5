"""Start-up: from settings to a portal that can serve, with its database, tables, configuration."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from db.embedded import server as embedded
from db.engine import connections_for_us
from db.migrate import migrate
from domain import key_rotation, outbox, payments
from domain.actors import system_actor
from domain.bootstrap import load_reference
from domain.jobs import Job, JobRunner, last_successes, standard_jobs
from portal import demo
from portal.exports import jobs as export_jobs
from portal.runtime import database, mail, metrics
from portal.runtime.gateways import gateways, log_gateway_faults, vault
from portal.runtime.settings import SettingsError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from domain.actors import Actor
    from portal.runtime.settings import Settings

_log = logging.getLogger(__name__)


class Running:
    """The parts that `prepare` or `connect` started; `stop` ends them in the opposite order."""

    def __init__(self, database_url: str, stack: ExitStack) -> None:
        self.database_url = database_url
        self._stack = stack

    def stop(self) -> None:
        """Stop the started parts. A second call has no effect."""
        self._stack.close()


def connect(
    settings: Settings, *, report: Callable[[str], None] = _log.info, needs_keys: bool = True
) -> Running:
    """Start the database if it is the portal's own, bring it up to date, and connect to it.

    `report` receives a sentence about each step that takes long. Raises EmbeddedPostgresError where
    there can be no database of its own, SQLAlchemy's errors where the given one cannot be used,
    UnknownVersionError where it has a version that no migration knows, and SettingsError where
    SECRET_KEY does not open what the database holds; without `needs_keys` that is a warning.
    """
    with ExitStack() as stack:
        url, folder = settings.database_url, None
        if url is None:
            server = embedded.acquire(settings.data_directory, report=report)
            stack.callback(server.release)
            url, folder = server.url, server.data_directory
        migrate(settings.migration_database_url or url, data_directory=folder)
        database.connect(
            url,
            pool_size=settings.database_pool_size,
            pool_overflow=settings.database_pool_overflow,
            pool_wait_seconds=settings.database_pool_wait_seconds,
            read_timeout_seconds=settings.read_timeout_seconds,
            statement_timeout_seconds=settings.statement_timeout_seconds,
            job_timeout_seconds=settings.job_timeout_seconds,
            vault=settings.vault,
        )
        stack.callback(database.disconnect)
        _open_keys(settings, needs_keys=needs_keys)
        database.transaction(
            load_reference, actor=system_actor("startup"), folder=settings.config_directory
        )
        return Running(url, stack.pop_all())


def prepare(settings: Settings, *, report: Callable[[str], None] = _log.info) -> Running:
    """Connect, and have everything else that a serving portal needs.

    That is the demo's data in demo mode, and the jobs where this process runs them. Raises as
    `connect` does, PortError where the metrics cannot have their port, and SettingsError where
    the database is a demo's and the portal is not.
    """
    with ExitStack() as stack:
        if settings.metrics_port is not None:
            stack.callback(metrics.serve(settings.metrics_host, settings.metrics_port))
        running = connect(settings, report=report)
        stack.callback(running.stop)
        _compare_connections(settings)
        log_gateway_faults(settings)
        if settings.demo:
            demo.load(database.sessions(), report=report)
            database.transaction(demo.load_rates)
            database.transaction(demo.load_campaigns)
        elif database.read_snapshot(demo.anyone_can_sign_in):
            raise SettingsError((_DEMO_PEOPLE,))
        if mail.make_sender(settings) is None and not settings.demo:
            _log.warning("SMTP_HOST is not set: mail waits in the outbox, and nobody can sign up")
        if settings.runs_jobs:
            runner = _job_runner(settings)
            runner.start()
            stack.callback(runner.stop)
        return Running(running.database_url, stack.pop_all())


def _open_keys(settings: Settings, *, needs_keys: bool) -> None:
    """Decrypt the database's keys with the secret key. Raises SettingsError where it cannot."""
    state = database.read_snapshot(key_rotation.key_state, keyring=settings.keyring)
    if state.lost:
        if not settings.demo and database.read_snapshot(demo.anyone_can_sign_in):
            raise SettingsError((_DEMO_PEOPLE,))
        problem = _LOST_KEYS.format(lost=state.lost, total=state.total)
        if needs_keys:
            raise SettingsError((problem,))
        _log.warning(problem)
        return
    key = database.transaction(key_rotation.open_digest_key, keyring=settings.keyring)
    database.use_digest_key(key)
    if state.older and settings.previous_secret_keys:
        _log.warning(
            "%d of %d keys are not known to be under SECRET_KEY: leave SECRET_KEY_PREVIOUS as it is"
            " until python -m portal rotate-key has rewritten them",
            state.older,
            state.total,
        )


def _job_runner(settings: Settings) -> JobRunner:
    sessions = database.sessions()
    actor = system_actor("jobs")
    sender = mail.make_sender(settings)
    deliver = None if sender is None else partial(outbox.deliver_due, sessions, send=sender)
    standard = standard_jobs(sessions, actor=actor, deliver_mail=deliver)
    jobs = metrics.watched((*standard, export_jobs.job(), *_payment_jobs(settings, actor)))
    for name, succeeded_at in database.read_snapshot(last_successes).items():
        metrics.job_succeeded_before(name, succeeded_at)
    return JobRunner(sessions, jobs, actor)


def _payment_jobs(settings: Settings, actor: Actor) -> tuple[Job, ...]:
    def issue(_stop: threading.Event) -> str:
        with database.sessions().begin() as session:
            count = payments.issue_documents(session, vault=vault(), actor=actor)
        return f"{count} issued"

    return (
        *(_polling(name, actor) for name in settings.gateways.by_name),
        Job("issue_documents", payments.CHECK_EVERY, issue),
    )


def _polling(name: str, actor: Actor) -> Job:
    """Return the job that polls one gateway, in a lane of its own: none waits for another."""

    def check(stop: threading.Event) -> str:
        return payments.check_due(
            database.sessions(),
            gateways={name: gateways()[name]},
            actor=actor,
            stop=stop,
            on_failure=metrics.payment_check_failed,
        )

    return Job(f"check_payments_{name}", payments.CHECK_EVERY, check, lane=f"gateway-{name}")


def _compare_connections(settings: Settings) -> None:
    """Warn where this process alone could open more connections than the server allows."""
    most = settings.database_pool_size + settings.database_pool_overflow
    has = database.read_snapshot(connections_for_us)
    if most > has:
        _log.warning(
            "The pool may open %d connections, and the database has %d for all: make"
            " DATABASE_POOL_SIZE and DATABASE_POOL_OVERFLOW smaller, or its max_connections"
            " larger.",
            most,
            has,
        )


_LOST_KEYS = (
    "SECRET_KEY is not the one that this database was used with: {lost} of its {total} keys open"
    " neither by it nor by SECRET_KEY_PREVIOUS, and without them receipts, gateway messages and"
    " waiting mails cannot be read. Add the key of before to SECRET_KEY_PREVIOUS. If it is lost,"
    " what it encrypted is lost too: python -m portal rotate-key --discard-lost goes on without it."
)
_DEMO_PEOPLE = (
    "The database has the demo's people in it, and everybody knows their password: use another"
    " database, or set DEMO=1."
)
