"""The states of what one person requests and another decides."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - SQLAlchemy reads annotations
from enum import StrEnum

from sqlalchemy.orm import Mapped  # noqa: TC002 - as above


class ApprovalState(StrEnum):
    """How a request stands: each table of requests has those of them that it can be in."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class Decidable:
    """A row that one person requests and another decides, once."""

    state: Mapped[str]
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
