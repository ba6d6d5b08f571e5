"""Facts are insert-only: by trigger for everyone, and by privilege for the runtime role."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

RUNTIME_ROLE = "credit_portal_runtime"

FACTS = (
    "allocations",
    "audit_log",
    "catalogue_versions",
    "entries",
    "finance_entries",
    "finance_postings",
    "grants",
    "hold_allocations",
    "hold_resolutions",
    "holds",
    "idempotency_keys",
    "prices",
    "refusals",
    "tax_policies",
    "usage_events",
)

CHANGING = (
    "account_balances",
    "account_members",
    "accounting_periods",
    "accounts",
    "charge_carries",
    "debts",
    "email_tokens",
    "grant_balances",
    "job_runs",
    "open_holds",
    "outbox_messages",
    "services",
    "sites",
    "throttles",
    "usage_imports",
    "user_sessions",
    "users",
)

REFUSE_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is insert-only: answer a mistake with a reversal', TG_TABLE_NAME
    USING ERRCODE = 'integrity_constraint_violation';
END $$
"""

KEEP_CURRENCY = """
CREATE FUNCTION keep_currency() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.site_code <> NEW.site_code
     OR OLD.currency <> NEW.currency AND (
       OLD.currency_locked_at IS NOT NULL
       OR EXISTS (SELECT FROM entries WHERE account_id = OLD.id))
  THEN
    RAISE EXCEPTION 'the site and the locked currency of account % do not change', OLD.id
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$
"""

BALANCE_POSTING = """
CREATE FUNCTION balance_posting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM finance_entries WHERE posting_id = NEW.posting_id
             GROUP BY currency HAVING sum(amount_micros) <> 0)
  THEN
    RAISE EXCEPTION 'finance posting % does not balance', NEW.posting_id
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NULL;
END $$
"""

MAKE_ROLE = f"""
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{RUNTIME_ROLE}') THEN
    CREATE ROLE {RUNTIME_ROLE} NOLOGIN;
  END IF;
  -- Since PostgreSQL 16 whoever makes a role may grant it, but may not yet change into it.
  IF NOT pg_has_role('{RUNTIME_ROLE}', CASE
    WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END) THEN
    EXECUTE format('GRANT {RUNTIME_ROLE} TO %I', current_user);
  END IF;
END $$
"""  # nosec B608 - constant text


def upgrade() -> None:
    """Install the triggers, and the role that the portal runs under."""
    op.execute(REFUSE_CHANGE)
    for table in (*FACTS, "usage_keys"):
        events = "UPDATE OR TRUNCATE" if table == "usage_keys" else "UPDATE OR DELETE OR TRUNCATE"
        op.execute(
            f"CREATE TRIGGER {table}_insert_only BEFORE {events} ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(KEEP_CURRENCY)
    op.execute(
        "CREATE TRIGGER accounts_keep_currency BEFORE UPDATE ON accounts"
        " FOR EACH ROW EXECUTE FUNCTION keep_currency()"
    )
    op.execute(BALANCE_POSTING)
    op.execute(
        "CREATE CONSTRAINT TRIGGER finance_entries_balance AFTER INSERT ON finance_entries"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION balance_posting()"
    )
    op.execute(MAKE_ROLE)
    op.execute(f"GRANT USAGE ON SCHEMA public TO {RUNTIME_ROLE}")
    op.execute(f"GRANT SELECT, INSERT ON {', '.join(FACTS)}, usage_keys TO {RUNTIME_ROLE}")
    op.execute(f"GRANT DELETE ON usage_keys TO {RUNTIME_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(CHANGING)} TO {RUNTIME_ROLE}")
    op.execute(f"GRANT SELECT ON alembic_version TO {RUNTIME_ROLE}")
    op.execute(
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO {RUNTIME_ROLE}"
    )


def downgrade() -> None:
    """Take the guards away; the role stays, other databases of the server may use it."""
    op.execute(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public"
        f" REVOKE SELECT, INSERT ON TABLES FROM {RUNTIME_ROLE}"
    )
    op.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {RUNTIME_ROLE}")
    op.execute(f"REVOKE USAGE ON SCHEMA public FROM {RUNTIME_ROLE}")
    op.execute("DROP FUNCTION refuse_change, keep_currency, balance_posting CASCADE")
