"""Payments in plain Python, as docs/payments.md specifies them: slow, obvious, its own arithmetic.

All amounts of a payment are micros of the currency that was paid. What its credit is in another
currency follows from shares, which the machine checks against what was posted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from domain.gateways.interface import DisputeState, GatewayPaymentState, PaymentUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from domain.gateways.interface import DisputeUpdate, GatewayUpdate, RefundUpdate, Snapshot
    from domain.money import Money

WAITING = ("requested", "pending")
REFUND_RANKS = {"requested": (0, 0), "pending": (0, 0), "succeeded": (1, 0), "failed": (1, 1)}


@dataclass
class Outflow:
    """What went, or goes, out of one money of a payment, and what covers it."""

    amount: int
    money: str | None
    outflow: int = 0
    unapplied: int = 0
    clawed_back: int = 0
    stated_at: datetime | None = None

    @property
    def excess(self) -> int:
        return self.outflow - self.unapplied - self.clawed_back

    @property
    def rank(self) -> tuple[int, int]:
        """How much of an end this is: of two statements at the same time, more counts."""
        raise NotImplementedError

    def accepts(self, stated_at: datetime | None, rank: tuple[int, int]) -> bool:
        """Whether a statement counts: a newer one, or one without a time that reopens nothing."""
        if stated_at is None:
            return rank[0] > 0 or self.rank[0] == 0
        if self.stated_at is None or stated_at > self.stated_at:
            return True
        return stated_at == self.stated_at and rank >= self.rank


@dataclass
class Refund(Outflow):
    name: str | None = None
    reference: str | None = None
    state: str = "requested"
    is_reversal: bool = False

    @property
    def rank(self) -> tuple[int, int]:
        return REFUND_RANKS[self.state]


@dataclass
class Dispute(Outflow):
    name: str = ""
    state: str = "open"
    fee: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        return (0, 0) if self.state == "open" else (1, self.outflow)

    @property
    def held(self) -> int:
        return self.amount - self.outflow if self.state == "open" else 0


@dataclass
class Payment:
    """One payment: the money that was credited, what went out of it, and what is owed back."""

    reference: str
    asked: Money
    money: str | None = None
    received: int = 0
    fee: int = 0
    reversed: int = 0
    refunds: list[Refund] = field(default_factory=list)
    disputes: list[Dispute] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    """Money that staff rejected, and how much of it they have not sent back themselves."""
    failed: set[str] = field(default_factory=set)
    """Rejected money of which the gateway said since that it did not come."""
    message: dict[str, int] = field(default_factory=dict)
    """All money that the gateway said was paid, and how much it was when it first said so."""

    # ── How it stands ────────────────────────────────────────────────────────────────────────

    @property
    def is_credited(self) -> bool:
        return self.money is not None

    @property
    def outflows(self) -> Iterator[Outflow]:
        """Refunds, then disputes, the oldest first: those of the credited money."""
        return (part for part in (*self.refunds, *self.disputes) if self.concerns_credit(part))

    @property
    def outflow(self) -> int:
        return sum(part.outflow for part in self.outflows)

    @property
    def clawed_back(self) -> int:
        return sum(part.clawed_back for part in self.outflows)

    @property
    def credited(self) -> int:
        """The money whose credit the customer still has, or used."""
        return self.received - self.reversed - self.clawed_back

    @property
    def unapplied(self) -> int:
        """Money without credit that is still here."""
        return self.reversed - sum(part.unapplied for part in self.outflows)

    @property
    def excess(self) -> int:
        """Credit without money, or more than there ever was."""
        return sum(part.excess for part in self.outflows)

    @property
    def is_disputed(self) -> bool:
        """Whether a dispute of the credited money is open: another's puts no credit at risk."""
        return any(
            dispute.state == "open" and self.concerns_credit(dispute) for dispute in self.disputes
        )

    @property
    def owed(self) -> int:
        """Rejected money that is still here: it came, and neither went back nor was sent back."""
        here = (money for money in self.refused if money not in self.failed)
        return sum(self.refused[money] for money in here if not self.is_back(money))

    def is_back(self, money: str | None) -> bool:
        return any(refund.money == money and refund.state == "succeeded" for refund in self.refunds)

    def is_going_back(self, money: str | None) -> bool:
        """Whether some of it went back, or is about to."""
        standing = {*WAITING, "succeeded"}
        return any(refund.money == money and refund.state in standing for refund in self.refunds)

    def _end_second(self, money: str | None) -> None:
        """Take money beside the credited one, all of which went back, for rejected."""
        if money is None or money not in self.message or not self.is_credited:
            return
        if money in {self.money, *self.refused}:
            return
        gone = sum(
            one.amount
            for one in self.refunds
            if one.state == "succeeded" and one.money in {None, money}
        )
        if gone >= self.message[money]:
            self.reject_money(money, self.message[money])

    def concerns_credit(self, part: Outflow) -> bool:
        return self.money is not None and part.money in {None, self.money}

    def books(self) -> dict[str, int]:
        """Return what stands on the accounts in the currency that was paid: debit is positive."""
        refunds = [part for part in self.refunds if self.concerns_credit(part)]
        disputes = [part for part in self.disputes if self.concerns_credit(part)]
        gone = sum(part.outflow for part in refunds if part.state == "succeeded")
        lost = sum(part.outflow for part in disputes)
        held = sum(part.held for part in disputes)
        fees = self.fee + sum(part.fee for part in self.disputes)
        return {
            "clearing": self.received - gone - lost - held - fees + self.owed,
            "1120": held,
            "2150": -(self.reversed + self.clawed_back - gone - lost) - self.owed,
            "6100": self.fee,
            "6110": fees - self.fee,
        }

    # ── What covers an outflow ───────────────────────────────────────────────────────────────

    def set_outflow(self, part: Outflow, outflow: int) -> None:
        freed = part.outflow - outflow - part.excess
        if freed > 0:
            restored = min(part.clawed_back, freed)
            part.clawed_back -= restored
            part.unapplied -= freed - restored
        part.outflow = outflow
        self.cover()

    def cover(self) -> None:
        """Cover what is not covered: by unapplied money, then by credit."""
        for part in self.outflows:
            by_unapplied = min(part.excess, self.unapplied)
            part.unapplied += by_unapplied
            part.clawed_back += min(part.excess, self.credited)

    def reverse(self, amount: int) -> None:
        """Let staff take credit, whose money stays here."""
        assert 0 < amount <= self.credited
        self.reversed += amount

    # ── What the gateway states ──────────────────────────────────────────────────────────────

    def credit(self, money: str, amount: int) -> None:
        self.money, self.received = money, amount
        self.cover()

    def state_payment(self, update: PaymentUpdate) -> None:
        money = update.gateway_payment_id
        if update.state is GatewayPaymentState.FAILED and money in self.refused:
            self.failed.add(money)
        if (
            update.state is GatewayPaymentState.FAILED
            and self.money is not None
            and money == self.money
        ):
            self._deny(self.money)
        if update.state is not GatewayPaymentState.PAID or money is None or update.amount is None:
            return
        is_new = money not in self.message
        self.message.setdefault(money, update.amount.micros)
        if money in self.refused:
            return
        if self.is_credited and is_new:
            self._end_second(money)
        if not self.is_credited and update.amount == self.asked:
            self.credit(money, update.amount.micros)
        if money == self.money and update.fee is not None:
            self.fee = update.fee.micros

    def _deny(self, money: str) -> None:
        name = f"denied:{money}"
        if all(dispute.name != name for dispute in self.disputes):
            self._state_dispute(Dispute(self.received, money, name=name), "lost", self.received)

    def state_refund(self, update: RefundUpdate) -> None:
        state = update.state.value
        refund = self._find_refund(update)
        if refund is None:
            if update.is_reversal and self._is_part_of_dispute(update):
                return
            refund = Refund(
                update.amount.micros,
                update.gateway_payment_id,
                state="pending",
                is_reversal=update.is_reversal,
            )
            self.refunds.append(refund)
        if refund.state == "merged":
            return
        if not refund.accepts(update.stated_at, REFUND_RANKS[state]):
            return
        refund.name = update.gateway_refund_id
        refund.stated_at = update.stated_at or refund.stated_at
        refund.state = state
        self.set_outflow(refund, 0 if state == "failed" else refund.amount)
        if state == "succeeded":
            self._end_second(refund.money)

    def _find_refund(self, update: RefundUpdate) -> Refund | None:
        for refund in self.refunds:
            if refund.name == update.gateway_refund_id:
                return refund
        nameless = [refund for refund in self.refunds if refund.reference and not refund.name]
        for refund in nameless:
            if update.reference == refund.reference:
                return refund
        if update.reference is None and not update.is_reversal:
            for refund in nameless:
                is_same_money = update.gateway_payment_id in {None, refund.money}
                is_same = is_same_money and update.amount.micros == refund.amount
                if is_same and refund.state in WAITING:
                    return refund
        return None

    def _is_part_of_dispute(self, update: RefundUpdate) -> bool:
        return any(
            dispute.state in {"open", "lost"}
            or (
                update.stated_at is not None
                and dispute.stated_at is not None
                and update.stated_at <= dispute.stated_at
            )
            for dispute in self.disputes
            if is_same_money(dispute.money, update.gateway_payment_id)
            and dispute.amount >= update.amount.micros
        )

    def state_dispute(self, update: DisputeUpdate) -> None:
        if update.state in {DisputeState.INQUIRY, DisputeState.INQUIRY_CLOSED}:
            return
        lost = 0 if update.lost is None else update.lost.micros
        if update.state is DisputeState.LOST and update.lost is None:
            lost = update.amount.micros
        rank = (0, 0) if update.state is DisputeState.OPEN else (1, lost)
        dispute = next(
            (one for one in self.disputes if one.name == update.gateway_dispute_id), None
        )
        if dispute is None:
            dispute = Dispute(
                update.amount.micros, update.gateway_payment_id, name=update.gateway_dispute_id
            )
        elif not dispute.accepts(update.stated_at, rank):
            return
        dispute.stated_at = update.stated_at or dispute.stated_at
        if update.fee is not None:
            dispute.fee = update.fee.micros
        self._state_dispute(dispute, update.state.value, lost)

    def _state_dispute(self, dispute: Dispute, state: str, lost: int) -> None:
        if all(one is not dispute for one in self.disputes):
            self.disputes.append(dispute)
            self._merge_reversals(dispute)
        dispute.state = state
        if state != "open":
            dispute.state = "lost" if lost else "won"
            self.set_outflow(dispute, lost)

    def _merge_reversals(self, dispute: Dispute) -> None:
        """Make what the gateway took by itself a part of the dispute that it is told of."""
        for refund in self.refunds:
            room = dispute.amount - dispute.outflow
            is_reversal = refund.is_reversal and refund.state == "succeeded"
            if is_reversal and is_same_money(refund.money, dispute.money):
                if refund.amount > room:
                    continue
                dispute.outflow += refund.outflow
                dispute.unapplied += refund.unapplied
                dispute.clawed_back += refund.clawed_back
                refund.outflow = refund.unapplied = refund.clawed_back = 0
                refund.state = "merged"

    # ── What people of finance do ────────────────────────────────────────────────────────────

    def may_refund(self, amount: int) -> bool:
        is_open = self.is_credited and not self.is_disputed
        return is_open and 0 < amount <= self.received - self.outflow

    def request_refund(self, reference: str, amount: int) -> None:
        refund = Refund(amount, self.money, reference=reference)
        self.refunds.append(refund)
        self.set_outflow(refund, amount)

    def refuse_refund(self, reference: str) -> None:
        """Fail a refund of ours that the gateway will not make."""
        for refund in self.refunds:
            if refund.reference == reference and refund.state in WAITING:
                refund.state = "failed"
                self.set_outflow(refund, 0)

    def accept_money(self, money: str, amount: Money) -> None:
        """Let staff credit what the gateway verified: the payment is one of that amount then."""
        assert not self.is_credited
        assert money not in self.refused
        assert not self.is_back(money)
        self.asked = amount
        self.credit(money, amount.micros)

    def reject_money(self, money: str, amount: int) -> None:
        """Let staff reject money: nothing of it is ever credited."""
        self.refused[money] = amount

    def send_back(self, money: str) -> None:
        self.refused[money] = 0


@dataclass
class Account:
    """An account whose credit is paid and serves everything, so that debt follows from sums."""

    payments: list[Payment] = field(default_factory=list)
    granted: int = 0
    charged: int = 0
    held: int = 0

    @property
    def is_frozen(self) -> bool:
        return any(payment.is_disputed for payment in self.payments)

    def balance(self, credit: int) -> int:
        """Return the balance where the payments' credit that is left is `credit`."""
        return credit + self.granted - self.charged

    def amount_due(self, balance: int) -> int:
        """What is free pays what is due at once: something is due only where all is held."""
        return max(0, self.held - balance)

    def may_hold(self, balance: int, amount: int) -> bool:
        has_debt = self.amount_due(balance) > 0
        return not self.is_frozen and not has_debt and balance - self.held >= amount

    def payment_of(self, reference: str | None, money: str | None) -> Payment | None:
        for payment in self.payments:
            if reference is not None and payment.reference == reference:
                return payment
        if reference is None and money is not None:
            return next((one for one in self.payments if one.money == money), None)
        return None

    def state(self, update: GatewayUpdate) -> None:
        """Take in one statement, as a webhook brings it; a payment that is unknown is nobody's."""
        # The reference of a refund is the refund's own.
        name = "reference" if isinstance(update, PaymentUpdate) else "payment_reference"
        payment = self.payment_of(getattr(update, name), update.gateway_payment_id)
        if payment is not None:
            self.state_of(payment, update)

    def state_of(self, payment: Payment, update: GatewayUpdate) -> None:
        take: dict[str, Callable[..., None]] = {
            "PaymentUpdate": payment.state_payment,
            "RefundUpdate": payment.state_refund,
            "DisputeUpdate": payment.state_dispute,
        }
        take[type(update).__name__](update)

    def answer(self, payment: Payment, snapshot: Snapshot, at: datetime) -> None:
        """Take in an answer, which is as of the moment of the question."""
        self.state_of(payment, snapshot.payment)
        for update in _dated((*snapshot.refunds, *snapshot.disputes), at):
            self.state_of(payment, update)


def is_same_money(first: str | None, second: str | None) -> bool:
    return first is None or second is None or first == second


def _dated(
    updates: Iterable[RefundUpdate | DisputeUpdate], at: datetime
) -> Iterator[GatewayUpdate]:
    for update in updates:
        yield update if update.stated_at is not None else replace(update, stated_at=at)
