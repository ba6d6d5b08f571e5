"""The demo's mailbox: without a mail server, mail is shown on a page of this computer alone.

The links in it open other people's accounts, so it answers only to a browser on the same computer
that requested it by a name of this computer; a proxy's request is not that.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from domain import outbox
from domain.actors import system_actor
from portal.routes.forms import Form, form_route
from portal.routes.requests import FIRST, Call, Reply
from portal.routes.responses import message, render
from portal.runtime import database, mail
from portal.runtime.environment import LOOPBACK_HOSTS
from portal.runtime.settings import settings
from portal.ui import formats
from portal.ui.i18n import _

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def routes() -> list[BaseRoute]:
    """Return the route of the mailbox, which is a 404 outside the demo."""
    return [form_route("/mailbox", Form(None, show=_show))]


def _show(call: Call, reply: Reply = FIRST) -> Response:
    if not settings().shows_mailbox or not _is_local(call.request):
        text = _("The demo mailbox opens only on the computer that runs the demo.")
        return message(call, _("Page not found"), text, status=404)
    base_url = f"http://{call.request.headers['host']}"
    letters = []
    for each in database.read_snapshot(outbox.waiting_mail, actor=system_actor("demo-mailbox")):
        letter = mail.render(each, base_url=base_url)
        letters.append(
            {
                "subject": letter.subject,
                "text": letter.text,
                "recipient": each.recipient,
                "created_at": formats.date_time(each.created_at, "UTC"),
            }
        )
    return render(call, "mailbox.html", reply, letters=letters)


def _is_local(request: Request) -> bool:
    if any(header in request.headers for header in _PROXY_HEADERS):
        return False
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        address = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return host in LOOPBACK_HOSTS and (mapped or address).is_loopback
