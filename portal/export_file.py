"""The file of an export: Credit History as the page shows it, with amounts that can be added up."""

from __future__ import annotations

import csv
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from domain.exports import history_lines, history_totals
from domain.queries.balances import account_summary
from domain.queries.history_streams import RANKS
from portal import descriptions, formats
from portal.i18n import _
from portal.spreadsheets import (
    Column,
    amount_cell,
    amount_format,
    safe_text,
    write_workbook,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.exports import ExportWish, StatusTotal
    from domain.queries.balances import AccountSummary
    from domain.queries.history_rows import HistoryFilter, HistoryStatus

_STATUS_OF_RANK = {rank: status for status, rank in RANKS.items()}
_MICRO_DIGITS = 6
_REMEMBERED = 4_096


def write_export(
    session: Session,
    path: Path,
    *,
    actor: Actor,
    wish: ExportWish,
    made_at: datetime,
    report: Callable[[int, int], None] = lambda _done, _of: None,
) -> None:
    """Write the file, from one moment of the database; `report` is told rows written, and all.

    Raises NotFound where the actor may not read the account.
    """
    summary = account_summary(session, actor=actor, account_id=wish.account_id)
    totals = history_totals(session, actor=actor, account_id=wish.account_id, wanted=wish.wanted)
    count = sum(total.row_count for total in totals.values())
    pages = history_lines(
        session,
        actor=actor,
        account_id=wish.account_id,
        wanted=wish.wanted,
        zone=wish.zone,
        dates_as_text=wish.file_format == "csv",
    )
    for words in (_description, _service, _source, _status):
        # They are those of the language, which another file may have been in.
        words.cache_clear()
    rows = _reported(pages, count, report)
    if wish.file_format == "csv":
        _write_csv(path, summary.currency, rows)
        return
    write_workbook(
        path,
        name=_("Credit History"),
        columns=_columns(summary.currency),
        rows=map(_sheet_row, rows),
        row_count=count,
        heading=_heading(summary, wish, totals, made_at),
    )


def _reported(
    pages: Iterable[Sequence[Any]], count: int, report: Callable[[int, int], None]
) -> Iterator[Any]:
    done = 0
    for page in pages:
        yield from page
        done += len(page)
        report(done, count)


# ── Columns and rows ───────────────────────────────────────────────────────────────────────────
def _columns(currency: str) -> list[Column]:
    amounts = amount_format(currency)
    return [
        Column(_("Date"), 20, "yyyy-mm-dd hh:mm:ss"),
        Column(_("Time (UTC)"), 28),
        Column(_("Service"), 20),
        Column(_("Source"), 24),
        Column(_("Description"), 48),
        Column(_("Code"), 14),
        Column(_("Status"), 12),
        Column(_("Amount ({currency})").format(currency=currency), 18, amounts),
        Column(_("Exact amount ({currency})").format(currency=currency), 22),
        Column(_("Balance after ({currency})").format(currency=currency), 22, amounts),
    ]


def _sheet_row(row: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a row of the database
    rank, kind, service, source, code, parameters, micros, balance, local, instant = row
    return (
        local,
        instant,
        _service(service),
        _source(source),
        _description(code, parameters),
        _voucher(parameters) if kind == "voucher" else None,
        _status(rank),
        amount_cell(micros),
        exact_text(micros),
        amount_cell(balance),
    )


def _write_csv(path: Path, currency: str, rows: Iterable[Any]) -> None:
    """Write one line of titles and one for each row, for programs: RFC 4180, UTF-8 with a mark."""
    titles = [column.title for column in _columns(currency)]
    with path.open("w", encoding="utf-8-sig", newline="", buffering=1 << 20) as file:
        writer = csv.writer(file)
        writer.writerow(titles)
        writer.writerows(map(_text_row, rows))


def _text_row(row: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a row of the database
    rank, kind, service, source, code, parameters, micros, balance, local, instant = row
    amount = exact_text(micros)
    return (
        local,
        instant,
        _service(service),
        _source(source),
        _description(code, parameters),
        _voucher(parameters) if kind == "voucher" else "",
        _status(rank),
        amount,
        amount,
        "" if balance is None else exact_text(balance),
    )


def exact_text(micros: int) -> str:
    """Return an amount of micros with all its decimals, for programs: "-12.000001"."""
    sign, digits = ("-", -micros) if micros < 0 else ("", micros)
    units, rest = divmod(digits, 10**_MICRO_DIGITS)
    return f"{sign}{units}.{rest:06}"


# A file repeats the same words over and over; the words themselves are those of the page.
@lru_cache(maxsize=_REMEMBERED)
def _description(code: str, parameters: str) -> str:
    return safe_text(descriptions.description(code, json.loads(parameters)))


@lru_cache(maxsize=_REMEMBERED)
def _service(slug: str) -> str:
    return safe_text(descriptions.service(slug))


@lru_cache(maxsize=_REMEMBERED)
def _source(code: str) -> str:
    return safe_text(descriptions.source(code))


@lru_cache(maxsize=len(RANKS))
def _status(rank: int) -> str:
    return descriptions.status(_STATUS_OF_RANK[rank])


def _voucher(parameters: str) -> str:
    return safe_text(str(json.loads(parameters).get("origin") or ""))


# ── What stands on top ─────────────────────────────────────────────────────────────────────────
def _heading(
    summary: AccountSummary,
    wish: ExportWish,
    totals: dict[HistoryStatus, StatusTotal],
    made_at: datetime,
) -> list[str]:
    zone = formats.time_zone(wish.zone)
    account = _("{name} (account {number})").format(name=summary.name, number=summary.account_id)
    lines = [
        (_("Account"), account),
        (_("Filter"), filter_words(wish.wanted, wish.zone)),
        (_("Made"), formats.date_time(made_at, zone)),
        (_("Time zone of the dates"), wish.zone),
    ]
    for status, total in totals.items():
        amount = formats.money(total.amount_micros, summary.currency, exact=True)
        lines.append((descriptions.status(status), _rows_and_amount(total.row_count, amount)))
    return [safe_text(f"{name}: {words}") for name, words in lines]


def _rows_and_amount(count: int, amount: str) -> str:
    return _("{count} rows, {amount}").format(count=formats.number(count), amount=amount)


def filter_words(wanted: HistoryFilter, zone: str) -> str:
    """Return what the filter lets through, in the words of the page."""
    parts = [
        *(f"{_('Service')} = {descriptions.service(each)}" for each in sorted(wanted.services)),
        *(f"{_('Status')} = {descriptions.status(each)}" for each in sorted(wanted.statuses)),
        *(f"{_('Kind')} = {descriptions.kind(each)}" for each in sorted(wanted.kinds)),
    ]
    if wanted.occurred_from is not None:
        parts.append(f"{_('From')} {formats.date_time(wanted.occurred_from, zone)}")
    if wanted.occurred_before is not None:
        parts.append(f"{_('Before')} {formats.date_time(wanted.occurred_before, zone)}")
    if wanted.sought:
        parts.append(f"{_('Text')} = {wanted.sought}")
    return " · ".join(parts) or _("every row")
