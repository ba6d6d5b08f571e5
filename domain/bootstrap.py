"""Load the product's configuration: sites, their tax, the price list, initial limits.

The files are read at every start. Loading is idempotent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from domain.catalogue.configuration import WHOLE_FILE, find_file
from domain.catalogue.file import CATALOGUE_FILE
from domain.catalogue.loading import load_catalogue, load_sites
from domain.catalogue.sites import SITES_FILE
from domain.errors import InvalidConfiguration
from domain.payments.top_up_limits import TOP_UP_LIMITS_FILE, load_limits
from domain.permissions import require
from domain.support.limits import ACTION_LIMITS_FILE, load_action_limits

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from domain.actors import Actor

_FILES = (SITES_FILE, CATALOGUE_FILE, TOP_UP_LIMITS_FILE, ACTION_LIMITS_FILE)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('reference', 0))")


def load_reference(session: Session, *, actor: Actor, folder: Path | None = None) -> None:
    """Load the files in one transaction: those of the folder, and the built-in ones it lacks.

    Raises InvalidConfiguration and InvalidInput for a file that cannot be used, CatalogueConflict
    and Conflict where a price or a tax policy that was in force would change.
    """
    require(actor, "load_reference")
    if folder is not None:
        _check_names(folder)
    sites, catalogue, top_up_limits, action_limits = (find_file(file, folder) for file in _FILES)
    session.execute(_LOCK)
    load_sites(session, file=sites)
    load_catalogue(session, file=catalogue, actor=actor)
    load_limits(session, actor=actor, file=top_up_limits)
    load_action_limits(session, actor=actor, file=action_limits)


def _check_names(folder: Path) -> None:
    """Refuse a file that no code reads: its name would be a spelling mistake."""
    names = {file.name for file in _FILES}
    for path in sorted(folder.glob("*.toml")):
        if path.name not in names:
            expected = ", ".join(sorted(names))
            raise InvalidConfiguration(str(path), WHOLE_FILE, f"the names are {expected}")
