"""The few people with a role are found without reading all that ever signed up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_users_staff",
        "users",
        ["staff_role"],
        postgresql_where=sa.text("staff_role IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_users_staff", table_name="users")
