"""A session keeps when its person last proved a second factor, for changes of what protects them.

No session counts as confirmed before: whoever wants to change a factor proves one again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    op.add_column(
        "user_sessions",
        sa.Column("factor_confirmed_at", sa.DateTime(timezone=True), nullable=True),
    )


def downgrade() -> None:
    op.drop_column("user_sessions", "factor_confirmed_at")
