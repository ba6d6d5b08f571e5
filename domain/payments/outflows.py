"""Post money that leaves a payment again, and claw back the credit that it bought.

Refunds and disputes are outflows. An outflow is covered by money whose credit staff had reversed,
then by credit that is clawed back; what is left is more than the payment had, and waits for staff.
docs/payments.md has the rules, and the ledger accounts of a payment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from db.models import Dispute, PaymentCredit, Refund
from domain import clock, ledger
from domain.ledger import chart_of_accounts as chart
from domain.money import Money, share_between
from domain.payments.records import cash_account, grant_terms, post_gateway_money

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from db.models import Payment
    from domain.actors import Actor

Outflow = Refund | Dispute

STANDING_REFUNDS = frozenset({"requested", "pending", "succeeded"})

_LOCK_ACCOUNT = text(
    "SELECT account_id FROM account_balances WHERE account_id = :account_id FOR NO KEY UPDATE"
)
_GRANTS = text("""
SELECT g.grant_number, g.amount_micros - r.clawed_back_micros AS left_micros
FROM grants g JOIN grant_balances r USING (account_id, grant_number)
WHERE g.account_id = :account_id AND g.kind = 'top_up' AND g.origin = :reference
ORDER BY g.grant_number DESC
""")
_REVERSED = text("""
SELECT coalesce(sum(coalesce((e.description_parameters ->> 'paid_micros')::bigint,
                             -e.amount_micros)), 0)::bigint
FROM grants g
JOIN entries e ON e.account_id = g.account_id AND e.reverses_sequence = g.entry_sequence
WHERE g.account_id = :account_id AND g.kind = 'top_up' AND g.origin = :reference
""")


@dataclass(frozen=True, slots=True)
class _Moved:
    """The money whose credit moved (negative: it was granted again), and the entry for it."""

    pay_micros: int = 0
    entry_sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """What is left of a payment: its money and credit that nothing has taken, newest grant first.

    `unapplied_micros` is money whose credit staff reversed and which has not gone out.
    """

    grant_numbers: tuple[int, ...]
    credit_micros: int
    pay_micros: int
    unapplied_micros: int


def lock_account(session: Session, account_id: int) -> None:
    """Lock an account for posting: always after its payment, and before anything else of it."""
    session.execute(_LOCK_ACCOUNT, {"account_id": account_id})


def is_booked(payment: Payment, row: Outflow) -> bool:
    """Return whether a refund or dispute concerns money that the payment was credited for."""
    return payment.grant_number is not None and row.gateway_payment_id in {
        None,
        payment.gateway_payment_id,
    }


def is_same_money(first: str | None, second: str | None) -> bool:
    """Return whether two gateway ids may be of the same money; a missing id matches any."""
    return None in {first, second} or first == second


def get_position(session: Session, payment: Payment) -> Position:
    """Return what is left of a payment, whose account is locked."""
    if payment.grant_number is None:
        return Position((), 0, 0, 0)
    key = {"account_id": payment.account_id, "reference": payment.reference}
    grants = session.execute(_GRANTS, key).all()
    reversed_micros: int = session.execute(_REVERSED, key).scalar_one()
    rows = list(_outflows(session, payment))
    return Position(
        grant_numbers=tuple(row.grant_number for row in grants),
        credit_micros=sum(row.left_micros for row in grants),
        pay_micros=payment.pay_micros
        - reversed_micros
        - sum(row.clawed_back_micros for row in rows),
        unapplied_micros=reversed_micros - sum(row.unapplied_micros for row in rows),
    )


def _outflows(session: Session, payment: Payment) -> Iterator[Outflow]:
    """Yield the payment's refunds, then its disputes, the oldest first."""
    of_payment = (Refund.payment_id == payment.id, Refund.account_id == payment.account_id)
    yield from session.scalars(select(Refund).where(*of_payment).order_by(Refund.id))
    disputes = select(Dispute).where(Dispute.payment_id == payment.id)
    yield from session.scalars(disputes.order_by(Dispute.id))


# ── Changing an outflow ───────────────────────────────────────────────────────────────────────
def change_outflow(
    session: Session,
    payment: Payment,
    row: Outflow,
    outflow_micros: int,
    *,
    actor: Actor,
    **changes: object,
) -> int | None:
    """Set how much a refund or dispute takes out, and adjust the credit accordingly.

    The payment and its account are locked. `changes` are set on the row in the same statement, such
    as its state. What the change frees covers what other outflows of the payment lack.

    Returns:
        The entry of the credit that followed, or None where none did.
    """
    session.flush()
    with session.no_autoflush:  # until the row is consistent again
        change = outflow_micros - row.outflow_micros
        if change > 0:
            moved = _cover(session, payment, row, change, actor)
        else:
            moved = _release(session, payment, row, -change, actor)
        row.outflow_micros = outflow_micros
        row.revision += 1
        for name, value in changes.items():
            setattr(row, name, value)
        _count_outflow(payment, row, change)
        session.flush()
    _post_uncovered(session, payment, row, change - moved.pay_micros, actor)
    if change < 0:
        _cover_excess(session, payment, row, actor)
    return moved.entry_sequence


def _count_outflow(payment: Payment, row: Outflow, change: int) -> None:
    if isinstance(row, Refund):
        payment.refunded_micros += change
    else:
        payment.disputed_micros += change


def _cover(session: Session, payment: Payment, row: Outflow, micros: int, actor: Actor) -> _Moved:
    """Cover money that goes out by unapplied money, then credit."""
    position = get_position(session, payment)
    unapplied = min(micros, position.unapplied_micros)
    row.unapplied_micros += unapplied
    clawed_back = min(micros - unapplied, max(position.pay_micros, 0))
    if clawed_back <= 0:
        return _Moved()
    credit = _credit_share(payment, position, clawed_back)
    if credit <= 0:
        return _Moved()
    is_exchanged = payment.pay_currency != payment.credit_currency
    number = _next_number(session, payment)
    sequence = ledger.claw_back_credit(
        session,
        account_id=payment.account_id,
        kind="refund" if isinstance(row, Refund) else "dispute",
        grant_numbers=position.grant_numbers,
        amount_micros=credit,
        source=payment.gateway,
        actor=actor,
        idempotency_key=f"payment:{payment.reference}:{number}",
        paid_micros=clawed_back if is_exchanged else None,
        description_parameters={"origin": payment.reference},
    )
    row.clawed_back_micros += clawed_back
    row.credit_micros += credit
    keep_credit(session, payment, row, sequence, credit=-credit, pay=-clawed_back, number=number)
    return _Moved(clawed_back, sequence)


def _credit_share(payment: Payment, position: Position, pay_micros: int) -> int:
    """Return the credit that goes with an amount of money: all that is left with the last of it."""
    if pay_micros == position.pay_micros:
        return position.credit_micros
    share = share_between(payment.credit_micros, 0, pay_micros, payment.pay_micros)
    return max(min(share, position.credit_micros - 1), 1)


def _release(session: Session, payment: Payment, row: Outflow, micros: int, actor: Actor) -> _Moved:
    """Release what covered money that no longer goes out."""
    excess = row.outflow_micros - row.unapplied_micros - row.clawed_back_micros
    missing = micros - min(micros, excess)
    restored = min(missing, row.clawed_back_micros)
    entry = _restore(session, payment, row, restored, actor) if restored > 0 else None
    row.unapplied_micros -= missing - restored
    return _Moved(-restored, entry)


def _restore(
    session: Session, payment: Payment, row: Outflow, pay_micros: int, actor: Actor
) -> int:
    """Grant credit again that had been clawed back for an amount of money; return the entry."""
    credit = row.credit_micros
    if pay_micros < row.clawed_back_micros:
        share = share_between(credit, 0, pay_micros, row.clawed_back_micros)
        credit = max(min(share, credit - 1), 1)
    code = "refund_failed" if isinstance(row, Refund) else "dispute_won"
    number = _next_number(session, payment)
    posted = ledger.add_grant(
        session,
        account_id=payment.account_id,
        terms=grant_terms(payment, credit, pay_micros),
        source=payment.gateway,
        actor=actor,
        idempotency_key=f"payment:{payment.reference}:{number}",
        description_code=code,
    )
    row.clawed_back_micros -= pay_micros
    row.credit_micros -= credit
    keep_credit(
        session, payment, row, posted.entry_sequence, credit=credit, pay=pay_micros, number=number
    )
    return posted.entry_sequence


def _cover_excess(session: Session, payment: Payment, changed: Outflow, actor: Actor) -> None:
    """Use what was freed to cover what other outflows lack, the oldest first."""
    for row in _outflows(session, payment):
        excess = row.outflow_micros - row.unapplied_micros - row.clawed_back_micros
        if row is changed or excess <= 0 or not is_booked(payment, row):
            continue
        with session.no_autoflush:
            moved = _cover(session, payment, row, excess, actor)
            row.revision += 1
            session.flush()
        _post_uncovered(session, payment, row, -moved.pay_micros, actor)


def _post_uncovered(
    session: Session, payment: Payment, row: Outflow, micros: int, actor: Actor
) -> None:
    """Post the part of a dispute's loss without credit behind it: money that was due back anyway.

    A refund needs none: it is a payable until it is paid, whatever covers it.
    """
    if isinstance(row, Dispute):
        post_transfer(
            session,
            payment,
            kind="dispute_uncovered",
            debit=chart.REFUNDS_PAYABLE.code,
            credit=chart.DISPUTED_FUNDS.code,
            micros=micros,
            key=f"dispute:{row.id}:{row.revision}:uncovered",
            actor=actor,
        )


def post_transfer(
    session: Session,
    payment: Payment,
    *,
    kind: str,
    debit: str,
    credit: str,
    micros: int,
    key: str,
    actor: Actor,
) -> None:
    """Post money from one account of the chart to another; a negative amount the other way."""
    if micros == 0:
        return
    if micros < 0:
        debit, credit = credit, debit
    post_gateway_money(
        session,
        payment,
        kind=kind,
        debit=debit,
        credit=credit,
        amount=Money(abs(micros), payment.pay_currency),
        key=key,
        actor=actor,
    )


def post_refund_paid(
    session: Session, payment: Payment, refund: Refund, micros: int, actor: Actor
) -> None:
    """Post that money of a refund was paid out, or (negative) that it was returned."""
    refund.revision += 1
    post_transfer(
        session,
        payment,
        kind="refund_paid",
        debit=chart.REFUNDS_PAYABLE.code,
        credit=cash_account(payment),
        micros=micros,
        key=f"refund:{refund.id}:{refund.revision}:paid",
        actor=actor,
    )


# ── What each entry of a payment is for ───────────────────────────────────────────────────────
def keep_credit(
    session: Session,
    payment: Payment,
    row: Outflow | None,
    entry_sequence: int | None,
    *,
    credit: int,
    pay: int,
    number: int,
) -> None:
    """Record what an entry did to the credit of a payment, and for which refund or dispute."""
    session.add(
        PaymentCredit(
            account_id=payment.account_id,
            payment_id=payment.id,
            number=number,
            refund_id=row.id if isinstance(row, Refund) else None,
            dispute_id=row.id if isinstance(row, Dispute) else None,
            entry_sequence=entry_sequence,
            credit_micros=credit,
            pay_micros=pay,
            posted_at=clock.now(session),
        )
    )


def _next_number(session: Session, payment: Payment) -> int:
    highest = session.scalars(
        select(func.max(PaymentCredit.number)).where(
            PaymentCredit.account_id == payment.account_id,
            PaymentCredit.payment_id == payment.id,
        )
    ).one()
    return (highest or 0) + 1


def merge_reversal(session: Session, payment: Payment, refund: Refund, dispute: Dispute) -> None:
    """Merge a reversal into the dispute that it belongs to; nothing moves in the ledger."""
    session.flush()
    with session.no_autoflush:
        if refund.credit_micros:
            number = _next_number(session, payment)
            credit, pay = refund.credit_micros, refund.clawed_back_micros
            keep_credit(session, payment, refund, None, credit=credit, pay=pay, number=number)
            keep_credit(
                session, payment, dispute, None, credit=-credit, pay=-pay, number=number + 1
            )
        outflow = refund.outflow_micros
        dispute.lost_micros += refund.pay_micros
        dispute.outflow_micros += outflow
        dispute.unapplied_micros += refund.unapplied_micros
        dispute.clawed_back_micros += refund.clawed_back_micros
        dispute.credit_micros += refund.credit_micros
        payment.refunded_micros -= outflow
        payment.disputed_micros += outflow
        refund.state, refund.settled_at = "merged", clock.now(session)
        refund.outflow_micros = refund.unapplied_micros = 0
        refund.clawed_back_micros = refund.credit_micros = 0
        refund.next_check_at = None
    session.flush()
