"""What the roles and the states of people here are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.i18n import _
from portal.roles import staff_role_name

if TYPE_CHECKING:
    from domain.staff import StaffMember


def role_words(person: StaffMember) -> str:
    """Return what the person's role is called, or that there is none."""
    return _("No role") if person.role is None else staff_role_name(person.role)


def state_words(person: StaffMember) -> str:
    """Return whether the person is let in."""
    return _("Disabled") if person.is_disabled else _("Active")
