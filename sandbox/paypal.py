"""A sandbox of PayPal: Orders v2, refunds, disputes, signed webhooks, and the payment page."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.responses import Response as AnyResponse
from starlette.routing import Route

from sandbox.controls import Controls
from sandbox.hosted_page import Choice, HostedPage, say, show
from sandbox.paypal_documents import PAYERS, USUAL_PAYER, error
from sandbox.paypal_orders import CAPTURE, DEMO_WEBHOOK_ID, DISPUTE, ORDER, REFUND, Refusal
from sandbox.paypal_store import PayPalStore
from sandbox.webhook_sender import Delivery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from sandbox.app import Context
    from sandbox.paypal_documents import Document

__all__ = ["DEMO_CLIENT_ID", "DEMO_CLIENT_SECRET", "DEMO_WEBHOOK_ID", "routes"]

DEMO_CLIENT_ID = "demo-client-id"
DEMO_CLIENT_SECRET = "demo-client-secret-0123456789"  # noqa: S105 - public

_NAME = "PayPal"
_TOKEN = "paypal.token"  # noqa: S105 - the kind of document that tokens are kept as
_TOKEN_LIVES = timedelta(seconds=32_400)
_PEM = "application/x-pem-file"
_CHOICES = (
    Choice("succeed", "Pay", is_main=True),
    Choice("decline", "Pay, and be declined when it is captured"),
    Choice("pending", "Pay, and be held for review"),
    Choice("cancel", "Cancel"),
)
_OUTCOMES = frozenset(choice.value for choice in _CHOICES)
_WAITING = ("CREATED", "PAYER_ACTION_REQUIRED")
_DISPUTE_ENDS = {
    "win": ("RESOLVED_SELLER_FAVOUR", False),
    "lose": ("RESOLVED_BUYER_FAVOUR", False),
    "lose_reversed": ("RESOLVED_BUYER_FAVOUR", True),
    "accept": ("ACCEPTED", False),
    "payout": ("RESOLVED_WITH_PAYOUT", False),
    "close_undecided": ("NONE", False),
}
"""How a dispute ends, and whether a reversal is told as well; an amount says what was given."""

_GROUPS = frozenset(("token", "orders", "captures", "refunds", "disputes", "certificates"))


def routes(context: Context) -> list[Route]:
    """Return the routes of PayPal's API, and those of the sandbox's pages."""
    controls = Controls(context.store, "paypal", _GROUPS)
    store = PayPalStore(context, controls)
    api, pages = _Api(context, store, controls), _Pages(context, store)
    orders, captures, disputes = (
        "/v2/checkout/orders",
        "/v2/payments/captures/{id}",
        "/v1/customer/disputes",
    )
    certificates = "/v1/notifications/certs/{name}"
    post = ["POST"]
    return [
        Route("/v1/oauth2/token", api.guarded(api.token, "token"), methods=post),
        Route(orders, api.asked(api.create, "orders"), methods=post),
        Route(f"{orders}/{{id}}", api.asked(api.order, "orders")),
        Route(f"{orders}/{{id}}/capture", api.asked(api.take, "captures"), methods=post),
        Route(captures, api.asked(api.capture, "captures")),
        Route(f"{captures}/refund", api.asked(api.create_refund, "refunds"), methods=post),
        Route("/v2/payments/refunds/{id}", api.asked(api.refund, "refunds")),
        Route(disputes, api.asked(api.disputes, "disputes")),
        Route(f"{disputes}/{{id}}", api.asked(api.dispute, "disputes")),
        Route(certificates, api.guarded(api.certificate, "certificates")),
        Route("/pay/{id}", pages.open),
        Route("/pay/{id}", pages.choose, methods=post),
        Route("/dashboard", pages.dashboard),
        Route("/dashboard", pages.operate, methods=post),
        controls.route(),
    ]


class _Api:
    def __init__(self, context: Context, store: PayPalStore, controls: Controls) -> None:
        self._context = context
        self._store = store
        self._controls = controls

    # ── Authentication ────────────────────────────────────────────────────────────────────────────
    async def token(self, request: Request) -> Response:
        """Give a token to who has the application's keys."""
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            client = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            client = b""
        expected = f"{DEMO_CLIENT_ID}:{DEMO_CLIENT_SECRET}".encode()
        if kind.lower() != "basic" or not hmac.compare_digest(client, expected):
            return _token_error("invalid_client", "Client Authentication failed", 401)
        form = await request.form()
        if form.get("grant_type") != "client_credentials":
            return _token_error("unsupported_grant_type", "Grant Type is NOT supported.", 400)
        token = secrets.token_urlsafe(32)
        ends = self._context.now() + _TOKEN_LIVES
        self._context.store.put(_TOKEN, token, {"ends": ends.isoformat()})
        answer = {
            "scope": "https://uri.paypal.com/services/payments/payment",
            "access_token": token,
            "token_type": "Bearer",  # nosec B105 - the name of a scheme
            "app_id": "APP-DEMO",
            "expires_in": int(_TOKEN_LIVES.total_seconds()),
            "nonce": secrets.token_hex(16),
        }
        return JSONResponse(answer)

    def guarded(
        self, answer: Callable[[Request], Awaitable[Response]], group: str
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler with simulated failures of its group of requests."""

        async def respond(request: Request) -> Response:
            instead = await self._controls.stand_in_the_way(request, group, error)
            return await answer(request) if instead is None else instead

        return respond

    def asked(
        self, answer: Callable[[Request, Document], Response], group: str
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that requires a token, and gets the request's body."""

        async def respond(request: Request) -> Response:
            if not self._is_known(request):
                return error(HTTPStatus.UNAUTHORIZED)
            try:
                return answer(request, await _body(request))
            except Refusal as refusal:
                return error(refusal.status, refusal.issue)

        return self.guarded(respond, group)

    def _is_known(self, request: Request) -> bool:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        found = self._context.store.get(_TOKEN, token)
        if kind.lower() != "bearer" or found is None:
            return False
        return datetime.fromisoformat(found["ends"]) > self._context.now()

    # ── The API ───────────────────────────────────────────────────────────────────────────────────
    def create(self, request: Request, body: Document) -> Response:
        """Create an order: 201, or 200 where it is there already or awaits its payer."""
        order, is_new = self._store.create(body, _request_id(request))
        status = HTTPStatus.CREATED if is_new and order["status"] == "CREATED" else HTTPStatus.OK
        if "return=representation" not in request.headers.get("prefer", ""):
            order = {name: order[name] for name in ("id", "status", "links")}
        return JSONResponse(order, status)

    def order(self, request: Request, _body: Document) -> Response:
        """Show an order."""
        return JSONResponse(self._store.order(request.path_params["id"]))

    def take(self, request: Request, _body: Document) -> Response:
        """Capture an order."""
        order, is_new = self._store.take(request.path_params["id"], _request_id(request))
        return JSONResponse(order, HTTPStatus.CREATED if is_new else HTTPStatus.OK)

    def capture(self, request: Request, _body: Document) -> Response:
        """Show a capture."""
        return JSONResponse(self._store.capture(request.path_params["id"]))

    def create_refund(self, request: Request, body: Document) -> Response:
        """Refund a capture."""
        number = request.path_params["id"]
        refund, is_new = self._store.create_refund(number, body, _request_id(request))
        return JSONResponse(refund, HTTPStatus.CREATED if is_new else HTTPStatus.OK)

    def refund(self, request: Request, _body: Document) -> Response:
        """Show a refund."""
        return JSONResponse(self._store.refund(request.path_params["id"]))

    def disputes(self, request: Request, _body: Document) -> Response:
        """List disputes."""
        about = request.query_params.get("disputed_transaction_id")
        return JSONResponse(self._store.disputes(about))

    def dispute(self, request: Request, _body: Document) -> Response:
        """Show a dispute."""
        return JSONResponse(self._store.dispute(request.path_params["id"]))

    async def certificate(self, request: Request) -> Response:
        """Give the certificate that webhooks are signed under, or its root."""
        identity, name = self._store.identity, request.path_params["name"]
        if name == "ca":
            return AnyResponse(identity.root_pem(), media_type=_PEM)
        if name == identity.name:
            return AnyResponse(identity.certificate_pem(), media_type=_PEM)
        return error(HTTPStatus.NOT_FOUND, "INVALID_RESOURCE_ID")


class _Pages:
    def __init__(self, context: Context, store: PayPalStore) -> None:
        self._context = context
        self._store = store

    async def open(self, request: Request) -> Response:
        """Show the order to pay."""
        try:
            record = self._store.record(request.path_params["id"])
        except Refusal:
            return _gone()
        if record["order"]["status"] not in _WAITING:
            return say(_NAME, "This payment is over", "Go back to the shop and start a new one.")
        unit = record["order"]["purchase_units"][0]
        return show(
            HostedPage(
                gateway=_NAME,
                merchant=record["merchant"],
                amount=f"{unit['amount']['value']} {unit['amount']['currency_code']}",
                description=unit.get("description", ""),
                action=f"{self._context.base_url}/paypal/pay/{record['id']}",
                choices=_CHOICES,
                instruments=[Choice(number, email) for number, email in PAYERS.items()],
            )
        )

    async def choose(self, request: Request) -> Response:
        """Approve or cancel as was chosen, and send the browser back to the shop."""
        form = await request.form()
        outcome, requested = str(form.get("outcome", "")), str(form.get("delivery", "normal"))
        try:
            record = self._store.record(request.path_params["id"])
        except Refusal:
            return _gone()
        payer = str(form.get("instrument", USUAL_PAYER))
        if outcome not in _OUTCOMES or requested not in set(Delivery) or payer not in PAYERS:
            return say(_NAME, "There is no such choice", "Go back to the shop.", 400)
        token = {"token": record["id"]}
        if outcome == "cancel":
            return _back(record["cancel_url"], token)
        if record["order"]["status"] in _WAITING:
            self._store.approve(record["id"], outcome, Delivery(requested), payer)
        return _back(record["return_url"], {**token, "PayerID": payer})

    # ── The operator's page ───────────────────────────────────────────────────────────────────
    async def dashboard(self, _request: Request) -> Response:
        """Show the payments with their possible actions; the latest first."""
        store = self._context.store
        payments = [
            {
                **kept["capture"],
                "merchant": (store.get(ORDER, kept["order"]) or {}).get("merchant", ""),
                "disputes": [one["dispute"] for one in store.find(DISPUTE, capture=kept["id"])],
                "refunds": [one["refund"] for one in store.find(REFUND, capture=kept["id"])],
            }
            for kept in reversed(store.find(CAPTURE))
        ]
        action = f"{self._context.base_url}/paypal/dashboard"
        template = _environment().get_template("paypal_dashboard.html")
        content = template.render(payments=payments, action=action)
        return HTMLResponse(content, headers={"Cache-Control": "no-store"})

    async def operate(self, request: Request) -> Response:
        """Carry out the operator's action on a payment or a dispute."""
        form = await request.form()
        name, number = str(form.get("action", "")), str(form.get("id", ""))
        amount = str(form.get("amount", "")).strip()
        try:
            self._operate(name, number, amount)
        except Refusal as refusal:
            return say(_NAME, "PayPal would refuse this", refusal.issue or "", refusal.status)
        return RedirectResponse(f"{self._context.base_url}/paypal/dashboard", 303)

    def _operate(self, name: str, number: str, amount: str) -> None:
        store, count = self._store, _decimal(amount)
        if name in _DISPUTE_ENDS:
            outcome_code, reverses = _DISPUTE_ENDS[name]
            store.resolve(number, outcome_code, given=count, reverses=reverses)
        elif name in {"complete", "deny"}:
            store.decide(number, is_good=name == "complete")
        elif name in {"refund", "refund_unnamed"}:
            currency = store.capture(number)["amount"]["currency_code"]
            part = {"amount": {"currency_code": currency, "value": amount}} if amount else {}
            store.create_refund(number, part, None, is_named=name == "refund")
        elif name == "reverse":
            store.reverse(number, count)
        else:
            rest: dict[str, Callable[[str], object]] = {
                "appeal": store.appeal,
                "dispute": store.open_dispute,
                "fail_refund": store.fail_refund,
            }
            if name not in rest:
                raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER_VALUE")
            rest[name](number)


def _decimal(amount: str) -> Decimal | None:
    """Return the amount that was typed, or None for an empty field; raise Refusal."""
    try:
        return Decimal(amount) if amount else None
    except InvalidOperation:
        raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER_SYNTAX") from None


async def _body(request: Request) -> Document:
    """Return the JSON object of a request, which may be empty; raise Refusal."""
    if request.method != "POST":
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    content = await request.body()
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "MALFORMED_REQUEST_JSON") from None
    if not isinstance(found, dict):
        raise Refusal(HTTPStatus.BAD_REQUEST, "MALFORMED_REQUEST_JSON")
    return found


def _request_id(request: Request) -> str | None:
    return request.headers.get("paypal-request-id") or None


def _token_error(code: str, description: str, status: int) -> Response:
    return JSONResponse({"error": code, "error_description": description}, status)


def _gone() -> Response:
    return say(_NAME, "There is no such payment", "It may be over. Go back to the shop.", 404)


def _back(url: str | None, query: dict[str, str]) -> Response:
    if not url:
        return say(_NAME, "Done", "The shop gave no address to go back to.")
    joint = "&" if "?" in url else "?"
    return RedirectResponse(f"{url}{joint}{urlencode(query)}", 303)


@cache
def _environment() -> Environment:
    folder = Path(__file__).resolve().parent / "templates"
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
