"""Charge usage: one charge is a batch of one, and follows the same path as thousands."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from db.bulk import fetch_rows, integer_array, text_array
from domain import audit
from domain.errors import AmountOutOfRange, IdempotencyMismatch, InvalidInput
from domain.ledger.allocation import move, plan_burn, tax_inside
from domain.ledger.holds import add_refusal, release_hold, resolve_hold
from domain.ledger.posting import Posting
from domain.money import EXACT, check_micros, split_carry
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.ledger.allocation import Line
    from domain.ledger.state import AccountState

FUTURE_TOLERANCE = timedelta(minutes=5)
"""How far ahead of the database's clock a metering system's clock may run."""

_ZERO = Decimal(0)


class ChargeItem(NamedTuple):
    """One thing to pay for, counted once under (`origin`, `event_id`).

    `exact_micros` is not negative and has at most twelve decimals. A metered call brings its
    `quantities`, and is then the same request whatever it is priced at.
    """

    origin: str
    event_id: str
    exact_micros: Decimal
    occurred_at: datetime
    model: str = ""
    quantities: Mapping[str, int | Decimal] = MappingProxyType({})
    catalogue_version: int | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """Items of one account and service that are charged by one entry.

    A `refusable` charge is refused whole where credit does not cover it; usage that has already
    happened is not refusable, and what credit does not cover becomes debt. With `hold_number`
    the charge captures that hold: what it set aside pays first, and the rest of it is released.
    """

    account_id: int
    service: str
    source: str
    items: tuple[ChargeItem, ...]
    description_code: str = "usage"
    description_parameters: Mapping[str, Any] = field(default_factory=dict)
    refusable: bool = True
    hold_number: int | None = None


class ChargeOutcome(NamedTuple):
    """What became of a charge.

    `status` is `charged`, `refused` (with `reason`), `replayed` (every item was known: nothing
    changed, and the numbers are the first answer's), `mismatch` (no item was new, and a key was
    used for another request) or `out_of_range` (the ledger cannot hold so much: nothing is posted,
    and its keys stay free). Items are counted by what became of them, `exact_micros` sums those
    that were charged now, and `mismatched_keys` names those that were left out.
    """

    status: str
    account_id: int
    amount_micros: int = 0
    exact_micros: Decimal = Decimal(0)
    charged_items: int = 0
    refused_items: int = 0
    replayed_items: int = 0
    entry_sequence: int | None = None
    refusal_number: int | None = None
    reason: str | None = None
    mismatched_keys: tuple[str, ...] = ()


_KNOWN_KEYS = """
SELECT n.account_id, n.origin, n.event_id, k.request_hash, k.account_sequence, k.refusal_number
FROM unnest(%(accounts)s::bigint[], %(origins)s::text[], %(events)s::text[])
     AS n(account_id, origin, event_id)
CROSS JOIN LATERAL (
  SELECT request_hash, account_sequence, refusal_number FROM usage_keys
  WHERE account_id = n.account_id AND origin = n.origin AND event_id = n.event_id LIMIT 1
) k
"""
# LATERAL with LIMIT keeps the look-up on the key's index, whatever the statistics say.

Key = tuple[int, str, str]
KnownAnswer = tuple[bytes, int | None, int | None]
KnownKeys = dict[Key, KnownAnswer]


def charge(session: Session, *, charge: Charge, actor: Actor) -> ChargeOutcome:
    """Post one charge.

    Raises IdempotencyMismatch where its key was used for another request, AmountOutOfRange where
    the ledger cannot hold it.
    """
    outcome = charge_batch(session, charges=[charge], actor=actor)[0]
    if outcome.status == "out_of_range":
        raise AmountOutOfRange
    if outcome.mismatched_keys:
        raise IdempotencyMismatch(outcome.mismatched_keys[0])
    return outcome


def charge_batch(
    session: Session, *, charges: Sequence[Charge], actor: Actor
) -> list[ChargeOutcome]:
    """Post many charges of many accounts in one transaction; return an outcome for each.

    Charges of one account are posted in the order given. Repeating a batch, or any part of it,
    changes nothing and answers as before. Raises InvalidInput, before anything is posted, for a
    charge that can never be right; NotFound for an unknown account.
    """
    require(actor, "charge")
    if not charges:
        return []
    posting = Posting(session, {charge.account_id for charge in charges}, actor)
    for one in charges:
        _check(one, posting.now)
    known = _known_keys(session, charges)
    outcomes = [_charge_once(posting, one, known) for one in charges]
    posting.write()
    audit.record(
        session,
        action="charge_batch",
        actor=actor,
        account_id=charges[0].account_id if len(posting.accounts) == 1 else None,
        details={
            "charges": len(charges),
            "accounts": len(posting.accounts),
            "charged": sum(outcome.status == "charged" for outcome in outcomes),
            "refused": sum(outcome.status == "refused" for outcome in outcomes),
        },
    )
    return outcomes


def _check(charge: Charge, now: datetime) -> None:
    if not charge.items:
        raise InvalidInput("items", "empty")
    if charge.refusable and charge.hold_number is not None:
        raise InvalidInput("hold_number", "capture_is_not_refusable")
    latest = now + FUTURE_TOLERANCE
    for item in charge.items:
        if item.exact_micros < _ZERO:
            raise InvalidInput("exact_micros", "negative")
        if item.occurred_at.tzinfo is None:
            raise InvalidInput("occurred_at", "no_time_zone")
        if item.occurred_at > latest:
            raise InvalidInput("occurred_at", "in_future")


def _known_keys(session: Session, charges: Iterable[Charge]) -> KnownKeys:
    asked = [
        (charge.account_id, item.origin, item.event_id)
        for charge in charges
        for item in charge.items
    ]
    accounts, origins, events = zip(*asked, strict=True)
    rows = fetch_rows(
        session,
        _KNOWN_KEYS,
        accounts=integer_array(accounts),
        origins=text_array(origins),
        events=text_array(events),
    )
    return {(row[0], row[1], row[2]): (bytes(row[3]), row[4], row[5]) for row in rows}


def _request_hash(charge: Charge, item: ChargeItem) -> bytes:
    """Digest what was asked; a metered call is asked in its quantities, not in its price."""
    amount = "" if item.quantities else str(item.exact_micros.normalize(EXACT))
    content = (
        charge.service,
        item.model,
        item.occurred_at.timestamp(),
        sorted([f"{name}={value}" for name, value in item.quantities.items()]),
        amount,
        charge.hold_number,
    )
    return hashlib.blake2b(repr(content).encode(), digest_size=16).digest()


def _charge_once(posting: Posting, charge: Charge, known: KnownKeys) -> ChargeOutcome:
    account_id = charge.account_id
    fresh: dict[Key, tuple[ChargeItem, bytes]] = {}
    replayed: list[KnownAnswer] = []
    mismatched: list[str] = []
    for item in charge.items:
        key = (account_id, item.origin, item.event_id)
        digest = _request_hash(charge, item)
        first = known.get(key)
        twin = fresh.get(key)
        if not first and not twin:
            fresh[key] = (item, digest)
        elif digest != (first[0] if first else twin[1]):  # type: ignore[index]
            mismatched.append(item.event_id)
        elif first:
            replayed.append(first)
    if not fresh:
        return _known_outcome(account_id, replayed, mismatched)
    items = [item for item, _ in fresh.values()]
    try:
        outcome = _post(posting, posting.accounts[account_id], charge, items)
    except AmountOutOfRange:
        return ChargeOutcome("out_of_range", account_id, mismatched_keys=tuple(mismatched))
    sequence, refusal = outcome.entry_sequence, outcome.refusal_number
    for key, (_, digest) in fresh.items():
        known[key] = (digest, sequence, refusal)
    posting.add_rows(
        "usage_keys",
        account_id,
        [(*key, digest, sequence, refusal, posting.now) for key, (_, digest) in fresh.items()],
    )
    if sequence is not None:
        _keep_events(posting, charge, items, sequence)
    if len(items) == len(charge.items):
        return outcome
    return outcome._replace(
        replayed_items=len(charge.items) - len(items) - len(mismatched),
        mismatched_keys=tuple(mismatched),
    )


def _known_outcome(
    account_id: int, replayed: list[KnownAnswer], mismatched: list[str]
) -> ChargeOutcome:
    _, sequence, refusal = replayed[0] if replayed else (None, None, None)
    return ChargeOutcome(
        "replayed" if replayed else "mismatch",
        account_id,
        replayed_items=len(replayed),
        entry_sequence=sequence,
        refusal_number=refusal,
        mismatched_keys=tuple(mismatched),
    )


def _post(
    posting: Posting, account: AccountState, charge: Charge, items: list[ChargeItem]
) -> ChargeOutcome:
    exact = items[0].exact_micros
    for item in items[1:]:
        exact = EXACT.add(exact, item.exact_micros)
    occurred_at = max(item.occurred_at for item in items)
    amount, carry = split_carry(exact, Decimal(account.carries.get(charge.service, 0)))
    # Before anything changes, so that the rest of a batch can be posted.
    check_micros(min(account.balance_micros, account.overdraft.remaining_micros) - amount)
    reason = _reason_to_refuse(posting, account, charge, occurred_at)
    if reason is not None:
        return _refuse(posting, account, charge, items, reason=reason, amount_micros=amount)
    captured, lines = _capture(posting, account, charge, amount)
    missing = amount + sum(line.amount_micros for line in lines)
    takes, shortfall = plan_burn(
        account.burning,
        service=charge.service,
        amount_micros=missing,
        occurred_at=occurred_at,
        now=posting.now,
        grace=account.expiry_grace,
    )
    if shortfall and charge.refusable:
        return _refuse(
            posting,
            account,
            charge,
            items,
            reason="insufficient_credit",
            amount_micros=amount,
            available_micros=missing - shortfall,
        )
    account.carries[charge.service] = str(carry)
    lines.extend(move(grant, -take) for grant, take in takes)
    if shortfall:
        lines.append(_add_debt(posting, account, charge.service, shortfall, occurred_at))
    metered = [item for item in items if item.catalogue_version is not None]
    sequence = posting.post_entry(
        account,
        kind="charge",
        lines=lines,
        service=charge.service,
        source=charge.source,
        description_code=charge.description_code,
        description_parameters=_parameters(charge, items),
        occurred_at=occurred_at,
        calls=len(metered),
        quantities=_quantities(metered) if metered else None,
    )
    if captured:
        resolve_hold(posting, account, captured, "captured", sequence)
    return ChargeOutcome(
        "charged",
        account.account_id,
        amount_micros=amount,
        exact_micros=exact,
        charged_items=len(items),
        entry_sequence=sequence,
    )


def _reason_to_refuse(
    posting: Posting, account: AccountState, charge: Charge, occurred_at: datetime
) -> str | None:
    """Return why a charge is declined whatever credit there is, or None."""
    if occurred_at < posting.now - account.usage_key_retention:
        return "too_old"
    if charge.refusable and account.status != "active":
        return "account_frozen"
    return None


def _add_debt(
    posting: Posting, account: AccountState, service: str, shortfall: int, occurred_at: datetime
) -> Line:
    terms = posting.tax_terms(account, posting.accounting_date(account, occurred_at))
    tax = tax_inside(shortfall, terms.rate_millionths)
    return posting.record_liability(account, shortfall, (service, "usage"), tax)


def _capture(
    posting: Posting, account: AccountState, charge: Charge, amount_micros: int
) -> tuple[int | None, list[Line]]:
    """Release the charge's hold where it is open, and spend what it had set aside."""
    lines: list[Line] = []
    if charge.hold_number is None:
        return None, lines
    set_aside = release_hold(posting, account, charge.hold_number, service=charge.service)
    if set_aside is None:
        return None, lines
    missing = amount_micros
    for grant, held in set_aside:
        take = min(held, missing)
        if take > 0:
            lines.append(move(grant, -take))
            missing -= take
    return charge.hold_number, lines


def _parameters(charge: Charge, items: Sequence[ChargeItem]) -> dict[str, Any]:
    parameters = dict(charge.description_parameters)
    if items[0].quantities:
        parameters["calls"] = len(items)
        parameters["quantities"] = {
            meter: total if isinstance(total, int) else str(total)
            for meter, total in _quantities(items).items()
        }
    return parameters


def _quantities(items: Sequence[ChargeItem]) -> dict[str, Decimal | int]:
    totals: dict[str, Decimal | int] = {}
    for item in items:
        for meter, quantity in item.quantities.items():
            totals[meter] = totals.get(meter, 0) + quantity
    return totals


def _keep_events(
    posting: Posting, charge: Charge, items: Sequence[ChargeItem], sequence: int
) -> None:
    rows = [
        (
            charge.account_id,
            sequence,
            number,
            item.origin,
            item.event_id,
            charge.service,
            item.model,
            item.occurred_at,
            dict(item.quantities),
            item.exact_micros,
            item.catalogue_version,
        )
        for number, item in enumerate(items, start=1)
        if item.catalogue_version is not None
    ]
    posting.add_rows("usage_events", charge.account_id, rows)


def _refuse(
    posting: Posting,
    account: AccountState,
    charge: Charge,
    items: Sequence[ChargeItem],
    *,
    reason: str,
    amount_micros: int,
    available_micros: int = 0,
) -> ChargeOutcome:
    number = add_refusal(
        posting,
        account,
        operation="charge",
        reason=reason,
        service=charge.service,
        source=charge.source,
        description_code=charge.description_code,
        description_parameters=_parameters(charge, items),
        amount_micros=amount_micros,
        available_micros=available_micros,
        occurred_at=max(item.occurred_at for item in items),
    )
    return ChargeOutcome(
        "refused",
        account.account_id,
        amount_micros=amount_micros,
        refused_items=len(items),
        refusal_number=number,
        reason=reason,
    )
