"""The gate knows every path at which Streamlit itself answers, also after an upgrade."""

from __future__ import annotations

from unittest.mock import MagicMock

from starlette.routing import Mount, Route, WebSocketRoute
from streamlit.runtime import Runtime
from streamlit.web.server.starlette.starlette_app import create_streamlit_routes

from portal.routes.session_gate import PAGE_FILES, PINGED, STREAM, STREAMLIT_PREFIXES

ROUTES = create_streamlit_routes(MagicMock(spec=Runtime, media_file_mgr=MagicMock()))
SHELL = ""
"""Where Streamlit serves the page itself: any path that is nothing else."""


def test_streamlit_has_the_paths_that_pages_need() -> None:
    paths = {getattr(route, "path", None) for route in ROUTES}
    assert {*PINGED, STREAM} <= paths


def test_the_gate_knows_each_path_of_streamlit() -> None:
    for route in ROUTES:
        assert isinstance(route, Route | WebSocketRoute | Mount)
        if isinstance(route, WebSocketRoute):
            assert route.path == STREAM
        elif route.path != SHELL:
            assert route.path.startswith((*STREAMLIT_PREFIXES, PAGE_FILES)), route.path
