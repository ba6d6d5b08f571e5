"""The form of the billing profile: the same in the Add credit dialog and under Settings."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import streamlit as st
from babel import Locale

from domain.billing_profiles import (
    LONGEST_ADDRESS,
    LONGEST_CITY,
    LONGEST_NAME,
    LONGEST_TAX_CODE,
    BillingProfile,
    ProfileKind,
    SavedProfile,
    profile_faults,
    save_profile,
)
from domain.errors import BillingError
from portal import backend
from portal.i18n import _, current_language
from portal.top_up import words

if TYPE_CHECKING:
    from domain.billing_profiles import ProfileChoices, ProfileVersion
    from portal.viewing import Viewing

_LONGEST_EMAIL = 254


def draw(
    here: Viewing,
    choices: ProfileChoices,
    current: ProfileVersion | None,
    *,
    key: str,
    submit_label: str,
) -> SavedProfile | None:
    """Draw the form, and return what was saved in this run, or None."""
    kind = _kind(current, key)
    with st.form(f"{key}-form", border=False):
        given = _fields(choices, current, kind, key)
        currency = _currency(choices, key)
        is_sent = st.form_submit_button(submit_label, type="primary")
    return _save(here, given, currency, current, key) if is_sent else None


def _kind(current: ProfileVersion | None, key: str) -> ProfileKind:
    """Let them choose outside the form, since it decides what the form asks for."""
    names = {ProfileKind.PERSONAL: _("Personal"), ProfileKind.COMPANY: _("Company")}
    kinds = list(names)
    at = kinds.index(current.profile.kind) if current is not None else 0
    chosen: ProfileKind = st.radio(
        _("Billing type"),
        kinds,
        index=at,
        format_func=lambda kind: names[kind],
        horizontal=True,
        key=f"{key}-kind",
    )
    return chosen


def _fields(
    choices: ProfileChoices, current: ProfileVersion | None, kind: ProfileKind, key: str
) -> BillingProfile:
    was = current.profile if current is not None else None
    is_company = kind is ProfileKind.COMPANY
    name = st.text_input(
        _("Company name") if is_company else _("Name"),
        was.name if was else "",
        max_chars=LONGEST_NAME,
        key=f"{key}-name",
        autocomplete="organization" if is_company else "name",
    )
    email = st.text_input(
        _("Email for receipts"),
        was.email if was else "",
        max_chars=_LONGEST_EMAIL,
        key=f"{key}-email",
        autocomplete="email",
    )
    address = st.text_input(
        _("Address"),
        was.address if was else "",
        max_chars=LONGEST_ADDRESS,
        key=f"{key}-address",
        autocomplete="street-address",
    )
    city = st.text_input(
        _("City (optional)"),
        (was.city or "") if was else "",
        max_chars=LONGEST_CITY,
        key=f"{key}-city",
        autocomplete="address-level2",
    )
    country = _country(choices, was, key)
    tax_code = st.text_input(
        _("Tax code") if is_company else _("Tax code (optional)"),
        (was.tax_code or "") if was else "",
        max_chars=LONGEST_TAX_CODE,
        key=f"{key}-tax-code",
        autocomplete="off",
    )
    return BillingProfile(
        kind=kind,
        name=name,
        email=email,
        address=address,
        country=country or "",
        city=city or None,
        tax_code=tax_code or None,
    )


def _country(choices: ProfileChoices, was: BillingProfile | None, key: str) -> str | None:
    names = Locale.parse(current_language()).territories
    codes = sorted(choices.countries, key=lambda code: names.get(code, code))
    at = codes.index(was.country) if was and was.country in codes else None
    chosen: str | None = st.selectbox(
        _("Country"),
        codes,
        index=0 if len(codes) == 1 else at,
        format_func=lambda code: names.get(code, code),
        placeholder=_("Choose a country"),
        key=f"{key}-country",
    )
    return chosen


def _currency(choices: ProfileChoices, key: str) -> str | None:
    """Let them choose the currency once, where there is a choice."""
    names = Locale.parse(current_language()).currencies

    def shown(code: str) -> str:
        return f"{code} · {names.get(code, code)}"

    if choices.is_currency_locked:
        st.caption(_("Currency: {name}").format(name=shown(choices.currency)))
        return None
    chosen: str = st.selectbox(
        _("Currency of payments and balance"),
        choices.currencies,
        index=choices.currencies.index(choices.currency),
        format_func=shown,
        key=f"{key}-currency",
    )
    st.caption(_("The currency cannot be changed once this is saved."))
    return chosen


def _save(
    here: Viewing,
    given: BillingProfile,
    currency: str | None,
    current: ProfileVersion | None,
    key: str,
) -> SavedProfile | None:
    faults = profile_faults(given)
    for fault in faults:
        st.error(f"{_field_name(fault.field)}: {words.fault(fault)}", icon=":material/error:")
    if faults or here.account is None:
        return None
    # The same again, by an impatient second click, is the same write.
    once = st.session_state.setdefault(f"{key}-once", {})
    said = repr((given.kind, given.country, currency)) + "".join(
        (given.name, given.email, given.address, given.city or "", given.tax_code or "")
    )
    write_key = once.setdefault(said, uuid.uuid4().hex)
    try:
        saved = backend.write(
            save_profile,
            account_id=here.account.account_id,
            profile=given,
            currency=currency,
            expected_version=current.version if current is not None else 0,
            actor=here.visitor.actor,
            idempotency_key=write_key,
        )
    except BillingError as error:
        st.error(words.refusal(error), icon=":material/error:")
        return None
    st.session_state.pop(f"{key}-once", None)
    return saved


def _field_name(field: str) -> str:
    return {
        "name": _("Name"),
        "email": _("Email"),
        "address": _("Address"),
        "city": _("City"),
        "country": _("Country"),
        "tax_code": _("Tax code"),
        "currency": _("Currency"),
    }.get(field, field)
