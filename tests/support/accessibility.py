"""Serious violations of WCAG on a page that a browser shows, by axe."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.conftest import settle

if TYPE_CHECKING:
    from playwright.sync_api import Page


SERIOUS = {"serious", "critical"}


def axe_source() -> str:
    package = importlib.util.find_spec("axe_playwright_python")
    assert package is not None
    assert package.origin is not None
    return (Path(package.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def serious_violations(page: Page) -> dict[str, list[str]]:
    settle(page)
    page.evaluate(axe_source())
    result: dict[str, Any] = page.evaluate("async () => await axe.run(document)")
    return {
        violation["id"]: [node["html"][:200] for node in violation["nodes"]]
        for violation in result["violations"]
        if violation["impact"] in SERIOUS
    }
