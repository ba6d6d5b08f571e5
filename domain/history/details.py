"""One row of the credit history, opened: which grants paid it, and the calls behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select

from db.models import (
    Allocation,
    Entry,
    Grant,
    Hold,
    HoldAllocation,
    HoldResolution,
    Payment,
    Refusal,
    UsageEvent,
)
from domain.errors import NotFound
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime
    from decimal import Decimal

    from sqlalchemy.orm import Session

    from domain.actors import Actor

CALLS_PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class GrantMovement:
    """The part of an entry that moved one grant; `remaining_after_micros` is the grant's remainder.

    The account's overdraft is grant 0: what it moves is debt. `debt_service` and `debt_cause`
    name the debt that the line makes or settles.
    """

    grant_number: int
    kind: str
    origin: str | None
    granted_at: datetime
    expires_at: datetime | None
    amount_micros: int
    remaining_after_micros: int
    debt_service: str | None
    debt_cause: str | None


class RelatedEntry(NamedTuple):
    """An entry that reverses this one, or is reversed by it."""

    sequence: int
    occurred_at: datetime
    amount_micros: int


@dataclass(frozen=True, slots=True)
class EntryDetail:
    """A posted entry with its grants, in the order in which they paid.

    `call_count` counts the metered calls behind it. `actor` is who posted it, for staff only.
    `payment_reference` names the payment that a top-up credits.
    """

    sequence: int
    kind: str
    service: str
    source: str
    description_code: str
    description_parameters: Mapping[str, Any]
    amount_micros: int
    balance_before_micros: int
    balance_after_micros: int
    occurred_at: datetime
    posted_at: datetime
    accounting_date: date
    movements: tuple[GrantMovement, ...]
    reverses: RelatedEntry | None
    reversed_by: tuple[RelatedEntry, ...]
    call_count: int
    actor: str | None
    payment_reference: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """A metered call; `exact_micros` is its cost before rounding to whole micros."""

    line_number: int
    occurred_at: datetime
    event_id: str
    model: str
    quantities: Mapping[str, Any]
    exact_micros: Decimal


@dataclass(frozen=True, slots=True)
class CallsPage:
    """Calls behind an entry, and the line after which the next page begins (None: no more)."""

    calls: tuple[Call, ...]
    next_after_line: int | None


@dataclass(frozen=True, slots=True)
class RefusalDetail:
    """A declined charge or hold: the amount needed, and the credit available at that time."""

    number: int
    operation: str
    reason: str
    service: str
    source: str
    description_code: str
    description_parameters: Mapping[str, Any]
    amount_micros: int
    available_micros: int
    occurred_at: datetime
    posted_at: datetime


@dataclass(frozen=True, slots=True)
class HeldPart:
    """How much of a hold is set aside in one grant."""

    grant_number: int
    kind: str
    origin: str | None
    expires_at: datetime | None
    amount_micros: int


@dataclass(frozen=True, slots=True)
class HoldDetail:
    """Credit set aside, and in which grants.

    `outcome` is None while the hold is open, then captured (by `entry_sequence`), voided or
    expired.
    """

    number: int
    service: str
    source: str
    description_code: str
    description_parameters: Mapping[str, Any]
    amount_micros: int
    placed_at: datetime
    expires_at: datetime
    parts: tuple[HeldPart, ...]
    outcome: str | None
    resolved_at: datetime | None
    entry_sequence: int | None


def entry_detail(session: Session, *, actor: Actor, account_id: int, sequence: int) -> EntryDetail:
    """Return an entry of the account; raise NotFound where it or the right to read it lacks."""
    require(actor, "see_account", account_id)
    row = session.execute(
        select(
            Entry.kind,
            func.shown_service(Entry.kind, Entry.service, Entry.source).label("service"),
            Entry.source,
            Entry.description_code,
            Entry.description_parameters,
            Entry.amount_micros,
            Entry.balance_after_micros,
            Entry.occurred_at,
            Entry.posted_at,
            Entry.accounting_date,
            Entry.reverses_sequence,
            Entry.actor,
        ).where(Entry.account_id == account_id, Entry.account_sequence == sequence)
    ).one_or_none()
    if row is None:
        raise NotFound("entry")
    related = _related(session, account_id, sequence, row.reverses_sequence)
    return EntryDetail(
        sequence=sequence,
        kind=row.kind,
        service=row.service,
        source=row.source,
        description_code=row.description_code,
        description_parameters=row.description_parameters,
        amount_micros=row.amount_micros,
        balance_before_micros=row.balance_after_micros - row.amount_micros,
        balance_after_micros=row.balance_after_micros,
        occurred_at=row.occurred_at,
        posted_at=row.posted_at,
        accounting_date=row.accounting_date,
        movements=_movements(session, account_id, sequence),
        reverses=next((one for one in related if one.sequence == row.reverses_sequence), None),
        reversed_by=tuple(one for one in related if one.sequence > sequence),
        call_count=_call_count(session, account_id, sequence),
        actor=row.actor if actor.is_staff else None,
        payment_reference=(
            _payment_reference(session, account_id, sequence) if row.kind == "top_up" else None
        ),
    )


def entry_calls(
    session: Session,
    *,
    actor: Actor,
    account_id: int,
    sequence: int,
    after_line: int = 0,
    page_size: int = CALLS_PAGE_SIZE,
) -> CallsPage:
    """Return the calls behind an entry, in the order in which they were metered."""
    require(actor, "see_account", account_id)
    rows = session.execute(
        select(
            UsageEvent.line_number,
            UsageEvent.occurred_at,
            UsageEvent.event_id,
            UsageEvent.model,
            UsageEvent.quantities,
            UsageEvent.exact_micros,
        )
        .where(
            UsageEvent.account_id == account_id,
            UsageEvent.account_sequence == sequence,
            UsageEvent.line_number > after_line,
        )
        .order_by(UsageEvent.line_number)
        .limit(page_size + 1)
    ).all()
    calls = tuple(Call(*row) for row in rows[:page_size])
    return CallsPage(calls, calls[-1].line_number if len(rows) > page_size else None)


def entry_with_calls(
    session: Session, *, actor: Actor, account_id: int, sequence: int, after_line: int = 0
) -> tuple[EntryDetail, CallsPage]:
    """Return an entry and a page of the calls behind it; raise as `entry_detail` does."""
    detail = entry_detail(session, actor=actor, account_id=account_id, sequence=sequence)
    calls = entry_calls(
        session, actor=actor, account_id=account_id, sequence=sequence, after_line=after_line
    )
    return detail, calls


def refusal_detail(
    session: Session, *, actor: Actor, account_id: int, number: int
) -> RefusalDetail:
    """Return a refusal of the account; raise NotFound where it or the right to read it lacks."""
    require(actor, "see_account", account_id)
    row = session.execute(
        select(
            Refusal.refusal_number,
            Refusal.operation,
            Refusal.reason,
            Refusal.service,
            Refusal.source,
            Refusal.description_code,
            Refusal.description_parameters,
            Refusal.amount_micros,
            Refusal.available_micros,
            Refusal.occurred_at,
            Refusal.posted_at,
        ).where(Refusal.account_id == account_id, Refusal.refusal_number == number)
    ).one_or_none()
    if row is None:
        raise NotFound("refusal")
    return RefusalDetail(*row)


def hold_detail(session: Session, *, actor: Actor, account_id: int, number: int) -> HoldDetail:
    """Return a hold of the account; raise NotFound where it or the right to read it lacks."""
    require(actor, "see_account", account_id)
    row = session.execute(
        select(
            Hold.service,
            Hold.source,
            Hold.description_code,
            Hold.description_parameters,
            Hold.amount_micros,
            Hold.placed_at,
            Hold.expires_at,
            HoldResolution.outcome,
            HoldResolution.resolved_at,
            HoldResolution.entry_sequence,
        )
        .outerjoin(
            HoldResolution,
            (HoldResolution.account_id == Hold.account_id)
            & (HoldResolution.hold_number == Hold.hold_number),
        )
        .where(Hold.account_id == account_id, Hold.hold_number == number)
    ).one_or_none()
    if row is None:
        raise NotFound("hold")
    return HoldDetail(
        number=number,
        service=row.service,
        source=row.source,
        description_code=row.description_code,
        description_parameters=row.description_parameters,
        amount_micros=row.amount_micros,
        placed_at=row.placed_at,
        expires_at=row.expires_at,
        parts=_held_parts(session, account_id, number),
        outcome=row.outcome,
        resolved_at=row.resolved_at,
        entry_sequence=row.entry_sequence,
    )


def _movements(session: Session, account_id: int, sequence: int) -> tuple[GrantMovement, ...]:
    rows = session.execute(
        select(
            Allocation.grant_number,
            Grant.kind,
            Grant.origin,
            Grant.granted_at,
            Grant.expires_at,
            Allocation.amount_micros,
            Allocation.remaining_after_micros,
            Allocation.debt_service,
            Allocation.debt_cause,
        )
        .join(
            Grant,
            (Grant.account_id == Allocation.account_id)
            & (Grant.grant_number == Allocation.grant_number),
        )
        .where(Allocation.account_id == account_id, Allocation.account_sequence == sequence)
        .order_by(Allocation.line_number)
    )
    return tuple(GrantMovement(*row) for row in rows)


def _related(
    session: Session, account_id: int, sequence: int, reverses: int | None
) -> list[RelatedEntry]:
    """Return the entry that this one reverses and those that reverse it, in their order."""
    rows = session.execute(
        select(Entry.account_sequence, Entry.occurred_at, Entry.amount_micros)
        .where(
            Entry.account_id == account_id,
            (Entry.reverses_sequence == sequence) | (Entry.account_sequence == reverses),
        )
        .order_by(Entry.account_sequence)
    )
    return [RelatedEntry(*row) for row in rows]


def _call_count(session: Session, account_id: int, sequence: int) -> int:
    return session.execute(
        select(func.count()).where(
            UsageEvent.account_id == account_id, UsageEvent.account_sequence == sequence
        )
    ).scalar_one()


def _payment_reference(session: Session, account_id: int, sequence: int) -> str | None:
    return session.scalar(
        select(Payment.reference).where(
            Payment.account_id == account_id, Payment.entry_sequence == sequence
        )
    )


def _held_parts(session: Session, account_id: int, number: int) -> tuple[HeldPart, ...]:
    rows = session.execute(
        select(
            HoldAllocation.grant_number,
            Grant.kind,
            Grant.origin,
            Grant.expires_at,
            HoldAllocation.amount_micros,
        )
        .join(
            Grant,
            (Grant.account_id == HoldAllocation.account_id)
            & (Grant.grant_number == HoldAllocation.grant_number),
        )
        .where(HoldAllocation.account_id == account_id, HoldAllocation.hold_number == number)
        .order_by(Grant.priority, Grant.expires_at, Grant.granted_at, Grant.grant_number)
    )
    return tuple(HeldPart(*row) for row in rows)
