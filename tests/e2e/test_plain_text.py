"""What Streamlit makes of text that people wrote: that text, and nothing else."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e.plain_texts import TEXTS
from tests.support.running_portal import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

PLACES = """count => [...Array(count).keys()].map(number => {
  const parts = ["stMarkdownContainer", "stCaptionContainer"]
    .map(part => `.st-key-text-${number} [data-testid=${part}]`);
  return [...document.querySelectorAll(parts.join(", "))].map(place => [
    place.innerText, [...place.querySelectorAll("*")].map(element => element.tagName)]);
})"""


@pytest.fixture(scope="module")
def texts_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("texts") / "log"
    with log.open("w") as output:
        page = subprocess.Popen(  # noqa: S603 - our own words only
            [
                *(sys.executable, "-m", "streamlit", "run", "tests/e2e/plain_texts.py"),
                *("--server.address", "127.0.0.1", "--server.port", str(port)),
                *("--server.headless", "true", "--server.fileWatcherType", "none"),
                *("--browser.gatherUsageStats", "false"),
            ],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    while not _listens(port):
        assert page.poll() is None, log.read_text()
    yield f"http://127.0.0.1:{port}"
    page.send_signal(signal.SIGTERM)
    page.wait(timeout=120)


def _listens(port: int) -> bool:
    with socket.socket() as knocking:
        knocking.settimeout(0.2)
        return knocking.connect_ex(("127.0.0.1", port)) == 0


def test_text_shows_as_it_is_and_becomes_nothing_else(
    texts_url: str, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.goto(texts_url)
    page.locator(f".st-key-text-{len(TEXTS) - 1} button").wait_for()
    # Icons, formulas and smileys are made by parts that load after the first drawing.
    page.wait_for_load_state("networkidle")
    for text, places in zip(TEXTS, page.evaluate(PLACES, len(TEXTS)), strict=True):
        shown = [re.sub(r"\n+", "\n", words).strip("\n") for words, _ in places]
        line = re.sub(r"[ \t-\r\u2028]+", " ", text).strip()
        in_list = f"one: {line}\ntwo: {line}"
        assert sorted(shown) == sorted([line, line, line, f"{line}\nthen", in_list, line])
        elements = {name for _, names in places for name in names}
        assert elements <= {"P", "SPAN", "STRONG", "BR", "UL", "LI"}, text
        items = [name for _, names in places for name in names if name == "LI"]
        assert len(items) == len(("one", "two")), text
