"""Invitations into accounts: mailed links, of which only a digest is kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import BYTEA

revision = "0007"
down_revision = "0006"

RUNTIME_ROLE = "credit_portal_runtime"


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "account_invitations",
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("token_digest", BYTEA, nullable=False),
        sa.Column("invited_by", sa.Text, nullable=False),
        sa.Column("created_at", instant, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", instant, nullable=False),
        sa.Column("accepted_at", instant),
        sa.Column("accepted_by", sa.BigInteger),
        sa.Column("withdrawn_at", instant),
        sa.PrimaryKeyConstraint("account_id", "id", name="pk_account_invitations"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_account_invitations_account_id"
        ),
        sa.ForeignKeyConstraint(
            ["accepted_by"], ["users.id"], name="fk_account_invitations_accepted_by"
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
        "uq_account_invitations_token_digest", "account_invitations", ["token_digest"], unique=True
    )
    op.create_index(
        "uq_account_invitations_open",
        "account_invitations",
        ["account_id", "email"],
        unique=True,
        postgresql_where=sa.text("accepted_at IS NULL AND withdrawn_at IS NULL"),
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON account_invitations TO {RUNTIME_ROLE}")


def downgrade() -> None:
    op.drop_table("account_invitations")
