"""Where the portal's own files are: in a checkout, or where pip has installed them."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import platformdirs

_PORTAL = Path(__file__).resolve().parents[1]
ROOT = _PORTAL.parent
"""The folder that `portal`, `domain`, `db` and `sandbox` are in."""
_IS_INSTALLED = (_PORTAL / ".streamlit").is_dir()
# The build puts .streamlit/config.toml there; a checkout has it beside app.py.
STREAMLIT_FOLDER = _PORTAL if _IS_INSTALLED else ROOT
"""The working directory that has Streamlit's settings in it."""
_PACKAGE = "credit-portal"


def default_data_directory() -> Path:
    """Return the folder of data without DATA_DIR: in the checkout, or the user's data folder."""
    return platformdirs.user_data_path(_PACKAGE) if _IS_INSTALLED else ROOT / ".data"


def version() -> str:
    """Return the portal's version: the checkout's, or that of the installed package."""
    if _IS_INSTALLED:
        return metadata.version(_PACKAGE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return str(project["version"])
