"""kill -9 at any moment: what was acknowledged is there, and the ledger verifies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from db.embedded.server import EmbeddedServer, acquire, remove
from db.engine import make_engine, make_sessions
from db.migrate import migrate
from domain.bootstrap import load_reference
from domain.ledger import verify_ledger
from tests.factories import SYSTEM, grant, make_account

ROOT = Path(__file__).resolve().parents[3]
ROUNDS = 20


def prepare(url: str) -> list[int]:
    migrate(url)
    engine = make_engine(url)
    with make_sessions(engine)() as session:
        load_reference(session, actor=SYSTEM)
        accounts = [make_account(session) for _ in range(3)]
        for account in accounts:
            grant(session, account, "0.002", kind="voucher")
            grant(session, account, "0.02")
        session.commit()
    engine.dispose()
    return accounts


def run_until_killed(
    server: EmbeddedServer, accounts: list[int], chance: random.Random
) -> set[str]:
    """Charge in another process; kill it, or its server, after a few batches; return the acks."""
    command = [sys.executable, "-m", "tests.charging_worker", server.url, *map(str, accounts)]
    worker = subprocess.Popen(  # noqa: S603 - our own worker
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert worker.stdout is not None
    acknowledged = {worker.stdout.readline().strip() for _ in range(chance.randint(1, 12))}
    if chance.random() < 0.5:
        pid_file = server.cluster_directory / "postmaster.pid"
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
    else:
        worker.kill()
    acknowledged |= {line.strip() for line in worker.stdout}
    worker.stdout.close()
    worker.wait()
    return acknowledged - {""}


@pytest.mark.timeout(300)
def test_acknowledged_charges_survive_kill_9_twenty_times(tmp_path: Path) -> None:
    chance = random.Random(20261123)
    server = acquire(tmp_path, report=lambda _: None)
    acknowledged: set[str] = set()
    try:
        accounts = prepare(server.url)
        for _ in range(ROUNDS):
            acknowledged |= run_until_killed(server, accounts, chance)
            server.release()
            server = acquire(tmp_path, report=lambda _: None)
            engine = make_engine(server.url)
            with make_sessions(engine)() as session:
                assert verify_ledger(session, actor=SYSTEM) == []
                for account in accounts:
                    known = session.execute(
                        text("SELECT event_id FROM usage_keys WHERE account_id = :account"),
                        {"account": account},
                    ).scalars()
                    assert acknowledged <= set(known)
            engine.dispose()
    finally:
        server.release()
        remove(tmp_path)
    assert len(acknowledged) >= ROUNDS
