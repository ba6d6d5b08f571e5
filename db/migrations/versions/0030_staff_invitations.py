"""Invitations of staff: mailed links, of which only a digest is kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import BYTEA

revision = "0030"
down_revision = "0029"

RUNTIME_ROLE = "credit_portal_runtime"
CHANGED = (
    "token_digest",
    "invited_by",
    "expires_at",
    "accepted_at",
    "accepted_by",
    "withdrawn_at",
)
"""What sending again and an end fill in; the address and the role stay as they were."""

CHECKS = {
    "email_lower": "email = lower(email)",
    "role": "role IN ('support', 'finance', 'admin')",
    "invited_by": "invited_by ~ '^user:[0-9]+$'",
    "expires": "expires_at > created_at",
    "accepted": "(accepted_at IS NULL) = (accepted_by IS NULL)",
    "accepted_in_time": "accepted_at < expires_at",
    "ended_once": "accepted_at IS NULL OR withdrawn_at IS NULL",
    "not_about_oneself": "invited_by <> 'user:' || accepted_by",
}


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "staff_invitations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("token_digest", BYTEA(), nullable=False),
        sa.Column("invited_by", sa.Text(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("expires_at", instant, nullable=False),
        sa.Column("accepted_at", instant),
        sa.Column("accepted_by", sa.BigInteger()),
        sa.Column("withdrawn_at", instant),
        *(
            sa.CheckConstraint(condition, name=op.f(f"ck_staff_invitations_{name}"))
            for name, condition in CHECKS.items()
        ),
        sa.ForeignKeyConstraint(
            ["accepted_by"], ["users.id"], name=op.f("fk_staff_invitations_accepted_by_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_invitations")),
    )
    op.create_index(
        "uq_staff_invitations_token_digest", "staff_invitations", ["token_digest"], unique=True
    )
    op.create_index(
        "uq_staff_invitations_open",
        "staff_invitations",
        ["email"],
        unique=True,
        postgresql_where=sa.text("accepted_at IS NULL AND withdrawn_at IS NULL"),
    )
    op.execute(f"GRANT SELECT, INSERT, DELETE ON staff_invitations TO {RUNTIME_ROLE}")
    op.execute(f"GRANT UPDATE ({', '.join(CHANGED)}) ON staff_invitations TO {RUNTIME_ROLE}")


def downgrade() -> None:
    op.drop_table("staff_invitations")
