"""Exports: files that are being written for people, and for how long they are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"

RUNTIME_ROLE = "credit_portal_runtime"


def upgrade() -> None:
    op.create_table(
        "export_jobs",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("wish", postgresql.JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'running'")),
        sa.Column("rows_total", sa.BigInteger),
        sa.Column("rows_written", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("progress_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_export_jobs"),
        sa.CheckConstraint("state IN ('running', 'done', 'failed')", name="ck_export_jobs_state"),
    )
    op.create_index("ix_export_jobs_user_id_id", "export_jobs", ["user_id", "id"])
    op.create_index(
        "ix_export_jobs_running",
        "export_jobs",
        ["progress_at"],
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("ix_export_jobs_expires_at", "export_jobs", ["expires_at"])
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON export_jobs TO {RUNTIME_ROLE}")


def downgrade() -> None:
    op.drop_table("export_jobs")
