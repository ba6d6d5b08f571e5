"""Series of a chart are told apart, whatever they are called."""

from __future__ import annotations

from portal.ui.bar_chart import Series, distinguish


def test_each_series_has_a_name_of_its_own() -> None:
    series = [
        Series("a", "Chat", ()),
        Series("b", "Chat", ()),
        Series("c", "Chat (b)", ()),
        Series("d", "Others", ()),
        Series("", "Others", (), is_rest=True),
    ]
    names = {one.key: one.name for one in distinguish(series)}
    assert names == {
        "a": "Chat",
        "b": "Chat (b)",
        "c": "Chat (b) (c)",
        "d": "Others (d)",
        "": "Others",
    }


def test_names_that_differ_stay_as_they_are() -> None:
    series = [Series("a", "Chat", ()), Series("", "Others", (), is_rest=True)]
    assert distinguish(series) == series
