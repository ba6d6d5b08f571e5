"""Accounts are found by any part of their name: an index of the name's groups of three letters.

pg_trgm comes with PostgreSQL, and the owner of a database may add it.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.execute(
        "CREATE INDEX ix_accounts_name_parts ON accounts USING gin (lower(name) gin_trgm_ops)"
    )
    op.execute("CREATE INDEX ix_accounts_name_start ON accounts (lower(name) text_pattern_ops)")


def downgrade() -> None:
    op.execute("DROP INDEX ix_accounts_name_start, ix_accounts_name_parts")
    op.execute("DROP EXTENSION IF EXISTS pg_trgm")
