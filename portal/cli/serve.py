"""Serve the portal: pages, own routes and jobs in one process."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
import uvicorn
from uvicorn.importer import import_from_string

from portal import demo
from portal.cli.shared import commands, say
from portal.routes import proxies
from portal.runtime import gateway_sandbox, logs, ports
from portal.runtime.gateways import gateway_faults
from portal.runtime.http_protocol import TimeLimitedHTTP, TimeLimitedWebSocket
from portal.runtime.installation import STREAMLIT_FOLDER
from portal.runtime.settings import Settings, settings

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


_GRACE_SECONDS = 5


@commands.command()
def serve(
    port: Annotated[
        int | None, typer.Option(help="Where to listen. Without it: PORT, or 8501.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="The address to listen on; put a proxy with TLS in front. Without it: HOST."
        ),
    ] = None,
) -> None:
    """Start the portal, with sample accounts where it has its own database."""
    if port is not None:
        # Links in mails and the pages' own idea of their address go by the setting.
        os.environ["PORT"] = str(port)
    chosen = settings()
    chosen_host = host or chosen.host
    listener = ports.listen(chosen_host, chosen.port)
    logs.set_up(chosen)
    _hear_startup()
    os.chdir(STREAMLIT_FOLDER)
    say("Starting the portal")
    proxies.leave_headers_to_portal()
    # Streamlit takes seconds to import, which other commands need not wait for.
    guarded = _GuardedStart(import_from_string("portal.asgi:create_app")())
    server = _Server(_server_settings(guarded), chosen, chosen_host)
    try:
        with gateway_sandbox.running(chosen):
            server.run(sockets=[listener])
    except (KeyboardInterrupt, SystemExit):
        # Stopped by a signal, or not started; the lines below tell the cases apart.
        pass
    finally:
        listener.close()
    if guarded.failure is not None:
        raise guarded.failure
    say("Stopped.")


def _hear_startup() -> None:
    """Print a sentence about each step that takes long before the portal is ready."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("portal.startup")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False


def _server_settings(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        http=TimeLimitedHTTP,
        ws=TimeLimitedWebSocket,
        # The application decides itself whose X-Forwarded-For counts: portal/routes/proxies.py.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level=logging.WARNING,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


class _GuardedStart:
    """Keeps why the application could not start, for one sentence instead of a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        is_answered = False

        async def answer(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            # Without the traceback that a failure's message has.
            await send({"type": message["type"]})

        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            self.failure = error
            if is_answered:
                raise
            await send({"type": "lifespan.startup.failed"})


class _Server(uvicorn.Server):
    """A server that prints its address, and in demo mode how to sign in, once it is ready."""

    def __init__(self, config: uvicorn.Config, chosen: Settings, host: str) -> None:
        super().__init__(config)
        self._chosen = chosen
        self._host = host

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            await asyncio.to_thread(_announce, self._chosen, self._host)


def _announce(chosen: Settings, host: str) -> None:
    address = chosen.base_url
    if chosen.allows_any_host and host not in {"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"}:  # noqa: S104 - compared
        address = f"http://{host}:{chosen.port}"
    say(f"\nThe portal is ready: {address}   (Ctrl-C stops it)")
    if chosen.demo:
        say_sign_ins()
    if chosen.gateways.sandbox_url is not None:
        say("\nPayments go to stand-ins of the gateways, with test money.")
    for fault in gateway_faults(chosen):
        say(f"\n{fault}")


def say_sign_ins() -> None:
    """Print who can sign in to the demo."""
    width = max(len(email) for email, _role in demo.SIGN_INS)
    say(f"\nSign in as one of these; the password is {demo.PASSWORD}")
    for email, role in demo.SIGN_INS:
        say(f"  {email:<{width}}  {role}")
    say(f"\nA voucher code to try: {demo.VOUCHER_CODE}")
