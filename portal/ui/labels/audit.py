"""What the actions of the audit log are called, for people who review what others did."""

from __future__ import annotations

from portal.ui.i18n import N_, _

ACTIONS = {
    # Signing in, and one's own place
    "ask_second_factor": N_("Was prompted for a second factor"),
    "confirm_second_factor": N_("Confirmed a second factor"),
    "sign_in": N_("Signed in"),
    "sign_out": N_("Signed out"),
    "sign_out_everywhere": N_("Signed out everywhere"),
    "sign_up": N_("Signed up"),
    "verify_email": N_("Confirmed an email address"),
    "change_password": N_("Changed the password"),
    "request_password_reset": N_("Requested a password reset"),
    "reset_password": N_("Reset the password"),
    "add_authenticator": N_("Set up an authenticator app"),
    "remove_authenticator": N_("Removed an authenticator app"),
    "add_passkey": N_("Added a passkey"),
    "remove_passkey": N_("Removed a passkey"),
    "replace_recovery_codes": N_("Created new recovery codes"),
    "choose_account": N_("Switched account"),
    "save_preferences": N_("Saved preferences"),
    # Looking, and taking away
    "look_at_account": N_("Viewed a customer's account"),
    "upload_file": N_("Uploaded a file"),
    "download_codes": N_("Downloaded voucher codes"),
    "export_access_review": N_("Downloaded the access review"),
    "export_audit": N_("Downloaded the audit log"),
    "export_history": N_("Exported a credit history"),
    # Accounts and their members
    "open_account": N_("Opened an account"),
    "add_member": N_("Added a member to an account"),
    "invite_member": N_("Invited a member to an account"),
    "resend_invitation": N_("Sent an invitation to an account again"),
    "withdraw_invitation": N_("Withdrew an invitation to an account"),
    "accept_invitation": N_("Accepted an invitation to an account"),
    "change_role": N_("Changed the role of a member of an account"),
    "remove_member": N_("Removed a member of an account"),
    "leave_account": N_("Left an account"),
    "save_billing_profile": N_("Saved billing information"),
    "lock_currency": N_("Chose the currency of an account"),
    "add_note": N_("Added a note to an account"),
    "freeze": N_("Froze an account"),
    "thaw": N_("Unfroze an account"),
    # Payments
    "start_payment": N_("Created a payment"),
    "resend_receipt": N_("Sent a receipt again"),
    "record_transfer": N_("Recorded a bank transfer"),
    "approved_transfer": N_("Approved a bank transfer"),
    "rejected_transfer": N_("Rejected a bank transfer"),
    "acceptance_requested": N_("Requested approval of a payment under review"),
    "acceptance_approved": N_("Approved a payment under review"),
    "rejected_by_staff": N_("Rejected a payment under review"),
    "discrepancy_reviewed": N_("Reviewed a payment discrepancy with the gateway"),
    "refund_payment": N_("Refunded a payment"),
    "record_payout": N_("Recorded a payout"),
    "cancel_refund": N_("Cancelled a refund"),
    "record_return": N_("Recorded a returned payment"),
    "request_rate": N_("Requested an exchange rate"),
    "approved_rate": N_("Approved an exchange rate"),
    "rejected_rate": N_("Rejected an exchange rate"),
    "change_limits": N_("Changed the top-up limits"),
    # Credit
    "redeem_voucher": N_("Redeemed a voucher code"),
    "issue_voucher": N_("Issued a voucher"),
    "apply_code": N_("Applied a voucher code to an account"),
    "give_goodwill": N_("Granted goodwill credit"),
    "reverse_entry": N_("Reversed an entry"),
    "write_off_debt": N_("Wrote off an amount due"),
    "post_journal_entry": N_("Posted to the journal"),
    "request_approval": N_("Requested approval above a limit"),
    "approved_request": N_("Approved a request above a limit"),
    "rejected_request": N_("Rejected a request above a limit"),
    "withdrawn_request": N_("Withdrew a request above a limit"),
    "expired_request": N_("Expired a request above a limit"),
    "change_action_limit": N_("Changed an approval limit"),
    # Campaigns
    "request_campaign": N_("Requested a campaign"),
    "decide_campaign": N_("Approved or rejected a campaign"),
    "end_campaign": N_("Ended a campaign"),
    "add_codes": N_("Generated or imported voucher codes"),
    "revoke_codes": N_("Revoked voucher codes"),
    # Staff
    "create_user": N_("Created a user"),
    "change_staff_role": N_("Changed a staff role"),
    "disable_user": N_("Disabled a user"),
    "enable_user": N_("Enabled a user"),
    "invite_staff": N_("Invited a colleague"),
    "resend_staff_invitation": N_("Sent a colleague's invitation again"),
    "withdraw_staff_invitation": N_("Withdrew a colleague's invitation"),
    "accept_staff_invitation": N_("Accepted a staff invitation"),
    "end_sessions": N_("Signed a user out everywhere"),
    "reset_second_factors": N_("Reset a user's second factors"),
    "request_role_change": N_("Requested a staff change"),
    "apply_role_change": N_("Approved a staff change"),
    "reject_role_change": N_("Rejected a staff change"),
    "withdraw_role_change": N_("Withdrew a requested staff change"),
    "object_to_role_change": N_("Objected to a change of their own role or access"),
    "lapse_role_change": N_("Closed a requested staff change that no longer applied"),
}
"""What somebody did, by the action that the log keeps of it."""


def action_words(action: str) -> str:
    """Return what an action is called; one without words, such as of a job, by its parts."""
    if action in ACTIONS:
        return _(ACTIONS[action])
    return action.replace("_", " ").capitalize()
