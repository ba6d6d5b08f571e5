"""Mails: what they say, in the reader's language, and handing them to an SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from portal.i18n import _, using

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.outbox import Mail
    from portal.settings import Settings, Smtp

_TEMPLATES = Path(__file__).resolve().parent / "templates" / "mail"
_TIMEOUT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail as its reader sees it."""

    subject: str
    text: str


def render(mail: Mail, *, base_url: str) -> Letter:
    """Return the mail's words, with links to `base_url`."""
    with using(mail.locale):
        template = _environment().get_template(f"{mail.template}.txt")
        content = template.render(_=_, base_url=base_url, **mail.parameters)
    # The first line of a template is its subject.
    subject, _separator, text = content.partition("\n")
    return Letter(subject.strip(), text.strip() + "\n")


def make_sender(settings: Settings) -> Callable[[Mail], None] | None:
    """Return what hands one mail to the SMTP server, or None where there is no server.

    It raises OSError or smtplib.SMTPException where the server cannot be reached or refuses.
    """
    smtp = settings.smtp
    if smtp is None:
        return None

    def send(mail: Mail) -> None:
        message = compose(mail, sender=settings.mail_from, base_url=settings.base_url)
        with _connection(smtp) as connection:
            connection.send_message(message)

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


def _connection(smtp: Smtp) -> smtplib.SMTP:
    context = ssl.create_default_context()
    connection: smtplib.SMTP
    if smtp.security == "tls":
        connection = smtplib.SMTP_SSL(
            smtp.host, smtp.port, timeout=_TIMEOUT_SECONDS, context=context
        )
    else:
        connection = smtplib.SMTP(smtp.host, smtp.port, timeout=_TIMEOUT_SECONDS)
    try:
        if smtp.security == "starttls":
            connection.starttls(context=context)
        if smtp.user is not None:
            connection.login(smtp.user, smtp.password or "")
    except BaseException:
        connection.close()
        raise
    return connection


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701 - plain text; the mailbox page escapes it as text
        undefined=StrictUndefined,
    )
