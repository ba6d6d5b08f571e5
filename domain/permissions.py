"""Permissions: the one table that every service checks, and that docs/permissions.md is built from.

A letter stands for a role: S support, F finance, A administration; o an account's owner, b its
billing members, r its readers; + the product itself (its jobs, meters and command line). A rule
behind it is checked where its subject is known: `not_own` keeps staff from accounts that they
belong to, `another` requires another person than the requester, and `not_staff` excludes members
who are staff: a person who can have codes created redeems none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain.actors import MemberRole, StaffRole
from domain.errors import NotAuthorised, NotFound

if TYPE_CHECKING:
    from domain.actors import Actor

STAFF_LETTERS = {StaffRole.SUPPORT: "S", StaffRole.FINANCE: "F", StaffRole.ADMIN: "A"}
MEMBER_LETTERS = {MemberRole.OWNER: "o", MemberRole.BILLING: "b", MemberRole.READER: "r"}
SYSTEM_LETTER = "+"
NOT_OWN, ANOTHER, NOT_STAFF = "not_own", "another", "not_staff"


@dataclass(frozen=True, slots=True)
class Permission:
    """An action in plain words, the letters of roles that may do it, and the rules behind it."""

    meaning: str
    letters: str
    rules: tuple[str, ...] = ()


def _table(
    **areas: dict[str, tuple[str, str] | tuple[str, str, str]],
) -> dict[str, dict[str, Permission]]:
    return {
        area: {
            action: Permission(row[0], row[1].replace(" ", ""), tuple(row[2:][0].split()))
            if len(row) > 2  # noqa: PLR2004 - the rules stand third
            else Permission(row[0], row[1].replace(" ", ""))
            for action, row in actions.items()
        }
        for area, actions in areas.items()
    }


PERMISSIONS = _table(
    accounts={
        "see_account": ("See an account: balance, history, usage, payments, files", "SFA obr +"),
        "find_accounts": ("Find any account", "SFA"),
        "see_timeline": ("See the timeline of an account", "SFA"),
        "see_ties": ("See links between accounts", "SFA"),
        "see_people": ("View user names", "SFA"),
        "write_note": ("Add a note to an account", "SFA"),
        "open_account": ("Open an account", "S A +"),
        "add_member": ("Add a member without an invitation", "o +"),
        "manage_members": ("Invite members, change roles, remove members", "A o +"),
        "save_profile": ("Save the billing information", "ob +"),
    },
    payments={
        "pay": ("Quote, create and cancel a payment", "ob +"),
        "ask_gateway": ("Refresh a payment from the gateway", "SFA ob +"),
        "look_up_payments": ("Find payments, see their timelines and review cases", "SFA"),
        "resend_receipt": ("Send a receipt again", "SF"),
        "refund_payment": ("Refund a payment; above a limit with approval", "F", "not_own"),
        "decide_payment": ("Decide on a payment under review", "F", "not_own another"),
        "record_return": ("Record the return of a rejected payment", "F", "not_own"),
        "record_payout": ("Record the payout of a refund", "F", "not_own"),
        "cancel_refund": ("Cancel a refund that was not paid", "F", "not_own"),
        "see_transfers": ("See bank transfers", "SFA"),
        "see_evidence": ("Open the evidence of a bank transfer", "FA"),
        "record_transfer": ("Record a bank transfer", "F", "not_own"),
        "decide_transfer": ("Approve or reject a bank transfer", "F", "not_own another"),
        "issue_documents": ("Issue receipts and credit notes, and cancel notes", "+"),
    },
    rates_and_limits={
        "see_rates": ("See exchange rates", "SFA"),
        "request_rate": ("Request an exchange rate", "FA +"),
        "decide_rate": (
            "Approve or reject an exchange rate; only admins approve a first or far one",
            "FA",
            "another",
        ),
        "load_rate": ("Load a rate delivered with the product", "+"),
        "see_top_up_limits": ("See top-up limits", "SFA +"),
        "change_top_up_limits": ("Change top-up limits", "F"),
        "see_action_limits": ("See approval limits", "SFA"),
        "change_action_limit": ("Change approval limits", "A"),
        "load_reference": ("Load sites, prices and first limits", "F +"),
    },
    vouchers={
        "redeem_code": ("Redeem a voucher code", "ob +", "not_staff"),
        "see_campaigns": ("See campaigns", "SFA"),
        "request_campaign": ("Request a campaign", "F"),
        "decide_campaign": ("Approve or reject a campaign", "F", "another"),
        "end_campaign": ("End a campaign", "F"),
        "see_batches": ("See the batches of codes of a campaign", "FA"),
        "make_codes": ("Generate or import voucher codes", "F"),
        "download_codes": ("Download voucher codes", "F"),
        "revoke_codes": ("Revoke voucher codes", "F"),
    },
    support={
        "act_on_account": (
            "Issue vouchers, apply codes, grant goodwill, reverse entries, within limits",
            "SF",
            "not_own",
        ),
        "see_requests": ("See requests waiting for approval, withdraw own requests", "SFA"),
        "decide_request": ("Approve or reject a request above a limit", "F", "not_own another"),
        "expire_requests": ("Expire undecided requests", "+"),
    },
    ledger={
        "charge": ("Charge usage, hold credit, expire credit", "+"),
        "give_credit": ("Grant voucher or goodwill credit", "SF +", "not_own"),
        "post_paid_credit": ("Post top-up credit", "F +", "not_own"),
        "reverse_entry": (
            "Reverse a charge, or unspent voucher or goodwill credit",
            "SF +",
            "not_own",
        ),
        "reverse_paid_credit": ("Reverse top-up credit, or spent credit", "F +", "not_own"),
        "claw_back_credit": ("Claw back credit for a refund or a dispute", "F +", "not_own"),
        "write_off_debt": ("Write off an amount due", "F +", "not_own"),
        "post_journal_entry": ("Post manually to the journal", "F +"),
        "verify_ledger": ("Recompute the ledger", "SFA +"),
    },
    control={
        "see_analytics": ("See analytics of all accounts", "FA"),
        "see_audit": ("Read and download the audit log", "FA"),
        "verify_audit": ("Verify the audit log", "FA +"),
        "seal_audit": ("Add entries to the hash chain of the audit log", "+"),
        "manage_people": ("Invite staff, change roles, disable people", "A +", "another"),
        "decide_role_request": (
            "Approve or reject a staff change that needs two administrators",
            "A",
            "another",
        ),
        "object_to_role_request": (
            "Object to one's own removal or disabling that needs no second approval",
            "A",
        ),
        "end_role_requests": ("Carry out staff changes after 24 hours, end undecided ones", "+"),
        "create_person": ("Create a user with a confirmed address", "+"),
        "review_access": ("See and download the access review", "FA"),
        "purge_identity": ("Delete expired sessions and links", "A +"),
        "rotate_keys": ("Re-encrypt all keys under a new SECRET_KEY", "+"),
        "run_jobs": ("Run jobs, deliver email, write requested files", "+"),
    },
)
_BY_ACTION = {
    action: permission for area in PERMISSIONS.values() for action, permission in area.items()
}


def allows(actor: Actor, action: str, account_id: int | None = None) -> bool:
    """Return whether the table lets the actor do this, for this account where there is one.

    Raises KeyError for an action that the table does not have.
    """
    permission = _BY_ACTION[action]
    if actor.is_system:
        return SYSTEM_LETTER in permission.letters
    member = None if account_id is None else actor.memberships.get(account_id)
    if member is not None and MEMBER_LETTERS[member] in permission.letters:
        return not (actor.is_staff and NOT_STAFF in permission.rules)
    staff = actor.staff_role
    if staff is None or STAFF_LETTERS[staff] not in permission.letters:
        return False
    return member is None or NOT_OWN not in permission.rules


def allows_role(role: StaffRole, action: str) -> bool:
    """Return whether a staff role may do this at all, before any rules. Raises KeyError."""
    return STAFF_LETTERS[role] in _BY_ACTION[action].letters


def require(actor: Actor, action: str, account_id: int | None = None) -> None:
    """Raise NotAuthorised unless the table allows this action.

    Raises NotFound where the actor may not even see the account, NotAuthorised otherwise.
    """
    if allows(actor, action, account_id):
        return
    if account_id is not None and not allows(actor, "see_account", account_id):
        raise NotFound("account")
    raise NotAuthorised


def require_another(actor: Actor, name: str) -> None:
    """Keep a requester from deciding their own request: `name` is their identifier.

    Raises NotAuthorised.
    """
    if not actor.is_system and name == f"user:{actor.user_id}":
        raise NotAuthorised
