"""What staff do for customers: acts on an account's credit, the second person, limits and notes."""

from domain.support.actions import (
    REQUEST_LIFETIME,
    CompletedAction,
    PendingApproval,
    approve_request,
    expire_requests,
    perform_or_request,
    reject_request,
    withdraw_request,
)
from domain.support.allowances import Allowance, get_allowance, list_request_allowances
from domain.support.limits import (
    MAKER_ROLES,
    Limit,
    change_action_limit,
    get_maker_roles,
    list_action_limits,
    load_action_limits,
)
from domain.support.notes import MAX_NOTE_LENGTH, add_note
from domain.support.previews import Preview, Standing, preview_action
from domain.support.staff_actions import (
    MAX_GOODWILL_DAYS,
    REVERSIBLE_CREDITS,
    STAFF_ACTIONS,
    ApplyCode,
    GiveGoodwill,
    IssueVoucher,
    RefundPayment,
    ReverseEntry,
    StaffAction,
)

__all__ = [
    "MAKER_ROLES",
    "MAX_GOODWILL_DAYS",
    "MAX_NOTE_LENGTH",
    "REQUEST_LIFETIME",
    "REVERSIBLE_CREDITS",
    "STAFF_ACTIONS",
    "Allowance",
    "ApplyCode",
    "CompletedAction",
    "GiveGoodwill",
    "IssueVoucher",
    "Limit",
    "PendingApproval",
    "Preview",
    "RefundPayment",
    "ReverseEntry",
    "StaffAction",
    "Standing",
    "add_note",
    "approve_request",
    "change_action_limit",
    "expire_requests",
    "get_allowance",
    "get_maker_roles",
    "list_action_limits",
    "list_request_allowances",
    "load_action_limits",
    "perform_or_request",
    "preview_action",
    "reject_request",
    "withdraw_request",
]
