"""Importing files of calls: exact, once, resumable; bad rows set aside."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from db.engine import make_engine, make_sessions
from domain.actors import user_actor
from domain.catalogue.file import CATALOGUE_FILE
from domain.errors import AmountOutOfRange, Conflict, InvalidInput, NotAuthorised
from domain.ledger import Charge, ChargeItem, charge, verify_ledger
from domain.metering import usage
from domain.metering.file import Call, Reject
from domain.metering.usage import ImportSummary, UsageEvent, import_usage, record_usage
from domain.money import MAX_MICROS
from tests.factories import SYSTEM, grant, make_account
from tests.support.environment import OUTSIDE_DEMO

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

ROOT = Path(__file__).resolve().parents[3]
TRACE = ROOT.parent / "shared" / "usage" / "AzureLLMInferenceTrace_code.csv"
needs_trace = pytest.mark.skipif(not TRACE.exists(), reason=f"the usage trace is not at {TRACE}")

TABLES = (
    "entries",
    "allocations",
    "usage_events",
    "usage_keys",
    "grant_balances",
    "account_balances",
    "refusals",
)
LEDGER = (
    """SELECT account_id, account_sequence, kind, service, source, description_parameters::text,
       amount_micros, balance_after_micros, occurred_at FROM entries WHERE kind = 'charge'
       ORDER BY 1, 2""",
    """SELECT account_id, account_sequence, line_number, grant_number, amount_micros,
       remaining_after_micros FROM allocations ORDER BY 1, 2, 3""",
    """SELECT account_id, account_sequence, line_number, event_id, exact_micros
       FROM usage_events ORDER BY 1, 2, 3""",
    "SELECT account_id, carries FROM account_balances ORDER BY 1",
)


def small_trace(path: Path, rows: int = 900) -> Path:
    """Write calls over ten minutes, some of them alike to the letter."""
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for number in range(rows):
        second, fraction = divmod(number * 661, 1000)
        stamp = f"2026-02-03 10:{second // 60:02}:{second % 60:02}.{fraction:03}4567"
        row = f"{stamp},{(number * 977) % 7437 + 3},{(number * 31) % 900 + 1}"
        lines += [row, row] if number % 50 == 0 else [row]
    path.write_text("\n".join(lines) + "\n")
    return path


def open_accounts(sessions: sessionmaker[Session], count: int = 3) -> list[int]:
    with sessions() as session:
        accounts = [make_account(session) for _ in range(count)]
        for account in accounts:
            grant(session, account, "0.05", kind="voucher", services=("ai-inference",))
            grant(session, account, 1_000)
        session.commit()
    return accounts


def run(
    sessions: sessionmaker[Session], path: Path, accounts: list[int], **options: Any
) -> ImportSummary:
    options.setdefault("actor", SYSTEM)
    return import_usage(
        sessions,
        path=path,
        accounts=accounts,
        rejects_path=path.with_suffix(".rejects.csv"),
        report=lambda _done, _total: None,
        **options,
    )


def read_rejects(path: Path) -> list[tuple[int, str]]:
    with path.with_suffix(".rejects.csv").open() as file:
        return [(int(row["line"]), row["reason"]) for row in csv.DictReader(file)]


def contents(sessions: sessionmaker[Session], statements: tuple[str, ...]) -> list[Any]:
    with sessions() as session:
        return [session.execute(text(statement)).all() for statement in statements]


def whole_tables(sessions: sessionmaker[Session]) -> list[Any]:
    statements = tuple(f"SELECT t::text FROM {table} t ORDER BY 1" for table in TABLES)  # noqa: S608
    return contents(sessions, statements)


def general_prices(currency: str = "USD") -> tuple[Decimal, Decimal]:
    """Read the prices a million tokens straight from the file, without the product's code."""
    file = tomllib.loads(CATALOGUE_FILE.read_text(), parse_float=Decimal)
    general = [
        block
        for block in file["prices"]
        if block["service"] == "ai-inference" and "model" not in block
    ]
    assert len(general) == 1
    return general[0]["input-tokens"][currency], general[0]["output-tokens"][currency]


def expected_micros(path: Path) -> tuple[int, Decimal]:
    price_in, price_out = general_prices()
    calls, total = 0, Decimal(0)
    with path.open() as file:
        for row in csv.DictReader(file):
            tokens_in = max(int(row["ContextTokens"]), 0)
            tokens_out = max(int(row["GeneratedTokens"]), 0)
            total += tokens_in * price_in + tokens_out * price_out
            calls += 1
    return calls, total


def assert_charged_exactly(sessions: sessionmaker[Session], total: Decimal) -> None:
    with sessions() as session:
        exact = session.execute(text("SELECT sum(exact_micros) FROM usage_events")).scalar_one()
        rows = session.execute(
            text(
                "SELECT e.account_id, -sum(e.amount_micros), (SELECT sum(u.exact_micros)"
                " FROM usage_events u WHERE u.account_id = e.account_id)"
                " FROM entries e WHERE e.kind = 'charge' GROUP BY e.account_id"
            )
        ).all()
        assert exact == total
        for _, charged, owed in rows:
            assert 0 <= owed - charged < 1
        assert verify_ledger(session, actor=SYSTEM) == []


def check_import(sessions: sessionmaker[Session], path: Path) -> None:
    accounts = open_accounts(sessions)
    calls, total = expected_micros(path)
    summary = run(sessions, path, accounts)
    assert (summary.calls, summary.charged, summary.rejected) == (calls, calls, 0)
    assert summary.totals == {"USD": total}
    assert_charged_exactly(sessions, total)
    before = whole_tables(sessions)
    again = run(sessions, path, accounts)
    assert (again.charged, again.replayed) == (0, calls)
    assert whole_tables(sessions) == before


def test_a_small_trace_is_charged_exactly_and_once(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    check_import(sessions, small_trace(tmp_path / "calls.csv"))


@needs_trace
@pytest.mark.shared
def test_the_production_trace_is_charged_exactly_and_once(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    path = tmp_path / TRACE.name
    path.write_bytes(TRACE.read_bytes())
    assert expected_micros(path)[0] == 8_819
    check_import(sessions, path)


def test_one_entry_an_account_service_model_and_minute(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    run(sessions, small_trace(tmp_path / "calls.csv"), open_accounts(sessions), batch_rows=70)
    doubled = (
        "SELECT account_id, service, source, date_trunc('minute', occurred_at), count(*)"
        " FROM entries WHERE kind = 'charge' GROUP BY 1, 2, 3, 4 HAVING count(*) > 1"
    )
    assert contents(sessions, (doubled,)) == [[]]


IMPORTER = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from db.engine import make_engine, make_sessions
from domain.actors import system_actor
from domain.metering.usage import import_usage
url, path, place, stop_after, *accounts = sys.argv[1:]
batches = 0
def report(done, total):
    global batches
    batches += 1
    if place == "between batches" and batches == int(stop_after):
        os.kill(os.getpid(), signal.SIGKILL)
WRITTEN = "SELECT EXISTS (SELECT FROM usage_events WHERE xmin = pg_current_xact_id()::xid)"
def before_commit(connection):
    # The batch's entries and events are written by then, and nothing of it is committed.
    if batches == int(stop_after) and connection.exec_driver_sql(WRITTEN).scalar_one():
        os.kill(os.getpid(), signal.SIGKILL)
engine = make_engine(url)
if place == "inside a batch":
    event.listen(engine, "commit", before_commit)
import_usage(make_sessions(engine), path=Path(path), accounts=[int(a) for a in accounts],
             rejects_path=Path(path).with_suffix(".rejects.csv"), actor=system_actor("tests"),
             report=report, batch_rows=70)
"""


@pytest.mark.parametrize(
    ("place", "stop_after"),
    [("between batches", 1), ("between batches", 4), ("inside a batch", 1), ("inside a batch", 5)],
)
def test_an_import_killed_half_way_and_resumed_leaves_the_same_ledger(
    make_database: Callable[[], str], tmp_path: Path, place: str, stop_after: int
) -> None:
    ledgers = []
    for name, killed in (("whole", False), ("killed", True)):
        url = make_database()
        engine = make_engine(url)
        sessions = make_sessions(engine)
        accounts = open_accounts(sessions)
        path = small_trace(tmp_path / f"{name}.csv")
        if killed:
            words = [url, str(path), place, str(stop_after), *map(str, accounts)]
            done = subprocess.run(  # noqa: S603 - our own code
                [sys.executable, "-c", IMPORTER, *words],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                check=False,
            )
            assert done.returncode == -signal.SIGKILL
            charged = contents(sessions, ("SELECT count(*) FROM usage_events",))[0][0][0]
            assert 0 < charged < 900
        run(sessions, path, accounts, batch_rows=70)
        ledgers.append(contents(sessions, LEDGER))
        engine.dispose()
    assert ledgers[0] == ledgers[1]


def with_accounts(path: Path, accounts: list[int], late: int) -> Path:
    """Name an account in every row; the `late` one is in the last quarter of the rows alone."""
    header, *rows = path.read_text(encoding="utf-8-sig").splitlines()
    early = [account for account in accounts if account != late]
    named = [f"{header},account"]
    for number, row in enumerate(rows):
        choice = accounts if number > len(rows) * 3 // 4 else early
        named.append(f"{row},{choice[number % len(choice)]}")
    other = path.with_name("named.csv")
    other.write_text("\n".join(named) + "\n")
    return other


def kill_while_it_waits(url: str, path: Path, late: int) -> None:
    """Run the command until it waits for the late account, which is locked, and kill it there."""
    environment = {
        **os.environ,
        **OUTSIDE_DEMO,
        "DATABASE_URL": url,
    }
    engine = make_engine(url)
    # Not pg_stat_activity: a transaction sees it as it was at its first look.
    waits = text(
        "SELECT EXISTS (SELECT FROM pg_locks"
        " WHERE NOT granted AND transactionid = CAST(pg_current_xact_id() AS xid))"
    )
    lock = text("SELECT FROM account_balances WHERE account_id = :late FOR UPDATE")
    with engine.begin() as connection:
        connection.execute(lock, {"late": late})
        command = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "portal", "import-usage", str(path)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        while not connection.execute(waits).scalar_one():
            assert command.poll() is None
            time.sleep(0.05)  # noqa: TID251 - a poll; the test's time-out is its deadline
        command.kill()
        command.wait()
    engine.dispose()


def check_killed_command(make_database: Callable[[], str], trace: Path) -> None:
    ledgers = []
    for is_killed in (False, True):
        url = make_database()
        engine = make_engine(url)
        sessions = make_sessions(engine)
        accounts = open_accounts(sessions)
        path = with_accounts(trace, accounts, accounts[-1])
        rows = path.read_text().count("\n") - 1
        if is_killed:
            kill_while_it_waits(url, path, accounts[-1])
            charged = contents(sessions, ("SELECT count(*) FROM usage_events",))[0][0][0]
            assert 0 < charged < rows
        assert run(sessions, path, []).calls == rows
        ledgers.append(contents(sessions, LEDGER))
        engine.dispose()
    assert ledgers[0] == ledgers[1]


def test_the_command_killed_half_way_and_run_again_leaves_the_same_ledger(
    make_database: Callable[[], str], tmp_path: Path
) -> None:
    check_killed_command(make_database, small_trace(tmp_path / "calls.csv", rows=3_000))


@needs_trace
@pytest.mark.shared
def test_the_production_trace_killed_half_way_and_run_again_leaves_the_same_ledger(
    make_database: Callable[[], str], tmp_path: Path
) -> None:
    path = tmp_path / TRACE.name
    path.write_bytes(TRACE.read_bytes())
    check_killed_command(make_database, path)


def test_a_renamed_and_longer_file_doubles_nothing(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    accounts = open_accounts(sessions)
    path = small_trace(tmp_path / "calls.csv", rows=100)
    first = run(sessions, path, accounts)
    longer = tmp_path / "renamed.csv"
    longer.write_text(path.read_text() + "2026-02-03 11:00:00.0000001,10,10\n")
    second = run(sessions, longer, accounts)
    assert (second.charged, second.replayed) == (1, first.charged)


def test_a_file_in_another_order_and_form_doubles_nothing(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    accounts = open_accounts(sessions)
    path = small_trace(tmp_path / "calls.csv", rows=200)
    first = run(sessions, path, accounts)
    before = whole_tables(sessions)
    header, *rows = path.read_text().splitlines()
    parts = [row.split(",") for row in reversed(rows)]
    other = tmp_path / "other.csv"
    other.write_text(
        "GeneratedTokens,TIMESTAMP,ContextTokens\r\n"
        + "".join(f"{out},{when.replace(' ', 'T')}Z,{into}\r\n" for when, into, out in parts)
    )
    assert header.startswith("TIMESTAMP")
    again = run(sessions, other, accounts)
    assert (again.charged, again.replayed) == (0, first.charged)
    assert whole_tables(sessions) == before


def test_a_call_that_changed_under_its_id_is_set_aside(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    accounts = open_accounts(sessions)
    header = "TIMESTAMP,ContextTokens,GeneratedTokens,id\n"
    rows = [f"2026-02-03 10:00:0{number},100,5,call-{number}\n" for number in range(6)]
    path = tmp_path / "calls.csv"
    path.write_text(header + "".join(rows))
    assert run(sessions, path, accounts).charged == 6
    before = whole_tables(sessions)
    changed = tmp_path / "changed.csv"
    rows[2] = rows[2].replace(",100,", ",101,")
    rows.append(rows[4].replace(",5,", ",6,"))
    changed.write_text(header + "".join(rows))
    summary = run(sessions, changed, accounts)
    assert (summary.charged, summary.replayed, summary.rejected) == (0, 5, 2)
    assert read_rejects(changed) == [
        (4, "id_used_for_another_call"),
        (8, "id_used_for_another_call"),
    ]
    assert whole_tables(sessions) == before


def test_rejects_are_the_same_after_a_second_import(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    path = small_trace(tmp_path / "calls.csv", rows=120)
    path.write_text(path.read_text() + "never,1,1\n")
    accounts = open_accounts(sessions)
    run(sessions, path, accounts, batch_rows=30)
    first = path.with_suffix(".rejects.csv").read_bytes()
    run(sessions, path, accounts, batch_rows=30)
    assert path.with_suffix(".rejects.csv").read_bytes() == first
    assert [reason for _, reason in read_rejects(path)] == ["timestamp_unreadable"]


def test_rejected_rows_that_a_spreadsheet_would_run_are_guarded(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    rows = [
        '=HYPERLINK("http://x.example"),1,1',
        "\uff1d1+1,1,1",
        "\uff20SUM(1),1,1",
        "+1,1,1",
        "-1,1,1",
        "\t=1,1,1",
        " =1,1,1",
        "never,1,1",
    ]
    path = small_trace(tmp_path / "calls.csv", rows=1)
    path.write_text("\n".join((path.read_text().rstrip(), *rows)) + "\n")
    run(sessions, path, open_accounts(sessions))
    with path.with_suffix(".rejects.csv").open(newline="") as file:
        kept = [row["row"] for row in csv.DictReader(file)]
    assert kept == [f"'{row}" for row in rows[:-1]] + rows[-1:]


@pytest.mark.parametrize("bad", [False, True])
def test_a_batch_ends_between_minutes_and_never_grows_without_bound(
    monkeypatch: pytest.MonkeyPatch, *, bad: bool
) -> None:
    monkeypatch.setattr(usage, "MAX_BATCH_ROWS", 20)
    start = datetime(2026, 2, 3, 10, 0, tzinfo=UTC)
    call = Call(2, None, "id", 1, "ai-inference", "", start, 1, 1)
    minutes = [number // 4 if number < 32 else 8 for number in range(100)]
    rows: list[Call | Reject] = [
        call._replace(occurred_at=start + timedelta(minutes=minute)) for minute in minutes
    ]
    if bad:
        batches = [len(batch) for batch in usage._batches(iter([Reject(2, "bad", "")] * 50), 6)]
        assert batches == [20, 20, 10]
    else:
        assert [len(batch) for batch in usage._batches(iter(rows), 6)] == [
            8,
            8,
            8,
            8,
            20,
            20,
            20,
            8,
        ]


def test_rows_without_an_account_need_accounts(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    summary = run(sessions, small_trace(tmp_path / "calls.csv", rows=3), [])
    assert (summary.charged, summary.rejected) == (0, summary.calls)
    assert {reason for _, reason in read_rejects(tmp_path / "calls.csv")} == {"no_account"}


def test_each_account_pays_in_its_own_currency(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    places = (("vn", "VND"), ("jp", "JPY"), ("global", "USD"), ("global", "EUR"))
    with sessions.begin() as session:
        accounts = {
            currency: make_account(session, site=site, currency=currency)
            for site, currency in places
        }
    path = tmp_path / "calls.csv"
    path.write_text(
        "timestamp,contexttokens,generatedtokens,account\n"
        + "".join(f"2026-02-03 10:00:00,12345,678,{account}\n" for account in accounts.values())
    )
    expected = {}
    for currency in accounts:
        price_in, price_out = general_prices(currency)
        expected[currency] = 12345 * price_in + 678 * price_out
    assert run(sessions, path, []).totals == expected


def test_only_the_system_and_staff_import(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    path = small_trace(tmp_path / "calls.csv", rows=3)
    with pytest.raises(NotAuthorised):
        run(sessions, path, [1], actor=user_actor(7))
    with sessions() as session, pytest.raises(NotAuthorised):
        record_usage(session, events=[], actor=user_actor(7))


@pytest.mark.parametrize("field", ["event_id", "model"])
def test_an_event_whose_words_are_no_line_is_told_and_the_others_charged(
    session: Session, field: str
) -> None:
    account = make_account(session)
    moment = datetime(2026, 2, 3, 10, 0, 5, tzinfo=UTC)
    tokens = {"input-tokens": 1_000_000, "output-tokens": 0}
    good = UsageEvent(account, "tests", "good", "ai-inference", moment, tokens)
    words: dict[str, Any] = {"event_id": "bad", field: "two\nlines"}
    bad = good._replace(**words)
    recorded = record_usage(session, events=[bad, good], actor=SYSTEM)
    assert recorded.rejected == [(0, "control_characters")]
    assert recorded.charged == 1


def test_events_that_cannot_be_charged_are_told_and_the_others_charged(session: Session) -> None:
    account = make_account(session)
    moment = datetime(2026, 2, 3, 10, 0, 5, tzinfo=UTC)
    tokens = {"input-tokens": 1_000_000, "output-tokens": 0}
    good = UsageEvent(account, "tests", "good", "ai-inference", moment, tokens)
    hours: dict[str, int | Decimal] = {"gpu-time": Decimal("0.5"), "gpus": 2}
    events = [
        good._replace(event_id="naive", occurred_at=moment.replace(tzinfo=None)),
        good._replace(event_id="later", occurred_at=datetime.now(UTC) + timedelta(hours=1)),
        good,
        good._replace(event_id="meter", quantities={"brush-strokes": 1}),
        good._replace(event_id="nothing", quantities={}),
        good._replace(event_id="less", quantities={"input-tokens": -1}),
        good._replace(event_id="account", account_id=999_999),
        good._replace(event_id="gpu", service="model-fine-tuning", model="h100", quantities=hours),
    ]
    recorded = record_usage(session, events=events, actor=SYSTEM)
    assert recorded.rejected == [
        (0, "no_time_zone"),
        (1, "in_future"),
        (3, "unknown_meter"),
        (4, "empty"),
        (5, "negative"),
        (6, "not_found"),
    ]
    assert (recorded.charged, recorded.replayed) == (2, 0)
    assert verify_ledger(session, actor=SYSTEM) == []


def test_calls_beyond_what_an_account_can_hold_are_told_and_the_others_charged(
    session: Session,
) -> None:
    full, other = make_account(session), make_account(session)
    one = Charge(
        account_id=full,
        service="ai-inference",
        source="llama",
        items=(ChargeItem("test", "all", Decimal(MAX_MICROS - 5), datetime.now(UTC)),),
        refusable=False,
    )
    assert charge(session, charge=one, actor=SYSTEM).status == "charged"
    with pytest.raises(AmountOutOfRange), session.begin_nested():
        charge(
            session, charge=replace(one, items=(one.items[0]._replace(event_id="b"),)), actor=SYSTEM
        )
    at = datetime.now(UTC) - timedelta(minutes=5)
    events = [
        UsageEvent(account, "test", f"{account}-{minute}", "ai-inference",
                   at + timedelta(minutes=minute), {"input-tokens": 900}, "llama")
        for account in (full, other)
        for minute in (0, 0, 2)
    ]  # fmt: skip
    before = whole(session, full)
    recorded = record_usage(session, events=events, actor=SYSTEM)
    assert sorted(recorded.rejected) == [(place, "amount_out_of_range") for place in range(3)]
    assert recorded.charged == 2
    assert whole(session, full) == before
    assert verify_ledger(session, actor=SYSTEM) == []


def whole(session: Session, account_id: int) -> list[Any]:
    """Everything that an account's postings keep."""
    return [
        session.execute(
            text(f"SELECT * FROM {table} WHERE account_id = :id ORDER BY 1, 2, 3"),  # noqa: S608 - a constant of this module
            {"id": account_id},
        ).all()
        for table in TABLES
    ]


def test_bad_rows_are_set_aside_with_line_and_reason_and_good_ones_kept(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    account = open_accounts(sessions, 1)[0]
    path = tmp_path / "calls.csv"
    path.write_text(
        "\ufeffid,Timestamp,contexttokens,GENERATEDTOKENS,account,service,model\n"
        f"a,2026-02-03 10:00:00,100,5,{account},ai-inference,llama-3.1-8b-instruct\n"
        f"b,yesterday,100,5,{account},,\n"
        f"c,2026-02-03 10:00:01,-1,5,{account},,\n"
        f"d,2026-02-03 10:00:01,1.5,5,{account},,\n"
        "e,2026-02-03 10:00:01,1,5,999999,,\n"
        f"f,2026-02-03 10:00:01,1,5,{account},no-such-service,\n"
        f"g,2126-02-03 10:00:01,1,5,{account},,\n"
        "h,2026-02-03\n"
        f"a,2026-02-03 10:00:00,100,5,{account},ai-inference,llama-3.1-8b-instruct\n"
        f"i,2026-02-03 10:00:59.9999999,13394,127,{account},,llama-3.1-8b-instruct\n"
    )
    summary = run(sessions, path, [])
    assert (summary.calls, summary.charged, summary.replayed, summary.rejected) == (10, 2, 1, 7)
    assert read_rejects(path) == [
        (3, "timestamp_unreadable"),
        (4, "not_a_count"),
        (5, "not_a_count"),
        (6, "not_found"),
        (7, "unknown_service"),
        (8, "in_future"),
        (9, "too_few_columns"),
    ]
    exact = contents(sessions, ("SELECT exact_micros FROM usage_events WHERE event_id = 'i'",))
    assert exact[0][0][0] == Decimal("2233.759")


def test_a_file_is_not_imported_again_for_other_accounts(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    accounts = open_accounts(sessions)
    path = small_trace(tmp_path / "calls.csv", rows=20)
    run(sessions, path, accounts)
    with pytest.raises(Conflict):
        run(sessions, path, accounts[:2])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("time,in,out", "missing_columns"),
        ("", "missing_columns"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens,timestamp", "doubled_columns"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    sessions: sessionmaker[Session], tmp_path: Path, header: str, reason: str
) -> None:
    path = tmp_path / "other.csv"
    path.write_text(header + "\n")
    with pytest.raises(InvalidInput) as refused:
        run(sessions, path, [])
    assert refused.value.reason == reason
