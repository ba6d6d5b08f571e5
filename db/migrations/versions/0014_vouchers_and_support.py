"""Vouchers, the support console's requests and acts, and the chain of the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"

RUNTIME_ROLE = "credit_portal_runtime"

FACTS = (
    "campaign_parts",
    "voucher_batches",
    "voucher_redemptions",
    "staff_acts",
    "account_notes",
    "audit_seals",
)
CHANGING = (
    "campaigns",
    "campaign_amounts",
    "voucher_codes",
    "action_limits",
    "approval_requests",
)


def upgrade() -> None:
    op.create_table(
        "action_limits",
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("daily_micros", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_action_limits_currency")),
        sa.CheckConstraint("daily_micros >= 0", name=op.f("ck_action_limits_daily")),
        sa.CheckConstraint("version > 0", name=op.f("ck_action_limits_version")),
        sa.PrimaryKeyConstraint("action", "role", "currency", name=op.f("pk_action_limits")),
    )
    op.create_table(
        "audit_seals",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("audit_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", postgresql.BYTEA(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_seals")),
        sa.UniqueConstraint("audit_id", name=op.f("uq_audit_seals_audit_id")),
    )
    op.create_table(
        "campaigns",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), server_default=sa.text("'code'"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'proposed'"), nullable=False),
        sa.Column("redeem_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("redeem_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("validity_days", sa.Integer(), nullable=False),
        sa.Column("code_budget", sa.Integer(), nullable=False),
        sa.Column("codes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("uses_per_code", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("uses_per_account", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("site_codes", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("countries", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column(
            "is_for_new_accounts", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
        sa.Column(
            "is_for_named_accounts", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
        sa.Column("is_for_support", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("blocks_suspects", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'ended') = (ended_at IS NOT NULL)", name=op.f("ck_campaigns_ended")
        ),
        sa.CheckConstraint(
            "(state = 'proposed') = (decided_at IS NULL)", name=op.f("ck_campaigns_decided")
        ),
        sa.CheckConstraint(
            "state IN ('proposed', 'approved', 'refused', 'ended')", name=op.f("ck_campaigns_state")
        ),
        sa.CheckConstraint(
            "trigger IN ('code', 'first_top_up')", name=op.f("ck_campaigns_trigger")
        ),
        sa.CheckConstraint(
            "codes BETWEEN 0 AND code_budget", name=op.f("ck_campaigns_code_budget")
        ),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> proposed_by", name=op.f("ck_campaigns_two_people")
        ),
        sa.CheckConstraint("redeem_until > redeem_from", name=op.f("ck_campaigns_window")),
        sa.CheckConstraint(
            "uses_per_code > 0 AND uses_per_account > 0", name=op.f("ck_campaigns_uses")
        ),
        sa.CheckConstraint("validity_days BETWEEN 1 AND 3660", name=op.f("ck_campaigns_validity")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
    )
    op.create_index(
        "uq_campaigns_name", "campaigns", [sa.literal_column("lower(name)")], unique=True
    )
    op.create_table(
        "campaign_amounts",
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("budget_micros", sa.BigInteger(), nullable=False),
        sa.Column("minimum_top_up_micros", sa.BigInteger(), nullable=True),
        sa.Column("granted_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("redemptions", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_campaign_amounts_currency")),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_campaign_amounts_amount")),
        sa.CheckConstraint(
            "granted_micros = redemptions * amount_micros", name=op.f("ck_campaign_amounts_granted")
        ),
        sa.CheckConstraint(
            "granted_micros BETWEEN 0 AND budget_micros", name=op.f("ck_campaign_amounts_budget")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_amounts_campaign_id")
        ),
        sa.PrimaryKeyConstraint("campaign_id", "currency", name=op.f("pk_campaign_amounts")),
    )
    op.create_table(
        "voucher_batches",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("codes", sa.Integer(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('generated', 'imported', 'issued')", name=op.f("ck_voucher_batches_kind")
        ),
        sa.CheckConstraint("codes > 0", name=op.f("ck_voucher_batches_codes")),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_voucher_batches_campaign_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_batches")),
    )
    op.create_index(
        op.f("ix_voucher_batches_campaign_id_id"),
        "voucher_batches",
        ["campaign_id", "id"],
        unique=False,
    )
    op.create_table(
        "account_notes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("written_by", sa.Text(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_account_notes_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_notes")),
    )
    op.create_index(
        op.f("ix_account_notes_account_id_id"), "account_notes", ["account_id", "id"], unique=False
    )
    op.create_table(
        "account_signals",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", postgresql.BYTEA(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('instrument', 'tax_code', 'network_address', 'email', 'address')",
            name=op.f("ck_account_signals_kind"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_account_signals_account_id")
        ),
        sa.PrimaryKeyConstraint("kind", "digest", "account_id", name=op.f("pk_account_signals")),
    )
    op.create_index(
        op.f("ix_account_signals_account_id"), "account_signals", ["account_id"], unique=False
    )
    op.create_table(
        "approval_requests",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("remark", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state = 'waiting') = (decided_at IS NULL)", name=op.f("ck_approval_requests_decided")
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'approved', 'refused', 'withdrawn', 'expired')",
            name=op.f("ck_approval_requests_state"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('approved', 'refused') OR decided_by <> requested_by",
            name=op.f("ck_approval_requests_two_people"),
        ),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_approval_requests_amount")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_approval_requests_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval_requests")),
        sa.UniqueConstraint(
            "requested_by",
            "idempotency_key",
            name=op.f("uq_approval_requests_requested_by_idempotency_key"),
        ),
    )
    op.create_index(
        op.f("ix_approval_requests_account_id_id"),
        "approval_requests",
        ["account_id", "id"],
        unique=False,
    )
    op.create_index(
        "ix_approval_requests_waiting",
        "approval_requests",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "campaign_parts",
        sa.Column("campaign_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("services", sa.ARRAY(sa.Text()), nullable=True),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_campaign_parts_amount")),
        sa.CheckConstraint(
            "services IS NULL OR cardinality(services) > 0", name=op.f("ck_campaign_parts_services")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id", "currency"],
            ["campaign_amounts.campaign_id", "campaign_amounts.currency"],
            name=op.f("fk_campaign_parts_campaign_id_currency"),
        ),
        sa.PrimaryKeyConstraint(
            "campaign_id", "currency", "position", name=op.f("pk_campaign_parts")
        ),
    )
    op.create_table(
        "voucher_codes",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("most_uses", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("revoked_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("code ~ '^[A-Z0-9]{10}$'", name=op.f("ck_voucher_codes_code")),
        sa.CheckConstraint(
            "(revoked_at IS NULL) = (revoked_by IS NULL)", name=op.f("ck_voucher_codes_revoked")
        ),
        sa.CheckConstraint(
            "most_uses > 0 AND uses BETWEEN 0 AND most_uses", name=op.f("ck_voucher_codes_uses")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_voucher_codes_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["voucher_batches.id"], name=op.f("fk_voucher_codes_batch_id")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_voucher_codes_campaign_id")
        ),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_voucher_codes")),
    )
    op.create_index(
        "ix_voucher_codes_account_id",
        "voucher_codes",
        ["account_id"],
        unique=False,
        postgresql_where=sa.text("account_id IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_voucher_codes_batch_id_code"), "voucher_codes", ["batch_id", "code"], unique=False
    )
    op.create_index(
        op.f("ix_voucher_codes_campaign_id_code"),
        "voucher_codes",
        ["campaign_id", "code"],
        unique=False,
    )
    op.create_table(
        "staff_acts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("maker", sa.Text(), nullable=False),
        sa.Column("checker", sa.Text(), nullable=True),
        sa.Column("request_id", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("entries", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("acted_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(checker IS NULL) = (request_id IS NULL)", name=op.f("ck_staff_acts_approved")
        ),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_staff_acts_amount")),
        sa.CheckConstraint("checker <> maker", name=op.f("ck_staff_acts_two_people")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_staff_acts_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["approval_requests.id"], name=op.f("fk_staff_acts_request_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_acts")),
        sa.UniqueConstraint("request_id", name=op.f("uq_staff_acts_request_id")),
    )
    op.create_index(
        op.f("ix_staff_acts_account_id_id"), "staff_acts", ["account_id", "id"], unique=False
    )
    op.create_index(
        op.f("ix_staff_acts_maker_account_id_action_acted_at"),
        "staff_acts",
        ["maker", "account_id", "action", "acted_at"],
        unique=False,
    )
    op.create_table(
        "voucher_redemptions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("payment_id", sa.BigInteger(), nullable=True),
        sa.Column("instrument_digest", postgresql.BYTEA(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("grants", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("entries", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("redeemed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("redeemed_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(code IS NULL) <> (payment_id IS NULL)",
            name=op.f("ck_voucher_redemptions_earned_by_one"),
        ),
        sa.CheckConstraint(
            "amount_micros > 0 AND number > 0", name=op.f("ck_voucher_redemptions_amount")
        ),
        sa.CheckConstraint(
            "cardinality(grants) > 0 AND cardinality(grants) = cardinality(entries)",
            name=op.f("ck_voucher_redemptions_grants"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_voucher_redemptions_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_voucher_redemptions_campaign_id")
        ),
        sa.ForeignKeyConstraint(
            ["code"], ["voucher_codes.code"], name=op.f("fk_voucher_redemptions_code")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_redemptions")),
        sa.UniqueConstraint(
            "campaign_id",
            "account_id",
            "number",
            name=op.f("uq_voucher_redemptions_campaign_id_account_id_number"),
        ),
        sa.UniqueConstraint(
            "campaign_id",
            "instrument_digest",
            name=op.f("uq_voucher_redemptions_campaign_id_instrument_digest"),
        ),
    )
    op.create_index(
        op.f("ix_voucher_redemptions_account_id_id"),
        "voucher_redemptions",
        ["account_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_voucher_redemptions_code"), "voucher_redemptions", ["code"], unique=False
    )

    for table in FACTS:
        op.execute(
            f"CREATE TRIGGER {table}_insert_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(f"GRANT SELECT, INSERT ON {', '.join(FACTS)} TO {RUNTIME_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {', '.join(CHANGING)} TO {RUNTIME_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, DELETE ON account_signals TO {RUNTIME_ROLE}")


def downgrade() -> None:
    for table in (
        "audit_seals",
        "account_notes",
        "staff_acts",
        "approval_requests",
        "action_limits",
        "account_signals",
        "voucher_redemptions",
        "voucher_codes",
        "voucher_batches",
        "campaign_parts",
        "campaign_amounts",
        "campaigns",
    ):
        op.drop_table(table)
