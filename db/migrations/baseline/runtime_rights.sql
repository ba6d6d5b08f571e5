-- What the portal may do besides reading and inserting, which runtime_role.sql gives for all tables.
--
-- In tables of money it may change only the columns that change by design: what a payment is about,
-- whose a code is, and the terms of a grant are as safe there as in an insert-only table.
-- tests/integration/database/test_column_rights.py has the same list.

-- Sites, accounts and people
GRANT UPDATE, DELETE ON sites TO credit_portal_runtime;
GRANT UPDATE (is_closed, version, changed_at, changed_by) ON accounting_periods
TO credit_portal_runtime;
GRANT UPDATE (currency, status, currency_locked_at) ON accounts TO credit_portal_runtime;
GRANT UPDATE (
  balance_micros, held_micros, last_entry_sequence, last_grant_number, last_hold_number,
  last_refusal_number, carries
) ON account_balances TO credit_portal_runtime;
GRANT UPDATE, DELETE ON account_members, account_invitations TO credit_portal_runtime;
GRANT UPDATE, DELETE ON
  users, user_sessions, pending_sign_ins, email_tokens, authenticators, passkeys, recovery_codes,
  used_challenges, throttles
TO credit_portal_runtime;

-- Limits, services and rates
GRANT UPDATE ON top_up_limits TO credit_portal_runtime;
GRANT UPDATE, DELETE ON services TO credit_portal_runtime;
GRANT UPDATE (state, decided_by, decided_at) ON exchange_rates TO credit_portal_runtime;

-- Ledger
GRANT UPDATE (remaining_micros, held_micros, is_open, clawed_back_micros, expired_micros)
ON grant_balances TO credit_portal_runtime;
GRANT UPDATE (due_micros, opened_at) ON debts TO credit_portal_runtime;
GRANT DELETE ON open_holds TO credit_portal_runtime;

-- Payments. Of a payment, `pay_micros` becomes what came, where people accept another amount than
-- was asked for.
GRANT UPDATE (
  state, pay_micros, credit_micros, expires_at, redirect_url, gateway_reference,
  gateway_payment_id, method, code, pay_by, paid_at, credited_at, entry_sequence, grant_number,
  fee_micros, fee_currency, refunded_micros, disputed_micros, has_receipt, next_check_at, checks
) ON payments TO credit_portal_runtime;
GRANT UPDATE (
  state, decided_by, decided_at, decision_reason, return_state, returned_by, returned_at,
  return_reference
) ON payment_reviews TO credit_portal_runtime;
GRANT UPDATE (state, decided_by, decided_at, payment_id) ON bank_transfers
TO credit_portal_runtime;
GRANT UPDATE (
  gateway_refund_id, state, outflow_micros, unapplied_micros, clawed_back_micros, credit_micros,
  settled_at, stated_at, revision, has_credit_note, next_check_at, checks
) ON refunds TO credit_portal_runtime;
GRANT UPDATE (
  state, pay_micros, lost_micros, held_micros, outflow_micros, unapplied_micros,
  clawed_back_micros, credit_micros, reason, respond_by, closed_at, stated_at, revision,
  fee_micros, fee_currency
) ON disputes TO credit_portal_runtime;
GRANT UPDATE (frozen_at, frozen_by, lifted_at) ON account_freezes TO credit_portal_runtime;

-- Keys: what is under one goes with it, and a new secret key wraps them anew
GRANT DELETE ON data_keys TO credit_portal_runtime;
GRANT UPDATE (wrapped_key, wrapped_by) ON data_keys, portal_keys TO credit_portal_runtime;

-- Operations
GRANT UPDATE, DELETE ON job_runs, outbox_messages, export_jobs, uploads, usage_imports
TO credit_portal_runtime;

-- Staff and support
GRANT DELETE ON staff_invitations TO credit_portal_runtime;
GRANT UPDATE (token_digest, invited_by, expires_at, accepted_at, accepted_by, withdrawn_at)
ON staff_invitations TO credit_portal_runtime;
GRANT UPDATE (state, decided_by, decided_at, remark) ON staff_role_requests, approval_requests
TO credit_portal_runtime;
GRANT UPDATE ON action_limits TO credit_portal_runtime;

-- Usage
GRANT DELETE ON usage_keys, total_changes TO credit_portal_runtime;
GRANT UPDATE (amount_micros, entries, calls) ON daily_totals, site_totals
TO credit_portal_runtime;
GRANT UPDATE (quantity) ON daily_quantities TO credit_portal_runtime;

-- Vouchers
GRANT UPDATE (state, codes, decided_by, decided_at, ended_by, ended_at) ON campaigns
TO credit_portal_runtime;
GRANT UPDATE (granted_micros, redemptions) ON campaign_amounts TO credit_portal_runtime;
GRANT UPDATE (uses, revoked_at, revoked_by, revoked_reason) ON voucher_codes
TO credit_portal_runtime;
GRANT DELETE ON account_signals TO credit_portal_runtime;
