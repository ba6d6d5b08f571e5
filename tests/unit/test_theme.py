"""The theme keeps WCAG AA: 4.5 : 1 for text, 3 : 1 for marks and the edges of controls."""

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


def test_contrast_agrees_with_the_standard() -> None:
    assert contrast("#000000", WHITE) == pytest.approx(21)
    assert contrast("#777777", WHITE) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("text", ["textColor", "linkColor"])
@pytest.mark.parametrize("surface", ["backgroundColor", "secondaryBackgroundColor"])
def test_text_can_be_read(theme: dict[str, Any], text: str, surface: str) -> None:
    assert contrast(theme[text], theme[surface]) >= 4.5


@pytest.mark.parametrize("surface", ["backgroundColor", "secondaryBackgroundColor"])
def test_a_caption_can_be_read(theme: dict[str, Any], surface: str) -> None:
    below, text = theme[surface], theme["textColor"]
    mixed = [
        round(0.6 * int(text[start : start + 2], 16) + 0.4 * int(below[start : start + 2], 16))
        for start in (1, 3, 5)
    ]  # Streamlit draws captions at 60 %
    assert contrast("#" + "".join(f"{channel:02x}" for channel in mixed), below) >= 4.5


def test_a_button_can_be_read_and_seen(theme: dict[str, Any]) -> None:
    assert contrast(theme["primaryColor"], WHITE) >= 4.5
    assert contrast(theme["primaryColor"], theme["backgroundColor"]) >= 3


def test_every_colour_of_a_chart_can_be_seen(theme: dict[str, Any]) -> None:
    faint = [
        colour
        for colour in theme["chartCategoricalColors"]
        if contrast(colour, theme["backgroundColor"]) < 3
    ]
    assert not faint
