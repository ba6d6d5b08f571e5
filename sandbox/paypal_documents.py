"""The documents of PayPal's answers and webhooks, as the sandbox creates them."""

from __future__ import annotations

import secrets
import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from sandbox.controls import convert

if TYPE_CHECKING:
    from datetime import datetime

    from starlette.responses import Response

Document = dict[str, Any]

WHOLE_ONLY = ("HUF", "JPY", "TWD")
CURRENCIES = (
    *("AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS"),
    *("JPY", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "SEK", "SGD", "THB", "TWD", "USD"),
)
PAYERS = {"TESTPAYER2345": "payer@example.com", "TESTPAYER6789": "another-payer@example.com"}
"""The test accounts at PayPal, by the number that PayPal gives a shop, the usual one first."""

USUAL_PAYER = "TESTPAYER2345"

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_ID_LETTERS = 17
_FEE_SHARE, _FEE_FIXED = Decimal("0.039"), Decimal("0.30")
_CURRENCY_CODE = (
    "Currency code is invalid or is not currently supported. Please refer "
    "https://developer.paypal.com/api/rest/reference/currency-codes/ for list of supported "
    "currency codes."
)
_ERRORS = {
    400: ("INVALID_REQUEST", "Request is not well-formed, syntactically incorrect, or violates schema."),  # noqa: E501
    401: ("AUTHENTICATION_FAILURE", "Authentication failed due to missing authorization header, or invalid authentication credentials."),  # noqa: E501
    403: ("NOT_AUTHORIZED", "Authorization failed due to insufficient permissions."),
    404: ("RESOURCE_NOT_FOUND", "The specified resource does not exist."),
    415: ("UNSUPPORTED_MEDIA_TYPE", "The server does not support the request payload's media type."),  # noqa: E501
    422: ("UNPROCESSABLE_ENTITY", "The requested action could not be performed, semantically incorrect, or failed business validation."),  # noqa: E501
    429: ("RATE_LIMIT_REACHED", "Too many requests. Blocked due to rate limiting."),
    500: ("INTERNAL_SERVER_ERROR", "An internal server error occurred."),
}  # fmt: skip
_DESCRIPTIONS = {
    "CAPTURE_FULLY_REFUNDED": "The capture has already been fully refunded",
    "DECIMAL_PRECISION": "If the currency supports decimals, only two decimal place precision is supported.",  # noqa: E501
    "INSTRUMENT_DECLINED": "The instrument presented  was either declined by the processor or bank, or it can't be used for this payment.",  # noqa: E501
    "INVALID_CURRENCY_CODE": _CURRENCY_CODE,
    "INVALID_PARAMETER_VALUE": "A parameter value is not valid.",
    "INVALID_RESOURCE_ID": "Specified resource ID does not exist. Please check the resource ID and try again.",  # noqa: E501
    "MALFORMED_REQUEST_JSON": "The request JSON is not well formed.",
    "MISSING_REQUIRED_PARAMETER": "A required parameter is missing.",
    "ORDER_ALREADY_CAPTURED": "Order already captured.If 'intent=CAPTURE' only one capture per order is allowed.",  # noqa: E501
    "REFUND_AMOUNT_EXCEEDED": "The refund amount must be less than or equal to the capture amount that has not yet been refunded.",  # noqa: E501
    "REFUND_CAPTURE_CURRENCY_MISMATCH": "Refund must be in the same currency as the capture",
    "REFUND_NOT_ALLOWED": "Capture cannot be refunded.",
}  # fmt: skip


def new_id() -> str:
    """Return an identifier as PayPal's look."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_ID_LETTERS))


def wire_time(moment: datetime) -> str:
    """Return a moment as PayPal writes it."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def money(value: Decimal, currency: str) -> Document:
    """Return an amount with the decimals that PayPal uses for its currency."""
    smallest = Decimal(1) if currency in WHOLE_ONLY else Decimal("0.01")
    rounded = value.quantize(smallest, ROUND_HALF_UP)
    return {"currency_code": currency, "value": f"{rounded:f}"}


def link(href: str, rel: str, method: str = "GET") -> Document:
    """Return a link of a document."""
    return {"href": href, "rel": rel, "method": method}


def error(status: int, issue: str | None = None) -> Response:
    """Return an error in PayPal's form."""
    name, message = _ERRORS[status]
    debug_id = secrets.token_hex(7)
    body: Document = {"name": name, "message": message, "debug_id": debug_id, "links": []}
    if issue is not None:
        described = {"description": _DESCRIPTIONS[issue]} if issue in _DESCRIPTIONS else {}
        body["details"] = [{"issue": issue, **described}]
    return JSONResponse(body, status, {"PayPal-Debug-Id": debug_id})


def breakdown(amount: Document, settles_in: str | None = None) -> Document:
    """Return what the merchant receives of a capture, and PayPal's fee.

    Where the account is settled in another currency, that one is reported too.
    """
    gross, currency = Decimal(amount["value"]), amount["currency_code"]
    fixed = Decimal(0) if currency in WHOLE_ONLY else _FEE_FIXED
    fee = money(min(gross, gross * _FEE_SHARE + fixed), currency)
    found: Document = {
        "gross_amount": dict(amount),
        "paypal_fee": fee,
        "net_amount": money(gross - Decimal(fee["value"]), currency),
    }
    if settles_in is not None and settles_in != currency:
        taken = convert(Decimal(fee["value"]), currency, settles_in)
        found["paypal_fee_in_receivable_currency"] = money(taken, settles_in)
    return found


def movement(reason: str, amount: Document, moment: datetime) -> Document:
    """Return the amount that a dispute debited from the merchant."""
    return {
        "affected_party": "SELLER",
        "amount": amount,
        "initiated_time": wire_time(moment),
        "reason": reason,
        "type": "DEBIT",
    }


def event(moment: datetime, event_type: str, resource_type: str, resource: Document) -> Document:
    """Return a webhook's body."""
    return {
        "id": f"WH-{uuid.uuid4().hex[:17].upper()}-{uuid.uuid4().hex[:17].upper()}",
        "event_version": "1.0",
        "create_time": wire_time(moment),
        "resource_type": resource_type,
        "resource_version": "2.0",
        "event_type": event_type,
        "summary": event_type.replace(".", " ").capitalize(),
        "resource": resource,
        "links": [],
    }
