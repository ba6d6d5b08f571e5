"""Amounts that a gateway states and the books do not have wait until a person reviewed them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    _replace(
        "state IN ('proposed', 'accepted', 'refused', 'reviewed')",
        "state IN ('refused', 'reviewed') OR proposed_by IS NOT NULL",
    )
    op.create_index(
        "ix_payment_events_discrepancies",
        "payment_events",
        ["payment_id"],
        postgresql_where=sa.text(
            "kind IN ('refund_in_other_currency', 'refund_amount_changed', 'amount_changed',"
            " 'refund_of_another_payment', 'dispute_of_another_payment',"
            " 'dispute_outcome_unknown')"
        ),
    )


def _replace(state: str, proposed: str) -> None:
    for name, condition in (("state", state), ("proposed", proposed)):
        constraint = op.f(f"ck_payment_reviews_{name}")
        op.drop_constraint(constraint, "payment_reviews")
        op.create_check_constraint(constraint, "payment_reviews", condition)


def downgrade() -> None:
    op.drop_index("ix_payment_events_discrepancies", "payment_events")
    _replace(
        "state IN ('proposed', 'accepted', 'refused')",
        "state = 'refused' OR proposed_by IS NOT NULL",
    )
