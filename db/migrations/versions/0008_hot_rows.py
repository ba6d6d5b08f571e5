"""What a charge reads of an account stands in two tables: its own row, and its grants'."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

RUNTIME_ROLE = "credit_portal_runtime"
NEVER_EMPTY = (
    ("kind", sa.Text()),
    ("amount_micros", sa.BigInteger()),
    ("consideration_micros", sa.BigInteger()),
    ("rate_millionths", sa.Integer()),
    ("priority", sa.SmallInteger()),
    ("granted_at", sa.DateTime(timezone=True)),
)
FILL_TERMS = """
UPDATE grant_balances r
SET kind = g.kind, amount_micros = g.amount_micros, priority = g.priority,
    consideration_micros = g.consideration_micros, rate_millionths = g.tax_rate * 1000000,
    services = g.services, starts_at = g.starts_at, granted_at = g.granted_at
FROM grants g WHERE g.account_id = r.account_id AND g.grant_number = r.grant_number
"""
FILL_CARRIES = """
UPDATE account_balances b SET carries = c.carries
FROM (
  SELECT account_id, jsonb_object_agg(service, carry_micros::text) AS carries
  FROM charge_carries GROUP BY 1
) c
WHERE c.account_id = b.account_id
"""
FILL_TABLE = """
INSERT INTO charge_carries (account_id, service, carry_micros)
SELECT b.account_id, c.key, c.value::numeric
FROM account_balances b, jsonb_each_text(b.carries) c
"""


def upgrade() -> None:
    for name, kind in NEVER_EMPTY:
        op.add_column("grant_balances", sa.Column(name, kind))
    op.add_column("grant_balances", sa.Column("services", postgresql.ARRAY(sa.Text)))
    op.add_column("grant_balances", sa.Column("starts_at", sa.DateTime(timezone=True)))
    op.execute(FILL_TERMS)
    for name, _ in NEVER_EMPTY:
        op.alter_column("grant_balances", name, nullable=False)
    nothing = sa.text("'{}'::jsonb")
    op.add_column(
        "account_balances",
        sa.Column("carries", postgresql.JSONB, nullable=False, server_default=nothing),
    )
    op.execute(FILL_CARRIES)
    op.drop_table("charge_carries")


def downgrade() -> None:
    op.create_table(
        "charge_carries",
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("carry_micros", sa.Numeric(13, 12), nullable=False),
        sa.CheckConstraint(
            "carry_micros >= 0 AND carry_micros < 1", name="ck_charge_carries_fraction"
        ),
        sa.PrimaryKeyConstraint("account_id", "service", name="pk_charge_carries"),
        postgresql_with={"fillfactor": "70"},
    )
    op.execute(FILL_TABLE)
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON charge_carries TO {RUNTIME_ROLE}")
    op.drop_column("account_balances", "carries")
    for name in ("services", "starts_at", *(name for name, _ in NEVER_EMPTY)):
        op.drop_column("grant_balances", name)
