"""The pages of the Stripe sandbox: the customers' payment page, and the account's dashboard."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from sandbox.hosted_page import Choice, HostedPage, say, show
from sandbox.stripe_account import whole_number, words
from sandbox.stripe_payments import (
    CARDS,
    CHARGE,
    INTENT,
    JAPAN,
    REFUND,
    SESSION,
    USUAL_CARD,
    Refusal,
)
from sandbox.webhook_sender import Delivery

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from sandbox.store import Document
    from sandbox.stripe_account import Account

_NAME = "Stripe"
_NOT_NOW = "The payment is not in a state for that."
_DISPUTE_ACTIONS = frozenset(
    ("dispute", "inquire", "escalate", "close", "win", "lose", "appeal", "reinstate")
)
_INQUIRIES = frozenset(("warning_needs_response",))
_DECIDED_BY_THE_BANK = frozenset(("needs_response", "under_review", "appeal_under_review"))
_ENDED = frozenset(("won", "lost"))
_SEE_OTHER, _NOT_FOUND, _WRONG_STATE = 303, 404, 409


class Pages:
    """The customers' pages, and the operator's dashboard."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._templates = Jinja2Templates(Path(__file__).resolve().parent / "templates")

    def routes(self) -> list[Route]:
        """Return where they are."""
        return [
            Route("/pay/{session}", self.open_session),
            Route("/pay/{session}", self.choose, methods=["POST"]),
            Route("/konbini/{session}", self.open_voucher),
            Route("/konbini/{session}", self.use_voucher, methods=["POST"]),
            Route("/dashboard", self.open_dashboard),
            Route("/dashboard", self.operate, methods=["POST"]),
        ]

    def _session(self, request: Request) -> Document | None:
        try:
            return self._account.session(request.path_params["session"])
        except Refusal:
            return None

    def _back(self, session: Document) -> Response:
        url = session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"])
        return RedirectResponse(url, _SEE_OTHER)

    async def open_session(self, request: Request) -> Response:
        """Show the amount to pay, and the payment methods."""
        session = self._session(request)
        if session is None:
            return _nothing_here()
        if session["status"] != "open":
            return _over()
        choices = list(self._offered(session).values())
        note = ""
        if session["payment_intent"] is not None:
            note = "Your card was declined. Try again, or pay in another way."
        page = self._page(session, f"pay/{session['id']}", choices, note)
        cards = [
            Choice(last4, f"{card['brand'].capitalize()} …{last4}") for last4, card in CARDS.items()
        ]
        return show(replace(page, instruments=cards))

    @staticmethod
    def _offered(session: Document) -> dict[str, Choice]:
        choices = [
            Choice("succeed", "Pay by card", is_main=True),
            Choice("fail", "Pay by card, and be declined"),
            Choice("konbini", "Pay at a convenience store"),
            Choice("cancel", "Cancel"),
        ]
        takes_konbini = "konbini" in session["payment_method_types"]
        return {one.value: one for one in choices if takes_konbini or one.value != "konbini"}

    def _page(self, session: Document, path: str, choices: list[Choice], note: str) -> HostedPage:
        return HostedPage(
            gateway=_NAME,
            merchant="the demo account",
            amount=words(session["amount_total"], session["currency"]),
            description=self._account.intent_data(session)["name"],
            action=self._account.url(path),
            choices=choices,
            note=note,
        )

    async def choose(self, request: Request) -> Response:
        """Carry out the customer's choice, and redirect the browser."""
        session = self._session(request)
        outcome, delivery = await _chosen(request)
        if session is None or outcome not in self._offered(session):
            return _nothing_here()
        if session["status"] == "complete":
            return self._back(session)
        if session["status"] == "expired":
            return _over()
        if outcome == "cancel":
            return RedirectResponse(session["cancel_url"] or session["success_url"], _SEE_OTHER)
        card = str((await request.form()).get("instrument", USUAL_CARD))
        if card not in CARDS:
            return _nothing_here()
        return self._pay(session, outcome, delivery, card)

    def _pay(self, session: Document, outcome: str, delivery: Delivery, card: str) -> Response:
        if outcome == "fail":
            self._account.decline(session, delivery)
            return RedirectResponse(self._account.url(f"pay/{session['id']}"), _SEE_OTHER)
        if outcome == "konbini":
            self._account.promise(session, delivery)
            return RedirectResponse(self._account.url(f"konbini/{session['id']}"), _SEE_OTHER)
        self._account.pay_by_card(session, delivery, card)
        return self._back(session)

    async def open_voucher(self, request: Request) -> Response:
        """Show the voucher that the customer would take to the store."""
        session = self._session(request)
        voucher = session and self._account.voucher(session)
        if session is None:
            return _nothing_here()
        if not voucher:
            return say(_NAME, "There is nothing to pay at a store", "Go back to the shop.")
        until = datetime.fromtimestamp(voucher["expires_at"], JAPAN)
        choices = [
            Choice("pay", "Pay at the store now", is_main=True),
            Choice("lapse", "Let it lapse"),
            Choice("later", "Back to the shop, and pay later"),
        ]
        note = f"To be paid at a store until {until:%Y-%m-%d %H:%M} (Japan). Keep this address."
        return show(self._page(session, f"konbini/{session['id']}", choices, note))

    async def use_voucher(self, request: Request) -> Response:
        """Have the customer pay at the store, or not."""
        session = self._session(request)
        outcome, delivery = await _chosen(request)
        if session is None or outcome not in {"pay", "lapse", "later"}:
            return _nothing_here()
        if self._account.voucher(session):
            if outcome == "pay":
                self._account.pay_at_store(session, delivery)
            elif outcome == "lapse":
                self._account.lapse(session, delivery)
        return self._back(session)

    # ── The dashboard ─────────────────────────────────────────────────────────────────────────
    async def open_dashboard(self, request: Request) -> Response:
        """List the payments, newest first, with their possible actions."""
        payments = [
            self._row(session)
            for session in reversed(self._account.store.find(SESSION))
            if session["payment_intent"] is not None
        ]
        context = {
            "gateway": _NAME,
            "action": self._account.url("dashboard"),
            "payments": payments,
            "deliveries": [delivery.value for delivery in Delivery],
        }
        return self._templates.TemplateResponse(
            request, "stripe_dashboard.html", context, headers={"Cache-Control": "no-store"}
        )

    def _row(self, session: Document) -> Document:
        intent = self._account.find(INTENT, session["payment_intent"])
        key, currency = intent["latest_charge"], session["currency"]
        charge = self._account.find(CHARGE, key) if key else None
        is_paid = charge is not None and charge["status"] == "succeeded"
        left = charge["amount"] - charge["amount_refunded"] if is_paid and charge else 0
        voucher = self._account.voucher(session)
        return {
            "id": intent["id"],
            "amount": words(intent["amount"], currency),
            "status": intent["status"],
            "reference": session["client_reference_id"] or "",
            "refunded": words(charge["amount_refunded"] if charge else 0, currency),
            "left": left,
            "refunds": self._account.store.find(REFUND, payment_intent=intent["id"]),
            "disputes": self._account.disputes(charge) if charge else [],
            "is_paid": is_paid,
            "voucher_url": voucher["hosted_voucher_url"] if voucher else None,
        }

    async def operate(self, request: Request) -> Response:
        """Carry out the action of a dashboard's button."""
        form = await request.form()
        action, delivery = await _chosen(request)
        amount = str(form.get("amount", ""))
        try:
            intent = self._account.find(INTENT, str(form.get("payment", "")))
            charge = self._account.find(CHARGE, intent["latest_charge"] or "")
            if action == "refund":
                count = whole_number({"amount": amount}, "amount", 0) if amount else None
                self._account.refund(charge, count, {}, delivery)
            elif action == "lose_part":
                count = whole_number({"amount": amount}, "amount", 0)
                last = self._last_dispute(charge, _DECIDED_BY_THE_BANK)
                self._account.close_dispute(last, "lost", delivery, count)
            else:
                self._act(action, charge, delivery)
        except Refusal as refusal:
            return say(_NAME, "This cannot be done", str(refusal), _WRONG_STATE)
        return RedirectResponse(self._account.url("dashboard"), _SEE_OTHER)

    def _act(self, action: str, charge: Document, delivery: Delivery) -> None:
        account = self._account
        refunds = account.store.find(REFUND, charge=charge["id"])
        pending = [one for one in refunds if one["status"] == "pending"]
        alive = [one for one in refunds if one["status"] != "failed"]
        if action in _DISPUTE_ACTIONS:
            self._dispute(action, charge, delivery)
        elif action == "settle" and pending:
            account.settle_refund(pending[-1], delivery)
        elif action == "fail" and alive:
            account.fail_refund(alive[-1], delivery)
        else:
            raise Refusal(None, _NOT_NOW)

    def _last_dispute(self, charge: Document, *statuses: frozenset[str]) -> Document:
        """Return a charge's latest dispute, if it has one of these statuses; refuse otherwise."""
        last = [{"status": ""}, *self._account.disputes(charge)][-1]
        if not any(last["status"] in one for one in statuses):
            raise Refusal(None, _NOT_NOW)
        return last

    def _dispute(self, action: str, charge: Document, delivery: Delivery) -> None:
        account = self._account
        if action in {"dispute", "inquire"}:
            statuses = {one["status"] for one in account.disputes(charge)}
            is_free = not statuses & (_INQUIRIES | _DECIDED_BY_THE_BANK)
            if charge["status"] != "succeeded" or not is_free:
                raise Refusal(None, _NOT_NOW)
            account.open_dispute(charge, delivery, is_inquiry=action == "inquire")
        elif action == "escalate":
            account.escalate(charge, self._last_dispute(charge, _INQUIRIES), delivery)
        elif action == "close":
            last = self._last_dispute(charge, _INQUIRIES)
            account.close_dispute(last, "warning_closed", delivery)
        elif action == "appeal":
            account.appeal(self._last_dispute(charge, _ENDED), delivery)
        elif action == "reinstate":
            account.give_in(self._last_dispute(charge, _DECIDED_BY_THE_BANK), delivery)
        else:
            last = self._last_dispute(charge, _DECIDED_BY_THE_BANK)
            account.close_dispute(last, "won" if action == "win" else "lost", delivery)


async def _chosen(request: Request) -> tuple[str, Delivery]:
    form = await request.form()
    requested = str(form.get("delivery", ""))
    is_known = requested in set(Delivery)
    return str(form.get("outcome", "")), Delivery(requested) if is_known else Delivery.NORMAL


def _nothing_here() -> Response:
    return say(_NAME, "There is no such payment", "Go back to the shop.", _NOT_FOUND)


def _over() -> Response:
    return say(_NAME, "This page is over", "Go back to the shop and start a new payment.")
