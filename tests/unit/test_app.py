"""The application's own pieces: what it shows of an error, and what its logs leave out."""

from __future__ import annotations

import importlib
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from portal.settings import settings

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is imported where the environment says nothing."""
    for name in ("DATABASE_URL", "BASE_URL", "DEMO", "PORT", "TRUSTED_PROXIES"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    return importlib.import_module("app")


def test_an_error_on_a_page_shows_a_number_and_no_detail(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(app.st, "error", shown.append)
    assert app.show_script_error(RuntimeError("a secret detail"))
    (text,) = shown
    number = re.search(r"this number: ([0-9a-f]{8})$", text)
    assert number
    assert number.group(1) in caplog.text
    assert "a secret detail" in caplog.text
    assert "a secret detail" not in text


@pytest.mark.usefixtures("app")
def test_the_access_log_keeps_no_token_of_a_link(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("uvicorn.access")
    with caplog.at_level(logging.INFO, logger="uvicorn.access"):
        path = "/reset-password?token=the-token"
        log.info('%s - "%s %s HTTP/%s" %d', "192.0.2.1:5", "GET", path, "1.1", 200)
        log.info("a line without a path")
    assert '192.0.2.1:5 - "GET /reset-password HTTP/1.1" 200' in caplog.text
    assert "the-token" not in caplog.text
    assert "a line without a path" in caplog.text


def test_settings_that_cannot_be_are_said_in_plain_words() -> None:
    environment = {**os.environ, "PORT": "eighty", "DEMO": "0", "SECRET_KEY": ""}
    ended = subprocess.run(
        [sys.executable, "-c", "import app"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "PORT is a whole number from 1 to 65535." in ended.stderr
    assert "SECRET_KEY needs 32 or more random characters" in ended.stderr
    assert "Traceback" not in ended.stderr
