"""A bar shows every part in its share, and says in words what it shows."""

from __future__ import annotations

import re

import pytest

from portal.ui.charts import Part, share_bar
from portal.views.billing.overview import COLOURS
from tests.support.contrast import WHITE, contrast

DARK_PAGE = "#10161f"


def test_shares_are_those_of_the_amounts() -> None:
    parts = [Part("A", "$1", 1, "#111111"), Part("B", "$2", 2, "#222222")]
    assert re.findall(r"width:([\d.]+%)", share_bar(parts)) == ["33.3%", "66.6%"]


def test_a_part_of_nothing_has_a_name_and_no_share() -> None:
    bar = share_bar([Part("A", "$1", 1, "#111111"), Part("None", "$0", 0, "#222222")])
    assert bar.count("width:") == 1
    assert 'aria-label="A $1, None $0"' in bar


def test_names_stay_text() -> None:
    bar = share_bar([Part('<b>"&', "$1", 1, "#111111")])
    assert '<b>"' not in bar
    assert "&lt;b&gt;&quot;&amp;" in bar


@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS)
@pytest.mark.parametrize("page", [WHITE, DARK_PAGE], ids=["light", "dark"])
def test_every_kind_of_credit_stands_out_from_the_page(colour: str, page: str) -> None:
    assert contrast(colour, page) >= 3
