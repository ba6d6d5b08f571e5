"""Payments, refunds, disputes and reviews against the payment's timeline, which only grows."""

from __future__ import annotations

TIMELINE: dict[str, str] = {
    # Each payment began once: by a customer, or by the approval of a bank transfer.
    "payment_began": """
SELECT coalesce(p.account_id, t.account_id), 'payment ' || coalesce(p.id, t.payment_id),
  concat_ws(' ', t.by, t.gateway, t.consent), concat_ws(' ', p.created_by, p.gateway,
  p.consent_version)
FROM (SELECT * FROM payments p WHERE ACCOUNTS(p)) p
FULL JOIN (
  SELECT account_id, payment_id,
    CASE kind WHEN 'created' THEN actor ELSE details ->> 'requested_by' END AS by,
    CASE kind WHEN 'created' THEN details ->> 'gateway' ELSE 'bank' END AS gateway,
    CASE kind WHEN 'created' THEN details ->> 'consent' ELSE '' END AS consent
  FROM payment_events t WHERE ACCOUNTS(t) AND kind IN ('created', 'approved_transfer')
) t ON t.payment_id = p.id
WHERE (p.account_id, p.created_by, p.gateway, p.consent_version)
  IS DISTINCT FROM (t.account_id, t.by, t.gateway, t.consent)
""",
    # Where a payment stands, a step brought it.
    "payment_state": """
SELECT p.account_id, 'payment ' || p.id, 'a step that brought it', concat_ws(' ', p.state, p.code)
FROM payments p
LEFT JOIN (
  SELECT payment_id, array_agg(DISTINCT kind) AS kinds,
    array_agg(details ->> 'entry') FILTER (WHERE kind = 'succeeded') AS entries
  FROM payment_events t WHERE ACCOUNTS(t) GROUP BY 1
) t ON t.payment_id = p.id
WHERE ACCOUNTS(p) AND CASE p.state
  WHEN 'succeeded' THEN t.entries = ARRAY[p.entry_sequence::text]
  WHEN 'failed' THEN CASE p.code WHEN 'rejected_by_staff'
    THEN 'rejected_by_staff' = ANY (t.kinds) ELSE 'failed' = ANY (t.kinds) END
  WHEN 'under_review' THEN p.code = ANY (t.kinds)
  WHEN 'created' THEN NOT t.kinds && ARRAY['opened', 'failed', 'cancelled', 'expired']
  WHEN 'pending' THEN 'opened' = ANY (t.kinds)
  ELSE p.state = ANY (t.kinds) END IS NOT TRUE
  OR ACCOUNTS(p) AND p.state <> 'succeeded' AND 'succeeded' = ANY (t.kinds)
  OR ACCOUNTS(p) AND (p.redirect_url IS NOT NULL) <> ('opened' = ANY (t.kinds))
""",
    "refund_steps": """
SELECT coalesce(r.account_id, t.account_id), 'refund ' || coalesce(r.id::text, t.refund),
  concat_ws(' ', t.actor, t.amount, t.currency, t.state),
  concat_ws(' ', r.requested_by, r.pay_micros, p.pay_currency, r.state)
FROM (SELECT * FROM refunds r WHERE ACCOUNTS(r)) r
JOIN payments p ON p.id = r.payment_id
FULL JOIN (
  SELECT account_id, payment_id, details ->> 'refund' AS refund,
    max(actor) FILTER (WHERE kind = 'refund_requested') AS actor,
    max(details #>> '{amount,0}') FILTER (WHERE kind = 'refund_requested') AS amount,
    max(details #>> '{amount,1}') FILTER (WHERE kind = 'refund_requested') AS currency,
    (array_agg(coalesce(nullif(substr(kind, 8), 'requested'), details ->> 'state')
      ORDER BY id DESC))[1] AS state
  FROM payment_events t
  WHERE ACCOUNTS(t)
    AND kind IN ('refund_requested', 'refund_pending', 'refund_succeeded', 'refund_failed')
  GROUP BY 1, 2, 3
) t ON t.payment_id = r.payment_id AND t.refund = r.id::text
WHERE (r.account_id, r.requested_by, r.pay_micros::text, p.pay_currency) IS DISTINCT FROM
    (t.account_id, t.actor, t.amount, t.currency)
  OR r.state <> t.state AND NOT (r.state = 'merged' AND r.is_reversal)
""",
    "dispute_steps": """
SELECT coalesce(d.account_id, t.account_id), 'dispute ' || coalesce(d.id::text, t.dispute),
  concat_ws(' ', t.state, t.amount, t.currency),
  concat_ws(' ', d.state, coalesce(nullif(d.lost_micros, 0), d.pay_micros), p.pay_currency)
FROM (SELECT * FROM disputes d WHERE ACCOUNTS(d)) d
JOIN payments p ON p.id = d.payment_id
FULL JOIN (
  SELECT DISTINCT ON (payment_id, details ->> 'dispute') account_id, payment_id,
    details ->> 'dispute' AS dispute, details #>> '{amount,0}' AS amount,
    details #>> '{amount,1}' AS currency,
    CASE kind WHEN 'dispute_lost' THEN 'lost' WHEN 'dispute_won' THEN 'won' ELSE 'open' END AS state
  FROM payment_events t
  WHERE ACCOUNTS(t) AND kind IN ('dispute_opened', 'dispute_changed', 'dispute_reopened',
    'dispute_lost', 'dispute_won')
  ORDER BY payment_id, details ->> 'dispute', id DESC
) t ON t.payment_id = d.payment_id AND t.dispute = d.id::text
WHERE (d.account_id, d.state, coalesce(nullif(d.lost_micros, 0), d.pay_micros)::text,
    p.pay_currency)
  IS DISTINCT FROM (t.account_id, t.state, t.amount, t.currency)
""",
    "review_steps": """
SELECT v.account_id, 'review ' || v.id,
  concat_ws(' ', t.requested_by, t.decision, t.decided_by, t.returned_by),
  concat_ws(' ', v.requested_by, v.state, v.decided_by, v.returned_by)
FROM payment_reviews v
LEFT JOIN (
  SELECT payment_id, details ->> 'review' AS review,
    max(actor) FILTER (WHERE kind = 'acceptance_requested') AS requested_by,
    max(actor) FILTER (
      WHERE kind IN ('acceptance_approved', 'rejected_by_staff', 'discrepancy_reviewed')
    ) AS decided_by,
    max(CASE kind WHEN 'acceptance_approved' THEN 'approved'
      WHEN 'rejected_by_staff' THEN 'rejected'
      WHEN 'discrepancy_reviewed' THEN 'reviewed' END) AS decision,
    max(actor) FILTER (WHERE kind IN ('money_returned', 'money_not_received')) AS returned_by
  FROM payment_events t WHERE ACCOUNTS(t) AND details ? 'review' GROUP BY 1, 2
) t ON t.payment_id = v.payment_id AND t.review = v.id::text
WHERE ACCOUNTS(v) AND (
  v.requested_by IS DISTINCT FROM t.requested_by OR v.returned_by IS DISTINCT FROM t.returned_by
  OR v.state <> coalesce(t.decision, CASE WHEN v.decided_by IS NULL THEN 'requested'
    ELSE 'rejected' END)
  OR v.decided_by IS DISTINCT FROM coalesce(t.decided_by,
    CASE WHEN v.decision_reason IN ('refunded_at_gateway', 'not_received', 'return_failed')
      THEN 'system:gateways' END))
""",
    "review_of_step": """
SELECT t.account_id, 'payment ' || t.payment_id, 'review ' || (t.details ->> 'review'), NULL
FROM payment_events t
LEFT JOIN payment_reviews v ON v.payment_id = t.payment_id
  AND v.id::text = t.details ->> 'review'
WHERE ACCOUNTS(t) AND v.id IS NULL AND t.kind IN ('acceptance_requested', 'acceptance_approved',
  'rejected_by_staff', 'discrepancy_reviewed', 'money_returned', 'money_not_received')
""",
}
