"""Files of a million rows, beside openpyxl and a bare COPY, and what others feel of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING
from unittest import mock

from openpyxl import Workbook
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from benchmarks.charging import ACTOR, analyse
from benchmarks.history import fill_account
from benchmarks.usage import MAIN, visitor_of
from db.bulk import copy_query
from db.models import Entry
from domain.actors import MemberRole, user_actor
from domain.history.export_jobs import ExportOptions
from domain.history.rows import HistoryFilter
from portal.exports import files, worker
from portal.runtime import database
from portal.shell import page_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.yardstick import Pgbench

ROWS = int(os.environ.get("EXPORT_ROWS", "1000000"))
ROUNDS = 3
RERUNS = 100
_THINKING_SECONDS = 0.1
_LOOKING_SECONDS = 0.02
_NINETY_FIFTH = 94
_JOB = 1


def run(sessions: sessionmaker[Session], _pgbench: Pgbench) -> None:
    """Write the files by the product's own process, and print each beside its yardstick."""
    with sessions() as session:
        account = fill_account(session, datetime.now(UTC), ROWS)
    analyse(sessions)
    url = sessions.kw["bind"].url.render_as_string(hide_password=False)
    database.connect(url, read_timeout_seconds=0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copied = median(_copy(sessions, account, place) for _ in range(ROUNDS))
        csv = median(_export(url, account, place / "history.csv")[0] for _ in range(ROUNDS))
        print(f"{ROWS:,} rows, bare COPY: {copied:.1f} s")
        print(f"{ROWS:,} rows, CSV: {csv:.1f} s, {copied / csv:.2f} x COPY (goal 0.3)")
        alone = _reruns(account, lambda: False)
        export = threading.Thread(target=_export, args=(url, account, place / "other.xlsx"))
        export.start()
        beside = _reruns(account, export.is_alive)
        export.join()
        print(f"Billing page, p95 alone: {alone * 1000:.0f} ms")
        print(f"Billing page, p95 beside an export: {beside * 1000:.0f} ms")
        print(f"Billing page, ratio: {beside / alone:.2f} (goal 2)")
        excel, megabytes = _export(url, account, place / "history.xlsx")
        slow = _openpyxl(sessions, account, place / "yardstick.xlsx")
        print(f"{ROWS:,} rows, openpyxl write_only: {slow:.1f} s")
        print(f"{ROWS:,} rows, Excel: {excel:.1f} s, {slow / excel:.1f} x openpyxl (goal 5)")
        print(f"peak memory of the process that writes: {megabytes:.0f} MB (goal 100)")


def _copy(sessions: sessionmaker[Session], account: int, folder: Path) -> float:
    with sessions() as session, (folder / "copied.csv").open("wb") as file:
        statement = (
            select(
                Entry.occurred_at,
                Entry.kind,
                Entry.service,
                Entry.source,
                Entry.description_code,
                Entry.description_parameters,
                Entry.amount_micros,
                Entry.balance_after_micros,
            )
            .where(Entry.account_id == account)
            .order_by(Entry.occurred_at.desc())
        )
        started = time.perf_counter()
        copy_query(session, statement, file.write)
        return time.perf_counter() - started


def _options(account: int, file_format: str) -> ExportOptions:
    return ExportOptions(account, HistoryFilter(), file_format, "Asia/Ho_Chi_Minh", "en")


def _export(url: str, account: int, path: Path) -> tuple[float, float]:
    """Write a file as the portal does; return the seconds, and the peak memory in megabytes."""
    actor = user_actor(1, memberships={account: MemberRole.OWNER})
    message = worker.describe(actor, _options(account, path.suffix[1:]), _JOB, path)
    waiting = threading.Event()
    started = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", worker.__name__],
        env={**os.environ, "DATABASE_URL": url},
        stdin=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None:
            raise RuntimeError("a process that was given a pipe has one")
        process.stdin.write(json.dumps(message))
        process.stdin.close()
        kilobytes = 0
        while process.poll() is None:
            kilobytes = _peak_kilobytes(process.pid) or kilobytes
            waiting.wait(_LOOKING_SECONDS)
    if process.returncode or not path.is_file():
        raise RuntimeError("the export failed")
    return time.perf_counter() - started, kilobytes / 1024


def _peak_kilobytes(process_id: int) -> int:
    """Return what Linux says of the process; what it counts for a parent is the parent's too."""
    status = Path(f"/proc/{process_id}/status").read_text("utf-8")
    return next((int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line), 0)


def _openpyxl(sessions: sessionmaker[Session], account: int, path: Path) -> float:
    """Return the time of the same rows and columns through openpyxl's fast way."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    started = time.perf_counter()
    with sessions() as session:
        for row in files.sheet_rows(session, actor=ACTOR, options=_options(account, "xlsx")):
            sheet.append(row)
    book.save(path)
    return time.perf_counter() - started


def _reruns(account: int, is_going_on: Callable[[], bool]) -> float:
    """Return the p95 of reruns of the Billing page, for as long as other work is in progress."""
    times: list[float] = []
    thinking = threading.Event()
    visitor = visitor_of(account)
    with mock.patch.object(page_context, "require_visitor", return_value=visitor):
        page = AppTest.from_file(str(MAIN), default_timeout=60)
        page.query_params["tab"] = "history"
        page.run()
        while len(times) < RERUNS or is_going_on():
            started = time.perf_counter()
            page.run()
            times.append(time.perf_counter() - started)
            thinking.wait(_THINKING_SECONDS)
    return quantiles(times, n=100)[_NINETY_FIFTH]
