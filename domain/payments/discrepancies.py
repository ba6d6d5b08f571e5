"""Find payments whose money and credit differ, and refunds that wait for a person.

Credit without money and money without credit are both 0, or stand here with their amounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, cast, func, select, text

from db.models import Dispute, Payment, Refund
from domain.errors import NotFound
from domain.money import Money
from domain.payments.outflows import get_position
from domain.permissions import require

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select, TextualSelect
    from sqlalchemy.orm import Session

    from domain.actors import Actor

# Reversals of what a payment granted, less what of their money has gone out.
_UNAPPLIED = text("""
SELECT c.payment_id
FROM entries e
JOIN payment_credits c ON c.account_id = e.account_id AND c.entry_sequence = e.reverses_sequence
WHERE e.reverses_sequence IS NOT NULL
GROUP BY c.account_id, c.payment_id
HAVING sum(coalesce((e.description_parameters ->> 'paid_micros')::bigint, -e.amount_micros))
  > (SELECT coalesce(sum(r.unapplied_micros), 0) FROM refunds r WHERE r.payment_id = c.payment_id)
  + (SELECT coalesce(sum(d.unapplied_micros), 0) FROM disputes d WHERE d.payment_id = c.payment_id)
""").columns(payment_id=BigInteger)


@dataclass(frozen=True, slots=True)
class PaymentExceptions:
    """What of a payment needs a person.

    `money_without_credit` is here though its credit was reversed; `credit_without_money` went out
    beyond what the payment had.
    """

    money_without_credit: Money
    credit_without_money: Money


def get_exceptions(session: Session, *, payment_id: int, actor: Actor) -> PaymentExceptions:
    """Return what of a payment needs a person, for staff. Raises NotFound."""
    require(actor, "look_up_payments")
    payment = session.get(Payment, payment_id)
    if payment is None:
        raise NotFound("payment")
    position = get_position(session, payment)
    excess = sum(
        session.scalars(
            select(
                cast(
                    func.coalesce(
                        func.sum(
                            row.outflow_micros - row.unapplied_micros - row.clawed_back_micros
                        ),
                        0,
                    ),
                    BigInteger,
                )
            ).where(row.payment_id == payment_id)
        ).one()
        for row in (Refund, Dispute)
    )
    return PaymentExceptions(
        money_without_credit=Money(position.unapplied_micros, payment.pay_currency),
        credit_without_money=Money(excess, payment.pay_currency),
    )


def payments_with_exceptions() -> tuple[Select[Any] | TextualSelect, ...]:
    """Return the queries of payments that need a person for one of these reasons."""
    return (
        *(
            select(row.payment_id).where(
                row.outflow_micros > row.unapplied_micros + row.clawed_back_micros
            )
            for row in (Refund, Dispute)
        ),
        select(Refund.payment_id).where(refund_waits_for_person()),
        _UNAPPLIED,
    )


def refund_waits_for_person() -> ColumnElement[bool]:
    """Return the condition of refunds that finance pays itself, or that were never answered."""
    return Refund.state.in_(("requested", "pending")) & Refund.next_check_at.is_(None)
