"""Runs the sandboxes: `python -m sandbox --port 8502 --portal-url http://localhost:8501`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from sandbox.app import make_app
from sandbox.store import Store, make_private_folder


def main(
    port: Annotated[int, typer.Option(help="Where to listen, on this computer only.")] = 8502,
    base_url: Annotated[
        str, typer.Option(help="How browsers reach it; without it, this computer and the port.")
    ] = "",
    portal_url: Annotated[
        str, typer.Option(help="Where the portal takes webhooks.")
    ] = "http://localhost:8501",
    folder: Annotated[Path, typer.Option(help="Where it keeps what it remembers.")] = Path(
        ".data/sandbox"
    ),
    *,
    until_input_ends: Annotated[
        bool, typer.Option("--until-input-ends", help="Stop with whoever started it.")
    ] = False,
) -> None:
    """Stand in for VNPay, Stripe and PayPal with test money."""
    make_private_folder(folder)
    app = make_app(
        base_url or f"http://localhost:{port}", portal_url, Store(folder / "sandbox.db"), folder
    )
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", server_header=False)
    )
    if until_input_ends:
        threading.Thread(target=_stop_after_input, args=(server,), daemon=True).start()
    server.run()


def _stop_after_input(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


if __name__ == "__main__":
    typer.run(main)
