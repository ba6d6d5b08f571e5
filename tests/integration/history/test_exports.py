"""Files of Credit History: every row, exact sums, inert text, and nobody else's."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook
from sqlalchemy import select

from db.models import AuditRecord
from domain import ledger
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import ExportsBusy, InvalidInput, NotFound
from domain.history import export_jobs
from domain.history.export_jobs import ExportOptions, ExportState
from domain.history.pages import history_page
from domain.history.rows import HistoryFilter, HistoryStatus
from domain.ledger.balances import account_summary
from portal.exports.files import write_export
from portal.exports.spreadsheets import Column, write_workbook
from portal.runtime import database
from portal.ui.labels import ledger as ledger_labels
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, make_charge, next_key
from tests.gateways import ScriptedGateway, dong, payer
from tests.gateways import begin as begin_payment
from tests.support.keys import TEST_VAULT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session

    from tests.conftest import TestClock

ZONE = "Asia/Ho_Chi_Minh"
HEADING_ROWS = 7
EVIL = '=HYPERLINK("http://evil.example","Win")'
QUANTITIES = {"input-tokens": 12_345, "output-tokens": 67}


@pytest.fixture(autouse=True)
def portal(database_url: str) -> Iterator[None]:
    """The names of services are read through the portal's own connection."""
    database.connect(database_url, vault=TEST_VAULT)
    yield
    database.disconnect()


@pytest.fixture
def account(session: Session, clock: TestClock) -> int:
    """Credit of three kinds, usage, a refusal, a hold, a reversal, and text that wants to run."""
    account = make_account(session)
    grant(session, account, 20)
    grant(session, account, 5, kind="voucher", origin=EVIL)
    for number in range(12):
        at = clock.advance(hours=7)
        done = charge(
            session,
            account,
            Decimal("0.000001") * (number * 100_003 + 1),
            occurred_at=at,
            service=("ai-inference", "gpu-vm")[number % 2],
            description_parameters={"calls": 3, "quantities": QUANTITIES},
        )
    ledger.charge(
        session, charge=make_charge(account, 999, occurred_at=clock.advance(hours=1)), actor=SYSTEM
    )
    ledger.place_hold(
        session,
        account_id=account,
        service="gpu-vm",
        amount_micros=UNIT,
        expires_at=clock.instant + timedelta(days=1),
        source="+1+cmd",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    ledger.reverse_entry(
        session,
        account_id=account,
        entry_sequence=done.entry_sequence or 0,
        reason="@outage",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    session.commit()
    return account


def options(account: int, file_format: str, **filters: Any) -> ExportOptions:
    return ExportOptions(account, HistoryFilter(**filters), file_format, ZONE, "en")


def write(session: Session, folder: Path, filters: ExportOptions) -> Path:
    path = folder / f"history.{filters.file_format}"
    write_export(
        session, path, actor=SYSTEM, options=filters, made_at=datetime(2026, 4, 1, tzinfo=UTC)
    )
    return path


def sheet(path: Path, heading_rows: int = HEADING_ROWS) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the lines on top, and the rows by title."""
    book = load_workbook(path)
    rows = list(book["Credit History"].iter_rows(values_only=True))
    top = [str(row[0]) for row in rows[:heading_rows]]
    titles = [str(title) for title in rows[heading_rows + 1]]
    return top, [dict(zip(titles, row, strict=True)) for row in rows[heading_rows + 2 :]]


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


# ── What is in the files ───────────────────────────────────────────────────────────────────────
def test_a_workbook_has_every_row_of_the_page_in_its_order(
    session: Session, account: int, tmp_path: Path
) -> None:
    top, rows = sheet(write(session, tmp_path, options(account, "xlsx")))
    page = history_page(session, actor=SYSTEM, account_id=account, filters=HistoryFilter())
    assert len(rows) == len(page.rows) == 17
    for message, row in zip(rows, page.rows, strict=True):
        local = row.occurred_at.astimezone(ZoneInfo(ZONE)).replace(tzinfo=None, microsecond=0)
        assert message[f"Date ({ZONE})"] == local
        assert datetime.fromisoformat(message["Time (UTC)"]) == row.occurred_at
        assert message["Status"] == ledger_labels.status(row.status)
        assert message["Service"] == ledger_labels.service(row.service)
        assert Decimal(message["Exact amount (USD)"]) * UNIT == row.amount_micros
        assert message["Amount (USD)"] == pytest.approx(row.amount_micros / UNIT)
    assert rows[2]["Description"] == "Usage"
    assert "3 calls · 12,345 input tokens · 67 output tokens" in {r["Description"] for r in rows}
    assert top[1] == "Filter: all rows"
    assert top[3] == f"Time zone of the dates: {ZONE}"


def test_both_files_add_up_to_the_balance(session: Session, account: int, tmp_path: Path) -> None:
    balance = account_summary(session, actor=SYSTEM, account_id=account).balance_micros
    _, rows = sheet(write(session, tmp_path, options(account, "xlsx")))
    exact = [Decimal(row["Exact amount (USD)"]) for row in rows if row["Status"] == "Success"]
    assert sum(exact) * UNIT == balance
    message = lines(write(session, tmp_path, options(account, "csv")))
    assert len(message) == len(rows)
    amounts = [Decimal(line["Amount (USD)"]) for line in message if line["Status"] == "Success"]
    assert sum(amounts) * UNIT == balance
    newest = next(line for line in message if line["Status"] == "Success")
    assert Decimal(newest["Balance after (USD)"]) * UNIT == balance


def test_the_heading_tells_the_sums_of_each_status(
    session: Session, account: int, tmp_path: Path
) -> None:
    top, rows = sheet(write(session, tmp_path, options(account, "xlsx")))
    for line, status in zip(top[4:], ("Success", "Failed", "Processing"), strict=True):
        of_status = [row for row in rows if row["Status"] == status]
        total = sum(Decimal(row["Exact amount (USD)"]) for row in of_status)
        amount = f"{total:,.6f}".replace("-", "\N{MINUS SIGN}$") if total < 0 else f"${total:,.6f}"
        trimmed = amount.rstrip("0")
        noun = "row" if len(of_status) == 1 else "rows"
        assert line.startswith(f"{status}: {len(of_status)} {noun}, {trimmed}"), line


def test_csv_has_the_columns_and_words_of_the_workbook(
    session: Session, account: int, tmp_path: Path
) -> None:
    _, rows = sheet(write(session, tmp_path, options(account, "xlsx")))
    message = lines(write(session, tmp_path, options(account, "csv")))
    assert list(message[0]) == list(rows[0])
    assert f"Date ({ZONE})" in message[0]
    for line, row in zip(message, rows, strict=True):
        for title, value in row.items():
            if title in {"Amount (USD)", "Balance after (USD)"}:
                number = "" if value is None else float(line[title])
                assert number == ("" if value is None else pytest.approx(value))
            else:
                assert line[title] == ("" if value is None else str(value))
    assert "3 calls · 12,345 input tokens · 67 output tokens" in {r["Description"] for r in message}
    refused = next(line for line in message if line["Status"] == "Failed")
    assert (refused["Amount (USD)"], refused["Balance after (USD)"]) == ("-999.00", "")


def test_payment_under_way_is_in_both_files(session: Session, tmp_path: Path) -> None:
    account, owner = payer(session)
    grant(session, account, 1_000_000)
    begin_payment(session, ScriptedGateway(), account, owner, dong(500_000))
    session.flush()
    top, rows = sheet(write(session, tmp_path, options(account, "xlsx")), heading_rows=8)
    message = lines(write(session, tmp_path, options(account, "csv")))
    assert "Processing, pending payments: 1 row, ₫500,000" in top
    for listed in (rows, message):
        (line,) = (each for each in listed if each["Status"] == "Processing")
        assert (line["Service"], line["Description"]) == ("VNPay", "Top-up · Not paid yet")
        assert line["Exact amount (VND)"] == "500000.000000"
        assert not line["Balance after (VND)"]
    assert (
        next(each for each in message if each["Status"] == "Processing")["Amount (VND)"] == "500000"
    )


def test_no_text_is_a_formula_in_either_file(
    session: Session, account: int, tmp_path: Path
) -> None:
    path = write(session, tmp_path, options(account, "xlsx"))
    cells = [cell for row in load_workbook(path)["Credit History"].iter_rows() for cell in row]
    assert [cell.coordinate for cell in cells if cell.data_type == "f"] == []
    texts = {cell.value for cell in cells if isinstance(cell.value, str)}
    assert {f"'{EVIL}", "'+1+cmd"} <= texts
    assert not [text for text in texts if text[0] in "=+@\t" or text[:2] == "-c"]
    message = lines(write(session, tmp_path, options(account, "csv")))
    assert {f"'{EVIL}"} == {line["Code"] for line in message} - {""}
    assert "'+1+cmd" in {line["Source"] for line in message}
    amounts = {"Amount (USD)", "Exact amount (USD)", "Balance after (USD)"}
    words = [text for line in message for name, text in line.items() if name not in amounts]
    assert not [word for word in words if word[:1] in set("=+-@\t\r\n") - {""}]


@pytest.mark.parametrize("file_format", ["xlsx", "csv"])
def test_the_filter_decides_what_is_in_the_file(
    session: Session, account: int, clock: TestClock, tmp_path: Path, file_format: str
) -> None:
    filters = options(
        account,
        file_format,
        services=frozenset({"gpu-vm"}),
        statuses=frozenset({HistoryStatus.SUCCESS}),
        kinds=frozenset({"charge"}),
        occurred_from=clock.instant - timedelta(days=2),
        text="test-model",
    )
    path = write(session, tmp_path, filters)
    page = history_page(session, actor=SYSTEM, account_id=account, filters=filters.filters)
    assert 0 < len(page.rows) < 6
    if file_format == "csv":
        assert len(lines(path)) == len(page.rows)
        return
    top, rows = sheet(path)
    assert len(rows) == len(page.rows)
    assert "Service = GPU VM · Status = Success · Type = Usage · From Mar " in top[1]
    assert top[1].endswith("Search = test-model")


@pytest.mark.parametrize("file_format", ["xlsx", "csv"])
def test_a_filter_that_nothing_passes_makes_a_file_of_titles(
    session: Session, account: int, tmp_path: Path, file_format: str
) -> None:
    filters = options(account, file_format, services=frozenset({"no-such-service"}))
    path = write(session, tmp_path, filters)
    if file_format == "csv":
        text = path.read_text("utf-8-sig")
        assert text.startswith(f"Date ({ZONE}),Time (UTC),Service")
        assert lines(path) == []
    else:
        _, rows = sheet(path)
        assert [row for row in rows if any(value is not None for value in row.values())] == []


def test_progress_is_told_from_the_beginning_to_the_end(
    session: Session, account: int, tmp_path: Path
) -> None:
    message: list[tuple[int, int]] = []
    write_export(
        session,
        tmp_path / "history.xlsx",
        actor=SYSTEM,
        options=options(account, "xlsx"),
        made_at=datetime.now(UTC),
        report=lambda done, count: message.append((done, count)),
    )
    assert (message[0], message[-1]) == ((0, 17), (17, 17))


def test_what_one_sheet_cannot_hold_goes_on_in_the_next(tmp_path: Path) -> None:
    path = tmp_path / "long.xlsx"
    columns = [Column("Number", 10), Column("Search", 10)]
    rows = [(number, f"row {number}") for number in range(25)]
    write_workbook(
        path,
        name="Long",
        columns=columns,
        rows=iter(rows),
        row_count=len(rows),
        heading=["Top"],
        sheet_rows=13,
    )
    book = load_workbook(path)
    assert book.sheetnames == ["Long", "Long 2", "Long 3"]
    found = []
    for name in book.sheetnames:
        message = list(book[name].iter_rows(values_only=True))
        assert (message[0][0], message[2]) == ("Top", ("Number", "Search"))
        assert len(message) <= 13
        found += message[3:]
    assert found == rows


@pytest.mark.office
def test_libreoffice_adds_the_workbook_up_to_the_balance(
    session: Session, account: int, tmp_path: Path
) -> None:
    """LibreOffice opens the file, and its own SUMIF over the amounts is what the header shows."""
    path = write(session, tmp_path, options(account, "xlsx"))
    book = load_workbook(path)
    shown = book["Credit History"]
    last = shown.max_row
    total = shown.cell(last + 2, 12, f'=SUMIF(G1:G{last},"Success",H1:H{last})')
    total.number_format = "0.000000"
    book.save(tmp_path / "summed.xlsx")
    message = recalculated(tmp_path / "summed.xlsx")
    balance = account_summary(session, actor=SYSTEM, account_id=account).balance_micros
    assert Decimal(message[-1][11]) * UNIT == balance
    exact = [Decimal(row[8]) for row in message if len(row) > 8 and row[6] == "Success"]
    assert sum(exact) * UNIT == balance


def recalculated(path: Path) -> list[list[str]]:
    """Return the first sheet as LibreOffice shows it."""
    office = shutil.which("soffice")
    assert office is not None, "the tests of files need LibreOffice Calc"
    profile = path.parent / "office"
    # A profile of its own: another LibreOffice may be running.
    subprocess.run(  # noqa: S603
        [
            office,
            "--headless",
            f"-env:UserInstallation={profile.as_uri()}",
            "--convert-to",
            "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true",
            "--outdir",
            str(path.parent),
            str(path),
        ],
        check=True,
        capture_output=True,
        timeout=240,
    )
    text = path.with_suffix(".csv").read_text("utf-8")
    return [row for row in csv.reader(io.StringIO(text)) if row]


# ── Wishes ─────────────────────────────────────────────────────────────────────────────────────
def test_a_wish_survives_json() -> None:
    filters = options(
        7,
        "csv",
        services=frozenset({"gpu-vm"}),
        statuses=frozenset({HistoryStatus.FAILED}),
        kinds=frozenset({"charge", "hold"}),
        occurred_from=datetime(2026, 3, 1, tzinfo=UTC),
        occurred_before=datetime(2026, 4, 1, tzinfo=UTC),
        text="50%_",
    )
    assert ExportOptions.from_json(filters.to_json()) == filters


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(options(7, "csv").to_json())), _ANYTHING)
def test_a_wish_of_anything_else_is_refused_and_not_a_crash(name: str, value: object) -> None:
    given_ = {**options(7, "csv").to_json(), name: value}
    try:
        read = ExportOptions.from_json(given_)
    except InvalidInput:
        return
    assert ExportOptions.from_json(read.to_json()) == read


@given(_ANYTHING)
def test_what_is_no_wish_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        ExportOptions.from_json(value)


# ── Jobs ───────────────────────────────────────────────────────────────────────────────────────
def owner(account: int, user_id: int = 1) -> Any:
    return user_actor(user_id, memberships={account: MemberRole.READER})


def begin(session: Session, account: int, user_id: int = 1, file_format: str = "csv") -> int:
    return export_jobs.begin_export(
        session, actor=owner(account, user_id), options=options(account, file_format)
    )


def test_an_export_of_another_account_is_not_begun(session: Session, account: int) -> None:
    stranger = user_actor(2, memberships={make_account(session): MemberRole.OWNER})
    with pytest.raises(NotFound):
        export_jobs.begin_export(session, actor=stranger, options=options(account, "csv"))


def test_an_export_is_its_makers_alone_and_only_while_they_may_read(
    session: Session, account: int
) -> None:
    job = begin(session, account)
    assert export_jobs.find_export(session, actor=owner(account), job_id=job).account_id == account
    staff = user_actor(3, staff_role=StaffRole.ADMIN)
    for other in (owner(account, 2), staff, user_actor(1, memberships={})):
        with pytest.raises(NotFound):
            export_jobs.find_export(session, actor=other, job_id=job)


def test_an_export_by_staff_is_audited(session: Session, account: int) -> None:
    staff = user_actor(3, staff_role=StaffRole.SUPPORT)
    job = export_jobs.begin_export(session, actor=staff, options=options(account, "xlsx"))
    record = session.scalars(
        select(AuditRecord).where(AuditRecord.action == "export_history")
    ).one()
    assert (record.account_id, record.details) == (account, {"export": job, "format": "xlsx"})


def test_a_format_that_there_is_not_is_refused(session: Session, account: int) -> None:
    with pytest.raises(InvalidInput):
        begin(session, account, file_format="../../etc/passwd")


def test_places_are_few_and_one_a_person(session: Session, account: int, clock: TestClock) -> None:
    first = begin(session, account)
    with pytest.raises(ExportsBusy):
        begin(session, account)
    begin(session, account, user_id=2)
    with pytest.raises(ExportsBusy):
        begin(session, account, user_id=3)
    export_jobs.finish_export(session, actor=SYSTEM, job_id=first, state=ExportState.DONE)
    begin(session, account, user_id=3)
    clock.advance(minutes=1, seconds=59)
    export_jobs.note_progress(session, actor=SYSTEM, job_id=first + 1)
    clock.advance(seconds=2)
    begin(session, account, user_id=4)
    with pytest.raises(ExportsBusy):
        begin(session, account, user_id=5)


def test_a_job_that_fell_silent_counts_as_failed(
    session: Session, account: int, clock: TestClock
) -> None:
    job = begin(session, account)
    export_jobs.note_progress(session, actor=SYSTEM, job_id=job, progress=(5, 17))
    found = export_jobs.find_export(session, actor=owner(account), job_id=job)
    assert (found.state, found.rows_written, found.rows_total) == (ExportState.RUNNING, 5, 17)
    clock.advance(minutes=2)
    found = export_jobs.find_export(session, actor=owner(account), job_id=job)
    assert found.state is ExportState.FAILED


def test_an_end_is_final(session: Session, account: int) -> None:
    job = begin(session, account)
    export_jobs.finish_export(session, actor=SYSTEM, job_id=job, state=ExportState.DONE)
    export_jobs.finish_export(session, actor=SYSTEM, job_id=job, state=ExportState.FAILED)
    found = export_jobs.find_export(session, actor=owner(account), job_id=job)
    assert found.state is ExportState.DONE


def test_a_file_is_kept_for_a_day(session: Session, account: int, clock: TestClock) -> None:
    old = begin(session, account)
    clock.advance(hours=23)
    new = begin(session, account, user_id=2)
    assert export_jobs.kept_exports(session, actor=SYSTEM) == {old, new}
    clock.advance(hours=1)
    assert export_jobs.kept_exports(session, actor=SYSTEM) == {new}
    with pytest.raises(NotFound):
        export_jobs.find_export(session, actor=owner(account), job_id=old)
    assert export_jobs.forget_exports(session, actor=SYSTEM) == 1
    assert export_jobs.forget_exports(session, actor=SYSTEM) == 0
