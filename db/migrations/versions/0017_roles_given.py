"""Who was given which role, and by whom, is found without reading the whole audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_audit_log_roles",
        "audit_log",
        ["id"],
        postgresql_where=sa.text("action IN ('create_user', 'change_staff_role')"),
    )


def downgrade() -> None:
    op.drop_index("ix_audit_log_roles", table_name="audit_log")
