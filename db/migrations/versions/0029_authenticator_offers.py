"""The secret of an authenticator app is offered to the holder of a token only.

What was offered before cannot say to whom, so it ends: the person begins again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import BYTEA

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    _end_offers()
    op.add_column("authenticators", sa.Column("offer_digest", BYTEA(), nullable=True))
    op.drop_constraint(op.f("ck_authenticators_offered"), "authenticators", type_="check")
    op.create_check_constraint(
        op.f("ck_authenticators_offered"),
        "authenticators",
        "num_nonnulls(sealed_offer, offer_digest, offered_at) IN (0, 3)",
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_authenticators_offered"), "authenticators", type_="check")
    _end_offers()
    op.drop_column("authenticators", "offer_digest")
    op.create_check_constraint(
        op.f("ck_authenticators_offered"),
        "authenticators",
        "(sealed_offer IS NULL) = (offered_at IS NULL)",
    )


def _end_offers() -> None:
    op.execute("DELETE FROM authenticators WHERE sealed_secret IS NULL")
    op.execute("UPDATE authenticators SET sealed_offer = NULL, offered_at = NULL")
