"""A sandbox of VNPay 2.1.0: the payment page, IPN, querydr and refund, with its own signatures."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Route

from sandbox.controls import Controls
from sandbox.hosted_page import Choice, HostedPage, say, show
from sandbox.webhook_sender import Delivery, Message, WebhookRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from sandbox.app import Context

DEMO_TMN_CODE = "DEMOTMN1"
DEMO_HASH_SECRET = "DEMO-VNPAY-HASH-SECRET-0123456789"  # noqa: S105 - public

_NAME = "VNPay"
_KIND = "vnpay"
_GROUPS = frozenset(("api",))
_VIETNAM = timezone(timedelta(hours=7))
_TIME, _DAY_LENGTH = "%Y%m%d%H%M%S", 8
_WAITS = (2, 4, 8, 16, 30, 30, 30, 30, 30)
_REFUND_SETTLES = timedelta(seconds=5)
_SHORTEST_ADDRESS, _MAX_ADDRESS_LENGTH = 7, 45
_MIN_AMOUNT, _MAX_AMOUNT = 500_000, 99_999_999_900
_NEEDED = (
    "Version",
    "Command",
    "TmnCode",
    "Amount",
    "CurrCode",
    "CreateDate",
    "ExpireDate",
    "IpAddr",
    "Locale",
    "OrderInfo",
    "OrderType",
    "ReturnUrl",
    "TxnRef",
)
_FORMAT_FAULT = "Code 03: the address is not as it should be."
_WHOLE, _PART = "02", "03"
_OUTCOMES = {
    "succeed": ("00", "00"),
    "fail": ("51", "02"),
    "cancel": ("24", "02"),
    "suspect": ("07", "07"),
}
_CHOICES = (
    Choice("succeed", "Pay", is_main=True),
    Choice("fail", "Fail: not enough money"),
    Choice("suspect", "Pay, and be suspected of fraud"),
    Choice("cancel", "Cancel"),
)
_QUERY = (
    "RequestId",
    "Version",
    "Command",
    "TmnCode",
    "TxnRef",
    "TransactionDate",
    "CreateDate",
    "IpAddr",
    "OrderInfo",
)
_QUERY_ANSWER = (
    "ResponseId",
    "Command",
    "ResponseCode",
    "Message",
    "TmnCode",
    "TxnRef",
    "Amount",
    "BankCode",
    "PayDate",
    "TransactionNo",
    "TransactionType",
    "TransactionStatus",
    "OrderInfo",
    "PromotionCode",
    "PromotionAmount",
)
_REFUND = (
    "RequestId",
    "Version",
    "Command",
    "TmnCode",
    "TransactionType",
    "TxnRef",
    "Amount",
    "TransactionNo",
    "TransactionDate",
    "CreateBy",
    "CreateDate",
    "IpAddr",
    "OrderInfo",
)
_REFUND_ANSWER = _QUERY_ANSWER[:13]


def routes(context: Context) -> list[Route]:
    """Return VNPay's routes, and those of the sandbox's pages."""
    controls = Controls(context.store, _KIND, _GROUPS)
    stand_in = _VNPay(context, controls)
    return [
        Route("/paymentv2/vpcpay.html", stand_in.open_page),
        Route("/pay/{reference}", stand_in.choose, methods=["POST"]),
        Route("/merchant_webapi/api/transaction", stand_in.respond, methods=["POST"]),
        Route("/dashboard", stand_in.operate, methods=["POST"]),
        controls.route(),
    ]


def form_hash(parameters: dict[str, str]) -> str:
    """Return the signature of a pay address, a return or an IPN."""
    named = {name: value for name, value in parameters.items() if value}
    for name in ("vnp_SecureHash", "vnp_SecureHashType"):
        named.pop(name, None)
    return _hmac(urlencode(sorted(named.items())))


def pipe_hash(values: dict[str, Any], names: tuple[str, ...]) -> str:
    """Return the signature of a JSON request or answer."""
    return _hmac("|".join(str(values.get(f"vnp_{name}") or "") for name in names))


def _hmac(text: str) -> str:
    return hmac.new(DEMO_HASH_SECRET.encode(), text.encode(), "sha512").hexdigest()


def _is_address(text: object) -> bool:
    """Return whether a text is as long as VNPay wants an IP address to be."""
    return isinstance(text, str) and _SHORTEST_ADDRESS <= len(text) <= _MAX_ADDRESS_LENGTH


def _is_well_formed(given: dict[str, str]) -> bool:
    fixed = tuple(given.get(f"vnp_{name}") for name in ("Version", "Command", "CurrCode"))
    has_all = all(given.get(f"vnp_{name}") for name in _NEEDED)
    is_address = _is_address(given.get("vnp_IpAddr"))
    return has_all and is_address and fixed == ("2.1.0", "pay", "VND")


class _VNPay:
    def __init__(self, context: Context, controls: Controls) -> None:
        self._context = context
        self._controls = controls

    # ── The pay page ──────────────────────────────────────────────────────────────────────────
    async def open_page(self, request: Request) -> Response:
        """Show the amount to pay, if the address is signed and new."""
        pairs = parse_qsl(request.url.query, keep_blank_values=True)
        named = [(name, value) for name, value in pairs if name.startswith("vnp_")]
        given = dict(named)
        fault = self._fault(given) if len(given) == len(named) else _FORMAT_FAULT
        if fault is not None:
            return say(_NAME, "This payment cannot be opened", fault, 400)
        order, _ = self._context.store.put_first(
            _KIND, given["vnp_TxnRef"], lambda: {**given, "state": "open", "refunds": []}
        )
        if order["state"] != "open":
            return say(_NAME, "This payment is over", "Go back to the shop and start a new one.")
        dong = int(given["vnp_Amount"]) // 100
        return show(
            HostedPage(
                gateway=_NAME,
                merchant=given["vnp_TmnCode"],
                amount=f"{dong:,} VND".replace(",", "."),
                description=given["vnp_OrderInfo"],
                action=f"{self._context.base_url}/vnpay/pay/{given['vnp_TxnRef']}",
                choices=_CHOICES,
            )
        )

    def _fault(self, given: dict[str, str]) -> str | None:
        if not hmac.compare_digest(given.get("vnp_SecureHash", "").lower(), form_hash(given)):
            return "Code 97: the signature is wrong."
        if given.get("vnp_TmnCode") != DEMO_TMN_CODE:
            return "Code 02: there is no such terminal."
        if not _is_well_formed(given):
            return _FORMAT_FAULT
        amount = given["vnp_Amount"]
        if not amount.isdigit() or not _MIN_AMOUNT <= int(amount) <= _MAX_AMOUNT:
            return "Code 03: the amount is not one that can be paid."
        if given["vnp_ExpireDate"] <= self._now():
            return "Code 11: the time for this payment is over."
        return None

    def _now(self) -> str:
        return self._context.now().astimezone(_VIETNAM).strftime(_TIME)

    async def choose(self, request: Request) -> Response:
        """Carry out the choice, notify the merchant's server, and redirect the browser."""
        reference = request.path_params["reference"]
        form = await request.form()
        outcome, delivery = str(form.get("outcome", "")), str(form.get("delivery", "normal"))
        order = self._context.store.get(_KIND, reference)
        if order is None or outcome not in _OUTCOMES or delivery not in tuple(Delivery):
            return say(_NAME, "There is no such payment", "Go back to the shop.", 404)
        if order["state"] == "open":
            order = self._context.store.change(
                _KIND, reference, lambda found: self._finish(found, outcome)
            )
            forged = delivery == Delivery.FORGED
            self._notify(order, Delivery(delivery), forged=forged)
        query = urlencode(self._result(order))
        joint = "&" if "?" in order["vnp_ReturnUrl"] else "?"
        return RedirectResponse(f"{order['vnp_ReturnUrl']}{joint}{query}", 303)

    def _finish(self, order: dict[str, Any], outcome: str) -> None:
        order["state"] = outcome
        order["paid_at"] = self._now()
        is_paid = outcome in {"succeed", "suspect"}
        order["number"] = self._number(order["vnp_TxnRef"]) if is_paid else "0"

    @staticmethod
    def _number(text: str) -> str:
        """Return a transaction number: the same for the same payment."""
        digest = hashlib.sha256(text.encode()).digest()
        return str(10_000_000 + int.from_bytes(digest[:6], "big") % 10**14)

    def _result(self, order: dict[str, Any]) -> dict[str, str]:
        """Return the signed parameters that both the return and the IPN carry."""
        code, status = _OUTCOMES[order["state"]]
        result = {
            "vnp_TmnCode": order["vnp_TmnCode"],
            "vnp_Amount": order["vnp_Amount"],
            "vnp_BankCode": "NCB",
            "vnp_CardType": "ATM",
            "vnp_OrderInfo": order["vnp_OrderInfo"],
            "vnp_PayDate": order["paid_at"],
            "vnp_ResponseCode": code,
            "vnp_TransactionNo": order["number"],
            "vnp_TransactionStatus": status,
            "vnp_TxnRef": order["vnp_TxnRef"],
        }
        return {**result, "vnp_SecureHash": form_hash(result)}

    def _notify(self, order: dict[str, Any], delivery: Delivery, *, forged: bool) -> None:
        result = self._result(order)
        if forged:
            result["vnp_SecureHash"] = "0" * 128
        url = f"{self._context.portal_url}/webhooks/vnpay?{urlencode(result)}"
        webhook = WebhookRequest(lambda: Message("GET", url), _is_taken, _WAITS)
        self._context.sender.send(webhook, delivery)

    # ── The operator's actions at VNPay ───────────────────────────────────────────────────────────
    async def operate(self, request: Request) -> Response:
        """Refund a payment without the shop (`refund`), or refuse its latest one (`fail_refund`).

        The form names the payment by its reference; the amount is in dong.
        """
        form = await request.form()
        action, reference = str(form.get("action", "")), str(form.get("id", ""))
        amount = str(form.get("amount", ""))
        with self._context.store.changing():
            order = self._context.store.get(_KIND, reference)
            is_paid = order is not None and order["state"] == "succeed"
            if order is None or not is_paid:
                return PlainTextResponse("There is no such payment", 404)
            if action == "fail_refund" and order["refunds"]:
                order["refunds"][-1]["fails"] = True
            elif action == "refund" and amount.isdigit() and 0 < int(amount) * 100 <= _left(order):
                given = {"vnp_RequestId": uuid.uuid4().hex, "vnp_OrderInfo": "Made at VNPay"}
                self._add_refund(order, given, str(int(amount) * 100))
            else:
                return PlainTextResponse("This cannot be done", 409)
            self._context.store.put(_KIND, reference, order)
        return PlainTextResponse("Done")

    # ── The API ───────────────────────────────────────────────────────────────────────────────
    async def respond(self, request: Request) -> Response:
        """Answer a querydr or a refund, unless a failure is simulated."""
        instead = await self._controls.stand_in_the_way(request, "api", _trouble)
        return await self.answer(request) if instead is None else instead

    async def answer(self, request: Request) -> Response:
        """Answer a querydr or a refund."""
        try:
            given = json.loads(await request.body())
        except ValueError:
            return JSONResponse({"vnp_ResponseCode": "03", "vnp_Message": "Invalid format"})
        if not isinstance(given, dict):
            return JSONResponse({"vnp_ResponseCode": "03", "vnp_Message": "Invalid format"})
        handlers: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any]], Response]]] = {
            "querydr": (_QUERY, self._query),
            "refund": (_REFUND, self._refund),
        }
        names, handle = handlers.get(str(given.get("vnp_Command")), ((), self._unknown))
        given_hash = str(given.get("vnp_SecureHash", "")).lower()
        if not names or not hmac.compare_digest(given_hash, pipe_hash(given, names)):
            return JSONResponse({"vnp_ResponseCode": "97", "vnp_Message": "Invalid checksum"})
        if given.get("vnp_TmnCode") != DEMO_TMN_CODE:
            return JSONResponse({"vnp_ResponseCode": "02", "vnp_Message": "Invalid terminal"})
        has_all = all(given.get(f"vnp_{name}") for name in names if name != "TransactionNo")
        if not has_all or not _is_address(given.get("vnp_IpAddr")):
            return JSONResponse({"vnp_ResponseCode": "03", "vnp_Message": "Invalid format"})
        return handle(given)

    def _unknown(self, _given: dict[str, Any]) -> Response:
        return JSONResponse({"vnp_ResponseCode": "99", "vnp_Message": "Unknown command"})

    def _query(self, given: dict[str, Any]) -> Response:
        order = self._order(given)
        if order is None:
            return self._signed(given, "91", "Transaction not found", {}, _QUERY_ANSWER)
        refund = order["refunds"][-1] if order["refunds"] else None
        if refund is not None:
            return self._signed(given, "00", "Success", self._refund_values(refund), _QUERY_ANSWER)
        status = "01" if order["state"] == "open" else _OUTCOMES[order["state"]][1]
        values = {
            "Amount": order["vnp_Amount"],
            "BankCode": "NCB",
            "PayDate": order.get("paid_at", ""),
            "TransactionNo": order.get("number", "0"),
            "TransactionType": "01",
            "TransactionStatus": status,
            "OrderInfo": order["vnp_OrderInfo"],
        }
        return self._signed(given, "00", "QueryDR Success", values, _QUERY_ANSWER)

    def _refund(self, given: dict[str, Any]) -> Response:
        amount = str(given.get("vnp_Amount", ""))
        kind = given.get("vnp_TransactionType")
        if not amount.isdigit() or int(amount) == 0 or kind not in {_WHOLE, _PART}:
            return self._signed(given, "03", "Invalid format", {}, _REFUND_ANSWER)
        order = self._paid_order(given)
        if order is None:
            return self._signed(given, "91", "Transaction not found", {}, _REFUND_ANSWER)
        for known in order["refunds"]:
            values = self._refund_values(known)
            # A request's id is unique for a day only: on the next one it is a new request.
            is_today = known["date"][:_DAY_LENGTH] == self._now()[:_DAY_LENGTH]
            is_repeated = is_today and known["request"] == given["vnp_RequestId"]
            if is_repeated or values["TransactionStatus"] == "05":
                return self._signed(given, "94", "Already asked for", values, _REFUND_ANSWER)
        is_whole = amount == order["vnp_Amount"]
        is_too_much = int(amount) > _left(order)
        if order["state"] != "succeed" or is_too_much or (kind == _WHOLE) != is_whole:
            return self._signed(given, "95", "Not successful or too much", {}, _REFUND_ANSWER)
        refund = self._add_refund(order, given, amount)
        self._context.store.put(_KIND, order["vnp_TxnRef"], order)
        return self._signed(given, "00", "Success", self._refund_values(refund), _REFUND_ANSWER)

    def _add_refund(
        self, order: dict[str, Any], given: dict[str, Any], amount: str
    ) -> dict[str, Any]:
        refund = {
            "request": given["vnp_RequestId"],
            "amount": amount,
            "type": _WHOLE if amount == order["vnp_Amount"] else _PART,
            "number": self._number(f"{given['vnp_RequestId']}{len(order['refunds']) or ''}"),
            "asked_at": self._context.now().isoformat(),
            "date": self._now(),
            "info": given["vnp_OrderInfo"],
        }
        order["refunds"].append(refund)
        return refund

    def _paid_order(self, given: dict[str, Any]) -> dict[str, Any] | None:
        """Return the order that a refund names by its reference, its day and its number."""
        order = self._order(given)
        number = str(given.get("vnp_TransactionNo") or "0")
        if order is None or number not in {"0", order.get("number")}:
            return None
        return order

    def _order(self, given: dict[str, Any]) -> dict[str, Any] | None:
        order = self._context.store.get(_KIND, str(given["vnp_TxnRef"]))
        if order is None or order["vnp_CreateDate"] != str(given["vnp_TransactionDate"]):
            return None
        return order

    def _refund_values(self, refund: dict[str, Any]) -> dict[str, str]:
        settled_after = (self._context.now() - _REFUND_SETTLES).isoformat()
        status = "00" if refund["asked_at"] <= settled_after else "05"
        status = "09" if refund.get("fails") else status
        is_late = status == "05" and self._controls.numbers_refunds_late
        return {
            "Amount": refund["amount"],
            "BankCode": "NCB",
            "PayDate": refund["date"],
            "TransactionNo": "0" if is_late else refund["number"],
            "TransactionType": refund["type"],
            "TransactionStatus": status,
            "OrderInfo": refund["info"] if self._controls.names_refunds else "",
        }

    def _signed(
        self, given: dict[str, Any], code: str, message: str, values: dict[str, str],
        names: tuple[str, ...],
    ) -> Response:  # fmt: skip
        answer = {
            "vnp_ResponseId": str(given.get("vnp_RequestId", "")),
            "vnp_Command": str(given.get("vnp_Command", "")),
            "vnp_ResponseCode": code,
            "vnp_Message": message,
            "vnp_TmnCode": DEMO_TMN_CODE,
            "vnp_TxnRef": str(given.get("vnp_TxnRef", "")),
            **{f"vnp_{name}": value for name, value in values.items()},
        }
        answer["vnp_SecureHash"] = pipe_hash(answer, names)
        return JSONResponse(answer)


def _trouble(status: int) -> Response:
    return PlainTextResponse("Not now", status)


def _left(order: dict[str, Any]) -> int:
    """Return the refundable amount of a payment, in the units of the protocol."""
    alive = (int(one["amount"]) for one in order["refunds"] if not one.get("fails"))
    return int(order["vnp_Amount"]) - sum(alive)


def _is_taken(status: int, body: bytes) -> bool:
    """Return whether the merchant answered with a code on which VNPay stops."""
    try:
        code = json.loads(body).get("RspCode") if status == 200 else None  # noqa: PLR2004
    except (ValueError, AttributeError):
        return False
    return code in {"00", "02"}
