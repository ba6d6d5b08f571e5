"""Jobs: who runs them, when they are due, what becomes of failures, and what each of them does."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import httpx2
import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import sessionmaker

from db.engine import make_engine
from db.models import Payment
from domain import jobs, ledger, outbox
from domain.actors import Actor, ActorKind, system_actor
from domain.errors import NotAuthorised
from domain.gateways.vnpay import client as vnpay
from domain.gateways.vnpay import settings
from domain.jobs import Job, JobRunner, purge_usage_keys, standard_jobs
from domain.outbox import Delivery
from domain.payments import check_due
from portal.runtime import mail
from portal.runtime.settings import load_settings
from tests import factories
from tests.gateways import ScriptedGateway, begin, dong, payer
from tests.support.keys import KNOWS_VAULT
from tests.support.owner import as_owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from domain.gateways.interface import Gateway

ACTOR = system_actor("jobs")
HOUR = timedelta(hours=1)
PATIENCE_SECONDS = 120
AT_ONCE = timedelta(milliseconds=20)


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.instant = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.instant += timedelta(microseconds=1)
        return self.instant


@pytest.fixture
def hands() -> Clock:
    return Clock()


@pytest.fixture
def timed(engine: Engine, hands: Clock) -> sessionmaker[Session]:
    """Sessions that go by the test's clock."""
    return sessionmaker(engine, expire_on_commit=False, info={**KNOWS_VAULT, "clock": hands})


class Counting:
    """A job's work that counts its runs, and fails while told to."""

    def __init__(self) -> None:
        self.runs = 0
        self.fails = False
        self.ran = threading.Event()

    def __call__(self, _stop: threading.Event) -> str:
        self.runs += 1
        self.ran.set()
        if self.fails:
            raise RuntimeError("out of order")
        return f"run {self.runs}"


def _last_run(sessions: sessionmaker[Session], name: str) -> tuple[str | None, str | None]:
    with sessions() as session:
        statement = text("SELECT outcome, details FROM job_runs WHERE name = :name")
        row = session.execute(statement, {"name": name}).one()
    return row.outcome, row.details


def _job(
    sessions: sessionmaker[Session], name: str, *, deliver: Callable[[], Delivery] | None = None
) -> str:
    """Run one of the standard jobs and return what it says."""
    found = standard_jobs(sessions, actor=ACTOR, deliver_mail=deliver)
    (job,) = [job for job in found if job.name == name]
    return job.run(threading.Event())


# ── The runner ────────────────────────────────────────────────────────────────────────────────
def test_a_job_runs_at_first_and_then_when_its_interval_is_over(
    timed: sessionmaker[Session], hands: Clock
) -> None:
    work = Counting()
    runner = JobRunner(timed, [Job("work", HOUR, work)], ACTOR)
    runner.run_due()
    runner.run_due()
    assert work.runs == 1
    hands.instant += timedelta(minutes=59)
    runner.run_due()
    assert work.runs == 1
    hands.instant += timedelta(minutes=2)
    runner.run_due()
    assert work.runs == 2
    assert _last_run(timed, "work") == ("done", "run 2")


def test_a_failure_is_logged_kept_and_tried_again_and_stops_no_other_job(
    timed: sessionmaker[Session], hands: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = Counting(), Counting()
    broken.fails = True
    runner = JobRunner(
        timed, [Job("broken", timedelta(days=1), broken), Job("sound", HOUR, sound)], ACTOR
    )
    runner.run_due()
    assert sound.runs == 1
    assert _last_run(timed, "broken") == ("failed", "RuntimeError: out of order")
    assert "the job broken failed" in caplog.text
    runner.run_due()
    assert broken.runs == 1
    broken.fails = False
    hands.instant += timedelta(minutes=16)
    runner.run_due()
    assert broken.runs == 2
    assert _last_run(timed, "broken") == ("done", "run 2")
    hands.instant += timedelta(minutes=16)
    runner.run_due()
    assert broken.runs == 2


def test_a_failing_job_of_seconds_is_not_tried_every_few_seconds(
    timed: sessionmaker[Session], hands: Clock
) -> None:
    broken = Counting()
    broken.fails = True
    runner = JobRunner(timed, [Job("broken", timedelta(seconds=5), broken)], ACTOR)
    runner.run_due()
    hands.instant += timedelta(seconds=30)
    runner.run_due()
    assert broken.runs == 1
    hands.instant += timedelta(seconds=31)
    runner.run_due()
    assert broken.runs == 2


def test_a_run_that_was_cut_off_is_done_again(timed: sessionmaker[Session], hands: Clock) -> None:
    with timed.begin() as session:
        session.execute(
            text("INSERT INTO job_runs (name, started_at) VALUES ('work', :now)"),
            {"now": hands()},
        )
    work = Counting()
    JobRunner(timed, [Job("work", HOUR, work)], ACTOR).run_due()
    assert work.runs == 1


def test_a_stopped_runner_begins_no_further_job(timed: sessionmaker[Session]) -> None:
    second = Counting()
    runner: JobRunner

    def stop_all(_stop: threading.Event) -> str:
        runner.stop()
        return "stopped"

    runner = JobRunner(timed, [Job("first", HOUR, stop_all), Job("second", HOUR, second)], ACTOR)
    runner.run_due()
    assert second.runs == 0


def test_one_process_works_and_another_takes_over(sessions: sessionmaker[Session]) -> None:
    first, second = Counting(), Counting()
    interval = timedelta(milliseconds=1)
    one = JobRunner(sessions, [Job("first", interval, first)], ACTOR, stand_by=AT_ONCE)
    other = JobRunner(sessions, [Job("second", interval, second)], ACTOR, stand_by=AT_ONCE)
    try:
        one.start()
        assert first.ran.wait(PATIENCE_SECONDS)
        other.start()
        first.ran.clear()
        assert first.ran.wait(PATIENCE_SECONDS)
        assert second.runs == 0
        one.stop()
        runs_of_the_first = first.runs
        assert second.ran.wait(PATIENCE_SECONDS)
    finally:
        one.stop()
        other.stop()
    assert first.runs == runs_of_the_first
    _nobody_has_the_lock(sessions)


def test_a_runner_whose_connection_ends_comes_back(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    work = Counting()
    job = Job("work", timedelta(milliseconds=1), work)
    runner = JobRunner(sessions, [job], ACTOR, stand_by=AT_ONCE)
    runner.start()
    try:
        assert work.ran.wait(PATIENCE_SECONDS)
        assert _end_connection_of_the_lock(database_url) == [True]
        work.ran.clear()
        assert work.ran.wait(PATIENCE_SECONDS)
    finally:
        runner.stop()
    _nobody_has_the_lock(sessions)


class Hanging:
    """A job's work that waits until it is let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.began, self.let_go = threading.Event(), threading.Event()

    def __call__(self, _stop: threading.Event) -> str:
        self.runs += 1
        self.began.set()
        assert self.let_go.wait(PATIENCE_SECONDS)
        return "let go"


def test_lane_that_hangs_holds_up_no_other_lane(sessions: sessionmaker[Session]) -> None:
    mailing, gateway, quick = Hanging(), Hanging(), Counting()
    interval = timedelta(milliseconds=1)
    jobs = [
        Job("mail", interval, mailing, lane="mail"),
        Job("gateway", interval, gateway, lane="gateway-vnpay"),
        Job("quick", interval, quick),
    ]
    runner = JobRunner(sessions, jobs, ACTOR, stand_by=AT_ONCE)
    runner.start()
    try:
        assert mailing.began.wait(PATIENCE_SECONDS)
        assert gateway.began.wait(PATIENCE_SECONDS)
        for _ in range(3):
            quick.ran.clear()
            assert quick.ran.wait(PATIENCE_SECONDS)
        assert (mailing.runs, gateway.runs) == (1, 1)
    finally:
        mailing.let_go.set()
        gateway.let_go.set()
        runner.stop()


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts and never answers, until the block ends."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in accepted:
        connection.close()


def test_silent_mail_server_and_silent_gateway_hold_up_nothing(
    sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than this test may take: neither gives up while it runs.
    monkeypatch.setattr(mail, "_ANSWER_SECONDS", 600)
    monkeypatch.setattr(mail, "_MAIL_SECONDS", 600)
    monkeypatch.setattr(vnpay, "_TIMEOUT", httpx2.Timeout(600))
    with silent_server() as port:
        silent = vnpay.VNPay(_vnpay_at(port))
        sound = ScriptedGateway("paypal")
        reference = _leave_work(sessions, silent, sound)
        mailing = partial(outbox.deliver_due, sessions, send=_sender(port))
        found = [
            *standard_jobs(sessions, actor=ACTOR, deliver_mail=mailing),
            *(_polling(sessions, gateway) for gateway in (silent, sound)),
        ]
        runner = JobRunner(sessions, found, ACTOR, stand_by=AT_ONCE)
        runner.start()
        _wait_for(sessions, "deliver_mail", None)
        _wait_for(sessions, "vnpay", None)
        with sessions.begin() as session:
            session.execute(
                text("DELETE FROM job_runs WHERE name NOT IN ('deliver_mail', 'vnpay')")
            )
        for name in ("expire_holds", "seal_audit_log", "paypal", "verify_audit"):
            _wait_for(sessions, name, "done")
        assert sound.asked == [f"fetch {reference}"]
        assert [_outcome(sessions, name) for name in ("deliver_mail", "vnpay")] == [(None,)] * 2
    runner.stop()


def _vnpay_at(port: int) -> settings.VNPaySettings:
    address = f"http://127.0.0.1:{port}"
    return settings.VNPaySettings("TESTTMN1", "secret", address, address, is_sandbox=False)


def _sender(port: int) -> Callable[[outbox.Mail], None]:
    given = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_SECURITY": "none"}
    send = mail.make_sender(load_settings({**given, "MAIL_FROM": "billing@example.com"}))
    assert send is not None
    return send


def _leave_work(
    sessions: sessionmaker[Session], silent: vnpay.VNPay, sound: ScriptedGateway
) -> str:
    """Leave a mail and a payment at each gateway that are due; return the sound one's reference."""
    with sessions.begin() as session:
        outbox.enqueue(
            session,
            recipient="lan@example.com",
            template="password_changed",
            parameters={},
            locale="en",
        )
        account, owner = payer(session)
        started = [begin(session, silent, account, owner, dong(500_000)) for _ in range(2)]
        session.execute(update(Payment).values(next_check_at=text("now()")))
        other = session.get_one(Payment, started[1].payment_id)
        with as_owner(session):
            other.gateway = sound.name
        return other.reference


def _polling(sessions: sessionmaker[Session], gateway: Gateway) -> Job:
    def check(stop: threading.Event) -> str:
        return check_due(sessions, gateways={gateway.name: gateway}, actor=ACTOR, stop=stop)

    return Job(gateway.name, timedelta(seconds=5), check, lane=f"gateway-{gateway.name}")


def _outcome(sessions: sessionmaker[Session], name: str) -> tuple[str | None] | None:
    statement = text("SELECT outcome FROM job_runs WHERE name = :name")
    with sessions() as session:
        row = session.execute(statement, {"name": name}).one_or_none()
    return None if row is None else (row.outcome,)


def _wait_for(sessions: sessionmaker[Session], name: str, outcome: str | None) -> None:
    """Return once the job has this outcome, None while it runs; the time limit ends it else."""
    pause = threading.Event()
    while _outcome(sessions, name) != (outcome,):
        pause.wait(AT_ONCE.total_seconds())


def test_jobs_of_one_lane_run_one_after_the_other(sessions: sessionmaker[Session]) -> None:
    first, second = Hanging(), Counting()
    interval = timedelta(milliseconds=1)
    jobs = [Job("first", interval, first), Job("second", interval, second)]
    runner = JobRunner(sessions, jobs, ACTOR, stand_by=AT_ONCE)
    runner.start()
    try:
        assert first.began.wait(PATIENCE_SECONDS)
        assert second.runs == 0
        first.let_go.set()
        assert second.ran.wait(PATIENCE_SECONDS)
    finally:
        first.let_go.set()
        runner.stop()


def test_nobody_takes_over_before_the_lanes_of_a_stopped_runner_end(
    sessions: sessionmaker[Session],
) -> None:
    ends = threading.Event()

    def work(stop: threading.Event) -> str:
        stop.wait(PATIENCE_SECONDS)
        with sessions() as session:
            free = session.execute(jobs._LEAD).scalar_one()
        assert not free
        ends.set()
        return "ended"

    work_began = Counting()
    runner = JobRunner(
        sessions,
        [Job("began", HOUR, work_began), Job("work", HOUR, work, lane="mail")],
        ACTOR,
        stand_by=AT_ONCE,
    )
    runner.start()
    assert work_began.ran.wait(PATIENCE_SECONDS)
    _wait_for(sessions, "work", None)
    runner.stop()
    assert ends.is_set()
    _nobody_has_the_lock(sessions)


def _end_connection_of_the_lock(database_url: str) -> list[bool]:
    owner = make_engine(database_url, role=None)
    try:
        with owner.begin() as connection:
            ended = connection.execute(
                text("""
                    SELECT pg_terminate_backend(l.pid) FROM pg_locks l
                    JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
                    WHERE l.locktype = 'advisory' AND l.granted
                """)
            )
            return list(ended.scalars())
    finally:
        owner.dispose()


def _nobody_has_the_lock(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        assert session.execute(jobs._LEAD).scalar_one()
        session.execute(jobs._STEP_DOWN)


def test_people_run_no_jobs(sessions: sessionmaker[Session]) -> None:
    with pytest.raises(NotAuthorised):
        JobRunner(sessions, [], Actor(ActorKind.USER, 7))
    with pytest.raises(NotAuthorised):
        purge_usage_keys(sessions, actor=Actor(ActorKind.USER, 7))


# ── The jobs ──────────────────────────────────────────────────────────────────────────────────
def test_grants_and_holds_expire(timed: sessionmaker[Session], hands: Clock) -> None:
    with timed.begin() as session:
        account_id = factories.make_account(session)
        factories.grant(
            session, account_id, 10, kind="voucher", expires_at=hands.instant + timedelta(days=1)
        )
        ledger.place_hold(
            session,
            account_id=account_id,
            service="gpu-vm",
            amount_micros=4_000_000,
            expires_at=hands.instant + HOUR,
            source="vm",
            actor=ACTOR,
            idempotency_key="hold",
        )
    assert _job(timed, "expire_holds") == "0 expired"
    hands.instant += 2 * HOUR
    assert _job(timed, "expire_holds") == "1 expired"
    assert _job(timed, "expire_grants") == "0 expired"
    hands.instant += timedelta(days=2)
    assert _job(timed, "expire_grants") == "1 expired"
    with timed() as session:
        balance = text("SELECT balance_micros, held_micros FROM account_balances")
        assert session.execute(balance).one() == (0, 0)


def test_more_than_one_round_expires_in_one_run(
    timed: sessionmaker[Session], hands: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_ROUND", 2)
    with timed.begin() as session:
        account_id = factories.make_account(session)
        for _ in range(5):
            factories.grant(session, account_id, 1, kind="voucher", expires_at=hands.instant + HOUR)
    hands.instant += timedelta(days=1)
    assert _job(timed, "expire_grants") == "5 expired"


def test_keys_are_forgotten_once_their_events_are_too_old_to_be_charged(
    timed: sessionmaker[Session], hands: Clock
) -> None:
    started_at = hands.instant
    with timed.begin() as session:
        session.execute(text("UPDATE sites SET usage_key_retention = '30 days'"))
        accounts = [factories.make_account(session) for _ in range(2)]
        for account_id in accounts:
            factories.grant(session, account_id, 10)
            factories.charge(session, account_id, 1, occurred_at=started_at, event_id="old")
    hands.instant += timedelta(days=20)
    with timed.begin() as session:
        factories.charge(session, accounts[0], 1, occurred_at=hands.instant, event_id="new")
    hands.instant = started_at + timedelta(days=30)
    assert _job(timed, "purge_usage_keys") == "0 removed"
    hands.instant += timedelta(minutes=10)
    assert _job(timed, "purge_usage_keys") == "2 removed"
    assert _job(timed, "purge_usage_keys") == "0 removed"
    with timed.begin() as session:
        kept = session.execute(text("SELECT event_id FROM usage_keys")).scalars()
        assert list(kept) == ["new"]
        again = factories.charge(session, accounts[0], 1, occurred_at=started_at, event_id="old")
        assert (again.status, again.reason) == ("refused", "too_old")
        assert ledger.verify_ledger(session, actor=ACTOR) == []


def test_the_nightly_proof_says_and_logs_what_differs(
    sessions: sessionmaker[Session], caplog: pytest.LogCaptureFixture
) -> None:
    with sessions.begin() as session:
        account_id = factories.make_account(session)
        factories.grant(session, account_id, 10)
    assert _job(sessions, "verify_ledger") == "0 differences"
    assert "contradicts itself" not in caplog.text
    with sessions.begin() as session:
        session.execute(text("UPDATE account_balances SET balance_micros = balance_micros + 1"))
    assert _job(sessions, "verify_ledger") != "0 differences"
    assert f"account_id={account_id}" in caplog.text


def test_mail_goes_out_until_none_is_due(
    sessions: sessionmaker[Session], caplog: pytest.LogCaptureFixture
) -> None:
    rounds = iter([Delivery(sent=50), Delivery(sent=3, retried=1), Delivery(failed=1)])
    shown = _job(sessions, "deliver_mail", deliver=lambda: next(rounds))
    assert shown == "53 sent, 1 to try again, 1 given up"
    assert "1 mails were given up" in caplog.text


def test_unreachable_mail_server_fails_the_job_which_then_waits(
    timed: sessionmaker[Session], hands: Clock
) -> None:
    rounds = 0

    def deliver() -> Delivery:
        nonlocal rounds
        rounds += 1
        return Delivery(sent=1, retried=1, is_unavailable=True)

    found = standard_jobs(timed, actor=ACTOR, deliver_mail=deliver)
    (job,) = [job for job in found if job.name == "deliver_mail"]
    runner = JobRunner(timed, [job], ACTOR)
    runner.run_due()
    assert _last_run(timed, "deliver_mail")[0] == "failed"
    hands.instant += timedelta(seconds=50)
    runner.run_due()
    assert rounds == 1
    hands.instant += timedelta(seconds=11)
    runner.run_due()
    assert rounds == 2


def test_jobs_that_wait_for_a_network_have_lanes_of_their_own(
    sessions: sessionmaker[Session],
) -> None:
    found = standard_jobs(sessions, actor=ACTOR, deliver_mail=Delivery)
    lanes = {job.name: job.lane for job in found}
    assert lanes["deliver_mail"] == "mail"
    quick = {"expire_holds", "expire_grants", "fold_totals", "seal_audit_log"}
    quick |= {"expire_requests", "end_role_requests"}
    assert {name for name, lane in lanes.items() if lane == "quick"} == quick


def test_without_a_mail_server_mail_waits(sessions: sessionmaker[Session]) -> None:
    names = {job.name for job in standard_jobs(sessions, actor=ACTOR, deliver_mail=None)}
    assert "deliver_mail" not in names
    assert "verify_ledger" in names


def test_old_links_and_sessions_are_tidied_away(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.execute(
            text("""
                WITH person AS (
                  INSERT INTO users (email, display_name, password_hash)
                  VALUES ('a@example.com', 'A', '') RETURNING id)
                INSERT INTO email_tokens (token_digest, user_id, purpose, expires_at)
                SELECT 'x', id, 'verify_email', now() - interval '8 days' FROM person
            """)
        )
    assert _job(sessions, "purge_identity") == "1 removed"
