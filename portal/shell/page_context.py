"""The context that every page starts from: the user, the account, the language and time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import streamlit as st

from domain import audit
from domain.ledger.balances import account_summary
from domain.rights import waits_for_role
from domain.validation import whole_number
from portal.runtime import cookies, database, logs
from portal.shell.visitor import require_visitor
from portal.ui import formats, i18n
from portal.ui.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, tzinfo

    from domain.ledger.balances import AccountSummary
    from portal.shell.visitor import Visitor

_LOOKED_AT = "looked_at"


@dataclass(frozen=True, slots=True)
class PageContext:
    """A signed-in user and the account that they view; None where there is no account to see."""

    visitor: Visitor
    account: AccountSummary | None
    zone: tzinfo

    def money(self, micros: int, *, exact: bool = False, signed: bool = False) -> str:
        """Return an amount of the account's currency."""
        if self.account is None:
            raise ValueError("there is no account, and so no currency")
        return formats.money(micros, self.account.currency, exact=exact, signed=signed)

    def date_time(self, moment: datetime) -> str:
        """Return a moment as the viewer's clock shows it."""
        return formats.date_time(moment, self.zone)

    def date(self, moment: datetime) -> str:
        """Return the viewer's day of a moment."""
        return formats.date(moment, self.zone)

    def occurred(self, moment: datetime, *, kind: str, source: str) -> str:
        """Return when an entry of the account happened: a bank transfer's day has no time."""
        if kind == "top_up" and source == "bank" and self.account is not None:
            return formats.date(moment, self.account.zone)
        return self.date_time(moment)

    def draw_zone(self) -> None:
        """Draw, once on a page that shows times, in which zone they are."""
        st.caption(formats.plain(_("Times are in {zone}.").format(zone=self.zone)))

    @property
    def today(self) -> datetime:
        """The present moment on the viewer's clock."""
        return datetime.now(UTC).astimezone(self.zone)


def day_of_sites(zones: Iterable[str]) -> date:
    """Return the latest day that it is now in one of these zones: no charge is of a later one."""
    now = datetime.now(UTC)
    return max(now.astimezone(formats.time_zone(zone)).date() for zone in zones)


def account_or_stop(context: PageContext, *, is_staff_page: bool = False) -> AccountSummary:
    """Return the account to show, or explain how to get one and end the run.

    On a customer's page, staff see a note that it is a customer's, and whose.
    """
    if context.account is None:
        if context.visitor.actor.is_staff:
            st.info(_("Choose an account under Accounts first."), icon=":material/search:")
        elif database.read_snapshot(waits_for_role, context.visitor.user_id):
            st.info(
                _(
                    "Your role is waiting for approval by an administrator. We email you"
                    " once it is approved; then sign in again."
                ),
                icon=":material/hourglass_top:",
            )
        else:
            st.info(
                _("You are not a member of an account yet. Ask an account owner to invite you."),
                icon=":material/group_add:",
            )
        st.stop()
    account = context.account
    if not is_staff_page and context.visitor.actor.reads_as_staff(account.account_id):
        text = _("You are viewing account {id}, {name}, as staff.")
        message = text.format(id=account.account_id, name=account.name)
        st.info(formats.plain(message), icon=":material/visibility:")
    return account


def start() -> PageContext:
    """Sign the user in if needed, set their language, and find the account to show.

    An account named in the address is shown to its members and to staff, and to no one else: the
    query decides, and raises NotFound.
    """
    visitor = require_visitor()
    logs.name_actor(visitor.actor)
    i18n.use(
        i18n.choose_language(
            st.query_params.get("lang"),
            st.context.cookies.to_dict().get(cookies.LANGUAGE),
            visitor.locale or st.context.locale,
        )
    )
    context = _view(visitor, _requested_account(visitor))
    if context.account is not None and visitor.actor.reads_as_staff(context.account.account_id):
        _remember_look(visitor, context.account.account_id)
    return context


def renew(user_id: int, account_id: int | None) -> PageContext:
    """Look up anew the user, their rights, and the account that was drawn for `user_id`.

    If another user has signed in since, the page is drawn for them; a signed-out user is redirected
    to sign-in. Raises NotFound where the account is no longer theirs to see.
    """
    visitor = require_visitor()
    if visitor.user_id != user_id:
        st.rerun()
    return _view(visitor, account_id)


def _view(visitor: Visitor, account_id: int | None) -> PageContext:
    account = None
    if account_id is not None:
        account = database.read_one(account_summary, actor=visitor.actor, account_id=account_id)
    zone = formats.time_zone(visitor.time_zone or st.context.timezone or "UTC")
    return PageContext(visitor, account, zone)


def _requested_account(visitor: Visitor) -> int | None:
    named = st.query_params.get("account")
    if named is not None:
        return whole_number(named)
    looked_at: int | None = st.session_state.get(_LOOKED_AT)
    return visitor.account_id if looked_at is None else looked_at


def _remember_look(visitor: Visitor, account_id: int) -> None:
    """Keep a look of staff in the address, through every page, and in the audit log."""
    if st.session_state.get(_LOOKED_AT) != account_id:
        database.transaction(
            audit.record, action="look_at_account", actor=visitor.actor, account_id=account_id
        )
        st.session_state[_LOOKED_AT] = account_id
    if "account" not in st.query_params:
        st.query_params["account"] = str(account_id)


def look_away() -> None:
    """Forget which account was looked at: the address named one that cannot be seen."""
    st.query_params.clear()
    st.session_state.pop(_LOOKED_AT, None)
