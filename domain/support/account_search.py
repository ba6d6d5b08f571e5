"""Find an account, for staff, by any detail that a customer gives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain.accounts.queries import AccountChoice
from domain.gateways.registry import gateway_names
from domain.permissions import require
from domain.vouchers.codes import read_code

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

FOUND_LIMIT = 20
_MAX_ID = 2**63 - 1
_SHORTEST_PART = 3
"""Letters that the index of parts of names is made of; what is shorter is the start of a name."""

_EXACT = {
    "number": "SELECT id, 0 FROM accounts WHERE id = :number",
    "email": (
        "SELECT m.account_id, 0 FROM users u JOIN account_members m ON m.user_id = u.id"
        " WHERE u.email = :email"
    ),
    "payment": (
        "SELECT account_id, 0 FROM payments WHERE reference = upper(:payment)"
        " UNION ALL SELECT account_id, 0 FROM payments"
        " WHERE gateway = ANY (:gateways)"
        " AND gateway_payment_id = :payment"
        " UNION ALL SELECT account_id, 0 FROM payments"
        " WHERE gateway = ANY (:gateways)"
        " AND gateway_reference = :payment"
    ),
    "code": (
        "SELECT account_id, 0 FROM voucher_redemptions WHERE code = :code"
        " UNION ALL SELECT account_id, 0 FROM voucher_codes"
        " WHERE code = :code AND account_id IS NOT NULL"
    ),
}
_MAX_PART_LENGTH = 8
"""Letters that the index is asked for: each more costs as much as the first, and finds no more."""
_NAMED_FROM_START = "SELECT id, 1 FROM accounts WHERE lower(name) LIKE lower(:name) LIMIT :most"
_NAMED = """
SELECT id, 1 FROM accounts
WHERE lower(name) LIKE lower(:name) AND strpos(lower(name), lower(:whole)) > 0
ORDER BY id DESC LIMIT :most
"""
_SHOW = """
SELECT a.id, a.name, a.currency, a.site_code
FROM (SELECT id, min(rank) AS rank FROM ({found}) AS f (id, rank) GROUP BY id) AS found
JOIN accounts a USING (id)
ORDER BY found.rank, a.id DESC LIMIT :most
"""


def find_accounts(session: Session, *, actor: Actor, search_text: str) -> tuple[AccountChoice, ...]:
    """Return accounts by number, a member's whole address, a payment, a voucher code or a name.

    A number may stand behind "#", as people write it. What was named exactly comes first, then
    accounts with that in their name, the newest first. A payment goes by our reference or the
    gateway's; of a name any part does, from its start where there are fewer than three letters. At
    most `FOUND_LIMIT` come; an empty search finds the newest. Raises NotAuthorised for anyone who
    is no staff.
    """
    require(actor, "find_accounts")
    tidy = " ".join(re.sub(r"[\x00\ud800-\udfff]", "", search_text).split())
    values = _exact_values(tidy)
    parts = [_EXACT[each] for each in values]
    name = _escaped(tidy[:_MAX_PART_LENGTH])
    is_start = 0 < len(tidy) < _SHORTEST_PART
    values |= {"name": f"{name}%" if is_start else f"%{name}%", "whole": tidy}
    if "payment" in values:
        values["gateways"] = list(gateway_names())
    values["most"] = FOUND_LIMIT
    named = _NAMED_FROM_START if is_start else _NAMED
    found = " UNION ALL ".join(f"({part})" for part in [*parts, named])
    rows = session.execute(text(_SHOW.format(found=found)), values)
    return tuple(AccountChoice(*row) for row in rows)


def _exact_values(tidy: str) -> dict[str, str | int | list[str]]:
    """Return what the words may name exactly, by the query that looks for it."""
    values: dict[str, str | int | list[str]] = {}
    number = tidy.removeprefix("#").lstrip()
    if number.isascii() and number.isdigit() and int(number[:19]) <= _MAX_ID:
        values["number"] = int(number[:19])
    if "@" in tidy:
        values["email"] = tidy.lower()
    if len(tidy) >= _SHORTEST_PART and " " not in tidy:
        values["payment"] = tidy
    code = read_code(tidy)
    if code:
        values["code"] = code
    return values


def _escaped(words: str) -> str:
    """Return words as LIKE takes them for themselves."""
    return re.sub(r"([%_\\])", r"\\\1", words)
