"""Run the benchmarks, all of them or those named: `python -m benchmarks charging usage`."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from benchmarks.charging import ACTOR
from benchmarks.yardstick import Pgbench
from db.embedded.server import acquire, remove
from db.engine import make_engine, make_sessions
from db.migrate import migrate
from domain.bootstrap import load_reference

BENCHMARKS = (
    "charging",
    "importing",
    "history",
    "usage",
    "analytics",
    "search",
    "exports",
    "sessions",
    "flood",
    "restart",
    "callbacks",
)


def main(names: list[str]) -> int:
    """Run the benchmarks on a scratch server, or on new databases of BENCH_DATABASE_URL."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"No such benchmark: {', '.join(sorted(unknown))}. There are {BENCHMARKS}.")
        return 2
    os.environ["ENV_FILE"] = os.devnull  # the measured portal reads no .env
    given = os.environ.get("BENCH_DATABASE_URL")
    if given:
        _run(given, names or list(BENCHMARKS))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        server = acquire(Path(folder), settings={"shared_buffers": "1GB"})
        try:
            _run(server.url, names or list(BENCHMARKS))
        finally:
            server.release()
            remove(Path(folder))
    return 0


def _run(server_url: str, names: list[str]) -> None:
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for name in ("benchmark_yardstick", *(f"benchmark_{name}" for name in names)):
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    pgbench = Pgbench(_url(server_url, "benchmark_yardstick"))
    for name in names:
        url = _url(server_url, f"benchmark_{name}")
        migrate(url)
        engine = make_engine(url, statement_timeout_seconds=0)
        sessions = make_sessions(engine)
        with sessions() as session:
            load_reference(session, actor=ACTOR)
            session.commit()
        # Loaded when its turn comes, so that no benchmark's memory adds to that of the others.
        importlib.import_module(f"benchmarks.{name}").run(sessions, pgbench)
        engine.dispose()


def _url(server_url: str, database: str) -> str:
    return make_url(server_url).set(database=database).render_as_string(hide_password=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
