"""The database computes how a bank's reference is compared, and takes what banks send alone.

References that were recorded before may have other characters, or be the same as another one's now.
They stay as they are; what is compared of them ends with their number, so that new ones are compared
with them and they keep their own credit.
"""

from __future__ import annotations

import re
import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"

_FROM_BANKS = re.compile(r"[A-Za-z0-9/?:().,'+ -]+")
_CHECK = (
    "normalised_reference ~ '^[a-z0-9]+$' AND normalised_reference ="
    " lower(regexp_replace(bank_reference, '[^A-Za-z0-9]', '', 'g') COLLATE \"C\")"
    " AND bank_reference ~ '^[A-Za-z0-9/?:().,''+ -]+$'"
    " OR normalised_reference ~ '^[a-z0-9]*#[0-9]+$'"
)
# Letters of Cyrillic and Greek that look like Latin ones.
_LOOK_ALIKE = str.maketrans(
    "\u0410\u0412\u0421\u0415\u041d\u0406\u0408\u041a\u041c\u041e\u0420\u0405\u0422\u0425\u0423"
    "\u0430\u0441\u0435\u0456\u0458\u043e\u0440\u0455\u0445\u0443"
    "\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u0396\u03bf",
    "ABCEHIJKMOPSTXYaceijopsxyABEHIKMNOPTYXZo",
)


def upgrade() -> None:
    _fill_references()
    op.create_check_constraint(
        op.f("ck_bank_transfers_normalised_reference"), "bank_transfers", _CHECK
    )


def _fill_references() -> None:
    connection = op.get_bind()
    rows = connection.execute(
        sa.text("SELECT id, bank_reference, state FROM bank_transfers ORDER BY id")
    ).all()
    compared = {row.id: _compared(row.bank_reference) for row in rows}
    taken: set[str] = set()
    for row in rows:
        normalised = compared[row.id]
        is_new_form = bool(normalised) and _FROM_BANKS.fullmatch(row.bank_reference) is not None
        if row.state == "refused":
            compared[row.id] = normalised if is_new_form else f"{normalised}#{row.id}"
        elif is_new_form and normalised not in taken:
            taken.add(normalised)
        else:
            compared[row.id] = f"{normalised}#{row.id}"
    # Through names that nothing else has: what one row leaves, another may take.
    _write(connection, {number: f"#{number}" for number in compared})
    _write(connection, compared)


def _write(connection: sa.Connection, compared: dict[int, str]) -> None:
    update = sa.text("UPDATE bank_transfers SET normalised_reference = :compared WHERE id = :id")
    for number, normalised in compared.items():
        connection.execute(update, {"compared": normalised, "id": number})


def _compared(reference: str) -> str:
    alike = unicodedata.normalize("NFKC", reference).translate(_LOOK_ALIKE)
    return re.sub(r"[^a-z0-9]", "", alike.lower())


def downgrade() -> None:
    op.drop_constraint(
        op.f("ck_bank_transfers_normalised_reference"), "bank_transfers", type_="check"
    )
