"""The form of the billing profile: the same in the Add credit dialog and under Settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import streamlit as st
from babel import Locale

from domain.billing_profiles import (
    MAX_ADDRESS_LENGTH,
    MAX_CITY_LENGTH,
    MAX_NAME_LENGTH,
    MAX_TAX_CODE_LENGTH,
    BillingProfile,
    ProfileKind,
    SavedProfile,
    profile_faults,
    save_profile,
)
from domain.errors import BillingError
from portal.runtime import database
from portal.ui import checked, submit_once
from portal.ui.field_errors import FieldErrors
from portal.ui.i18n import _, current_language
from portal.ui.labels import top_up as top_up_labels
from portal.ui.lost_rights import remember_pressed

if TYPE_CHECKING:
    from domain.billing_profiles import ProfileChoices, ProfileVersion
    from portal.shell.page_context import PageContext

SAVE_PROFILE = "save_billing_profile"
_MAX_EMAIL_LENGTH = 254


@dataclass(frozen=True, slots=True)
class _Form:
    """The form's initial values, the place of its errors, and the prefix of its widgets' keys."""

    first: BillingProfile
    errors: FieldErrors
    key: str

    def widget(self, field: str) -> str:
        """Return the key of the field's widget."""
        return f"{self.key}-{field}"


def draw(
    context: PageContext,
    choices: ProfileChoices,
    current: ProfileVersion | None,
    *,
    key: str,
    submit_label: str,
) -> SavedProfile | None:
    """Draw the form, and return the profile saved in this run, or None.

    A first profile begins with the person's values from sign-up.
    """
    kind = _kind(current, key)
    form = _Form(_first(context, choices, current, kind), FieldErrors(), key)
    with st.form(f"{key}-form", border=False):
        given = _fields(choices, form)
        currency = _currency(choices, form)
        form.errors.place_rest()
        is_sent = st.form_submit_button(
            submit_label, type="primary", on_click=remember_pressed, args=(SAVE_PROFILE,)
        )
    return _save(context, given, currency, current, form) if is_sent else None


def _first(
    context: PageContext, choices: ProfileChoices, current: ProfileVersion | None, kind: ProfileKind
) -> BillingProfile:
    if current is not None:
        return replace(current.profile, kind=kind)
    return BillingProfile(
        kind=kind,
        # A person's name is no company's.
        name=context.visitor.display_name if kind is ProfileKind.PERSONAL else "",
        email=context.visitor.email,
        address="",
        country=choices.country or "",
    )


def _kind(current: ProfileVersion | None, key: str) -> ProfileKind:
    """Draw the choice of the kind outside the form, since the form's fields depend on it."""
    names = {ProfileKind.PERSONAL: _("Personal"), ProfileKind.COMPANY: _("Company")}
    kinds = list(names)
    at = kinds.index(current.profile.kind) if current is not None else 0
    chosen: ProfileKind = checked.radio(
        _("Billing type"),
        kinds,
        index=at,
        format_func=lambda kind: names[kind],
        horizontal=True,
        key=f"{key}-kind",
    )
    return chosen


def _fields(choices: ProfileChoices, form: _Form) -> BillingProfile:
    first = form.first
    is_company = first.kind is ProfileKind.COMPANY

    def text(field: str, label: str, value: str | None, maximum: int, autocomplete: str) -> str:
        # Each kind has a name of its own: one is a person's, the other a company's.
        widget = form.widget(f"{first.kind}-{field}" if field == "name" else field)
        typed = st.text_input(
            label, value or "", max_chars=maximum, key=widget, autocomplete=autocomplete
        )
        form.errors.place(field, widget)
        return typed

    name = text(
        "name",
        _("Company name") if is_company else _("Name"),
        first.name,
        MAX_NAME_LENGTH,
        "organization" if is_company else "name",
    )
    email = text("email", _("Email for receipts"), first.email, _MAX_EMAIL_LENGTH, "email")
    address = text("address", _("Address"), first.address, MAX_ADDRESS_LENGTH, "street-address")
    city = text("city", _("City (optional)"), first.city, MAX_CITY_LENGTH, "address-level2")
    country = _country(choices, form)
    tax_label = _("Tax code") if is_company else _("Tax code (optional)")
    tax_code = text("tax_code", tax_label, first.tax_code, MAX_TAX_CODE_LENGTH, "off")
    return BillingProfile(
        kind=first.kind,
        name=name,
        email=email,
        address=address,
        country=country or "",
        city=city or None,
        tax_code=tax_code or None,
    )


def _country(choices: ProfileChoices, form: _Form) -> str | None:
    names = Locale.parse(current_language()).territories
    codes = sorted(choices.countries, key=lambda code: names.get(code, code))
    first = form.first.country
    at = codes.index(first) if first in codes else None
    chosen: str | None = checked.selectbox(
        _("Country"),
        codes,
        index=0 if len(codes) == 1 else at,
        format_func=lambda code: names.get(code, code),
        placeholder=_("Choose a country"),
        key=form.widget("country"),
    )
    form.errors.place("country", form.widget("country"))
    return chosen


def _currency(choices: ProfileChoices, form: _Form) -> str | None:
    """Let them choose the currency once, where there is a choice."""
    names = Locale.parse(current_language()).currencies

    def shown(code: str) -> str:
        return f"{code} · {names.get(code, code)}"

    if choices.is_currency_locked:
        st.caption(_("Currency: {name}").format(name=shown(choices.currency)))
        return None
    chosen: str = checked.selectbox(
        _("Currency of payments and balance"),
        choices.currencies,
        index=choices.currencies.index(choices.currency),
        format_func=shown,
        key=form.widget("currency"),
    )
    form.errors.place("currency", form.widget("currency"))
    st.caption(_("The currency cannot be changed after you save."))
    return chosen


def _save(
    context: PageContext,
    given: BillingProfile,
    currency: str | None,
    current: ProfileVersion | None,
    form: _Form,
) -> SavedProfile | None:
    faults = profile_faults(given)
    form.errors.show({fault.field: top_up_labels.fault(fault) for fault in reversed(faults)})
    if faults or context.account is None:
        return None
    # A second click with the same values reuses the key, so that it saves once.
    content = repr((given.kind, given.country, currency)) + "".join(
        (given.name, given.email, given.address, given.city or "", given.tax_code or "")
    )
    write_key = submit_once.key_for(form.widget("once"), content)
    try:
        saved = database.transaction(
            save_profile,
            account_id=context.account.account_id,
            profile=given,
            currency=currency,
            expected_version=current.version if current is not None else 0,
            actor=context.visitor.actor,
            idempotency_key=write_key,
        )
    except BillingError as error:
        form.errors.show({getattr(error, "field", "form"): top_up_labels.refusal(error)})
        return None
    submit_once.forget(form.widget("once"))
    return saved
