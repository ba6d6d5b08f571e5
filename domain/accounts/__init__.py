"""Customers' accounts: how they are opened, and who belongs to them."""

from domain.accounts.opening import add_member, memberships, open_account, refuse_staff

__all__ = ["add_member", "memberships", "open_account", "refuse_staff"]
