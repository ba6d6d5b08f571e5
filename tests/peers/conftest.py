"""Independent implementations, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def peer_python() -> Path:
    """The interpreter of the environment that requirements-peers.txt fills."""
    found = ROOT / ".venv-peers" / "bin" / "python"
    assert found.exists(), "make test-peers installs it"
    return found


@pytest.fixture(scope="session")
def peer_modules() -> Path:
    """The folder of node packages; run node with it as the working directory's parent."""
    found = ROOT / "tests" / "peers" / "node_modules"
    assert (found / "vnpay").exists(), "make test-peers installs it"
    return found
