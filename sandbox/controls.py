"""Controls of a sandbox: simulated failures, and the fees that its account is charged.

`POST /<gateway>/controls` takes a form, of which each field is optional:

- `group` and `answer`: how requests of a group (or `all`) are answered from now on: `hang` accepts
  them and never answers, `403`, `429`, `500` refuse them, `normal` ends that.
- `settles_in`: the currency of the account's balance, in which fees are taken; empty for that of
  each payment.
- `dispute_fee`: what a dispute costs, in US dollars; empty for nothing.
- `names_refunds`: `no` leaves the shop's references out of refunds, `yes` includes them again.
- `numbers_refunds`: `late` gives a refund its number once it has settled (VNPay), `at_once` again
  when it is accepted.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from starlette.responses import PlainTextResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from sandbox.store import Store

Settings = dict[str, Any]

HANG, NORMAL = "hang", "normal"
ALL = "all"
REFUSALS = {"403": 403, "429": 429, "500": 500}
RATES = {
    "USD": Decimal(1),
    "EUR": Decimal("0.90"),
    "GBP": Decimal("0.80"),
    "SGD": Decimal("1.35"),
    "JPY": Decimal(150),
}
"""What a US dollar is worth here, every day the same."""

_KIND = "controls"
_WHOLE_ONLY = frozenset(("JPY",))
_BAD_REQUEST, _NEVER_SENT = 400, 503


def convert(amount: Decimal, source: str, target: str) -> Decimal:
    """Return an amount in another currency, in whole coins of it."""
    smallest = Decimal(1) if target in _WHOLE_ONLY else Decimal("0.01")
    return (amount * RATES[target] / RATES[source]).quantize(smallest, ROUND_HALF_UP)


class Controls:
    """The controls of one sandbox; stored with its documents, so that all processes share them."""

    def __init__(self, store: Store, gateway: str, groups: frozenset[str]) -> None:
        self._store = store
        self._gateway = gateway
        self._groups = groups | {ALL}

    def route(self) -> Route:
        """Return the route that sets the controls."""
        return Route("/controls", self._change, methods=["POST"])

    async def stand_in_the_way(
        self, request: Request, group: str, refuse: Callable[[int], Response]
    ) -> Response | None:
        """Return the answer that replaces a request's own, or None where none does.

        A request that hangs is answered when its sender has disconnected.
        """
        answers = self._settings().get("answers", {})
        answer = answers.get(group) or answers.get(ALL)
        if answer == HANG:
            await request.body()
            while (await request.receive())["type"] != "http.disconnect":
                pass
            return PlainTextResponse("", _NEVER_SENT)
        return None if answer is None else refuse(REFUSALS[answer])

    @property
    def settles_in(self) -> str | None:
        """The currency of the account's balance, or None for that of each payment."""
        return self._settings().get("settles_in")

    @property
    def names_refunds(self) -> bool:
        """Whether refunds are reported with the shop's references."""
        return bool(self._settings().get("names_refunds", True))

    @property
    def numbers_refunds_late(self) -> bool:
        """Whether a refund has no number of the gateway before it has settled."""
        return bool(self._settings().get("numbers_refunds_late"))

    def dispute_fee(self, currency: str) -> Decimal | None:
        """Return the fee of a dispute, in a currency; None where there is none."""
        fee = self._settings().get("dispute_fee")
        return None if fee is None else convert(Decimal(fee), "USD", currency)

    def _settings(self) -> Settings:
        return self._store.get(_KIND, self._gateway) or {}

    async def _change(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        try:
            with self._store.changing():
                settings = _changed(self._settings(), form, self._groups)
                self._store.put(_KIND, self._gateway, settings)
        except (InvalidOperation, KeyError, ValueError) as error:
            return PlainTextResponse(f"There is no such control: {error}", _BAD_REQUEST)
        return PlainTextResponse("Done")


def _changed(settings: Settings, form: dict[str, str], groups: frozenset[str]) -> Settings:
    """Return the settings changed by a form; raise ValueError where a change is invalid."""
    for name, value in form.items():
        if name == "settles_in" and value in {"", *RATES}:
            settings[name] = value or None
        elif name == "dispute_fee":
            settings[name] = str(Decimal(value)) if value else None
        elif name == "names_refunds" and value in {"yes", "no"}:
            settings[name] = value == "yes"
        elif name == "numbers_refunds" and value in {"late", "at_once"}:
            settings["numbers_refunds_late"] = value == "late"
        elif name != "group" and not (name == "answer" and value in {HANG, NORMAL, *REFUSALS}):
            raise ValueError(name)
    if "answer" in form:
        if form["group"] not in groups:
            raise ValueError("group")
        answers = settings.setdefault("answers", {})
        answers[form["group"]] = None if form["answer"] == NORMAL else form["answer"]
    return settings
