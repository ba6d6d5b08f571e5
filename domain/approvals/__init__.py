"""Maker-checker: what one person requests, another one approves or rejects.

Bank transfers, exchange rates, campaigns, payments under review, actions of staff and changes of
roles share these rules: who requested does not decide, the first decision stands, and the same
decision by the same person again changes nothing. What a decision does is up to each of them.
"""

from domain.approvals.decisions import (
    ApprovalState,
    check_open,
    decision_state,
    is_new_decision,
    record_decision,
)

__all__ = [
    "ApprovalState",
    "check_open",
    "decision_state",
    "is_new_decision",
    "record_decision",
]
