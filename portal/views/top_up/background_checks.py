"""Ask gateways how payments stand, in threads of their own: no page waits for a gateway."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from domain import payments
from domain.errors import BillingError
from portal.runtime import database
from portal.runtime.process_state import shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.actors import Actor
    from domain.gateways.interface import Gateway

_log = logging.getLogger(__name__)

_EVERY_SECONDS = 10
_DEADLINE_SECONDS = 30
"""A question that is out for longer does not keep the same one from being asked again."""
_MAX_CONCURRENT = 8
"""Of one gateway: one that hangs takes no more threads, and none from the others."""


@dataclass
class _Question:
    gateway: str
    payment_id: int
    asked_at: float = field(default_factory=time.monotonic)
    thread: threading.Thread | None = None

    @property
    def is_out(self) -> bool:
        """Whether the answer has not come."""
        return self.thread is not None and self.thread.is_alive()


class BackgroundChecks:
    """The questions of this process that are out, or were asked a moment ago."""

    def __init__(self, check: Callable[[Gateway, int, Actor], None] | None = None) -> None:
        """`check` asks one question and raises nothing; the product's own asks the gateway."""
        self._check = check or _check
        self._lock = threading.Lock()
        self._questions: list[_Question] = []

    def start(self, *, gateway: Gateway, payment_id: int, actor: Actor) -> bool:
        """Have the gateway asked about a payment; False where it was asked a moment ago."""
        question = _Question(gateway.name, payment_id)
        with self._lock:
            self._forget(question.asked_at)
            if not self._may_ask(question):
                return False
            self._questions.append(question)
            question.thread = threading.Thread(
                target=self._check,
                args=(gateway, payment_id, actor),
                name=f"check-payment-{payment_id}",
                daemon=True,
            )
            question.thread.start()
        return True

    def join(self, timeout_seconds: int) -> bool:
        """Wait until every question is answered, and say whether that came in time."""
        until = time.monotonic() + timeout_seconds
        with self._lock:
            threads = [each.thread for each in self._questions if each.thread is not None]
        for thread in threads:
            thread.join(max(0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _forget(self, now: float) -> None:
        self._questions = [
            each for each in self._questions if each.is_out or now - each.asked_at < _EVERY_SECONDS
        ]

    def _may_ask(self, question: _Question) -> bool:
        of_gateway = [each for each in self._questions if each.gateway == question.gateway]
        if sum(each.is_out for each in of_gateway) >= _MAX_CONCURRENT:
            return False
        return not any(
            question.asked_at - each.asked_at
            < (_DEADLINE_SECONDS if each.is_out else _EVERY_SECONDS)
            for each in of_gateway
            if each.payment_id == question.payment_id
        )


def checks() -> BackgroundChecks:
    """Return those of this process, whichever page asked for them."""
    return shared("background_checks", BackgroundChecks)


def _check(gateway: Gateway, payment_id: int, actor: Actor) -> None:
    try:
        payments.check_payment(
            database.sessions(actor), gateway=gateway, payment_id=payment_id, actor=actor
        )
    except BillingError as refusal:
        _log.info("payment %d is not asked about: %s", payment_id, refusal)
    except Exception:  # noqa: BLE001 - the clock's job asks again, and the log tells why
        _log.exception("payment %d could not be asked about", payment_id)
