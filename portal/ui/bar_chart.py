"""The charts of the Usage page. Amounts become floats here, to be drawn, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import plotly.graph_objects as go
import streamlit.elements.plotly_chart  # noqa: F401 - registers the template of the page's theme

from domain.money import MICROS_PER_UNIT
from portal.ui.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

_HEIGHT = 340
_MARGIN = {"l": 8, "r": 8, "t": 8, "b": 8}
_REST_COLOUR = "#8a94a3"


class Bar(NamedTuple):
    """One bar's part: its position, its size, and the amount in words."""

    begins: date
    micros: int
    words: str


class Series(NamedTuple):
    """The parts of one colour; `is_rest` marks those without a colour of their own."""

    key: str
    name: str
    bars: Sequence[Bar]
    is_rest: bool = False


def distinguish(series: Sequence[Series]) -> list[Series]:
    """Return the series with unique names: a name that is taken gets its key appended.

    The rest keeps its name, as its key has no meaning.
    """
    taken = {one.name for one in series if one.is_rest}
    named = []
    for one in series:
        name = one.name
        while name in taken and not one.is_rest:
            name = f"{name} ({one.key})"
        taken.add(name)
        named.append(one._replace(name=name))
    return named


class Line(NamedTuple):
    """A line of a chart over days."""

    name: str
    points: Sequence[Bar]
    is_forecast: bool = False


def stacked_bars(
    series: Sequence[Series], currency: str, title: str = N_("Spent ({currency})")
) -> go.Figure:
    """Return bars that are cut into series, those below zero hanging from it.

    A point's custom data begins with its series' key and its day.
    """
    figure = go.Figure(
        [
            go.Bar(
                name=one.name,
                x=[bar.begins for bar in one.bars],
                y=[_drawn(bar.micros) for bar in one.bars],
                customdata=[[one.key, bar.begins.isoformat(), bar.words] for bar in one.bars],
                hovertemplate="%{x|%Y-%m-%d}<br>%{customdata[2]}",
                marker_color=_REST_COLOUR if one.is_rest else None,
            )
            for one in series
        ]
    )
    figure.update_layout(barmode="relative", hovermode="closest", clickmode="event+select")
    return _finish(figure, _(title).format(currency=currency))


def balance_lines(lines: Sequence[Line], currency: str) -> go.Figure:
    """Return the balance day by day; a forecast is dotted."""
    figure = go.Figure(
        [
            go.Scatter(
                name=line.name,
                x=[point.begins for point in line.points],
                y=[_drawn(point.micros) for point in line.points],
                customdata=[[point.words] for point in line.points],
                hovertemplate="%{x|%Y-%m-%d}<br>%{customdata[0]}",
                mode="lines",
                line={"shape": "hv", "dash": "dot" if line.is_forecast else "solid"},
            )
            for line in lines
        ]
    )
    figure.update_yaxes(rangemode="tozero")
    return _finish(figure, _("Balance ({currency})").format(currency=currency))


def _finish(figure: go.Figure, title: str) -> go.Figure:
    figure.update_layout(
        height=_HEIGHT,
        margin=_MARGIN,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        dragmode=False,
    )
    figure.update_xaxes(fixedrange=True, tickformat="%b %d", nticks=8)
    figure.update_yaxes(fixedrange=True, title=title)
    return figure


def _drawn(micros: int) -> float:
    return micros / MICROS_PER_UNIT
