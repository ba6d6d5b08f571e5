"""Counters and timings of the process for Prometheus, and the port that serves them.

Labels have few values, known beforehand: routes by their template, pages by their file, jobs by
their name. No account, no person and no address is one.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from sqlalchemy import QueuePool, event
from sqlalchemy.exc import TimeoutError as PoolExhausted

from portal.runtime import ports
from portal.runtime.process_state import shared

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from sqlalchemy import Engine
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.pool import PoolProxiedConnection

    from domain.jobs import Job

_STATEMENT_TOO_LONG = "57014"
_LOCK_TOO_LONG = "55P03"
_FAULTS = {
    _STATEMENT_TOO_LONG: "statement_timeout",
    _LOCK_TOO_LONG: "lock_timeout",
    "40001": "serialization",
    "40P01": "deadlock",
}
_VERBS = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "COPY"))
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_QUERY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 15, 60)
_STARTED = "portal_query_started"


class _Metrics:
    """Every figure of the process, in a registry of its own."""

    def __init__(self) -> None:
        # The creation times: a second series for each metric that no query uses.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"namespace": "portal", "registry": self.registry}
        self.requests = Counter(
            "requests", "Answered requests", ("method", "route", "status"), **own
        )
        self.request_seconds = Histogram(
            "request_seconds", "From a request to its answer's end", ("route",), buckets=_SECONDS,
            **own,
        )  # fmt: skip
        self.websockets = Gauge("websockets_open", "Browsers that have a page open", **own)
        self.reruns = Counter("reruns", "Runs of a page", ("page", "outcome"), **own)
        self.rerun_seconds = Histogram(
            "rerun_seconds", "A run of a page, queries included", ("page",), buckets=_SECONDS, **own
        )
        self.query_seconds = Histogram(
            "query_seconds", "A statement on the database", ("verb",), buckets=_QUERY_SECONDS, **own
        )
        self.query_errors = Counter(
            "query_errors", "Statements that the database ended", ("reason",), **own
        )
        self.pool_wait_seconds = Histogram(
            "pool_wait_seconds", "Waiting for a connection", buckets=_QUERY_SECONDS, **own
        )
        self.pool_timeouts = Counter("pool_timeouts", "Waits given up: the pool was full", **own)
        self.pool_size = Gauge("pool_size", "Connections that stay open", **own)
        self.pool_checked_out = Gauge("pool_checked_out", "Connections at work", **own)
        self.pool_overflow = Gauge("pool_overflow", "Connections above the pool's size", **own)
        self.webhooks = Counter(
            "webhooks", "Messages in the name of a gateway", ("gateway", "outcome"), **own
        )
        self.payment_check_failures = Counter(
            "payment_check_failures", "Questions to a gateway about a payment that failed",
            ("gateway",), **own,
        )  # fmt: skip
        self.job_runs = Counter("job_runs", "Runs of a job", ("job",), **own)
        self.job_failures = Counter("job_failures", "Runs of a job that failed", ("job",), **own)
        self.job_seconds = Gauge("job_last_run_seconds", "How long the last run took", ("job",),
                                 **own)  # fmt: skip
        self.job_success = Gauge(
            "job_last_success_timestamp_seconds", "When a job last succeeded", ("job",), **own
        )
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)


def _all() -> _Metrics:
    return shared("metrics", _Metrics)


# ── Requests and pages ────────────────────────────────────────────────────────────────────────
def request_answered(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request; `route` is a template, never an address with a person's number in it."""
    figures = _all()
    known = method if method in _METHODS else "other"
    figures.requests.labels(known, route, str(status)).inc()
    figures.request_seconds.labels(route).observe(seconds)


def webhook_taken(gateway: str, outcome: str) -> None:
    """Count a webhook in the name of a gateway, by its outcome."""
    _all().webhooks.labels(gateway, outcome).inc()


def payment_check_failed(gateway: str) -> None:
    """Count a question about a payment that failed, or whose answer could not be processed."""
    _all().payment_check_failures.labels(gateway).inc()


@contextmanager
def websocket_open() -> Iterator[None]:
    """Count a browser's page for as long as the block lasts."""
    with _all().websockets.track_inprogress():
        yield


def page_ran(page: str, outcome: str, seconds: float) -> None:
    """Count a run of a page: "done", "stopped" (the next one took its place) or "failed"."""
    figures = _all()
    figures.reruns.labels(page, outcome).inc()
    figures.rerun_seconds.labels(page).observe(seconds)


# ── The database ──────────────────────────────────────────────────────────────────────────────
class MeasuredPool(QueuePool):
    """A pool that measures waits for a connection, and counts those that timed out."""

    def connect(self) -> PoolProxiedConnection:
        """Return a connection. Raises sqlalchemy.exc.TimeoutError where none becomes free."""
        figures = _all()
        started = time.perf_counter()
        try:
            return super().connect()
        except PoolExhausted:
            figures.pool_timeouts.inc()
            raise
        finally:
            figures.pool_wait_seconds.observe(time.perf_counter() - started)


def measure(engine: Engine) -> None:
    """Time every statement of the engine, and report the use of its pool."""
    figures = _all()
    event.listen(engine, "before_cursor_execute", _statement_starts)
    event.listen(engine, "after_cursor_execute", _statement_ended)
    event.listen(engine, "handle_error", _statement_failed)
    # Read when Prometheus polls: `dispose` gives an engine another pool.
    figures.pool_size.set_function(lambda: _pool_figure(engine, QueuePool.size))
    figures.pool_checked_out.set_function(lambda: _pool_figure(engine, QueuePool.checkedout))
    figures.pool_overflow.set_function(
        lambda: max(0, _pool_figure(engine, QueuePool.overflow))  # below 0 until it has filled
    )


def _pool_figure(engine: Engine, ask: Callable[[QueuePool], int]) -> int:
    return ask(engine.pool) if isinstance(engine.pool, QueuePool) else 0


def _statement_starts(connection: Any, *_rest: object) -> None:  # noqa: ANN401 - SQLAlchemy's
    connection.info[_STARTED] = time.perf_counter()


def _statement_ended(connection: Any, _cursor: object, statement: str, *_rest: object) -> None:  # noqa: ANN401 - SQLAlchemy's
    started = connection.info.pop(_STARTED, None)
    if started is not None:
        verb = statement.lstrip()[:6].partition(" ")[0].rstrip().upper()
        label = verb.lower() if verb in _VERBS else "other"
        _all().query_seconds.labels(label).observe(time.perf_counter() - started)


def _statement_failed(context: ExceptionContext) -> None:
    code = getattr(context.original_exception, "pgcode", None) or ""
    _all().query_errors.labels(_FAULTS.get(code, "other")).inc()


# ── Jobs ──────────────────────────────────────────────────────────────────────────────────────
def watched(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """Return the jobs, each of whose runs is counted and timed."""
    return tuple(replace(job, run=_watched_run(job)) for job in jobs)


def _watched_run(job: Job) -> Callable[[threading.Event], str]:
    figures = _all()
    runs, failures = figures.job_runs.labels(job.name), figures.job_failures.labels(job.name)

    def run(stop: threading.Event) -> str:
        started = time.perf_counter()
        runs.inc()
        try:
            message = job.run(stop)
        except Exception:
            failures.inc()
            raise
        finally:
            figures.job_seconds.labels(job.name).set(time.perf_counter() - started)
        figures.job_success.labels(job.name).set_to_current_time()
        return message

    return run


def job_succeeded_before(name: str, moment: datetime) -> None:
    """Note a success from before this process began."""
    _all().job_success.labels(name).set(moment.timestamp())


# ── The port ──────────────────────────────────────────────────────────────────────────────────
def serve(host: str, port: int) -> Callable[[], None]:
    """Serve the metrics at http://host:port/metrics; return a function that stops it.

    Raises PortError where the port cannot be used.
    """
    try:
        server, thread = start_http_server(port, host, registry=_all().registry)
    except OSError as error:
        raise ports.PortError(ports.reason(error, host, port, "METRICS_PORT")) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
