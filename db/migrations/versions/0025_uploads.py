"""Files that are handed in wait in the database, where every process finds them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import BYTEA

revision = "0025"
down_revision = "0024"

RUNTIME_ROLE = "credit_portal_runtime"


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", BYTEA(), nullable=False),
        sa.Column("uploaded_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_uploads")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_uploads_user_id_users")),
    )
    op.create_index(op.f("ix_uploads_user_id"), "uploads", ["user_id"])
    # Sealed files and pictures are as small as they get.
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON uploads TO {RUNTIME_ROLE}")
    op.execute("ALTER TABLE uploads ALTER COLUMN content SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("uploads")
