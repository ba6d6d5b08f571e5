"""Define the tables of operations: outgoing mail, the audit log, jobs, imports and uploads."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import BYTEA, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, BigKey, Digest, Instant, Json, one_of

_BY_PEOPLE = text("actor LIKE 'user:%'")


class OutboxMessage(Base):
    """A mail to send after the transaction that asked for it; its parameters go once it is sent.

    They hold links that open accounts, and so are kept encrypted; `parameters` are those of a mail
    that an older version of the portal left waiting.
    """

    __tablename__ = "outbox_messages"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    recipient: Mapped[str]
    template: Mapped[str]
    parameters: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    sealed_parameters: Mapped[bytes | None] = mapped_column(BYTEA)
    locale: Mapped[str]
    created_at: Mapped[Instant] = mapped_column(server_default=func.now())
    available_at: Mapped[Instant] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    sent_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    last_error: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("num_nonnulls(parameters, sealed_parameters) <= 1", name="parameters"),
        Index(
            "ix_outbox_messages_waiting",
            "available_at",
            postgresql_where=text("sent_at IS NULL AND failed_at IS NULL"),
        ),
    )


class AuditRecord(Base):
    """Who did what, when, from where. Insert-only."""

    __tablename__ = "audit_log"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    recorded_at: Mapped[Instant] = mapped_column(server_default=func.clock_timestamp())
    actor: Mapped[str]
    address: Mapped[str | None]
    action: Mapped[str]
    account_id: Mapped[int | None] = mapped_column(BigInteger)
    details: Mapped[Json]

    __table_args__ = (
        Index(None, "account_id", "id"),
        Index("ix_audit_log_recorded", "recorded_at", "id"),
        # Meters may write a row a charge: what people did is found without them.
        Index("ix_audit_log_people", "recorded_at", "id", postgresql_where=_BY_PEOPLE),
        Index(
            "ix_audit_log_people_account",
            "account_id",
            "recorded_at",
            "id",
            postgresql_where=_BY_PEOPLE,
        ),
        Index(
            "ix_audit_log_roles",
            "id",
            postgresql_where=text("action IN ('create_user', 'change_staff_role')"),
        ),
        Index(
            "ix_audit_log_people_actor", "actor", "recorded_at", "id", postgresql_where=_BY_PEOPLE
        ),
    )


class AuditSeal(Base):
    """A row of the audit log in the chain: its digest takes in that of the row before."""

    __tablename__ = "audit_seals"

    position: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    audit_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    digest: Mapped[Digest]
    sealed_at: Mapped[Instant]

    __table_args__ = (Index("ix_audit_seals_sealed_at", "sealed_at"),)


class PortalKey(Base):
    """A key of the whole portal, encrypted under the secret key that `wrapped_by` names."""

    __tablename__ = "portal_keys"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    wrapped_key: Mapped[bytes] = mapped_column(BYTEA)
    wrapped_by: Mapped[str]
    made_at: Mapped[Instant] = mapped_column(server_default=func.now())


class JobRun(Base):
    """When a job last ran, how it went, and when it is due again."""

    __tablename__ = "job_runs"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    started_at: Mapped[Instant]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    details: Mapped[str | None]


class UsageImport(Base):
    """How far a usage file has been read, by the digest of its content."""

    __tablename__ = "usage_imports"

    file_digest: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    file_name: Mapped[str]
    accounts: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    started_at: Mapped[Instant] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    rows_read: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    rows_rejected: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class ExportJob(Base):
    """A file that is exported for a person: its progress, and until when it is kept."""

    __tablename__ = "export_jobs"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger)
    account_id: Mapped[int] = mapped_column(BigInteger)
    options: Mapped[Json]
    state: Mapped[str] = mapped_column(server_default=text("'running'"))
    rows_total: Mapped[int | None] = mapped_column(BigInteger)
    rows_written: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[Instant]
    progress_at: Mapped[Instant]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[Instant]

    __table_args__ = (
        CheckConstraint(one_of("state", "running", "done", "failed"), name="state"),
        Index(None, "user_id", "id"),
        Index("ix_export_jobs_running", "progress_at", postgresql_where=text("state = 'running'")),
        Index(None, "expires_at"),
    )


class Upload(Base):
    """A file that a person handed in and that waits for its form, for a day."""

    __tablename__ = "uploads"

    key: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    purpose: Mapped[str]
    name: Mapped[str]
    content: Mapped[bytes] = mapped_column(BYTEA)
    uploaded_at: Mapped[Instant]

    __table_args__ = (Index(None, "user_id"),)
