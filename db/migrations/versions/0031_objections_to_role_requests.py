"""Who would lose their place as an administrator by time alone may object, and ends the request."""

from __future__ import annotations

from alembic import op

revision = "0031"
down_revision = "0030"

TABLE = "staff_role_requests"
STATE = "state IN ('requested', 'applied', 'rejected', 'withdrawn'{objected}, 'lapsed')"
BY_PERSON = (
    "state <> 'objected' OR (decided_by = 'user:' || user_id AND effective_at IS NOT NULL"
    " AND role_before = 'admin' AND NOT is_disabled_before)"
)


def upgrade() -> None:
    _replace_states(", 'objected'")
    op.create_check_constraint(op.f("ck_staff_role_requests_objected_by_person"), TABLE, BY_PERSON)


def _replace_states(objected: str) -> None:
    name = op.f("ck_staff_role_requests_state")
    op.drop_constraint(name, TABLE, type_="check")
    op.create_check_constraint(name, TABLE, STATE.format(objected=objected))


def downgrade() -> None:
    op.drop_constraint(op.f("ck_staff_role_requests_objected_by_person"), TABLE, type_="check")
    op.execute(f"UPDATE {TABLE} SET state = 'withdrawn' WHERE state = 'objected'")  # noqa: S608
    _replace_states("")
