"""Define the states of requests that one person makes and another decides."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - SQLAlchemy reads annotations
from enum import StrEnum

from sqlalchemy.orm import Mapped  # noqa: TC002 - as above


class ApprovalState(StrEnum):
    """The state of a request: each table of requests has those that apply to it."""

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
