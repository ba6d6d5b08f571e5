"""What gateways are called, and what people can pay with there."""

from __future__ import annotations

from domain.gateways.registry import BANK, gateway_kinds
from portal.ui.i18n import N_, _

_ACCEPTED = {
    "vnpay": N_("Local ATM cards, banking apps, and credit cards (Visa, Master, JCB, UnionPay)."),
    "stripe": N_(
        "Major international cards (Visa, Master, JCB, American Express) and convenience stores."
    ),
    "stripe_cards": N_("Major international cards (Visa, Master, JCB, American Express)."),
    "paypal": N_("PayPal balance or linked cards."),
}


def title(name: str) -> str:
    """Return what people call a gateway: its brand, or the bank transfer."""
    if name == BANK:
        return _("Bank transfer")
    kind = gateway_kinds().get(name)
    return kind.title if kind is not None else name


def accepted(name: str) -> str:
    """Return what a gateway accepts, or nothing where that is not described."""
    return _(_ACCEPTED[name]) if name in _ACCEPTED else ""
