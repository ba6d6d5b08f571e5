"""Builds docs/permissions.md from the table that every service checks."""

from __future__ import annotations

from domain.permissions import (
    ANOTHER,
    MEMBER_LETTERS,
    NOT_OWN,
    NOT_STAFF,
    PERMISSIONS,
    STAFF_LETTERS,
    SYSTEM_LETTER,
)

_HEAD = """# Who may do what

Made of `domain/permissions.py` by `make docs`: change the table there, not this page. Every
service that the portal reaches asks that table itself, whatever a page shows or hides; the few that
do not are named in `tests/unit/test_services_ask.py`, each with what protects it instead. For each
line below, a test has every role try a service behind it.

Owner, billing and reader are the roles of an account's members, for that account alone. Product is
what runs by itself: jobs, meters, gateways' messages and the command line.

- ¹ not for an account that one belongs to
- ² by another person than whoever asked
- ³ not by members who work here
"""
_RULES = {NOT_OWN: "¹", ANOTHER: "²", NOT_STAFF: "³"}


def permissions_page() -> str:
    """Return the page in Markdown."""
    letters = {
        **{role.value: letter for role, letter in STAFF_LETTERS.items()},
        **{role.value: letter for role, letter in MEMBER_LETTERS.items()},
        "product": SYSTEM_LETTER,
    }
    lines = [_HEAD]
    for area, actions in PERMISSIONS.items():
        lines += [f"## {area.replace('_', ' ').capitalize()}", ""]
        lines.append("| | " + " | ".join(letters) + " |")
        lines.append("|---" * (len(letters) + 1) + "|")
        for permission in actions.values():
            marks = "".join(_RULES[rule] for rule in permission.rules)
            cells = ["✓" if letter in permission.letters else " " for letter in letters.values()]
            name = f"{permission.meaning} {marks}".strip()
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
