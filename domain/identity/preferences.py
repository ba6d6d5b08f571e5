"""How a person wants to be shown things: their language, and the time zone of their clock."""

from __future__ import annotations

import re
import zoneinfo
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from db.models import User
from domain import audit
from domain.errors import InvalidInput, NotAuthorised, NotFound

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

_LOCALE = re.compile(r"[a-z]{2,3}([_-][A-Za-z]{2,4}){0,2}")
_NO_PLACES = ("Etc/", "SystemV/", "US/", "Brazil/", "Canada/", "Chile/", "Mexico/")


@cache
def time_zones() -> tuple[str, ...]:
    """Return the zones that may be chosen: those of places, and UTC first."""
    known = zoneinfo.available_timezones()
    places = {zone for zone in known if "/" in zone and not zone.startswith(_NO_PLACES)}
    return ("UTC", *sorted(places))


def save_preferences(
    session: Session, *, actor: Actor, locale: str | None, time_zone: str | None
) -> bool:
    """Save the person's choice (None: the browser's setting). Return whether it has changed.

    Raises InvalidInput on "locale" or "time_zone", and NotAuthorised for an actor who is not a
    person.
    """
    if actor.user_id is None:
        raise NotAuthorised
    if locale is not None and not _LOCALE.fullmatch(locale):
        raise InvalidInput("locale", "not_valid")
    if time_zone is not None and time_zone not in time_zones():
        raise InvalidInput("time_zone", "not_valid")
    before = session.execute(
        select(User.locale, User.time_zone).where(User.id == actor.user_id).with_for_update()
    ).one_or_none()
    if before is None:
        raise NotFound("user")
    preferences = {"locale": locale, "time_zone": time_zone}
    changed = [name for name, value in preferences.items() if getattr(before, name) != value]
    if changed:
        session.execute(update(User).where(User.id == actor.user_id).values(**preferences))
        audit.record(session, action="save_preferences", actor=actor, details={"changed": changed})
    return bool(changed)
