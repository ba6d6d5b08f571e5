"""Who may do what: the one table that every service asks, and docs/permissions.md is made of.

A letter stands for a role: S support, F finance, A administration; o an account's owner, b its
billing members, r its readers; + the product itself (its jobs, meters and command line). A rule
behind it is checked where its subject is known: `not_own` keeps staff from accounts that they
belong to, `another` wants another person than whoever asked, and `not_staff` keeps out members who
work here: whoever can have codes made redeems none.
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
    """An action in plain words, the letters of who may do it, and the rules behind it."""

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
        "see_timeline": ("See everything that happened to an account", "SFA"),
        "see_ties": ("See what ties accounts together", "SFA"),
        "see_people": ("See what people are called", "SFA"),
        "write_note": ("Write a note about an account", "SFA"),
        "open_account": ("Open an account", "S A +"),
        "add_member": ("Make somebody a member at once", "o +"),
        "manage_members": ("Invite, change roles, remove", "A o +"),
        "save_profile": ("Save the billing information", "ob +"),
    },
    payments={
        "pay": ("Quote, begin, and give up a payment", "ob +"),
        "ask_gateway": ("Ask the gateway how a payment stands", "SFA ob +"),
        "look_up_payments": ("Find payments, see their timelines and doubts", "SFA"),
        "resend_receipt": ("Send a receipt again", "SF"),
        "refund_payment": ("Refund a payment, above a limit with another person", "F", "not_own"),
        "decide_payment": ("Decide about money under review", "F", "not_own another"),
        "record_return": ("Record that rejected money went back", "F", "not_own"),
        "record_payout": ("Record that finance paid a refund itself", "F", "not_own"),
        "cancel_refund": ("Cancel a refund that was not paid", "F", "not_own"),
        "see_transfers": ("See bank transfers", "SFA"),
        "see_evidence": ("Open the evidence of a transfer", "FA"),
        "record_transfer": ("Record a bank transfer", "F", "not_own"),
        "decide_transfer": ("Approve or reject a bank transfer", "F", "not_own another"),
        "issue_documents": ("Issue receipts and credit notes, and cancel notes", "+"),
    },
    rates_and_limits={
        "see_rates": ("See exchange rates", "SFA"),
        "request_rate": ("Request an exchange rate", "FA +"),
        "decide_rate": (
            "Approve or reject an exchange rate; approve a first or far one: admin alone",
            "FA",
            "another",
        ),
        "load_rate": ("Put in force a rate that comes with the product", "+"),
        "see_top_up_limits": ("See the limits of top-ups", "SFA +"),
        "change_top_up_limits": ("Change the limits of top-ups", "F"),
        "see_action_limits": ("See what one person may do alone", "SFA"),
        "change_action_limit": ("Change what one person may do alone", "A"),
        "load_reference": ("Load sites, prices and first limits", "F +"),
    },
    vouchers={
        "redeem_code": ("Redeem a code", "ob +", "not_staff"),
        "see_campaigns": ("See campaigns", "SFA"),
        "request_campaign": ("Request a campaign", "F"),
        "decide_campaign": ("Approve or reject a campaign", "F", "another"),
        "end_campaign": ("End a campaign", "F"),
        "see_batches": ("See how many codes a campaign has, and can be revoked", "FA"),
        "make_codes": ("Make codes, or bring them in", "F"),
        "download_codes": ("Take codes away in full", "F"),
        "revoke_codes": ("Revoke codes", "F"),
    },
    support={
        "act_on_account": (
            "Issue a voucher, apply a code, give goodwill, reverse an entry, within limits",
            "SF",
            "not_own",
        ),
        "see_requests": ("See what waits for a second person, and withdraw one's own", "SFA"),
        "decide_request": ("Approve or reject what is above a limit", "F", "not_own another"),
        "expire_requests": ("End requests that nobody decided", "+"),
    },
    ledger={
        "charge": ("Charge usage, hold credit, let it expire", "+"),
        "give_credit": ("Give credit that nobody paid for", "SF +", "not_own"),
        "post_paid_credit": ("Post credit that was paid for", "F +", "not_own"),
        "reverse_entry": ("Reverse a charge, or unspent credit nobody paid for", "SF +", "not_own"),
        "reverse_paid_credit": ("Reverse paid credit, or credit that was spent", "F +", "not_own"),
        "take_back_credit": ("Take back credit for a refund or a dispute", "F +", "not_own"),
        "write_off_debt": ("Write off debt", "F +", "not_own"),
        "post_finance_entries": ("Post to the journal by hand", "F +"),
        "verify_ledger": ("Recompute the ledger", "SFA +"),
    },
    control={
        "see_analytics": ("See the figures of all accounts", "FA"),
        "see_audit": ("Read the audit log and take it away", "FA"),
        "verify_audit": ("Prove the audit log", "FA +"),
        "seal_audit": ("Seal the audit log", "+"),
        "manage_people": ("Hire, change roles of staff, disable people", "A +", "another"),
        "decide_role_request": (
            "Approve or reject a change that takes two administrators",
            "A",
            "another",
        ),
        "object_to_role_request": (
            "Object to one's own removal or disabling that needs no second approval",
            "A",
        ),
        "end_role_requests": ("Carry out staff changes after 24 hours, end undecided ones", "+"),
        "create_person": ("Create a person whose address needs no proof", "+"),
        "review_access": ("See and take away who may do what", "FA"),
        "purge_identity": ("Forget ended sessions and links", "A +"),
        "rotate_keys": ("Bring all keys under a new SECRET_KEY", "+"),
        "run_jobs": ("Run jobs, deliver mail, write files that were requested", "+"),
    },
)
_BY_ACTION = {
    action: permission for area in PERMISSIONS.values() for action, permission in area.items()
}


def allows(actor: Actor, action: str, account_id: int | None = None) -> bool:
    """Whether the table lets the actor do this, for this account where there is one.

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
    """Whether a staff role may do this at all, whatever rules stand behind it. Raises KeyError."""
    return STAFF_LETTERS[role] in _BY_ACTION[action].letters


def require(actor: Actor, action: str, account_id: int | None = None) -> None:
    """Let the actor pass if the table does.

    Raises NotFound where the actor may not even see the account, NotAuthorised otherwise.
    """
    if allows(actor, action, account_id):
        return
    if account_id is not None and not allows(actor, "see_account", account_id):
        raise NotFound("account")
    raise NotAuthorised


def require_another(actor: Actor, name: str) -> None:
    """Stop whoever asked from deciding about it: `name` is theirs, as facts name people.

    Raises NotAuthorised.
    """
    if not actor.is_system and name == f"user:{actor.user_id}":
        raise NotAuthorised
