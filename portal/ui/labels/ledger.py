"""Names and sentences for what the ledger keeps as codes, in the reader's language."""

from __future__ import annotations

from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from domain.accounts import queries
from portal.runtime import database
from portal.ui import formats
from portal.ui.i18n import N_, _, ngettext
from portal.ui.labels import gateways as gateway_labels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from sqlalchemy import Engine

_KINDS = {
    "top_up": N_("Top-up"),
    "voucher": N_("Voucher"),
    "plan": N_("Plan"),
    "adjustment": N_("Goodwill"),
    "charge": N_("Usage"),
    "expiry": N_("Expiry"),
    "refund": N_("Refund"),
    "dispute": N_("Dispute"),
    "write_off": N_("Write-off"),
    "reversal": N_("Reversal"),
    "settlement_of_debt": N_("Amount due settled"),
    "hold": N_("Hold"),
    "overdraft": N_("Amount due"),
}
_CREDIT_KINDS = {
    "plan": N_("Plan credit"),
    "voucher": N_("Voucher credit"),
    "adjustment": N_("Goodwill credit"),
    "top_up": N_("Top-up credit"),
    "overdraft": N_("Amount due"),
}
_STATUSES = {
    "success": N_("Success"),
    "failed": N_("Failed"),
    "processing": N_("Processing"),
}
_GRANT_STATUSES = {
    "active": N_("Active"),
    "held": N_("On hold"),
    "scheduled": N_("Not started"),
    "ended": N_("Expired"),
}
_REASONS = {
    "insufficient_credit": N_("not enough credit"),
    "account_frozen": N_("the account is frozen"),
    "in_debt": N_("the account has an amount due"),
    "too_old": N_("the usage was reported too late"),
}
_HOLD_STATUSES = {
    None: N_("Open"),
    "captured": N_("Captured"),
    "voided": N_("Voided"),
    "expired": N_("Expired"),
}
_CAUSES = {
    "usage": N_("Usage without credit"),
    "refund": N_("Refund of spent credit"),
    "dispute": N_("Disputed payment"),
    "reversal": N_("Reversal of spent credit"),
}
_OUTFLOWS = {
    # Credit goes with a dispute only when that is lost; payments say it in the same words.
    "dispute": N_("Dispute lost"),
    "dispute_won": N_("Dispute won, credit restored"),
    "refund_failed": N_("Refund failed, credit restored"),
}
"""What moved credit because money of its payment moved, where the entry's kind does not say it."""

_SOURCES = {
    "system": N_("System"),
    "voucher": N_("Voucher"),
    "plan": N_("Plan"),
    "adjustment": N_("Goodwill"),
}


class _Time(NamedTuple):
    """A measure of time: its name, its unit in seconds, and the size that it goes with."""

    name: str
    seconds: int
    size: str
    unit: str


_TIMES = {
    "gpu-time": _Time(N_("GPU time"), 1, "gpus", N_("GPU")),
    "cpu-time": _Time(N_("CPU time"), 1, "cpus", N_("vCPU")),
    "disk-time": _Time(N_("Disk"), 1, "disk-gigabytes", N_("GB disk")),
    "storage-time": _Time(N_("Storage"), 60, "gigabytes", N_("GB")),
}
_SIZES = frozenset(time.size for time in _TIMES.values())
_NAMES_SECONDS = 300


def service_names() -> dict[str, str]:
    """Return the names of services by slug, as they were at most five minutes ago."""
    return _service_names(database.engine(), int(monotonic() // _NAMES_SECONDS))


@lru_cache(maxsize=1)
def _service_names(_database: Engine, _period: int) -> dict[str, str]:
    return database.read_snapshot(queries.service_names)


def kind(code: str) -> str:
    """Return the name of a kind of entry."""
    return _(_KINDS.get(code, code))


def credit_kind(code: str) -> str:
    """Return the name of a kind of credit."""
    return _(_CREDIT_KINDS.get(code, code))


def status(code: str) -> str:
    """Return the name of a row's status."""
    return _(_STATUSES.get(code, code))


def grant_status(code: str) -> str:
    """Return the name of a grant's status."""
    return _(_GRANT_STATUSES.get(code, code))


def reason(code: str) -> str:
    """Return why something was refused, as the end of a sentence."""
    return _(_REASONS.get(code, code))


def source(code: str) -> str:
    """Return what moved the money or used the credit; resources keep their own names."""
    return _(_SOURCES[code]) if code in _SOURCES else gateway_labels.title(code)


def service(slug: str) -> str:
    """Return the name of a service, of a gateway, or of the system."""
    return service_names().get(slug) or source(slug)


def hold_status(outcome: str | None) -> str:
    """Return how a hold ended, or that it has not."""
    return _(_HOLD_STATUSES.get(outcome, outcome or ""))


def debt(cause: str, slug: str) -> str:
    """Return what an amount is due for: a service's usage, or what was taken back."""
    name = _(_CAUSES.get(cause, cause))
    return f"{name} · {service(slug)}" if slug else name


def description(code: str, parameters: Mapping[str, Any]) -> str:
    """Return the sentence that a description code and its parameters stand for."""
    if code == "usage":
        return _usage(parameters)
    if code == "reversal":
        return _("Reversal of entry {number}").format(number=parameters.get("reverses", ""))
    if code == "expiry":
        name = credit_kind(str(parameters.get("grant_kind", "")))
        return _("{credit} expired").format(credit=name)
    given = parameters.get("origin") or parameters.get("reason") or ""
    name = _(_OUTFLOWS[code]) if code in _OUTFLOWS else kind(code)
    return f"{name} · {given}" if given else name


def _usage(parameters: Mapping[str, Any]) -> str:
    calls = int(parameters.get("calls", 0))
    quantities = parameters.get("quantities")
    if not isinstance(quantities, dict) or not calls:
        return _("Usage")
    measured = measures(quantities, calls=calls)
    if calls == 1 and not quantities.keys().isdisjoint(_TIMES):
        return measured
    count = ngettext("{count} call", "{count} calls", calls).format(count=formats.number(calls))
    return f"{count} · {measured}" if measured else count


def measures(quantities: Mapping[str, int | str], *, calls: int = 1) -> str:
    """Return what was used, as meters counted it in one call, or summed over several.

    A sum of sizes (GPUs, gigabytes) says nothing, so that sizes show for a single call only.
    """
    return " · ".join(
        [
            _measure(name, formats.quantity(value), quantities if calls == 1 else {})
            for name, value in quantities.items()
            if name not in _SIZES
        ]
    )


def _measure(name: str, value: Decimal | int, sizes: Mapping[str, int | str]) -> str:
    if name in _TIMES:
        return _time(name, value, sizes)
    return f"{formats.number(value)} {name.replace('-', ' ')}"


def _time(name: str, value: Decimal | int, sizes: Mapping[str, int | str]) -> str:
    time = _TIMES[name]
    length = formats.duration(value * time.seconds)
    size = sizes.get(time.size)
    if size is None:
        return f"{_(time.name)} {length}"
    count = formats.number(formats.quantity(size))
    return f"{count} {_(time.unit)} \N{MULTIPLICATION SIGN} {length}"
