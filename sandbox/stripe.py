"""A sandbox of Stripe: Checkout, its API as the official SDK uses it, a dashboard, webhooks.

Its answers have the necessary fields, named and shaped as Stripe's are; the parameters of a request
must be known to it, as Stripe refuses parameters that it does not know.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse
from starlette.routing import Route

from sandbox.controls import Controls
from sandbox.stripe_account import Account, whole_number, words
from sandbox.stripe_pages import Pages
from sandbox.stripe_payments import (
    API_VERSION,
    CHARGE,
    DISPUTE,
    INTENT,
    MAX_LIFETIME,
    REFUND,
    TRANSACTION,
    Refusal,
    new_id,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.requests import Request
    from starlette.responses import Response

    from sandbox.app import Context
    from sandbox.store import Document

DEMO_SECRET_KEY = "sk_test_demo_0123456789"  # noqa: S105 - public
DEMO_WEBHOOK_SECRET = "whsec_demo_0123456789"  # noqa: S105 - public

_KEY = "stripe.key"
_KINDS = {"pi": INTENT, "ch": CHARGE, "txn": TRANSACTION}
_MIN_LIFETIME = timedelta(minutes=30)
_MIN_AMOUNTS = {"jpy": 50, "usd": 50, "eur": 50, "sgd": 50, "gbp": 30}
_MAX_AMOUNT = 99_999_999
_MAX_KEY_LENGTH = 255
_PAGE, _MAX_PAGE = 10, 100
_OK, _UNAUTHORIZED, _NOT_FOUND = 200, 401, 404
_GROUPS = frozenset(("sessions", "payments", "refunds", "disputes"))
_TROUBLE = {
    403: ("more_permissions_required", "invalid_request_error"),
    429: ("rate_limit", "invalid_request_error"),
    500: (None, "api_error"),
}

_SESSION_PARAMETERS = frozenset(
    {
        "adaptive_pricing[enabled]",
        "allowed_payment_method_types[]",
        "cancel_url",
        "client_reference_id",
        "customer_email",
        "expand[]",
        "expires_at",
        "line_items[][price_data][currency]",
        "line_items[][price_data][product_data][name]",
        "line_items[][price_data][unit_amount]",
        "line_items[][quantity]",
        "locale",
        "metadata[*]",
        "mode",
        "payment_intent_data[description]",
        "payment_intent_data[metadata][*]",
        "payment_method_options[konbini][expires_after_days]",
        "success_url",
    }
)
_REFUND_PARAMETERS = frozenset(
    {
        "amount",
        "charge",
        "expand[]",
        "instructions_email",
        "metadata[*]",
        "payment_intent",
        "reason",
    }
)
_LIST_PARAMETERS = frozenset({"charge", "expand[]", "limit", "payment_intent", "starting_after"})
_EXPAND_ONLY = frozenset({"expand[]"})


def routes(context: Context) -> list[Route]:
    """Return the routes of the API, of the pages where customers pay, and of the dashboard."""
    return account_routes(context, "stripe", DEMO_SECRET_KEY, DEMO_WEBHOOK_SECRET)


def account_routes(
    context: Context, name: str, secret_key: str, webhook_secret: str
) -> list[Route]:
    """Return the routes of one account; `name` is that of its path and of the portal's gateway."""
    controls = Controls(context.store, name, _GROUPS)
    account = Account(context, webhook_secret, controls, name)
    return [*_Api(account, secret_key).routes(), *Pages(account).routes(), controls.route()]


_Handler = Callable[[str, list[tuple[str, str]]], dict[str, Any]]


class _Api:
    """Answers requests as the SDK makes them."""

    def __init__(self, account: Account, secret_key: str) -> None:
        self._account = account
        self._secret_key = secret_key

    def routes(self) -> list[Route]:
        """Return the supported routes; all others are refused as Stripe does."""
        read, write = ["GET"], ["POST"]
        found: list[tuple[str, str, _Handler, list[str]]] = [
            ("/checkout/sessions", "sessions", self._create_session, write),
            ("/checkout/sessions/{id}", "sessions", self._get_session, read),
            ("/checkout/sessions/{id}/expire", "sessions", self._expire, write),
            ("/payment_intents/{id}", "payments", self._getter(INTENT), read),
            ("/charges/{id}", "payments", self._getter(CHARGE), read),
            ("/refunds", "refunds", self._create_refund, write),
            ("/refunds", "refunds", self._lister(REFUND), read),
            ("/refunds/{id}", "refunds", self._getter(REFUND), read),
            ("/disputes", "disputes", self._lister(DISPUTE), read),
            ("/disputes/{id}", "disputes", self._getter(DISPUTE), read),
            ("/{rest:path}", "", _unknown_url, ["GET", "POST", "DELETE"]),
        ]
        return [
            Route(f"/v1{path}", self._with(handle, group), methods=methods)
            for path, group, handle, methods in found
        ]

    def _with(self, handle: _Handler, group: str) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that checks the key, reads the parameters and answers in JSON."""

        async def answer(request: Request) -> Response:
            instead = await self._account.controls.stand_in_the_way(request, group, _trouble)
            if instead is not None:
                return instead
            is_post = request.method == "POST"
            text = (await request.body()).decode() if is_post else request.url.query
            pairs = parse_qsl(text, keep_blank_values=True)
            key = request.path_params.get("id", request.path_params.get("rest", ""))
            try:
                _check_key(request, self._secret_key)
                if is_post:
                    return self._once(request, pairs, lambda: handle(key, pairs))
                return _reply(_OK, self._expanded(handle(key, pairs), pairs))
            except Refusal as refusal:
                return _reply(refusal.status, refusal.body)

        return answer

    def _once(
        self, request: Request, pairs: list[tuple[str, str]], handle: Callable[[], Document]
    ) -> Response:
        """Carry a request out once for each idempotency key, and answer the rest as the first."""
        key = request.headers.get("idempotency-key", "")
        if len(key) > _MAX_KEY_LENGTH:
            raise Refusal(None, "Idempotency keys have at most 255 characters.")
        request_text = json.dumps([request.url.path, sorted(pairs)])
        print_of_request = hashlib.sha256(request_text.encode()).hexdigest()
        store = self._account.store
        with store.changing():
            known = store.get(_KEY, key) if key else None
            if known is not None and known["request"] != print_of_request:
                raise Refusal(
                    None,
                    "Keys for idempotent requests can only be used with the same parameters "
                    f"they were first used with. Try using a key other than '{key}'.",
                    kind="idempotency_error",
                )
            if known is not None:
                return _reply(known["status"], known["body"], replayed=True)
            try:
                status, body = _OK, self._expanded(handle(), pairs)
            except Refusal as refusal:
                if not refusal.kept:
                    raise
                status, body = refusal.status, refusal.body
            if key:
                kept = {"request": print_of_request, "status": status, "body": body}
                store.put(_KEY, key, kept)
        return _reply(status, body)

    def _expanded(self, found: Document, pairs: list[tuple[str, str]]) -> Document:
        """Return an object with others in place of their ids, where `expand` requests them."""
        for name, path in pairs:
            if name.startswith("expand["):
                node = found
                for step in path.split("."):
                    inner = node.get(step)
                    if isinstance(inner, str):
                        kind = _KINDS[inner.split("_", 1)[0]]
                        inner = node[step] = self._account.find(kind, inner)
                    if inner is None:
                        break
                    node = inner
        return found

    def _create_session(self, _key: str, pairs: list[tuple[str, str]]) -> Document:
        given = _read(pairs, _SESSION_PARAMETERS)
        amount, currency = _check_session(given, self._account.now())
        return self._account.open_session(given, amount, currency)

    def _get_session(self, key: str, pairs: list[tuple[str, str]]) -> Document:
        _read(pairs, _EXPAND_ONLY)
        return self._account.session(key)

    def _expire(self, key: str, pairs: list[tuple[str, str]]) -> Document:
        _read(pairs, _EXPAND_ONLY)
        return self._account.expire(key)

    def _getter(self, kind: str) -> Callable[[str, list[tuple[str, str]]], Document]:
        def get(key: str, pairs: list[tuple[str, str]]) -> Document:
            _read(pairs, _EXPAND_ONLY)
            return self._account.find(kind, key)

        return get

    def _lister(self, kind: str) -> Callable[[str, list[tuple[str, str]]], Document]:
        def get(_key: str, pairs: list[tuple[str, str]]) -> Document:
            given = _read(pairs, _LIST_PARAMETERS)
            limit = whole_number(given, "limit", _PAGE)
            if not 1 <= limit <= _MAX_PAGE:
                raise Refusal("parameter_invalid_integer", "1 to 100.", param="limit")
            requested = {
                name: given[name] for name in ("charge", "payment_intent") if name in given
            }
            found = self._account.store.find(kind, **requested)[::-1]
            if "starting_after" in given:
                ids = [one["id"] for one in found]
                if given["starting_after"] not in ids:
                    raise Refusal("resource_missing", "No such page.", param="starting_after")
                found = found[ids.index(given["starting_after"]) + 1 :]
            url = f"/v1/{kind.removeprefix('stripe.')}s"
            page = {"data": found[:limit], "has_more": len(found) > limit}
            return {"object": "list", "url": url, **page}

        return get

    def _create_refund(self, _key: str, pairs: list[tuple[str, str]]) -> Document:
        given = _read(pairs, _REFUND_PARAMETERS)
        amount = whole_number(given, "amount", 0) if "amount" in given else None
        return self._account.refund(self._charge_of(given), amount, given.get("metadata", {}))

    def _charge_of(self, given: Document) -> Document:
        if "charge" in given:
            return self._account.find(CHARGE, given["charge"], "charge")
        if "payment_intent" not in given:
            message = "One of the following params should be provided: charge, payment_intent."
            raise Refusal("parameter_missing", message)
        intent = self._account.find(INTENT, given["payment_intent"], "payment_intent")
        if intent["latest_charge"] is None:
            message = f"This PaymentIntent ({intent['id']}) does not have a charge to refund."
            raise Refusal("payment_intent_unexpected_state", message, kept=True)
        return self._account.find(CHARGE, intent["latest_charge"])


def _trouble(status: int) -> Response:
    code, kind = _TROUBLE[status]
    return _reply(status, Refusal(code, "Not now.", status=status, kind=kind).body)


def _unknown_url(rest: str, _pairs: list[tuple[str, str]]) -> Document:
    raise Refusal(None, f"Unrecognized request URL (/v1/{rest}).", status=_NOT_FOUND)


def _check_key(request: Request, secret_key: str) -> None:
    given = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(given, f"Bearer {secret_key}".encode()):
        raise Refusal(None, "Invalid API Key provided.", status=_UNAUTHORIZED)


def _reply(status: int, body: Document, *, replayed: bool = False) -> Response:
    headers = {"Request-Id": new_id("req"), "Stripe-Version": API_VERSION}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(body, status, headers)


def _read(pairs: list[tuple[str, str]], known: frozenset[str]) -> Document:
    """Return parameters as a tree, `a[b][0]=c` as {"a": {"b": ["c"]}}; refuse unknown ones."""
    root: Document = {}
    for name, value in pairs:
        shape = re.sub(r"(metadata\]?)\[[^\]]+\]$", r"\1[*]", re.sub(r"\[\d+\]", "[]", name))
        if shape not in known:
            message = f"Received unknown parameter: {name}"
            raise Refusal("parameter_unknown", message, param=name)
        *path, last = re.findall(r"[^\[\]]+", name)
        node = root
        for step in path:
            node = node.setdefault(step, {})
        node[last] = value
    return {name: _as_lists(value) for name, value in root.items()}


def _as_lists(node: Any) -> Any:  # noqa: ANN401 - a tree of texts
    if not isinstance(node, dict):
        return node
    if all(name.isdigit() for name in node):
        return [_as_lists(node[name]) for name in sorted(node, key=int)]
    return {name: _as_lists(value) for name, value in node.items()}


def _check_session(given: Document, now: int) -> tuple[int, str]:
    """Return the amount and currency of a valid session."""
    for name in ("mode", "line_items", "success_url"):
        if name not in given:
            message = f"Missing required param: {name}."
            raise Refusal("parameter_missing", message, param=name)
    if given["mode"] != "payment":
        raise Refusal(None, "Invalid mode: must be payment here.", param="mode")
    expires_at = whole_number(given, "expires_at", now + int(MAX_LIFETIME.total_seconds()))
    earliest, latest = now + _MIN_LIFETIME.total_seconds(), now + MAX_LIFETIME.total_seconds()
    if not earliest <= expires_at <= latest:
        message = (
            "The `expires_at` timestamp must be at least 30 minutes and less than 24 hours from "
            "Checkout Session creation."
        )
        raise Refusal(None, message, param="expires_at")
    return _total(given["line_items"])


def _total(items: list[Document]) -> tuple[int, str]:
    place = "line_items[0][price_data]"
    try:
        price = items[0]["price_data"]
        currency = str(price["currency"])
        named = bool(price["product_data"]["name"])
    except (KeyError, TypeError):
        named = False
    if not named or len(items) != 1:
        raise Refusal("parameter_missing", f"Missing required param: {place}.", param=place)
    unit = whole_number(price, "unit_amount", 0, f"{place}[unit_amount]")
    amount = unit * whole_number(items[0], "quantity", 1, "line_items[0][quantity]")
    if currency not in _MIN_AMOUNTS:
        message = f"Invalid currency: {currency}."
        raise Refusal(None, message, param=f"{place}[currency]")
    if amount < _MIN_AMOUNTS[currency]:
        message = f"Amount must be at least {words(_MIN_AMOUNTS[currency], currency)}"
        raise Refusal("amount_too_small", message)
    if amount > _MAX_AMOUNT:
        message = f"Amount must be no more than {words(_MAX_AMOUNT, currency)}"
        raise Refusal("amount_too_large", message)
    return amount, currency
