"""The file of an export: Credit History as the page shows it, with amounts that can be added up."""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any

from domain.queries.balances import account_summary
from domain.queries.history_export import copy_history, history_lines, history_totals
from domain.queries.history_streams import RANKS
from portal import descriptions, formats
from portal.i18n import _, ngettext
from portal.spreadsheets import (
    Column,
    amount_cell,
    amount_format,
    safe_text,
    write_workbook,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.exports import ExportWish
    from domain.queries.balances import AccountSummary
    from domain.queries.history_export import StatusTotal
    from domain.queries.history_rows import HistoryFilter, HistoryStatus

_STATUS_OF_RANK = {rank: status for status, rank in RANKS.items()}
_MICRO_DIGITS = 6
_REMEMBERED = 4_096
_REPORTED_ROWS = 10_000
_BUFFERED_BYTES = 1 << 20


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
    progress = Progress(report, sum(total.row_count for total in totals.values()))
    if wish.file_format == "csv":
        _write_csv(session, path, summary.currency, progress, actor=actor, wish=wish)
        return
    write_workbook(
        path,
        name=_("Credit History"),
        columns=_columns(summary.currency),
        rows=sheet_rows(session, actor=actor, wish=wish, progress=progress),
        row_count=progress.count,
        heading=_heading(summary, wish, totals, made_at),
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


# ── CSV, for programs ──────────────────────────────────────────────────────────────────────────
def _write_csv(
    session: Session,
    path: Path,
    currency: str,
    progress: Progress,
    *,
    actor: Actor,
    wish: ExportWish,
) -> None:
    """Write a line of titles and one for each row: RFC 4180, UTF-8 with the mark that Excel needs.

    What was used stands as numbers and not in a sentence, so that the server can write it all.
    """
    written = count(1)
    with path.open("wb", buffering=_BUFFERED_BYTES) as file:

        def write(line: bytes) -> None:
            file.write(line)
            if not next(written) % _REPORTED_ROWS:
                progress.add(_REPORTED_ROWS)

        file.write(",".join(_csv_titles(currency)).encode("utf-8-sig") + b"\n")
        copy_history(
            session,
            actor=actor,
            account_id=wish.account_id,
            wanted=wish.wanted,
            zone=wish.zone,
            names=descriptions.history_names(),
            write=write,
        )


def _csv_titles(currency: str) -> list[str]:
    return [
        _("Date"),
        _("Time (UTC)"),
        _("Service"),
        _("Source"),
        _("Kind"),
        _("Code"),
        _("Details"),
        _("Calls"),
        _("Used"),
        _("Status"),
        _("Amount ({currency})").format(currency=currency),
        _("Balance after ({currency})").format(currency=currency),
    ]


# ── Excel, for people ──────────────────────────────────────────────────────────────────────────
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


def sheet_rows(
    session: Session, *, actor: Actor, wish: ExportWish, progress: Progress | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as a sheet has them; raises NotFound as `write_export` does."""
    for words in (_description, _service, _source, _status):
        # They are those of the language, which another file may have been in.
        words.cache_clear()
    pages = history_lines(
        session, actor=actor, account_id=wish.account_id, wanted=wish.wanted, zone=wish.zone
    )
    for page in pages:
        yield from map(_sheet_row, page)
        if progress is not None:
            progress.add(len(page))


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
    text = ngettext("{count} row, {amount}", "{count} rows, {amount}", count)
    return text.format(count=formats.number(count), amount=amount)


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
