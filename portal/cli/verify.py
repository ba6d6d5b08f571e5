"""Commands that prove the books and the audit log.

Exit 0: it holds. Exit 1: something differs. Exit 2: they could not look, so nothing is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from domain import ledger
from domain.audit import chain
from domain.audit.chain import Head
from portal.cli.shared import ACTOR, DifferenceError, commands, connected_database, proving, say
from portal.runtime import database

if TYPE_CHECKING:
    from domain.audit.chain import Break


_BREAKS = {
    "seal_missing": "its link in the hash chain is missing.",
    "row_deleted": "the row was deleted.",
    "row_changed": "the row was changed, or swapped with another.",
    "never_sealed": "the row was written without the hash chain.",
    "cut": "the chain ends before the given head.",
    "other_chain": "the given head belongs to another chain.",
}


@commands.command("verify-ledger")
def verify_ledger() -> None:
    """Recompute every balance; exit 1 where anything differs, 2 where it could not look."""
    with proving():
        _verify_ledger()


def _verify_ledger() -> None:
    with connected_database(needs_keys=False):
        differences = database.transaction(ledger.verify_ledger, actor=ACTOR)
        unpaid = database.transaction(ledger.top_ups_without_payment, actor=ACTOR)
    for difference in differences:
        say(_difference_text(difference))
    if unpaid:
        say(f"Top-ups without a payment, imported by the system: {len(unpaid)}")
    if differences:
        raise DifferenceError(f"The ledger is inconsistent. Differences: {len(differences)}")
    say("The ledger is consistent.")


@commands.command("verify-audit")
def verify_audit(
    head: Annotated[str, typer.Option(help="A chain head that an earlier run printed.")] = "",
) -> None:
    """Verify that no audit record was changed or removed; exit 1 where one was, 2 if unknown."""
    with proving():
        _verify_audit(head)


def _verify_audit(head: str) -> None:
    kept = Head.parse(head) if head else None
    with connected_database(needs_keys=False):
        proof = database.transaction(chain.verify_audit, actor=ACTOR, kept=kept)
    if proof.first_break is not None:
        raise DifferenceError(_break_text(proof.first_break))
    say(f"The audit log is intact: {proof.rows} entries. Waiting for a seal: {proof.waiting}.")
    if proof.head is not None:
        say(f"Chain head, to store outside the database: {proof.head}")


def _break_text(found: Break) -> str:
    where = f"position {found.position}"
    if found.audit_id is not None:
        where += f", row {found.audit_id}"
    return f"The audit log is broken at {where}: {_BREAKS[found.kind]}"


def _difference_text(difference: ledger.Difference) -> str:
    where = f"account {difference.account_id}" if difference.account_id else "no account"
    return (
        f"{difference.check}: {where}, {difference.key}:"
        f" expected {difference.expected}, found {difference.found}"
    )
