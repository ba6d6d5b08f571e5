"""Decisions about payments under review, and money that came and has to be given back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

RUNTIME_ROLE = "credit_portal_runtime"


def upgrade() -> None:
    op.create_table(
        "payment_reviews",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("doubt_id", sa.BigInteger(), nullable=False),
        sa.Column("doubt", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=True),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("proposal_reason", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), nullable=True),
        sa.Column("gateway_payment_id", sa.Text(), nullable=True),
        sa.Column("came_micros", sa.BigInteger(), nullable=True),
        sa.Column("came_currency", sa.Text(), nullable=True),
        sa.Column("return_state", sa.Text(), nullable=True),
        sa.Column("returned_by", sa.Text(), nullable=True),
        sa.Column("returned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("return_reference", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('proposed', 'accepted', 'refused')", name=op.f("ck_payment_reviews_state")
        ),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> proposed_by",
            name=op.f("ck_payment_reviews_two_people"),
        ),
        sa.CheckConstraint(
            "state = 'refused' OR proposed_by IS NOT NULL",
            name=op.f("ck_payment_reviews_proposed"),
        ),
        sa.CheckConstraint(
            "(state = 'proposed') = (decided_by IS NULL)"
            " AND (decided_by IS NULL) = (decided_at IS NULL)"
            " AND (decided_by IS NULL) = (decision_reason IS NULL)",
            name=op.f("ck_payment_reviews_decided"),
        ),
        sa.CheckConstraint(
            "(came_micros IS NULL) = (came_currency IS NULL) AND came_micros > 0",
            name=op.f("ck_payment_reviews_came"),
        ),
        sa.CheckConstraint(
            "return_state IN ('owed', 'returned', 'never_came')"
            " AND (return_state IS NULL OR state = 'refused')",
            name=op.f("ck_payment_reviews_return_state"),
        ),
        sa.CheckConstraint(
            "(returned_at IS NULL) = (coalesce(return_state, 'owed') = 'owed')",
            name=op.f("ck_payment_reviews_returned"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_payment_reviews_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_payment_reviews_payment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_reviews")),
    )
    op.create_index("uq_payment_reviews_doubt_id", "payment_reviews", ["doubt_id"], unique=True)
    op.create_index(
        op.f("ix_payment_reviews_payment_id_id"), "payment_reviews", ["payment_id", "id"]
    )
    op.create_index(
        "ix_payment_reviews_owed",
        "payment_reviews",
        ["payment_id"],
        postgresql_where=sa.text("return_state = 'owed'"),
    )
    op.create_index(
        "ix_payments_under_review",
        "payments",
        ["id"],
        postgresql_where=sa.text("state = 'under_review'"),
    )
    op.create_index(
        "ix_payment_events_second_money",
        "payment_events",
        ["payment_id"],
        postgresql_where=sa.text("kind = 'second_money'"),
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON payment_reviews TO {RUNTIME_ROLE}")


def downgrade() -> None:
    op.drop_index("ix_payment_events_second_money", "payment_events")
    op.drop_index("ix_payments_under_review", "payments")
    op.drop_table("payment_reviews")
