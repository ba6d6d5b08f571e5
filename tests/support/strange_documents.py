"""Documents of real life with a few places changed at random, as nobody would write them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]
Path = tuple[str | int, ...]


def deep(levels: int) -> Document:
    found: Document = {"a": []}
    for _ in range(levels):
        found = {"a": [found]}
    return found


STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.sampled_from([0, -1, 1, 10**13, 10**19, 253402300800, -62135596801]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        [
            *("", " ", "0", "-1", "1e3", "NaN", "zzz", "XXX", "VND", "jpy", "KWD", "9" * 40),
            *("\x00", "a\x00b", "\ud800", "\u202e", "x" * 5_000, "٣٤", "99991231235959"),
            *("00010101000000", "0001-01-01T00:00:00+07:00", "9999-12-31T23:59:59-10:00"),
            *("COMPLETED", "RESOLVED", "lost", "won", "succeeded", "paid", "00", "07", "02", "03"),
        ]
    ),
    st.just([]),
    st.just({}),
    st.just(deep(3)),
    st.just([None]),
    st.just(["x", 7, {}]),
    st.dictionaries(st.text(max_size=5), st.none(), max_size=2),
)


def paths_of(document: object, here: Path = ()) -> list[Path]:
    """Return every place of a document, the document itself left out."""
    items: list[tuple[str | int, object]] = []
    if isinstance(document, dict):
        items = list(document.items())
    elif isinstance(document, list):
        items = list(enumerate(document))
    found: list[Path] = []
    for name, value in items:
        found += [(*here, name), *paths_of(value, (*here, name))]
    return found


@st.composite
def changed(draw: st.DrawFn, document: Document) -> Document:
    """Return a copy of a document with one to three places changed or missing."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = paths_of(found)
        if not places:
            break
        *path, last = draw(st.sampled_from(places))
        node: Any = found
        for step in path:
            node = node[step]
        if draw(st.integers(0, 3)) == 0:
            del node[last]
        else:
            node[last] = copy.deepcopy(draw(STRANGE))
    return found
