"""Mails: their text in the recipient's language, and their delivery to an SMTP server."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from domain.outbox import MailServerUnavailable
from portal.ui.i18n import _, using

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from domain.outbox import Mail
    from portal.runtime.environment import Smtp
    from portal.runtime.settings import Settings

_TEMPLATES = Path(__file__).resolve().parents[1] / "templates" / "mail"
_READY = 220
_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 10
_MAIL_SECONDS = 30
"""How long a message may take in all, however slowly the server goes on answering."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail as its reader sees it."""

    subject: str
    text: str


def render(mail: Mail, *, base_url: str) -> Letter:
    """Return the mail's text, with links to `base_url`."""
    with using(mail.locale):
        template = _environment().get_template(f"{mail.template}.txt")
        content = template.render(
            _=_, base_url=base_url, recipient=mail.recipient, **mail.parameters
        )
    # The first line of a template is its subject.
    subject, _separator, text = content.partition("\n")
    return Letter(subject.strip(), text.strip() + "\n")


def make_sender(settings: Settings) -> Callable[[Mail], None] | None:
    """Return the function that sends one mail by the SMTP server, or None where there is no server.

    It raises MailServerUnavailable where the server cannot be reached or does not answer, and
    OSError or smtplib.SMTPException where it refuses, or takes longer than a message may.
    """
    smtp = settings.smtp
    if smtp is None:
        return None

    def send(mail: Mail) -> None:
        message = compose(mail, sender=settings.mail_from, base_url=settings.base_url)
        with _connection(smtp) as connection:
            connection.send_message(message)
            # The server has accepted it: an error from now on must not have it sent again.
            with suppress(OSError):
                connection.quit()

    return send


def compose(mail: Mail, *, sender: str, base_url: str) -> EmailMessage:
    """Return the message. Its id stays the same when it is sent again, so that it counts once."""
    letter = render(mail, base_url=base_url)
    message = EmailMessage()
    message["From"] = sender
    message["To"] = mail.recipient
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(mail.created_at)
    message["Message-ID"] = f"<outbox-{mail.id}@{urlsplit(base_url).hostname}>"
    message["Content-Language"] = mail.locale
    # Out-of-office replies to these go nowhere.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    return message


@contextmanager
def _connection(smtp: Smtp) -> Iterator[smtplib.SMTP]:
    """Connect to the server for no longer than a message may take, then disconnect."""
    link = _connect(smtp)
    is_late = threading.Event()

    def cut() -> None:
        is_late.set()
        # Wakes a thread that waits for an answer; closing the socket would not.
        with suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_MAIL_SECONDS, cut)
    timer.daemon = True
    timer.start()
    connection = _Connection(link, is_tls=smtp.security == "tls")
    try:
        _greet(connection, smtp)
        yield connection
    except OSError as error:
        if is_late.is_set() and not isinstance(error, MailServerUnavailable):
            raise TimeoutError(f"the mail took longer than {_MAIL_SECONDS} seconds") from error
        raise
    finally:
        timer.cancel()
        connection.close()
        link.close()


def _connect(smtp: Smtp) -> socket.socket:
    try:
        return socket.create_connection((smtp.host, smtp.port), _CONNECT_SECONDS)
    except OSError as error:
        raise MailServerUnavailable(str(error)) from error


def _greet(connection: smtplib.SMTP, smtp: Smtp) -> None:
    """Read the server's greeting, and sign in."""
    try:
        connection.connect(smtp.host, smtp.port)
        if smtp.security == "starttls":
            connection.starttls(context=ssl.create_default_context())
        if smtp.user is not None:
            connection.login(smtp.user, smtp.password or "")
    except (smtplib.SMTPServerDisconnected, smtplib.SMTPConnectError) as error:
        raise MailServerUnavailable(str(error)) from error
    except smtplib.SMTPException:
        raise
    except OSError as error:
        raise MailServerUnavailable(str(error)) from error


class _Connection(smtplib.SMTP):
    """SMTP over a copy of an open socket, so that its owner can end it whatever it waits for."""

    def __init__(self, link: socket.socket, *, is_tls: bool) -> None:
        super().__init__(timeout=_ANSWER_SECONDS)
        self._link = link
        self._is_tls = is_tls

    def _get_socket(self, host: str, _port: int, timeout: float) -> socket.socket:
        self._host = host  # whose certificate STARTTLS verifies
        copy = self._link.dup()
        copy.settimeout(timeout)
        if not self._is_tls:
            return copy
        return ssl.create_default_context().wrap_socket(copy, server_hostname=host)

    def connect(self, *given: Any, **named: Any) -> tuple[int, bytes]:  # noqa: ANN401 - smtplib's
        """Read the server's greeting. Raises SMTPConnectError where it is invalid."""
        code, text = super().connect(*given, **named)
        if code != _READY:
            raise smtplib.SMTPConnectError(code, text)
        return code, text


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701 - plain text; the mailbox page escapes it as text
        undefined=StrictUndefined,
    )
