"""A stand-in on a port of its own, in a thread."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import uvicorn

from sandbox.app import make_app
from sandbox.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sandbox_url(tmp_path: Path) -> Iterator[str]:
    """The address of the stand-ins; what they send goes nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = make_app(url, "http://127.0.0.1:9", Store(tmp_path / "sandbox.db"), tmp_path)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)  # noqa: TID251 - a poll; the test's time-out is its deadline
        yield url
        server.should_exit = True
        thread.join()
