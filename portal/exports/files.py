"""The file of an export: Credit History as the page shows it, with amounts that can be added up."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from domain.formulas import CsvWriter
from domain.history.export_rows import history_lines, history_totals
from domain.history.rows import HistoryStatus
from domain.history.streams import PAYMENT_RANK, STATUS_OF_RANK
from domain.ledger.balances import account_summary
from domain.money import currency_exponent
from portal.exports.spreadsheets import (
    Column,
    amount_cell,
    amount_format,
    safe_text,
    write_workbook,
)
from portal.ui import formats
from portal.ui.i18n import _, ngettext
from portal.ui.labels import ledger as ledger_labels
from portal.ui.labels import top_up as top_up_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.history.export_jobs import ExportOptions
    from domain.history.export_rows import HistoryTotals
    from domain.history.rows import HistoryFilter
    from domain.ledger.balances import AccountSummary

_MICRO_DIGITS = 6
_REMEMBERED = 4_096
_BUFFERED_BYTES = 1 << 20


def write_export(
    session: Session,
    path: Path,
    *,
    actor: Actor,
    options: ExportOptions,
    made_at: datetime,
    report: Callable[[int, int], None] = lambda _done, _of: None,
) -> None:
    """Write the file from one database snapshot; `report` receives rows written and in total.

    Raises NotFound where the actor may not read the account.
    """
    summary = account_summary(session, actor=actor, account_id=options.account_id)
    totals = history_totals(
        session, actor=actor, account_id=options.account_id, filters=options.filters
    )
    progress = Progress(report, totals.row_count)
    if options.file_format == "csv":
        _write_csv(session, path, summary.currency, progress, actor=actor, options=options)
        return
    write_workbook(
        path,
        name=_("Credit History"),
        columns=_columns(summary.currency, options.zone),
        rows=sheet_rows(session, actor=actor, options=options, progress=progress),
        row_count=progress.count,
        heading=_heading(summary, options, totals, made_at),
    )


class Progress:
    """How many rows are written."""

    def __init__(self, report: Callable[[int, int], None], count: int) -> None:
        self.count = count
        self._report = report
        self._done = 0
        report(0, count)

    def add(self, rows: int) -> None:
        """Count rows that are written."""
        self._done += rows
        self._report(self._done, self.count)


# ── CSV ────────────────────────────────────────────────────────────────────────────────────────
def _write_csv(
    session: Session,
    path: Path,
    currency: str,
    progress: Progress,
    *,
    actor: Actor,
    options: ExportOptions,
) -> None:
    """Write the workbook's columns: RFC 4180, UTF-8 with the byte order mark for Excel."""
    decimals = currency_exponent(currency)
    titles = [column.title for column in _columns(currency, options.zone)]
    with path.open("w", encoding="utf-8-sig", newline="", buffering=_BUFFERED_BYTES) as file:
        writer = CsvWriter(file, lineterminator="\n")
        writer.writerow(titles)
        for page in _pages(session, actor=actor, options=options):
            writer.writerows(_csv_line(row, decimals) for row in page)
            progress.add(len(page))


def _csv_line(row: Any, decimals: int) -> tuple[Any, ...]:  # noqa: ANN401 - a row of the database
    micros, balance = row[6:8]
    return (
        *_words(row),
        _plain_amount(micros, decimals),
        exact_text(micros),
        "" if balance is None else _plain_amount(balance, decimals),
    )


def _plain_amount(micros: int, decimals: int) -> str:
    """Return an amount for programs, with the currency's decimals and more where it has more."""
    whole, _point, fraction = exact_text(micros).partition(".")
    kept = fraction.rstrip("0").ljust(decimals, "0")
    return f"{whole}.{kept}" if kept else whole


# ── Excel ──────────────────────────────────────────────────────────────────────────
def _columns(currency: str, zone: str) -> list[Column]:
    amounts = amount_format(currency)
    return [
        Column(_("Date ({zone})").format(zone=zone), 24, "yyyy-mm-dd hh:mm:ss"),
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


def sheet_rows(
    session: Session, *, actor: Actor, options: ExportOptions, progress: Progress | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as a sheet has them; raises NotFound as `write_export` does."""
    for page in _pages(session, actor=actor, options=options):
        yield from map(_sheet_row, page)
        if progress is not None:
            progress.add(len(page))


def _sheet_row(row: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a row of the database
    micros, balance = row[6:8]
    return (*_words(row), amount_cell(micros), exact_text(micros), amount_cell(balance))


# ── A row in both formats ─────────────────────────────────────────────────────────────────────────
def _pages(
    session: Session, *, actor: Actor, options: ExportOptions
) -> Iterator[list[tuple[Any, ...]]]:
    for words in (_description, _payment, _service, _source, _status):
        # They are those of the language, which another file may have been in.
        words.cache_clear()
    yield from history_lines(
        session,
        actor=actor,
        account_id=options.account_id,
        filters=options.filters,
        zone=options.zone,
    )


def _words(row: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a row of the database
    """Return the columns before the amounts: date, description and status, as on the page."""
    rank, kind, service, source, code, parameters, _micros, _balance, local, instant = row
    return (
        local,
        instant,
        _service(service),
        _source(source),
        _payment(code, service) if rank == PAYMENT_RANK else _description(code, parameters),
        _voucher(parameters) if kind == "voucher" else None,
        _status(rank),
    )


def exact_text(micros: int) -> str:
    """Return an amount of micros with all its decimals, for programs: "-12.000001"."""
    sign, digits = ("-", -micros) if micros < 0 else ("", micros)
    units, rest = divmod(digits, 10**_MICRO_DIGITS)
    return f"{sign}{units}.{rest:06}"


# A file repeats the same texts many times; the texts themselves are those of the page.
@lru_cache(maxsize=_REMEMBERED)
def _description(code: str, parameters: str) -> str:
    return safe_text(ledger_labels.description(code, json.loads(parameters)))


@lru_cache(maxsize=_REMEMBERED)
def _payment(state: str, gateway: str) -> str:
    return safe_text(top_up_labels.under_way(state, gateway))


@lru_cache(maxsize=_REMEMBERED)
def _service(slug: str) -> str:
    return safe_text(ledger_labels.service(slug))


@lru_cache(maxsize=_REMEMBERED)
def _source(code: str) -> str:
    return safe_text(ledger_labels.source(code))


@lru_cache(maxsize=len(STATUS_OF_RANK))
def _status(rank: int) -> str:
    return ledger_labels.status(STATUS_OF_RANK[rank])


def _voucher(parameters: str) -> str:
    return safe_text(str(json.loads(parameters).get("origin") or ""))


# ── The heading ───────────────────────────────────────────────────────────────────────────────────
def _heading(
    summary: AccountSummary,
    options: ExportOptions,
    totals: HistoryTotals,
    made_at: datetime,
) -> list[str]:
    zone = formats.time_zone(options.zone)
    account = _("{name} (account {number})").format(name=summary.name, number=summary.account_id)
    lines = [
        (_("Account"), account),
        (_("Filter"), filter_words(options.filters, options.zone)),
        (_("Created"), formats.date_time(made_at, zone)),
        (_("Time zone of the dates"), options.zone),
    ]
    named = [(ledger_labels.status(status), each) for status, each in totals.by_status.items()]
    if totals.payments.row_count:
        # Amounts that may be credited and amounts on hold do not add up.
        processing = ledger_labels.status(HistoryStatus.PROCESSING)
        named[-1] = (_("{status}, holds").format(status=processing), named[-1][1])
        name = _("{status}, pending payments").format(status=processing)
        named.append((name, totals.payments))
    for name, total in named:
        amount = formats.money(total.amount_micros, summary.currency, exact=True)
        lines.append((name, _rows_and_amount(total.row_count, amount)))
    return [safe_text(f"{name}: {words}") for name, words in lines]


def _rows_and_amount(count: int, amount: str) -> str:
    text = ngettext("{count} row, {amount}", "{count} rows, {amount}", count)
    return text.format(count=formats.number(count), amount=amount)


def filter_words(filters: HistoryFilter, zone: str) -> str:
    """Return the filter's conditions, in the words of the page."""
    parts = [
        *(f"{_('Service')} = {ledger_labels.service(each)}" for each in sorted(filters.services)),
        *(f"{_('Status')} = {ledger_labels.status(each)}" for each in sorted(filters.statuses)),
        *(f"{_('Type')} = {ledger_labels.kind(each)}" for each in sorted(filters.kinds)),
    ]
    if filters.occurred_from is not None:
        parts.append(f"{_('From')} {formats.date_time(filters.occurred_from, zone)}")
    if filters.occurred_before is not None:
        parts.append(f"{_('Before')} {formats.date_time(filters.occurred_before, zone)}")
    if filters.search_text:
        parts.append(f"{_('Search')} = {filters.search_text}")
    return " · ".join(parts) or _("all rows")
