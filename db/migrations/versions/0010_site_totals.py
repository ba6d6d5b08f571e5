"""What all accounts of a site add up to by day: sums, and the queue of what postings add."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

RUNTIME_ROLE = "credit_portal_runtime"

FILL = """
INSERT INTO site_totals
  (site_code, country, currency, day, kind, service, amount_micros, entries, calls)
SELECT c.site_code, coalesce(c.country, ''), c.currency, d.day, d.kind, d.service,
  sum(d.amount_micros), sum(d.entries), sum(d.calls)
FROM daily_totals d JOIN accounts c ON c.id = d.account_id
GROUP BY 1, 2, 3, 4, 5, 6
"""


def _columns() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("site_code", sa.Text, nullable=False),
        sa.Column("country", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.Numeric(38, 0), nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
    )


def upgrade() -> None:
    op.create_table(
        "site_totals",
        *_columns(),
        sa.PrimaryKeyConstraint(
            "site_code", "country", "currency", "day", "kind", "service", name="pk_site_totals"
        ),
        sa.CheckConstraint("entries > 0 AND calls >= 0", name="ck_site_totals_counts"),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "total_changes",
        sa.Column("change_number", sa.BigInteger, sa.Identity(always=True), nullable=False),
        *_columns(),
        sa.PrimaryKeyConstraint("change_number", name="pk_total_changes"),
    )
    # A posting between the filling and the end of this would be in neither.
    op.execute("LOCK TABLE daily_totals IN SHARE MODE")
    op.execute(FILL)
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON site_totals TO {RUNTIME_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, DELETE ON total_changes TO {RUNTIME_ROLE}")


def downgrade() -> None:
    op.drop_table("total_changes")
    op.drop_table("site_totals")
