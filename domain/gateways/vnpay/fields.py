"""Write, read and sign the fields of VNPay's messages."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus
from zoneinfo import ZoneInfo

from domain.gateways.guards import minor_units, optional_text, sane_moment
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


NAME = "vnpay"
CURRENCY = "VND"
ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
_TIME = "%Y%m%d%H%M%S"
_WIRE_UNITS = 100
_MAX_AMOUNT_LENGTH = 15
_SHORTEST_ADDRESS, _LOOPBACK = 7, "127.0.0.1"
SUCCESS_CODE = "00"
CODE_LENGTH = 2
HASH_FIELD = "vnp_SecureHash"
NO_NUMBER = frozenset({"", "0"})
_UNSIGNED = frozenset({HASH_FIELD, "vnp_SecureHashType"})
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


def join_fields(values: Mapping[str, Any], names: Iterable[str]) -> str:
    """Return the values of these fields with | between them, as signatures are made of."""
    return "|".join(read_text(values, name) for name in names)


def read_text(values: Mapping[str, Any], name: str) -> str:
    """Return a field as text, empty where it is missing."""
    return str(values.get(name, "") or "")


def read_code(answer: Mapping[str, Any]) -> str:
    """Return the response code of an answer, empty where it has none."""
    return optional_text(read_text(answer, "vnp_ResponseCode")) or ""


def is_same(given: str, expected: str) -> bool:
    """Return whether a signature is the expected one, compared in constant time."""
    return hmac.compare_digest(given.lower().encode("utf-8", "replace"), expected.encode())


def wire_address(text: str, otherwise: str = _LOOPBACK) -> str:
    """Return an IP address in the 7 to 45 characters that VNPay takes.

    The local computer is 127.0.0.1 whatever form it was given in. A value that is no address is
    replaced by `otherwise`: the server's, which stands in for a client that cannot be identified.
    """
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return wire_address(otherwise)
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return _LOOPBACK
    return str(address) if len(str(address)) >= _SHORTEST_ADDRESS else address.exploded


def write_time(moment: datetime) -> str:
    """Return a moment as VNPay writes it: in Vietnam, without separators."""
    return moment.astimezone(ZONE).strftime(_TIME)


def read_moment(text: str) -> datetime | None:
    """Return a moment that VNPay wrote, or None."""
    try:
        return sane_moment(datetime.strptime(text, _TIME).replace(tzinfo=ZONE))
    except (OverflowError, ValueError):
        return None


def read_amount(text: str) -> Money:
    """Return an amount of the wire; raise ValueError where it is none, or no whole dong."""
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_AMOUNT_LENGTH:
        raise ValueError("not an amount")
    dong, rest = divmod(int(text), _WIRE_UNITS)
    if rest:
        raise ValueError("not a whole amount")
    return Money.from_minor_units(dong, CURRENCY)


def write_amount(amount: Money) -> str:
    """Return an amount as VNPay writes it: in hundredths of a dong."""
    return str(minor_units(NAME, amount) * _WIRE_UNITS)
