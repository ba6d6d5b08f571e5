"""Each wrapped key names the secret key that it is under, so that the secret key can be changed.

`portal_keys` has the key of digests, which was derived from the secret key and would have changed
with it. What a mail is made from, links among it, is kept encrypted; mails that wait in clear are
still sent.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"

RUNTIME_ROLE = "credit_portal_runtime"


def upgrade() -> None:
    op.add_column("data_keys", sa.Column("wrapped_by", sa.Text(), nullable=True))
    op.create_table(
        "portal_keys",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("wrapped_key", postgresql.BYTEA(), nullable=False),
        sa.Column("wrapped_by", sa.Text(), nullable=False),
        sa.Column(
            "made_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_portal_keys")),
    )
    op.execute(f"GRANT UPDATE (wrapped_key, wrapped_by) ON data_keys TO {RUNTIME_ROLE}")
    op.execute(f"GRANT SELECT, INSERT ON portal_keys TO {RUNTIME_ROLE}")
    op.execute(f"GRANT UPDATE (wrapped_key, wrapped_by) ON portal_keys TO {RUNTIME_ROLE}")
    op.add_column(
        "outbox_messages", sa.Column("sealed_parameters", postgresql.BYTEA(), nullable=True)
    )
    op.create_check_constraint(
        op.f("ck_outbox_messages_parameters"),
        "outbox_messages",
        "num_nonnulls(parameters, sealed_parameters) <= 1",
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_outbox_messages_parameters"), "outbox_messages")
    op.drop_column("outbox_messages", "sealed_parameters")
    op.drop_table("portal_keys")
    op.execute(f"REVOKE UPDATE (wrapped_key, wrapped_by) ON data_keys FROM {RUNTIME_ROLE}")
    op.drop_column("data_keys", "wrapped_by")
