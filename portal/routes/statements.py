"""Statements: a month of an account as one plain page, to be printed or saved as a PDF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain import audit
from domain.errors import BillingError
from domain.ledger.statements import monthly_statement, parse_month
from domain.validation import whole_number
from portal.routes.forms import Form, form_route
from portal.routes.requests import FIRST, Call, Reply
from portal.routes.responses import message, render
from portal.runtime import database
from portal.ui import formats
from portal.ui.i18n import _, ngettext
from portal.ui.labels import ledger as ledger_labels

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from domain.ledger.statements import Statement, StatementLine


def routes() -> list[BaseRoute]:
    """Return the route of statements: /statements/<account>/<YYYY-MM>."""
    form = Form(None, show=_show, for_signed_in=True)
    return [form_route("/statements/{account_id}/{month}", form)]


def _show(call: Call, reply: Reply = FIRST) -> Response:
    named: str = call.request.path_params["account_id"]
    actor = call.visitor.actor(call.client.address)
    try:
        account_id = whole_number(named)
        month = parse_month(call.request.path_params["month"])
        found = database.read_snapshot(
            monthly_statement, actor=actor, account_id=account_id, month=month
        )
    except BillingError:
        text = _("Statement not found, or you do not have access.")
        return message(call, _("Page not found"), text, status=404)
    if actor.reads_as_staff(account_id):
        details = {"statement": f"{month:%Y-%m}"}
        database.transaction(
            audit.record,
            action="look_at_account",
            actor=actor,
            account_id=account_id,
            details=details,
        )
    return render(
        call,
        "statement.html",
        reply,
        statement=found,
        month=formats.month(found.month),
        lines=[_row(found, line) for line in found.lines],
        totals=[
            (ledger_labels.kind(kind), _money(found, micros, signed=True))
            for kind, micros in found.totals
        ],
        opening=_money(found, found.opening_micros),
        closing=_money(found, found.closing_micros),
        as_of=formats.date_time(found.as_of, found.time_zone),
    )


def _row(statement: Statement, line: StatementLine) -> dict[str, str]:
    balance = line.balance_micros
    return {
        "day": formats.date(line.day),
        "service": ledger_labels.service(line.service),
        "what": _what(line),
        "amount": _money(statement, line.amount_micros, signed=True),
        "balance": "" if balance is None else _money(statement, balance),
    }


def _what(line: StatementLine) -> str:
    if line.description_code is not None:
        return ledger_labels.description(line.description_code, line.description_parameters)
    count = ngettext("{count} entry", "{count} entries", line.entries)
    entries = count.format(count=formats.number(line.entries))
    return f"{ledger_labels.kind(line.kind)} · {entries}"


def _money(statement: Statement, micros: int, *, signed: bool = False) -> str:
    return formats.money(micros, statement.currency, exact=True, signed=signed)
