"""Billing profiles, version by version, and the limits of a top-up in each currency."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"

RUNTIME_ROLE = "credit_portal_runtime"


def upgrade() -> None:
    op.create_table(
        "billing_profiles",
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("city", sa.Text),
        sa.Column("country", sa.Text, nullable=False),
        sa.Column("tax_code", sa.Text),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "version", name="pk_billing_profiles"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_billing_profiles_account_id"
        ),
        sa.CheckConstraint("version > 0", name="ck_billing_profiles_version"),
        sa.CheckConstraint("kind IN ('personal', 'company')", name="ck_billing_profiles_kind"),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name="ck_billing_profiles_country"),
        sa.CheckConstraint(
            "kind <> 'company' OR tax_code IS NOT NULL",
            name="ck_billing_profiles_company_has_tax_code",
        ),
    )
    op.create_table(
        "top_up_limits",
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("minimum_micros", sa.BigInteger, nullable=False),
        sa.Column("maximum_micros", sa.BigInteger, nullable=False),
        sa.Column("presets_micros", postgresql.ARRAY(sa.BigInteger), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("currency", name="pk_top_up_limits"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="ck_top_up_limits_currency"),
        sa.CheckConstraint("version > 0", name="ck_top_up_limits_version"),
        sa.CheckConstraint(
            "minimum_micros > 0 AND minimum_micros <= maximum_micros",
            name="ck_top_up_limits_range",
        ),
        sa.CheckConstraint(
            "minimum_micros <= ALL (presets_micros) AND maximum_micros >= ALL (presets_micros)",
            name="ck_top_up_limits_presets",
        ),
    )
    op.execute(
        "CREATE TRIGGER billing_profiles_insert_only BEFORE UPDATE OR DELETE OR TRUNCATE"
        " ON billing_profiles FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute(f"GRANT SELECT, INSERT ON billing_profiles TO {RUNTIME_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON top_up_limits TO {RUNTIME_ROLE}")


def downgrade() -> None:
    op.drop_table("top_up_limits")
    op.drop_table("billing_profiles")
