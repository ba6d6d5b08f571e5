"""What people did to an account is found without reading what meters did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_audit_log_people",
        "audit_log",
        ["account_id", "recorded_at", "id"],
        postgresql_where=sa.text("actor LIKE 'user:%'"),
    )


def downgrade() -> None:
    op.drop_index("ix_audit_log_people", table_name="audit_log")
