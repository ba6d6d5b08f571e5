"""Scheduled jobs: expiry, mail, purging, and the proof of the ledger.

Every process may have a runner. An advisory lock of the database picks the one that works; the
others stand by, and one of them takes over when its connection ends. Jobs may be run twice, or be
cut off anywhere: the services that they call are idempotent.

Jobs of one lane run one after the other, and lanes side by side, a thread each: what waits for a
mail server or a gateway, or takes minutes at night, holds up nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from domain import audit, clock, ledger
from domain.audit.chain import seal_audit_log, verify_audit
from domain.identity import purge_identity
from domain.ledger.charges import FUTURE_TOLERANCE
from domain.outbox import Delivery, MailServerUnavailable
from domain.permissions import require
from domain.staff import end_due_role_requests
from domain.support import expire_requests
from domain.uploads import purge_uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor

DONE = "done"
FAILED = "failed"
QUICK, NIGHTLY, MAIL = "quick", "nightly", "mail"
"""Lanes: what takes moments, what takes minutes once a day, and what waits for a mail server."""

STAND_BY = timedelta(seconds=5)
"""How long a process waits before it asks again whether it is the one that works."""

_log = logging.getLogger(__name__)

_ROUND = 500
_FOLDING = timedelta(seconds=15)
_FOLD_BATCH_SIZE = 10_000
_SEALED = 5_000
_SOONEST_RETRY = timedelta(minutes=1)
_LATEST_RETRY = timedelta(minutes=15)
_MAX_DETAILS_LENGTH = 500
_STOP_SECONDS = 10
_LANES_STOP_SECONDS = 8

_LEAD = text("SELECT pg_try_advisory_lock(hashtextextended('jobs', 0))")
_STEP_DOWN = text("SELECT pg_advisory_unlock(hashtextextended('jobs', 0))")
_STILL_THERE = text("SELECT 1")
_LAST_RUN = text("SELECT started_at, finished_at, outcome FROM job_runs WHERE name = :name")
_LAST_SUCCESSES = text("SELECT name, finished_at FROM job_runs WHERE outcome = :outcome")
_BEGIN = text("""
INSERT INTO job_runs (name, started_at) VALUES (:name, :now)
ON CONFLICT (name) DO UPDATE
SET started_at = EXCLUDED.started_at, finished_at = NULL, outcome = NULL, details = NULL
""")
_END = text("""
UPDATE job_runs SET finished_at = :now, outcome = :outcome, details = :details WHERE name = :name
""")
_NEXT_ACCOUNT = text("""
SELECT a.id, s.usage_key_retention FROM accounts a JOIN sites s ON s.code = a.site_code
WHERE a.id > :after ORDER BY a.id LIMIT 1
""")
_PURGE_KEYS = text("""
DELETE FROM usage_keys WHERE account_id = :account_id AND recorded_at < :before
RETURNING account_id
""")


@dataclass(frozen=True, slots=True)
class Job:
    """A job to run every `interval`, counted from the start of one run to the next.

    `run` receives the event that requests it to stop, and returns a short summary for the log of
    jobs. A run that raises is logged and tried again later. What waits for a network has a `lane`
    of its own for each server that it waits for.
    """

    name: str
    interval: timedelta
    run: Callable[[threading.Event], str]
    lane: str = QUICK


# ── The runner ────────────────────────────────────────────────────────────────────────────────
class JobRunner:
    """Runs jobs, a thread each lane, for as long as this process is the one that was picked."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        jobs: Sequence[Job],
        actor: Actor,
        *,
        stand_by: timedelta = STAND_BY,
    ) -> None:
        """Take the jobs. Raises NotAuthorised unless the actor is the system."""
        require(actor, "run_jobs")
        self._sessions = sessions
        self._jobs = tuple(jobs)
        self._stand_by_seconds = stand_by.total_seconds()
        self._stop = threading.Event()
        self._leads = threading.Event()
        self._keeper = threading.Thread(target=self._keep_lock, name="jobs", daemon=True)
        lanes: dict[str, list[Job]] = {}
        for job in self._jobs:
            lanes.setdefault(job.lane, []).append(job)
        self._lanes = [
            threading.Thread(target=self._work, args=(each,), name=f"jobs-{lane}", daemon=True)
            for lane, each in lanes.items()
        ]

    def start(self) -> None:
        """Start a thread that stands by, or works."""
        for thread in (*self._lanes, self._keeper):
            thread.start()

    def stop(self) -> None:
        """Ask the jobs that run to stop soon, and wait for them a few seconds."""
        self._stop.set()
        self._leads.set()  # wakes the lanes that stand by
        if self._keeper.ident is not None:
            self._keeper.join(_STOP_SECONDS)
            self._wait_for_lanes(_STOP_SECONDS)

    def run_due(self) -> None:
        """Run every job that is due, one after the other; a failure stops none of the others."""
        self._run_due(self._jobs)

    def _run_due(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if self._stop.is_set():
                return
            if self._is_due(job):
                self._run(job)

    def _work(self, jobs: Sequence[Job]) -> None:
        """Run the jobs of one lane while this process leads; a job that runs is not cut off."""
        while not self._stop.is_set():
            if not self._leads.wait(self._stand_by_seconds):
                continue
            try:
                self._run_due(jobs)
            except SQLAlchemyError as error:
                _log.warning("jobs wait, the database does not answer: %s", error)
            self._stop.wait(self._stand_by_seconds)

    def _keep_lock(self) -> None:
        while not self._stop.is_set():
            try:
                with self._leading() as lock:
                    if lock is not None:
                        self._lead(lock)
            except SQLAlchemyError as error:
                _log.warning("jobs stand by, the database does not answer: %s", error)
            self._stop.wait(self._stand_by_seconds)

    def _lead(self, lock: Session) -> None:
        _log.info("this process runs the jobs")
        try:
            while not self._stop.is_set():
                # The lock ends with its connection, and another process may have it then.
                lock.execute(_STILL_THERE)
                self._leads.set()
                self._stop.wait(self._stand_by_seconds)
        finally:
            if not self._stop.is_set():
                self._leads.clear()
        # No other process begins before what runs here has ended, or will not end.
        self._wait_for_lanes(_LANES_STOP_SECONDS)

    def _wait_for_lanes(self, seconds: int) -> None:
        ends_at = time.monotonic() + seconds
        for thread in self._lanes:
            if thread is not threading.current_thread():
                thread.join(max(0, ends_at - time.monotonic()))

    @contextmanager
    def _leading(self) -> Iterator[Session | None]:
        """Hold the lock's connection, or None where another process has it."""
        with self._sessions() as session:
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            if not session.execute(_LEAD).scalar_one():
                yield None
                return
            try:
                yield session
                session.execute(_STEP_DOWN)
            except BaseException:
                # A connection that may still have the lock must not go back into the pool.
                session.invalidate()
                raise

    def _is_due(self, job: Job) -> bool:
        with self._sessions() as session:
            last = session.execute(_LAST_RUN, {"name": job.name}).one_or_none()
            now = clock.now(session)
        if last is None or last.finished_at is None:
            # It never ran, or the process that ran it has ended.
            return True
        wait = job.interval
        if last.outcome == FAILED:
            wait = min(max(job.interval, _SOONEST_RETRY), _LATEST_RETRY)
        started_at: datetime = last.started_at
        return now >= started_at + wait

    def _run(self, job: Job) -> None:
        with self._sessions.begin() as session:
            session.execute(_BEGIN, {"name": job.name, "now": clock.now(session)})
        try:
            outcome, details = DONE, job.run(self._stop)
        except Exception as error:  # noqa: BLE001 - whatever it was, the job is tried again
            _log.exception("the job %s failed and is tried again later", job.name)
            outcome, details = FAILED, f"{type(error).__name__}: {error}"
        with self._sessions.begin() as session:
            session.execute(
                _END,
                {
                    "name": job.name,
                    "now": clock.now(session),
                    "outcome": outcome,
                    "details": details[:_MAX_DETAILS_LENGTH],
                },
            )


def last_successes(session: Session) -> dict[str, datetime]:
    """Return when each job ended whose last run was a success."""
    rows = session.execute(_LAST_SUCCESSES, {"outcome": DONE})
    return {name: finished_at for name, finished_at in rows}  # noqa: C416 - rows are no pairs to mypy


# ── The jobs ──────────────────────────────────────────────────────────────────────────────────
def standard_jobs(
    sessions: sessionmaker[Session],
    *,
    actor: Actor,
    deliver_mail: Callable[[], Delivery] | None,
) -> tuple[Job, ...]:
    """Return the product's jobs; without `deliver_mail` mail waits in the outbox."""

    def in_rounds(
        service: Callable[..., int], done: str, limit: int = _ROUND
    ) -> Callable[[threading.Event], str]:
        return lambda stop: f"{_repeat(sessions, service, actor, stop, limit)} {done}"

    def purge(stop: threading.Event) -> str:
        return f"{purge_usage_keys(sessions, actor=actor, stop=stop)} removed"

    def end_requests(_stop: threading.Event) -> str:
        with sessions.begin() as session:
            return f"{expire_requests(session, actor=actor)} expired"

    def once(service: Callable[..., int]) -> Callable[[threading.Event], str]:
        def work(_stop: threading.Event) -> str:
            with sessions.begin() as session:
                return f"{service(session, actor=actor)} removed"

        return work

    day = timedelta(days=1)
    jobs = [
        Job("expire_holds", timedelta(minutes=1), in_rounds(ledger.expire_holds, "expired")),
        Job("expire_grants", timedelta(minutes=1), in_rounds(ledger.expire_grants, "expired")),
        Job("fold_totals", _FOLDING, in_rounds(ledger.fold_totals, "folded", _FOLD_BATCH_SIZE)),
        Job("expire_requests", timedelta(minutes=5), end_requests),
        Job("end_role_requests", timedelta(minutes=1), in_rounds(end_due_role_requests, "ended")),
        Job("seal_audit_log", timedelta(minutes=1), in_rounds(seal_audit_log, "sealed", _SEALED)),
        Job("purge_usage_keys", day, purge, NIGHTLY),
        Job("purge_identity", day, once(purge_identity), NIGHTLY),
        Job("purge_uploads", day, once(purge_uploads), NIGHTLY),
        Job("verify_ledger", day, lambda _stop: _verify(sessions, actor), NIGHTLY),
        Job("verify_audit", day, lambda _stop: _verify_audit(sessions, actor), NIGHTLY),
    ]
    if deliver_mail is not None:
        jobs.append(Job("deliver_mail", timedelta(seconds=5), _mailing(deliver_mail), MAIL))
    return tuple(jobs)


def purge_usage_keys(
    sessions: sessionmaker[Session], *, actor: Actor, stop: threading.Event | None = None
) -> int:
    """Delete event ids older than their site's retention, by account; return how many.

    Such events are refused as too old, so that none of them can be charged again.
    """
    require(actor, "run_jobs")
    removed = 0
    account_id: int | None = 0
    while account_id is not None and not (stop is not None and stop.is_set()):
        with sessions.begin() as session:
            account_id, count = _purge_next_account(session, account_id, actor)
        removed += count
    return removed


def _purge_next_account(session: Session, after: int, actor: Actor) -> tuple[int | None, int]:
    account = session.execute(_NEXT_ACCOUNT, {"after": after}).one_or_none()
    if account is None:
        return None, 0
    # A meter's clock may run ahead: what was recorded before this occurred before the retention.
    before = clock.now(session) - account.usage_key_retention - FUTURE_TOLERANCE
    session.execute(text("SET LOCAL statement_timeout = 0"))
    parameters = {"account_id": account.id, "before": before}
    count = len(session.execute(_PURGE_KEYS, parameters).all())
    if count:
        audit.record(
            session,
            action="purge_usage_keys",
            actor=actor,
            account_id=account.id,
            details={"keys": count},
        )
    return account.id, count


def _repeat(
    sessions: sessionmaker[Session],
    service: Callable[..., int],
    actor: Actor,
    stop: threading.Event,
    limit: int,
) -> int:
    """Call a service, a transaction each time, until it finds no more than it may do at once."""
    total = 0
    while not stop.is_set():
        with sessions.begin() as session:
            count = service(session, actor=actor, limit=limit)
        total += count
        if count < limit:
            break
    return total


def _mailing(deliver_mail: Callable[[], Delivery]) -> Callable[[threading.Event], str]:
    def deliver(stop: threading.Event) -> str:
        sent = retried = failed = 0
        delivery = Delivery()
        while not stop.is_set():
            delivery = deliver_mail()
            sent += delivery.sent
            retried += delivery.retried
            failed += delivery.failed
            if delivery.is_unavailable or not delivery.sent:
                break
        if failed:
            _log.error("%d mails were given up", failed)
        if delivery.is_unavailable:
            raise MailServerUnavailable("the mail server cannot be reached")
        return f"{sent} sent, {retried} to try again, {failed} given up"

    return deliver


def _verify(sessions: sessionmaker[Session], actor: Actor) -> str:
    with sessions.begin() as session:
        differences = ledger.verify_ledger(session, actor=actor)
    for difference in differences:
        _log.error("the ledger contradicts itself: %s", difference)
    return f"{len(differences)} differences"


def _verify_audit(sessions: sessionmaker[Session], actor: Actor) -> str:
    with sessions.begin() as session:
        proof = verify_audit(session, actor=actor)
    if proof.first_break is not None:
        _log.error("the audit log was changed: %s", proof.first_break)
        return f"broken: {proof.first_break.kind} at {proof.first_break.position}"
    return f"{proof.rows} rows proved"
