"""Every widget of every page is sent values that no browser would send: each is answered."""

from __future__ import annotations

import math
import os
import random
from typing import TYPE_CHECKING

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState

from tests.security.streamlit_client import open_page
from tests.support.loops import run_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.security.streamlit_client import Run

OWNER, FINANCE, ADMIN, SUPPORT = (
    f"{name}@demo.example" for name in ("owner", "finance", "admin", "support")
)
PAGES = [
    (OWNER, "/", ""),
    (OWNER, "/", "tab=history"),
    (OWNER, "/", "tab=payments"),
    (OWNER, "/", "tab=vouchers"),
    (OWNER, "/", "tab=settings"),
    (OWNER, "/usage", ""),
    (OWNER, "/members", ""),
    (SUPPORT, "/", "q=demo"),
    (SUPPORT, "/account", "account=1"),
    (FINANCE, "/payments", ""),
    (FINANCE, "/approvals", ""),
    (FINANCE, "/bank_transfers", ""),
    (FINANCE, "/campaigns", ""),
    (FINANCE, "/campaigns", "id=1"),
    (FINANCE, "/analytics", ""),
    (FINANCE, "/rates", ""),
    (ADMIN, "/audit", ""),
    (ADMIN, "/staff", ""),
]
"""Who opens which page, and its query. The demo's accounts and campaigns begin with 1."""

ODD_TEXTS = (
    "",
    "no such choice",
    "\x00",
    "\u202e",
    "\uff19",
    "1e400",
    "-1",
    "{",
    "a" * 100_000,
)
WIDGETS_EACH = int(os.environ.get("FORGED_WIDGETS", "3"))
"""How many widgets of a page are forged one by one; `make fuzz-pages` does all."""


def values(kind: str) -> Iterator[object]:
    """Return odd values of one of the kinds that a widget's state can have."""
    numbers = (0, -1, 2**31, 2**62, -(2**62))
    yield from {
        "trigger_value": (True, False),
        "bool_value": (True, False),
        "int_value": numbers,
        "double_value": (math.nan, math.inf, -1.5, 1e308),
        "string_value": ODD_TEXTS,
        "bytes_value": (b"", b"\x00\xff" * 1000),
        "json_value": ("{}", "[" * 1000, "null", '{"selection": 7}', "NaN"),
        "string_array_value": ((), ("no such choice",), ODD_TEXTS),
        "int_array_value": ((), numbers, tuple(range(1000))),
        "double_array_value": ((), (math.nan,), (math.inf, -1.0)),
    }[kind]


KINDS = (
    "trigger_value",
    "bool_value",
    "int_value",
    "double_value",
    "string_value",
    "bytes_value",
    "json_value",
    "string_array_value",
    "int_array_value",
    "double_array_value",
)


def forged(widget: str, kind: str, value: object) -> WidgetState:
    """Return a widget's state with a value of this kind."""
    state = WidgetState(id=widget)
    if kind.endswith("array_value"):
        array = getattr(state, kind)
        array.SetInParent()
        array.data.extend(value)
    else:
        setattr(state, kind, value)
    return state


def is_answered(run: Run) -> bool:
    """Whether the page was drawn, or says in words what to do; nothing broke within."""
    broken = "contact support with this number" in run.text or "Traceback" in run.text
    return bool(run.drawn) and not broken and "exception {" not in run.text


async def forge(
    address: str, cookies: str, path: str, query: str, chance: random.Random
) -> list[str]:
    """Send each odd value to all widgets of a page at once, and some to some; return what broke."""
    async with open_page(address, cookies) as page:
        drawn = await page.run(path, query)
    assert is_answered(drawn), drawn.text[-2000:]
    widgets = drawn.widget_ids()
    some = chance.sample(widgets, min(WIDGETS_EACH, len(widgets)))
    waiting = [(kind, widgets, value) for kind in KINDS for value in values(kind)] + [
        (kind, [widget], chance.choice(list(values(kind)))) for kind in KINDS for widget in some
    ]
    broken = []
    async with open_page(address, cookies) as page:
        await page.run(path, query)
        for kind, targets, value in waiting:
            states = [forged(widget, kind, value) for widget in targets]
            if not is_answered(await page.run(path, query, widgets=states)):
                broken.append(f"{kind} {str(value)[:40]!r} of {short(targets)}")
    return broken


def short(widgets: Sequence[str]) -> str:
    """Return the ends of the widgets' ids, which are their keys."""
    return ", ".join(widget[-60:] for widget in widgets[:3])


@pytest.mark.parametrize(("email", "path", "query"), PAGES)
def test_a_forged_widget_breaks_no_page(
    portal_url: str, cookies_of: Callable[[str], str], email: str, path: str, query: str
) -> None:
    chance = random.Random(f"{email}{path}{query}")
    assert run_async(forge(portal_url, cookies_of(email), path, query, chance)) == []
