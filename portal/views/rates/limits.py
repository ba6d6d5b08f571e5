"""The least and the most that one top-up may be, and the amounts that are offered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.errors import BillingError, InvalidInput
from domain.money import Money
from domain.payments.top_up_limits import change_limits, list_limits
from domain.permissions import allows
from portal.runtime import database
from portal.ui import checked, formats, submit_once
from portal.ui.i18n import _, current_language
from portal.ui.labels import top_up as top_up_labels

if TYPE_CHECKING:
    from domain.payments.top_up_limits import TopUpLimits
    from portal.shell.page_context import PageContext

_FLASH = "limits_told"
_ONCE = "limits_once"
_MAX_LENGTH = 200


def draw(context: PageContext) -> None:
    """Draw the limits by currency, and the form that changes those of one."""
    if st.session_state.pop(_FLASH, False):
        st.success(_("Top-up limits saved. They apply to new payments."))
    limits = database.read_snapshot(list_limits, actor=context.visitor.actor)
    table = pa.table(
        {
            _("Currency"): [each.currency for each in limits],
            _("Minimum"): [formats.money(each.minimum) for each in limits],
            _("Maximum"): [formats.money(each.maximum) for each in limits],
            _("Presets"): [
                " · ".join(formats.money(amount) for amount in each.presets) for each in limits
            ],
        }
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        column_config={_("Minimum"): right, _("Maximum"): right},
    )
    if not allows(context.visitor.actor, "change_top_up_limits"):
        return
    by_currency = {each.currency: each for each in limits}
    chosen = checked.selectbox(_("Change limits for"), list(by_currency), key="limits_currency")
    if chosen is not None:
        _form(context, by_currency[chosen])


def _form(context: PageContext, limits: TopUpLimits) -> None:
    key = f"limits-{limits.currency}-{limits.version}"
    with st.form(key):
        least = st.text_input(_("Minimum"), _plain(limits.minimum), key=f"{key}-least")
        most = st.text_input(_("Maximum"), _plain(limits.maximum), key=f"{key}-most")
        offered = st.text_input(
            _("Preset amounts, separated by spaces"),
            " ".join(_plain(amount) for amount in limits.presets),
            max_chars=_MAX_LENGTH,
            key=f"{key}-offered",
        )
        is_sent = st.form_submit_button(_("Save"), type="primary")
    if not is_sent:
        return
    content = f"{key}|{least}|{most}|{offered}"
    try:
        database.transaction(
            change_limits,
            currency=limits.currency,
            minimum=_money(least, limits.currency),
            maximum=_money(most, limits.currency),
            presets=tuple(_money(part, limits.currency) for part in offered.split()),
            expected_version=limits.version,
            actor=context.visitor.actor,
            idempotency_key=submit_once.key_for(_ONCE, content),
        )
    except InvalidInput as fault:
        st.error(_fault(fault), icon=":material/error:")
    except BillingError as error:
        st.error(top_up_labels.refusal(error), icon=":material/error:")
    else:
        st.session_state[_FLASH] = True
        st.rerun()


def _plain(amount: Money) -> str:
    return f"{amount.to_decimal().normalize():f}"


def _money(text: str, currency: str) -> Money:
    return Money.parse(text, currency, locale=current_language())


def _fault(fault: InvalidInput) -> str:
    texts = {
        "below_minimum": _("Presets must lie between the minimum and the maximum."),
        "above_maximum": _("The minimum and the presets must be at most the maximum."),
        "not_positive": _("Enter amounts above 0."),
        "too_many": _("Enter fewer presets."),
    }
    return texts.get(fault.reason) or top_up_labels.fault(fault)
