"""Define the tables of billing profiles, in versions, and of top-up limits."""

from __future__ import annotations

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Instant, Micros, one_of

PROFILE_KINDS = ("personal", "company")


class BillingProfileVersion(Base):
    """One version of what an account's bills say; the newest is the current one. Insert-only."""

    __tablename__ = "billing_profiles"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str]
    name: Mapped[str]
    email: Mapped[str]
    address: Mapped[str]
    city: Mapped[str | None]
    country: Mapped[str]
    tax_code: Mapped[str | None]
    changed_at: Mapped[Instant]
    changed_by: Mapped[str]

    __table_args__ = (
        CheckConstraint("version > 0", name="version"),
        CheckConstraint(one_of("kind", *PROFILE_KINDS), name="kind"),
        CheckConstraint("country ~ '^[A-Z]{2}$'", name="country"),
        CheckConstraint("kind <> 'company' OR tax_code IS NOT NULL", name="company_has_tax_code"),
    )


class TopUpLimit(Base):
    """The least and the most that one top-up in a currency may be, and what is offered."""

    __tablename__ = "top_up_limits"

    currency: Mapped[str] = mapped_column(Text, primary_key=True)
    minimum_micros: Mapped[Micros]
    maximum_micros: Mapped[Micros]
    presets_micros: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    version: Mapped[int] = mapped_column(Integer)
    updated_at: Mapped[Instant]
    updated_by: Mapped[str]

    __table_args__ = (
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("version > 0", name="version"),
        CheckConstraint("minimum_micros > 0 AND minimum_micros <= maximum_micros", name="range"),
        CheckConstraint(
            "minimum_micros <= ALL (presets_micros) AND maximum_micros >= ALL (presets_micros)",
            name="presets",
        ),
    )
