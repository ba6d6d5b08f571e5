"""Webhook events in fewer round trips: a month is locked and read at once, evidence is counted fast."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

# Each statement within sees what was committed before it began: a month that was closed while the
# lock was waited for is found closed. One statement of SQL would not see that.
LOCK_PERIOD = """
CREATE FUNCTION lock_accounting_period(lock_name text, site text, first_day date) RETURNS boolean
VOLATILE LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtextextended(lock_name, 0));
  RETURN coalesce((
    SELECT p.is_closed FROM accounting_periods p WHERE p.site_code = site AND p.month = first_day
  ), false);
END
$$
"""


def upgrade() -> None:
    op.execute(LOCK_PERIOD)
    op.create_index(
        "ix_gateway_messages_refused",
        "gateway_messages",
        ["gateway", "received_at"],
        postgresql_where=sa.text("outcome IN ('bad_signature', 'malformed')"),
    )
    op.create_index(
        "ix_gateway_messages_unmatched",
        "gateway_messages",
        ["received_at"],
        postgresql_where=sa.text("reason = 'paid'"),
    )


def downgrade() -> None:
    op.drop_index("ix_gateway_messages_unmatched", table_name="gateway_messages")
    op.drop_index("ix_gateway_messages_refused", table_name="gateway_messages")
    op.execute("DROP FUNCTION lock_accounting_period")
