"""Define the tables of the catalogue: its versions, services, and their prices for reports."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Numeric, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Digest, Instant, one_of


class CatalogueVersion(Base):
    """A catalogue file as it was loaded; rating reads the newest version's text."""

    __tablename__ = "catalogue_versions"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[Digest]
    content: Mapped[str]
    loaded_at: Mapped[Instant] = mapped_column(server_default=func.now())
    loaded_by: Mapped[str]


class Service(Base):
    """A paid service, under a slug that never changes."""

    __tablename__ = "services"

    slug: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str]
    role: Mapped[str]
    supplier: Mapped[str | None]
    position: Mapped[int]

    __table_args__ = (CheckConstraint(one_of("role", "principal", "agent"), name="role"),)


class Price(Base):
    """A price from an instant on: `price` units of currency for `per` units of the meter.

    `model` is empty for the service's general price.
    """

    __tablename__ = "prices"

    service: Mapped[str] = mapped_column(ForeignKey("services.slug"), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    meter: Mapped[str] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    valid_from: Mapped[datetime] = mapped_column(primary_key=True)
    price: Mapped[Decimal] = mapped_column(Numeric)
    per: Mapped[Decimal] = mapped_column(Numeric)
    catalogue_version: Mapped[int] = mapped_column(ForeignKey("catalogue_versions.version"))

    __table_args__ = (CheckConstraint("price >= 0 AND per > 0", name="price"),)
