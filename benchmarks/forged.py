"""Webhooks that are forged in PayPal's name, and a server that is slow to send certificates."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

CERTIFICATE_SECONDS = 5.0
FORGED_PER_SECOND = 50
_LANES = 64
_CERTIFICATES = "https://api.sandbox.paypal.com/v1/notifications/certs"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def paypal_environment(listener: socket.socket) -> dict[str, str]:
    """Return settings of a PayPal whose certificates are served by the listener."""
    return {
        "PAYPAL_CLIENT_ID": "bench-client",
        "PAYPAL_CLIENT_SECRET": "bench-client-secret-0123456789",
        "PAYPAL_WEBHOOK_ID": "BENCH-WEBHOOK-0123456789",
        "PAYPAL_API_URL": f"http://127.0.0.1:{listener.getsockname()[1]}/sandbox",
    }


@asynccontextmanager
async def slow_certificates(listener: socket.socket) -> AsyncIterator[None]:
    """Answer every request for a certificate with 404, after a long delay."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(CERTIFICATE_SECONDS)
        writer.write(_NOT_FOUND)
        writer.close()

    server = await asyncio.start_server(answer, sock=listener.dup())
    try:
        yield
    finally:
        server.close()


@asynccontextmanager
async def forged_webhooks(address: str) -> AsyncIterator[list[str]]:
    """Send forged webhooks for as long as the block lasts, each with a certificate of its own.

    Yields the counts of those that were answered. At most 64 wait for an answer at once.
    """
    answers: list[str] = []
    lanes = asyncio.Semaphore(_LANES)
    async with (
        httpx2.AsyncClient(base_url=address, timeout=None) as client,
        asyncio.TaskGroup() as group,
    ):
        flood = group.create_task(_flood(client, group, lanes, answers))
        try:
            yield answers
        finally:
            flood.cancel()
            for _ in range(_LANES):  # those on their way are answered, so that nothing is left
                await lanes.acquire()


async def _flood(
    client: httpx2.AsyncClient,
    group: asyncio.TaskGroup,
    lanes: asyncio.Semaphore,
    answers: list[str],
) -> None:
    chance = random.Random(2)
    while True:
        await lanes.acquire()
        group.create_task(_send(client, chance.randbytes(8).hex(), lanes, answers))
        await asyncio.sleep(1 / FORGED_PER_SECOND)


async def _send(
    client: httpx2.AsyncClient, name: str, lanes: asyncio.Semaphore, answers: list[str]
) -> None:
    headers = {
        "Content-Type": "application/json",
        "PayPal-Transmission-Id": name,
        "PayPal-Transmission-Time": datetime.now(UTC).isoformat(),
        "PayPal-Transmission-Sig": "c2lnbmVkIGJ5IG5vYm9keQ==",
        "PayPal-Cert-Url": f"{_CERTIFICATES}/CERT-{name}",
        "PayPal-Auth-Algo": "SHA256withRSA",
    }
    body = json.dumps({"id": f"WH-{name}", "event_type": "PAYMENT.CAPTURE.COMPLETED"})
    try:
        answer = await client.post("/webhooks/paypal", content=body, headers=headers)
        answers.append(str(answer.status_code))
    except httpx2.HTTPError as error:
        answers.append(type(error).__name__)
    finally:
        lanes.release()
