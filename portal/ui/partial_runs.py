"""Dialogs and fragments: the parts that Streamlit runs alone, without their page.

The user may have been signed out since, or lost a role, or be another person: such parts keep only
ids, and look up the user at each run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeAlias

import streamlit as st
from streamlit.errors import StreamlitInvalidLayoutContextError

from domain.errors import BillingError
from portal.shell.page_context import PageContext, renew
from portal.ui.i18n import _
from portal.ui.labels import errors as error_labels

if TYPE_CHECKING:
    from datetime import timedelta

P = ParamSpec("P")
Drawing: TypeAlias = Callable[Concatenate[PageContext, P], None]


def dialog(
    title: str,
    *,
    width: Literal["small", "medium", "large"] = "small",
    on_dismiss: Literal["ignore", "rerun"] | Callable[[], None] = "ignore",
) -> Callable[[Drawing[P]], Drawing[P]]:
    """Return a decorator for a dialog's function, which gets the `PageContext` of each run."""
    decorate = _with_current_rights(st.dialog(title, width=width, on_dismiss=on_dismiss))

    def decorated(draw: Drawing[P]) -> Drawing[P]:
        begin = decorate(draw)

        def open_alone(context: PageContext, /, *args: P.args, **kwargs: P.kwargs) -> None:
            try:
                begin(context, *args, **kwargs)
            except StreamlitInvalidLayoutContextError:
                # Two buttons in one message: no browser sends that.
                st.error(
                    _("Another dialog is already open. Close it first."), icon=":material/error:"
                )

        return open_alone

    return decorated


def fragment(*, run_every: float | timedelta | None = None) -> Callable[[Drawing[P]], Drawing[P]]:
    """Return a decorator for a fragment's function, which gets the `PageContext` of each run."""
    return _with_current_rights(st.fragment(run_every=run_every))


def _with_current_rights(
    decorate: Callable[[Callable[..., None]], Callable[..., None]],
) -> Callable[[Drawing[P]], Drawing[P]]:
    def decorated(draw: Drawing[P]) -> Drawing[P]:
        @wraps(draw)
        def run(user_id: int, account_id: int | None, *args: P.args, **kwargs: P.kwargs) -> None:
            try:
                context = renew(user_id, account_id)
                draw(context, *args, **kwargs)
            except BillingError as error:
                st.error(error_labels.text_of(error), icon=":material/error:")

        partial_run = decorate(run)

        def begin(context: PageContext, /, *args: P.args, **kwargs: P.kwargs) -> None:
            account_id = None if context.account is None else context.account.account_id
            partial_run(context.visitor.user_id, account_id, *args, **kwargs)

        return begin

    return decorated
