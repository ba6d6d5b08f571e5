"""Roll-ups: what each account's entries add up to by day, and what was used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

RUNTIME_ROLE = "credit_portal_runtime"

FILL_TOTALS = """
INSERT INTO daily_totals (account_id, day, kind, service, source, amount_micros, entries, calls)
SELECT e.account_id, (e.occurred_at AT TIME ZONE s.time_zone)::date, e.kind,
  coalesce(e.service, ''), e.source, sum(e.amount_micros), count(*), coalesce(sum(u.calls), 0)
FROM entries e
JOIN accounts c ON c.id = e.account_id
JOIN sites s ON s.code = c.site_code
LEFT JOIN (
  SELECT account_id, account_sequence, count(*) AS calls FROM usage_events GROUP BY 1, 2
) u ON u.account_id = e.account_id AND u.account_sequence = e.account_sequence
GROUP BY 1, 2, 3, 4, 5
"""
FILL_QUANTITIES = """
INSERT INTO daily_quantities (account_id, day, service, source, meter, quantity)
SELECT e.account_id, (e.occurred_at AT TIME ZONE s.time_zone)::date, e.service, e.source, q.key,
  sum((q.value #>> '{}')::numeric)
FROM entries e
JOIN accounts c ON c.id = e.account_id
JOIN sites s ON s.code = c.site_code
JOIN usage_events u ON u.account_id = e.account_id AND u.account_sequence = e.account_sequence
CROSS JOIN LATERAL jsonb_each(u.quantities) q
GROUP BY 1, 2, 3, 4, 5
"""


def upgrade() -> None:
    op.create_table(
        "daily_totals",
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "day", "kind", "service", "source", name="pk_daily_totals"
        ),
        sa.CheckConstraint("entries > 0 AND calls >= 0", name="ck_daily_totals_counts"),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "daily_quantities",
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("quantity", sa.Numeric, nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "day", "service", "source", "meter", name="pk_daily_quantities"
        ),
        postgresql_with={"fillfactor": "70"},
    )
    op.execute(FILL_TOTALS)
    op.execute(FILL_QUANTITIES)
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON daily_totals, daily_quantities TO {RUNTIME_ROLE}")


def downgrade() -> None:
    op.drop_table("daily_quantities")
    op.drop_table("daily_totals")
