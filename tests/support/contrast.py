"""Contrast ratios of the theme's colours."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

CONFIGURATION = Path(__file__).parents[2] / ".streamlit" / "config.toml"
WHITE = "#ffffff"  # Streamlit writes in white on the primary colour, whatever the theme


def contrast(first: str, second: str) -> float:
    """Return the WCAG 2 contrast ratio of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        red, green, blue = (
            channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
            for channel in channels
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads(CONFIGURATION.read_text("utf-8"))["theme"]
    colours: dict[str, Any] = loaded[request.param]
    return colours
