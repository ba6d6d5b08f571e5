"""How much one person may do alone, by act, role and currency. Administrators edit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.errors import BillingError
from domain.money import Money
from domain.permissions import allows
from domain.support import MAKER_ROLES, change_action_limit, get_maker_roles, list_action_limits
from portal.runtime import database
from portal.ui import checked, flash, formats, submit_once
from portal.ui.i18n import _, current_language
from portal.ui.labels import support as support_labels
from portal.ui.labels.roles import staff_role_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from domain.actors import StaffRole
    from domain.support import Limit
    from portal.shell.page_context import PageContext

_PLACE = "action_limits"
_ONCE = "action_limits_once"
_MAX_AMOUNT_LENGTH = 40


def draw(context: PageContext) -> None:
    """Draw the limits of a currency and, for administrators, the form that changes one."""
    limits = database.read_snapshot(list_action_limits, actor=context.visitor.actor)
    text = _(
        "Limit per person and account in 24 hours. Larger amounts need approval by a finance"
        " member. Refund limits count all accounts, in the currency paid."
    )
    st.caption(text)
    currencies = sorted({each.daily.currency for each in limits})
    if not currencies:
        st.info(
            _("No limits yet. Every action needs approval by a second person."),
            icon=":material/info:",
        )
        return
    currency = checked.selectbox(_("Currency"), currencies, key="limits_of", width=200)
    of_currency = {
        (each.action, each.role): each for each in limits if each.daily.currency == currency
    }
    _table(of_currency, currency)
    if allows(context.visitor.actor, "change_action_limit"):
        _form(context, of_currency, currency)
        flash.show(_PLACE)
    else:
        st.caption(_("Only administrators change limits."))


def _table(limits: Mapping[tuple[str, StaffRole], Limit], currency: str) -> None:
    none = Money(0, currency)
    columns = {_("Actions"): [_(name) for name in support_labels.LIMITED_ACTIONS.values()]}
    for role in MAKER_ROLES:
        columns[staff_role_name(role)] = [
            _shown(limits.get((action, role)), none) if role in get_maker_roles(action) else ""
            for action in support_labels.LIMITED_ACTIONS
        ]
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        pa.table(columns),
        hide_index=True,
        height="content",
        key="limits",
        column_config={staff_role_name(role): right for role in MAKER_ROLES},
    )


def _shown(limit: Limit | None, none: Money) -> str:
    return formats.money(none if limit is None else limit.daily)


def _form(
    context: PageContext, limits: Mapping[tuple[str, StaffRole], Limit], currency: str
) -> None:
    st.subheader(_("Change a limit"))
    with st.grid(columns=2, min_column_width=200):
        action = checked.selectbox(
            _("Actions"),
            list(support_labels.LIMITED_ACTIONS),
            format_func=support_labels.action,
            key="limit_action",
        )
        roles = get_maker_roles(action)
        role = checked.selectbox(
            _("Role"), roles, format_func=staff_role_name, key=f"limit_role-{len(roles)}"
        )
    current = limits.get((action, role))
    version = 0 if current is None else current.version
    key = f"limit-{currency}-{action}-{role}-{version}"
    with st.form(key, border=False):
        shown = "0" if current is None else f"{current.daily.to_decimal().normalize():f}"
        typed = st.text_input(
            _("Amount in {currency}").format(currency=currency),
            shown,
            max_chars=_MAX_AMOUNT_LENGTH,
            key=f"{key}-amount",
        )
        is_sent = st.form_submit_button(_("Save"), type="primary")
    if not is_sent:
        return
    try:
        daily = Money.parse(typed, currency, locale=current_language())
        database.transaction(
            change_action_limit,
            action=action,
            role=role,
            daily=daily,
            expected_version=version,
            actor=context.visitor.actor,
            idempotency_key=submit_once.key_for(_ONCE, f"{key}|{typed}"),
        )
    except BillingError as error:
        flash.leave(_PLACE, support_labels.refusal(context, error, currency), is_good=False)
    else:
        text = _("Limit saved. {action}, {role}: up to {amount}.")
        flash.leave(
            _PLACE,
            text.format(
                action=support_labels.action(action),
                role=staff_role_name(role),
                amount=formats.money(daily),
            ),
        )
