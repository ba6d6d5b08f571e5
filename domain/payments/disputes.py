"""Handle disputes: freeze the account when one opens, claw back the credit when it is lost."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import Dispute, Payment, Refund
from domain import clock
from domain.gateways.interface import DisputeState, DisputeUpdate, Outcome
from domain.ledger import chart_of_accounts as chart
from domain.money import Money, share_of
from domain.payments.fees import book_dispute_fee
from domain.payments.freezes import CAUSE, freeze, thaw_if_over
from domain.payments.outflows import (
    STANDING_REFUNDS,
    change_outflow,
    is_booked,
    is_same_money,
    lock_account,
    merge_reversal,
    post_transfer,
)
from domain.payments.records import (
    add_event,
    add_event_once,
    cash_account,
    entry_details,
    pay_amount,
    report_discrepancy,
)
from domain.payments.review_cases import DISPUTE_OF_ANOTHER, UNKNOWN_OUTCOME

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.interface import PaymentUpdate

_log = logging.getLogger(__name__)

DENIED = "denied"
"""The reason of a dispute that is a capture which the gateway denied after all."""

DISPUTE_EXCEEDS_PAYMENT = "dispute_exceeds_payment"
_INQUIRIES = {
    DisputeState.INQUIRY: "dispute_inquiry",
    DisputeState.INQUIRY_CLOSED: "dispute_inquiry_closed",
}


@dataclass(frozen=True, slots=True)
class _Standing:
    """The state of a dispute's row from now on."""

    state: str
    pay_micros: int
    lost_micros: int
    closed_at: datetime | None


def apply_dispute(
    session: Session, payment: Payment, update: DisputeUpdate, *, actor: Actor
) -> Outcome:
    """Open, lose or win a dispute of a locked payment, or reopen it for an appeal.

    An inquiry is reported to staff: no money moves, so nothing is frozen or posted. Before the
    payment is credited a dispute is recorded, and booked with the credit.
    """
    if update.state in _INQUIRIES:
        return _note_inquiry(session, payment, update, actor)
    lock_account(session, payment.account_id)
    dispute, other = _find(session, payment, update)
    if other is not None:
        return _report_of_another(session, payment, update, other, actor)
    is_new = dispute is None
    if dispute is not None:
        session.refresh(dispute)
        is_ended = dispute.state != DisputeState.OPEN.value
        # Finance has closed it, or the gateway itself by a known code.
        if _is_old(dispute, update) or (is_ended and update.unknown_outcome is not None):
            return Outcome.REPEATED
    else:
        dispute = _write_down(session, payment, update)
    is_reported = _report_unknown_outcome(session, payment, dispute, update, actor)
    if not is_new and not _is_news(payment, dispute, update):
        outcome = book_dispute_fee(session, payment, dispute, update, actor)
        return Outcome.RECORDED if is_reported else outcome
    _merge_reversals(session, payment, dispute)
    _move(session, payment, dispute, update, actor, is_new=is_new)
    book_dispute_fee(session, payment, dispute, update, actor)
    return Outcome.RECORDED


def deny_money(
    session: Session, payment: Payment, update: PaymentUpdate, *, actor: Actor
) -> Outcome:
    """Claw back the credit of a capture that the gateway denied after reporting it as paid."""
    if update.gateway_payment_id is None:
        raise ValueError("a denial names the money")
    paid_at, denied_at = payment.paid_at, update.occurred_at
    if (
        paid_at is not None
        and denied_at is not None
        # From before the payment was created, it only shows that the gateway's clock is slow.
        and payment.created_at <= denied_at < paid_at
    ):
        return Outcome.REPEATED  # paid since
    return apply_dispute(session, payment, _denial(payment, update, DisputeState.LOST), actor=actor)


def restore_money(
    session: Session, payment: Payment, update: PaymentUpdate, *, actor: Actor
) -> Outcome:
    """Grant credit again where a capture that was denied is paid after all."""
    denial = _denial(payment, update, DisputeState.WON)
    dispute, _ = _find(session, payment, denial)
    if dispute is None or update.occurred_at is None:
        return Outcome.REPEATED
    return apply_dispute(session, payment, denial, actor=actor)


def _denial(payment: Payment, update: PaymentUpdate, state: DisputeState) -> DisputeUpdate:
    return DisputeUpdate(
        gateway_dispute_id=f"{DENIED}:{update.gateway_payment_id}",
        state=state,
        amount=pay_amount(payment),
        gateway_payment_id=update.gateway_payment_id,
        payment_reference=payment.reference,
        reason=DENIED,
        occurred_at=update.occurred_at,
        stated_at=update.occurred_at,
    )


def _find(
    session: Session, payment: Payment, update: DisputeUpdate
) -> tuple[Dispute | None, Dispute | None]:
    """Return the payment's row of a dispute, by either id, or else that of another payment.

    Each id belongs to one dispute, so only one with both ids can be the payment's.
    """
    rows = session.scalars(
        select(Dispute)
        .where(
            Dispute.gateway == payment.gateway,
            Dispute.gateway_dispute_id.in_({update.gateway_dispute_id, update.other_dispute_id}),
        )
        .order_by(Dispute.id)
    ).all()
    for row in rows:
        if row.payment_id == payment.id:
            return row, None
        if row.gateway_dispute_id == update.gateway_dispute_id:
            return None, row
    return None, None


def _report_of_another(
    session: Session, payment: Payment, update: DisputeUpdate, other: Dispute, actor: Actor
) -> Outcome:
    """Have finance review a dispute that is booked on another payment."""
    reference = session.get_one(Payment, other.payment_id).reference
    details = {**_by_gateway(update), "expected": None, "other_payment": reference}
    is_new = report_discrepancy(session, payment, DISPUTE_OF_ANOTHER, actor=actor, details=details)
    return Outcome.RECORDED if is_new else Outcome.REPEATED


def _report_unknown_outcome(
    session: Session, payment: Payment, dispute: Dispute, update: DisputeUpdate, actor: Actor
) -> bool:
    """Have finance close a dispute that the gateway closed with an unknown code."""
    if update.unknown_outcome is None:
        return False
    named = {"gateway_dispute": dispute.gateway_dispute_id}  # an update may use its other id
    details = {**_by_gateway(update), **named, "code": update.unknown_outcome}
    return report_discrepancy(session, payment, UNKNOWN_OUTCOME, actor=actor, details=details)


def _by_gateway(update: DisputeUpdate) -> dict[str, object]:
    return {
        "gateway_dispute": update.gateway_dispute_id,
        "gateway_payment": update.gateway_payment_id,
        "amount": [update.amount.micros, update.amount.currency],
    }


def find_open_dispute(
    session: Session, payment: Payment, gateway_dispute_id: str
) -> Dispute | None:
    """Return a dispute of a payment that waits for its outcome, or None."""
    return session.scalars(
        select(Dispute).where(
            Dispute.payment_id == payment.id,
            Dispute.gateway_dispute_id == gateway_dispute_id,
            Dispute.state == DisputeState.OPEN.value,
        )
    ).one_or_none()


def end_dispute(
    session: Session, payment: Payment, dispute: Dispute, *, is_lost: bool, actor: Actor
) -> None:
    """Close an open dispute of a locked payment as a person read its outcome at the gateway."""
    update = DisputeUpdate(
        gateway_dispute_id=dispute.gateway_dispute_id,
        state=DisputeState.LOST if is_lost else DisputeState.WON,
        amount=Money(dispute.pay_micros, payment.pay_currency),
        gateway_payment_id=dispute.gateway_payment_id,
        payment_reference=payment.reference,
        stated_at=max(filter(None, (clock.now(session), dispute.stated_at))),
    )
    apply_dispute(session, payment, update, actor=actor)


def _note_inquiry(
    session: Session, payment: Payment, update: DisputeUpdate, actor: Actor
) -> Outcome:
    if any(_find(session, payment, update)):
        return Outcome.REPEATED  # it has become a dispute since
    details = {"inquiry": update.gateway_dispute_id, "reason": update.reason}
    is_new = add_event_once(
        session, payment, _INQUIRIES[update.state], actor=actor, details=details
    )
    return Outcome.RECORDED if is_new else Outcome.REPEATED


# ── What counts ───────────────────────────────────────────────────────────────────────────────
def _write_down(session: Session, payment: Payment, update: DisputeUpdate) -> Dispute:
    """Record a dispute as open, for all that is disputed; nothing of it is booked yet."""
    now = clock.now(session)
    dispute = Dispute(
        account_id=payment.account_id,
        payment_id=payment.id,
        gateway=payment.gateway,
        gateway_payment_id=update.gateway_payment_id,
        gateway_dispute_id=update.gateway_dispute_id,
        state=DisputeState.OPEN.value,
        pay_micros=_disputed_micros(payment, update),
        lost_micros=0,
        held_micros=0,
        outflow_micros=0,
        unapplied_micros=0,
        clawed_back_micros=0,
        credit_micros=0,
        fee_micros=0,
        revision=0,
        reason=update.reason,
        opened_at=min(update.occurred_at or now, now),
        respond_by=update.respond_by,
    )
    session.add(dispute)
    session.flush()
    return dispute


def _disputed_micros(payment: Payment, update: DisputeUpdate) -> int:
    """Return the disputed amount in the currency that was paid; all of it where another is named.

    It may be more than was paid, by a bank's own rate for instance: that is lost all the same.
    """
    if update.amount.currency != payment.pay_currency:
        return payment.pay_micros
    return max(update.amount.micros, 1)


def _lost_micros(payment: Payment, update: DisputeUpdate, disputed: int) -> int:
    """Return the part that the customer got, where the dispute is closed."""
    if update.lost is None:
        return disputed if update.state is DisputeState.LOST else 0
    if update.lost.currency == payment.pay_currency:
        lost = update.lost.micros
    elif update.lost.currency == update.amount.currency and update.amount.micros > 0:
        part = min(max(update.lost.micros, 0), update.amount.micros)
        lost = share_of(disputed, part, update.amount.micros)
    else:
        lost = disputed
    return min(max(lost, 0), disputed)


def _is_news(payment: Payment, dispute: Dispute, update: DisputeUpdate) -> bool:
    """Return whether a statement that is not old differs from the dispute's state.

    Of two outcomes of the same moment the greater loss counts.
    """
    is_open = update.state is DisputeState.OPEN
    was_open = dispute.state == DisputeState.OPEN.value
    disputed = _disputed_micros(payment, update)
    lost = dispute.lost_micros if is_open else _lost_micros(payment, update, disputed)
    is_same_end = is_open == was_open and lost == dispute.lost_micros
    if not is_open and not was_open and update.stated_at == dispute.stated_at is not None:
        return lost > dispute.lost_micros
    if update.stated_at is not None:
        dispute.stated_at = update.stated_at
    is_same_claim = disputed == dispute.pay_micros and update.respond_by in {
        None,
        dispute.respond_by,
    }
    return not is_same_end or (is_open and not is_same_claim)


def _is_old(dispute: Dispute, update: DisputeUpdate) -> bool:
    """Return whether a statement is older than what is known.

    Of two statements of the same moment the outcome counts; one without a time reopens nothing.
    """
    is_less = update.state is DisputeState.OPEN and dispute.state != DisputeState.OPEN.value
    if update.stated_at is None:
        return is_less
    if dispute.stated_at is None:
        return False
    return update.stated_at < dispute.stated_at or (
        update.stated_at == dispute.stated_at and is_less
    )


def _merge_reversals(session: Session, payment: Payment, dispute: Dispute) -> None:
    """Merge into a dispute the reversals that the gateway made before it reported the dispute."""
    rows = session.scalars(
        select(Refund)
        .where(
            Refund.payment_id == payment.id,
            Refund.is_reversal,
            Refund.state.in_(STANDING_REFUNDS),
        )
        .order_by(Refund.id)
    ).all()
    for row in rows:
        is_same = is_same_money(row.gateway_payment_id, dispute.gateway_payment_id)
        fits = dispute.lost_micros + row.pay_micros <= dispute.pay_micros
        if is_same and fits and not dispute.held_micros:
            dispute.state, dispute.closed_at = DisputeState.OPEN.value, None
            merge_reversal(session, payment, row, dispute)


# ── Moving it on ──────────────────────────────────────────────────────────────────────────────
def _move(
    session: Session,
    payment: Payment,
    dispute: Dispute,
    update: DisputeUpdate,
    actor: Actor,
    *,
    is_new: bool,
) -> None:
    """Move a dispute to the state that the gateway reports."""
    was = None if is_new else dispute.state
    disputed = max(_disputed_micros(payment, update), 0)
    is_open = update.state is DisputeState.OPEN
    lost = (
        min(dispute.lost_micros, disputed) if is_open else _lost_micros(payment, update, disputed)
    )
    state = DisputeState.OPEN if is_open else DisputeState.LOST if lost else DisputeState.WON
    if update.stated_at is not None:
        dispute.stated_at = update.stated_at
    dispute.respond_by = update.respond_by or dispute.respond_by
    dispute.reason = update.reason or dispute.reason
    standing = _Standing(
        state=state.value,
        pay_micros=disputed,
        lost_micros=lost,
        closed_at=None if is_open else clock.now(session),
    )
    entry = None
    if is_booked(payment, dispute):
        entry = _book(session, payment, dispute, standing, actor)
    else:
        for name, value in asdict(standing).items():
            setattr(dispute, name, value)
        session.flush()
    amount = [lost or disputed, payment.pay_currency]
    details = {"dispute": dispute.id, "amount": amount, **entry_details(entry)}
    if was == state.value and is_open:
        kind = "dispute_changed"
    elif is_open and was is not None:
        kind = "dispute_reopened"
    else:
        kind = {"open": "dispute_opened", "lost": "dispute_lost", "won": "dispute_won"}[state.value]
    add_event(session, payment, kind, actor=actor, details=details)


def _book(
    session: Session, payment: Payment, dispute: Dispute, standing: _Standing, actor: Actor
) -> int | None:
    """Book the present state of a dispute: what is held, what the customer got, the freeze.

    Returns:
        The entry of the credit that followed, or None where none did.
    """
    lost = standing.lost_micros
    is_open = standing.state == DisputeState.OPEN.value
    held_before, lost_before = dispute.held_micros, dispute.outflow_micros
    held = standing.pay_micros - lost if is_open else 0
    entry = change_outflow(
        session, payment, dispute, lost, actor=actor, held_micros=held, **asdict(standing)
    )
    payment.disputed_micros += held - held_before
    gone = held + lost - held_before - lost_before
    post_transfer(
        session,
        payment,
        kind="dispute_opened" if gone > 0 else "dispute_won",
        debit=chart.DISPUTED_FUNDS.code,
        credit=cash_account(payment),
        micros=gone,
        key=f"dispute:{dispute.id}:{dispute.revision}",
        actor=actor,
    )
    if is_open:
        freeze(session, account_id=payment.account_id, cause=CAUSE, actor=actor)
    else:
        thaw_if_over(session, payment.account_id, actor)
    excess = dispute.outflow_micros - dispute.unapplied_micros - dispute.clawed_back_micros
    if excess > 0:
        details = {"dispute": dispute.id, "amount": [excess, payment.pay_currency]}
        add_event_once(session, payment, DISPUTE_EXCEEDS_PAYMENT, actor=actor, details=details)
        _log.error("payment %d lost more in a dispute than is left of it", payment.id)
    return entry


def apply_kept_dispute(session: Session, payment: Payment, dispute: Dispute, actor: Actor) -> None:
    """Book a dispute that was reported before its payment was credited."""
    standing = _Standing(dispute.state, dispute.pay_micros, dispute.lost_micros, dispute.closed_at)
    _book(session, payment, dispute, standing, actor)
