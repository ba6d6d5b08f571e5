"""What was taken back of a grant, and what lapsed of it, beside what remains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

FILL = """
UPDATE grant_balances r
SET taken_micros = gone.taken, expired_micros = gone.expired
FROM (
  SELECT account_id, grant_number, coalesce(sum(amount) FILTER (WHERE NOT lapsed), 0) AS taken,
    coalesce(sum(amount) FILTER (WHERE lapsed), 0) AS expired
  FROM (
    SELECT e.account_id, (e.description_parameters ->> 'grant_number')::bigint AS grant_number,
      -e.amount_micros AS amount, e.kind = 'expiry' AS lapsed
    FROM entries e WHERE e.kind IN ('refund', 'dispute', 'expiry')
    UNION ALL
    SELECT e.account_id, g.grant_number, -e.amount_micros, false
    FROM entries e
    JOIN grants g ON g.account_id = e.account_id AND g.entry_sequence = e.reverses_sequence
  ) each_time
  GROUP BY account_id, grant_number
) gone
WHERE r.account_id = gone.account_id AND r.grant_number = gone.grant_number
"""


def upgrade() -> None:
    for name in ("taken_micros", "expired_micros"):
        column = sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
        op.add_column("grant_balances", column)
    op.execute(FILL)
    op.create_check_constraint(
        "gone", "grant_balances", "taken_micros >= 0 AND expired_micros >= 0"
    )


def downgrade() -> None:
    op.drop_constraint("gone", "grant_balances", type_="check")
    op.drop_column("grant_balances", "expired_micros")
    op.drop_column("grant_balances", "taken_micros")
