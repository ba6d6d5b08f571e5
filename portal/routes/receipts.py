"""Receipts: a payment's documents as PDF, for those who may see its account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from domain.accounts.queries import site_zone
from domain.errors import BillingError
from domain.payments import documents_of
from domain.payments.queries import find_payment
from portal.exports import receipt_pdf
from portal.routes.forms import Form, form_route
from portal.routes.requests import FIRST, Call, Reply
from portal.routes.responses import message
from portal.runtime import database
from portal.runtime.gateways import vault
from portal.ui.i18n import _, using

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


def routes() -> list[BaseRoute]:
    """Return the routes: /receipts/<payment>, and /receipts/<payment>/<2, 3 …> for later ones."""
    form = Form(None, show=_show, for_signed_in=True)
    return [
        form_route("/receipts/{reference}", form),
        form_route("/receipts/{reference}/{place}", form),
    ]


def _show(call: Call, _reply: Reply = FIRST) -> Response:
    reference = call.request.path_params["reference"]
    place = str(call.request.path_params.get("place", "1"))
    actor = call.visitor.actor(call.client.address)
    try:
        payment = database.read_snapshot(find_payment, actor=actor, reference=reference)
        found = database.read_snapshot(
            documents_of, vault=vault(), actor=actor, reference=reference
        )
        content = {str(number): each for number, each in enumerate(found, 1)}[place]
    except (BillingError, KeyError):
        text = _("Receipt not found, or you do not have access.")
        return message(call, _("Page not found"), text, status=404)
    zone = database.read_snapshot(site_zone, account_id=payment.account_id)
    with using(content.language):
        pdf = receipt_pdf.render(content, zone=zone)
    headers = {
        "Content-Disposition": f'inline; filename="{content.number}.pdf"',
        "Cache-Control": "private, no-store",
    }
    return Response(pdf, headers=headers, media_type="application/pdf")
