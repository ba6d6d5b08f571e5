"""Files as browsers ask for them, and the processes that write them."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from openpyxl import load_workbook
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from domain import accounts, clock, identity
from domain.actors import MemberRole, StaffRole, system_actor, user_actor
from domain.errors import NotFound
from domain.history import export_jobs
from domain.history.export_jobs import ExportOptions, ExportState
from domain.history.rows import HistoryFilter
from portal.exports import jobs, worker
from portal.routes import exports as routes
from portal.routes import sign_in
from portal.routes.forms import MAX_FORM_BYTES
from portal.runtime import cookies, database
from portal.runtime.settings import settings
from tests.factories import charge, grant, make_account
from tests.support.people import register

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx2 import Response
    from sqlalchemy.orm import Session

    from domain.actors import Actor

HERE = "http://localhost:8501"
EMAIL = "lan@example.com"
PASSWORD = "violet-kettle-9-march"
SYSTEM = system_actor("tests")
_PATIENCE_SECONDS = 120
SIGNED_IN = re.compile(r'name="form_token" value="([0-9a-f]+)"')


@pytest.fixture(autouse=True)
def _ended_exports(portal: None) -> Iterator[None]:  # noqa: ARG001 - it is closed after this
    """Whoever asked for a file may have its answer before the thread that waited is done."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("export-"):
            thread.join(_PATIENCE_SECONDS)
            assert not thread.is_alive()


@pytest.fixture
def account() -> int:
    """An account with ten dollars and three charges."""

    def make(session: Session) -> int:
        made = make_account(session)
        grant(session, made, 10)
        for number in range(3):
            charge(session, made, number + 1, occurred_at=clock.now(session))
        return made

    return database.transaction(make)


@pytest.fixture
def browser(account: int) -> TestClient:
    """A reader of the account, signed in."""
    found = TestClient(
        Starlette(routes=[*sign_in.routes(), *routes.routes()]),
        base_url=HERE,
        follow_redirects=False,
        headers={"accept": "text/html", "origin": HERE},
    )
    user_id = database.transaction(
        identity.create_user,
        email=EMAIL,
        display_name="Lan",
        password=PASSWORD,
        staff_role=None,
        actor=SYSTEM,
    )
    database.transaction(
        accounts.add_member,
        account_id=account,
        user_id=user_id,
        role=MemberRole.READER,
        actor=SYSTEM,
    )
    token = SIGNED_IN.findall(found.get("/sign-in").text)[0]
    answer = found.post(
        "/sign-in", data={"form_token": token, "email": EMAIL, "password": PASSWORD}
    )
    assert answer.status_code == 303
    return found


def an_owner(account: int) -> Actor:
    """Return somebody who owns the account."""
    actor = user_actor(1, memberships={account: MemberRole.OWNER})
    database.transaction(register, actor)
    return actor


def signed_in_user(client: TestClient) -> identity.SignedInUser:
    token = client.cookies["credit_portal_session"]
    user = database.read_snapshot(identity.session_actor, token=token, policy=settings().policy)
    assert user is not None
    return user


def form_token(client: TestClient) -> str:
    return cookies.form_token(client.cookies["credit_portal_session"])


def ask(client: TestClient, account: int, file_format: str = "csv", **fields: str) -> Response:
    options = ExportOptions(account, HistoryFilter(), "", "Asia/Tokyo", "en")
    data = {
        "form_token": form_token(client),
        "options": json.dumps(options.to_json()),
        "page": "tab=history&service=gpu-vm",
        "format": file_format,
        **fields,
    }
    return client.post("/exports/history", data=data)


def job_of(answer: Response) -> int:
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    return int(query["export"][0])


# ── Small files come at once ───────────────────────────────────────────────────────────────────
def test_a_small_csv_is_the_answer(browser: TestClient, account: int) -> None:
    answer = ask(browser, account)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-encoding"] == "identity"
    name = answer.headers["content-disposition"]
    assert re.search(rf'filename="credit-history-{account}-\d{{4}}-\d\d-\d\d\.csv"', name)
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["Exact amount (USD)"] for row in rows][:3] == [
        "-3.000000",
        "-2.000000",
        "-1.000000",
    ]


def test_a_small_workbook_is_the_answer(browser: TestClient, account: int) -> None:
    answer = ask(browser, account, "xlsx")
    assert answer.status_code == 200
    sheet = load_workbook(io.BytesIO(answer.content))["Credit History"]
    assert str(sheet["A1"].value).startswith("Account: Account-")
    files = list(jobs.folder().iterdir())
    assert [path.suffix for path in files] == [".xlsx"]
    assert files[0].stat().st_mode & 0o077 == 0, "nobody else of the machine reads it"


def test_a_file_can_be_had_again_by_its_maker_alone(browser: TestClient, account: int) -> None:
    ask(browser, account)
    (path,) = jobs.folder().iterdir()
    address = f"/exports/file?id={path.stem}"
    assert browser.get(address).content == path.read_bytes()
    other = database.transaction(
        identity.create_user,
        email="other@example.com",
        display_name="Other",
        password=PASSWORD,
        staff_role=StaffRole.ADMIN,
        actor=SYSTEM,
    )
    assert other
    browser.cookies.clear()
    assert browser.get(address).headers["location"].startswith("/sign-in?next=/exports/file")
    token = SIGNED_IN.findall(browser.get("/sign-in").text)[0]
    fields = {"form_token": token, "email": "other@example.com", "password": PASSWORD}
    assert browser.post("/sign-in", data=fields).status_code == 303
    assert browser.get(address).status_code == 404


@pytest.mark.parametrize("is_announced", [True, False])
def test_body_that_comes_with_a_download_breaks_nothing(
    browser: TestClient, account: int, *, is_announced: bool
) -> None:
    ask(browser, account)
    (path,) = jobs.folder().iterdir()
    body = b"x" * (MAX_FORM_BYTES + 1)
    content = body if is_announced else (body[at : at + 1000] for at in range(0, len(body), 1000))
    answer = browser.request("GET", f"/exports/file?id={path.stem}", content=content)
    assert answer.status_code == (413 if is_announced else 200)


def test_a_zone_that_only_this_machine_knows_is_utc_in_the_file(account: int) -> None:
    actor = an_owner(account)
    options = ExportOptions(account, HistoryFilter(), "csv", "localtime", "en")
    job_id, waiting = jobs.start(actor, options)
    waiting.join(240)
    export = jobs.find(actor, job_id)
    assert (export.state, export.options.zone) == (ExportState.DONE, "UTC")
    path = jobs.file_of(export)
    assert path is not None
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        message = datetime.fromisoformat(row["Time (UTC)"]).replace(microsecond=0, tzinfo=None)
        assert datetime.fromisoformat(row["Date (UTC)"]) == message


def test_access_that_ends_while_a_file_is_answered_is_no_fault(
    browser: TestClient, account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may read is asked once: whoever may not any more is told so by that, and no later."""
    ask(browser, account)
    (path,) = jobs.folder().iterdir()

    def refuse(*_query: Any, **_given: Any) -> None:
        raise NotFound("account")

    with monkeypatch.context() as after:
        after.setattr(routes, "read_snapshot", refuse)
        answer = browser.get(f"/exports/file?id={path.stem}")
        assert (answer.status_code, answer.content) == (200, path.read_bytes())
    monkeypatch.setattr(jobs, "find", refuse)
    assert browser.get(f"/exports/file?id={path.stem}").status_code == 404
    assert ask(browser, account).status_code == 404


# ── What is refused ────────────────────────────────────────────────────────────────────────────
def test_another_account_is_not_found(browser: TestClient) -> None:
    stranger = database.transaction(make_account)
    assert ask(browser, stranger).status_code == 404
    assert list(jobs.folder().iterdir()) == []


@pytest.mark.parametrize(
    "options",
    ["", "[]", "{}", "null", "[" * 20_000, '{"account_id": "1"}', '{"account_id": 1e999}'],
)
def test_options_of_no_page_are_explained(browser: TestClient, account: int, options: str) -> None:
    answer = ask(browser, account, options=options)
    assert answer.status_code == 422
    assert "Load it again" in answer.text


@pytest.mark.parametrize(
    "part",
    [{"text": "\ud800"}, {"services": ["\ud800"]}, {"zone": "\ud800"}, {"language": "\ud800"}],
)
def test_a_wish_with_half_a_character_is_explained(
    browser: TestClient, account: int, part: dict[str, Any]
) -> None:
    options = ExportOptions(account, HistoryFilter(), "", "Asia/Tokyo", "en").to_json()
    assert ask(browser, account, options=json.dumps(options | part)).status_code == 422


def test_an_unknown_format_is_explained(browser: TestClient, account: int) -> None:
    assert ask(browser, account, "exe").status_code == 422


def test_a_form_of_another_site_is_refused(browser: TestClient, account: int) -> None:
    answer = ask(browser, account, form_token="0" * 64)
    assert answer.status_code == 403


@pytest.mark.parametrize("number", ["", "0", "-1", "1; DROP", "9" * 40, "²"])
def test_a_number_of_no_file_is_not_found(browser: TestClient, number: str) -> None:
    assert browser.get("/exports/file", params={"id": number}).status_code == 404


def test_who_waits_for_a_file_is_told_to_wait_with_the_next(
    browser: TestClient, account: int
) -> None:
    actor = signed_in_user(browser).actor("127.0.0.1")
    options = ExportOptions(account, HistoryFilter(), "csv", "UTC", "en")
    database.transaction(export_jobs.begin_export, actor=actor, options=options)
    answer = ask(browser, account)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert "in a minute" in answer.text


# ── Files that take long ───────────────────────────────────────────────────────────────────────
def test_a_file_that_takes_long_is_watched_on_its_page(
    browser: TestClient, account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "_PATIENCE_SECONDS", 0)
    answer = ask(browser, account)
    assert answer.status_code == 303
    location = answer.headers["location"]
    assert location.startswith("/?tab=history&service=gpu-vm&export=")
    job_id = job_of(answer)
    actor = signed_in_user(browser).actor("127.0.0.1")
    wait_for_end(actor, job_id)
    assert jobs.find(actor, job_id).state is ExportState.DONE
    assert browser.get(f"/exports/file?id={job_id}").content.startswith(b"\xef\xbb\xbfDate (")


def wait_for_end(actor: Any, job_id: int) -> None:
    for thread in threading.enumerate():
        if thread.name == f"export-{job_id}":
            thread.join(240)
    assert jobs.find(actor, job_id).state is not ExportState.RUNNING


def test_an_address_from_elsewhere_leads_nowhere_else(
    browser: TestClient, account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "_PATIENCE_SECONDS", 0)
    answer = ask(browser, account, page="//evil.example/?x=1&export=77\r\nX: y")
    location = answer.headers["location"]
    assert location.startswith("/?")
    assert "\n" not in location
    assert job_of(answer) != 77
    wait_for_end(signed_in_user(browser).actor("127.0.0.1"), job_of(answer))


def test_a_process_that_fails_is_told_and_leaves_nothing(
    account: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "_command", lambda: [sys.executable, "-c", "import sys; sys.exit(3)"])
    actor = an_owner(account)
    options = ExportOptions(account, HistoryFilter(), "csv", "UTC", "en")
    with caplog.at_level(logging.ERROR):
        job_id, waiting = jobs.start(actor, options)
        waiting.join(240)
    assert jobs.find(actor, job_id).state is ExportState.FAILED
    assert list(jobs.folder().iterdir()) == []
    assert f"export {job_id} failed" in caplog.text


WAITS = """
import pathlib, sys, time
sys.stdin.read()
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
sys.exit('ended by itself')
"""
"""A process that goes on until a file is there."""


def test_a_process_that_is_silent_for_long_is_still_known_to_live(
    account: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(jobs, "_SIGN_OF_LIFE_SECONDS", 0.05)
    gate = tmp_path / "gate"
    monkeypatch.setattr(jobs, "_command", lambda: [sys.executable, "-c", WAITS, str(gate)])
    actor = an_owner(account)
    options = ExportOptions(account, HistoryFilter(), "csv", "UTC", "en")
    signs = []
    write = database.transaction

    def watched(service: Any, **given: Any) -> Any:
        signs.append(service)
        if signs.count(export_jobs.note_progress) > 1:
            gate.touch()
        return write(service, **given)

    monkeypatch.setattr(database, "transaction", watched)
    _, waiting = jobs.start(actor, options)
    waiting.join(240)
    assert signs.count(export_jobs.note_progress) > 1


def test_a_file_is_written_though_its_progress_cannot_be_noted(
    account: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_session: Any, **_given: Any) -> None:
        raise OperationalError("", {}, Exception("away"))

    monkeypatch.setattr(export_jobs, "note_progress", fail)
    actor = an_owner(account)
    options = ExportOptions(account, HistoryFilter(), "xlsx", "UTC", "en")
    job_id = database.transaction(export_jobs.begin_export, actor=actor, options=options)
    path = jobs.folder() / f"{job_id}.xlsx"
    worker.write(worker.describe(actor, options, job_id, path))
    assert jobs.find(actor, job_id).state is ExportState.DONE
    assert path.is_file()
    assert f"the progress of export {job_id} cannot be noted" in caplog.text


def test_an_export_is_waited_for_though_its_progress_cannot_be_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    def fail(*_session: Any, **_given: Any) -> None:
        gate.touch()
        raise OperationalError("", {}, Exception("away"))

    monkeypatch.setattr(export_jobs, "note_progress", fail)
    monkeypatch.setattr(jobs, "_SIGN_OF_LIFE_SECONDS", 0.05)
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", WAITS, str(gate)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert jobs._wait(process, 1, "{}").strip() == "ended by itself"


def test_the_end_of_a_job_leaves_nothing_unfinished_behind(
    account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import json, sys; open(json.load(sys.stdin)['path'][:-3] + 'part', 'w')"
    monkeypatch.setattr(jobs, "_command", lambda: [sys.executable, "-c", program])
    actor = an_owner(account)
    options = ExportOptions(account, HistoryFilter(), "csv", "UTC", "en")
    finish, left = export_jobs.finish_export, []

    def finished(session: Session, **given: Any) -> None:
        left.append(list(jobs.folder().iterdir()))
        finish(session, **given)

    monkeypatch.setattr(export_jobs, "finish_export", finished)
    _, waiting = jobs.start(actor, options)
    waiting.join(240)
    assert left == [[]]


def test_a_file_that_cannot_be_deleted_fails_no_export_of_another(
    account: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    delete = Path.unlink

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path.stem == "999":
            raise PermissionError(13, "no", str(path))
        delete(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    for stray in ("999.csv", "998.csv"):
        (jobs.folder() / stray).touch()
    actor = an_owner(account)
    options = ExportOptions(account, HistoryFilter(), "csv", "UTC", "en")
    job_id, waiting = jobs.start(actor, options)
    waiting.join(240)
    assert jobs.find(actor, job_id).state is ExportState.DONE
    assert {path.stem for path in jobs.folder().iterdir()} == {"999", str(job_id)}
    assert jobs.remove_forgotten() == 0
    assert "cannot be deleted" in caplog.text


def test_the_process_knows_no_secret_of_the_portal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "hush")
    monkeypatch.setenv("STRIPE_SECRET_KEY", "hush")
    assert "hush" not in jobs.environment().values()


def test_the_worker_says_why_it_ended_without_telling_values(account: int) -> None:
    actor = an_owner(account)
    options = ExportOptions(account, HistoryFilter(text="test-model"), "csv", "No/Zone", "en")
    message = worker.describe(actor, options, 1, jobs.folder() / "1.csv")
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", worker.__name__],
        input=json.dumps(message),
        env=jobs.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode != 0
    assert "time zone" in done.stderr
    assert "test-model" not in done.stderr


# ── The end of files ───────────────────────────────────────────────────────────────────────────
def test_files_whose_time_is_over_are_deleted(account: int) -> None:
    actor = an_owner(account)
    options = ExportOptions(account, HistoryFilter(), "csv", "UTC", "en")
    job_id, waiting = jobs.start(actor, options)
    waiting.join(240)
    for stray in ("999.part", "998.xlsx", "nobody.csv"):
        (jobs.folder() / stray).touch()
    assert jobs.remove_forgotten() == 3
    assert [path.name for path in jobs.folder().iterdir()] == [f"{job_id}.csv"]

    def age(session: Session) -> None:
        session.info["clock"] = lambda: datetime.now(UTC) + export_jobs.KEPT_FOR
        assert export_jobs.forget_exports(session, actor=SYSTEM) == 1

    database.transaction(age)
    assert jobs.job().run(None) == "0 forgotten, 1 files deleted"  # type: ignore[arg-type]
    assert list(jobs.folder().iterdir()) == []
