"""Reading files of calls: what is read of a line, what is wrong with one, and nothing swallowed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from domain.errors import InvalidInput
from domain.metering import file
from domain.metering.file import MAX_LINE_LENGTH, Call, Reject, digest_of_file, read_calls

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
ROW = "2023-11-16 18:17:03.9799600,4808,10"


def read(tmp_path: Path, *lines: str | bytes, end: bytes = b"\n") -> list[Call | Reject]:
    path = tmp_path / "calls.csv"
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    path.write_bytes(end.join([*encoded, b""]))
    return list(read_calls(path))


def calls(tmp_path: Path, *lines: str | bytes) -> list[Call]:
    rows = read(tmp_path, *lines)
    assert all(isinstance(row, Call) for row in rows), rows
    return [row for row in rows if isinstance(row, Call)]


def reasons(rows: list[Call | Reject]) -> list[tuple[int, str]]:
    return [(row.line_number, row.reason) for row in rows if isinstance(row, Reject)]


def test_a_row_of_the_production_trace(tmp_path: Path) -> None:
    (call,) = calls(tmp_path, HEADER, ROW)
    assert call.occurred_at == datetime(2023, 11, 16, 18, 17, 3, 979_960, UTC)
    assert (call.input_tokens, call.output_tokens) == (4808, 10)
    assert (call.account_id, call.service, call.model) == (None, "ai-inference", "")
    assert call.line_number == 2


def test_columns_come_in_any_order_and_case_with_others_between(tmp_path: Path) -> None:
    (call,) = calls(
        tmp_path,
        "\ufeffModel, ID ,generatedtokens,region,CONTEXTTOKENS,Account,timestamp,Service",
        ' deepseek-v3,"call, 7",10,asia,20,31,2023-11-16T18:17:03+07:00,ai-notebook',
    )
    assert call[1:3] == (31, "call, 7")
    assert call[4:] == (
        "ai-notebook",
        "deepseek-v3",
        datetime(2023, 11, 16, 11, 17, 3, tzinfo=UTC),
        20,
        10,
    )


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_as_any_system_ends_them(tmp_path: Path, end: bytes) -> None:
    rows = read(tmp_path, HEADER, ROW, "", ROW, end=end)
    assert [(row.line_number, type(row)) for row in rows] == [(2, Call), (4, Call)]


def test_a_last_line_without_an_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    path.write_text(f"{HEADER}\n{ROW}")
    assert len(list(read_calls(path))) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2023-11-16,1,1", "timestamp_unreadable"),
        ("2023-13-16 10:00:00,1,1", "timestamp_unreadable"),
        ("0001-01-01 00:00:00+14:00,1,1", "timestamp_unreadable"),
        (",1,1", "timestamp_unreadable"),
        ("2023-11-16 10:00:00,,1", "not_a_count"),
        ("2023-11-16 10:00:00,-1,1", "not_a_count"),
        ("2023-11-16 10:00:00,1e3,1", "not_a_count"),
        ("2023-11-16 10:00:00,١٢,1", "not_a_count"),
        ("2023-11-16 10:00:00,1,1000000000001", "not_a_count"),
        (f"2023-11-16 10:00:00,1,{'9' * 6_000}", "not_a_count"),
        (f"2023-11-16 10:00:00,1,{'0' * 40}{'9' * 20}", "not_a_count"),
        ("2023-11-16 10:00:00,1", "too_few_columns"),
        ("2023-11-16 10:00:00,1,1,", "too_many_columns"),
        ('"2023-11-16 10:00:00,1,1', "not_csv"),
        (b"2023-11-16 10:00:00,1,1\xff", "not_utf8"),
        (f"2023-11-16 10:00:00,1,1{' ' * MAX_LINE_LENGTH}", "line_too_long"),
    ],
)
def test_a_bad_row_spoils_itself_alone(tmp_path: Path, row: str | bytes, reason: str) -> None:
    rows = read(tmp_path, HEADER, ROW, row, ROW)
    assert [type(row) for row in rows] == [Call, Reject, Call]
    assert reasons(rows) == [(3, reason)]
    rejected = rows[1]
    assert isinstance(rejected, Reject)
    rejected.row.encode()  # what was no text can be written to a file of rejects
    assert len(rejected.row) <= 4 * MAX_LINE_LENGTH


@pytest.mark.parametrize("name", ["a\x00b", "a\x07b", "x" * 201])
def test_names_are_short_and_printable(tmp_path: Path, name: str) -> None:
    rows = read(tmp_path, f"{HEADER},model", f"{ROW},{name}")
    assert reasons(rows) == [(2, "name_unusable")]


def test_a_line_of_many_megabytes_is_never_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = 0
    check = file._RowReader.read

    def measured(reader: file._RowReader, line_number: int, row: str) -> Call:
        nonlocal longest
        longest = max(longest, len(row))
        return check(reader, line_number, row)

    monkeypatch.setattr(file._RowReader, "read", measured)
    rows = read(tmp_path, HEADER, "x" * 3_000_000, ROW)
    assert [type(row) for row in rows] == [Reject, Call]
    assert rows[1].line_number == 3
    assert longest <= MAX_LINE_LENGTH + 2


def test_rows_without_an_id_are_named_by_what_they_say(tmp_path: Path) -> None:
    first, twin, other = calls(tmp_path, HEADER, ROW, ROW, ROW.replace("4808", "4809"))
    again = calls(
        tmp_path,
        "generatedtokens,contexttokens,timestamp,model",
        "10,4809,2023-11-16T18:17:03.97996Z,",
        "0010,4808,2023-11-16 19:17:03.9799600+01:00,",
        "10,4808,20231116T181703.979960,",
    )
    assert len({first.event_id, twin.event_id, other.event_id}) == 3
    assert [call.event_id for call in again] == [other.event_id, first.event_id, twin.event_id]
    assert [call.content for call in again] == [other.content, first.content, twin.content]


@pytest.mark.parametrize("column", ["account", "model", "service"])
def test_rows_that_differ_in_anything_are_not_alike(tmp_path: Path, column: str) -> None:
    one, two = calls(tmp_path, f"{HEADER},{column}", f"{ROW},1", f"{ROW},2")
    assert "-" not in one.event_id + two.event_id
    assert one.event_id != two.event_id


def test_a_corrected_row_keeps_its_id_and_its_account(tmp_path: Path) -> None:
    one, two = calls(tmp_path, f"{HEADER},id", f"{ROW},call-1", f"{ROW}9,call-1")
    assert (one.event_id, one.content) == ("call-1", two.content)
    assert two.event_id == "call-1"


def test_too_many_rows_without_an_id_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "MAX_ROWS_WITHOUT_ID", 3)
    rows = [f"2023-11-16 18:17:0{second},1,1" for second in range(4)]
    twins = [rows[0]] * 9
    assert len(read(tmp_path, HEADER, *rows[:3], *twins)) == 12
    assert len(read(tmp_path, f"{HEADER},id", *(f"{row},{row}" for row in rows))) == 4
    with pytest.raises(InvalidInput) as refused:
        read(tmp_path, f"{HEADER},id", *(f"{row}," for row in rows))
    assert refused.value.reason == "add_an_id_column"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "missing_columns"),
        ("time,in,out", "missing_columns"),
        (HEADER.replace(",", ";"), "missing_columns"),
        (f"{HEADER},timestamp", "doubled_columns"),
        (f'"{HEADER}', "not_csv"),
        (b"\xff\xfe" + HEADER.encode("utf-16-le"), "missing_columns"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, header: str | bytes, reason: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(tmp_path, header)
    assert refused.value.reason == reason


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    path.touch()
    with pytest.raises(InvalidInput):
        list(read_calls(path))


def test_the_digest_is_of_the_content_and_not_of_the_name(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    one.write_text(f"{HEADER}\n{ROW}\n")
    two.write_text(f"{HEADER}\n{ROW}\n")
    other.write_text(f"{HEADER}\n{ROW}")
    assert digest_of_file(one) == digest_of_file(two)
    assert digest_of_file(one)[1] == digest_of_file(other)[1] == 2
    assert digest_of_file(one)[0] != digest_of_file(other)[0]
