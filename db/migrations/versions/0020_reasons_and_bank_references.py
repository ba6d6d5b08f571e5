"""Reasons of far exchange rates, refunds as acts of staff, bank references as they are compared.

Two transfers that were recorded before may have references that are the same now: the later one
keeps its credit, and its number is added to what is compared.
"""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

_DASH_IN_KANA = "\N{KATAKANA-HIRAGANA PROLONGED SOUND MARK}"


def upgrade() -> None:
    op.add_column("exchange_rates", sa.Column("reason", sa.Text()))
    op.add_column("staff_acts", sa.Column("refund_id", sa.BigInteger()))
    op.create_foreign_key(
        op.f("fk_staff_acts_refund_id_refunds"), "staff_acts", "refunds", ["refund_id"], ["id"]
    )
    op.create_index(
        op.f("ix_staff_acts_maker_action_currency_acted_at"),
        "staff_acts",
        ["maker", "action", "currency", "acted_at"],
    )
    op.create_index(
        op.f("uq_staff_acts_refund_id"),
        "staff_acts",
        ["refund_id"],
        unique=True,
        postgresql_where=sa.text("refund_id IS NOT NULL"),
    )
    op.add_column("bank_transfers", sa.Column("normalised_reference", sa.Text()))
    _fill_references()
    op.alter_column("bank_transfers", "normalised_reference", nullable=False)
    op.drop_index("uq_bank_transfers_bank_reference", table_name="bank_transfers")
    op.create_index(
        "uq_bank_transfers_normalised_reference",
        "bank_transfers",
        ["normalised_reference"],
        unique=True,
        postgresql_where=sa.text("state <> 'refused'"),
    )


def _fill_references() -> None:
    connection = op.get_bind()
    rows = connection.execute(
        sa.text("SELECT id, bank_reference, state FROM bank_transfers ORDER BY id")
    ).all()
    taken: set[str] = set()
    for row in rows:
        normalised = _normalise(row.bank_reference)
        if row.state != "refused":
            if not normalised or normalised in taken:
                normalised = f"{normalised}#{row.id}"
            taken.add(normalised)
        connection.execute(
            sa.text("UPDATE bank_transfers SET normalised_reference = :normalised WHERE id = :id"),
            {"normalised": normalised, "id": row.id},
        )


def _normalise(reference: str) -> str:
    compatible = unicodedata.normalize("NFKC", reference).casefold()
    return "".join(char for char in compatible if char.isalnum() and char != _DASH_IN_KANA)


def downgrade() -> None:
    op.drop_index("uq_bank_transfers_normalised_reference", table_name="bank_transfers")
    op.create_index(
        "uq_bank_transfers_bank_reference",
        "bank_transfers",
        ["bank_reference"],
        unique=True,
        postgresql_where=sa.text("state <> 'refused'"),
    )
    op.drop_column("bank_transfers", "normalised_reference")
    op.drop_column("staff_acts", "refund_id")
    op.drop_index(op.f("ix_staff_acts_maker_action_currency_acted_at"), table_name="staff_acts")
    op.drop_column("exchange_rates", "reason")
