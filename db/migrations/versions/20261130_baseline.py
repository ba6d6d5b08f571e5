"""The whole schema: tables, functions, triggers, the journal, and the rights of the portal.

Tables come by capability, in the order of db/models, except where one refers to another that has to
be there first. What is no table is SQL, in db/migrations/baseline, one file a subject.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB

revision = "20261130_baseline"
down_revision = None

SQL_FILES = Path(__file__).resolve().parent.parent / "baseline"

INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("now()")
ZERO = sa.text("0")

# Room on the page, so that rows updated by every charge stay where they are (HOT updates).
HOT_ROWS = {"fillfactor": "70"}


def upgrade() -> None:
    # The rights on tables that are created from here on, and what indexes are made of.
    _run("runtime_role", "search", "credit_history")
    for create_table in (
        # Sites, and the accounts that belong to them, in db/models/accounts.py
        _create_sites,
        _create_tax_policies,
        _create_accounting_periods,
        _create_accounts,
        _create_account_balances,
        # People, how they sign in, and their sessions, in db/models/identity.py
        _create_users,
        _create_user_sessions,
        _create_pending_sign_ins,
        _create_email_tokens,
        _create_authenticators,
        _create_passkeys,
        _create_recovery_codes,
        _create_used_challenges,
        _create_throttles,
        # Members of accounts, in db/models/accounts.py
        _create_account_members,
        _create_account_invitations,
        # Billing, in db/models/billing.py
        _create_billing_profiles,
        _create_top_up_limits,
        # Catalogue, in db/models/catalogue.py
        _create_catalogue_versions,
        _create_services,
        _create_prices,
        # Exchange rates, in db/models/exchange.py
        _create_exchange_rates,
        _create_exchange_quotes,
        # Finance, in db/models/finance.py
        _create_idempotency_keys,
        _create_finance_postings,
        _create_finance_entries,
        # Ledger, in db/models/ledger.py
        _create_entries,
        _create_grants,
        _create_grant_balances,
        _create_allocations,
        _create_debts,
        # Holds and declined charges, in db/models/holds.py
        _create_holds,
        _create_hold_allocations,
        _create_hold_resolutions,
        _create_open_holds,
        _create_refusals,
        # Payments, in db/models/payments.py
        _create_data_keys,
        _create_gateway_messages,
        _create_payments,
        _create_payment_events,
        _create_payment_reviews,
        _create_bank_transfers,
        # Refunds and disputes, in db/models/money_back.py
        _create_refunds,
        _create_disputes,
        _create_account_freezes,
        # Receipts, and what each payment did to the credit, in db/models/payments.py
        _create_documents,
        _create_payment_credits,
        # Operations, in db/models/operations.py
        _create_audit_log,
        _create_audit_seals,
        _create_job_runs,
        _create_outbox_messages,
        _create_export_jobs,
        _create_portal_keys,
        _create_uploads,
        _create_usage_imports,
        # Staff, in db/models/staff.py
        _create_staff_invitations,
        _create_staff_role_requests,
        # Support, in db/models/support.py
        _create_action_limits,
        _create_approval_requests,
        _create_staff_acts,
        _create_account_notes,
        # Usage, in db/models/usage.py
        _create_usage_events,
        _create_usage_keys,
        _create_daily_totals,
        _create_daily_quantities,
        _create_site_totals,
        _create_total_changes,
        # Vouchers, in db/models/vouchers.py
        _create_campaigns,
        _create_campaign_amounts,
        _create_campaign_parts,
        _create_voucher_batches,
        _create_voucher_codes,
        _create_voucher_redemptions,
        _create_account_signals,
    ):
        create_table()
    _run("insert_only", "account_currency", "accounting_periods")
    _run("journal_balance", "journal_view")
    _run("runtime_rights")


def downgrade() -> None:
    raise CommandError("There is no version before the first: drop the database instead.")


def _run(*subjects: str) -> None:
    for subject in subjects:
        op.execute((SQL_FILES / f"{subject}.sql").read_text("utf-8"))


# ── Sites, and the accounts that belong to them ─────────────────────────────────────────────────
def _create_sites() -> None:
    op.create_table(
        "sites",
        sa.Column("code", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("legal_entity", sa.Text, nullable=False),
        sa.Column("country", sa.Text),
        sa.Column("time_zone", sa.Text, nullable=False),
        sa.Column("default_currency", sa.Text, nullable=False),
        sa.Column("currencies", ARRAY(sa.Text), nullable=False),
        sa.Column(
            "expiry_grace", sa.Interval, server_default=sa.text("interval '1 hour'"), nullable=False
        ),
        sa.Column(
            "usage_key_retention",
            sa.Interval,
            server_default=sa.text("interval '5 years'"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_sites")),
        sa.CheckConstraint(
            "default_currency = ANY (currencies)", name=op.f("ck_sites_default_currency_listed")
        ),
        sa.CheckConstraint(
            "expiry_grace >= interval '0'", name=op.f("ck_sites_expiry_grace_not_negative")
        ),
    )


def _create_tax_policies() -> None:
    op.create_table(
        "tax_policies",
        sa.Column("site_code", sa.Text),
        sa.Column("valid_from", sa.Date),
        sa.Column("tax_point", sa.Text, nullable=False),
        sa.Column("tax_rate", sa.Numeric(7, 6), nullable=False),
        sa.Column("place_of_supply", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("site_code", "valid_from", name=op.f("pk_tax_policies")),
        sa.ForeignKeyConstraint(
            ["site_code"], ["sites.code"], name=op.f("fk_tax_policies_site_code")
        ),
        sa.CheckConstraint(
            "tax_point IN ('TOP_UP', 'USAGE')", name=op.f("ck_tax_policies_tax_point")
        ),
        sa.CheckConstraint("tax_rate >= 0 AND tax_rate < 1", name=op.f("ck_tax_policies_tax_rate")),
    )


def _create_accounting_periods() -> None:
    op.create_table(
        "accounting_periods",
        sa.Column("site_code", sa.Text),
        sa.Column("month", sa.Date),
        sa.Column("is_closed", sa.Boolean, nullable=False),
        sa.Column("version", sa.Integer, server_default=sa.text("1"), nullable=False),
        sa.Column("changed_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("site_code", "month", name=op.f("pk_accounting_periods")),
        sa.ForeignKeyConstraint(
            ["site_code"], ["sites.code"], name=op.f("fk_accounting_periods_site_code")
        ),
        sa.CheckConstraint(
            "month = date_trunc('month', month)::date",
            name=op.f("ck_accounting_periods_first_of_month"),
        ),
    )


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True, start=1001)),
        sa.Column("site_code", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("country", sa.Text),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("status", sa.Text, server_default=sa.text("'active'"), nullable=False),
        sa.Column("currency_locked_at", INSTANT),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.ForeignKeyConstraint(["site_code"], ["sites.code"], name=op.f("fk_accounts_site_code")),
        sa.CheckConstraint(
            "status IN ('active', 'frozen', 'closed')", name=op.f("ck_accounts_status")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_accounts_currency")),
    )
    op.create_index(
        op.f("ix_accounts_name_parts"),
        "accounts",
        [sa.text("lower(name) gin_trgm_ops")],
        postgresql_using="gin",
    )
    op.create_index(
        op.f("ix_accounts_name_start"), "accounts", [sa.text("lower(name) text_pattern_ops")]
    )


def _create_account_balances() -> None:
    op.create_table(
        "account_balances",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("balance_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("held_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("last_entry_sequence", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("last_grant_number", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("last_hold_number", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("last_refusal_number", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("carries", JSONB, server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_balances")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_account_balances_account_id")
        ),
        sa.CheckConstraint("held_micros >= 0", name=op.f("ck_account_balances_held_not_negative")),
        postgresql_with=HOT_ROWS,
    )


# ── People, how they sign in, and their sessions ────────────────────────────────────────────────
def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("staff_role", sa.Text),
        sa.Column("locale", sa.Text),
        sa.Column("time_zone", sa.Text),
        sa.Column("email_verified_at", INSTANT),
        sa.Column("disabled_at", INSTANT),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_users_email_lower")),
        sa.CheckConstraint(
            "staff_role IN ('support', 'finance', 'admin')", name=op.f("ck_users_staff_role")
        ),
    )
    op.create_index(
        op.f("ix_users_staff"),
        "users",
        ["staff_role"],
        postgresql_where=sa.text("staff_role IS NOT NULL"),
    )


def _create_user_sessions() -> None:
    op.create_table(
        "user_sessions",
        sa.Column("token_digest", BYTEA),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("account_id", sa.BigInteger),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("last_seen_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("revoked_at", INSTANT),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("factor", sa.Text, server_default=sa.text("'password'"), nullable=False),
        sa.Column("factor_confirmed_at", INSTANT),
        sa.PrimaryKeyConstraint("token_digest", name=op.f("pk_user_sessions")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_user_sessions_user_id")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_user_sessions_account_id")
        ),
        sa.CheckConstraint(
            "factor IN ('password', 'authenticator', 'passkey', 'recovery_code')",
            name=op.f("ck_user_sessions_factor"),
        ),
    )
    op.create_index(op.f("ix_user_sessions_user_id"), "user_sessions", ["user_id"])


def _create_pending_sign_ins() -> None:
    op.create_table(
        "pending_sign_ins",
        sa.Column("token_digest", BYTEA),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("token_digest", name=op.f("pk_pending_sign_ins")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_pending_sign_ins_user_id")
        ),
    )
    op.create_index(op.f("ix_pending_sign_ins_user_id"), "pending_sign_ins", ["user_id"])


def _create_email_tokens() -> None:
    op.create_table(
        "email_tokens",
        sa.Column("token_digest", BYTEA),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("used_at", INSTANT),
        sa.PrimaryKeyConstraint("token_digest", name=op.f("pk_email_tokens")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_email_tokens_user_id")),
        sa.CheckConstraint(
            "purpose IN ('verify_email', 'reset_password')", name=op.f("ck_email_tokens_purpose")
        ),
    )
    op.create_index(op.f("ix_email_tokens_user_id"), "email_tokens", ["user_id"])


def _create_authenticators() -> None:
    op.create_table(
        "authenticators",
        sa.Column("user_id", sa.BigInteger),
        sa.Column("sealed_secret", BYTEA),
        sa.Column("confirmed_at", INSTANT),
        sa.Column("last_step", sa.BigInteger),
        sa.Column("sealed_offer", BYTEA),
        sa.Column("offer_digest", BYTEA),
        sa.Column("offered_at", INSTANT),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_authenticators")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_authenticators_user_id")),
        sa.CheckConstraint(
            "(sealed_secret IS NULL) = (confirmed_at IS NULL)",
            name=op.f("ck_authenticators_confirmed"),
        ),
        sa.CheckConstraint(
            "num_nonnulls(sealed_offer, offer_digest, offered_at) IN (0, 3)",
            name=op.f("ck_authenticators_offered"),
        ),
    )


def _create_passkeys() -> None:
    op.create_table(
        "passkeys",
        sa.Column("credential_id", BYTEA),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("public_key", BYTEA, nullable=False),
        sa.Column("sign_count", sa.BigInteger, nullable=False),
        sa.Column("transports", ARRAY(sa.Text), nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("last_used_at", INSTANT),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("pk_passkeys")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_passkeys_user_id")),
    )
    op.create_index(op.f("ix_passkeys_user_id"), "passkeys", ["user_id"])


def _create_recovery_codes() -> None:
    op.create_table(
        "recovery_codes",
        sa.Column("code_digest", BYTEA),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("used_at", INSTANT),
        sa.PrimaryKeyConstraint("code_digest", name=op.f("pk_recovery_codes")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_recovery_codes_user_id")),
    )
    op.create_index(op.f("ix_recovery_codes_user_id"), "recovery_codes", ["user_id"])


def _create_used_challenges() -> None:
    op.create_table(
        "used_challenges",
        sa.Column("challenge_digest", BYTEA),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("challenge_digest", name=op.f("pk_used_challenges")),
    )


def _create_throttles() -> None:
    op.create_table(
        "throttles",
        sa.Column("key_digest", BYTEA),
        sa.Column("window_started_at", INSTANT, nullable=False),
        sa.Column("failures", sa.Integer, server_default=ZERO, nullable=False),
        sa.PrimaryKeyConstraint("key_digest", name=op.f("pk_throttles")),
    )


# ── Members of accounts ─────────────────────────────────────────────────────────────────────────
def _create_account_members() -> None:
    op.create_table(
        "account_members",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("added_at", INSTANT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "user_id", name=op.f("pk_account_members")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_account_members_account_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_account_members_user_id")),
        sa.CheckConstraint(
            "role IN ('owner', 'billing', 'reader')", name=op.f("ck_account_members_role")
        ),
    )
    op.create_index(op.f("ix_account_members_user_id"), "account_members", ["user_id"])


def _create_account_invitations() -> None:
    op.create_table(
        "account_invitations",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("token_digest", BYTEA, nullable=False),
        sa.Column("invited_by", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("accepted_at", INSTANT),
        sa.Column("accepted_by", sa.BigInteger),
        sa.Column("withdrawn_at", INSTANT),
        sa.PrimaryKeyConstraint("account_id", "id", name=op.f("pk_account_invitations")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_account_invitations_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["accepted_by"], ["users.id"], name=op.f("fk_account_invitations_accepted_by")
        ),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_account_invitations_email_lower")),
        sa.CheckConstraint(
            "role IN ('owner', 'billing', 'reader')", name=op.f("ck_account_invitations_role")
        ),
        sa.CheckConstraint(
            "(accepted_at IS NULL) = (accepted_by IS NULL)",
            name=op.f("ck_account_invitations_accepted"),
        ),
        sa.CheckConstraint(
            "accepted_at IS NULL OR withdrawn_at IS NULL",
            name=op.f("ck_account_invitations_ended_once"),
        ),
    )
    op.create_index(
        op.f("uq_account_invitations_open"),
        "account_invitations",
        ["account_id", "email"],
        unique=True,
        postgresql_where=sa.text("accepted_at IS NULL AND withdrawn_at IS NULL"),
    )
    op.create_index(
        op.f("uq_account_invitations_token_digest"),
        "account_invitations",
        ["token_digest"],
        unique=True,
    )


# ── Billing ─────────────────────────────────────────────────────────────────────────────────────
def _create_billing_profiles() -> None:
    op.create_table(
        "billing_profiles",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("version", sa.Integer),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("city", sa.Text),
        sa.Column("country", sa.Text, nullable=False),
        sa.Column("tax_code", sa.Text),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "version", name=op.f("pk_billing_profiles")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_billing_profiles_account_id")
        ),
        sa.CheckConstraint("version > 0", name=op.f("ck_billing_profiles_version")),
        sa.CheckConstraint(
            "kind IN ('personal', 'company')", name=op.f("ck_billing_profiles_kind")
        ),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name=op.f("ck_billing_profiles_country")),
        sa.CheckConstraint(
            "kind <> 'company' OR tax_code IS NOT NULL",
            name=op.f("ck_billing_profiles_company_has_tax_code"),
        ),
    )


def _create_top_up_limits() -> None:
    op.create_table(
        "top_up_limits",
        sa.Column("currency", sa.Text),
        sa.Column("minimum_micros", sa.BigInteger, nullable=False),
        sa.Column("maximum_micros", sa.BigInteger, nullable=False),
        sa.Column("presets_micros", ARRAY(sa.BigInteger), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("updated_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("currency", name=op.f("pk_top_up_limits")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_top_up_limits_currency")),
        sa.CheckConstraint("version > 0", name=op.f("ck_top_up_limits_version")),
        sa.CheckConstraint(
            "minimum_micros > 0 AND minimum_micros <= maximum_micros",
            name=op.f("ck_top_up_limits_range"),
        ),
        sa.CheckConstraint(
            ("minimum_micros <= ALL (presets_micros) AND maximum_micros >= ALL (presets_micros)"),
            name=op.f("ck_top_up_limits_presets"),
        ),
    )


# ── Catalogue ───────────────────────────────────────────────────────────────────────────────────
def _create_catalogue_versions() -> None:
    op.create_table(
        "catalogue_versions",
        sa.Column("version", sa.Integer, autoincrement=False),
        sa.Column("digest", BYTEA, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("loaded_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("loaded_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_catalogue_versions")),
    )


def _create_services() -> None:
    op.create_table(
        "services",
        sa.Column("slug", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("supplier", sa.Text),
        sa.Column("position", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("slug", name=op.f("pk_services")),
        sa.CheckConstraint("role IN ('principal', 'agent')", name=op.f("ck_services_role")),
    )


def _create_prices() -> None:
    op.create_table(
        "prices",
        sa.Column("service", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("meter", sa.Text),
        sa.Column("currency", sa.Text),
        sa.Column("valid_from", INSTANT),
        sa.Column("price", sa.Numeric, nullable=False),
        sa.Column("per", sa.Numeric, nullable=False),
        sa.Column("catalogue_version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint(
            "service", "model", "meter", "currency", "valid_from", name=op.f("pk_prices")
        ),
        sa.ForeignKeyConstraint(["service"], ["services.slug"], name=op.f("fk_prices_service")),
        sa.ForeignKeyConstraint(
            ["catalogue_version"],
            ["catalogue_versions.version"],
            name=op.f("fk_prices_catalogue_version"),
        ),
        sa.CheckConstraint("price >= 0 AND per > 0", name=op.f("ck_prices_price")),
    )


# ── Exchange rates ──────────────────────────────────────────────────────────────────────────────
def _create_exchange_rates() -> None:
    op.create_table(
        "exchange_rates",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("base_currency", sa.Text, nullable=False),
        sa.Column("quote_currency", sa.Text, nullable=False),
        sa.Column("rate", sa.Numeric(20, 10), nullable=False),
        sa.Column("margin_basis_points", sa.Integer, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("as_of", INSTANT, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("state", sa.Text, server_default=sa.text("'requested'"), nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exchange_rates")),
        sa.CheckConstraint(
            "state IN ('requested', 'approved', 'rejected')", name=op.f("ck_exchange_rates_state")
        ),
        sa.CheckConstraint("rate > 0", name=op.f("ck_exchange_rates_rate")),
        sa.CheckConstraint(
            "margin_basis_points BETWEEN 0 AND 2000", name=op.f("ck_exchange_rates_margin")
        ),
        sa.CheckConstraint(
            "base_currency <> quote_currency", name=op.f("ck_exchange_rates_currencies")
        ),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> requested_by",
            name=op.f("ck_exchange_rates_two_people"),
        ),
        sa.CheckConstraint(
            "(state = 'requested') = (decided_at IS NULL)", name=op.f("ck_exchange_rates_decided")
        ),
    )
    op.create_index(
        op.f("ix_exchange_rates_in_force"),
        "exchange_rates",
        ["base_currency", "quote_currency", "decided_at"],
        postgresql_where=sa.text("state = 'approved'"),
    )


def _create_exchange_quotes() -> None:
    op.create_table(
        "exchange_quotes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("rate_id", sa.BigInteger, nullable=False),
        sa.Column("pay_micros", sa.BigInteger, nullable=False),
        sa.Column("pay_currency", sa.Text, nullable=False),
        sa.Column("credit_micros", sa.BigInteger, nullable=False),
        sa.Column("credit_currency", sa.Text, nullable=False),
        sa.Column("effective_rate", sa.Numeric(20, 10), nullable=False),
        sa.Column("made_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exchange_quotes")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_exchange_quotes_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["rate_id"], ["exchange_rates.id"], name=op.f("fk_exchange_quotes_rate_id")
        ),
        sa.CheckConstraint(
            "pay_micros > 0 AND credit_micros > 0", name=op.f("ck_exchange_quotes_amounts")
        ),
    )
    op.create_index(
        op.f("ix_exchange_quotes_account_id_id"), "exchange_quotes", ["account_id", "id"]
    )


# ── Finance ─────────────────────────────────────────────────────────────────────────────────────
def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("key", sa.Text),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("request_hash", BYTEA, nullable=False),
        sa.Column("answer", JSONB, nullable=False),
        sa.Column("recorded_at", INSTANT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "key", name=op.f("pk_idempotency_keys")),
    )


def _create_finance_postings() -> None:
    op.create_table(
        "finance_postings",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("site_code", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("request_hash", BYTEA, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finance_postings")),
        sa.ForeignKeyConstraint(
            ["site_code"], ["sites.code"], name=op.f("fk_finance_postings_site_code")
        ),
    )
    op.create_index(
        op.f("uq_finance_postings_key"),
        "finance_postings",
        ["site_code", "idempotency_key"],
        unique=True,
    )


def _create_finance_entries() -> None:
    op.create_table(
        "finance_entries",
        sa.Column("posting_id", sa.BigInteger),
        sa.Column("line_number", sa.SmallInteger),
        sa.Column("site_code", sa.Text, nullable=False),
        sa.Column("account_id", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("ledger_code", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("occurred_at", INSTANT, nullable=False),
        sa.Column(
            "posted_at", INSTANT, server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("accounting_date", sa.Date, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("posting_id", "line_number", name=op.f("pk_finance_entries")),
        sa.ForeignKeyConstraint(
            ["site_code"], ["sites.code"], name=op.f("fk_finance_entries_site_code")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_finance_entries_account_id")
        ),
        sa.CheckConstraint("amount_micros <> 0", name=op.f("ck_finance_entries_amount")),
    )
    op.create_index(
        op.f("ix_finance_entries_site_code_accounting_date"),
        "finance_entries",
        ["site_code", "accounting_date"],
    )


# ── Ledger ──────────────────────────────────────────────────────────────────────────────────────
def _create_entries() -> None:
    op.create_table(
        "entries",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("account_sequence", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("service", sa.Text),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("description_code", sa.Text, nullable=False),
        sa.Column("description_parameters", JSONB, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("balance_after_micros", sa.BigInteger, nullable=False),
        sa.Column("occurred_at", INSTANT, nullable=False),
        sa.Column("posted_at", INSTANT, nullable=False),
        sa.Column("accounting_date", sa.Date, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reverses_sequence", sa.BigInteger),
        sa.PrimaryKeyConstraint("account_id", "account_sequence", name=op.f("pk_entries")),
        sa.CheckConstraint(
            "kind IN ('top_up', 'voucher', 'plan', 'adjustment', 'charge', 'expiry', 'refund', 'dispute', 'write_off', 'reversal', 'settlement_of_debt')",
            name=op.f("ck_entries_kind"),
        ),
        sa.CheckConstraint("account_sequence > 0", name=op.f("ck_entries_sequence")),
        sa.CheckConstraint(
            "(kind = 'reversal') = (reverses_sequence IS NOT NULL)",
            name=op.f("ck_entries_reverses"),
        ),
        sa.CheckConstraint(
            "reverses_sequence < account_sequence", name=op.f("ck_entries_reverses_earlier")
        ),
        sa.CheckConstraint(
            "CASE WHEN kind IN ('top_up', 'voucher', 'plan', 'write_off') THEN amount_micros > 0 WHEN kind = 'charge' THEN amount_micros <= 0 WHEN kind IN ('expiry', 'refund', 'dispute') THEN amount_micros < 0 WHEN kind = 'settlement_of_debt' THEN amount_micros = 0 ELSE amount_micros <> 0 END",
            name=op.f("ck_entries_sign"),
        ),
    )
    op.create_index(
        op.f("ix_entries_account_id_reverses_sequence"),
        "entries",
        ["account_id", "reverses_sequence"],
        postgresql_where=sa.text("reverses_sequence IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_entries_charge_history"),
        "entries",
        ["account_id", "service", "occurred_at", "account_sequence"],
        postgresql_where=sa.text("kind = 'charge'"),
    )
    op.create_index(
        op.f("ix_entries_history"), "entries", ["account_id", "occurred_at", "account_sequence"]
    )
    op.create_index(
        op.f("ix_entries_kind_history"),
        "entries",
        ["account_id", "kind", "occurred_at", "account_sequence"],
        postgresql_where=sa.text("kind <> 'charge'"),
    )
    op.create_index(
        op.f("ix_entries_kind_service_history"),
        "entries",
        [
            "account_id",
            "kind",
            sa.text("shown_service(kind, service, source)"),
            "occurred_at",
            "account_sequence",
        ],
        postgresql_where=sa.text("kind <> 'charge'"),
    )


def _create_grants() -> None:
    op.create_table(
        "grants",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("grant_number", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("consideration_micros", sa.BigInteger, nullable=False),
        sa.Column("services", ARRAY(sa.Text)),
        sa.Column("starts_at", INSTANT),
        sa.Column("expires_at", INSTANT),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("origin", sa.Text),
        sa.Column("paid_micros", sa.BigInteger),
        sa.Column("paid_currency", sa.Text),
        sa.Column("tax_point", sa.Text, nullable=False),
        sa.Column("tax_rate", sa.Numeric(7, 6), nullable=False),
        sa.Column("place_of_supply", sa.Text, nullable=False),
        sa.Column("customer_tax_status", sa.Text),
        sa.Column("granted_at", INSTANT, nullable=False),
        sa.Column("entry_sequence", sa.BigInteger),
        sa.PrimaryKeyConstraint("account_id", "grant_number", name=op.f("pk_grants")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_grants_account_id")),
        sa.CheckConstraint(
            "kind IN ('overdraft', 'plan', 'voucher', 'adjustment', 'top_up')",
            name=op.f("ck_grants_kind"),
        ),
        sa.CheckConstraint(
            "(kind = 'overdraft') = (grant_number = 0)", name=op.f("ck_grants_overdraft_is_zero")
        ),
        sa.CheckConstraint(
            "(kind = 'overdraft') = (entry_sequence IS NULL)", name=op.f("ck_grants_entry_named")
        ),
        sa.CheckConstraint(
            "(amount_micros > 0) = (kind <> 'overdraft')", name=op.f("ck_grants_amount")
        ),
        sa.CheckConstraint("consideration_micros >= 0", name=op.f("ck_grants_consideration")),
        sa.CheckConstraint(
            "services IS NULL OR cardinality(services) > 0", name=op.f("ck_grants_services")
        ),
        sa.CheckConstraint("expires_at > starts_at", name=op.f("ck_grants_expires_after_start")),
        sa.CheckConstraint(
            (
                "mod(extract(epoch FROM starts_at), 60) = 0"
                " AND mod(extract(epoch FROM expires_at), 60) = 0"
            ),
            name=op.f("ck_grants_whole_minutes"),
        ),
        sa.CheckConstraint(
            "(paid_micros IS NULL) = (paid_currency IS NULL)", name=op.f("ck_grants_paid")
        ),
        sa.CheckConstraint("tax_point IN ('TOP_UP', 'USAGE')", name=op.f("ck_grants_tax_point")),
    )


def _create_grant_balances() -> None:
    op.create_table(
        "grant_balances",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("grant_number", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("consideration_micros", sa.BigInteger, nullable=False),
        sa.Column("rate_millionths", sa.Integer, nullable=False),
        sa.Column("services", ARRAY(sa.Text)),
        sa.Column("starts_at", INSTANT),
        sa.Column("expires_at", INSTANT),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("granted_at", INSTANT, nullable=False),
        sa.Column("remaining_micros", sa.BigInteger, nullable=False),
        sa.Column("held_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("clawed_back_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("expired_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "grant_number", name=op.f("pk_grant_balances")),
        sa.ForeignKeyConstraint(
            ["account_id", "grant_number"],
            ["grants.account_id", "grants.grant_number"],
            name=op.f("fk_grant_balances_account_id_grant_number"),
        ),
        sa.CheckConstraint(
            (
                "(grant_number = 0 AND remaining_micros <= 0 AND held_micros = 0)"
                " OR (grant_number > 0 AND remaining_micros >= held_micros"
                " AND held_micros >= 0)"
            ),
            name=op.f("ck_grant_balances_only_overdraft_below_zero"),
        ),
        sa.CheckConstraint(
            "clawed_back_micros >= 0 AND expired_micros >= 0", name=op.f("ck_grant_balances_gone")
        ),
        postgresql_with=HOT_ROWS,
    )
    op.create_index(
        op.f("ix_grant_balances_account_id"),
        "grant_balances",
        ["account_id"],
        postgresql_where=sa.text("is_open"),
    )
    op.create_index(
        op.f("ix_grant_balances_due"),
        "grant_balances",
        ["expires_at"],
        postgresql_where=sa.text("is_open AND expires_at IS NOT NULL"),
    )


def _create_allocations() -> None:
    op.create_table(
        "allocations",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("account_sequence", sa.BigInteger),
        sa.Column("line_number", sa.SmallInteger),
        sa.Column("grant_number", sa.BigInteger, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("remaining_after_micros", sa.BigInteger, nullable=False),
        sa.Column("consideration_micros", sa.BigInteger, nullable=False),
        sa.Column("tax_micros", sa.BigInteger, nullable=False),
        sa.Column("debt_service", sa.Text),
        sa.Column("debt_cause", sa.Text),
        sa.PrimaryKeyConstraint(
            "account_id", "account_sequence", "line_number", name=op.f("pk_allocations")
        ),
        sa.CheckConstraint("amount_micros <> 0", name=op.f("ck_allocations_amount")),
        sa.CheckConstraint(
            "grant_number > 0 OR debt_cause IS NOT NULL",
            name=op.f("ck_allocations_overdraft_names_debt"),
        ),
        sa.CheckConstraint(
            "(debt_cause IS NULL) = (debt_service IS NULL)", name=op.f("ck_allocations_debt")
        ),
    )
    op.create_index(
        op.f("ix_allocations_account_id_grant_number_account_sequence"),
        "allocations",
        ["account_id", "grant_number", "account_sequence"],
    )


def _create_debts() -> None:
    op.create_table(
        "debts",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("service", sa.Text),
        sa.Column("cause", sa.Text),
        sa.Column("due_micros", sa.BigInteger, nullable=False),
        sa.Column("opened_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "service", "cause", name=op.f("pk_debts")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_debts_account_id")),
        sa.CheckConstraint(
            "cause IN ('usage', 'refund', 'dispute', 'reversal')", name=op.f("ck_debts_cause")
        ),
        sa.CheckConstraint("due_micros >= 0", name=op.f("ck_debts_due")),
    )


# ── Holds and declined charges ──────────────────────────────────────────────────────────────────
def _create_holds() -> None:
    op.create_table(
        "holds",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("hold_number", sa.BigInteger),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("description_code", sa.Text, nullable=False),
        sa.Column("description_parameters", JSONB, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("placed_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "hold_number", name=op.f("pk_holds")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_holds_account_id")),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_holds_amount")),
        sa.CheckConstraint("expires_at > placed_at", name=op.f("ck_holds_expires_after_placing")),
    )


def _create_hold_allocations() -> None:
    op.create_table(
        "hold_allocations",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("hold_number", sa.BigInteger),
        sa.Column("grant_number", sa.BigInteger),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "hold_number", "grant_number", name=op.f("pk_hold_allocations")
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "hold_number"],
            ["holds.account_id", "holds.hold_number"],
            name=op.f("fk_hold_allocations_account_id_hold_number"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "grant_number"],
            ["grants.account_id", "grants.grant_number"],
            name=op.f("fk_hold_allocations_account_id_grant_number"),
        ),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_hold_allocations_amount")),
    )


def _create_hold_resolutions() -> None:
    op.create_table(
        "hold_resolutions",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("hold_number", sa.BigInteger),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("entry_sequence", sa.BigInteger),
        sa.Column("resolved_at", INSTANT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "hold_number", name=op.f("pk_hold_resolutions")),
        sa.ForeignKeyConstraint(
            ["account_id", "hold_number"],
            ["holds.account_id", "holds.hold_number"],
            name=op.f("fk_hold_resolutions_account_id_hold_number"),
        ),
        sa.CheckConstraint(
            "outcome IN ('captured', 'voided', 'expired')", name=op.f("ck_hold_resolutions_outcome")
        ),
        sa.CheckConstraint(
            "(outcome = 'captured') = (entry_sequence IS NOT NULL)",
            name=op.f("ck_hold_resolutions_captured_by_entry"),
        ),
    )


def _create_open_holds() -> None:
    op.create_table(
        "open_holds",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("hold_number", sa.BigInteger),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "hold_number", name=op.f("pk_open_holds")),
        sa.ForeignKeyConstraint(
            ["account_id", "hold_number"],
            ["holds.account_id", "holds.hold_number"],
            name=op.f("fk_open_holds_account_id_hold_number"),
        ),
    )
    op.create_index(op.f("ix_open_holds_expires_at"), "open_holds", ["expires_at"])


def _create_refusals() -> None:
    op.create_table(
        "refusals",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("refusal_number", sa.BigInteger),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("description_code", sa.Text, nullable=False),
        sa.Column("description_parameters", JSONB, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("available_micros", sa.BigInteger, nullable=False),
        sa.Column("occurred_at", INSTANT, nullable=False),
        sa.Column("posted_at", INSTANT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "refusal_number", name=op.f("pk_refusals")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_refusals_account_id")
        ),
        sa.CheckConstraint("operation IN ('charge', 'hold')", name=op.f("ck_refusals_operation")),
        sa.CheckConstraint(
            "reason IN ('insufficient_credit', 'account_frozen', 'in_debt', 'too_old')",
            name=op.f("ck_refusals_reason"),
        ),
    )
    op.create_index(
        op.f("ix_refusals_history"),
        "refusals",
        ["account_id", "operation", "occurred_at", "refusal_number"],
    )
    op.create_index(
        op.f("ix_refusals_service_history"),
        "refusals",
        ["account_id", "operation", "service", "occurred_at", "refusal_number"],
    )


# ── Payments ────────────────────────────────────────────────────────────────────────────────────
def _create_data_keys() -> None:
    op.create_table(
        "data_keys",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("year", sa.Integer),
        sa.Column("wrapped_key", BYTEA, nullable=False),
        sa.Column("wrapped_by", sa.Text),
        sa.Column("made_at", INSTANT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "year", name=op.f("pk_data_keys")),
    )


def _create_gateway_messages() -> None:
    op.create_table(
        "gateway_messages",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("payment_id", sa.BigInteger),
        sa.Column("account_id", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("payload_digest", BYTEA, nullable=False),
        sa.Column("payload", BYTEA, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway_messages")),
    )
    op.create_index(
        op.f("ix_gateway_messages_payment_id_id"),
        "gateway_messages",
        ["payment_id", "id"],
        postgresql_where=sa.text("payment_id IS NOT NULL"),
    )
    op.create_index(op.f("ix_gateway_messages_received_at"), "gateway_messages", ["received_at"])
    op.create_index(
        op.f("ix_gateway_messages_refused"),
        "gateway_messages",
        ["gateway", "received_at"],
        postgresql_where=sa.text("outcome IN ('bad_signature', 'malformed')"),
    )
    op.create_index(
        op.f("ix_gateway_messages_unmatched"),
        "gateway_messages",
        ["received_at"],
        postgresql_where=sa.text("reason = 'paid'"),
    )
    op.create_index(
        op.f("uq_gateway_messages_event"),
        "gateway_messages",
        ["gateway", "event_id", "outcome"],
        unique=True,
    )


def _create_payments() -> None:
    op.create_table(
        "payments",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("is_sandbox", sa.Boolean, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("pay_micros", sa.BigInteger, nullable=False),
        sa.Column("pay_currency", sa.Text, nullable=False),
        sa.Column("credit_micros", sa.BigInteger, nullable=False),
        sa.Column("credit_currency", sa.Text, nullable=False),
        sa.Column("quote_id", sa.BigInteger),
        sa.Column("profile_version", sa.Integer, nullable=False),
        sa.Column("consent_version", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("request_hash", BYTEA, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("redirect_url", sa.Text),
        sa.Column("gateway_reference", sa.Text),
        sa.Column("gateway_payment_id", sa.Text),
        sa.Column("method", sa.Text),
        sa.Column("code", sa.Text),
        sa.Column("pay_by", INSTANT),
        sa.Column("paid_at", INSTANT),
        sa.Column("credited_at", INSTANT),
        sa.Column("entry_sequence", sa.BigInteger),
        sa.Column("grant_number", sa.BigInteger),
        sa.Column("fee_micros", sa.BigInteger),
        sa.Column("fee_currency", sa.Text),
        sa.Column("refunded_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("disputed_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("has_receipt", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.Column("next_check_at", INSTANT),
        sa.Column("checks", sa.Integer, server_default=ZERO, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_payments_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["quote_id"], ["exchange_quotes.id"], name=op.f("fk_payments_quote_id")
        ),
        sa.CheckConstraint(
            "state IN ('created', 'pending', 'awaiting', 'succeeded', 'failed', 'cancelled', 'expired', 'under_review')",
            name=op.f("ck_payments_state"),
        ),
        sa.CheckConstraint(
            "pay_micros > 0 AND credit_micros > 0", name=op.f("ck_payments_amounts")
        ),
        sa.CheckConstraint(
            (
                "(state = 'succeeded') = (entry_sequence IS NOT NULL)"
                " AND (entry_sequence IS NULL) = (grant_number IS NULL)"
                " AND (entry_sequence IS NULL) = (credited_at IS NULL)"
            ),
            name=op.f("ck_payments_credited"),
        ),
        sa.CheckConstraint(
            "entry_sequence IS NULL OR gateway_payment_id IS NOT NULL",
            name=op.f("ck_payments_credit_has_money"),
        ),
        sa.CheckConstraint("refunded_micros >= 0", name=op.f("ck_payments_refunded")),
        sa.CheckConstraint("disputed_micros >= 0", name=op.f("ck_payments_disputed")),
        sa.CheckConstraint(
            "(fee_micros IS NULL) = (fee_currency IS NULL)", name=op.f("ck_payments_fee")
        ),
    )
    op.create_index(
        op.f("ix_payments_account_id_created_at_id"), "payments", ["account_id", "created_at", "id"]
    )
    op.create_index(
        op.f("ix_payments_next_check_at"),
        "payments",
        ["next_check_at"],
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_payments_under_review"),
        "payments",
        ["id"],
        postgresql_where=sa.text("state = 'under_review'"),
    )
    op.create_index(
        op.f("ix_payments_without_receipt"),
        "payments",
        ["credited_at"],
        postgresql_where=sa.text("state = 'succeeded' AND NOT has_receipt"),
    )
    op.create_index(
        op.f("uq_payments_gateway_payment_id"),
        "payments",
        ["gateway", "gateway_payment_id"],
        unique=True,
    )
    op.create_index(
        op.f("uq_payments_gateway_reference"),
        "payments",
        ["gateway", "gateway_reference"],
        unique=True,
    )
    op.create_index(
        op.f("uq_payments_key"), "payments", ["account_id", "idempotency_key"], unique=True
    )
    op.create_index(op.f("uq_payments_quote_id"), "payments", ["quote_id"], unique=True)
    op.create_index(op.f("uq_payments_reference"), "payments", ["reference"], unique=True)


def _create_payment_events() -> None:
    op.create_table(
        "payment_events",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("payment_id", sa.BigInteger),
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column(
            "happened_at", INSTANT, server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("details", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "payment_id", "id", name=op.f("pk_payment_events")),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_payment_events_payment_id")
        ),
    )
    op.create_index(
        op.f("ix_payment_events_discrepancies"),
        "payment_events",
        ["payment_id"],
        postgresql_where=sa.text(
            "kind IN ('refund_in_other_currency', 'refund_amount_changed', 'amount_changed', 'refund_of_another_payment', 'dispute_of_another_payment', 'dispute_outcome_unknown')"
        ),
    )
    op.create_index(
        op.f("ix_payment_events_second_money"),
        "payment_events",
        ["payment_id"],
        postgresql_where=sa.text("kind = 'second_money'"),
    )


def _create_payment_reviews() -> None:
    op.create_table(
        "payment_reviews",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("payment_id", sa.BigInteger, nullable=False),
        sa.Column("case_id", sa.BigInteger, nullable=False),
        sa.Column("case_reason", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("requested_by", sa.Text),
        sa.Column("requested_at", INSTANT),
        sa.Column("request_reason", sa.Text),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", INSTANT),
        sa.Column("decision_reason", sa.Text),
        sa.Column("gateway_payment_id", sa.Text),
        sa.Column("received_micros", sa.BigInteger),
        sa.Column("received_currency", sa.Text),
        sa.Column("return_state", sa.Text),
        sa.Column("returned_by", sa.Text),
        sa.Column("returned_at", INSTANT),
        sa.Column("return_reference", sa.Text),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_reviews")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_payment_reviews_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_payment_reviews_payment_id")
        ),
        sa.CheckConstraint(
            "state IN ('requested', 'approved', 'rejected', 'reviewed')",
            name=op.f("ck_payment_reviews_state"),
        ),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> requested_by",
            name=op.f("ck_payment_reviews_two_people"),
        ),
        sa.CheckConstraint(
            "state IN ('rejected', 'reviewed') OR requested_by IS NOT NULL",
            name=op.f("ck_payment_reviews_requested"),
        ),
        sa.CheckConstraint(
            (
                "(state = 'requested') = (decided_by IS NULL)"
                " AND (decided_by IS NULL) = (decided_at IS NULL)"
                " AND (decided_by IS NULL) = (decision_reason IS NULL)"
            ),
            name=op.f("ck_payment_reviews_decided"),
        ),
        sa.CheckConstraint(
            "(received_micros IS NULL) = (received_currency IS NULL) AND received_micros > 0",
            name=op.f("ck_payment_reviews_received"),
        ),
        sa.CheckConstraint(
            (
                "return_state IN ('due', 'returned', 'not_received') AND (return_state IS NULL"
                " OR state = 'rejected')"
            ),
            name=op.f("ck_payment_reviews_return_state"),
        ),
        sa.CheckConstraint(
            "(returned_at IS NULL) = (coalesce(return_state, 'due') = 'due')",
            name=op.f("ck_payment_reviews_returned"),
        ),
    )
    op.create_index(
        op.f("ix_payment_reviews_due"),
        "payment_reviews",
        ["payment_id"],
        postgresql_where=sa.text("return_state = 'due'"),
    )
    op.create_index(
        op.f("ix_payment_reviews_payment_id_id"), "payment_reviews", ["payment_id", "id"]
    )
    op.create_index(op.f("uq_payment_reviews_case_id"), "payment_reviews", ["case_id"], unique=True)


def _create_bank_transfers() -> None:
    op.create_table(
        "bank_transfers",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("bank_reference", sa.Text, nullable=False),
        sa.Column("normalised_reference", sa.Text, nullable=False),
        sa.Column("received_on", sa.Date, nullable=False),
        sa.Column("evidence_name", sa.Text, nullable=False),
        sa.Column("evidence_type", sa.Text, nullable=False),
        sa.Column("evidence", BYTEA, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("state", sa.Text, server_default=sa.text("'requested'"), nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", INSTANT),
        sa.Column("payment_id", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_transfers")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_bank_transfers_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_bank_transfers_payment_id")
        ),
        sa.CheckConstraint(
            "state IN ('requested', 'approved', 'rejected')", name=op.f("ck_bank_transfers_state")
        ),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_bank_transfers_amount")),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> requested_by",
            name=op.f("ck_bank_transfers_two_people"),
        ),
        sa.CheckConstraint(
            "(state = 'approved') = (payment_id IS NOT NULL)",
            name=op.f("ck_bank_transfers_approved"),
        ),
        sa.CheckConstraint(
            (
                "normalised_reference ~ '^[a-z0-9]+$'"
                " AND normalised_reference = lower(regexp_replace(bank_reference, '[^A-Za-z0-9]', '', 'g') COLLATE \"C\")"
                " AND bank_reference ~ '^[A-Za-z0-9/?:().,''+ -]+$'"
                " OR normalised_reference ~ '^[a-z0-9]*#[0-9]+$'"
            ),
            name=op.f("ck_bank_transfers_normalised_reference"),
        ),
    )
    op.create_index(op.f("ix_bank_transfers_account_id_id"), "bank_transfers", ["account_id", "id"])
    op.create_index(
        op.f("uq_bank_transfers_normalised_reference"),
        "bank_transfers",
        ["normalised_reference"],
        unique=True,
        postgresql_where=sa.text("state <> 'rejected'"),
    )


# ── Refunds and disputes ────────────────────────────────────────────────────────────────────────
def _create_refunds() -> None:
    op.create_table(
        "refunds",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("payment_id", sa.BigInteger, nullable=False),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("gateway_payment_id", sa.Text),
        sa.Column("reference", sa.Text),
        sa.Column("request_key", sa.Text),
        sa.Column("request_hash", BYTEA),
        sa.Column("gateway_refund_id", sa.Text),
        sa.Column("is_reversal", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("pay_micros", sa.BigInteger, nullable=False),
        sa.Column("outflow_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("unapplied_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("clawed_back_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("credit_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("settled_at", INSTANT),
        sa.Column("stated_at", INSTANT),
        sa.Column("revision", sa.Integer, server_default=ZERO, nullable=False),
        sa.Column("has_credit_note", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.Column("next_check_at", INSTANT),
        sa.Column("checks", sa.Integer, server_default=ZERO, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_refunds_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_refunds_payment_id")
        ),
        sa.CheckConstraint(
            "state IN ('requested', 'pending', 'succeeded', 'failed', 'merged')",
            name=op.f("ck_refunds_state"),
        ),
        sa.CheckConstraint("pay_micros > 0", name=op.f("ck_refunds_amount")),
        sa.CheckConstraint(
            (
                "unapplied_micros >= 0 AND clawed_back_micros >= 0"
                " AND unapplied_micros + clawed_back_micros <= outflow_micros"
                " AND (credit_micros = 0) = (clawed_back_micros = 0)"
            ),
            name=op.f("ck_refunds_outflow"),
        ),
        sa.CheckConstraint(
            (
                "outflow_micros = 0 OR outflow_micros = pay_micros"
                " AND state IN ('requested', 'pending', 'succeeded')"
            ),
            name=op.f("ck_refunds_outflow_of_state"),
        ),
    )
    op.create_index(
        op.f("ix_refunds_excess"),
        "refunds",
        ["payment_id"],
        postgresql_where=sa.text("outflow_micros > unapplied_micros + clawed_back_micros"),
    )
    op.create_index(
        op.f("ix_refunds_next_check_at"),
        "refunds",
        ["next_check_at"],
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_refunds_payment_id_id"), "refunds", ["payment_id", "id"])
    op.create_index(
        op.f("ix_refunds_waits_for_person"),
        "refunds",
        ["payment_id"],
        postgresql_where=sa.text("state IN ('requested', 'pending') AND next_check_at IS NULL"),
    )
    op.create_index(
        op.f("ix_refunds_with_void_credit_note"),
        "refunds",
        ["settled_at"],
        postgresql_where=sa.text("state <> 'succeeded' AND has_credit_note"),
    )
    op.create_index(
        op.f("ix_refunds_without_credit_note"),
        "refunds",
        ["settled_at"],
        postgresql_where=sa.text("state = 'succeeded' AND NOT has_credit_note"),
    )
    op.create_index(
        op.f("uq_refunds_gateway_refund_id"),
        "refunds",
        ["gateway", "gateway_refund_id"],
        unique=True,
    )
    op.create_index(op.f("uq_refunds_reference"), "refunds", ["reference"], unique=True)
    op.create_index(op.f("uq_refunds_request_key"), "refunds", ["request_key"], unique=True)


def _create_disputes() -> None:
    op.create_table(
        "disputes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("payment_id", sa.BigInteger, nullable=False),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("gateway_payment_id", sa.Text),
        sa.Column("gateway_dispute_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("pay_micros", sa.BigInteger, nullable=False),
        sa.Column("lost_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("held_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("outflow_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("unapplied_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("clawed_back_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("credit_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("opened_at", INSTANT, nullable=False),
        sa.Column("respond_by", INSTANT),
        sa.Column("closed_at", INSTANT),
        sa.Column("stated_at", INSTANT),
        sa.Column("revision", sa.Integer, server_default=ZERO, nullable=False),
        sa.Column("fee_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("fee_currency", sa.Text),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_disputes")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_disputes_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_disputes_payment_id")
        ),
        sa.CheckConstraint("state IN ('open', 'won', 'lost')", name=op.f("ck_disputes_state")),
        sa.CheckConstraint("pay_micros > 0", name=op.f("ck_disputes_amount")),
        sa.CheckConstraint(
            (
                "outflow_micros IN (0, lost_micros) AND lost_micros BETWEEN 0 AND pay_micros"
                " AND unapplied_micros >= 0 AND clawed_back_micros >= 0"
                " AND unapplied_micros + clawed_back_micros <= outflow_micros"
                " AND (credit_micros = 0) = (clawed_back_micros = 0)"
            ),
            name=op.f("ck_disputes_outflow"),
        ),
        sa.CheckConstraint("state <> 'won' OR lost_micros = 0", name=op.f("ck_disputes_won")),
        sa.CheckConstraint("state <> 'lost' OR lost_micros > 0", name=op.f("ck_disputes_lost")),
        sa.CheckConstraint(
            "held_micros = 0 OR state = 'open' AND held_micros = pay_micros - lost_micros",
            name=op.f("ck_disputes_held"),
        ),
        sa.CheckConstraint(
            "(state = 'open') = (closed_at IS NULL)", name=op.f("ck_disputes_closed")
        ),
        sa.CheckConstraint(
            "fee_micros = 0 OR fee_currency IS NOT NULL", name=op.f("ck_disputes_fee")
        ),
    )
    op.create_index(
        op.f("ix_disputes_account_id"),
        "disputes",
        ["account_id"],
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        op.f("ix_disputes_excess"),
        "disputes",
        ["payment_id"],
        postgresql_where=sa.text("outflow_micros > unapplied_micros + clawed_back_micros"),
    )
    op.create_index(op.f("ix_disputes_payment_id_id"), "disputes", ["payment_id", "id"])
    op.create_index(
        op.f("uq_disputes_gateway_dispute_id"),
        "disputes",
        ["gateway", "gateway_dispute_id"],
        unique=True,
    )


def _create_account_freezes() -> None:
    op.create_table(
        "account_freezes",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("cause", sa.Text),
        sa.Column("frozen_at", INSTANT, nullable=False),
        sa.Column("frozen_by", sa.Text, nullable=False),
        sa.Column("lifted_at", INSTANT),
        sa.PrimaryKeyConstraint("account_id", "cause", name=op.f("pk_account_freezes")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_account_freezes_account_id")
        ),
    )


# ── Receipts, and what each payment did to the credit ───────────────────────────────────────────
def _create_documents() -> None:
    op.create_table(
        "documents",
        sa.Column("site_code", sa.Text),
        sa.Column("kind", sa.Text),
        sa.Column("year", sa.Integer),
        sa.Column("number", sa.BigInteger),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("payment_id", sa.BigInteger, nullable=False),
        sa.Column("refund_id", sa.BigInteger),
        sa.Column("issued_at", INSTANT, nullable=False),
        sa.Column("content", BYTEA, nullable=False),
        sa.PrimaryKeyConstraint("site_code", "kind", "year", "number", name=op.f("pk_documents")),
        sa.ForeignKeyConstraint(["site_code"], ["sites.code"], name=op.f("fk_documents_site_code")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_documents_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_documents_payment_id")
        ),
        sa.ForeignKeyConstraint(["refund_id"], ["refunds.id"], name=op.f("fk_documents_refund_id")),
        sa.CheckConstraint(
            "kind IN ('receipt', 'credit_note', 'cancellation')", name=op.f("ck_documents_kind")
        ),
        sa.CheckConstraint("number > 0", name=op.f("ck_documents_number")),
        sa.CheckConstraint(
            "(kind = 'receipt') = (refund_id IS NULL)", name=op.f("ck_documents_refund")
        ),
    )
    op.create_index(
        op.f("ix_documents_account_id_issued_at"), "documents", ["account_id", "issued_at"]
    )
    op.create_index(
        op.f("ix_documents_refund_id"),
        "documents",
        ["refund_id"],
        postgresql_where=sa.text("refund_id IS NOT NULL"),
    )
    op.create_index(
        op.f("uq_documents_payment_id"),
        "documents",
        ["payment_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'receipt'"),
    )


def _create_payment_credits() -> None:
    op.create_table(
        "payment_credits",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("payment_id", sa.BigInteger),
        sa.Column("number", sa.Integer),
        sa.Column("refund_id", sa.BigInteger),
        sa.Column("dispute_id", sa.BigInteger),
        sa.Column("entry_sequence", sa.BigInteger),
        sa.Column("credit_micros", sa.BigInteger, nullable=False),
        sa.Column("pay_micros", sa.BigInteger, nullable=False),
        sa.Column("posted_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "payment_id", "number", name=op.f("pk_payment_credits")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_payment_credits_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_payment_credits_payment_id")
        ),
        sa.ForeignKeyConstraint(
            ["refund_id"], ["refunds.id"], name=op.f("fk_payment_credits_refund_id")
        ),
        sa.ForeignKeyConstraint(
            ["dispute_id"], ["disputes.id"], name=op.f("fk_payment_credits_dispute_id")
        ),
        sa.CheckConstraint("number > 0", name=op.f("ck_payment_credits_number")),
        sa.CheckConstraint(
            "num_nonnulls(refund_id, dispute_id) <= 1", name=op.f("ck_payment_credits_cause")
        ),
        sa.CheckConstraint(
            "credit_micros <> 0 AND pay_micros <> 0", name=op.f("ck_payment_credits_amounts")
        ),
        sa.CheckConstraint(
            "sign(credit_micros) = sign(pay_micros)", name=op.f("ck_payment_credits_signs")
        ),
        sa.CheckConstraint(
            "entry_sequence IS NOT NULL OR num_nonnulls(refund_id, dispute_id) = 1",
            name=op.f("ck_payment_credits_moved"),
        ),
    )
    op.create_index(
        op.f("uq_payment_credits_entry_sequence"),
        "payment_credits",
        ["account_id", "entry_sequence"],
        unique=True,
        postgresql_where=sa.text("entry_sequence IS NOT NULL"),
    )


# ── Operations ──────────────────────────────────────────────────────────────────────────────────
def _create_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column(
            "recorded_at", INSTANT, server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("address", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("account_id", sa.BigInteger),
        sa.Column("details", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_account_id_id"), "audit_log", ["account_id", "id"])
    op.create_index(
        op.f("ix_audit_log_people"),
        "audit_log",
        ["recorded_at", "id"],
        postgresql_where=sa.text("actor LIKE 'user:%'"),
    )
    op.create_index(
        op.f("ix_audit_log_people_account"),
        "audit_log",
        ["account_id", "recorded_at", "id"],
        postgresql_where=sa.text("actor LIKE 'user:%'"),
    )
    op.create_index(
        op.f("ix_audit_log_people_actor"),
        "audit_log",
        ["actor", "recorded_at", "id"],
        postgresql_where=sa.text("actor LIKE 'user:%'"),
    )
    op.create_index(op.f("ix_audit_log_recorded"), "audit_log", ["recorded_at", "id"])
    op.create_index(
        op.f("ix_audit_log_roles"),
        "audit_log",
        ["id"],
        postgresql_where=sa.text("action IN ('create_user', 'change_staff_role')"),
    )


def _create_audit_seals() -> None:
    op.create_table(
        "audit_seals",
        sa.Column("position", sa.BigInteger, autoincrement=False),
        sa.Column("audit_id", sa.BigInteger, nullable=False),
        sa.Column("digest", BYTEA, nullable=False),
        sa.Column("sealed_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_seals")),
        sa.UniqueConstraint("audit_id", name=op.f("uq_audit_seals_audit_id")),
    )
    op.create_index(op.f("ix_audit_seals_sealed_at"), "audit_seals", ["sealed_at"])


def _create_job_runs() -> None:
    op.create_table(
        "job_runs",
        sa.Column("name", sa.Text),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.Column("outcome", sa.Text),
        sa.Column("details", sa.Text),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_runs")),
    )


def _create_outbox_messages() -> None:
    op.create_table(
        "outbox_messages",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("template", sa.Text, nullable=False),
        sa.Column("parameters", JSONB),
        sa.Column("sealed_parameters", BYTEA),
        sa.Column("locale", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("available_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("attempts", sa.Integer, server_default=ZERO, nullable=False),
        sa.Column("sent_at", INSTANT),
        sa.Column("failed_at", INSTANT),
        sa.Column("last_error", sa.Text),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_messages")),
        sa.CheckConstraint(
            "num_nonnulls(parameters, sealed_parameters) <= 1",
            name=op.f("ck_outbox_messages_parameters"),
        ),
    )
    op.create_index(
        op.f("ix_outbox_messages_waiting"),
        "outbox_messages",
        ["available_at"],
        postgresql_where=sa.text("sent_at IS NULL AND failed_at IS NULL"),
    )


def _create_export_jobs() -> None:
    op.create_table(
        "export_jobs",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("options", JSONB, nullable=False),
        sa.Column("state", sa.Text, server_default=sa.text("'running'"), nullable=False),
        sa.Column("rows_total", sa.BigInteger),
        sa.Column("rows_written", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("progress_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export_jobs")),
        sa.CheckConstraint(
            "state IN ('running', 'done', 'failed')", name=op.f("ck_export_jobs_state")
        ),
    )
    op.create_index(op.f("ix_export_jobs_expires_at"), "export_jobs", ["expires_at"])
    op.create_index(
        op.f("ix_export_jobs_running"),
        "export_jobs",
        ["progress_at"],
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(op.f("ix_export_jobs_user_id_id"), "export_jobs", ["user_id", "id"])


def _create_portal_keys() -> None:
    op.create_table(
        "portal_keys",
        sa.Column("name", sa.Text),
        sa.Column("wrapped_key", BYTEA, nullable=False),
        sa.Column("wrapped_by", sa.Text, nullable=False),
        sa.Column("made_at", INSTANT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_portal_keys")),
    )


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("key", sa.Uuid),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("content", BYTEA, nullable=False),
        sa.Column("uploaded_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_uploads")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_uploads_user_id")),
    )
    op.create_index(op.f("ix_uploads_user_id"), "uploads", ["user_id"])
    # Sealed files and pictures are as small as they get.
    op.execute("ALTER TABLE uploads ALTER COLUMN content SET STORAGE EXTERNAL")


def _create_usage_imports() -> None:
    op.create_table(
        "usage_imports",
        sa.Column("file_digest", BYTEA),
        sa.Column("file_name", sa.Text, nullable=False),
        sa.Column("accounts", ARRAY(sa.BigInteger), nullable=False),
        sa.Column("started_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.Column("rows_read", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("rows_rejected", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.PrimaryKeyConstraint("file_digest", name=op.f("pk_usage_imports")),
    )


# ── Staff ───────────────────────────────────────────────────────────────────────────────────────
def _create_staff_invitations() -> None:
    op.create_table(
        "staff_invitations",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("token_digest", BYTEA, nullable=False),
        sa.Column("invited_by", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("accepted_at", INSTANT),
        sa.Column("accepted_by", sa.BigInteger),
        sa.Column("withdrawn_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_invitations")),
        sa.ForeignKeyConstraint(
            ["accepted_by"], ["users.id"], name=op.f("fk_staff_invitations_accepted_by")
        ),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_staff_invitations_email_lower")),
        sa.CheckConstraint(
            "role IN ('support', 'finance', 'admin')", name=op.f("ck_staff_invitations_role")
        ),
        sa.CheckConstraint(
            "invited_by ~ '^user:[0-9]+$'", name=op.f("ck_staff_invitations_invited_by")
        ),
        sa.CheckConstraint("expires_at > created_at", name=op.f("ck_staff_invitations_expires")),
        sa.CheckConstraint(
            "(accepted_at IS NULL) = (accepted_by IS NULL)",
            name=op.f("ck_staff_invitations_accepted"),
        ),
        sa.CheckConstraint(
            "accepted_at < expires_at", name=op.f("ck_staff_invitations_accepted_in_time")
        ),
        sa.CheckConstraint(
            "accepted_at IS NULL OR withdrawn_at IS NULL",
            name=op.f("ck_staff_invitations_ended_once"),
        ),
        sa.CheckConstraint(
            "invited_by <> 'user:' || accepted_by",
            name=op.f("ck_staff_invitations_not_about_oneself"),
        ),
    )
    op.create_index(
        op.f("uq_staff_invitations_open"),
        "staff_invitations",
        ["email"],
        unique=True,
        postgresql_where=sa.text("accepted_at IS NULL AND withdrawn_at IS NULL"),
    )
    op.create_index(
        op.f("uq_staff_invitations_token_digest"),
        "staff_invitations",
        ["token_digest"],
        unique=True,
    )


def _create_staff_role_requests() -> None:
    op.create_table(
        "staff_role_requests",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("role_before", sa.Text),
        sa.Column("role_after", sa.Text),
        sa.Column("is_disabled_before", sa.Boolean, nullable=False),
        sa.Column("is_disabled_after", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("effective_at", INSTANT),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("state", sa.Text, server_default=sa.text("'requested'"), nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", INSTANT),
        sa.Column("remark", sa.Text),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_role_requests")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_staff_role_requests_user_id")
        ),
        sa.CheckConstraint(
            "state IN ('requested', 'applied', 'rejected', 'withdrawn', 'objected', 'lapsed')",
            name=op.f("ck_staff_role_requests_state"),
        ),
        sa.CheckConstraint(
            "role_before IN ('support', 'finance', 'admin')",
            name=op.f("ck_staff_role_requests_role_before"),
        ),
        sa.CheckConstraint(
            "role_after IN ('support', 'finance', 'admin')",
            name=op.f("ck_staff_role_requests_role_after"),
        ),
        sa.CheckConstraint(
            "(role_before IS DISTINCT FROM role_after) <> (is_disabled_before <> is_disabled_after)",
            name=op.f("ck_staff_role_requests_one_change"),
        ),
        sa.CheckConstraint(
            (
                "(state = 'requested') = (decided_at IS NULL)"
                " AND (decided_at IS NULL) = (decided_by IS NULL)"
            ),
            name=op.f("ck_staff_role_requests_decided"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('applied', 'rejected') OR decided_by <> requested_by",
            name=op.f("ck_staff_role_requests_two_people"),
        ),
        sa.CheckConstraint(
            (
                "requested_by <> 'user:' || user_id AND (state NOT IN ('applied', 'rejected')"
                " OR decided_by <> 'user:' || user_id)"
            ),
            name=op.f("ck_staff_role_requests_not_about_oneself"),
        ),
        sa.CheckConstraint(
            (
                "state <> 'applied' OR decided_by LIKE 'user:%' OR (effective_at IS NOT NULL"
                " AND decided_at >= effective_at)"
            ),
            name=op.f("ck_staff_role_requests_second_person_or_time"),
        ),
        sa.CheckConstraint(
            (
                "state <> 'objected' OR (decided_by = 'user:' || user_id"
                " AND effective_at IS NOT NULL AND role_before = 'admin'"
                " AND NOT is_disabled_before)"
            ),
            name=op.f("ck_staff_role_requests_objected_by_person"),
        ),
        sa.CheckConstraint(
            "effective_at >= requested_at + interval '24 hours'",
            name=op.f("ck_staff_role_requests_effective"),
        ),
        sa.CheckConstraint(
            "expires_at > requested_at", name=op.f("ck_staff_role_requests_expires")
        ),
    )
    op.create_index(
        op.f("uq_staff_role_requests_open"),
        "staff_role_requests",
        ["user_id"],
        unique=True,
        postgresql_where=sa.text("state = 'requested'"),
    )


# ── Support ─────────────────────────────────────────────────────────────────────────────────────
def _create_action_limits() -> None:
    op.create_table(
        "action_limits",
        sa.Column("action", sa.Text),
        sa.Column("role", sa.Text),
        sa.Column("currency", sa.Text),
        sa.Column("daily_micros", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("updated_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("action", "role", "currency", name=op.f("pk_action_limits")),
        sa.CheckConstraint("daily_micros >= 0", name=op.f("ck_action_limits_daily")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_action_limits_currency")),
        sa.CheckConstraint("version > 0", name=op.f("ck_action_limits_version")),
    )


def _create_approval_requests() -> None:
    op.create_table(
        "approval_requests",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("parameters", JSONB, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("state", sa.Text, server_default=sa.text("'requested'"), nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", INSTANT),
        sa.Column("remark", sa.Text),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval_requests")),
        sa.UniqueConstraint(
            "requested_by",
            "idempotency_key",
            name=op.f("uq_approval_requests_requested_by_idempotency_key"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_approval_requests_account_id")
        ),
        sa.CheckConstraint(
            "state IN ('requested', 'approved', 'rejected', 'withdrawn', 'expired')",
            name=op.f("ck_approval_requests_state"),
        ),
        sa.CheckConstraint(
            "(state = 'requested') = (decided_at IS NULL)",
            name=op.f("ck_approval_requests_decided"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('approved', 'rejected') OR decided_by <> requested_by",
            name=op.f("ck_approval_requests_two_people"),
        ),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_approval_requests_amount")),
    )
    op.create_index(
        op.f("ix_approval_requests_account_id_id"), "approval_requests", ["account_id", "id"]
    )
    op.create_index(
        op.f("ix_approval_requests_requested"),
        "approval_requests",
        ["id"],
        postgresql_where=sa.text("state = 'requested'"),
    )


def _create_staff_acts() -> None:
    op.create_table(
        "staff_acts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("maker", sa.Text, nullable=False),
        sa.Column("checker", sa.Text),
        sa.Column("request_id", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("entries", ARRAY(sa.BigInteger), nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("refund_id", sa.BigInteger),
        sa.Column("acted_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_acts")),
        sa.UniqueConstraint("request_id", name=op.f("uq_staff_acts_request_id")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_staff_acts_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["approval_requests.id"], name=op.f("fk_staff_acts_request_id")
        ),
        sa.ForeignKeyConstraint(
            ["refund_id"], ["refunds.id"], name=op.f("fk_staff_acts_refund_id")
        ),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_staff_acts_amount")),
        sa.CheckConstraint("checker <> maker", name=op.f("ck_staff_acts_two_people")),
        sa.CheckConstraint(
            "(checker IS NULL) = (request_id IS NULL)", name=op.f("ck_staff_acts_approved")
        ),
    )
    op.create_index(op.f("ix_staff_acts_account_id_id"), "staff_acts", ["account_id", "id"])
    op.create_index(
        op.f("ix_staff_acts_maker_account_id_action_acted_at"),
        "staff_acts",
        ["maker", "account_id", "action", "acted_at"],
    )
    op.create_index(
        op.f("ix_staff_acts_maker_action_currency_acted_at"),
        "staff_acts",
        ["maker", "action", "currency", "acted_at"],
    )
    op.create_index(
        op.f("uq_staff_acts_refund_id"),
        "staff_acts",
        ["refund_id"],
        unique=True,
        postgresql_where=sa.text("refund_id IS NOT NULL"),
    )


def _create_account_notes() -> None:
    op.create_table(
        "account_notes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("written_by", sa.Text, nullable=False),
        sa.Column("written_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_notes")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_account_notes_account_id")
        ),
    )
    op.create_index(op.f("ix_account_notes_account_id_id"), "account_notes", ["account_id", "id"])


# ── Usage ───────────────────────────────────────────────────────────────────────────────────────
def _create_usage_events() -> None:
    op.create_table(
        "usage_events",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("account_sequence", sa.BigInteger),
        sa.Column("line_number", sa.Integer),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("occurred_at", INSTANT, nullable=False),
        sa.Column("quantities", JSONB, nullable=False),
        sa.Column("exact_micros", sa.Numeric(38, 12), nullable=False),
        sa.Column("catalogue_version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "account_sequence", "line_number", name=op.f("pk_usage_events")
        ),
        sa.CheckConstraint("exact_micros >= 0", name=op.f("ck_usage_events_exact")),
    )


def _create_usage_keys() -> None:
    op.create_table(
        "usage_keys",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("origin", sa.Text),
        sa.Column("event_id", sa.Text),
        sa.Column("request_hash", BYTEA, nullable=False),
        sa.Column("account_sequence", sa.BigInteger),
        sa.Column("refusal_number", sa.BigInteger),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "origin", "event_id", name=op.f("pk_usage_keys")),
        sa.CheckConstraint(
            "num_nonnulls(account_sequence, refusal_number) = 1",
            name=op.f("ck_usage_keys_one_answer"),
        ),
    )


def _create_daily_totals() -> None:
    op.create_table(
        "daily_totals",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("day", sa.Date),
        sa.Column("kind", sa.Text),
        sa.Column("service", sa.Text),
        sa.Column("source", sa.Text),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "day", "kind", "service", "source", name=op.f("pk_daily_totals")
        ),
        sa.CheckConstraint("entries > 0 AND calls >= 0", name=op.f("ck_daily_totals_counts")),
        postgresql_with=HOT_ROWS,
    )


def _create_daily_quantities() -> None:
    op.create_table(
        "daily_quantities",
        sa.Column("account_id", sa.BigInteger),
        sa.Column("day", sa.Date),
        sa.Column("service", sa.Text),
        sa.Column("source", sa.Text),
        sa.Column("meter", sa.Text),
        sa.Column("quantity", sa.Numeric, nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "day", "service", "source", "meter", name=op.f("pk_daily_quantities")
        ),
        postgresql_with=HOT_ROWS,
    )


def _create_site_totals() -> None:
    op.create_table(
        "site_totals",
        sa.Column("site_code", sa.Text),
        sa.Column("country", sa.Text),
        sa.Column("currency", sa.Text),
        sa.Column("day", sa.Date),
        sa.Column("kind", sa.Text),
        sa.Column("service", sa.Text),
        sa.Column("amount_micros", sa.Numeric(38, 0), nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "site_code",
            "country",
            "currency",
            "day",
            "kind",
            "service",
            name=op.f("pk_site_totals"),
        ),
        sa.CheckConstraint("entries > 0 AND calls >= 0", name=op.f("ck_site_totals_counts")),
        postgresql_with=HOT_ROWS,
    )


def _create_total_changes() -> None:
    op.create_table(
        "total_changes",
        sa.Column("change_number", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("site_code", sa.Text, nullable=False),
        sa.Column("country", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.Numeric(38, 0), nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("change_number", name=op.f("pk_total_changes")),
    )


# ── Vouchers ────────────────────────────────────────────────────────────────────────────────────
def _create_campaigns() -> None:
    op.create_table(
        "campaigns",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("trigger", sa.Text, server_default=sa.text("'code'"), nullable=False),
        sa.Column("state", sa.Text, server_default=sa.text("'requested'"), nullable=False),
        sa.Column("redeem_from", INSTANT, nullable=False),
        sa.Column("redeem_until", INSTANT, nullable=False),
        sa.Column("validity_days", sa.Integer, nullable=False),
        sa.Column("code_budget", sa.Integer, nullable=False),
        sa.Column("codes", sa.Integer, server_default=ZERO, nullable=False),
        sa.Column("uses_per_code", sa.Integer, server_default=sa.text("1"), nullable=False),
        sa.Column("uses_per_account", sa.Integer, server_default=sa.text("1"), nullable=False),
        sa.Column("site_codes", ARRAY(sa.Text)),
        sa.Column("countries", ARRAY(sa.Text)),
        sa.Column(
            "is_for_new_accounts", sa.Boolean, server_default=sa.text("false"), nullable=False
        ),
        sa.Column(
            "is_for_named_accounts", sa.Boolean, server_default=sa.text("false"), nullable=False
        ),
        sa.Column("is_for_support", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.Column("blocks_suspects", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", INSTANT),
        sa.Column("ended_by", sa.Text),
        sa.Column("ended_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sa.CheckConstraint(
            "trigger IN ('code', 'first_top_up')", name=op.f("ck_campaigns_trigger")
        ),
        sa.CheckConstraint(
            "state IN ('requested', 'approved', 'rejected', 'ended')",
            name=op.f("ck_campaigns_state"),
        ),
        sa.CheckConstraint(
            "(state = 'requested') = (decided_at IS NULL)", name=op.f("ck_campaigns_decided")
        ),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> requested_by", name=op.f("ck_campaigns_two_people")
        ),
        sa.CheckConstraint(
            "(state = 'ended') = (ended_at IS NOT NULL)", name=op.f("ck_campaigns_ended")
        ),
        sa.CheckConstraint("redeem_until > redeem_from", name=op.f("ck_campaigns_window")),
        sa.CheckConstraint("validity_days BETWEEN 1 AND 3660", name=op.f("ck_campaigns_validity")),
        sa.CheckConstraint(
            "codes BETWEEN 0 AND code_budget", name=op.f("ck_campaigns_code_budget")
        ),
        sa.CheckConstraint(
            "uses_per_code > 0 AND uses_per_account > 0", name=op.f("ck_campaigns_uses")
        ),
    )
    op.create_index(op.f("uq_campaigns_name"), "campaigns", [sa.text("lower(name)")], unique=True)


def _create_campaign_amounts() -> None:
    op.create_table(
        "campaign_amounts",
        sa.Column("campaign_id", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("budget_micros", sa.BigInteger, nullable=False),
        sa.Column("minimum_top_up_micros", sa.BigInteger),
        sa.Column("granted_micros", sa.BigInteger, server_default=ZERO, nullable=False),
        sa.Column("redemptions", sa.Integer, server_default=ZERO, nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "currency", name=op.f("pk_campaign_amounts")),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_amounts_campaign_id")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_campaign_amounts_currency")),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_campaign_amounts_amount")),
        sa.CheckConstraint(
            "granted_micros BETWEEN 0 AND budget_micros", name=op.f("ck_campaign_amounts_budget")
        ),
        sa.CheckConstraint(
            "granted_micros = redemptions * amount_micros", name=op.f("ck_campaign_amounts_granted")
        ),
    )


def _create_campaign_parts() -> None:
    op.create_table(
        "campaign_parts",
        sa.Column("campaign_id", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("position", sa.Integer),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("services", ARRAY(sa.Text)),
        sa.PrimaryKeyConstraint(
            "campaign_id", "currency", "position", name=op.f("pk_campaign_parts")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id", "currency"],
            ["campaign_amounts.campaign_id", "campaign_amounts.currency"],
            name=op.f("fk_campaign_parts_campaign_id_currency"),
        ),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_campaign_parts_amount")),
        sa.CheckConstraint(
            "services IS NULL OR cardinality(services) > 0", name=op.f("ck_campaign_parts_services")
        ),
    )


def _create_voucher_batches() -> None:
    op.create_table(
        "voucher_batches",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("campaign_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("codes", sa.Integer, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("made_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_batches")),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_voucher_batches_campaign_id")
        ),
        sa.CheckConstraint(
            "kind IN ('generated', 'imported', 'issued')", name=op.f("ck_voucher_batches_kind")
        ),
        sa.CheckConstraint("codes > 0", name=op.f("ck_voucher_batches_codes")),
    )
    op.create_index(
        op.f("ix_voucher_batches_campaign_id_id"), "voucher_batches", ["campaign_id", "id"]
    )


def _create_voucher_codes() -> None:
    op.create_table(
        "voucher_codes",
        sa.Column("code", sa.Text),
        sa.Column("campaign_id", sa.BigInteger, nullable=False),
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("account_id", sa.BigInteger),
        sa.Column("most_uses", sa.Integer, nullable=False),
        sa.Column("uses", sa.Integer, server_default=ZERO, nullable=False),
        sa.Column("revoked_at", INSTANT),
        sa.Column("revoked_by", sa.Text),
        sa.Column("revoked_reason", sa.Text),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_voucher_codes")),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_voucher_codes_campaign_id")
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["voucher_batches.id"], name=op.f("fk_voucher_codes_batch_id")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_voucher_codes_account_id")
        ),
        sa.CheckConstraint("code ~ '^[A-Z0-9]{10}$'", name=op.f("ck_voucher_codes_code")),
        sa.CheckConstraint(
            "most_uses > 0 AND uses BETWEEN 0 AND most_uses", name=op.f("ck_voucher_codes_uses")
        ),
        sa.CheckConstraint(
            "(revoked_at IS NULL) = (revoked_by IS NULL)", name=op.f("ck_voucher_codes_revoked")
        ),
    )
    op.create_index(
        op.f("ix_voucher_codes_account_id"),
        "voucher_codes",
        ["account_id"],
        postgresql_where=sa.text("account_id IS NOT NULL"),
    )
    op.create_index(op.f("ix_voucher_codes_batch_id_code"), "voucher_codes", ["batch_id", "code"])
    op.create_index(
        op.f("ix_voucher_codes_campaign_id_code"), "voucher_codes", ["campaign_id", "code"]
    )


def _create_voucher_redemptions() -> None:
    op.create_table(
        "voucher_redemptions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("campaign_id", sa.BigInteger, nullable=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("payment_id", sa.BigInteger),
        sa.Column("instrument_digest", BYTEA),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("grants", ARRAY(sa.BigInteger), nullable=False),
        sa.Column("entries", ARRAY(sa.BigInteger), nullable=False),
        sa.Column("redeemed_at", INSTANT, nullable=False),
        sa.Column("redeemed_by", sa.Text, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
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
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_voucher_redemptions_campaign_id")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_voucher_redemptions_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["code"], ["voucher_codes.code"], name=op.f("fk_voucher_redemptions_code")
        ),
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
    )
    op.create_index(
        op.f("ix_voucher_redemptions_account_id_id"), "voucher_redemptions", ["account_id", "id"]
    )
    op.create_index(op.f("ix_voucher_redemptions_code"), "voucher_redemptions", ["code"])


def _create_account_signals() -> None:
    op.create_table(
        "account_signals",
        sa.Column("kind", sa.Text),
        sa.Column("digest", BYTEA),
        sa.Column("account_id", sa.BigInteger),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("first_seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("kind", "digest", "account_id", name=op.f("pk_account_signals")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_account_signals_account_id")
        ),
        sa.CheckConstraint(
            "kind IN ('instrument', 'tax_code', 'network_address', 'email', 'address')",
            name=op.f("ck_account_signals_kind"),
        ),
    )
    op.create_index(op.f("ix_account_signals_account_id"), "account_signals", ["account_id"])
