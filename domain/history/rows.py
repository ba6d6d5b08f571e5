"""The rows of the credit history, and the filters of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from db.models.ledger import ENTRY_KINDS
from domain.errors import InvalidInput
from domain.validation import is_whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from domain.history.cursors import HistoryCursor

CHARGE = "charge"
HOLD = "hold"
HISTORY_KINDS = (*ENTRY_KINDS, HOLD)
SYSTEM_SERVICE = "system"
"""The service of what concerns none and no gateway moved: vouchers, plans, expiry."""
MAX_TEXT_LENGTH = 100


class HistoryStatus(StrEnum):
    """Whether a row was posted, was refused, or is under way."""

    SUCCESS = "success"
    FAILED = "failed"
    PROCESSING = "processing"


_LETTERS = {
    HistoryStatus.SUCCESS: "e",
    HistoryStatus.FAILED: "r",
    HistoryStatus.PROCESSING: "h",
}


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """The conditions of a row; an empty filter matches every row.

    `services` holds slugs, gateways and `SYSTEM_SERVICE`. Times are
    `occurred_from` <= row < `occurred_before`. `text` is looked for, whatever its case, in
    service, source and the values of the description; its first `MAX_TEXT_LENGTH` characters count.
    """

    services: frozenset[str] = frozenset()
    statuses: frozenset[HistoryStatus] = frozenset()
    kinds: frozenset[str] = frozenset()
    occurred_from: datetime | None = None
    occurred_before: datetime | None = None
    text: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether every row passes."""
        return self == HistoryFilter()

    @property
    def search_text(self) -> str:
        """The text without characters that cannot be searched."""
        printable = "".join(char for char in self.text if char.isprintable())
        return printable[:MAX_TEXT_LENGTH].strip()


@dataclass(frozen=True, slots=True)
class HistoryReference:
    """The name of a row in URLs: e12 is an entry, r3 a refusal, h4 a hold."""

    status: HistoryStatus
    number: int

    def __str__(self) -> str:
        """Return the name."""
        return f"{_LETTERS[self.status]}{self.number}"

    @classmethod
    def parse(cls, name: str) -> HistoryReference:
        """Return the member that a name stands for; raise InvalidInput for an unknown name."""
        digits = name[1:]
        statuses = [status for status, letter in _LETTERS.items() if letter == name[:1]]
        if not statuses or not is_whole_number(digits):
            raise InvalidInput("reference", "not_valid")
        return cls(statuses[0], int(digits))


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A row of the history; `number` counts entries, refusals or holds of the account.

    `amount_micros` is the amount that was moved, or (not a success) would have been. `service` is a
    slug, the gateway that moved the money, or `SYSTEM_SERVICE`. `reason` says why it was refused. A
    payment under way has its `payment_reference`, its id as `number`, and its own state, such as
    "awaiting", as `description_code`.
    """

    status: HistoryStatus
    number: int
    occurred_at: datetime
    kind: str
    service: str
    source: str
    description_code: str
    description_parameters: Mapping[str, Any]
    amount_micros: int
    reason: str | None = None
    payment_reference: str | None = None

    @property
    def reference(self) -> HistoryReference:
        """The row's name in URLs. Raises ValueError for a payment, which has a page of its own."""
        if self.payment_reference is not None:
            raise ValueError("a payment is opened by its own reference")
        return HistoryReference(self.status, self.number)


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Rows, newest first, and the cursors of the adjacent pages.

    `searched_to` is given where a text search stopped before it reached the oldest row: `older`
    goes on from there.
    """

    rows: tuple[HistoryRow, ...]
    newer: HistoryCursor | None
    older: HistoryCursor | None
    searched_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class CappedCount:
    """How many rows there are, or the cap where there are more."""

    count: int
    is_capped: bool
