"""Metered usage: rated exactly, stored call by call, charged by the minute, counted once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from db.bulk import fetch_rows, integer_array
from domain import clock
from domain.catalogue.loading import current_catalogue
from domain.catalogue.pricing import Usage, rate
from domain.errors import AmountOutOfRange, BillingError, Conflict, InvalidInput, NotFound
from domain.formulas import CsvWriter
from domain.ledger import Charge, ChargeItem, charge_batch
from domain.ledger.charges import FUTURE_TOLERANCE
from domain.metering.file import Call, Reject, digest_of_file, read_calls
from domain.money import EXACT
from domain.permissions import require
from domain.validation import check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.catalogue.pricing import Catalogue
    from domain.ledger import ChargeOutcome

FILE_ORIGIN = "usage-file"
MISMATCH = "id_used_for_another_call"
BATCH_ROWS = 2_000
MAX_BATCH_ROWS = 20 * BATCH_ROWS
"""Where a single minute has more calls than this, its rest is charged by another entry."""

_CURRENCIES = "SELECT id, currency FROM accounts WHERE id = ANY(%(ids)s::bigint[])"
# A first billing profile may change the currency until it locks it: not while calls are rated.
_KEEP_CURRENCIES = """
SELECT id FROM accounts WHERE id = ANY(%(ids)s::bigint[]) AND currency_locked_at IS NULL
ORDER BY id FOR SHARE
"""


class UsageEvent(NamedTuple):
    """A metered call of an account: measures by the names of the service's meters."""

    account_id: int
    origin: str
    event_id: str
    service: str
    occurred_at: datetime
    quantities: Mapping[str, int | Decimal]
    model: str = ""


@dataclass(slots=True)
class UsageRecorded:
    """The outcome of events: counts of those charged now, known before, and rejected.

    `rejected` holds the position of an event in the sequence and a stable slug of the reason;
    `exact_micros` sums what was charged now, by currency.
    """

    charged: int = 0
    replayed: int = 0
    refused: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)
    exact_micros: dict[str, Decimal] = field(default_factory=dict)


@dataclass(slots=True)
class ImportSummary:
    """The outcome of an import: `totals` are exact micros of the new charges, by currency."""

    calls: int = 0
    charged: int = 0
    replayed: int = 0
    refused: int = 0
    rejected: int = 0
    totals: dict[str, Decimal] = field(default_factory=dict)


def record_usage(session: Session, *, events: Sequence[UsageEvent], actor: Actor) -> UsageRecorded:
    """Rate and charge events in one transaction, one entry an account, service, model and minute.

    Repeating events, in whatever order, changes nothing. An event that cannot be rated, or whose
    id was used for another call, is rejected, and the others are charged.
    """
    require(actor, "charge")
    recorded = UsageRecorded()
    version, catalogue = current_catalogue(session)
    currencies = _currencies(session, events)
    latest = clock.now(session) + FUTURE_TOLERANCE
    groups: dict[tuple[Any, ...], _Group] = {}
    for place, event in enumerate(events):
        try:
            item = _rated_item(event, catalogue, version, currencies, latest)
        except BillingError as error:
            reason = error.reason if isinstance(error, InvalidInput) else error.code
            recorded.rejected.append((place, reason))
            continue
        key = (event.account_id, event.service, event.model, _minute(event.occurred_at))
        items, places = groups.setdefault(key, _Group([], []))
        items.append(item)
        places.append(place)
    charges = [
        Charge(
            account_id=account_id,
            service=service,
            source=model or service,
            items=tuple(group.items),
            refusable=False,
        )
        for (account_id, service, model, _), group in groups.items()
    ]
    outcomes = charge_batch(session, charges=charges, actor=actor)
    for group, outcome in zip(groups.values(), outcomes, strict=True):
        _count(recorded, outcome, currencies)
        if outcome.status == "out_of_range":
            recorded.rejected += [(place, AmountOutOfRange.code) for place in group.places]
        elif outcome.mismatched_keys:
            recorded.rejected += _mismatches(group, outcome)
    return recorded


class _Group(NamedTuple):
    """The charges of one entry, and the positions of its events in the sequence."""

    items: list[ChargeItem]
    places: list[int]


def _mismatches(group: _Group, outcome: ChargeOutcome) -> Iterator[tuple[int, str]]:
    """Yield the later of a group's events whose id was used with other values."""
    left = Counter(outcome.mismatched_keys)
    for item, place in zip(reversed(group.items), reversed(group.places), strict=True):
        if left[item.event_id]:
            left[item.event_id] -= 1
            yield place, MISMATCH


def _currencies(session: Session, events: Sequence[UsageEvent]) -> dict[int, str]:
    ids = integer_array({event.account_id for event in events})
    fetch_rows(session, _KEEP_CURRENCIES, ids=ids)
    return dict(fetch_rows(session, _CURRENCIES, ids=ids))


def _rated_item(
    event: UsageEvent,
    catalogue: Catalogue,
    version: int,
    currencies: Mapping[int, str],
    latest: datetime,
) -> ChargeItem:
    currency = currencies.get(event.account_id)
    if currency is None:
        raise NotFound("account")
    check_text(event_id=event.event_id, model=event.model)
    quantities = {name: Decimal(quantity) for name, quantity in event.quantities.items()}
    usage = Usage(event.service, event.occurred_at, quantities, event.model)
    rated = rate(catalogue, usage, currency)
    if event.occurred_at > latest:
        raise InvalidInput("occurred_at", "in_future")
    return ChargeItem(
        origin=event.origin,
        event_id=event.event_id,
        exact_micros=rated.exact_micros,
        occurred_at=event.occurred_at,
        model=event.model,
        quantities=event.quantities,
        catalogue_version=version,
    )


def _count(recorded: UsageRecorded, outcome: ChargeOutcome, currencies: Mapping[int, str]) -> None:
    recorded.charged += outcome.charged_items
    recorded.replayed += outcome.replayed_items
    recorded.refused += outcome.refused_items
    if outcome.charged_items:
        currency = currencies[outcome.account_id]
        known = recorded.exact_micros.get(currency, Decimal(0))
        recorded.exact_micros[currency] = EXACT.add(known, outcome.exact_micros)


# ── Files ─────────────────────────────────────────────────────────────────────────────────────

_FIND_IMPORT = text("SELECT accounts FROM usage_imports WHERE file_digest = :digest")
_BEGIN_IMPORT = text("""
INSERT INTO usage_imports (file_digest, file_name, accounts) VALUES (:digest, :name, :accounts)
ON CONFLICT (file_digest) DO UPDATE SET accounts = EXCLUDED.accounts
""")
_END_IMPORT = text("""
UPDATE usage_imports SET finished_at = clock_timestamp(), rows_read = :read,
  rows_rejected = :rejected WHERE file_digest = :digest
""")


def import_usage(
    sessions: sessionmaker[Session],
    *,
    path: Path,
    accounts: Sequence[int],
    rejects_path: Path,
    actor: Actor,
    report: Callable[[int, int], None],
    batch_rows: int = BATCH_ROWS,
) -> ImportSummary:
    """Charge every call of a file once, a transaction a batch of whole minutes.

    Rows that name no account are spread over `accounts` by a digest of their content. Where a batch
    ends depends on the file alone, so an import that was killed and is started again leaves the
    same ledger. Rows that cannot be charged go to `rejects_path` (a CSV: line, reason, row; a row
    that a spreadsheet would run stands behind an apostrophe). `report` receives the lines done and
    the lines in total. Raises InvalidInput for a file that is no file of calls and for an account
    that does not exist, Conflict where the file was imported before with other accounts; without
    `accounts` it goes on with those of before.
    """
    require(actor, "charge")
    digest, lines = digest_of_file(path)
    chosen = _begin(sessions, digest, path, accounts)
    summary = ImportSummary()
    unfinished = rejects_path.with_name(rejects_path.name + ".part")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = CsvWriter(file)
        writer.writerow(("line", "reason", "row"))
        for batch in _batches(read_calls(path), batch_rows):
            rejects = [row for row in batch if isinstance(row, Reject)]
            calls = [row for row in batch if isinstance(row, Call)]
            rejects += _charge_calls(sessions, calls, chosen, actor, summary)
            for reject in sorted(rejects, key=lambda reject: reject.line_number):
                writer.writerow((reject.line_number, reject.reason, reject.row))
            summary.calls += len(batch)
            summary.rejected += len(rejects)
            report(batch[-1].line_number, lines)
    unfinished.replace(rejects_path)
    with sessions() as session:
        counts = {"read": summary.calls, "rejected": summary.rejected, "digest": digest}
        session.execute(_END_IMPORT, counts)
        session.commit()
    return summary


def _begin(
    sessions: sessionmaker[Session], digest: bytes, path: Path, accounts: Sequence[int]
) -> list[int]:
    """Keep which accounts the file's rows are spread over, and return them."""
    with sessions.begin() as session:
        known = dict(fetch_rows(session, _CURRENCIES, ids=integer_array(accounts)))
        for account_id in accounts:
            if account_id not in known:
                raise InvalidInput("account", "unknown", account=account_id)
        before = session.execute(_FIND_IMPORT, {"digest": digest}).scalar_one_or_none() or []
        if before and accounts and before != list(accounts):
            raise Conflict("imported_with_other_accounts")
        chosen = list(accounts) or before
        session.execute(_BEGIN_IMPORT, {"digest": digest, "name": path.name, "accounts": chosen})
        return chosen


def _batches(rows: Iterator[Call | Reject], batch_rows: int) -> Iterator[list[Call | Reject]]:
    """Cut the rows between minutes, so that a minute is charged by one entry."""
    batch: list[Call | Reject] = []
    previous: datetime | None = None
    for row in rows:
        instant = row.occurred_at if isinstance(row, Call) else previous
        is_full = len(batch) >= batch_rows and (
            len(batch) >= MAX_BATCH_ROWS or not _share_minute(previous, instant)
        )
        if is_full:
            yield batch
            batch = []
        previous = instant
        batch.append(row)
    if batch:
        yield batch


def _share_minute(one: datetime | None, other: datetime | None) -> bool:
    if one is None or other is None:
        return one is other
    return _minute(one) == _minute(other)


def _minute(instant: datetime) -> int:
    """Count the whole minutes since 1970, whatever the zone: cheaper than a rounded datetime."""
    return int(instant.timestamp() // 60)


def _charge_calls(
    sessions: sessionmaker[Session],
    calls: list[Call],
    accounts: Sequence[int],
    actor: Actor,
    summary: ImportSummary,
) -> list[Reject]:
    """Charge a batch and commit; return the calls that cannot be charged."""
    rejects = []
    events = []
    origins = []
    for call in calls:
        account_id = call.account_id
        if account_id is None and not accounts:
            rejects.append(_reject(call, "no_account"))
            continue
        if account_id is None:
            account_id = accounts[call.content % len(accounts)]
        events.append(_event(call, account_id))
        origins.append(call)
    if not events:
        return rejects
    with sessions() as session:
        recorded = record_usage(session, events=events, actor=actor)
        session.commit()
    summary.charged += recorded.charged
    summary.replayed += recorded.replayed
    summary.refused += recorded.refused
    for currency, amount in recorded.exact_micros.items():
        known = summary.totals.get(currency, Decimal(0))
        summary.totals[currency] = EXACT.add(known, amount)
    rejects.extend(_reject(origins[place], reason) for place, reason in recorded.rejected)
    return rejects


def _event(call: Call, account_id: int) -> UsageEvent:
    return UsageEvent(
        account_id,
        FILE_ORIGIN,
        call.event_id,
        call.service,
        call.occurred_at,
        {"input-tokens": call.input_tokens, "output-tokens": call.output_tokens},
        call.model,
    )


def _reject(call: Call, reason: str) -> Reject:
    row = ",".join(
        str(part)
        for part in (
            call.occurred_at.isoformat(),
            call.input_tokens,
            call.output_tokens,
            call.account_id or "",
            call.service,
            call.model,
        )
    )
    return Reject(call.line_number, reason, row)
