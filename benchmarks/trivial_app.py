"""A server of the trivial page alone, for `uvicorn benchmarks.trivial_app:app`."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Run the garbage collector as the portal's start does, so that both servers compare fairly."""
    gc.collect()
    gc.freeze()
    yield {}


app = st.App(Path(__file__).with_name("trivial_page.py"), lifespan=lifespan)
