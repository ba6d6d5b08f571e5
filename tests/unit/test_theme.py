"""The theme keeps WCAG AA: 4.5 : 1 for text, 3 : 1 for marks and the edges of controls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.contrast import WHITE, contrast, theme

__all__ = ["theme"]


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
