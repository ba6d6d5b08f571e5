"""VNPay 2.1.0: signed addresses to the pay page, IPN by GET, and querydr and refund as JSON.

Amounts on the wire are dong times 100, and every moment is of Vietnam's clock, whatever ours
says. Sources: VNPay's integration documents for pay, IPN, querydr and refund, version 2.1.0.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2

from domain.gateways.guards import (
    minor_units,
    optional_text,
    reading_answer,
    reading_message,
    required_text,
)
from domain.gateways.interface import (
    Acknowledgement,
    Checkout,
    GatewayPaymentState,
    GatewayRefused,
    GatewayUnavailable,
    KnownName,
    Limits,
    Outcome,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
    Snapshot,
    WebhookEvent,
    WebhookRefused,
)
from domain.gateways.vnpay.fields import (
    ANSWER_ONLY,
    CODE_LENGTH,
    CURRENCY,
    HASH_FIELD,
    NAME,
    NO_NUMBER,
    QUERY_REQUEST,
    QUERY_RESPONSE,
    REFUND_REQUEST,
    REFUND_RESPONSE,
    REQUEST_ONLY,
    SUCCESS_CODE,
    ZONE,
    hash_data,
    is_same,
    join_fields,
    read_amount,
    read_code,
    read_moment,
    read_text,
    sign,
    wire_address,
    write_amount,
    write_time,
)
from domain.gateways.vnpay.updates import (
    ALREADY_ASKED,
    NOT_FOUND,
    PART_REFUND,
    REFUND_REFUSALS,
    REFUND_STATES,
    WHOLE_REFUND,
    explain,
    is_ours,
    read_refund,
    read_snapshot,
    read_state,
    refund_name,
)
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from domain.gateways.interface import (
        CheckoutRequest,
        InboundMessage,
        KnownPayment,
        RefundRequest,
    )
    from domain.gateways.vnpay.settings import VNPaySettings


_VERSION = "2.1.0"
_MIN_AMOUNT, _MAX_AMOUNT = 5_000, 999_999_999
_CLOCKS_DIFFER = timedelta(minutes=10)
_TIMEOUT = httpx2.Timeout(20, connect=5)
_MAX_ANSWER_LENGTH = 64 * 1024


_ANSWERS = {
    Outcome.RECORDED: ("00", "Confirm Success"),
    Outcome.REPEATED: ("02", "Order already confirmed"),
    Outcome.UNKNOWN_PAYMENT: ("01", "Order not found"),
    Outcome.WRONG_AMOUNT: ("04", "Invalid amount"),
    Outcome.BAD_SIGNATURE: ("97", "Invalid signature"),
    Outcome.MALFORMED: ("99", "Input data required"),
    Outcome.UNAVAILABLE: ("99", "Unknown error"),
}


def _now() -> datetime:
    return datetime.now(UTC)


# ── Signatures ────────────────────────────────────────────────────────────────────────────────


class VNPay:
    """The gateway; safe to use from many threads."""

    name = NAME
    tells_latest_refund_only = True

    def __init__(
        self,
        settings: VNPaySettings,
        transport: httpx2.BaseTransport | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._settings = settings
        self._now = now
        self._client = httpx2.Client(timeout=_TIMEOUT, follow_redirects=False, transport=transport)

    def close(self) -> None:
        """Close the connections to VNPay."""
        self._client.close()

    @property
    def is_sandbox(self) -> bool:
        """Whether it speaks to a sandbox."""
        return self._settings.is_sandbox

    def limits(self, currency: str) -> Limits | None:
        """Return what VNPay takes at once, in dong; it takes nothing else."""
        if currency != CURRENCY:
            return None
        return Limits(
            Money.from_minor_units(_MIN_AMOUNT, CURRENCY),
            Money.from_minor_units(_MAX_AMOUNT, CURRENCY),
        )

    # ── Paying ────────────────────────────────────────────────────────────────────────────────
    @reading_answer(NAME)
    def create_checkout(self, request: CheckoutRequest) -> Checkout:
        """Return the signed address of the pay page; no request is made.

        Raises GatewayRefused for another currency, and for more or less than VNPay takes.
        """
        if request.amount.currency != CURRENCY:
            raise GatewayRefused(NAME, "currency")
        if not _MIN_AMOUNT <= minor_units(NAME, request.amount) <= _MAX_AMOUNT:
            raise GatewayRefused(NAME, "amount")
        parameters = {
            "vnp_Version": _VERSION,
            "vnp_Command": "pay",
            "vnp_TmnCode": self._settings.tmn_code,
            "vnp_Amount": write_amount(request.amount),
            "vnp_CurrCode": CURRENCY,
            "vnp_CreateDate": write_time(request.created_at),
            "vnp_ExpireDate": write_time(request.expires_at),
            "vnp_IpAddr": wire_address(request.customer_ip, self._settings.server_ip),
            "vnp_Locale": "vn" if request.language == "vi" else "en",
            "vnp_OrderInfo": request.description,
            "vnp_OrderType": "other",
            "vnp_ReturnUrl": request.return_url,
            "vnp_TxnRef": request.reference,
        }
        data = hash_data(parameters.items())
        signature = sign(self._settings.hash_secret, data)
        url = f"{self._settings.pay_url}?{data}&{HASH_FIELD}={signature}"
        return Checkout(url, None, request.expires_at)

    @reading_message(NAME)
    def parse_return(self, message: InboundMessage) -> KnownName:
        """Return the payment that a signed return names."""
        return KnownName(reference=self._verified(message)["vnp_TxnRef"])

    @reading_message(NAME)
    def parse_webhook(self, message: InboundMessage) -> WebhookEvent:
        """Verify an IPN. Success is a good response code and a good status, both."""
        given = self._verified(message)
        try:
            amount = read_amount(given.get("vnp_Amount", ""))
        except ValueError:
            raise WebhookRefused(Outcome.MALFORMED, "amount") from None
        code, status, number = (given[name] for name in ANSWER_ONLY)
        state = read_state(code, status)
        if state is GatewayPaymentState.PAID and number in NO_NUMBER:
            raise WebhookRefused(Outcome.MALFORMED, "transaction_number")
        update = PaymentUpdate(
            state=state,
            reference=given["vnp_TxnRef"],
            gateway_payment_id=None if number in NO_NUMBER else number,
            amount=amount,
            occurred_at=read_moment(given.get("vnp_PayDate", "")),
            code=None if state is GatewayPaymentState.PAID else explain(code, status),
            method=optional_text(given.get("vnp_CardType")),
        )
        names = given["vnp_TxnRef"], number, code, status, given["vnp_Amount"]
        return WebhookEvent(required_text(":".join(names)), "ipn", (update,))

    def _verified(self, message: InboundMessage) -> dict[str, str]:
        """Return the parameters that VNPay signed, of a return or an IPN.

        Raises WebhookRefused where they cannot be believed, and for what we signed ourselves.
        """
        pairs = [(name, value) for name, value in message.query if name.startswith("vnp_")]
        given = dict(pairs)
        if not pairs:
            raise WebhookRefused(Outcome.MALFORMED, "empty")
        if len(given) != len(pairs):
            raise WebhookRefused(Outcome.BAD_SIGNATURE, "doubled_parameter")
        expected = sign(self._settings.hash_secret, hash_data(pairs))
        if not is_same(given.get(HASH_FIELD, ""), expected):
            raise WebhookRefused(Outcome.BAD_SIGNATURE, "signature")
        if given.get("vnp_TmnCode") != self._settings.tmn_code:
            raise WebhookRefused(Outcome.BAD_SIGNATURE, "wrong_merchant")
        has_all = all(given.get(name) for name in ANSWER_ONLY)
        if not has_all or not REQUEST_ONLY.isdisjoint(given):
            raise WebhookRefused(Outcome.MALFORMED, "not_an_answer")
        if optional_text(given.get("vnp_TxnRef")) is None:
            raise WebhookRefused(Outcome.MALFORMED, "reference")
        return given

    def acknowledge(self, outcome: Outcome) -> Acknowledgement:
        """Return the JSON that VNPay wants: it comes again on all but 00 and 02."""
        code, message = _ANSWERS[outcome]
        body = json.dumps({"RspCode": code, "Message": message}).encode()
        return Acknowledgement(200, body, "application/json")

    # ── Asking ────────────────────────────────────────────────────────────────────────────────
    @reading_answer(NAME)
    def fetch_payment(self, payment: KnownPayment) -> Snapshot:
        """Ask by querydr. What is not signed, or is about another payment, is no answer."""
        request = {
            "vnp_RequestId": uuid.uuid4().hex,
            "vnp_Version": _VERSION,
            "vnp_Command": "querydr",
            "vnp_TmnCode": self._settings.tmn_code,
            "vnp_TxnRef": payment.reference,
            "vnp_TransactionDate": write_time(payment.created_at),
            "vnp_CreateDate": write_time(self._now()),
            "vnp_IpAddr": wire_address(self._settings.server_ip),
            "vnp_OrderInfo": f"Query {payment.reference}",
        }
        answer = self._post(request, QUERY_REQUEST)
        code = read_code(answer)
        # Errors may come unsigned. That there is no such payment closes nothing and may be heard.
        if code != NOT_FOUND or HASH_FIELD in answer:
            self._check_answer(answer, QUERY_RESPONSE, payment.reference)
        if code == NOT_FOUND:
            return Snapshot(PaymentUpdate(GatewayPaymentState.UNKNOWN, code=code))
        if code != SUCCESS_CODE:
            raise GatewayUnavailable(NAME, f"querydr {code}")
        return read_snapshot(answer, payment)

    complete_payment = fetch_payment

    @reading_answer(NAME)
    def refund(self, request: RefundRequest) -> RefundUpdate:
        """Ask for a refund; VNPay accepts it and settles it later.

        Its note names the refund, so that a later querydr tells whose state it is. VNPay knows
        the request by its id on the day that it came only: on any other day, it is asked first.
        """
        payment = request.payment
        known = self._made_before(request) if self._is_of_another_day(request) else None
        if known is not None:
            return known
        body = {
            "vnp_RequestId": request.reference,
            "vnp_Version": _VERSION,
            "vnp_Command": "refund",
            "vnp_TmnCode": self._settings.tmn_code,
            "vnp_TransactionType": WHOLE_REFUND if request.is_whole else PART_REFUND,
            "vnp_TxnRef": payment.reference,
            "vnp_Amount": write_amount(request.amount),
            "vnp_TransactionNo": payment.gateway_payment_id or "0",
            "vnp_TransactionDate": write_time(payment.created_at),
            "vnp_CreateBy": request.actor,
            # The moment of this request, also where it repeats one: VNPay compares it with its own.
            "vnp_CreateDate": write_time(self._now()),
            "vnp_IpAddr": wire_address(self._settings.server_ip),
            "vnp_OrderInfo": f"Refund {payment.reference} {request.reference}",
        }
        answer = self._post(body, REFUND_REQUEST)
        code = read_code(answer)
        if code == ALREADY_ASKED:
            return self._refund_under_way(request, answer)
        self._check_answer(answer, REFUND_RESPONSE, payment.reference)
        if code in REFUND_REFUSALS:
            raise GatewayRefused(NAME, code)
        if code != SUCCESS_CODE:
            raise GatewayUnavailable(NAME, f"refund {code}")
        if read_text(answer, "vnp_Amount") not in {"", body["vnp_Amount"]}:
            raise GatewayUnavailable(NAME, "an answer about another amount")
        status = read_text(answer, "vnp_TransactionStatus")
        return RefundUpdate(
            gateway_refund_id=refund_name(answer, payment, request.reference),
            state=REFUND_STATES.get(status, RefundState.PENDING),
            amount=request.amount,
            gateway_payment_id=payment.gateway_payment_id,
            payment_reference=payment.reference,
            reference=request.reference,
            occurred_at=read_moment(read_text(answer, "vnp_PayDate")),
        )

    def _is_of_another_day(self, request: RefundRequest) -> bool:
        """Return whether VNPay may have forgotten it: its day there is over, or soon will be."""
        latest = self._now() + _CLOCKS_DIFFER
        asked_on, today = (at.astimezone(ZONE).date() for at in (request.requested_at, latest))
        return asked_on != today

    def _made_before(self, request: RefundRequest) -> RefundUpdate | None:
        """Return the refund where an earlier request has made it, or None where none has.

        Raises GatewayUnavailable where that cannot be determined, such as behind a refund that was
        made at VNPay itself: it waits rather than being paid twice.
        """
        snapshot = self.fetch_payment(request.payment)
        for update in snapshot.refunds:
            if is_ours(update, request):
                return replace(update, reference=request.reference)
            if update.reference is not None or update.gateway_refund_id in request.others:
                return None  # one of ours before it: this one would be the latest
        if snapshot.payment.state is not GatewayPaymentState.PAID:
            raise GatewayUnavailable(NAME, "whether the refund was made cannot be told")
        return None

    def _refund_under_way(self, request: RefundRequest, answer: Mapping[str, Any]) -> RefundUpdate:
        """Return the refund that VNPay has already, if it is this one.

        A payment has one refund under way at a time: another one's must not pass for ours, which
        then has to wait.
        """
        payment = request.payment
        found = []
        if HASH_FIELD in answer:
            self._check_answer(answer, REFUND_RESPONSE, payment.reference)
            found.append(read_refund(answer, payment))
        found.extend(self.fetch_payment(payment).refunds)
        for update in found:
            if update is not None and is_ours(update, request):
                return replace(update, reference=request.reference)
        raise GatewayUnavailable(NAME, f"refund {ALREADY_ASKED}")

    def _post(self, body: dict[str, str], signed: Iterable[str]) -> dict[str, Any]:
        signature = sign(self._settings.hash_secret, join_fields(body, signed))
        try:
            answer = self._client.post(self._settings.api_url, json={**body, HASH_FIELD: signature})
        except httpx2.HTTPError as error:
            raise GatewayUnavailable(NAME, type(error).__name__) from None
        if answer.status_code != httpx2.codes.OK or len(answer.content) > _MAX_ANSWER_LENGTH:
            raise GatewayUnavailable(NAME, f"HTTP {answer.status_code}")
        try:
            # Numbers are read as they are written: the signature is over their text.
            found = json.loads(answer.content, parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            raise GatewayUnavailable(NAME, "no JSON") from None
        if not isinstance(found, dict):
            raise GatewayUnavailable(NAME, "no JSON object")
        return found

    def _check_answer(
        self, answer: Mapping[str, Any], signed: Iterable[str], reference: str
    ) -> None:
        expected = sign(self._settings.hash_secret, join_fields(answer, signed))
        if not is_same(str(answer.get(HASH_FIELD, "")), expected):
            code = read_code(answer)[:CODE_LENGTH]
            raise GatewayUnavailable(NAME, f"an answer without a valid signature: {code!r}")
        is_ours = answer.get("vnp_TmnCode") == self._settings.tmn_code
        if not is_ours or answer.get("vnp_TxnRef") != reference:
            raise GatewayUnavailable(NAME, "an answer about another payment")
