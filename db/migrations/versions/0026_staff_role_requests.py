"""Changes that make or remove an administrator wait for a second one, or for 24 hours."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"

RUNTIME_ROLE = "credit_portal_runtime"
DECIDED = ("state", "decided_by", "decided_at", "remark")
"""What a decision fills in; what was requested stays as it was."""

CHECKS = {
    "state": "state IN ('requested', 'applied', 'rejected', 'withdrawn', 'lapsed')",
    "role_before": "role_before IN ('support', 'finance', 'admin')",
    "role_after": "role_after IN ('support', 'finance', 'admin')",
    "one_change": (
        "(role_before IS DISTINCT FROM role_after) <> (is_disabled_before <> is_disabled_after)"
    ),
    "decided": (
        "(state = 'requested') = (decided_at IS NULL)"
        " AND (decided_at IS NULL) = (decided_by IS NULL)"
    ),
    "two_people": "state NOT IN ('applied', 'rejected') OR decided_by <> requested_by",
    "not_about_oneself": (
        "requested_by <> 'user:' || user_id AND (state NOT IN ('applied', 'rejected')"
        " OR decided_by <> 'user:' || user_id)"
    ),
    "second_person_or_time": (
        "state <> 'applied' OR decided_by LIKE 'user:%'"
        " OR (effective_at IS NOT NULL AND decided_at >= effective_at)"
    ),
    "effective": "effective_at >= requested_at + interval '24 hours'",
    "expires": "expires_at > requested_at",
}


def upgrade() -> None:
    op.create_table(
        "staff_role_requests",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("role_before", sa.Text()),
        sa.Column("role_after", sa.Text()),
        sa.Column("is_disabled_before", sa.Boolean(), nullable=False),
        sa.Column("is_disabled_after", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("effective_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'requested'"), nullable=False),
        sa.Column("decided_by", sa.Text()),
        sa.Column("decided_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("remark", sa.Text()),
        *(
            sa.CheckConstraint(condition, name=op.f(f"ck_staff_role_requests_{name}"))
            for name, condition in CHECKS.items()
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_staff_role_requests_user_id_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_role_requests")),
    )
    op.create_index(
        "uq_staff_role_requests_open",
        "staff_role_requests",
        ["user_id"],
        unique=True,
        postgresql_where=sa.text("state = 'requested'"),
    )
    op.execute(f"GRANT SELECT, INSERT ON staff_role_requests TO {RUNTIME_ROLE}")
    op.execute(f"GRANT UPDATE ({', '.join(DECIDED)}) ON staff_role_requests TO {RUNTIME_ROLE}")


def downgrade() -> None:
    op.drop_table("staff_role_requests")
