"""The payment page: as a real gateway shows it, with buttons for each outcome."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Choice:
    """A button: the value that it posts as `outcome`, and its label."""

    value: str
    label: str
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class HostedPage:
    """The content of the page. The form posts `outcome` and `delivery` to the path `action`.

    `instruments` are the means of payment, the usual one first; the form posts `instrument`.
    """

    gateway: str
    merchant: str
    amount: str
    description: str
    action: str
    choices: Sequence[Choice]
    note: str = ""
    instruments: Sequence[Choice] = ()


def show(page: HostedPage, status: int = 200) -> HTMLResponse:
    """Return the page."""
    content = _environment().get_template("pay.html").render(page=page)
    return HTMLResponse(content, status, {"Cache-Control": "no-store"})


def say(gateway: str, title: str, text: str, status: int = 200) -> HTMLResponse:
    """Return a page with one message, such as that a payment has expired."""
    content = (
        _environment().get_template("say.html").render(gateway=gateway, title=title, text=text)
    )
    return HTMLResponse(content, status, {"Cache-Control": "no-store"})


@cache
def _environment() -> Environment:
    folder = Path(__file__).resolve().parent / "templates"
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
