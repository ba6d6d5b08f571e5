"""Run one pass over what is due: gateways are queried side by side, each within its time."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from db.models import OPEN_PAYMENT_STATES, Payment, Refund
from domain import clock
from domain.payments.check_schedule import MAX_REFUND_CHECKS, REFUND_UNANSWERED_AFTER, refund_wait
from domain.payments.polling import (
    HELD_REFUND_WAIT,
    PASS_DEADLINE_SECONDS,
    REFUND_UNANSWERED,
    DueRefund,
    Question,
    ask,
    ask_later,
    back_off,
    check_payment,
    due_payments,
    due_refunds,
    prepare_question,
    set_aside,
)
from domain.payments.records import GATEWAY_ACTOR, add_event_once, count_events, lock_payment
from domain.payments.refunds import WAITS, send_refund
from domain.permissions import require

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.gateways.interface import Gateway

_log = logging.getLogger(__name__)


def check_due(
    sessions: sessionmaker[Session],
    *,
    gateways: Mapping[str, Gateway],
    actor: Actor,
    stop: threading.Event | None = None,
    deadline_seconds: int = PASS_DEADLINE_SECONDS,
    on_failure: Callable[[str], None] | None = None,
) -> str:
    """Query every payment that is due and send refunds that wait; return what was done.

    Gateways are queried side by side, each for about `deadline_seconds`; the rest stays due. What
    belongs to a gateway that is not among them is not touched. `on_failure` is given the name of
    the gateway at each failure. Raises NotAuthorised unless the actor may query every account.
    """
    require(actor, "ask_gateway")
    passes = [
        _Pass(sessions, gateway, stop, deadline_seconds, on_failure)
        for gateway in gateways.values()
    ]
    if len(passes) == 1:
        passes[0].run()
    elif passes:
        with ThreadPoolExecutor(len(passes), thread_name_prefix="polling") as pool:
            for running in [pool.submit(each.run) for each in passes]:
                running.result()
    asked, closed, sent, failed = (
        sum(getattr(each, name) for each in passes)
        for name in ("asked", "closed", "sent", "failed")
    )
    failures = f", {failed} failed" if failed else ""
    return f"{asked} asked about, {closed} of them closed, {sent} refunds sent{failures}"


class _Pass:
    """One pass over what is due at one gateway."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        gateway: Gateway,
        stop: threading.Event | None,
        deadline_seconds: int,
        on_failure: Callable[[str], None] | None,
    ) -> None:
        self._sessions = sessions
        self._gateway = gateway
        self._stop = stop
        self._deadline_seconds = deadline_seconds
        self._on_failure = on_failure
        self.asked = self.closed = self.sent = self.failed = 0

    def run(self) -> None:
        """Take payments and refunds in turn, so that neither waits for all of the other."""
        ends_at = time.monotonic() + self._deadline_seconds
        with self._sessions.begin() as session:
            payments = due_payments(session, gateway=self._gateway)
            refunds = due_refunds(session, gateway=self._gateway)
        for due in chain.from_iterable(zip_longest(payments, refunds)):
            is_stopped = self._stop is not None and self._stop.is_set()
            if is_stopped or time.monotonic() >= ends_at:
                break
            if due is not None:
                self._take(due)

    def _take(self, due: int | DueRefund) -> None:
        payment_id = due if isinstance(due, int) else due.payment_id
        refund_id = None if isinstance(due, int) else due.refund_id
        try:
            if isinstance(due, int):
                self._check_payment(due)
            else:
                self._check_refund(due)
        except Exception as error:  # noqa: BLE001 - a payment must not hold up the others
            self._count_failure(self._gateway.name)
            try:
                set_aside(self._sessions, payment_id, error, refund_id=refund_id)
            except Exception:  # noqa: BLE001 - the database may be away
                _log.exception("payment %d could not be set aside", payment_id)

    def _count_failure(self, gateway: str) -> None:
        self.failed += 1
        if self._on_failure is not None:
            self._on_failure(gateway)

    def _check_payment(self, payment_id: int) -> None:
        question = self._claim(payment_id)
        if question is None:
            return
        self.asked += 1
        state = ask(self._sessions, self._gateway, question, self._count_failure)
        self.closed += question.state in OPEN_PAYMENT_STATES and state not in OPEN_PAYMENT_STATES

    def _claim(self, payment_id: int) -> Question | None:
        """Plan the next question before this one: what ends this process is not asked at once."""
        with self._sessions.begin() as session:
            payment = lock_payment(session, payment_id)
            now = clock.now(session)
            if payment is None or payment.next_check_at is None or payment.next_check_at > now:
                return None  # queried by another process meanwhile
            back_off(payment, now)
            return prepare_question(session, payment, now, is_due=True)

    def _check_refund(self, due: DueRefund) -> None:
        with self._sessions.begin() as session:
            if not _claim_refund(session, due):
                return
        if due.is_sent:
            check_payment(
                self._sessions,
                gateway=self._gateway,
                payment_id=due.payment_id,
                actor=GATEWAY_ACTOR,
                on_failure=self._count_failure,
            )
            return
        state = send_refund(self._sessions, gateway=self._gateway, refund_id=due.refund_id)
        self.sent += state not in {"requested", WAITS}
        if state in {"requested", WAITS}:
            with self._sessions.begin() as session:
                _plan_unsent(session, due, is_held=state == WAITS)


def _claim_refund(session: Session, due: DueRefund) -> bool:
    """Plan a refund's next time, and return whether it is to be sent or asked about now."""
    payment = lock_payment(session, due.payment_id)
    refund = session.get_one(Refund, due.refund_id, populate_existing=True)
    now = clock.now(session)
    is_due = refund.next_check_at is not None and refund.next_check_at <= now
    is_as_found = refund.state == ("pending" if due.is_sent else "requested")
    if payment is None or not is_due or not is_as_found:
        return False  # taken by another process meanwhile
    if not due.is_sent and _is_unanswered(session, payment, refund, now):
        refund.next_check_at = None
        details = {"refund": refund.id}
        add_event_once(session, payment, REFUND_UNANSWERED, actor=GATEWAY_ACTOR, details=details)
        _log.error("refund %d needs a person: its gateway never answered", refund.id)
        return False
    ask_later(session, refund_id=refund.id)
    return True


def _is_unanswered(session: Session, payment: Payment, refund: Refund, now: datetime) -> bool:
    """Return whether a refund was sent so long ago that a person decides.

    The days in which it was held for the one before it do not count.
    """
    if refund.checks >= MAX_REFUND_CHECKS:
        return True
    if refund.checks == 0 or now < refund.requested_at + REFUND_UNANSWERED_AFTER:
        return False
    return not count_events(session, payment, "refund_waits", details={"refund": refund.id})


def _plan_unsent(session: Session, due: DueRefund, *, is_held: bool) -> None:
    """Plan a refund that got no answer; one that is held was not sent, and is tried soon."""
    lock_payment(session, due.payment_id)
    refund = session.get_one(Refund, due.refund_id, populate_existing=True)
    if refund.state != "requested":
        return
    now = clock.now(session)
    if is_held:
        refund.checks -= 1
        refund.next_check_at = now + HELD_REFUND_WAIT
    else:
        refund.next_check_at = now + refund_wait(refund.checks)
