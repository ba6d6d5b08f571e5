"""The audit log is read by time, and what people did without what meters did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_PEOPLE = sa.text("actor LIKE 'user:%'")
_OF_PEOPLE = {
    "ix_audit_log_people": ["recorded_at", "id"],
    "ix_audit_log_people_account": ["account_id", "recorded_at", "id"],
    "ix_audit_log_people_actor": ["actor", "recorded_at", "id"],
}


def upgrade() -> None:
    op.create_index("ix_audit_log_recorded", "audit_log", ["recorded_at", "id"])
    for name, columns in _OF_PEOPLE.items():
        op.create_index(name, "audit_log", columns, postgresql_where=_PEOPLE)
    op.create_index("ix_audit_seals_sealed_at", "audit_seals", ["sealed_at"])


def downgrade() -> None:
    op.drop_index("ix_audit_seals_sealed_at", table_name="audit_seals")
    for name in _OF_PEOPLE:
        op.drop_index(name, table_name="audit_log")
    op.drop_index("ix_audit_log_recorded", table_name="audit_log")
