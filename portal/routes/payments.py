"""Webhooks of gateways, customers who return from a gateway, and the redirect to one.

A webhook is trusted only as far as the gateway's own module has verified it. A browser that returns
brings no credit: the page that it is sent to polls the gateway itself, and at most gives up a
payment that was cancelled.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anyio import fail_after
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from domain.errors import BillingError
from domain.gateways.interface import InboundMessage, KnownName, Outcome, WebhookRefused
from domain.gateways.registry import gateway_kinds
from domain.payments import handle_webhook, reference_of
from domain.payments.queries import find_payment
from domain.permissions import allows
from portal.routes.forms import Form, form_route
from portal.routes.requests import FIRST, Call, Reply
from portal.routes.responses import message, plain_answer, redirect
from portal.runtime import database, metrics
from portal.runtime.gateways import gateway_of, vault
from portal.runtime.worker_queue import QueueFull, WorkerQueue
from portal.ui.i18n import _
from portal.ui.urls import payment_path

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from domain.gateways.interface import Acknowledgement, Gateway

_log = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = 256 * 1024
_MAX_LENGTH_DIGITS = len(str(_MAX_MESSAGE_BYTES))
_BODY_SECONDS = 10
_MAX_CONCURRENT = 4
_MAX_WAITING = 200
"""Messages of one gateway that may wait for its threads, each with its body in memory."""


def routes() -> list[BaseRoute]:
    """Return the routes: /webhooks/…, /payments/return/… and /pay/…."""
    return [
        Route("/webhooks/{gateway}", endpoint=_Webhooks()),
        Route("/payments/return/{gateway}", endpoint=_Returns()),
        form_route("/pay/{reference}", Form(None, show=_leave, for_signed_in=True)),
    ]


class _Webhooks:
    """Receives the webhooks of a gateway's server, and answers as that gateway expects.

    Each gateway has threads of its own: whatever is sent in the name of one, and however long it
    takes to verify, the others are not delayed. A webhook that arrives while very many wait is
    answered with a request to retry.
    """

    def __init__(self) -> None:
        # Two of PayPal's at most wait for a certificate that is not known yet
        # (domain/gateways/paypal/certificates.py).
        self._queues: defaultdict[str, WorkerQueue] = defaultdict(
            lambda: WorkerQueue(_MAX_CONCURRENT, _MAX_WAITING)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one message."""
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        gateway = gateway_of(request.path_params["gateway"])
        if gateway is None:
            return plain_answer(404)
        allowed = gateway_kinds()[gateway.name].webhook_methods
        if request.method not in allowed:
            return plain_answer(405, {"Allow": ", ".join(allowed)})
        try:
            body = await _body(request)
        except HTTPException as refusal:
            return plain_answer(refusal.status_code)
        try:
            # A few at a time: more than the processor can handle only slows it down.
            return await self._queues[gateway.name].run(_take, gateway, _inbound(request, body))
        except QueueFull:
            busy = Outcome.UNAVAILABLE
            return _answered(gateway, busy, gateway.acknowledge(busy))


def _take(gateway: Gateway, inbound: InboundMessage) -> Response:
    outcome, answer = handle_webhook(
        database.transaction, gateway=gateway, message=inbound, vault=vault()
    )
    return _answered(gateway, outcome, answer)


def _answered(gateway: Gateway, outcome: Outcome, answer: Acknowledgement) -> Response:
    metrics.webhook_taken(gateway.name, outcome.value)
    return Response(
        answer.body,
        answer.status,
        {"Cache-Control": "no-store"},
        media_type=answer.media_type,
    )


async def _body(request: Request) -> bytes:
    """Return the body as it was received: JSON where there may be one.

    Raises HTTPException: 400 where its length is not the declared one, 408 where it arrives too
    slowly, 413 where it is larger than any gateway's, 415 where it is not JSON.
    """
    if request.method == "GET":
        return b""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415)
    length = _declared_length(request)
    content = bytearray()
    try:
        with fail_after(_BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > _MAX_MESSAGE_BYTES:
                    raise HTTPException(413)
    except ClientDisconnect:
        raise HTTPException(400) from None
    except TimeoutError:
        raise HTTPException(408) from None
    if length is not None and length != len(content):
        raise HTTPException(400)
    return bytes(content)


def _declared_length(request: Request) -> int | None:
    """Return the declared length of the body; raise HTTPException where it is invalid."""
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise HTTPException(400)
    if len(text) > _MAX_LENGTH_DIGITS or int(text) > _MAX_MESSAGE_BYTES:
        raise HTTPException(413)
    return int(text)


def _inbound(request: Request, body: bytes) -> InboundMessage:
    return InboundMessage(
        method=request.method,
        headers={name.lower(): value for name, value in request.headers.items()},
        query=tuple(request.query_params.multi_items()),
        raw_query=request.scope["query_string"].decode("latin-1"),
        body=body,
        received_at=datetime.now(UTC),
    )


# ── Browsers ──────────────────────────────────────────────────────────────────────────────────
class _Returns:
    """Sends a browser that returns from a gateway to the page of its payment."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one browser; a gateway that returns by POST is answered too."""
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        gateway = gateway_of(request.path_params["gateway"])
        if gateway is None:
            return redirect("/")
        if request.method not in {"GET", "HEAD", "POST"}:
            return plain_answer(405, {"Allow": "GET, HEAD, POST"})
        return await run_in_threadpool(_come_back, gateway, _inbound(request, b""))


def _come_back(gateway: Gateway, inbound: InboundMessage) -> Response:
    reference = None
    try:
        name: KnownName | None = gateway.parse_return(inbound)
    except WebhookRefused as refusal:
        _log.warning("somebody came back from %s unbelievably: %s", gateway.name, refusal.reason)
        name = None
    if name is not None:
        reference = database.read_snapshot(reference_of, gateway=gateway.name, name=name)
    return redirect(payment_path(reference or ""))


def _leave(call: Call, _reply: Reply = FIRST) -> Response:
    """Send a person who may pay to where the gateway expects them, or show how to pay."""
    reference = call.request.path_params["reference"]
    actor = call.visitor.actor(call.client.address)
    try:
        payment = database.read_snapshot(find_payment, actor=actor, reference=reference)
    except BillingError:
        text = _("Payment not found, or you do not have access.")
        return message(call, _("Page not found"), text, status=404)
    if not allows(actor, "pay", payment.account_id) or payment.pay_url is None:
        return redirect(payment_path(payment.reference))
    return RedirectResponse(payment.pay_url, 303, {"Cache-Control": "no-store"})
