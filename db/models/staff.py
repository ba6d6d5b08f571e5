"""Changes of staff that wait for a second administrator or for 24 hours, and invitations."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.approvals import Decidable
from db.models.base import Base, BigKey, Digest, Instant, one_of

ROLE_REQUEST_STATES = ("requested", "applied", "rejected", "withdrawn", "objected", "lapsed")
_ROLES = ("support", "finance", "admin")


class StaffRoleRequest(Decidable, Base):
    """A change of one person: their role, or whether they are disabled, before and after.

    `effective_at` is set where no other person may decide: the change then takes effect by itself.
    """

    __tablename__ = "staff_role_requests"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    role_before: Mapped[str | None]
    role_after: Mapped[str | None]
    is_disabled_before: Mapped[bool]
    is_disabled_after: Mapped[bool]
    reason: Mapped[str]
    requested_by: Mapped[str]
    requested_at: Mapped[Instant]
    effective_at: Mapped[datetime | None]
    expires_at: Mapped[Instant]
    state: Mapped[str] = mapped_column(server_default=text("'requested'"))
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    remark: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(one_of("state", *ROLE_REQUEST_STATES), name="state"),
        CheckConstraint(one_of("role_before", *_ROLES), name="role_before"),
        CheckConstraint(one_of("role_after", *_ROLES), name="role_after"),
        CheckConstraint(
            "(role_before IS DISTINCT FROM role_after)"
            " <> (is_disabled_before <> is_disabled_after)",
            name="one_change",
        ),
        CheckConstraint(
            "(state = 'requested') = (decided_at IS NULL)"
            " AND (decided_at IS NULL) = (decided_by IS NULL)",
            name="decided",
        ),
        CheckConstraint(
            "state NOT IN ('applied', 'rejected') OR decided_by <> requested_by", name="two_people"
        ),
        CheckConstraint(
            "requested_by <> 'user:' || user_id AND (state NOT IN ('applied', 'rejected')"
            " OR decided_by <> 'user:' || user_id)",
            name="not_about_oneself",
        ),
        CheckConstraint(
            "state <> 'applied' OR decided_by LIKE 'user:%'"
            " OR (effective_at IS NOT NULL AND decided_at >= effective_at)",
            name="second_person_or_time",
        ),
        CheckConstraint(
            "state <> 'objected' OR (decided_by = 'user:' || user_id AND effective_at IS NOT NULL"
            " AND role_before = 'admin' AND NOT is_disabled_before)",
            name="objected_by_person",
        ),
        CheckConstraint("effective_at >= requested_at + interval '24 hours'", name="effective"),
        CheckConstraint("expires_at > requested_at", name="expires"),
        Index(
            "uq_staff_role_requests_open",
            "user_id",
            unique=True,
            postgresql_where=text("state = 'requested'"),
        ),
    )


class StaffInvitation(Base):
    """A role as staff that was offered to an address by mail; the link makes a person of it.

    Only a digest of the link's token is kept. It is open until it is accepted or withdrawn; who
    has let it expire can be sent it again. `invited_by` is who sent it last: the link works while
    they administer.
    """

    __tablename__ = "staff_invitations"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    email: Mapped[str]
    role: Mapped[str]
    reason: Mapped[str]
    token_digest: Mapped[Digest]
    invited_by: Mapped[str]
    created_at: Mapped[Instant]
    expires_at: Mapped[Instant]
    accepted_at: Mapped[datetime | None]
    accepted_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    withdrawn_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("email = lower(email)", name="email_lower"),
        CheckConstraint(one_of("role", *_ROLES), name="role"),
        CheckConstraint("invited_by ~ '^user:[0-9]+$'", name="invited_by"),
        CheckConstraint("expires_at > created_at", name="expires"),
        CheckConstraint("(accepted_at IS NULL) = (accepted_by IS NULL)", name="accepted"),
        CheckConstraint("accepted_at < expires_at", name="accepted_in_time"),
        CheckConstraint("accepted_at IS NULL OR withdrawn_at IS NULL", name="ended_once"),
        CheckConstraint("invited_by <> 'user:' || accepted_by", name="not_about_oneself"),
        Index("uq_staff_invitations_token_digest", "token_digest", unique=True),
        Index(
            "uq_staff_invitations_open",
            "email",
            unique=True,
            postgresql_where=text("accepted_at IS NULL AND withdrawn_at IS NULL"),
        ),
    )
