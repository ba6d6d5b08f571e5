"""Mail leaves once, is tried again where it fails, and leaves no link behind."""

from __future__ import annotations

import smtplib
import socket
import socketserver
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email import message_from_string, policy
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import select, text

from db.engine import make_sessions
from db.models import OutboxMessage
from domain import outbox
from domain.actors import StaffRole, system_actor, user_actor
from domain.clock import CLOCK
from domain.errors import NotAuthorised
from domain.outbox import Delivery, Mail, MailServerUnavailable
from domain.security.payload_encryption import VAULT, Vault
from domain.staff import LapseReason
from portal.runtime import mail
from portal.runtime.settings import load_settings
from tests.conftest import TestClock
from tests.support.keys import KNOWS_VAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker


@pytest.fixture
def clock(sessions: sessionmaker[Session]) -> TestClock:
    clock = TestClock()
    sessions.configure(info={**KNOWS_VAULT, CLOCK: clock})
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
    assert row(sessions).sealed_parameters is None
    assert row(sessions).sent_at is not None
    clock.advance(days=2)
    assert outbox.deliver_due(sessions, send=sent.append) == Delivery()
    assert len(sent) == 1


def test_links_wait_encrypted(sessions: sessionmaker[Session]) -> None:
    enqueue(sessions)
    with sessions() as session:
        (kept,) = session.scalars(text("SELECT outbox_messages::text FROM outbox_messages"))
        (sealed,) = session.scalars(select(OutboxMessage.sealed_parameters))
    assert "the-token" not in kept
    assert b"the-token" not in bytes(sealed or b"")


def test_a_session_without_a_vault_keeps_no_link_in_clear(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="no vault"):
        enqueue(make_sessions(engine))


def test_a_mail_that_an_older_version_left_in_clear_is_sent(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    left = OutboxMessage(
        recipient="lan@example.com",
        template="verify_email",
        parameters={"token": "the-token"},
        locale="en",
        created_at=clock.instant,
        available_at=clock.instant,
    )
    with sessions.begin() as session:
        session.add(left)
    sent: list[Mail] = []
    assert outbox.deliver_due(sessions, send=sent.append) == Delivery(sent=1)
    assert sent[0].parameters == {"token": "the-token"}
    assert row(sessions).parameters is None


def test_a_mail_whose_key_another_process_has_holds_up_no_other(
    sessions: sessionmaker[Session], engine: Engine, clock: TestClock
) -> None:
    enqueue(sessions)
    others = make_sessions(engine, {CLOCK: clock, VAULT: Vault(b"another-secret-key")})
    sent: list[Mail] = []
    assert outbox.deliver_due(others, send=sent.append) == Delivery()
    assert "data_key" in str(row(sessions).last_error)
    assert row(sessions).sealed_parameters is not None, "whoever has the key sends it"
    clock.advance(minutes=1)
    assert outbox.deliver_due(sessions, send=sent.append) == Delivery(sent=1)
    assert [each.parameters["token"] for each in sent] == ["the-token"]


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
    assert row(sessions).sealed_parameters is not None
    assert "no route to the mail server" in str(row(sessions).last_error)

    assert outbox.deliver_due(sessions, send=refuse) == Delivery(failed=1)
    assert row(sessions).failed_at is not None
    assert row(sessions).sealed_parameters is None
    clock.advance(days=9)
    assert outbox.deliver_due(sessions, send=refuse) == Delivery()


@pytest.mark.usefixtures("clock")
def test_server_that_cannot_be_reached_ends_the_round(sessions: sessionmaker[Session]) -> None:
    for recipient in ("a@example.com", "b@example.com"):
        enqueue(sessions, recipient)
    tried: list[str] = []

    def send(each: Mail) -> None:
        tried.append(each.recipient)
        raise MailServerUnavailable("refused")

    delivery = outbox.deliver_due(sessions, send=send)
    assert delivery == Delivery(retried=1, is_unavailable=True)
    assert tried == ["a@example.com"]
    with sessions() as session:
        attempts = select(OutboxMessage.attempts).order_by(OutboxMessage.id)
        assert list(session.scalars(attempts)) == [1, 0]


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


def a_mail(recipient: str = "lan@example.com") -> Mail:
    parameters = {"token": "t", "hours": 1}
    return Mail(1, recipient, "reset_password", parameters, "en", TestClock().instant, 0)


def sender(port: int, security: str = "none", host: str = "127.0.0.1") -> Callable[[Mail], None]:
    given = {"SMTP_HOST": host, "SMTP_PORT": str(port), "SMTP_SECURITY": security}
    made = mail.make_sender(load_settings({**given, "MAIL_FROM": "billing@example.com"}))
    assert made is not None
    return made


@contextmanager
def served(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection at a time on a port, which is given."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _address = listener.accept()
                    with connection, suppress(OSError):
                        handle(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def wait_for_the_end(connection: socket.socket) -> None:
    while connection.recv(1024):
        pass


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_server_that_accepts_and_says_nothing_is_unavailable_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    monkeypatch.setattr(mail, "_ANSWER_SECONDS", 0.2)
    with served(wait_for_the_end) as port, pytest.raises(MailServerUnavailable):
        sender(port, security)(a_mail())


def test_server_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(MailServerUnavailable):
        sender(port)(a_mail())


def test_server_that_answers_byte_by_byte_ends_at_the_deadline_of_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mail, "_MAIL_SECONDS", 1)

    def drip(connection: socket.socket) -> None:
        connection.settimeout(0.02)
        while True:
            connection.sendall(b"2")  # never a whole line
            try:
                if not connection.recv(1024):
                    return
            except TimeoutError:
                continue

    with served(drip) as port, pytest.raises(MailServerUnavailable):
        sender(port)(a_mail())


def test_server_that_hangs_amid_a_message_ends_that_message_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mail, "_MAIL_SECONDS", 1)

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"220 test\r\n")
        connection.recv(1024)
        connection.sendall(b"250 fine\r\n")
        wait_for_the_end(connection)

    with served(greet) as port, pytest.raises(TimeoutError, match="longer than 1 seconds"):
        sender(port)(a_mail())


def test_mail_that_was_taken_is_not_sent_again_where_the_goodbye_hangs(
    monkeypatch: pytest.MonkeyPatch, sessions: sessionmaker[Session]
) -> None:
    monkeypatch.setattr(mail, "_ANSWER_SECONDS", 0.5)
    enqueue(sessions)

    def take(connection: socket.socket) -> None:
        connection.sendall(b"220 test\r\n")
        lines = connection.makefile("rb")
        for line in map(bytes.upper, lines):
            if line.startswith(b"QUIT"):
                wait_for_the_end(connection)
                return
            if line.startswith(b"DATA"):
                connection.sendall(b"354 go on\r\n")
                while lines.readline() != b".\r\n":
                    pass
            connection.sendall(b"250 fine\r\n")

    with served(take) as port:
        assert outbox.deliver_due(sessions, send=sender(port)) == Delivery(sent=1)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a mail server named localhost proves itself with; this process trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(secret + made.public_bytes(pem))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_over_tls_reaches_a_server_that_proves_its_name(
    certificate: ssl.SSLContext, security: str
) -> None:
    received: list[bytes] = []

    def talk(connection: socket.socket, *, greets: bool) -> None:
        if greets:
            connection.sendall(b"220 test\r\n")
        lines = connection.makefile("rb")
        for line in map(bytes.upper, lines):
            if line.startswith(b"STARTTLS"):
                connection.sendall(b"220 go on\r\n")
                with certificate.wrap_socket(connection, server_side=True) as inner:
                    talk(inner, greets=False)
                return
            if line.startswith(b"DATA"):
                connection.sendall(b"354 go on\r\n")
                received.append(b"".join(iter(lines.readline, b".\r\n")))
            elif line.startswith(b"EHLO"):
                connection.sendall(b"250-test\r\n250 STARTTLS\r\n")
                continue
            connection.sendall(b"250 fine\r\n")

    def serve(connection: socket.socket) -> None:
        if security == "tls":
            with certificate.wrap_socket(connection, server_side=True) as inner:
                talk(inner, greets=True)
        else:
            talk(connection, greets=True)

    with served(serve) as port:
        with pytest.raises(MailServerUnavailable):
            sender(port, security, host="127.0.0.1")(a_mail())  # another name than it proves
        sender(port, security, host="localhost")(a_mail())
    assert len(received) == 1
    assert b"Choose a new password" in received[0]


def test_without_a_server_there_is_no_sender() -> None:
    assert mail.make_sender(load_settings({})) is None


STAFF_CHANGE: dict[str, Any] = {
    "email": "lan@example.com",
    "is_new": False,
    "role_before": "admin",
    "role_after": None,
    "is_disabling": False,
    "is_enabling": False,
    "requested_by": "boss@example.com",
    "decided_by": None,
    "reason": "moved",
    "remark": None,
    "until": "2026-03-11 09:30 UTC",
    "is_by_time": False,
}
STAFF_STEPS: tuple[dict[str, Any], ...] = (
    {"step": "requested"},
    {"step": "requested", "is_by_time": True},
    {"step": "requested", "is_by_time": True, "may_object": True},
    {"step": "requested", "is_by_time": True, "may_object": True, "is_you": True},
    {"step": "requested", "is_you": True},
    {"step": "objected", "decided_by": "lan@example.com"},
    {"step": "requested", "is_disabling": True},
    {"step": "requested", "is_enabling": True},
    {"step": "applied", "decided_by": "second@example.com"},
    {"step": "applied"},
    {"step": "rejected", "decided_by": "second@example.com", "remark": "no"},
    {"step": "withdrawn", "decided_by": "boss@example.com"},
    *({"step": "lapsed", "remark": each.value} for each in LapseReason),
    {"step": "created", "is_new": True, "role_before": None, "requested_by": None},
    {"step": "second_factor_reset"},
    *(
        {"step": each, "is_new": True, "role_before": None, "role_after": "support"}
        for each in ("invited", "invitation_sent_again", "invitation_accepted")
    ),
    {
        "step": "invitation_withdrawn",
        "is_new": True,
        "role_before": None,
        "role_after": "support",
        "decided_by": "second@example.com",
    },
)
OWN_CHANGE: dict[str, Any] = {
    "role_before": "support",
    "role_after": "finance",
    "is_disabling": False,
    "is_enabling": False,
    "when": "2026-03-11 09:30 UTC",
    "is_customer": False,
    "ask": "boss@example.com",
}
OWN_CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"ask": None},
    {"role_before": None},
    {"role_after": None},
    {"is_disabling": True, "role_after": "support"},
    {"is_enabling": True, "role_after": "support"},
    {"is_disabling": True, "is_customer": True, "role_before": None, "role_after": None},
)


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
        (
            "staff_invitation",
            {"token": "t", "days": 7, "inviter": "boss@example.com", "role": "finance"},
            "http://here/accept-staff-invitation?token=t",
        ),
        ("already_signed_up", {}, "http://here/forgot-password"),
        ("password_changed", {}, "http://here/forgot-password"),
        ("password_guessed", {}, "http://here/forgot-password"),
        ("second_factor_guessed", {}, "http://here/forgot-password"),
        ("password_entered", {}, "http://here/forgot-password"),
        ("recovery_code_used", {"left": 9}, "http://here/two-factor"),
        *(
            (
                "second_factor_changed",
                {"change": change, "is_on": is_on},
                "http://here/forgot-password",
            )
            for is_on in (True, False)
            for change in (
                "app_added",
                "app_removed",
                "passkey_added",
                "passkey_removed",
                "codes_replaced",
            )
        ),
        ("second_factor_changed", {"change": "reset"}, "http://here/two-factor"),
        *(
            ("staff_change", {**STAFF_CHANGE, **changes}, "http://here/staff")
            for changes in STAFF_STEPS
        ),
        *(
            ("staff_own_change", {**OWN_CHANGE, **changes}, "http://here/")
            for changes in OWN_CHANGES
        ),
    ],
)
def test_every_mail_says_what_to_do(
    template: str, parameters: dict[str, str | int | None], link: str
) -> None:
    created_at = TestClock().instant
    for recipient in ("lan@example.com", "boss@example.com", "second@example.com"):
        waiting = Mail(1, recipient, template, parameters, "xx", created_at, 0)
        letter = mail.render(waiting, base_url="http://here")
        assert letter.subject
        assert "\n" not in letter.subject
        assert link in letter.text.splitlines()
        assert "None" not in letter.text
        assert "\n\n\n" not in letter.text


@pytest.mark.parametrize(
    ("template", "parameters"),
    [
        ("password_changed", {}),
        ("recovery_code_used", {"left": 9}),
        *(("second_factor_changed", {"change": change}) for change in ("app_added", "reset")),
    ],
)
def test_mail_about_a_sign_in_says_whom_staff_tell(
    template: str, parameters: dict[str, str | int]
) -> None:
    waiting = Mail(1, "x@example.com", template, parameters, "en", TestClock().instant, 0)
    message = mail.render(waiting, base_url="http://here").text
    assert "contact support, or an administrator if you are staff." in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role_after": "finance"}, "lan@example.com is Finance now (before: Administrator)."),
        ({}, "lan@example.com has no role now (before: Administrator)."),
        ({"is_disabling": True}, "lan@example.com (Administrator) is disabled now."),
        ({"is_enabling": True}, "lan@example.com (Administrator) is enabled again."),
    ],
)
@pytest.mark.parametrize("is_approved", [True, False])
def test_mail_about_a_change_in_effect_says_what_is_now(
    changes: dict[str, Any], message: str, *, is_approved: bool
) -> None:
    decided_by = "second@example.com" if is_approved else None
    parameters = {**STAFF_CHANGE, "step": "applied", "decided_by": decided_by, **changes}
    for recipient, who in (("x@example.com", "second@example.com"), ("second@example.com", "you")):
        waiting = Mail(1, recipient, "staff_change", parameters, "en", TestClock().instant, 0)
        letter = mail.render(waiting, base_url="http://here")
        assert message in letter.text.splitlines()
        assert (f"Approved by {who}." in letter.text) is is_approved
        assert "Change role" not in letter.text


@pytest.mark.parametrize("change", ["app_removed", "passkey_removed"])
@pytest.mark.parametrize("is_on", [True, False])
def test_mail_about_a_removed_factor_says_when_the_password_alone_is_left(
    change: str, *, is_on: bool
) -> None:
    parameters = {"change": change, "is_on": is_on}
    waiting = Mail(
        1, "x@example.com", "second_factor_changed", parameters, "en", TestClock().instant, 0
    )
    message = mail.render(waiting, base_url="http://here").text
    assert ("Your password alone signs you in" in message) is not is_on


@pytest.mark.parametrize("reason", list(LapseReason))
def test_mail_about_a_request_that_ended_says_what_to_do(reason: LapseReason) -> None:
    parameters = {**STAFF_CHANGE, "step": "lapsed", "remark": reason.value}
    waiting = Mail(1, "x@example.com", "staff_change", parameters, "en", TestClock().instant, 0)
    message = mail.render(waiting, base_url="http://here").text
    next_step = (
        "Assign the role Administrator to another person first."
        if reason is LapseReason.LAST_ADMIN
        else "If the change is still needed, request it again."
    )
    assert "The request was closed without effect." in message
    assert next_step in message
