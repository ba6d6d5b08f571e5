"""Define the tables of sites, their tax and accounting periods, and their accounts."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Interval,
    Numeric,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import HOT_ROWS, Base, BigKey, Digest, Instant, Json, Micros, one_of


class Site(Base):
    """A market with its own legal entity, clock and books; balances never cross sites."""

    __tablename__ = "sites"

    code: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str]
    legal_entity: Mapped[str]
    country: Mapped[str | None]
    time_zone: Mapped[str]
    default_currency: Mapped[str]
    currencies: Mapped[list[str]] = mapped_column(ARRAY(Text))
    expiry_grace: Mapped[timedelta] = mapped_column(
        Interval, server_default=text("interval '1 hour'")
    )
    usage_key_retention: Mapped[timedelta] = mapped_column(
        Interval, server_default=text("interval '5 years'")
    )

    __table_args__ = (
        CheckConstraint("default_currency = ANY (currencies)", name="default_currency_listed"),
        CheckConstraint("expiry_grace >= interval '0'", name="expiry_grace_not_negative"),
    )


class TaxPolicy(Base):
    """When and at which rate a site's credit is taxed, from a date on."""

    __tablename__ = "tax_policies"

    site_code: Mapped[str] = mapped_column(ForeignKey("sites.code"), primary_key=True)
    valid_from: Mapped[date] = mapped_column(primary_key=True)
    tax_point: Mapped[str]
    tax_rate: Mapped[Decimal] = mapped_column(Numeric(7, 6))
    place_of_supply: Mapped[str]

    __table_args__ = (
        CheckConstraint(one_of("tax_point", "TOP_UP", "USAGE"), name="tax_point"),
        CheckConstraint("tax_rate >= 0 AND tax_rate < 1", name="tax_rate"),
    )


class AccountingPeriod(Base):
    """A month of a site's books; a month without a row is open."""

    __tablename__ = "accounting_periods"

    site_code: Mapped[str] = mapped_column(ForeignKey("sites.code"), primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True)
    is_closed: Mapped[bool]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    changed_at: Mapped[Instant] = mapped_column(server_default=func.now())
    changed_by: Mapped[str]

    __table_args__ = (
        CheckConstraint("month = date_trunc('month', month)::date", name="first_of_month"),
    )


class Account(Base):
    """A customer's wallet: one currency, one site."""

    __tablename__ = "accounts"

    id: Mapped[BigKey] = mapped_column(Identity(always=True, start=1001), primary_key=True)
    site_code: Mapped[str] = mapped_column(ForeignKey("sites.code"))
    name: Mapped[str]
    country: Mapped[str | None]
    currency: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'active'"))
    currency_locked_at: Mapped[datetime | None]
    created_at: Mapped[Instant] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index(
            "ix_accounts_name_parts",
            func.lower(text("name")).label("name_parts"),
            postgresql_using="gin",
            postgresql_ops={"name_parts": "gin_trgm_ops"},
        ),
        Index(
            "ix_accounts_name_start",
            func.lower(text("name")).label("name_start"),
            postgresql_ops={"name_start": "text_pattern_ops"},
        ),
        CheckConstraint(one_of("status", "active", "frozen", "closed"), name="status"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
    )


class AccountMember(Base):
    """A person's place in an account."""

    __tablename__ = "account_members"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role: Mapped[str]
    added_at: Mapped[Instant] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint(one_of("role", "owner", "billing", "reader"), name="role"),
        Index(None, "user_id"),
    )


class AccountInvitation(Base):
    """A place in an account that was offered to an address by mail.

    Only a digest of the link's token is kept. It is open until it is accepted or withdrawn; who
    has let it expire can be sent it again.
    """

    __tablename__ = "account_invitations"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    email: Mapped[str]
    role: Mapped[str]
    token_digest: Mapped[Digest]
    invited_by: Mapped[str]
    created_at: Mapped[Instant] = mapped_column(server_default=func.now())
    expires_at: Mapped[Instant]
    accepted_at: Mapped[datetime | None]
    accepted_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    withdrawn_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("email = lower(email)", name="email_lower"),
        CheckConstraint(one_of("role", "owner", "billing", "reader"), name="role"),
        CheckConstraint("(accepted_at IS NULL) = (accepted_by IS NULL)", name="accepted"),
        CheckConstraint("accepted_at IS NULL OR withdrawn_at IS NULL", name="ended_once"),
        Index("uq_account_invitations_token_digest", "token_digest", unique=True),
        Index(
            "uq_account_invitations_open",
            "account_id",
            "email",
            unique=True,
            postgresql_where=text("accepted_at IS NULL AND withdrawn_at IS NULL"),
        ),
    )


class AccountBalance(Base):
    """The row that every posting locks: cached sums and the account's counters.

    `balance_micros` is the sum of what remains of all grants, the overdraft's debt included;
    `held_micros` is the part of it under open holds. `carries` holds, by service, the fraction of
    a micro that was used and not charged yet, as text.
    """

    __tablename__ = "account_balances"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    balance_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    held_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    last_entry_sequence: Mapped[BigKey] = mapped_column(server_default=text("0"))
    last_grant_number: Mapped[BigKey] = mapped_column(server_default=text("0"))
    last_hold_number: Mapped[BigKey] = mapped_column(server_default=text("0"))
    last_refusal_number: Mapped[BigKey] = mapped_column(server_default=text("0"))
    carries: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))

    __table_args__ = (
        CheckConstraint("held_micros >= 0", name="held_not_negative"),
        HOT_ROWS,
    )
