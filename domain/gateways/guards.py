"""Read gateway documents safely: a malformed one is an error of the gateway, never of ours.

Only GatewayUnavailable, GatewayRefused and WebhookRefused leave an adapter. Its public methods
stand under `reading_answer` or `reading_message`, whatever goes wrong inside them.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from domain.errors import BillingError
from domain.gateways.interface import GatewayRefused, GatewayUnavailable, Outcome, WebhookRefused
from domain.money import MAX_PAYMENT_MICROS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from domain.money import Money

_log = logging.getLogger(__name__)

_Update = TypeVar("_Update")
_Value = TypeVar("_Value")

MAX_TEXT_LENGTH = 255
_WEB_ADDRESS = re.compile(r"https?://[!-~]{1,2000}", re.ASCII)
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)

UNREADABLE: tuple[type[Exception], ...] = (
    ArithmeticError,
    AttributeError,
    BillingError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading a document of another shape may raise, our own refusals of amounts among it."""


@contextmanager
def reading_answer(gateway: str) -> Iterator[None]:
    """Raise GatewayUnavailable for an answer that cannot be read; let an adapter's own errors pass.

    The original error may quote the document, so that only its type and place are logged.
    """
    try:
        yield
    except (GatewayRefused, GatewayUnavailable):
        raise
    except UNREADABLE as error:
        _log_place(gateway, "an answer", error)
        raise GatewayUnavailable(gateway, "an answer that cannot be read") from None


@contextmanager
def reading_message(gateway: str) -> Iterator[None]:
    """Raise WebhookRefused, MALFORMED, for a message that cannot be read."""
    try:
        yield
    except WebhookRefused:
        raise
    except UNREADABLE as error:
        _log_place(gateway, "a message", error)
        raise WebhookRefused(Outcome.MALFORMED, "fields") from None


def _log_place(gateway: str, what: str, error: Exception) -> None:
    place = traceback.extract_tb(error.__traceback__)[-1]
    kind = type(error).__name__
    _log.warning("%s of %s cannot be read: %s in %s", what, gateway, kind, place.name)


def read_each(
    gateway: str,
    kind: str,
    documents: Iterable[dict[str, Any]],
    updates: Callable[[dict[str, Any]], Iterable[_Update]],
) -> tuple[tuple[_Update, ...], frozenset[str]]:
    """Return what follows from documents that may come from the network, and what is unread.

    The second is empty, or the kind where documents did not come or one could not be read. What
    was read before counts: a document that cannot be read hides no other.
    """
    found: list[_Update] = []
    unread: frozenset[str] = frozenset()
    try:
        with reading_answer(gateway):
            for document in documents:
                try:
                    with reading_answer(gateway):
                        found.extend(updates(document))
                except GatewayUnavailable:
                    unread = frozenset((kind,))
    except (GatewayRefused, GatewayUnavailable) as error:
        _log.warning("%s does not tell the %s of a payment: %s", gateway, kind, error.reason)
        unread = frozenset((kind,))
    return tuple(found), unread


def readable(read: Callable[[], _Value]) -> _Value | None:
    """Return what is good to know and not needed, or None where it cannot be read."""
    try:
        return read()
    except UNREADABLE:
        return None


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a verified body is; raise WebhookRefused where it is none.

    It has to say one thing: UTF-8, each name once, and numbers that JSON has, of a length and a
    depth that can be read.
    """
    try:
        found = json.loads(
            body.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number
        )
    except (RecursionError, ValueError):
        raise WebhookRefused(Outcome.MALFORMED, "no_json") from None
    if not isinstance(found, dict):
        raise WebhookRefused(Outcome.MALFORMED, "no_object")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def required_text(found: object) -> str:
    """Return a name or code of a document; raise ValueError where it is none that can be kept."""
    if not isinstance(found, str) or not found or not _can_be_kept(found):
        raise ValueError("not a text")
    return found


def optional_text(found: object) -> str | None:
    """Return a name or code of a document, or None where it is none that can be kept."""
    return found if isinstance(found, str) and found and _can_be_kept(found) else None


def web_address(found: object) -> str:
    """Return an address that a browser may be sent to; one is longer than other texts.

    Raises TypeError for anything else.
    """
    if not isinstance(found, str) or not _WEB_ADDRESS.fullmatch(found):
        raise TypeError("no web address")
    return found


def _can_be_kept(text: str) -> bool:
    """Return whether the database accepts it: not so NUL, nor half a character."""
    return len(text) <= MAX_TEXT_LENGTH and text.isprintable()


def sane_moment(moment: datetime) -> datetime:
    """Return a moment in UTC; raise ValueError where no payment can be of its century."""
    found = moment.astimezone(UTC)
    if not _EARLIEST <= found < _LATEST:
        raise ValueError("not a moment of a payment")
    return found


def positive(amount: Money) -> Money:
    """Return an amount unchanged; raise ValueError where nothing moves, or more than there is.

    Sums of amounts stay within what the ledger can count.
    """
    if not 0 < amount.micros <= MAX_PAYMENT_MICROS:
        raise ValueError("not an amount that moves")
    return amount


def minor_units(gateway: str, amount: Money) -> int:
    """Return an amount to send; raise GatewayRefused where no coin of its currency is so small."""
    try:
        return amount.to_minor_units()
    except BillingError:
        raise GatewayRefused(gateway, "amount") from None
