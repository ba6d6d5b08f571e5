"""What roles are called, and what each of them may do, in the reader's language."""

from __future__ import annotations

from domain.actors import MemberRole, StaffRole
from portal.ui.i18n import N_, _

_NAMES = {
    MemberRole.OWNER: N_("Owner"),
    MemberRole.BILLING: N_("Billing"),
    MemberRole.READER: N_("Reader"),
}
_STAFF_NAMES = {
    StaffRole.SUPPORT: N_("Support"),
    StaffRole.FINANCE: N_("Finance"),
    StaffRole.ADMIN: N_("Administrator"),
}
_RIGHTS = {
    MemberRole.OWNER: N_("view everything, manage payments and members"),
    MemberRole.BILLING: N_("view everything, manage payments"),
    MemberRole.READER: N_("view only"),
}


def role_name(role: MemberRole) -> str:
    """Return the name of a role."""
    return _(_NAMES[role])


def role_rights(role: MemberRole) -> str:
    """Return what the role may do, as the end of a sentence."""
    return _(_RIGHTS[role])


def staff_role_name(role: StaffRole) -> str:
    """Return the name of a role of staff."""
    return _(_STAFF_NAMES[role])
