"""Claw back credit whose money was refunded, or which was granted wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from domain import audit
from domain.errors import InvalidInput, NotFound, ReversalExceedsOriginal
from domain.ledger.allocation import OVERDRAFT_NUMBER, move, tax_inside
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.ledger.posting import Posting
from domain.ledger.state import load_grants
from domain.money import share_between
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.ledger.allocation import GrantState, Line
    from domain.ledger.debt_settlement import Debt
    from domain.ledger.state import AccountState

CLAWBACK_KINDS = frozenset({"refund", "dispute"})

_PAID_OF_GRANTS = text("""
SELECT g.grant_number, g.paid_micros, CAST(coalesce(t.paid, 0) AS bigint)
FROM grants g
LEFT JOIN (
  SELECT (part ->> 'grant')::bigint AS grant_number, sum((part ->> 'paid_micros')::bigint) AS paid
  FROM entries e, jsonb_array_elements(e.description_parameters -> 'taken') part
  WHERE e.account_id = :account_id AND e.kind IN ('refund', 'dispute', 'reversal')
  GROUP BY 1
) t USING (grant_number)
WHERE g.account_id = :account_id AND g.grant_number = ANY(CAST(:numbers AS bigint[]))
  AND g.paid_micros IS NOT NULL
""")


class GrantPart(NamedTuple):
    """How much is to be taken of a grant."""

    grant: GrantState
    amount_micros: int


def claw_back_credit(
    session: Session,
    *,
    account_id: int,
    kind: str,
    grant_numbers: Sequence[int],
    amount_micros: int,
    source: str,
    actor: Actor,
    idempotency_key: str,
    paid_micros: int | None = None,
    description_parameters: Mapping[str, Any] | None = None,
) -> int:
    """Claw back credit of some grants for a refund or a dispute (`kind`); return the entry.

    The grants are taken in the order given: first what is free of them, then what was spent or is
    held, which becomes debt that only paid credit settles. `paid_micros` is the money that goes
    back, where it is in another currency than the credit. All refunds, disputes and reversals of
    a grant together never exceed its amount, and what expired is not refunded
    (ReversalExceedsOriginal); a bank takes it back all the same.
    """
    require(actor, "claw_back_credit", account_id)
    if kind not in CLAWBACK_KINDS:
        raise InvalidInput("kind", "unknown")
    posting = Posting(session, [account_id], actor)
    account = posting.accounts[account_id]
    write = IdempotentRequest(
        account_id,
        idempotency_key,
        "claw_back_credit",
        _request(kind, grant_numbers, amount_micros, paid_micros),
    )
    known = stored_response(session, write)
    if known is not None:
        return int(known["entry_sequence"])
    grants = [credit_grant(session, account, number) for number in grant_numbers]
    parts = _parts(grants, amount_micros, keeps_expired=kind == "refund")
    lines = [line for part in parts for line in take_credit(posting, account, part, ("", kind))]
    sequence = posting.post_entry(
        account,
        kind=kind,
        lines=lines,
        source=source,
        description_code=kind,
        description_parameters={
            **(description_parameters or {}),
            **taken_parameters(session, account_id, parts, paid_micros),
        },
        occurred_at=posting.now,
    )
    store_response(session, write, {"entry_sequence": sequence})
    posting.write()
    taken = [part.grant.grant_number for part in parts]
    details = {"entry": sequence, "grants": taken, "amount_micros": amount_micros}
    audit.record(session, action=kind, actor=actor, account_id=account_id, details=details)
    return sequence


def _request(
    kind: str, grant_numbers: Sequence[int], amount_micros: int, paid_micros: int | None
) -> dict[str, Any]:
    grants = list(grant_numbers)
    return {"kind": kind, "grants": grants, "amount": amount_micros, "paid": paid_micros}


def credit_grant(session: Session, account: AccountState, grant_number: int) -> GrantState:
    """Return a grant of credit, loaded into the account's state; raise NotFound."""
    load_grants(session, account, [grant_number])
    if grant_number == OVERDRAFT_NUMBER or grant_number not in account.grants:
        raise NotFound("grant")
    return account.grants[grant_number]


def _parts(
    grants: Sequence[GrantState], amount_micros: int, *, keeps_expired: bool
) -> list[GrantPart]:
    """Share an amount among grants: what is free of each first, then what was spent."""
    limits = {
        grant.grant_number: grant.kept_micros
        if keeps_expired
        else grant.amount_micros - grant.clawed_back_micros
        for grant in grants
    }
    left = sum(limits.values())
    if not 0 < amount_micros <= left:
        raise ReversalExceedsOriginal(amount_micros, left)
    shares = dict.fromkeys(limits, 0)
    missing = amount_micros
    for is_free_only in (True, False):
        for grant in grants:
            number = grant.grant_number
            most = limits[number] - shares[number]
            part = min(missing, most, max(grant.free_micros, 0) if is_free_only else most)
            shares[number] += part
            missing -= part
    return [
        GrantPart(grant, shares[grant.grant_number])
        for grant in grants
        if shares[grant.grant_number]
    ]


def take_credit(posting: Posting, account: AccountState, part: GrantPart, debt: Debt) -> list[Line]:
    """Claw back what is available of a grant, and the rest as a debt.

    The debt's line says how much money stands behind it; what was given for nothing has the tax
    inside it instead, as where a voucher settles a debt.
    """
    grant, amount = part
    free = min(grant.free_micros, amount)
    lines = [move(grant, -free)] if free > 0 else []
    if amount > free:
        taken = grant.clawed_back_micros
        paid = share_between(
            grant.consideration_micros, taken, taken + amount, grant.amount_micros
        ) + sum(line.consideration_micros for line in lines)
        tax = tax_inside(amount - free - paid, grant.rate_millionths)
        lines.append(posting.record_liability(account, amount - free, debt, tax, paid))
    grant.clawed_back_micros += amount
    account.reduced_grants.add(grant.grant_number)
    return lines


def taken_parameters(
    session: Session, account_id: int, parts: Iterable[GrantPart], paid_micros: int | None
) -> dict[str, Any]:
    """Return what an entry says of the grants that it took back, called after they were taken.

    Of a grant that was paid in another currency it says how much of that money goes with it: the
    part that takes the last of a grant takes the last of its money. `paid_micros` is the whole of
    it, where it is known; a reversal takes each grant's own share.
    """
    taken = list(parts)
    key = {
        "account_id": account_id,
        "numbers": [part.grant.grant_number for part in taken],
    }
    paid = {
        number: (whole, before) for number, whole, before in session.execute(_PAID_OF_GRANTS, key)
    }
    rows: list[dict[str, int]] = []
    missing = paid_micros
    for place, (grant, amount) in enumerate(taken, start=1):
        row = {"grant": grant.grant_number, "credit_micros": amount}
        if grant.grant_number in paid:
            is_rest = missing is not None and place == len(taken)
            share = missing if is_rest else _paid_share(grant, amount, *paid[grant.grant_number])
            row["paid_micros"] = share or 0
            missing = None if missing is None else missing - row["paid_micros"]
        rows.append(row)
    if not paid:
        return {"taken": rows}
    return {"taken": rows, "paid_micros": sum(row.get("paid_micros", 0) for row in rows)}


def _paid_share(grant: GrantState, amount: int, whole: int, before: int) -> int:
    """Return the money of a part of a grant that was just taken, of which `before` is gone."""
    taken = grant.clawed_back_micros
    if taken == grant.amount_micros:
        return whole - before
    return share_between(whole, taken - amount, taken, grant.amount_micros)
