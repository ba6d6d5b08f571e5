"""Define the tables of campaigns, voucher codes and redemptions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from db.models.approvals import Decidable
from db.models.base import Base, BigKey, Instant, Micros, one_of


class CampaignState(StrEnum):
    """How a campaign stands: requested by one person, decided by another, at last ended."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    ENDED = "ended"


CAMPAIGN_TRIGGERS = ("code", "first_top_up")
BATCH_KINDS = ("generated", "imported", "issued")


class Campaign(Decidable, Base):
    """What a code gives, to whom, when, and how much of it there is altogether.

    `validity_days` is how long the credit lasts from its redemption. `trigger` first_top_up gives
    it without any code, once a payment instrument, with an account's first top-up. The counters
    and those of `CampaignAmount` are changed under a lock on this row, and their CHECKs hold
    whatever a program does.
    """

    __tablename__ = "campaigns"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str]
    description: Mapped[str]
    trigger: Mapped[str] = mapped_column(server_default=text("'code'"))
    state: Mapped[str] = mapped_column(server_default=text("'requested'"))
    redeem_from: Mapped[Instant]
    redeem_until: Mapped[Instant]
    validity_days: Mapped[int] = mapped_column(Integer)
    code_budget: Mapped[int] = mapped_column(Integer)
    codes: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    uses_per_code: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    uses_per_account: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    site_codes: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    countries: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    is_for_new_accounts: Mapped[bool] = mapped_column(server_default=text("false"))
    is_for_named_accounts: Mapped[bool] = mapped_column(server_default=text("false"))
    is_for_support: Mapped[bool] = mapped_column(server_default=text("false"))
    blocks_suspects: Mapped[bool] = mapped_column(server_default=text("false"))
    requested_by: Mapped[str]
    requested_at: Mapped[Instant]
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_campaigns_name", func.lower(text("name")), unique=True),
        CheckConstraint(one_of("trigger", *CAMPAIGN_TRIGGERS), name="trigger"),
        CheckConstraint(one_of("state", *CampaignState), name="state"),
        CheckConstraint("(state = 'requested') = (decided_at IS NULL)", name="decided"),
        CheckConstraint("decided_by IS NULL OR decided_by <> requested_by", name="two_people"),
        CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name="ended"),
        CheckConstraint("redeem_until > redeem_from", name="window"),
        CheckConstraint("validity_days BETWEEN 1 AND 3660", name="validity"),
        CheckConstraint("codes BETWEEN 0 AND code_budget", name="code_budget"),
        CheckConstraint("uses_per_code > 0 AND uses_per_account > 0", name="uses"),
    )


class CampaignAmount(Base):
    """What one redemption gives in a currency, and how much of the budget is gone."""

    __tablename__ = "campaign_amounts"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    currency: Mapped[str] = mapped_column(Text, primary_key=True)
    amount_micros: Mapped[Micros]
    budget_micros: Mapped[Micros]
    minimum_top_up_micros: Mapped[int | None] = mapped_column(BigInteger)
    granted_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    redemptions: Mapped[int] = mapped_column(Integer, server_default=text("0"))

    __table_args__ = (
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("amount_micros > 0", name="amount"),
        CheckConstraint("granted_micros BETWEEN 0 AND budget_micros", name="budget"),
        CheckConstraint("granted_micros = redemptions * amount_micros", name="granted"),
    )


class CampaignPart(Base):
    """One grant of those that a redemption gives; without services it pays for all of them."""

    __tablename__ = "campaign_parts"

    campaign_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    currency: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    amount_micros: Mapped[Micros]
    services: Mapped[list[str] | None] = mapped_column(ARRAY(Text))

    __table_args__ = (
        ForeignKeyConstraint(
            ["campaign_id", "currency"],
            ["campaign_amounts.campaign_id", "campaign_amounts.currency"],
        ),
        CheckConstraint("amount_micros > 0", name="amount"),
        CheckConstraint("services IS NULL OR cardinality(services) > 0", name="services"),
    )


class VoucherBatch(Base):
    """Codes that were made or brought in together. Insert-only."""

    __tablename__ = "voucher_batches"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    kind: Mapped[str]
    codes: Mapped[int] = mapped_column(Integer)
    made_by: Mapped[str]
    made_at: Mapped[Instant]

    __table_args__ = (
        CheckConstraint(one_of("kind", *BATCH_KINDS), name="kind"),
        CheckConstraint("codes > 0", name="codes"),
        Index(None, "campaign_id", "id"),
    )


class VoucherCode(Base):
    """A code, how often it may be used, and how often it was. With an account: for that one."""

    __tablename__ = "voucher_codes"

    code: Mapped[str] = mapped_column(Text, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    batch_id: Mapped[int] = mapped_column(ForeignKey("voucher_batches.id"))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    most_uses: Mapped[int] = mapped_column(Integer)
    uses: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None]
    revoked_reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("code ~ '^[A-Z0-9]{10}$'", name="code"),
        CheckConstraint("most_uses > 0 AND uses BETWEEN 0 AND most_uses", name="uses"),
        CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked"),
        Index(None, "campaign_id", "code"),
        Index(None, "batch_id", "code"),
        Index(
            "ix_voucher_codes_account_id",
            "account_id",
            postgresql_where=text("account_id IS NOT NULL"),
        ),
    )


class VoucherRedemption(Base):
    """Credit that a campaign gave to an account. Insert-only.

    `number` counts the account's redemptions of the campaign from 1. `instrument_digest` is of
    the payment instrument where a first top-up earned it: one instrument earns it once.
    """

    __tablename__ = "voucher_redemptions"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    number: Mapped[int] = mapped_column(Integer)
    code: Mapped[str | None] = mapped_column(ForeignKey("voucher_codes.code"))
    payment_id: Mapped[int | None] = mapped_column(BigInteger)
    instrument_digest: Mapped[bytes | None] = mapped_column(BYTEA)
    currency: Mapped[str]
    amount_micros: Mapped[Micros]
    grants: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    entries: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    redeemed_at: Mapped[Instant]
    redeemed_by: Mapped[str]
    expires_at: Mapped[Instant]

    __table_args__ = (
        UniqueConstraint("campaign_id", "account_id", "number"),
        UniqueConstraint("campaign_id", "instrument_digest"),
        CheckConstraint("(code IS NULL) <> (payment_id IS NULL)", name="earned_by_one"),
        CheckConstraint("amount_micros > 0 AND number > 0", name="amount"),
        CheckConstraint(
            "cardinality(grants) > 0 AND cardinality(grants) = cardinality(entries)",
            name="grants",
        ),
        Index(None, "account_id", "id"),
        Index(None, "code"),
    )


class AccountSignal(Base):
    """Something that ties accounts together, as a keyed digest; `shown` is what staff may see."""

    __tablename__ = "account_signals"

    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    shown: Mapped[str]
    first_seen_at: Mapped[Instant]

    __table_args__ = (
        CheckConstraint(
            one_of("kind", "instrument", "tax_code", "network_address", "email", "address"),
            name="kind",
        ),
        Index(None, "account_id"),
    )
