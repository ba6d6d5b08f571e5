"""Taking back: reversals of what was posted wrongly, refunds and disputes, written-off debt."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from domain import audit
from domain.actors import StaffRole, require_other_account, require_system_or_staff
from domain.allocation import PAID_KINDS, is_expiry_due, move, tax_inside
from domain.errors import InvalidInput, NotFound, ReversalExceedsOriginal
from domain.ledger.expiry import expire
from domain.ledger.idempotency import WriteOnce, first_answer, keep_answer
from domain.ledger.posting import Posting
from domain.ledger.state import load_grants
from domain.money import share_between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.allocation import Line
    from domain.ledger.state import AccountState

REVERSIBLE_KINDS = frozenset({"charge", "top_up", "voucher", "plan", "adjustment"})

_ORIGINAL = text("""
SELECT kind, service, source, amount_micros FROM entries
WHERE account_id = :account_id AND account_sequence = :sequence
""")
_LINES = text("""
SELECT grant_number, amount_micros, tax_micros, debt_service, debt_cause FROM allocations
WHERE account_id = :account_id AND account_sequence = :sequence ORDER BY line_number DESC
""")
_REVERSED = text("""
SELECT a.grant_number, a.debt_service, a.debt_cause, CAST(sum(a.amount_micros) AS bigint)
FROM entries e
JOIN allocations a USING (account_id, account_sequence)
WHERE e.account_id = :account_id AND e.reverses_sequence = :sequence
GROUP BY a.grant_number, a.debt_service, a.debt_cause
""")
_SETTLED_BY = text("""
SELECT grant_number, -sum(amount_micros) FROM allocations
WHERE account_id = :account_id AND grant_number > 0
  AND debt_service = :service AND debt_cause = :cause
GROUP BY grant_number HAVING sum(amount_micros) < 0 ORDER BY grant_number DESC
""")
_GONE = text("""
SELECT g.tax_rate,
  (SELECT coalesce(-sum(e.amount_micros), 0) FROM entries e
   WHERE e.account_id = g.account_id AND e.reverses_sequence = g.entry_sequence)
  + (SELECT coalesce(-sum(e.amount_micros), 0) FROM entries e
     WHERE e.account_id = g.account_id AND e.kind IN ('refund', 'dispute')
       AND e.description_parameters @> jsonb_build_object('grant_number', g.grant_number)),
  (SELECT coalesce(-sum(e.amount_micros), 0) FROM entries e
   WHERE e.account_id = g.account_id AND e.kind = 'expiry'
     AND e.description_parameters @> jsonb_build_object('grant_number', g.grant_number))
FROM grants g
WHERE g.account_id = :account_id AND g.grant_number = :number AND g.grant_number > 0
""")

Debt = tuple[str, str]


class _Reversible(NamedTuple):
    """What is left to reverse of one line, and was reversed: on a grant, or on a debt."""

    grant_number: int
    debt: Debt | None
    amount_micros: int
    reversed_micros: int
    original_micros: int
    original_tax_micros: int


class _Gone(NamedTuple):
    """What was taken back of a grant (reversals, refunds, disputes), and what expired of it."""

    rate_millionths: int
    taken_micros: int
    expired_micros: int


def reverse_entry(
    session: Session,
    *,
    account_id: int,
    entry_sequence: int,
    reason: str,
    actor: Actor,
    idempotency_key: str,
    amount_micros: int | None = None,
) -> int:
    """Reverse a charge or a credit, in whole or in part, and return the reversal's sequence.

    `amount_micros` is positive; None takes all that is left. A charge gives back in the opposite
    order of its burning: debt first (debt that was written off stays so). What reaches an
    expired grant expires again at once. A credit takes what is free of its grant; what was spent
    becomes debt, what expired or was taken back before does not. Raises ReversalExceedsOriginal,
    NotFound, and InvalidInput for an entry that cannot be reversed.
    """
    require_system_or_staff(actor, StaffRole.SUPPORT, StaffRole.FINANCE)
    require_other_account(actor, account_id)
    posting = Posting(session, [account_id], actor)
    account = posting.accounts[account_id]
    write = WriteOnce(
        account_id,
        idempotency_key,
        "reverse_entry",
        {"entry": entry_sequence, "amount": amount_micros, "reason": reason},
    )
    known = first_answer(session, write)
    if known is not None:
        return int(known["entry_sequence"])
    original = _original(session, account_id, entry_sequence)
    if original.kind in PAID_KINDS:
        require_system_or_staff(actor, StaffRole.FINANCE)
    lines = _reversal_lines(posting, account, entry_sequence, original, amount_micros)
    sequence = posting.post_entry(
        account,
        kind="reversal",
        lines=lines,
        service=original.service,
        source=original.source,
        description_code="reversal",
        description_parameters={"reverses": entry_sequence, "reason": reason},
        occurred_at=posting.now,
        reverses_sequence=entry_sequence,
    )
    for number in sorted({line.grant_number for line in lines if line.amount_micros > 0}):
        grant = account.grants[number]
        if is_expiry_due(grant, posting.now, account.expiry_grace):
            expire(posting, account, grant)
    keep_answer(session, write, {"entry_sequence": sequence})
    posting.write()
    audit.record(
        session,
        action="reverse_entry",
        actor=actor,
        account_id=account_id,
        details={"entry": sequence, "reverses": entry_sequence, "reason": reason},
    )
    return sequence


def _original(session: Session, account_id: int, sequence: int) -> Row[Any]:
    key = {"account_id": account_id, "sequence": sequence}
    original = session.execute(_ORIGINAL, key).one_or_none()
    if original is None:
        raise NotFound("entry")
    if original.kind not in REVERSIBLE_KINDS:
        raise InvalidInput("entry", "not_reversible", kind=original.kind)
    return original


def _reversal_lines(
    posting: Posting,
    account: AccountState,
    sequence: int,
    original: Row[Any],
    amount_micros: int | None,
) -> list[Line]:
    left = _left_to_reverse(posting.session, account, sequence)
    reversible = sum(line.amount_micros for line in left)
    gone = None
    if original.kind != "charge":
        gone = _gone(posting.session, account, left[0].grant_number)
        not_gone = original.amount_micros - gone.taken_micros - gone.expired_micros
        reversible = min(reversible, not_gone)
    wanted = reversible if amount_micros is None else amount_micros
    if wanted <= 0 or wanted > reversible:
        raise ReversalExceedsOriginal(wanted, max(reversible, 0))
    if gone is not None:
        number = left[0].grant_number
        return _take(posting, account, number, amount=wanted, debt=("", "reversal"), gone=gone)
    lines: list[Line] = []
    for line in left:
        part = min(line.amount_micros, wanted)
        if part > 0:
            lines.extend(_give_back(posting, account, line, part))
            wanted -= part
    return lines


def _left_to_reverse(session: Session, account: AccountState, sequence: int) -> list[_Reversible]:
    """Return the entry's lines, last first, each with what earlier reversals left of it."""
    key = {"account_id": account.account_id, "sequence": sequence}
    reversed_by_grant: dict[int, int] = defaultdict(int)
    reversed_by_debt: dict[Debt, int] = defaultdict(int)
    lines = session.execute(_LINES, key).all()
    is_credit = any(line.amount_micros > 0 for line in lines)
    for grant_number, service, cause, amount in session.execute(_REVERSED, key):
        if cause is None or is_credit:
            number = lines[0].grant_number if is_credit else grant_number
            reversed_by_grant[number] += abs(amount)
        else:
            reversed_by_debt[service, cause] += abs(amount)
    left = []
    for number, amount, tax, service, cause in lines:
        debt = None if cause is None else (service, cause)
        done = reversed_by_grant if debt is None else reversed_by_debt
        name: Any = number if debt is None else debt
        already = min(done[name], abs(amount))
        done[name] -= already
        remaining = abs(amount) - already
        if debt is not None and remaining:
            remaining = min(remaining, _not_written_off(session, account, debt))
        left.append(_Reversible(number, debt, remaining, already, abs(amount), abs(tax)))
    return left


def _not_written_off(session: Session, account: AccountState, debt: Debt) -> int:
    """Return how much of a debt is owed, or was paid by grants: what was given up is neither."""
    owed = account.debts[debt].owed_micros if debt in account.debts else 0
    return owed + sum(paid for _, paid in _settlers(session, account, debt))


def _settlers(session: Session, account: AccountState, debt: Debt) -> list[tuple[int, int]]:
    """Return the grants that paid a debt and how much each, the newest grant first."""
    key = {"account_id": account.account_id, "service": debt[0], "cause": debt[1]}
    return [(number, int(paid)) for number, paid in session.execute(_SETTLED_BY, key)]


def _give_back(posting: Posting, account: AccountState, line: _Reversible, part: int) -> list[Line]:
    if line.debt is None:
        load_grants(posting.session, account, [line.grant_number])
        return [move(account.grants[line.grant_number], part)]
    debt = line.debt
    lines: list[Line] = []
    owed = account.debts[debt].owed_micros if debt in account.debts else 0
    to_debt = min(owed, part)
    if to_debt:
        before = line.reversed_micros
        tax = share_between(
            line.original_tax_micros, before, before + to_debt, line.original_micros
        )
        lines.append(posting.pay_debt(account, to_debt, debt, tax))
    lines.extend(_give_back_to_settlers(posting, account, debt, part - to_debt))
    return lines


def _give_back_to_settlers(
    posting: Posting, account: AccountState, debt: Debt, amount: int
) -> list[Line]:
    """Return credit to the grants that had paid the debt, the newest first."""
    lines: list[Line] = []
    if not amount:
        return lines
    missing = amount
    for number, paid in _settlers(posting.session, account, debt):
        part = min(paid, missing)
        if part > 0:
            load_grants(posting.session, account, [number])
            lines.append(move(account.grants[number], part, debt=debt))
            missing -= part
    return lines


def take_back(
    session: Session,
    *,
    account_id: int,
    kind: str,
    grant_number: int,
    amount_micros: int,
    source: str,
    actor: Actor,
    idempotency_key: str,
    description_parameters: dict[str, Any] | None = None,
) -> int:
    """Take credit back for a refund or a lost dispute (`kind`); return the entry's sequence.

    What is free of the grant goes; what was spent, or is held, becomes debt that only paid credit
    settles. All refunds, disputes and reversals of a grant together never exceed its amount, and
    what expired is not refunded (ReversalExceedsOriginal); a bank takes it back all the same.
    """
    require_system_or_staff(actor, StaffRole.FINANCE)
    require_other_account(actor, account_id)
    if kind not in {"refund", "dispute"}:
        raise InvalidInput("kind", "unknown")
    posting = Posting(session, [account_id], actor)
    account = posting.accounts[account_id]
    write = WriteOnce(
        account_id,
        idempotency_key,
        "take_back",
        {"kind": kind, "grant": grant_number, "amount": amount_micros},
    )
    known = first_answer(session, write)
    if known is not None:
        return int(known["entry_sequence"])
    gone = _gone(session, account, grant_number)
    left = account.grants[grant_number].amount_micros - gone.taken_micros
    if kind == "refund":
        left -= gone.expired_micros
    if not 0 < amount_micros <= left:
        raise ReversalExceedsOriginal(amount_micros, max(left, 0))
    lines = _take(posting, account, grant_number, amount=amount_micros, debt=("", kind), gone=gone)
    sequence = posting.post_entry(
        account,
        kind=kind,
        lines=lines,
        source=source,
        description_code=kind,
        description_parameters={**(description_parameters or {}), "grant_number": grant_number},
        occurred_at=posting.now,
    )
    keep_answer(session, write, {"entry_sequence": sequence})
    posting.write()
    audit.record(
        session,
        action=kind,
        actor=actor,
        account_id=account_id,
        details={"entry": sequence, "grant": grant_number, "amount_micros": amount_micros},
    )
    return sequence


def _gone(session: Session, account: AccountState, grant_number: int) -> _Gone:
    """Return what is gone of a grant, and take the grant into the account's state."""
    key = {"account_id": account.account_id, "number": grant_number}
    row = session.execute(_GONE, key).one_or_none()
    if row is None:
        raise NotFound("grant")
    load_grants(session, account, [grant_number])
    return _Gone(int(row[0].scaleb(6)), int(row[1]), int(row[2]))


def _take(
    posting: Posting,
    account: AccountState,
    grant_number: int,
    *,
    amount: int,
    debt: Debt,
    gone: _Gone,
) -> list[Line]:
    """Take what is free of a grant, and the rest as a debt.

    The debt's line says how much money stands behind it; what was given for nothing has the tax
    inside it instead, as where a voucher settles a debt.
    """
    grant = account.grants[grant_number]
    free = min(grant.free_micros, amount)
    lines = [move(grant, -free)] if free > 0 else []
    if amount > free:
        taken = gone.taken_micros
        paid = share_between(
            grant.consideration_micros, taken, taken + amount, grant.amount_micros
        ) + sum(line.consideration_micros for line in lines)
        tax = tax_inside(amount - free - paid, gone.rate_millionths)
        lines.append(posting.owe(account, amount - free, debt, tax, paid))
    return lines


def write_off_debt(
    session: Session,
    *,
    account_id: int,
    amount_micros: int,
    reason: str,
    actor: Actor,
    idempotency_key: str,
) -> int:
    """Give up what an account owes, oldest debt first; return the entry's sequence.

    Raises InvalidInput where the amount is not positive or more than is owed.
    """
    require_system_or_staff(actor, StaffRole.FINANCE)
    require_other_account(actor, account_id)
    posting = Posting(session, [account_id], actor)
    account = posting.accounts[account_id]
    write = WriteOnce(
        account_id, idempotency_key, "write_off_debt", {"amount": amount_micros, "reason": reason}
    )
    known = first_answer(session, write)
    if known is not None:
        return int(known["entry_sequence"])
    if not 0 < amount_micros <= account.debt_micros:
        raise InvalidInput("amount_micros", "more_than_owed")
    sequence = posting.post_entry(
        account,
        kind="write_off",
        lines=_write_off_lines(posting, account, amount_micros),
        source="system",
        description_code="write_off",
        description_parameters={"reason": reason},
        occurred_at=posting.now,
    )
    keep_answer(session, write, {"entry_sequence": sequence})
    posting.write()
    audit.record(
        session,
        action="write_off_debt",
        actor=actor,
        account_id=account_id,
        details={"entry": sequence, "amount_micros": amount_micros, "reason": reason},
    )
    return sequence


def _write_off_lines(posting: Posting, account: AccountState, amount_micros: int) -> Sequence[Line]:
    lines = []
    missing = amount_micros
    debts = sorted(account.debts.items(), key=lambda item: (item[1].opened_at, item[0]))
    for debt, state in debts:
        part = min(state.owed_micros, missing)
        if part > 0:
            lines.append(posting.pay_debt(account, part, debt))
            missing -= part
    return lines
