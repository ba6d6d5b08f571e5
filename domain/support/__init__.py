"""What staff do for customers: acts on an account's credit, the second person, limits and notes."""

from domain.support.actions import (
    REQUEST_LIFETIME,
    Done,
    Waiting,
    act,
    approve_request,
    expire_requests,
    refuse_request,
    withdraw_request,
)
from domain.support.limits import (
    MAKER_ROLES,
    Limit,
    change_action_limit,
    get_maker_roles,
    list_action_limits,
    load_action_limits,
)
from domain.support.notes import LONGEST_NOTE, add_note
from domain.support.previews import Preview, Standing, preview_act
from domain.support.wishes import (
    LONGEST_GOODWILL_DAYS,
    REVERSIBLE_CREDITS,
    WISHES,
    ApplyCode,
    GiveGoodwill,
    IssueVoucher,
    RefundPayment,
    ReverseEntry,
    Wish,
)

__all__ = [
    "LONGEST_GOODWILL_DAYS",
    "LONGEST_NOTE",
    "MAKER_ROLES",
    "REQUEST_LIFETIME",
    "REVERSIBLE_CREDITS",
    "WISHES",
    "ApplyCode",
    "Done",
    "GiveGoodwill",
    "IssueVoucher",
    "Limit",
    "Preview",
    "RefundPayment",
    "ReverseEntry",
    "Standing",
    "Waiting",
    "Wish",
    "act",
    "add_note",
    "approve_request",
    "change_action_limit",
    "expire_requests",
    "get_maker_roles",
    "list_action_limits",
    "load_action_limits",
    "preview_act",
    "refuse_request",
    "withdraw_request",
]
