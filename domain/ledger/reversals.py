"""Reverse what was posted wrongly, and write off debt."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from domain import audit
from domain.errors import InvalidInput, NotFound, ReversalExceedsOriginal
from domain.ledger.allocation import PAID_KINDS, is_expiry_due, move
from domain.ledger.clawbacks import GrantPart, credit_grant, take_credit, taken_parameters
from domain.ledger.debt_settlement import settle_clawbacks, settlers
from domain.ledger.expiry import expire
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.ledger.posting import Posting
from domain.ledger.state import load_grants
from domain.money import share_between
from domain.permissions import allows, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.ledger.allocation import Line
    from domain.ledger.debt_settlement import Debt
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


class _Reversible(NamedTuple):
    """What is left to reverse of one line, and was reversed: on a grant, or on a debt."""

    grant_number: int
    debt: Debt | None
    amount_micros: int
    reversed_micros: int
    original_micros: int
    original_tax_micros: int


def reverse_entry(
    session: Session,
    *,
    account_id: int,
    entry_sequence: int,
    reason: str,
    actor: Actor,
    idempotency_key: str,
    amount_micros: int | None = None,
    only_unspent: bool = False,
) -> int:
    """Reverse a charge or a credit, in whole or in part; return the reversal's sequence.

    `amount_micros` is positive; None reverses all that is left. A charge is restored in the
    opposite order of its spending: debt first (debt that was written off stays so). What reaches an
    expired grant expires again at once. The reversal of a credit takes what is available of its
    grant; what was spent becomes debt, what expired or was clawed back before does not. Credit that
    reaches a grant which was clawed back since pays the debt of that clawback. With `only_unspent`,
    and always for an actor who may not reverse paid credit, a credit's reversal ends at what is
    available of its grant. Raises ReversalExceedsOriginal, NotFound, and InvalidInput for an entry
    that cannot be reversed.
    """
    require(actor, "reverse_entry", account_id)
    posting = Posting(session, [account_id], actor)
    account = posting.accounts[account_id]
    request = _request(entry_sequence, amount_micros, reason, only_unspent=only_unspent)
    write = IdempotentRequest(account_id, idempotency_key, "reverse_entry", request)
    known = stored_response(session, write)
    if known is not None:
        return int(known["entry_sequence"])
    only_unspent = only_unspent or not allows(actor, "reverse_paid_credit", account_id)
    original = _original(session, account_id, entry_sequence)
    if original.kind in PAID_KINDS:
        require(actor, "reverse_paid_credit", account_id)
    left = _left_to_reverse(session, account, entry_sequence)
    amount = _checked_amount(
        session, account, original, left, amount_micros, only_unspent=only_unspent
    )
    lines, taken = _reversing_lines(posting, account, left, amount, kind=original.kind)
    sequence = posting.post_entry(
        account,
        kind="reversal",
        lines=lines,
        service=original.service,
        source=original.source,
        description_code="reversal",
        description_parameters={"reverses": entry_sequence, "reason": reason, **taken},
        occurred_at=posting.now,
        reverses_sequence=entry_sequence,
    )
    relieved = settle_clawbacks(posting, account)
    gained = {line.grant_number for line in lines if line.amount_micros > 0}
    _expire_due(posting, account, relieved | gained)
    store_response(session, write, {"entry_sequence": sequence})
    posting.write()
    details = {"entry": sequence, "reverses": entry_sequence, "reason": reason}
    audit.record(
        session, action="reverse_entry", actor=actor, account_id=account_id, details=details
    )
    return sequence


def _request(
    entry_sequence: int, amount_micros: int | None, reason: str, *, only_unspent: bool
) -> dict[str, Any]:
    request = {"entry": entry_sequence, "amount": amount_micros, "reason": reason}
    return {**request, "only_unspent": True} if only_unspent else request


def _expire_due(posting: Posting, account: AccountState, grant_numbers: set[int]) -> None:
    """Expire again what credit has reached after its end."""
    for number in sorted(grant_numbers):
        grant = account.grants[number]
        if is_expiry_due(grant, posting.now, account.expiry_grace):
            expire(posting, account, grant)


def reversible_micros(
    session: Session,
    *,
    account_id: int,
    entry_sequence: int,
    actor: Actor,
    only_unspent: bool = False,
) -> int:
    """Return how much of an entry `reverse_entry` would reverse now, 0 where nothing is left.

    The account stays locked until the transaction ends. Raises as `reverse_entry` does.
    """
    require(actor, "reverse_entry", account_id)
    account = Posting(session, [account_id], actor).accounts[account_id]
    original = _original(session, account_id, entry_sequence)
    left = _left_to_reverse(session, account, entry_sequence)
    only_unspent = only_unspent or not allows(actor, "reverse_paid_credit", account_id)
    return _reversible(session, account, original, left, only_unspent=only_unspent)


def _reversible(
    session: Session,
    account: AccountState,
    original: Row[Any],
    left: Sequence[_Reversible],
    *,
    only_unspent: bool,
) -> int:
    reversible = sum(line.amount_micros for line in left)
    if original.kind == "charge":
        return reversible
    credit = credit_grant(session, account, left[0].grant_number)
    kept = min(credit.kept_micros, credit.free_micros) if only_unspent else credit.kept_micros
    return max(min(reversible, kept), 0)


def _original(session: Session, account_id: int, sequence: int) -> Row[Any]:
    key = {"account_id": account_id, "sequence": sequence}
    original = session.execute(_ORIGINAL, key).one_or_none()
    if original is None:
        raise NotFound("entry")
    if original.kind not in REVERSIBLE_KINDS:
        raise InvalidInput("entry", "not_reversible", kind=original.kind)
    return original


def _checked_amount(
    session: Session,
    account: AccountState,
    original: Row[Any],
    left: Sequence[_Reversible],
    amount_micros: int | None,
    *,
    only_unspent: bool,
) -> int:
    reversible = _reversible(session, account, original, left, only_unspent=only_unspent)
    amount = reversible if amount_micros is None else amount_micros
    if not 0 < amount <= reversible:
        raise ReversalExceedsOriginal(amount, reversible)
    return amount


def _reversing_lines(
    posting: Posting,
    account: AccountState,
    left: Sequence[_Reversible],
    amount: int,
    *,
    kind: str,
) -> tuple[list[Line], dict[str, Any]]:
    """Return the lines that reverse a charge or a credit, and what the entry says of them."""
    if kind == "charge":
        return _charge_lines(posting, account, left, amount), {}
    grant = credit_grant(posting.session, account, left[0].grant_number)
    part = GrantPart(grant, amount)
    lines = take_credit(posting, account, part, ("", "reversal"))
    return lines, taken_parameters(posting.session, account.account_id, [part], None)


def _charge_lines(
    posting: Posting, account: AccountState, left: Sequence[_Reversible], amount: int
) -> list[Line]:
    lines: list[Line] = []
    for line in left:
        part = min(line.amount_micros, amount)
        if part > 0:
            lines.extend(_give_back(posting, account, line, part))
            amount -= part
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
    return account.due_micros(debt) + sum(paid for _, paid in settlers(session, account, debt))


def _give_back(posting: Posting, account: AccountState, line: _Reversible, part: int) -> list[Line]:
    if line.debt is None:
        load_grants(posting.session, account, [line.grant_number])
        return [move(account.grants[line.grant_number], part)]
    debt = line.debt
    lines: list[Line] = []
    to_debt = min(account.due_micros(debt), part)
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
    for number, paid in settlers(posting.session, account, debt):
        part = min(paid, missing)
        if part > 0:
            load_grants(posting.session, account, [number])
            lines.append(move(account.grants[number], part, debt=debt))
            missing -= part
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
    """Write off an account's amount due, oldest debt first; return the entry's sequence.

    Raises InvalidInput where the amount is not positive or more than is due.
    """
    require(actor, "write_off_debt", account_id)
    posting = Posting(session, [account_id], actor)
    account = posting.accounts[account_id]
    write = IdempotentRequest(
        account_id, idempotency_key, "write_off_debt", {"amount": amount_micros, "reason": reason}
    )
    known = stored_response(session, write)
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
    store_response(session, write, {"entry_sequence": sequence})
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
        part = min(state.due_micros, missing)
        if part > 0:
            lines.append(posting.pay_debt(account, part, debt))
            missing -= part
    return lines
