"""The sandbox of the gateways, as a process beside the portal for as long as it serves."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from portal.runtime import ports
from portal.runtime.installation import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portal.runtime.settings import Settings

_STOP_SECONDS = 10
_PASSED_ON = frozenset(("PATH", "HOME", "LANG", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR"))


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Run the sandbox where a gateway needs it. Raises PortError where its port cannot be used.

    The sandbox ends with the portal, however that ends: its input from the portal is closed then.
    None of the portal's secrets are passed on.
    """
    chosen = settings.gateways
    if chosen.sandbox_port is None or chosen.sandbox_url is None:
        yield
        return
    ports.listen("127.0.0.1", chosen.sandbox_port, "SANDBOX_PORT").close()
    folder = settings.data_directory / "sandbox"
    process = subprocess.Popen(  # noqa: S603 - our own module
        [
            sys.executable,
            "-m",
            "sandbox",
            f"--port={chosen.sandbox_port}",
            f"--base-url={chosen.sandbox_url}",
            f"--portal-url=http://localhost:{settings.port}",
            f"--folder={folder}",
            "--until-input-ends",
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name in _PASSED_ON},
        stdin=subprocess.PIPE,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)
        if process.stdin is not None:
            process.stdin.close()
