"""Payments: gateways, what they said, refunds, disputes, rates, bank transfers and documents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"

RUNTIME_ROLE = "credit_portal_runtime"

FACTS = ("payment_events", "gateway_messages", "exchange_quotes", "documents")
CHANGING = (
    "payments",
    "refunds",
    "disputes",
    "account_freezes",
    "exchange_rates",
    "bank_transfers",
)


def upgrade() -> None:
    op.create_table(
        "data_keys",
        sa.Column("account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("year", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("wrapped_key", postgresql.BYTEA(), nullable=False),
        sa.Column(
            "made_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("account_id", "year", name=op.f("pk_data_keys")),
    )
    op.create_table(
        "exchange_rates",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("base_currency", sa.Text(), nullable=False),
        sa.Column("quote_currency", sa.Text(), nullable=False),
        sa.Column("rate", sa.Numeric(precision=20, scale=10), nullable=False),
        sa.Column("margin_basis_points", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'proposed'"), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'proposed') = (decided_at IS NULL)", name=op.f("ck_exchange_rates_decided")
        ),
        sa.CheckConstraint(
            "state IN ('proposed', 'approved', 'refused')", name=op.f("ck_exchange_rates_state")
        ),
        sa.CheckConstraint(
            "base_currency <> quote_currency", name=op.f("ck_exchange_rates_currencies")
        ),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> proposed_by",
            name=op.f("ck_exchange_rates_two_people"),
        ),
        sa.CheckConstraint(
            "margin_basis_points BETWEEN 0 AND 2000", name=op.f("ck_exchange_rates_margin")
        ),
        sa.CheckConstraint("rate > 0", name=op.f("ck_exchange_rates_rate")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exchange_rates")),
    )
    op.create_index(
        "ix_exchange_rates_in_force",
        "exchange_rates",
        ["base_currency", "quote_currency", "decided_at"],
        unique=False,
        postgresql_where=sa.text("state = 'approved'"),
    )
    op.create_table(
        "gateway_messages",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("payment_id", sa.BigInteger(), nullable=True),
        sa.Column("account_id", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("payload_digest", postgresql.BYTEA(), nullable=False),
        sa.Column("payload", postgresql.BYTEA(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway_messages")),
    )
    op.create_index(
        op.f("ix_gateway_messages_payment_id_id"),
        "gateway_messages",
        ["payment_id", "id"],
        unique=False,
        postgresql_where=sa.text("payment_id IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_gateway_messages_received_at"), "gateway_messages", ["received_at"], unique=False
    )
    op.create_index(
        "uq_gateway_messages_event",
        "gateway_messages",
        ["gateway", "event_id", "outcome"],
        unique=True,
    )
    op.create_table(
        "account_freezes",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("frozen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("frozen_by", sa.Text(), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_account_freezes_account_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "cause", name=op.f("pk_account_freezes")),
    )
    op.create_table(
        "exchange_quotes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("rate_id", sa.BigInteger(), nullable=False),
        sa.Column("pay_micros", sa.BigInteger(), nullable=False),
        sa.Column("pay_currency", sa.Text(), nullable=False),
        sa.Column("credit_micros", sa.BigInteger(), nullable=False),
        sa.Column("credit_currency", sa.Text(), nullable=False),
        sa.Column("effective_rate", sa.Numeric(precision=20, scale=10), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "pay_micros > 0 AND credit_micros > 0", name=op.f("ck_exchange_quotes_amounts")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_exchange_quotes_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["rate_id"], ["exchange_rates.id"], name=op.f("fk_exchange_quotes_rate_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exchange_quotes")),
    )
    op.create_index(
        op.f("ix_exchange_quotes_account_id_id"),
        "exchange_quotes",
        ["account_id", "id"],
        unique=False,
    )
    op.create_table(
        "payments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("is_sandbox", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("pay_micros", sa.BigInteger(), nullable=False),
        sa.Column("pay_currency", sa.Text(), nullable=False),
        sa.Column("credit_micros", sa.BigInteger(), nullable=False),
        sa.Column("credit_currency", sa.Text(), nullable=False),
        sa.Column("quote_id", sa.BigInteger(), nullable=True),
        sa.Column("profile_version", sa.Integer(), nullable=False),
        sa.Column("consent_version", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("request_hash", postgresql.BYTEA(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("redirect_url", sa.Text(), nullable=True),
        sa.Column("gateway_reference", sa.Text(), nullable=True),
        sa.Column("gateway_payment_id", sa.Text(), nullable=True),
        sa.Column("method", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("pay_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("credited_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("entry_sequence", sa.BigInteger(), nullable=True),
        sa.Column("grant_number", sa.BigInteger(), nullable=True),
        sa.Column("fee_micros", sa.BigInteger(), nullable=True),
        sa.Column("refunded_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("disputed_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("has_receipt", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("next_check_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "(state = 'succeeded') = (entry_sequence IS NOT NULL) AND (entry_sequence IS NULL) = (grant_number IS NULL) AND (entry_sequence IS NULL) = (credited_at IS NULL)",
            name=op.f("ck_payments_credited"),
        ),
        sa.CheckConstraint(
            "state IN ('created', 'pending', 'awaiting', 'succeeded', 'failed', 'cancelled', 'expired', 'under_review')",
            name=op.f("ck_payments_state"),
        ),
        sa.CheckConstraint(
            "disputed_micros BETWEEN 0 AND pay_micros", name=op.f("ck_payments_disputed")
        ),
        sa.CheckConstraint(
            "entry_sequence IS NULL OR gateway_payment_id IS NOT NULL",
            name=op.f("ck_payments_credit_has_money"),
        ),
        sa.CheckConstraint(
            "pay_micros > 0 AND credit_micros > 0", name=op.f("ck_payments_amounts")
        ),
        sa.CheckConstraint(
            "refunded_micros BETWEEN 0 AND pay_micros", name=op.f("ck_payments_refunded")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_payments_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["quote_id"], ["exchange_quotes.id"], name=op.f("fk_payments_quote_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
    )
    op.create_index(
        "ix_payments_without_receipt",
        "payments",
        ["credited_at"],
        unique=False,
        postgresql_where=sa.text("state = 'succeeded' AND NOT has_receipt"),
    )
    op.create_index(
        op.f("ix_payments_account_id_created_at_id"),
        "payments",
        ["account_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_payments_next_check_at",
        "payments",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_index(
        "uq_payments_gateway_payment_id", "payments", ["gateway", "gateway_payment_id"], unique=True
    )
    op.create_index(
        "uq_payments_gateway_reference", "payments", ["gateway", "gateway_reference"], unique=True
    )
    op.create_index("uq_payments_key", "payments", ["account_id", "idempotency_key"], unique=True)
    op.create_index("uq_payments_quote_id", "payments", ["quote_id"], unique=True)
    op.create_index("uq_payments_reference", "payments", ["reference"], unique=True)
    op.create_table(
        "bank_transfers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("bank_reference", sa.Text(), nullable=False),
        sa.Column("received_on", sa.Date(), nullable=False),
        sa.Column("evidence_name", sa.Text(), nullable=False),
        sa.Column("evidence_type", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.BYTEA(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'requested'"), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("payment_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(state = 'approved') = (payment_id IS NOT NULL)",
            name=op.f("ck_bank_transfers_approved"),
        ),
        sa.CheckConstraint(
            "state IN ('requested', 'approved', 'refused')", name=op.f("ck_bank_transfers_state")
        ),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_bank_transfers_amount")),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> requested_by",
            name=op.f("ck_bank_transfers_two_people"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_bank_transfers_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_bank_transfers_payment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_transfers")),
    )
    op.create_index(
        op.f("ix_bank_transfers_account_id_id"),
        "bank_transfers",
        ["account_id", "id"],
        unique=False,
    )
    op.create_index(
        "uq_bank_transfers_bank_reference",
        "bank_transfers",
        ["bank_reference"],
        unique=True,
        postgresql_where=sa.text("state <> 'refused'"),
    )
    op.create_table(
        "disputes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("gateway_dispute_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("pay_micros", sa.BigInteger(), nullable=False),
        sa.Column("credit_micros", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("respond_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("entry_sequence", sa.BigInteger(), nullable=True),
        sa.Column("restored_grant_number", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('open', 'won', 'lost')", name=op.f("ck_disputes_state")),
        sa.CheckConstraint(
            "pay_micros > 0 AND credit_micros > 0", name=op.f("ck_disputes_amounts")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_disputes_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_disputes_payment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_disputes")),
    )
    op.create_index(
        op.f("ix_disputes_payment_id_id"), "disputes", ["payment_id", "id"], unique=False
    )
    op.create_index(
        "uq_disputes_gateway_dispute_id", "disputes", ["gateway", "gateway_dispute_id"], unique=True
    )
    op.create_table(
        "payment_events",
        sa.Column("account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("payment_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "happened_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_payment_events_payment_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "payment_id", "id", name=op.f("pk_payment_events")),
    )
    op.create_table(
        "refunds",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("request_key", sa.Text(), nullable=True),
        sa.Column("gateway_refund_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("pay_micros", sa.BigInteger(), nullable=False),
        sa.Column("credit_micros", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("entry_sequence", sa.BigInteger(), nullable=True),
        sa.Column("restored_grant_number", sa.BigInteger(), nullable=True),
        sa.Column("has_credit_note", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("next_check_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('requested', 'pending', 'succeeded', 'failed')",
            name=op.f("ck_refunds_state"),
        ),
        sa.CheckConstraint("pay_micros > 0 AND credit_micros > 0", name=op.f("ck_refunds_amounts")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_refunds_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_refunds_payment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
    )
    op.create_index(
        "ix_refunds_without_credit_note",
        "refunds",
        ["settled_at"],
        unique=False,
        postgresql_where=sa.text("state = 'succeeded' AND NOT has_credit_note"),
    )
    op.create_index(
        "ix_refunds_next_check_at",
        "refunds",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_refunds_payment_id_id"), "refunds", ["payment_id", "id"], unique=False)
    op.create_index(
        "uq_refunds_gateway_refund_id", "refunds", ["gateway", "gateway_refund_id"], unique=True
    )
    op.create_index("uq_refunds_request_key", "refunds", ["request_key"], unique=True)
    op.create_index("uq_refunds_reference", "refunds", ["reference"], unique=True)
    op.create_table(
        "documents",
        sa.Column("site_code", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("year", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("refund_id", sa.BigInteger(), nullable=True),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", postgresql.BYTEA(), nullable=False),
        sa.CheckConstraint(
            "(kind = 'credit_note') = (refund_id IS NOT NULL)", name=op.f("ck_documents_refund")
        ),
        sa.CheckConstraint("kind IN ('receipt', 'credit_note')", name=op.f("ck_documents_kind")),
        sa.CheckConstraint("number > 0", name=op.f("ck_documents_number")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_documents_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_documents_payment_id")
        ),
        sa.ForeignKeyConstraint(["refund_id"], ["refunds.id"], name=op.f("fk_documents_refund_id")),
        sa.ForeignKeyConstraint(["site_code"], ["sites.code"], name=op.f("fk_documents_site_code")),
        sa.PrimaryKeyConstraint("site_code", "kind", "year", "number", name=op.f("pk_documents")),
    )
    op.create_index(
        op.f("ix_documents_account_id_issued_at"),
        "documents",
        ["account_id", "issued_at"],
        unique=False,
    )
    op.create_index(
        "uq_documents_payment_id",
        "documents",
        ["payment_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'receipt'"),
    )
    op.create_index("uq_documents_refund_id", "documents", ["refund_id"], unique=True)

    for table in FACTS:
        op.execute(
            f"CREATE TRIGGER {table}_insert_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(f"GRANT SELECT, INSERT ON {', '.join(FACTS)} TO {RUNTIME_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {', '.join(CHANGING)} TO {RUNTIME_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, DELETE ON data_keys TO {RUNTIME_ROLE}")


def downgrade() -> None:
    for table in (
        "documents",
        "bank_transfers",
        "disputes",
        "refunds",
        "payment_events",
        "payments",
        "exchange_quotes",
        "exchange_rates",
        "account_freezes",
        "gateway_messages",
        "data_keys",
    ):
        op.drop_table(table)
