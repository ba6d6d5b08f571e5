"""The command line, as a terminal sees it: what is said, where, and with which exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest
import typer
from sqlalchemy import select, text
from typer.testing import CliRunner

from db.embedded import server as embedded
from db.embedded.server import EmbeddedPostgresError
from db.engine import make_engine
from db.migrate import migrate
from db.models import AuditRecord, Passkey
from domain import audit, identity
from domain.actors import StaffRole, system_actor
from domain.errors import Conflict
from domain.metering import usage
from domain.security import passwords
from portal import demo, startup
from portal.cli import main as cli
from portal.cli import shared
from portal.runtime import database
from portal.runtime.installation import ROOT
from portal.runtime.settings import settings
from tests import factories
from tests.support.environment import OUTSIDE_DEMO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker

PATIENCE_SECONDS = 240
PASSWORD = "violet-kettle-9-march"
READY = "The portal is ready"


@pytest.fixture
def run(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run a command in this process; return its exit status, output and complaints."""
    environment = {**OUTSIDE_DEMO, "DATABASE_URL": database_url, "JOBS": "0"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["portal", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capfd.readouterr()
        assert "Traceback" not in shown.out + shown.err
        code = ended.value.code
        return (code if isinstance(code, int) else int(code is not None)), shown.out, shown.err

    yield run
    signal.signal(signal.SIGTERM, before)
    settings.cache_clear()
    database.disconnect()


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    """What a portal of its own process needs: no demo, and no jobs."""
    port = _free_port()
    return {
        **os.environ,
        **OUTSIDE_DEMO,
        "DATABASE_URL": database_url,
        "JOBS": "0",
        "PORT": str(port),
        "BASE_URL": f"http://localhost:{port}",
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


# ── The database ──────────────────────────────────────────────────────────────────────────────
def test_migrate_says_that_all_is_well(run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("migrate") == (0, "The database is up to date.\n", "")


def test_a_database_that_is_not_there_is_one_line(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{_free_port()}/nothing"
    monkeypatch.setenv("DATABASE_URL", nowhere)
    code, out, err = run("migrate")
    assert (code, out) == (1, "")
    assert err.startswith("Unexpected database error: ")
    assert err.count("\n") == 1


def test_settings_that_cannot_be_are_named(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "eighty")
    code, _out, err = run("migrate")
    assert code == 1
    assert "PORT is a whole number from 1 to 65535." in err


def test_a_file_of_sites_that_is_not_clear_is_one_line(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sites.toml").write_text("[[site]]\ncode = 1\n")
    monkeypatch.setenv("CONFIG_DIR", str(tmp_path))
    said = f"{tmp_path / 'sites.toml'}, site, block 1: 'currencies' is missing.\n"
    assert run("migrate") == (1, "", said)


def test_a_built_in_database_that_cannot_be_is_one_line(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EmbeddedPostgresError("The disk is full.")

    monkeypatch.setattr(startup, "connect", refuse)
    assert run("migrate") == (1, "", "The disk is full.\n")


def test_migrate_refuses_a_development_version_in_one_line(
    run: Callable[..., tuple[int, str, str]], database_url: str, session: Session
) -> None:
    set_version(database_url, "0033")
    for _ in range(2):
        code, out, err = run("migrate")
        assert (code, out) == (1, "")
        assert err.startswith("The database has version 0033, of a development version")
        assert err.endswith("create an empty database and set DATABASE_URL to it.\n")
    version = session.execute(text("SELECT version_num FROM alembic_version"))
    assert version.scalars().all() == ["0033"]


def test_built_in_database_of_a_development_version_names_its_folder(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("DEMO", "1")
    monkeypatch.setenv("DATA_DIR", str(folder))
    server = embedded.acquire(folder, report=lambda _: None, settings={"fsync": "off"})
    try:
        migrate(server.url)
        set_version(server.url, "0033")
        code, _out, err = run("migrate")
        assert code == 1
        assert err.startswith("The built-in database has version 0033, of a development version")
        assert err.endswith(f"remove the folder {folder} to start with an empty one.\n")
    finally:
        server.release()
        embedded.remove(folder)


def set_version(url: str, version: str) -> None:
    owner = make_engine(url, role=None)
    with owner.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": version})
    owner.dispose()


def test_the_demo_is_refused_where_it_is_no_demo(
    run: Callable[..., tuple[int, str, str]], sessions: sessionmaker[Session]
) -> None:
    code, _out, err = run("demo")
    assert code == 1
    assert "set DEMO=1" in err
    with sessions() as session:
        assert not demo.anyone_can_sign_in(session)


def test_the_demo_says_how_to_sign_in(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(demo, "load", lambda sessions, *, report: loaded.append((sessions, report)))
    monkeypatch.setenv("DEMO", "1")
    code, out, _err = run("demo")
    assert code == 0
    assert len(loaded) == 1
    assert demo.PASSWORD in out
    for email, role in demo.SIGN_INS:
        assert re.search(rf"{re.escape(email)} +{re.escape(role)}\n", out)


# ── People ────────────────────────────────────────────────────────────────────────────────────
def test_the_first_administrator_is_made_with_a_password_that_is_asked(
    run: Callable[..., tuple[int, str, str]],
    sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, bool]] = []

    def prompt(_text: str, **options: bool) -> str:
        asked.append(options)
        return PASSWORD

    monkeypatch.setattr(typer, "prompt", prompt)
    who = ("--email", "Boss@example.com", "--name", "Boss", "--role", "admin")
    code, out, _err = run("create-user", *who)
    assert code == 0
    assert "Created Boss@example.com, admin." in out
    assert asked == [{"hide_input": True, "confirmation_prompt": True}]
    with sessions() as session:
        made = session.execute(text("SELECT email, staff_role, password_hash FROM users")).one()
    assert (made.email, made.staff_role) == ("boss@example.com", StaffRole.ADMIN)
    assert passwords.verify_password(PASSWORD, made.password_hash)
    code, _out, err = run("create-user", *who)
    assert code == 1
    assert err == "A user with the address Boss@example.com already exists.\n"


@pytest.mark.parametrize(
    ("email", "password", "sentence"),
    [
        ("nobody", PASSWORD, "This is not an email address."),
        ("boss@example.com", "short", "Use at least 10 characters."),
        ("boss@example.com", "password1234", "easy to guess"),
    ],
)
def test_what_is_wrong_with_a_person_is_said_in_words(
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    email: str,
    password: str,
    sentence: str,
) -> None:
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: password)
    code, _out, err = run("create-user", "--email", email, "--name", "Boss")
    assert code == 1
    assert sentence in err


def test_a_lost_second_factor_is_reset_with_a_reason(
    run: Callable[..., tuple[int, str, str]], sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        user_id = identity.create_user(
            session,
            email="boss@example.com",
            display_name="Boss",
            password=PASSWORD,
            staff_role=StaffRole.ADMIN,
            actor=system_actor("tests"),
        )
        session.add(
            Passkey(
                credential_id=b"lost",
                user_id=user_id,
                name="Phone",
                public_key=b"",
                sign_count=0,
                transports=[],
            )
        )
    for _time in range(2):
        code, out, _err = run("reset-second-factor", "Boss@example.com", "--reason", "lost phone")
        assert code == 0
        assert "or sets up a new one" in out
    with sessions() as session:
        assert session.scalars(select(Passkey.name)).all() == []
        reset = select(AuditRecord.details).where(AuditRecord.action == "reset_second_factors")
        assert session.scalars(reset).first() == {"user_id": user_id, "reason": "lost phone"}
    code, _out, err = run("reset-second-factor", "nobody@example.com", "--reason", "lost phone")
    assert code == 1
    assert err == "No user has the address nobody@example.com.\n"


# ── The ledger ────────────────────────────────────────────────────────────────────────────────
def test_a_right_ledger_is_right_and_a_wrong_one_is_exit_1(
    run: Callable[..., tuple[int, str, str]], sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        account_id = factories.make_account(session)
        factories.grant(session, account_id, 10)
    shown = "Top-ups without a payment, imported by the system: 1\nThe ledger is consistent.\n"
    assert run("verify-ledger") == (0, shown, "")
    with sessions.begin() as session:
        session.execute(text("UPDATE account_balances SET balance_micros = balance_micros + 7"))
    code, out, err = run("verify-ledger")
    assert code == 1
    assert re.search(rf"account {account_id}, .*expected 10000000, found 10000007\n", out)
    assert re.fullmatch(r"The ledger is inconsistent\. Differences: [1-9]\d*\n", err)


PROOFS = pytest.mark.parametrize("command", ["verify-ledger", "verify-audit"])


def test_a_sound_audit_log_is_proved_and_a_broken_one_is_exit_1(
    run: Callable[..., tuple[int, str, str]], sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        audit.record(session, action="a_test", actor=system_actor("tests"), details={})
    code, out, err = run("verify-audit")
    assert (code, err) == (0, "")
    assert out.startswith("The audit log is intact: ")
    kept = f"1:{'0' * 64}"
    code, _out, err = run("verify-audit", "--head", kept)
    assert code == 1
    assert err.startswith("The audit log is broken at position 1")


@PROOFS
def test_proof_without_a_database_is_exit_2(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{_free_port()}/nothing"
    monkeypatch.setenv("DATABASE_URL", nowhere)
    code, out, err = run(command)
    assert (code, out) == (2, "")
    assert err.startswith("Unexpected database error: ")
    assert err.count("\n") == 1


@PROOFS
def test_proof_without_its_settings_is_exit_2(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("SECRET_KEY")
    code, out, err = run(command)
    assert (code, out) == (2, "")
    assert "SECRET_KEY needs 32 or more random characters" in err


@pytest.mark.parametrize(
    "words",
    [
        ("verify-ledger", "--no-such-option"),
        ("verify-audit", "--no-such-option"),
        ("verify-audit", "--head"),
        ("verify-audit", "--head", "120442"),
        ("verify-audit", "--head", "0:00"),
    ],
)
def test_proof_that_is_asked_for_in_wrong_words_is_exit_2(
    run: Callable[..., tuple[int, str, str]], words: tuple[str, ...]
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err


@PROOFS
def test_proof_that_is_stopped_is_exit_2(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(database, "transaction", stop)
    assert run(command) == (2, "", "Stopped before everything was checked.\n")


@PROOFS
def test_proof_that_fails_by_a_fault_of_ours_is_exit_2(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(startup, "connect", fail)
    monkeypatch.setattr(sys, "argv", ["portal", command])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 2
    assert "RuntimeError: a fault of ours" in capfd.readouterr().err


def test_an_import_reports_what_became_of_the_rows(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "calls.csv"
    file.write_text("not read here\n")
    given: dict[str, object] = {}

    def import_usage(_sessions: object, **options: object) -> usage.ImportSummary:
        given.update(options)
        report = options["report"]
        assert callable(report)
        report(1_200, 1_200)
        totals = {"USD": Decimal("12345678.5"), "VND": Decimal(26_000_000_000)}
        return usage.ImportSummary(
            calls=1_200, charged=1_190, replayed=7, rejected=3, totals=totals
        )

    monkeypatch.setattr(usage, "import_usage", import_usage)
    code, out, _err = run("import-usage", str(file), "--account", "1001", "--account", "1002")
    assert code == 0
    assert given["path"] == file
    assert list(given["accounts"]) == [1001, 1002]  # type: ignore[call-overload]
    assert given["rejects_path"] == tmp_path / "calls.csv.rejects.csv"
    assert re.search(r"calls +1,200\n", out)
    assert re.search(r"charged now +1,190\n", out)
    assert re.search(r"sum +\$12\.3456785\n", out)
    assert re.search(r"sum +₫26,000\n", out)
    assert "1200/1200" in out
    assert str(tmp_path / "calls.csv.rejects.csv") in out


def test_an_import_of_no_file_or_of_another_kind_of_file_is_one_line(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    missing = tmp_path / "missing.csv"
    assert run("import-usage", str(missing)) == (1, "", f"File not found: {missing}.\n")
    other = tmp_path / "letter.csv"
    other.write_text("Dear Sir or Madam\n")
    code, _out, err = run("import-usage", str(other), "--account", "1001")
    assert code == 1
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("TIMESTAMP,ContextTokens", "first line of the file has no column generatedtokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens,ID,id", "more than one column id"),
        ('TIMESTAMP,"ContextTokens', "not comma-separated values"),
    ],
)
def test_an_import_says_what_is_wrong_with_a_file(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, header: str, sentence: str
) -> None:
    file = tmp_path / "calls.csv"
    file.write_text(f"{header}\n")
    code, _out, err = run("import-usage", str(file))
    assert code == 1
    assert sentence in err
    assert err.count("\n") == 1


def test_an_import_needs_accounts_that_exist_and_stay_the_same(
    run: Callable[..., tuple[int, str, str]], sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    with sessions.begin() as session:
        accounts = [str(factories.make_account(session)) for _ in range(2)]
    file = tmp_path / "calls.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2026-02-03 10:00:00,5,5\n")
    words = ("import-usage", str(file))
    assert run(*words, "--account", "999")[2] == "Account not found: 999.\n"
    code, out, _err = run(*words)
    assert (code, re.search(r"rejected +1\n", out) is None) == (0, False)
    code, out, _err = run(*words, "--account", accounts[0])
    assert (code, re.search(r"charged now +1\n", out) is None) == (0, False)
    code, _out, err = run(*words, "--account", accounts[1])
    assert (code, "spread over other accounts" in err) == (1, True)
    code, out, _err = run(*words)
    assert (code, re.search(r"charged before +1\n", out) is None) == (0, False)


def test_an_import_does_not_write_rejects_where_it_must_not(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    file = tmp_path / "calls.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    code, _out, err = run("import-usage", str(file), "--rejects", str(file))
    assert (code, "would replace" in err) == (1, True)
    assert file.read_text().startswith("TIMESTAMP")
    code, _out, err = run("import-usage", str(file), "--rejects", str(tmp_path / "no" / "where"))
    assert code == 1
    assert err.startswith("This system does not allow ")
    assert err.count("\n") == 1


def test_any_refusal_of_the_domain_is_one_line(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Conflict("busy")

    monkeypatch.setattr(database, "transaction", refuse)
    for command, status in (("check-payments", 1), ("verify-ledger", 2), ("verify-audit", 2)):
        code, _out, err = run(command)
        assert code == status
        assert "busy" in err
        assert err.count("\n") == 1


def test_the_commands_are_listed() -> None:
    listed = CliRunner().invoke(shared.commands, ["--help"]).output
    names = "serve migrate demo import-usage verify-ledger create-user reset-second-factor jobs"
    for name in names.split():
        assert re.search(rf"^.? *{name} ", listed, re.MULTILINE)


# ── Serving ───────────────────────────────────────────────────────────────────────────────────
def test_a_busy_port_is_one_sentence_that_names_who_has_it(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, out, err = run("serve", "--port", str(port))
    assert (code, out) == (1, "")
    assert err.startswith(f"Port {port} is in use by ")
    assert f"(process {os.getpid()}): set PORT=" in err
    assert err.count("\n") == 1


def test_an_address_of_another_computer_is_one_sentence(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    code, _out, err = run("serve", "--host", "192.0.2.1", "--port", str(_free_port()))
    assert code == 1
    assert err.startswith("Cannot listen on 192.0.2.1, port ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_says_where_and_stops_cleanly(
    environment: dict[str, str], stop: signal.Signals
) -> None:
    with _portal(environment, "serve") as portal:
        shown = _wait_for(portal, READY)
        assert f"http://localhost:{environment['PORT']} " in shown
        assert _get(environment, "/ready") == b'{"status":"ok"}'
        assert b"<form" in _get(environment, "/sign-in")
        portal.send_signal(stop)
        rest, _ = portal.communicate(timeout=PATIENCE_SECONDS)
    assert portal.returncode == 0
    assert rest.endswith("Stopped.\n")
    assert demo.PASSWORD not in shown + rest
    assert "Traceback" not in shown + rest


def test_gateway_that_is_configured_badly_leaves_the_others(environment: dict[str, str]) -> None:
    environment |= {
        "VNPAY_TMN_CODE": "TESTTMN1",
        "VNPAY_HASH_SECRET": "secret-of-tests-0123456789",
        "STRIPE_SECRET_KEY": "sk_live_of_these_tests",
        "STRIPE_WEBHOOK_SECRETS": "whsec_ours,whsec_demo_0123456789,",
        "LOG_FORMAT": "json",
    }
    fault = "The gateway stripe is not offered: STRIPE_WEBHOOK_SECRETS is the demo's"
    with _portal(environment, "serve") as portal:
        message = _wait_for(portal, READY)
        (line,) = (
            json.loads(line) for line in message.splitlines() if "portal.runtime.gateways" in line
        )
        assert (line["level"], line["message"].startswith(fault)) == ("ERROR", True)
        assert fault in _wait_for(portal, "is not offered")
        assert _status(environment, "/ready") == 200
        assert _status(environment, "/webhooks/vnpay") == 200
        assert _status(environment, "/webhooks/stripe") == 404
        portal.send_signal(signal.SIGTERM)
        message += portal.communicate(timeout=PATIENCE_SECONDS)[0]
    assert "sk_live_of_these_tests" not in message
    assert "whsec_" not in message


def test_a_start_that_fails_is_one_sentence(environment: dict[str, str]) -> None:
    environment["DATABASE_URL"] = f"postgresql://nobody@127.0.0.1:{_free_port()}/nothing"
    with _portal(environment, "serve") as portal:
        shown, _ = portal.communicate(timeout=PATIENCE_SECONDS)
    assert portal.returncode == 1
    assert "Unexpected database error: " in shown
    assert "Traceback" not in shown


def test_the_jobs_run_in_a_process_of_their_own(
    environment: dict[str, str], sessions: sessionmaker[Session]
) -> None:
    with _portal(environment, "jobs") as portal:
        _wait_for(portal, "Running jobs.")
        _wait_for_a_run(sessions)
        portal.send_signal(signal.SIGTERM)
        rest, _ = portal.communicate(timeout=PATIENCE_SECONDS)
    assert portal.returncode == 0
    assert rest.endswith("Stopped.\n")


def _wait_for_a_run(sessions: sessionmaker[Session]) -> None:
    """Return once a job has ended well; the test's time limit ends it otherwise."""
    pause = threading.Event()
    question = text("SELECT EXISTS (SELECT FROM job_runs WHERE outcome = 'done')")
    while True:
        with sessions() as session:
            if session.execute(question).scalar_one():
                return
        pause.wait(0.05)


def _status(environment: dict[str, str], path: str) -> int:
    connection = HTTPConnection("127.0.0.1", int(environment["PORT"]), timeout=PATIENCE_SECONDS)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def _get(environment: dict[str, str], path: str) -> bytes:
    connection = HTTPConnection("127.0.0.1", int(environment["PORT"]), timeout=PATIENCE_SECONDS)
    connection.request("GET", path)
    content = connection.getresponse().read()
    connection.close()
    return content


@contextmanager
def _portal(environment: dict[str, str], command: str) -> Iterator[subprocess.Popen[str]]:
    """A portal in a process of its own, which does not outlive a test that fails."""
    with subprocess.Popen(  # noqa: S603 - our own commands
        [sys.executable, "-m", "portal", command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as portal:
        try:
            yield portal
        finally:
            portal.kill()


def _wait_for(portal: subprocess.Popen[str], words: str) -> str:
    """Read what the portal says up to the line with these words; the test's time limit ends it."""
    assert portal.stdout is not None
    shown = ""
    for line in portal.stdout:
        shown += line
        if words in line:
            return shown
    raise AssertionError(f"it ended without {words!r}:\n{shown}")
