"""Where a page of the credit history begins: a place in its order, as a token for the URL."""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from domain.errors import InvalidInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PACKED = struct.Struct(">qBq")
_MAX_LENGTH = 32


class HistoryCursor(NamedTuple):
    """A row's place: the instant, the rank of its table, and its number there."""

    occurred_at: datetime
    rank: int
    number: int

    def encode(self) -> str:
        """Return the token. It encodes a position in time, no account, so it grants no access."""
        instant = (self.occurred_at - _EPOCH) // _MICROSECOND
        packed = _PACKED.pack(instant, self.rank, self.number)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str) -> HistoryCursor:
        """Return the place that a token names; raise InvalidInput for anything else."""
        try:
            packed = base64.b64decode(token[:_MAX_LENGTH] + "=", altchars=b"-_", validate=True)
            microseconds, rank, number = _PACKED.unpack(packed)
            cursor = cls(_EPOCH + timedelta(microseconds=microseconds), rank, number)
        except (ValueError, OverflowError, struct.error):
            raise InvalidInput("cursor", "not_valid") from None
        if cursor.encode() != token or number <= 0:
            raise InvalidInput("cursor", "not_valid")
        return cursor
