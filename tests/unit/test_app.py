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

from portal.runtime import logs
from portal.runtime.settings import settings
from tests.support.environment import bare_environment

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


def test_whoever_comes_first_by_a_page_s_address_meets_the_portal_and_not_the_bare_page() -> None:
    """Streamlit runs files of a folder "pages" by themselves unless it is told not to."""
    asked = (
        "import app; from streamlit.runtime.pages_manager import PagesManager as Manager;"
        "Manager('portal/main.py'); assert Manager.uses_pages_directory is False"
    )
    kept = bare_environment()
    subprocess.run([sys.executable, "-c", asked], cwd=ROOT, env=kept, check=True)  # noqa: S603 - our own


def test_an_error_on_a_page_shows_a_number_and_no_detail(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(app.st, "error", lambda text, **_: shown.append(text))
    assert app._options["on_script_error"](RuntimeError("a secret detail"))
    (text,) = shown
    number = re.search(r"this number: ([0-9a-f]{12})$", text)
    assert number
    assert number.group(1) in caplog.text
    assert "a secret detail" in caplog.text
    assert "a secret detail" not in text


@pytest.mark.usefixtures("app")
def test_the_server_s_own_access_log_is_off_for_a_link_s_token_would_stand_in_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logs.set_up(settings())
    log = logging.getLogger("uvicorn.access")
    with caplog.at_level(logging.INFO, logger="uvicorn.access"):
        log.info("GET /reset-password?token=the-token")
    assert not caplog.text


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
