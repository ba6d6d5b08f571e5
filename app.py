"""The application for `streamlit run app.py` and `uvicorn app:app`.

`python -m portal serve` serves the same one, with the time limits of its own server.
"""

from __future__ import annotations

import sys

import streamlit as st

from portal.asgi import MAIN, app_options
from portal.runtime.settings import SettingsError

try:
    _options = app_options()
except SettingsError as problem:
    sys.exit(f"The settings need a change:\n{problem}")

# Streamlit finds its application by reading this line, without running the file.
app = st.App(MAIN, **_options)
