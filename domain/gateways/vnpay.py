"""VNPay 2.1.0: signed addresses to the pay page, IPN by GET, and querydr and refund as JSON.

Amounts on the wire are dong times 100, and every moment is of Vietnam's clock, whatever ours
says. Sources: VNPay's integration documents for pay, IPN, querydr and refund, version 2.1.0.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, overload
from urllib.parse import quote_plus
from zoneinfo import ZoneInfo

import httpx2

from domain.gateways.guards import (
    minor_units,
    optional_text,
    positive,
    reading_answer,
    reading_message,
    required_text,
    sane_moment,
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
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from domain.gateways.interface import (
        CheckoutRequest,
        InboundMessage,
        KnownPayment,
        RefundRequest,
    )

NAME = "vnpay"
CURRENCY = "VND"

_VERSION = "2.1.0"
_ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
_TIME = "%Y%m%d%H%M%S"
_WIRE_UNITS = 100
_MIN_AMOUNT, _MAX_AMOUNT = 5_000, 999_999_999
_MAX_AMOUNT_LENGTH = 15
_SHORTEST_ADDRESS, _LOOPBACK = 7, "127.0.0.1"
_CLOCKS_DIFFER = timedelta(minutes=10)
_TIMEOUT = httpx2.Timeout(20, connect=5)
_MAX_ANSWER_LENGTH = 64 * 1024
_GOOD = "00"
_CODE_LENGTH = 2
_HASH = "vnp_SecureHash"
_NO_NUMBER = frozenset({"", "0"})
_UNSIGNED = frozenset({_HASH, "vnp_SecureHashType"})
REQUEST_ONLY = frozenset(
    {
        "vnp_Version",
        "vnp_Command",
        "vnp_CurrCode",
        "vnp_CreateDate",
        "vnp_ExpireDate",
        "vnp_IpAddr",
        "vnp_Locale",
        "vnp_OrderType",
        "vnp_ReturnUrl",
    }
)
"""What a pay address of ours has, and no answer of VNPay.

Both are signed with one secret in one way, and every customer sees the pay address.
"""

ANSWER_ONLY = ("vnp_ResponseCode", "vnp_TransactionStatus", "vnp_TransactionNo")
"""What every answer of VNPay has, and no pay address: "0" is the number of what was not paid."""


QUERY_REQUEST = (
    "vnp_RequestId",
    "vnp_Version",
    "vnp_Command",
    "vnp_TmnCode",
    "vnp_TxnRef",
    "vnp_TransactionDate",
    "vnp_CreateDate",
    "vnp_IpAddr",
    "vnp_OrderInfo",
)
"""The values that a querydr request is signed over, in this order; so with the next three."""

QUERY_RESPONSE = (
    "vnp_ResponseId",
    "vnp_Command",
    "vnp_ResponseCode",
    "vnp_Message",
    "vnp_TmnCode",
    "vnp_TxnRef",
    "vnp_Amount",
    "vnp_BankCode",
    "vnp_PayDate",
    "vnp_TransactionNo",
    "vnp_TransactionType",
    "vnp_TransactionStatus",
    "vnp_OrderInfo",
    "vnp_PromotionCode",
    "vnp_PromotionAmount",
)
REFUND_REQUEST = (
    "vnp_RequestId",
    "vnp_Version",
    "vnp_Command",
    "vnp_TmnCode",
    "vnp_TransactionType",
    "vnp_TxnRef",
    "vnp_Amount",
    "vnp_TransactionNo",
    "vnp_TransactionDate",
    "vnp_CreateBy",
    "vnp_CreateDate",
    "vnp_IpAddr",
    "vnp_OrderInfo",
)
REFUND_RESPONSE = QUERY_RESPONSE[:-2]

_PAYMENT, _WHOLE_REFUND, _PART_REFUND = "01", "02", "03"
_REFUNDS = frozenset({_WHOLE_REFUND, _PART_REFUND})
_CANCELLED, _EXPIRED, _SUSPECTED = "24", "11", "07"
_NOT_FOUND = "91"
_ALREADY_ASKED = "94"
_REFUND_REFUSALS = frozenset({"03", "91", "95"})
_REFUND_STATES = {
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
    # Refund under way, sent, refused: there was money, so somebody must look where we have none.
    "05": GatewayPaymentState.UNDER_REVIEW,
    "06": GatewayPaymentState.UNDER_REVIEW,
    "09": GatewayPaymentState.UNDER_REVIEW,
}
_ANSWERS = {
    Outcome.RECORDED: ("00", "Confirm Success"),
    Outcome.REPEATED: ("02", "Order already confirmed"),
    Outcome.UNKNOWN_PAYMENT: ("01", "Order not found"),
    Outcome.WRONG_AMOUNT: ("04", "Invalid amount"),
    Outcome.BAD_SIGNATURE: ("97", "Invalid signature"),
    Outcome.MALFORMED: ("99", "Input data required"),
    Outcome.UNAVAILABLE: ("99", "Unknown error"),
}


@dataclass(frozen=True, slots=True)
class VNPaySettings:
    """A terminal and its secret, VNPay's two addresses, and the address of our server."""

    tmn_code: str
    hash_secret: str = field(repr=False)
    pay_url: str
    api_url: str
    is_sandbox: bool
    server_ip: str = "127.0.0.1"


def _now() -> datetime:
    return datetime.now(UTC)


# ── Signatures ────────────────────────────────────────────────────────────────────────────────
def hash_data(parameters: Iterable[tuple[str, str]]) -> str:
    """Return what a pay address, a return or an IPN is signed over.

    Every `vnp_` parameter with a value, sorted by name, as a form encodes them.
    """
    pairs = sorted((name, value) for name, value in parameters if _is_signed(name) and value)
    return "&".join(f"{_encode(name)}={_encode(value)}" for name, value in pairs)


def sign(secret: str, data: str) -> str:
    """Return the HMAC-SHA512 of the data in lower-case hex."""
    # JSON may carry half a character: such an answer is signed wrongly, and no reason to fall over.
    text = data.encode(errors="surrogatepass")
    return hmac.new(secret.encode(), text, hashlib.sha512).hexdigest()


def _encode(text: str) -> str:
    """Encode as browsers encode forms: a space is +, and only * - . _ stand as they are."""
    return quote_plus(text, safe="*-._", errors="surrogatepass").replace("~", "%7E")


def _is_signed(name: str) -> bool:
    return name.startswith("vnp_") and name not in _UNSIGNED


def _joined(values: Mapping[str, Any], names: Iterable[str]) -> str:
    return "|".join(_text(values, name) for name in names)


def _text(values: Mapping[str, Any], name: str) -> str:
    return str(values.get(name, "") or "")


def _code(answer: Mapping[str, Any]) -> str:
    return optional_text(_text(answer, "vnp_ResponseCode")) or ""


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.lower().encode("utf-8", "replace"), expected.encode())


def wire_address(text: str, otherwise: str = _LOOPBACK) -> str:
    """Return an IP address in the 7 to 45 characters that VNPay takes.

    This computer is 127.0.0.1 however it was called. What is no address gives way to the other:
    the server that speaks for whoever cannot be named.
    """
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return wire_address(otherwise)
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return _LOOPBACK
    return str(address) if len(str(address)) >= _SHORTEST_ADDRESS else address.exploded


def _wire_time(moment: datetime) -> str:
    return moment.astimezone(_ZONE).strftime(_TIME)


def _moment(text: str) -> datetime | None:
    try:
        return sane_moment(datetime.strptime(text, _TIME).replace(tzinfo=_ZONE))
    except (OverflowError, ValueError):
        return None


def _amount(text: str) -> Money:
    """Return an amount of the wire; raise ValueError where it is none, or no whole dong."""
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_AMOUNT_LENGTH:
        raise ValueError("not an amount")
    dong, rest = divmod(int(text), _WIRE_UNITS)
    if rest:
        raise ValueError("not a whole amount")
    return Money.from_minor_units(dong, CURRENCY)


def _wire_amount(amount: Money) -> str:
    return str(minor_units(NAME, amount) * _WIRE_UNITS)


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
        """Return the signed address of the pay page; nobody is called.

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
            "vnp_Amount": _wire_amount(request.amount),
            "vnp_CurrCode": CURRENCY,
            "vnp_CreateDate": _wire_time(request.created_at),
            "vnp_ExpireDate": _wire_time(request.expires_at),
            "vnp_IpAddr": wire_address(request.customer_ip, self._settings.server_ip),
            "vnp_Locale": "vn" if request.language == "vi" else "en",
            "vnp_OrderInfo": request.description,
            "vnp_OrderType": "other",
            "vnp_ReturnUrl": request.return_url,
            "vnp_TxnRef": request.reference,
        }
        data = hash_data(parameters.items())
        signature = sign(self._settings.hash_secret, data)
        url = f"{self._settings.pay_url}?{data}&{_HASH}={signature}"
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
            amount = _amount(given.get("vnp_Amount", ""))
        except ValueError:
            raise WebhookRefused(Outcome.MALFORMED, "amount") from None
        code, status, number = (given[name] for name in ANSWER_ONLY)
        state = _state(code, status)
        if state is GatewayPaymentState.PAID and number in _NO_NUMBER:
            raise WebhookRefused(Outcome.MALFORMED, "transaction_number")
        update = PaymentUpdate(
            state=state,
            reference=given["vnp_TxnRef"],
            gateway_payment_id=None if number in _NO_NUMBER else number,
            amount=amount,
            occurred_at=_moment(given.get("vnp_PayDate", "")),
            code=None if state is GatewayPaymentState.PAID else _why(code, status),
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
        if not _is_same(given.get(_HASH, ""), expected):
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
            "vnp_TransactionDate": _wire_time(payment.created_at),
            "vnp_CreateDate": _wire_time(self._now()),
            "vnp_IpAddr": wire_address(self._settings.server_ip),
            "vnp_OrderInfo": f"Query {payment.reference}",
        }
        answer = self._post(request, QUERY_REQUEST)
        code = _code(answer)
        # Errors may come unsigned. That there is no such payment closes nothing and may be heard.
        if code != _NOT_FOUND or _HASH in answer:
            self._check_answer(answer, QUERY_RESPONSE, payment.reference)
        if code == _NOT_FOUND:
            return Snapshot(PaymentUpdate(GatewayPaymentState.UNKNOWN, code=code))
        if code != _GOOD:
            raise GatewayUnavailable(NAME, f"querydr {code}")
        return _snapshot(answer, payment)

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
            "vnp_TransactionType": _WHOLE_REFUND if request.is_whole else _PART_REFUND,
            "vnp_TxnRef": payment.reference,
            "vnp_Amount": _wire_amount(request.amount),
            "vnp_TransactionNo": payment.gateway_payment_id or "0",
            "vnp_TransactionDate": _wire_time(payment.created_at),
            "vnp_CreateBy": request.actor,
            # The moment of this request, also where it repeats one: VNPay compares it with its own.
            "vnp_CreateDate": _wire_time(self._now()),
            "vnp_IpAddr": wire_address(self._settings.server_ip),
            "vnp_OrderInfo": f"Refund {payment.reference} {request.reference}",
        }
        answer = self._post(body, REFUND_REQUEST)
        code = _code(answer)
        if code == _ALREADY_ASKED:
            return self._refund_under_way(request, answer)
        self._check_answer(answer, REFUND_RESPONSE, payment.reference)
        if code in _REFUND_REFUSALS:
            raise GatewayRefused(NAME, code)
        if code != _GOOD:
            raise GatewayUnavailable(NAME, f"refund {code}")
        if _text(answer, "vnp_Amount") not in {"", body["vnp_Amount"]}:
            raise GatewayUnavailable(NAME, "an answer about another amount")
        status = _text(answer, "vnp_TransactionStatus")
        return RefundUpdate(
            gateway_refund_id=_refund_name(answer, payment, request.reference),
            state=_REFUND_STATES.get(status, RefundState.PENDING),
            amount=request.amount,
            gateway_payment_id=payment.gateway_payment_id,
            payment_reference=payment.reference,
            reference=request.reference,
            occurred_at=_moment(_text(answer, "vnp_PayDate")),
        )

    def _is_of_another_day(self, request: RefundRequest) -> bool:
        """Whether VNPay may have forgotten it: its day is over there, or soon by its clock."""
        latest = self._now() + _CLOCKS_DIFFER
        asked_on, today = (at.astimezone(_ZONE).date() for at in (request.requested_at, latest))
        return asked_on != today

    def _made_before(self, request: RefundRequest) -> RefundUpdate | None:
        """Return the refund where an earlier request has made it, or None where none has.

        Raises GatewayUnavailable where that cannot be told, such as behind a refund that
        somebody made at VNPay itself: it waits rather than being paid twice.
        """
        snapshot = self.fetch_payment(request.payment)
        for update in snapshot.refunds:
            if _is_ours(update, request):
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
        if _HASH in answer:
            self._check_answer(answer, REFUND_RESPONSE, payment.reference)
            found.append(_refund_update(answer, payment))
        found.extend(self.fetch_payment(payment).refunds)
        for update in found:
            if update is not None and _is_ours(update, request):
                return replace(update, reference=request.reference)
        raise GatewayUnavailable(NAME, f"refund {_ALREADY_ASKED}")

    def _post(self, body: dict[str, str], signed: Iterable[str]) -> dict[str, Any]:
        signature = sign(self._settings.hash_secret, _joined(body, signed))
        try:
            answer = self._client.post(self._settings.api_url, json={**body, _HASH: signature})
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
        expected = sign(self._settings.hash_secret, _joined(answer, signed))
        if not _is_same(str(answer.get(_HASH, "")), expected):
            code = _code(answer)[:_CODE_LENGTH]
            raise GatewayUnavailable(NAME, f"an answer without a valid signature: {code!r}")
        is_ours = answer.get("vnp_TmnCode") == self._settings.tmn_code
        if not is_ours or answer.get("vnp_TxnRef") != reference:
            raise GatewayUnavailable(NAME, "an answer about another payment")


def _why(code: str, status: str) -> str | None:
    return optional_text(code if code != _GOOD else status)


def _state(code: str, status: str) -> GatewayPaymentState:
    """Return what the two codes of an IPN say together: both must be good for it to be paid."""
    if _SUSPECTED in {code, status}:
        return GatewayPaymentState.UNDER_REVIEW
    if code == _GOOD:
        return _STATES.get(status, GatewayPaymentState.FAILED)
    return _CODES.get(code, GatewayPaymentState.FAILED)


def _snapshot(answer: Mapping[str, Any], payment: KnownPayment) -> Snapshot:
    """Return what a verified querydr says: of the payment, or of its latest refund."""
    kind, status = _text(answer, "vnp_TransactionType"), _text(answer, "vnp_TransactionStatus")
    if kind in _REFUNDS:
        # What has a refund had money; how much, it does not say here.
        refund = _refund_update(answer, payment)
        code = optional_text(f"refund {status}")
        update = PaymentUpdate(GatewayPaymentState.UNDER_REVIEW, payment.reference, code=code)
        return Snapshot(update, () if refund is None else (refund,))
    amount = _answered_amount(answer)
    number = _text(answer, "vnp_TransactionNo")
    state = _STATES.get(status, GatewayPaymentState.OPEN)
    if state is GatewayPaymentState.PAID and (
        kind != _PAYMENT or number in _NO_NUMBER or amount is None
    ):
        raise GatewayUnavailable(NAME, "a success without its number, its amount or its type")
    update = PaymentUpdate(
        state=state,
        reference=payment.reference,
        gateway_payment_id=None if number in _NO_NUMBER else required_text(number),
        amount=amount,
        occurred_at=_moment(_text(answer, "vnp_PayDate")),
        code=None if state is GatewayPaymentState.PAID else optional_text(status),
    )
    return Snapshot(update)


def _answered_amount(answer: Mapping[str, Any]) -> Money | None:
    """Return the amount of a verified answer, or None where it has none."""
    text = _text(answer, "vnp_Amount")
    try:
        return _amount(text) if text else None
    except ValueError:
        raise GatewayUnavailable(NAME, "an answer with no amount of dong") from None


def _refund_update(answer: Mapping[str, Any], payment: KnownPayment) -> RefundUpdate | None:
    """Return the refund that a verified answer is about, or None where it does not name one."""
    note = rf"Refund {re.escape(payment.reference)} ([A-Z0-9]+)"
    named = re.fullmatch(note, _text(answer, "vnp_OrderInfo"))
    reference = None if named is None else required_text(named[1])
    name = _refund_name(answer, payment, reference)
    amount = _answered_amount(answer)
    if name is None or amount is None or _text(answer, "vnp_TransactionType") not in _REFUNDS:
        return None
    status = _text(answer, "vnp_TransactionStatus")
    return RefundUpdate(
        gateway_refund_id=name,
        state=_REFUND_STATES.get(status, RefundState.PENDING),
        amount=positive(amount),
        gateway_payment_id=payment.gateway_payment_id,
        payment_reference=payment.reference,
        reference=reference,
        occurred_at=_moment(_text(answer, "vnp_PayDate")),
    )


@overload
def _refund_name(answer: Mapping[str, Any], payment: KnownPayment, reference: str) -> str: ...


@overload
def _refund_name(
    answer: Mapping[str, Any], payment: KnownPayment, reference: str | None
) -> str | None: ...


def _refund_name(
    answer: Mapping[str, Any], payment: KnownPayment, reference: str | None
) -> str | None:
    """Return VNPay's number of a refund, or our own reference of it while it has none.

    The name of the same refund so changes once, from our reference to the number: every update that
    knows the reference carries it, and one without is matched by its amount. The number of the
    payment itself may stand there too, and where we do not know that one, our reference is surer.
    """
    number = _text(answer, "vnp_TransactionNo")
    is_unsure = payment.gateway_payment_id is None and reference is not None
    if is_unsure or number in {*_NO_NUMBER, payment.gateway_payment_id}:
        return reference
    return required_text(number)


def _is_ours(update: RefundUpdate, request: RefundRequest) -> bool:
    """Whether this is the refund; one without our note is where its amount is, and it stands."""
    if update.reference is not None:
        return update.reference == request.reference
    if update.gateway_refund_id in request.others:
        return False
    return update.amount == request.amount and update.state is not RefundState.FAILED
