"""What people prove themselves by beside their password, and how each session was signed in to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA

revision = "0027"
down_revision = "0026"

RUNTIME_ROLE = "credit_portal_runtime"
_TABLES = ("authenticators", "passkeys", "pending_sign_ins", "recovery_codes", "used_challenges")


def upgrade() -> None:
    op.add_column(
        "user_sessions",
        sa.Column("factor", sa.Text(), server_default=sa.text("'password'"), nullable=False),
    )
    op.create_check_constraint(
        op.f("ck_user_sessions_factor"),
        "user_sessions",
        "factor IN ('password', 'authenticator', 'passkey', 'recovery_code')",
    )
    op.create_table(
        "authenticators",
        _user(),
        sa.Column("sealed_secret", BYTEA(), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=True),
        sa.Column("sealed_offer", BYTEA(), nullable=True),
        sa.Column("offered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(sealed_secret IS NULL) = (confirmed_at IS NULL)",
            name=op.f("ck_authenticators_confirmed"),
        ),
        sa.CheckConstraint(
            "(sealed_offer IS NULL) = (offered_at IS NULL)",
            name=op.f("ck_authenticators_offered"),
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_authenticators")),
        _of_user("authenticators"),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("code_digest", BYTEA(), nullable=False),
        _user(),
        _created_at(),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("code_digest", name=op.f("pk_recovery_codes")),
        _of_user("recovery_codes"),
    )
    op.create_table(
        "passkeys",
        sa.Column("credential_id", BYTEA(), nullable=False),
        _user(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_key", BYTEA(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("transports", ARRAY(sa.Text()), nullable=False),
        _created_at(),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("pk_passkeys")),
        _of_user("passkeys"),
    )
    op.create_table(
        "pending_sign_ins",
        sa.Column("token_digest", BYTEA(), nullable=False),
        _user(),
        _created_at(),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token_digest", name=op.f("pk_pending_sign_ins")),
        _of_user("pending_sign_ins"),
    )
    op.create_table(
        "used_challenges",
        sa.Column("challenge_digest", BYTEA(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("challenge_digest", name=op.f("pk_used_challenges")),
    )
    for table in ("passkeys", "pending_sign_ins", "recovery_codes"):
        op.create_index(op.f(f"ix_{table}_user_id"), table, ["user_id"])
    for table in _TABLES:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {RUNTIME_ROLE}")


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
    op.drop_constraint(op.f("ck_user_sessions_factor"), "user_sessions")
    op.drop_column("user_sessions", "factor")


def _user() -> sa.Column[int]:
    return sa.Column("user_id", sa.BigInteger(), nullable=False)


def _created_at() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def _of_user(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["user_id"], ["users.id"], name=op.f(f"fk_{table}_user_id_users")
    )
