"""What the package needs is what requirements.in names: the build reads it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RequirementsHook(MetadataHookInterface):
    """Fills in `dependencies` of pyproject.toml."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies to the lines of requirements.in, without their reasons."""
        lines = (Path(self.root) / "requirements.in").read_text("utf-8").splitlines()
        stripped = (line.partition("#")[0].strip() for line in lines)
        metadata["dependencies"] = [line for line in stripped if line]
