"""Indexes that yield each filter of the credit history in order."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

SHOWN_SERVICE = """
CREATE FUNCTION shown_service(kind text, service text, source text) RETURNS text
IMMUTABLE PARALLEL SAFE LANGUAGE sql
RETURN coalesce(
  service, CASE WHEN kind IN ('top_up', 'refund', 'dispute') THEN source ELSE 'system' END
)
"""


def upgrade() -> None:
    op.execute(SHOWN_SERVICE)
    op.drop_index("ix_entries_service_history", table_name="entries")
    op.create_index(
        "ix_entries_charge_history",
        "entries",
        ["account_id", "service", "occurred_at", "account_sequence"],
        postgresql_where=sa.text("kind = 'charge'"),
    )
    op.create_index(
        "ix_entries_kind_history",
        "entries",
        ["account_id", "kind", "occurred_at", "account_sequence"],
        postgresql_where=sa.text("kind <> 'charge'"),
    )
    op.create_index(
        "ix_entries_kind_service_history",
        "entries",
        [
            "account_id",
            "kind",
            sa.text("shown_service(kind, service, source)"),
            "occurred_at",
            "account_sequence",
        ],
        postgresql_where=sa.text("kind <> 'charge'"),
    )
    op.drop_index("ix_refusals_history", table_name="refusals")
    op.create_index(
        "ix_refusals_history",
        "refusals",
        ["account_id", "operation", "occurred_at", "refusal_number"],
    )
    op.create_index(
        "ix_refusals_service_history",
        "refusals",
        ["account_id", "operation", "service", "occurred_at", "refusal_number"],
    )


def downgrade() -> None:
    op.drop_index("ix_refusals_service_history", table_name="refusals")
    op.drop_index("ix_refusals_history", table_name="refusals")
    op.create_index(
        "ix_refusals_history", "refusals", ["account_id", "occurred_at", "refusal_number"]
    )
    op.drop_index("ix_entries_kind_service_history", table_name="entries")
    op.execute("DROP FUNCTION shown_service")
    op.drop_index("ix_entries_kind_history", table_name="entries")
    op.drop_index("ix_entries_charge_history", table_name="entries")
    op.create_index(
        "ix_entries_service_history",
        "entries",
        ["account_id", "service", "occurred_at", "account_sequence"],
    )
