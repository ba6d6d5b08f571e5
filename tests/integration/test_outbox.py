"""Mail leaves once, is tried again where it fails, and leaves no link behind."""

from __future__ import annotations

import smtplib
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email import message_from_string, policy
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from db.models import OutboxMessage
from domain import outbox
from domain.actors import StaffRole, system_actor, user_actor
from domain.errors import NotAuthorised
from domain.outbox import Delivery, Mail
from portal import mail
from portal.settings import load_settings
from tests.conftest import TestClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session, sessionmaker


@pytest.fixture
def clock(sessions: sessionmaker[Session]) -> TestClock:
    clock = TestClock()
    sessions.configure(info={"clock": clock})
    return clock


def enqueue(sessions: sessionmaker[Session], recipient: str = "lan@example.com") -> int:
    with sessions.begin() as session:
        return outbox.enqueue(
            session,
            recipient=recipient,
            template="reset_password",
            parameters={"token": "the-token", "hours": 1},
            locale="en",
        )


def row(sessions: sessionmaker[Session]) -> OutboxMessage:
    with sessions() as session:
        return session.scalars(select(OutboxMessage)).one()


def refuse(_mail: Mail) -> None:
    raise OSError("no route to the mail server")


# ── Delivering ─────────────────────────────────────────────────────────────────────────────────
def test_a_mail_is_sent_once_and_forgotten(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    enqueue(sessions)
    sent: list[Mail] = []
    assert outbox.deliver_due(sessions, send=sent.append) == Delivery(sent=1)
    assert sent[0].parameters == {"token": "the-token", "hours": 1}
    assert row(sessions).parameters is None
    assert row(sessions).sent_at is not None
    clock.advance(days=2)
    assert outbox.deliver_due(sessions, send=sent.append) == Delivery()
    assert len(sent) == 1


def test_a_mail_of_a_transaction_that_failed_is_never_sent(
    sessions: sessionmaker[Session],
) -> None:
    with sessions() as session:
        outbox.enqueue(session, recipient="a@example.com", template="x", parameters={}, locale="en")
        session.rollback()
    assert outbox.deliver_due(sessions, send=refuse) == Delivery()


def test_what_fails_waits_longer_each_time_and_is_given_up(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    enqueue(sessions)
    waits = []
    for _ in range(outbox.MAX_ATTEMPTS - 1):
        assert outbox.deliver_due(sessions, send=refuse) == Delivery(retried=1)
        wait = row(sessions).available_at - clock.instant
        assert outbox.deliver_due(sessions, send=refuse) == Delivery(), "it waits"
        waits.append(round(wait / timedelta(minutes=1)))
        clock.instant += wait
    assert waits == [1, 4, 16, 64, 256, 360, 360]
    assert row(sessions).parameters is not None
    assert "no route to the mail server" in str(row(sessions).last_error)

    assert outbox.deliver_due(sessions, send=refuse) == Delivery(failed=1)
    assert row(sessions).failed_at is not None
    assert row(sessions).parameters is None
    clock.advance(days=9)
    assert outbox.deliver_due(sessions, send=refuse) == Delivery()


@pytest.mark.usefixtures("clock")
def test_a_failure_holds_up_nobody_else(sessions: sessionmaker[Session]) -> None:
    for recipient in ("a@example.com", "broken@example.com", "c@example.com"):
        enqueue(sessions, recipient)
    sent: list[str] = []

    def send(each: Mail) -> None:
        if each.recipient.startswith("broken"):
            refuse(each)
        sent.append(each.recipient)

    assert outbox.deliver_due(sessions, send=send) == Delivery(sent=2, retried=1)
    assert sent == ["a@example.com", "c@example.com"]


def test_a_process_that_died_while_sending_leaves_the_mail_for_later(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    enqueue(sessions)

    def die(_mail: Mail) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.deliver_due(sessions, send=die)
    sent: list[Mail] = []
    assert outbox.deliver_due(sessions, send=sent.append) == Delivery()
    clock.advance(minutes=1)
    assert outbox.deliver_due(sessions, send=sent.append) == Delivery(sent=1)


def test_many_processes_share_the_work(sessions: sessionmaker[Session]) -> None:
    expected = sorted(enqueue(sessions) for _ in range(40))
    sent: list[int] = []

    def deliver(_number: int) -> int:
        return outbox.deliver_due(sessions, send=lambda each: sent.append(each.id)).sent

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(deliver, range(6))) == 40
    assert sorted(sent) == expected


def test_the_network_stands_outside_every_transaction(
    sessions: sessionmaker[Session],
) -> None:
    message_id = enqueue(sessions)

    def send(each: Mail) -> None:
        # Another transaction can take the row's lock: nobody holds it while the mail is sent.
        with sessions.begin() as session:
            locked = session.get(OutboxMessage, each.id, with_for_update={"nowait": True})
            assert locked is not None
            assert locked.id == message_id

    assert outbox.deliver_due(sessions, send=send) == Delivery(sent=1)


def test_a_round_has_an_end(sessions: sessionmaker[Session]) -> None:
    for _ in range(3):
        enqueue(sessions)
    assert outbox.deliver_due(sessions, send=lambda _mail: None, limit=2) == Delivery(sent=2)


# ── The demo's mailbox ─────────────────────────────────────────────────────────────────────────
def test_only_the_system_reads_mail_that_waits(sessions: sessionmaker[Session]) -> None:
    first, second = enqueue(sessions), enqueue(sessions)
    with sessions() as session:
        mails = outbox.waiting_mail(session, actor=system_actor("demo-mailbox"))
        assert [each.id for each in mails] == [second, first]
        for role in (None, *StaffRole):
            with pytest.raises(NotAuthorised):
                outbox.waiting_mail(session, actor=user_actor(1, staff_role=role))
    outbox.deliver_due(sessions, send=lambda _mail: None)
    with sessions() as session:
        assert outbox.waiting_mail(session, actor=system_actor("demo-mailbox")) == ()


# ── What mails say, and SMTP ───────────────────────────────────────────────────────────────────
class Conversation(socketserver.StreamRequestHandler):
    """A mail server that takes everything, and refuses a recipient named broken."""

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            command = line.strip().upper()
            if command.startswith(b"RCPT") and b"BROKEN" in command:
                self.wfile.write(b"550 no such mailbox\r\n")
            elif command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.received.append(b"".join(lines).decode())  # type: ignore[attr-defined]
                self.wfile.write(b"250 taken\r\n")
            elif command == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 fine\r\n")


@pytest.fixture
def smtp_server() -> Iterator[socketserver.ThreadingTCPServer]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Conversation) as server:
        server.received = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def smtp_settings(
    server: socketserver.ThreadingTCPServer, security: str = "none"
) -> dict[str, str]:
    return {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(server.server_address[1]),
        "SMTP_SECURITY": security,
        "MAIL_FROM": "billing@example.com",
        "BASE_URL": "https://billing.example.com",
    }


def test_a_mail_reaches_the_server_with_a_link_that_works(
    sessions: sessionmaker[Session], smtp_server: socketserver.ThreadingTCPServer
) -> None:
    message_id = enqueue(sessions)
    send = mail.make_sender(load_settings(smtp_settings(smtp_server)))
    assert send is not None
    assert outbox.deliver_due(sessions, send=send) == Delivery(sent=1)
    (received,) = smtp_server.received  # type: ignore[attr-defined]
    message = message_from_string(received, policy=policy.default)
    assert (message["To"], message["From"]) == ("lan@example.com", "billing@example.com")
    assert message["Subject"] == "Choose a new password"
    assert message["Message-ID"] == f"<outbox-{message_id}@billing.example.com>"
    lines = message.get_content().splitlines()
    assert "https://billing.example.com/reset-password?token=the-token" in lines


def test_a_refused_recipient_is_tried_again_later(
    sessions: sessionmaker[Session], smtp_server: socketserver.ThreadingTCPServer
) -> None:
    enqueue(sessions, "broken@example.com")
    send = mail.make_sender(load_settings(smtp_settings(smtp_server)))
    assert send is not None
    assert outbox.deliver_due(sessions, send=send) == Delivery(retried=1)
    assert "SMTPRecipientsRefused" in str(row(sessions).last_error)


def test_a_server_without_tls_gets_no_mail_where_tls_is_asked_for(
    smtp_server: socketserver.ThreadingTCPServer, sessions: sessionmaker[Session]
) -> None:
    enqueue(sessions)
    send = mail.make_sender(load_settings(smtp_settings(smtp_server, "starttls")))
    assert send is not None
    with sessions() as session:
        (waiting,) = outbox.waiting_mail(session, actor=system_actor("tests"))
    with pytest.raises(smtplib.SMTPNotSupportedError):
        send(waiting)
    assert smtp_server.received == []  # type: ignore[attr-defined]


def test_without_a_server_there_is_no_sender() -> None:
    assert mail.make_sender(load_settings({})) is None


@pytest.mark.parametrize(
    ("template", "parameters", "link"),
    [
        ("verify_email", {"token": "t", "hours": 48}, "http://here/verify-email?token=t"),
        ("reset_password", {"token": "t", "hours": 1}, "http://here/reset-password?token=t"),
        (
            "invitation",
            {"token": "t", "days": 7, "inviter": "owner@example.com"},
            "http://here/accept-invitation?token=t",
        ),
        (
            "invitation",
            {"token": "t", "days": 7, "inviter": None},
            "http://here/accept-invitation?token=t",
        ),
        ("already_signed_up", {}, "http://here/forgot-password"),
        ("password_changed", {}, "http://here/forgot-password"),
    ],
)
def test_every_mail_says_what_to_do(
    template: str, parameters: dict[str, str | int | None], link: str
) -> None:
    created_at = TestClock().instant
    waiting = Mail(1, "lan@example.com", template, parameters, "xx", created_at, 0)
    letter = mail.render(waiting, base_url="http://here")
    assert letter.subject
    assert "\n" not in letter.subject
    assert link in letter.text.splitlines()
