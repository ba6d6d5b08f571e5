"""Scroll the page's messages into view: an answer below the fold is not read."""

from __future__ import annotations

import html
import json
import re
import uuid

import streamlit as st

_NO_CLASS_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
# A run continues to draw after this element, which moves the place: it is followed until the run
# has ended and the place has not moved for several checks, or until the reader scrolls. Streamlit's
# own bar covers the top of the page.
_FOLLOW = """
(() => {
  const isField = %(is_field)s, bar = 70, looksAtRest = 5;
  let looks = 0, hasMovedOn = false, isFound = false;
  for (const act of ["wheel", "touchmove", "pointerdown", "keydown"])
    addEventListener(act, () => { hasMovedOn = true; }, {once: true, passive: true});
  const look = () => {
    if (hasMovedOn) return;
    const place = document.querySelector(`.${CSS.escape(%(css_class)s)}`);
    if (place) {
      const {top, bottom} = place.getBoundingClientRect();
      const isHidden = top < bar || bottom > innerHeight;
      if (isField && !isFound)
        place.querySelector("input, textarea, button")?.focus({preventScroll: true});
      if (isHidden || (isField && !isFound)) {
        place.scrollIntoView({block: "center"});
        looks = 0;
      }
      isFound = true;
    }
    const app = document.querySelector("[data-test-script-state]");
    looks = app?.dataset.testScriptState === "running" ? 0 : looks + 1;
    if (looks < looksAtRest) setTimeout(look, 100);
  };
  setTimeout(look, 100);
})();
"""


def bring_into_view(key: str, *, is_field: bool = False) -> None:
    """Scroll to the container or widget with this key, where it is out of sight.

    A field (`is_field`) gets the focus, and is placed in the middle with room for its error below.
    """
    css_class = f"st-key-{_NO_CLASS_CHARACTER.sub('-', key.strip())}"
    script = _FOLLOW % {"css_class": json.dumps(css_class), "is_field": json.dumps(is_field)}
    # The browser runs the script because it is new each time.
    mark = html.escape(uuid.uuid4().hex)
    st.html(f"<script>/* {mark} */{script}</script>", unsafe_allow_javascript=True)
