"""Use clawed-back credit that becomes available again to pay the debt of its clawback.

What was spent or held of a grant when it was clawed back became debt. Where that spending is
reversed, or the hold released, the credit must not be spent a second time: it pays what is due for
clawbacks, then relieves the grants that had paid for them, and last undoes their write-off. Those
three together are all the debt that clawbacks ever created, so there is always enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from domain.ledger.allocation import move
from domain.ledger.state import load_grants

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.ledger.allocation import GrantState, Line
    from domain.ledger.posting import Posting
    from domain.ledger.state import AccountState

Debt = tuple[str, str]
TAKING_DEBTS: tuple[Debt, ...] = (("", "dispute"), ("", "refund"), ("", "reversal"))
"""The debts, by service and cause, that taking back makes: they concern no service."""

_SETTLED_BY = text("""
SELECT grant_number, CAST(-sum(amount_micros) AS bigint) FROM allocations
WHERE account_id = :account_id AND grant_number > 0
  AND debt_service = :service AND debt_cause = :cause
GROUP BY grant_number HAVING sum(amount_micros) < 0 ORDER BY grant_number DESC
""")
_WRITTEN_OFF = text("""
SELECT e.account_sequence, a.debt_service, a.debt_cause,
  CAST(a.amount_micros + (
    SELECT coalesce(sum(r.amount_micros), 0)
    FROM entries q JOIN allocations r USING (account_id, account_sequence)
    WHERE q.account_id = e.account_id AND q.reverses_sequence = e.account_sequence
      AND r.debt_service = a.debt_service AND r.debt_cause = a.debt_cause
  ) AS bigint)
FROM entries e JOIN allocations a USING (account_id, account_sequence)
WHERE e.account_id = :account_id AND e.kind = 'write_off' AND a.debt_cause = ANY(:causes)
ORDER BY e.account_sequence DESC, a.line_number
""")


def settlers(session: Session, account: AccountState, debt: Debt) -> list[tuple[int, int]]:
    """Return the grants that paid a debt and how much each in micros, the newest grant first."""
    key = {"account_id": account.account_id, "service": debt[0], "cause": debt[1]}
    return [(number, paid) for number, paid in session.execute(_SETTLED_BY, key)]


def settle_clawbacks(posting: Posting, account: AccountState) -> set[int]:
    """Pay for clawbacks with credit that became available after its clawback.

    Returns the numbers of the grants that were relieved: they hold credit again.
    """
    relieved: set[int] = set()
    for grant in [grant for grant in account.burning if grant.clawed_back_micros]:
        amount = min(grant.free_micros, grant.remaining_micros - grant.kept_micros)
        if amount > 0:
            posting.write_facts()  # the query below is only to count them
            owed = sum(account.due_micros(debt) for debt in TAKING_DEBTS)
            lines = _relieve(posting, account, grant, max(amount - owed, 0))
            relief = [line for line in lines if line.amount_micros > 0]
            left = amount - sum(line.amount_micros for line in relief)
            _undo_write_off(posting, account, max(left - owed, 0))
            posting.post_settlement(
                account, [*lines, *_settle_debts(posting, account, grant, left)]
            )
            relieved |= {line.grant_number for line in relief}
    return relieved


def _settle_debts(
    posting: Posting, account: AccountState, grant: GrantState, amount: int
) -> list[Line]:
    lines: list[Line] = []
    for debt in TAKING_DEBTS:
        part = min(amount, account.due_micros(debt))
        if part > 0:
            lines += [posting.pay_debt(account, part, debt), move(grant, -part, debt=debt)]
            amount -= part
    return lines


def _relieve(posting: Posting, account: AccountState, grant: GrantState, amount: int) -> list[Line]:
    """Relieve grants that paid for clawbacks, as far as they keep it: the newest grant first."""
    lines: list[Line] = []
    for debt in TAKING_DEBTS if amount else ():
        for number, paid in settlers(posting.session, account, debt):
            load_grants(posting.session, account, [number])
            other = account.grants[number]
            part = min(amount, paid, other.kept_micros - other.remaining_micros)
            if part > 0 and other is not grant:
                lines += [move(other, part, debt=debt), move(grant, -part, debt=debt)]
                amount -= part
    return lines


def _undo_write_off(posting: Posting, account: AccountState, amount: int) -> None:
    """Restore debt of clawbacks that was written off, the newest first: it is paid after all."""
    key = {"account_id": account.account_id, "causes": [cause for _, cause in TAKING_DEBTS]}
    rows = posting.session.execute(_WRITTEN_OFF, key).all() if amount else ()
    for sequence, service, cause, written_off in rows:
        part = min(amount, written_off)
        if part > 0:
            posting.post_entry(
                account,
                kind="reversal",
                lines=[posting.record_liability(account, part, (service, cause), 0)],
                source="system",
                description_code="reversal",
                description_parameters={"reverses": sequence},
                occurred_at=posting.now,
                reverses_sequence=sequence,
            )
            amount -= part
