"""What operators rely on: figures, ids, limits of time, and a pool that never hangs."""

from __future__ import annotations

import json
import logging
import re
import socket
from datetime import timedelta
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from domain.jobs import DONE, FAILED, Job, JobRunner, last_successes
from portal import startup
from portal.routes import health
from portal.routes.middleware import Observed
from portal.runtime import database, metrics, ports
from portal.runtime.settings import SettingsError, load_settings
from tests.factories import SYSTEM
from tests.support.environment import OUTSIDE_DEMO

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from sqlalchemy import QueuePool
    from sqlalchemy.orm import Session
    from starlette.requests import Request


@pytest.fixture
def connect(database_url: str) -> Iterator[Callable[..., None]]:
    """Connect with limits of the test's own."""

    def connected(**limits: Any) -> None:
        database.connect(database_url, **limits)

    yield connected
    database.disconnect()


@pytest.fixture
def figures() -> Iterator[Callable[..., float]]:
    """Return what Prometheus is told of a figure, over the port on which it asks."""
    port = _free_port()
    stop = metrics.serve("127.0.0.1", port)

    def ask(name: str, **labels: str) -> float:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/metrics")
        message = connection.getresponse().read().decode()
        connection.close()
        return sum(
            sample.value
            for family in text_string_to_metric_families(message)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    yield ask
    stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def sleep(session: Session, seconds: int = 30) -> None:
    session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})


def count_checked_out() -> int:
    pool: QueuePool = database.engine().pool  # type: ignore[assignment]
    return pool.checkedout()


# ── Time limits ───────────────────────────────────────────────────────────────────────────────
def test_reads_writes_and_jobs_have_limits_of_their_own(connect: Callable[..., None]) -> None:
    connect(read_timeout_seconds=3, statement_timeout_seconds=20, job_timeout_seconds=400)

    def limits(session: Session) -> tuple[str, str]:
        show = (session.execute(text(f"SHOW {name}_timeout")) for name in ("statement", "lock"))
        statement, lock = (each.scalar_one() for each in show)
        return statement, lock

    assert database.read_snapshot(limits) == ("3s", "1500ms")
    assert database.transaction(limits) == ("20s", "10s")
    with database.sessions()() as session:
        assert limits(session) == ("400s", "200s")
        session.commit()
        assert limits(session) == ("400s", "200s")
    assert database.read_snapshot(limits) == ("3s", "1500ms")


def test_a_transaction_that_nobody_goes_on_with_is_ended(connect: Callable[..., None]) -> None:
    connect()
    show = text("SHOW idle_in_transaction_session_timeout")
    assert database.read_snapshot(lambda session: session.execute(show).scalar_one()) == "5min"


def test_a_query_over_its_time_frees_its_connection(
    connect: Callable[..., None], figures: Callable[..., float]
) -> None:
    connect(pool_size=1, pool_overflow=0, read_timeout_seconds=1)
    before = figures("portal_query_errors_total", reason="statement_timeout")
    with pytest.raises(OperationalError):
        database.read_snapshot(sleep)
    assert count_checked_out() == 0
    assert (
        database.read_snapshot(lambda session: session.execute(text("SELECT 7")).scalar_one()) == 7
    )
    assert figures("portal_query_errors_total", reason="statement_timeout") == before + 1


def test_a_page_whose_query_takes_too_long_says_what_to_do_and_an_id(
    connect: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    connect(read_timeout_seconds=1)
    shown = AppTest.from_function(_page_of_a_slow_query, default_timeout=120).run()
    (error,) = shown.error
    found = re.fullmatch(r"This request took too long\..* \(([0-9a-f]{12})\)", error.value)
    assert found
    assert f"error {found[1]} on page" in caplog.text
    assert "pg_sleep" not in error.value
    assert count_checked_out() == 0


def _page_of_a_slow_query() -> None:
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415 - this is a script of its own

    from portal.runtime import database  # noqa: PLC0415
    from portal.shell import page_runs  # noqa: PLC0415
    from tests.integration.test_operations import sleep  # noqa: PLC0415

    page_runs.begin()
    try:
        database.read_snapshot(sleep)
    except OperationalError as error:
        page_runs.show_error(error)


# ── The pool ──────────────────────────────────────────────────────────────────────────────────
def test_a_full_pool_is_said_soon_and_counted(
    connect: Callable[..., None], figures: Callable[..., float]
) -> None:
    connect(pool_size=1, pool_overflow=0, pool_wait_seconds=1)
    before = figures("portal_pool_timeouts_total")
    with database.sessions()() as holder:
        holder.execute(text("SELECT 1"))
        assert figures("portal_pool_checked_out") == 1
        with pytest.raises(PoolExhausted):
            database.read_snapshot(sleep)
        with answering(full) as browser:
            answer = browser.get("/statements/2026-10", headers={"accept": "text/html"})
    assert answer.status_code == 503
    assert "The portal is busy." in answer.text
    assert answer.headers["X-Request-Id"] in answer.text
    assert figures("portal_pool_timeouts_total") == before + 2
    assert figures("portal_pool_checked_out") == 0
    assert figures("portal_pool_size") == 1


def test_the_database_s_connections_are_counted_without_those_of_superusers(
    connect: Callable[..., None],
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connect()
    given = {"DATABASE_URL": database_url, "DEMO": "1", "JOBS": "0"}
    many = load_settings({**given, "DATABASE_POOL_SIZE": "990", "DATABASE_POOL_OVERFLOW": "10"})
    startup._compare_connections(load_settings(given))
    assert not caplog.records
    startup._compare_connections(many)
    assert "may open 1000 connections" in caplog.text


# ── Requests ──────────────────────────────────────────────────────────────────────────────────
def answering(endpoint: Callable[[Request], PlainTextResponse]) -> TestClient:
    own = [Route("/statements/{month}", endpoint), *health.routes()]
    shell = Mount("/", app=PlainTextResponse("the page shell"))
    stack = [Middleware(Observed, own_routes=own)]
    return TestClient(Starlette(routes=[*own, shell], middleware=stack))


def fine(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("fine")


def full(_request: Request) -> PlainTextResponse:
    database.read_snapshot(sleep)
    return PlainTextResponse("never")


def broken(_request: Request) -> PlainTextResponse:
    raise RuntimeError("a secret detail")


def test_requests_are_counted_by_template_and_status(
    figures: Callable[..., float],
) -> None:
    route = "/statements/{month}"
    labels = {"method": "GET", "route": route, "status": "200"}
    before = figures("portal_requests_total", **labels)
    browser = answering(fine)
    ids = {browser.get(f"/statements/2026-{month}").headers["X-Request-Id"] for month in "123"}
    assert len(ids) == 3
    assert figures("portal_requests_total", **labels) == before + 3
    assert figures("portal_request_seconds_count", route=route) >= 3


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/billing", "page"),
        ("/billing/1234567", "page"),
        ("/_stcore/health-of-1234567", "/_stcore/*"),
        ("/health", "/health"),
    ],
)
def test_a_route_s_label_has_nothing_of_an_address_in_it(
    figures: Callable[..., float], path: str, route: str
) -> None:
    before = figures("portal_requests_total", route=route)
    answering(fine).request("BREW", path)
    assert figures("portal_requests_total", route=route, method="other") >= 1
    assert figures("portal_requests_total", route=route) == before + 1


def test_an_error_has_one_id_on_the_page_in_the_header_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = answering(broken).get("/statements/2026-10")
    assert answer.status_code == 500
    number = answer.headers["X-Request-Id"]
    assert f"contact support with this number: {number}" in answer.text
    assert "a secret detail" not in answer.text
    assert f"error {number} on GET" in caplog.text
    assert "a secret detail" in caplog.text


def test_a_request_s_line_has_its_route_and_no_address(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="portal.routes.middleware"):
        answering(fine).get("/statements/2026-10?token=the-token")
    (record,) = [each for each in caplog.records if each.name == "portal.routes.middleware"]
    line = json.dumps(vars(record), default=str)
    assert vars(record)["route"] == "/statements/{month}"
    assert (vars(record)["method"], vars(record)["status"]) == ("GET", 200)
    assert vars(record)["duration_milliseconds"] > 0
    assert "the-token" not in line
    assert "2026-10" not in line


# ── Jobs ──────────────────────────────────────────────────────────────────────────────────────
def test_jobs_are_counted_and_their_last_success_is_known(
    connect: Callable[..., None], figures: Callable[..., float]
) -> None:
    connect()

    def fail(_stop: threading.Event) -> str:
        raise RuntimeError("no")

    interval = timedelta(days=1)
    jobs = metrics.watched(
        [Job("test_good", interval, lambda _stop: "did it"), Job("test_bad", interval, fail)]
    )
    JobRunner(database.sessions(), jobs, SYSTEM).run_due()
    for job, failures in (("test_good", 0), ("test_bad", 1)):
        assert figures("portal_job_runs_total", job=job) == 1
        assert figures("portal_job_failures_total", job=job) == failures
    succeeded = database.read_snapshot(last_successes)
    assert set(succeeded) == {"test_good"}
    name = "portal_job_last_success_timestamp_seconds"
    message = figures(name, job="test_good")
    assert abs(message - succeeded["test_good"].timestamp()) < 60
    assert figures(name, job="test_bad") == 0
    metrics.job_succeeded_before("test_bad", succeeded["test_good"])
    assert figures(name, job="test_bad") == succeeded["test_good"].timestamp()
    assert {DONE, FAILED} == set(database.read_snapshot(_outcomes))


def test_each_gateway_that_is_configured_is_asked_in_a_lane_of_its_own() -> None:
    found = startup._payment_jobs(load_settings({"DEMO": "1"}), SYSTEM)
    lanes = {job.name: job.lane for job in found}
    assert lanes == {
        "check_payments_vnpay": "gateway-vnpay",
        "check_payments_stripe": "gateway-stripe",
        "check_payments_paypal": "gateway-paypal",
        "issue_documents": "quick",
    }
    keys = {"VNPAY_TMN_CODE": "TESTTMN1", "VNPAY_HASH_SECRET": "secret-of-tests-0123456789"}
    found = startup._payment_jobs(load_settings(OUTSIDE_DEMO | keys), SYSTEM)
    assert [job.name for job in found] == ["check_payments_vnpay", "issue_documents"]


def test_failed_payment_check_is_counted_by_gateway(figures: Callable[..., float]) -> None:
    before = figures("portal_payment_check_failures_total", gateway="vnpay")
    metrics.payment_check_failed("vnpay")
    assert figures("portal_payment_check_failures_total", gateway="vnpay") == before + 1


def _outcomes(session: Session) -> list[str]:
    return list(session.execute(text("SELECT outcome FROM job_runs")).scalars())


# ── The port of the figures ───────────────────────────────────────────────────────────────────
def test_queries_are_timed_by_verb(
    connect: Callable[..., None], figures: Callable[..., float]
) -> None:
    connect()
    before = figures("portal_query_seconds_count", verb="select")
    database.read_snapshot(lambda session: session.execute(text("  SELECT 1")))
    assert figures("portal_query_seconds_count", verb="select") > before
    assert figures("portal_pool_wait_seconds_count") > 0


def test_a_busy_port_is_one_sentence_that_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        given = {"METRICS_PORT": str(port), "DEMO": "1", "DATABASE_URL": "postgresql://nobody@x/y"}
        with pytest.raises(ports.PortError, match=rf"^Port {port} is in use by .*METRICS_PORT="):
            startup.prepare(load_settings(given))


def test_without_a_port_nothing_is_told_and_the_portal_s_own_is_refused() -> None:
    assert load_settings({}).metrics_port is None
    assert load_settings({"METRICS_PORT": "9464"}).metrics_host == "127.0.0.1"
    with pytest.raises(SettingsError, match="METRICS_PORT is another port than PORT"):
        load_settings({"METRICS_PORT": "8501"})


def test_no_label_can_name_an_account_or_a_person(figures: Callable[..., float]) -> None:
    assert figures("python_info") == 1
    names = {
        label
        for family in metrics._all().registry.collect()
        for sample in family.samples
        if sample.name.startswith("portal_")
        for label in sample.labels
    }
    known = {"method", "route", "status", "page", "outcome", "verb", "reason", "job", "gateway"}
    assert names <= known | {"le"}
