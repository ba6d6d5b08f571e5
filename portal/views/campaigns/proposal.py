"""The form with which a campaign is proposed."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import streamlit as st

from domain.errors import BillingError, InvalidInput
from domain.identity import country_codes, list_sites
from domain.money import Money
from domain.validation import MAX_NAME_LENGTH
from domain.vouchers import (
    MAX_DESCRIPTION_LENGTH,
    CampaignTerms,
    CurrencyTerms,
    GrantTemplate,
    request_campaign,
)
from portal.runtime import database
from portal.ui import checked, flash, submit_once
from portal.ui.formats import plain
from portal.ui.i18n import N_, _, current_language
from portal.ui.labels import campaigns as campaign_labels
from portal.ui.labels import ledger as ledger_labels
from portal.ui.labels.analytics import country
from portal.views.campaigns import OUTCOME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portal.shell.page_context import PageContext

_ONCE = "campaign_once"
_DONE = "campaigns_proposed"
_MAX_PARTS = 6
_MAX_AMOUNT_LENGTH = 40
_USUAL_DAYS = 30
_MAX_COUNT = 10_000_000
_TRIGGERS = {"code": N_("Voucher code"), "first_top_up": N_("First top-up of an account")}
_FLAGS = {
    "is_for_new_accounts": N_("New accounts only (no top-up, voucher or usage before)"),
    "is_for_named_accounts": N_("Account-specific codes only"),
    "is_for_support": N_("Support can issue vouchers of this campaign"),
    "blocks_suspects": N_("Reject linked accounts"),
}


def draw(context: PageContext) -> None:
    """Draw the form; what is wrong with it is said, and nothing typed is lost."""
    st.header(_("Request a campaign"))
    name = st.text_input(_("Name (internal)"), max_chars=MAX_NAME_LENGTH, key="c_name")
    description = st.text_input(
        _("Description for customers"), max_chars=MAX_DESCRIPTION_LENGTH, key="c_description"
    )
    trigger = checked.radio(
        _("How to redeem"),
        list(_TRIGGERS),
        format_func=lambda each: _(_TRIGGERS[each]),
        horizontal=True,
        key="c_trigger",
    )
    sites = database.read_snapshot(list_sites)
    currencies = sorted({each for site in sites for each in site.currencies})
    chosen = checked.multiselect(_("Currencies"), currencies, key="c_currencies")
    amounts = _amounts(chosen, is_earned=trigger == "first_top_up")
    days = _numbers(context, is_earned=trigger == "first_top_up")
    audience = _audience({site.code: site.name for site in sites})
    # Another after each proposal: a second click on the old one reaches nobody.
    number = st.session_state.setdefault(_DONE, 0)
    if st.button(_("Request campaign"), type="primary", key=f"propose-{number}"):
        try:
            terms = CampaignTerms(
                name=name,
                description=description,
                offers=amounts.offers(),
                trigger=trigger,
                **days,
                **audience,
            )
            _propose(context, terms)
        except BillingError as error:
            st.error(plain(campaign_labels.refusal(error)), icon=":material/error:")


class _Amounts:
    """What was typed: parts by currency, their services, budgets and least top-ups."""

    def __init__(self) -> None:
        self.services: list[tuple[str, ...] | None] = []
        self.parts: dict[str, list[str]] = {}
        self.budgets: dict[str, str] = {}
        self.least: dict[str, str] = {}

    def offers(self) -> tuple[CurrencyTerms, ...]:
        """Return the offers; raise InvalidInput on what is no amount."""
        return tuple(
            CurrencyTerms(
                parts=tuple(
                    GrantTemplate(_money(typed, currency), services)
                    for typed, services in zip(parts, self.services, strict=True)
                ),
                budget=_money(self.budgets[currency], currency),
                minimum_top_up=_money(self.least[currency], currency)
                if currency in self.least
                else None,
            )
            for currency, parts in self.parts.items()
        )


def _money(typed: str, currency: str) -> Money:
    if not typed.strip():
        raise InvalidInput("amount", "empty")
    return Money.parse(typed, currency, locale=current_language())


def _amounts(currencies: Sequence[str], *, is_earned: bool) -> _Amounts:
    typed = _Amounts()
    count = st.number_input(
        _("Split credit by service"), 1, _MAX_PARTS, 1, key="c_parts", width=280
    )
    names = ledger_labels.service_names()
    typed.parts = {currency: [] for currency in currencies}
    for part in range(1, int(count) + 1):
        services = checked.multiselect(
            _("Services of part {number}").format(number=part),
            list(names),
            format_func=lambda slug: names[slug],
            placeholder=_("All services"),
            key=f"c_services_{part}",
        )
        typed.services.append(tuple(services) or None)
        if currencies:
            with st.grid(columns=len(currencies), min_column_width=160):
                for currency in currencies:
                    label = _("Part {number} in {currency}").format(number=part, currency=currency)
                    typed.parts[currency].append(_text(label, f"c_part_{part}_{currency}"))
    for currency in currencies:
        with st.grid(columns=2, min_column_width=200):
            label = _("Total budget in {currency}").format(currency=currency)
            typed.budgets[currency] = _text(label, f"c_budget_{currency}")
            if is_earned:
                label = _("Minimum top-up in {currency}").format(currency=currency)
                typed.least[currency] = _text(label, f"c_least_{currency}")
    return typed


def _text(label: str, key: str) -> str:
    return st.text_input(label, max_chars=_MAX_AMOUNT_LENGTH, key=key)


def _numbers(context: PageContext, *, is_earned: bool) -> dict[str, Any]:
    """Draw the window and the counts, and return them by the name of the term."""
    today = context.today.date()
    with st.grid(columns=3, min_column_width=180):
        first = checked.date_input(_("First day"), today, key="c_first")
        last = checked.date_input(_("Last day"), today + timedelta(days=_USUAL_DAYS), key="c_last")
        lasting = st.number_input(
            _("Credit validity in days"), 1, 3660, _USUAL_DAYS, key="c_validity"
        )
    found: dict[str, Any] = {
        "redeem_from": datetime.combine(first, time(), context.zone),
        "redeem_until": datetime.combine(last + timedelta(days=1), time(), context.zone),
        "validity_days": int(lasting),
    }
    if is_earned:
        return found
    with st.grid(columns=3, min_column_width=180):
        found["code_budget"] = int(
            st.number_input(_("Maximum codes"), 1, _MAX_COUNT, 1_000, key="c_codes")
        )
        found["uses_per_code"] = int(
            st.number_input(_("Redemptions per code"), 1, 1_000_000, 1, key="c_uses")
        )
        found["uses_per_account"] = int(
            st.number_input(_("Redemptions per account"), 1, 1_000_000, 1, key="c_account_uses")
        )
    return found


def _audience(sites: dict[str, str]) -> dict[str, Any]:
    """Draw who may redeem, and return it by the name of the term."""
    with st.grid(columns=2, min_column_width=200):
        chosen = checked.multiselect(
            _("Sites"),
            list(sites),
            format_func=lambda code: sites[code],
            placeholder=_("All sites"),
            key="c_sites",
        )
        countries = checked.multiselect(
            _("Billing countries"),
            country_codes(),
            format_func=country,
            placeholder=_("All countries"),
            key="c_countries",
        )
    found: dict[str, Any] = {
        "site_codes": tuple(chosen) or None,
        "countries": tuple(countries) or None,
    }
    for name, label in _FLAGS.items():
        found[name] = st.checkbox(_(label), key=f"c_{name}")
    return found


def _propose(context: PageContext, terms: CampaignTerms) -> None:
    # The same until it is proposed: a second click proposes the same once more.
    database.transaction(
        request_campaign,
        terms=terms,
        actor=context.visitor.actor,
        idempotency_key=submit_once.key_for(_ONCE, repr(terms)),
    )
    for key in [each for each in st.session_state if str(each).startswith("c_")]:
        del st.session_state[key]
    submit_once.forget(_ONCE)
    st.session_state[_DONE] += 1
    flash.leave(OUTCOME, _("Requested. Waiting for approval by another finance member."))
