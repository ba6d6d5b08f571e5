"""What staff did to credit, who agreed to it, and why an account is frozen."""

from __future__ import annotations

STAFF: dict[str, str] = {
    "staff_act": """
SELECT s.account_id, 'act ' || s.id,
  concat_ws(' ', s.action, s.amount_micros, c.currency, s.maker, s.checker),
  concat_ws(' ', e.kinds, e.amount, s.currency, coalesce(r.requested_by, e.actor), r.decided_by)
FROM staff_acts s
JOIN accounts c ON c.id = s.account_id
LEFT JOIN approval_requests r ON r.id = s.request_id
LEFT JOIN refunds f ON f.id = s.refund_id
LEFT JOIN payments p ON p.id = f.payment_id
CROSS JOIN LATERAL (
  SELECT string_agg(DISTINCT e.kind, ', ') AS kinds, abs(sum(e.amount_micros)) AS amount,
    count(*) AS entries, min(e.actor) AS actor
  FROM entries e WHERE e.account_id = s.account_id AND e.account_sequence = ANY (s.entries)
) e
WHERE ACCOUNTS(s) AND (
  s.currency <> coalesce(p.pay_currency, c.currency) OR e.entries <> cardinality(s.entries)
  OR e.kinds <> CASE s.action WHEN 'give_goodwill' THEN 'adjustment'
    WHEN 'reverse_entry' THEN 'reversal' WHEN 'apply_code' THEN 'voucher'
    WHEN 'refund_payment' THEN 'refund' ELSE '' END
  OR e.entries = 0 AND s.action IN ('give_goodwill', 'reverse_entry', 'apply_code')
  OR s.action <> 'refund_payment' AND e.amount <> s.amount_micros
  OR (s.action = 'refund_payment') <> (s.refund_id IS NOT NULL)
  OR s.refund_id IS NOT NULL AND (f.account_id, f.pay_micros, f.requested_by, f.reason)
    IS DISTINCT FROM (s.account_id, s.amount_micros, s.maker, s.reason)
  OR s.action IN ('give_goodwill', 'reverse_entry') AND e.actor <> s.maker
  OR (s.code IS NOT NULL) <> (s.action IN ('issue_voucher', 'apply_code'))
  OR s.request_id IS NOT NULL AND (r.state, r.action, r.account_id, r.currency, r.amount_micros,
    r.requested_by, r.decided_by, r.reason) IS DISTINCT FROM ('approved', s.action, s.account_id,
    s.currency, s.amount_micros, s.maker, s.checker, s.reason))
""",
    "staff_act_code": """
SELECT s.account_id, 'act ' || s.id, 'a code of the account, worth ' || s.amount_micros,
  concat_ws(' ', v.account_id, a.amount_micros)
FROM staff_acts s
LEFT JOIN voucher_codes v ON v.code = s.code
LEFT JOIN campaign_amounts a ON a.campaign_id = v.campaign_id AND a.currency = s.currency
WHERE ACCOUNTS(s) AND s.code IS NOT NULL AND (
  a.amount_micros IS DISTINCT FROM s.amount_micros OR v.account_id <> s.account_id
  OR s.action = 'issue_voucher' AND v.account_id IS NULL)
""",
    "approved_request": """
SELECT r.account_id, 'request ' || r.id, r.state, CASE WHEN s.id IS NULL THEN 'not ' END || 'done'
FROM approval_requests r
JOIN accounts c ON c.id = r.account_id
LEFT JOIN staff_acts s ON s.request_id = r.id
WHERE ACCOUNTS(r) AND (
  r.currency IS DISTINCT FROM CASE r.action
    WHEN 'refund_payment' THEN r.parameters ->> 'currency' ELSE c.currency END OR
  (r.state = 'approved') <> (s.id IS NOT NULL)
  OR r.parameters ->> 'amount_micros' <> r.amount_micros::text
  OR r.state = 'approved' AND s.acted_at > r.expires_at)
""",
    "hand_made_entry": """
SELECT e.account_id, 'entry ' || e.account_sequence, '1 act of ' || e.actor, count(s.id)::text
FROM entries e
LEFT JOIN staff_acts s ON s.account_id = e.account_id AND e.account_sequence = ANY (s.entries)
WHERE ACCOUNTS(e) AND e.kind = 'adjustment' AND e.actor LIKE 'user:%'
GROUP BY e.account_id, e.account_sequence, e.actor HAVING count(s.id) <> 1
""",
    "act_key": """
SELECT coalesce(s.account_id, k.account_id), coalesce('act ' || s.id, 'key ' || k.key), s.id::text,
  k.act
FROM (SELECT * FROM staff_acts s WHERE ACCOUNTS(s) AND request_id IS NULL) s
FULL JOIN (
  SELECT account_id, key, answer ->> 'act' AS act FROM idempotency_keys k
  WHERE ACCOUNTS(k) AND operation = 'act' AND answer ? 'act'
) k ON k.account_id = s.account_id AND k.act = s.id::text
WHERE s.id IS NULL OR k.account_id IS NULL
""",
    "request_key": """
SELECT coalesce(r.account_id, k.account_id), coalesce('request ' || r.id, 'key ' || k.key),
  r.id::text, k.request
FROM (SELECT * FROM approval_requests r WHERE ACCOUNTS(r)) r
FULL JOIN (
  SELECT account_id, key, answer ->> 'request' AS request FROM idempotency_keys k
  WHERE ACCOUNTS(k) AND operation = 'act' AND answer ? 'request'
) k ON k.account_id = r.account_id AND k.request = r.id::text
WHERE r.id IS NULL OR k.account_id IS NULL
""",
    "undecided": """
SELECT x.account_id, x.name || ' ' || x.id, 'decided by nobody', x.decided_by
FROM (
  SELECT account_id, id, 'request' AS name, decided_by FROM approval_requests
  WHERE state = 'requested'
  UNION ALL
  SELECT account_id, id, 'transfer', decided_by FROM bank_transfers WHERE state = 'requested'
  UNION ALL
  SELECT NULL, id, 'rate', decided_by FROM exchange_rates WHERE state = 'requested'
  UNION ALL
  SELECT NULL, id, 'campaign', decided_by FROM campaigns WHERE state = 'requested'
  UNION ALL
  SELECT NULL, id, 'end of campaign', ended_by FROM campaigns WHERE state <> 'ended'
) x
WHERE (EVERYTHING OR ACCOUNTS(x)) AND x.decided_by IS NOT NULL
""",
    "frozen": """
SELECT c.id, 'status', CASE WHEN f.causes > 0 THEN 'frozen' ELSE 'active' END, c.status
FROM (SELECT id, id AS account_id, status FROM accounts) c
LEFT JOIN (
  SELECT account_id, count(*) AS causes FROM account_freezes f
  WHERE ACCOUNTS(f) AND lifted_at IS NULL GROUP BY 1
) f ON f.account_id = c.id
WHERE ACCOUNTS(c) AND c.status <> 'closed' AND (c.status = 'frozen') <> (coalesce(f.causes, 0) > 0)
""",
}
