"""Translate VNPay's responses into updates of payments and refunds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, overload

from domain.gateways.guards import optional_text, positive, required_text
from domain.gateways.interface import (
    GatewayPaymentState,
    GatewayUnavailable,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
    Snapshot,
)
from domain.gateways.vnpay.fields import (
    NAME,
    NO_NUMBER,
    SUCCESS_CODE,
    read_amount,
    read_moment,
    read_text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from domain.gateways.interface import KnownPayment, RefundRequest
    from domain.money import Money


_PAYMENT, WHOLE_REFUND, PART_REFUND = "01", "02", "03"
_REFUNDS = frozenset({WHOLE_REFUND, PART_REFUND})
_CANCELLED, _EXPIRED, _SUSPECTED = "24", "11", "07"
NOT_FOUND = "91"
ALREADY_ASKED = "94"
REFUND_REFUSALS = frozenset({"03", "91", "95"})
REFUND_STATES = {
    "00": RefundState.SUCCEEDED,
    "05": RefundState.PENDING,
    "06": RefundState.PENDING,
    "09": RefundState.FAILED,
}
_CODES = {_CANCELLED: GatewayPaymentState.CANCELLED, _EXPIRED: GatewayPaymentState.EXPIRED}
_STATES = {
    "00": GatewayPaymentState.PAID,
    "01": GatewayPaymentState.OPEN,
    "02": GatewayPaymentState.FAILED,
    "04": GatewayPaymentState.UNDER_REVIEW,
    "07": GatewayPaymentState.UNDER_REVIEW,
    # Refund under way, sent, refused: there was money, so staff must review it where we have none.
    "05": GatewayPaymentState.UNDER_REVIEW,
    "06": GatewayPaymentState.UNDER_REVIEW,
    "09": GatewayPaymentState.UNDER_REVIEW,
}


def explain(code: str, status: str) -> str | None:
    """Return the code that tells why a payment did not go through, or None."""
    return optional_text(code if code != SUCCESS_CODE else status)


def read_state(code: str, status: str) -> GatewayPaymentState:
    """Return what the two codes of an IPN say together: both must be good for it to be paid."""
    if _SUSPECTED in {code, status}:
        return GatewayPaymentState.UNDER_REVIEW
    if code == SUCCESS_CODE:
        return _STATES.get(status, GatewayPaymentState.FAILED)
    return _CODES.get(code, GatewayPaymentState.FAILED)


def read_snapshot(answer: Mapping[str, Any], payment: KnownPayment) -> Snapshot:
    """Return what a verified querydr says: of the payment, or of its latest refund."""
    kind, status = (
        read_text(answer, "vnp_TransactionType"),
        read_text(answer, "vnp_TransactionStatus"),
    )
    if kind in _REFUNDS:
        # What has a refund had money; how much, it does not say here.
        refund = read_refund(answer, payment)
        code = optional_text(f"refund {status}")
        update = PaymentUpdate(GatewayPaymentState.UNDER_REVIEW, payment.reference, code=code)
        return Snapshot(update, () if refund is None else (refund,))
    amount = _answered_amount(answer)
    number = read_text(answer, "vnp_TransactionNo")
    state = _STATES.get(status, GatewayPaymentState.OPEN)
    if state is GatewayPaymentState.PAID and (
        kind != _PAYMENT or number in NO_NUMBER or amount is None
    ):
        raise GatewayUnavailable(NAME, "a success without its number, its amount or its type")
    update = PaymentUpdate(
        state=state,
        reference=payment.reference,
        gateway_payment_id=None if number in NO_NUMBER else required_text(number),
        amount=amount,
        occurred_at=read_moment(read_text(answer, "vnp_PayDate")),
        code=None if state is GatewayPaymentState.PAID else optional_text(status),
    )
    return Snapshot(update)


def _answered_amount(answer: Mapping[str, Any]) -> Money | None:
    """Return the amount of a verified answer, or None where it has none."""
    text = read_text(answer, "vnp_Amount")
    try:
        return read_amount(text) if text else None
    except ValueError:
        raise GatewayUnavailable(NAME, "an answer with no amount of dong") from None


def read_refund(answer: Mapping[str, Any], payment: KnownPayment) -> RefundUpdate | None:
    """Return the refund that a verified answer is about, or None where it does not name one."""
    note = rf"Refund {re.escape(payment.reference)} ([A-Z0-9]+)"
    named = re.fullmatch(note, read_text(answer, "vnp_OrderInfo"))
    reference = None if named is None else required_text(named[1])
    name = refund_name(answer, payment, reference)
    amount = _answered_amount(answer)
    if name is None or amount is None or read_text(answer, "vnp_TransactionType") not in _REFUNDS:
        return None
    status = read_text(answer, "vnp_TransactionStatus")
    return RefundUpdate(
        gateway_refund_id=name,
        state=REFUND_STATES.get(status, RefundState.PENDING),
        amount=positive(amount),
        gateway_payment_id=payment.gateway_payment_id,
        payment_reference=payment.reference,
        reference=reference,
        occurred_at=read_moment(read_text(answer, "vnp_PayDate")),
    )


@overload
def refund_name(answer: Mapping[str, Any], payment: KnownPayment, reference: str) -> str: ...


@overload
def refund_name(
    answer: Mapping[str, Any], payment: KnownPayment, reference: str | None
) -> str | None: ...


def refund_name(
    answer: Mapping[str, Any], payment: KnownPayment, reference: str | None
) -> str | None:
    """Return VNPay's number of a refund, or our own reference of it while it has none.

    The name of the same refund so changes once, from our reference to the number: every update that
    knows the reference carries it, and one without is matched by its amount. The number of the
    payment itself may stand there too, and where we do not know that one, our reference is surer.
    """
    number = read_text(answer, "vnp_TransactionNo")
    is_unsure = payment.gateway_payment_id is None and reference is not None
    if is_unsure or number in {*NO_NUMBER, payment.gateway_payment_id}:
        return reference
    return required_text(number)


def is_ours(update: RefundUpdate, request: RefundRequest) -> bool:
    """Whether this is the refund; one without our note is where its amount is, and it stands."""
    if update.reference is not None:
        return update.reference == request.reference
    if update.gateway_refund_id in request.others:
        return False
    return update.amount == request.amount and update.state is not RefundState.FAILED
