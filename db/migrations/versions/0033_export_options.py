"""What an export is asked to hold is called its options."""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    op.alter_column("export_jobs", "wish", new_column_name="options")


def downgrade() -> None:
    op.alter_column("export_jobs", "options", new_column_name="wish")
