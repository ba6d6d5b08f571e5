"""What several of these tests start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.runtime import database
from portal.runtime.settings import settings
from tests.support.keys import TEST_VAULT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def portal(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The portal's settings as nobody set them, a folder of its own, and its database."""
    for name in ("DATABASE_URL", "BASE_URL", "DEMO", "SMTP_HOST", "PORT", "TRUSTED_PROXIES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    settings.cache_clear()
    database.connect(database_url, vault=TEST_VAULT)
    yield
    database.disconnect()
    settings.cache_clear()
