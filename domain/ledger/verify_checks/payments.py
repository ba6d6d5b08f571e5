"""Payments: what is paid and credited, by whom it was decided, and the documents about it."""

from __future__ import annotations

PAYMENTS: dict[str, str] = {
    # Without a quote as much is credited as is paid. People may accept another amount than was
    # asked for, at the payment's own price.
    "payment_price": """
SELECT p.account_id, 'payment ' || p.id,
  concat_ws(' ', x.pay, x.pay_currency, 'for', x.credit, c.currency),
  concat_ws(' ', p.pay_micros, p.pay_currency, 'for', p.credit_micros, p.credit_currency)
FROM payments p
JOIN accounts c ON c.id = p.account_id
LEFT JOIN exchange_quotes q ON q.id = p.quote_id
LEFT JOIN (
  SELECT DISTINCT payment_id FROM payment_reviews v WHERE ACCOUNTS(v) AND state = 'approved'
) v ON v.payment_id = p.id
CROSS JOIN LATERAL (
  SELECT CASE WHEN v.payment_id IS NULL AND q.id IS NOT NULL THEN q.pay_micros
      ELSE p.pay_micros END AS pay,
    coalesce(q.pay_currency, p.credit_currency) AS pay_currency,
    coalesce(div(q.credit_micros::numeric * p.pay_micros, q.pay_micros), p.pay_micros) AS credit
) x
WHERE ACCOUNTS(p) AND (
  (x.pay, x.pay_currency, x.credit, c.currency) IS DISTINCT FROM
    (p.pay_micros, p.pay_currency, p.credit_micros::numeric, p.credit_currency)
  OR q.account_id <> p.account_id OR (q.id IS NULL) <> (p.quote_id IS NULL)
  OR p.created_at < q.made_at OR p.created_at >= q.expires_at)
""",
    "payment_profile": """
SELECT p.account_id, 'payment ' || p.id, 'a version of the profile', p.profile_version::text
FROM payments p
LEFT JOIN billing_profiles b ON b.account_id = p.account_id AND b.version = p.profile_version
WHERE ACCOUNTS(p) AND b.account_id IS NULL
""",
    "payment_grant": """
SELECT p.account_id, 'payment ' || p.id,
  concat_ws(' ', 'entry', p.entry_sequence, p.gateway, p.credit_micros, p.reference, x.paid,
            x.currency, 'payment:' || p.reference),
  concat_ws(' ', 'entry', e.account_sequence, e.source, g.amount_micros, g.origin, g.paid_micros,
            g.paid_currency, k.key)
FROM payments p
LEFT JOIN entries e ON e.account_id = p.account_id AND e.account_sequence = p.entry_sequence
LEFT JOIN grants g ON g.account_id = p.account_id AND g.grant_number = p.grant_number
LEFT JOIN idempotency_keys k ON k.account_id = p.account_id AND k.key = 'payment:' || p.reference
  AND k.answer ->> 'entry_sequence' = p.entry_sequence::text
CROSS JOIN LATERAL (
  SELECT CASE WHEN p.pay_currency <> p.credit_currency THEN p.pay_micros END AS paid,
    CASE WHEN p.pay_currency <> p.credit_currency THEN p.pay_currency END AS currency
) x
WHERE ACCOUNTS(p) AND p.state = 'succeeded' AND (
  ('top_up', p.gateway, p.credit_micros, p.credit_micros, p.credit_micros, p.reference,
   p.entry_sequence, x.paid, x.currency, p.paid_at)
  IS DISTINCT FROM (e.kind, e.source, e.amount_micros, g.amount_micros, g.consideration_micros,
    g.origin, g.entry_sequence, g.paid_micros, g.paid_currency, e.occurred_at)
  OR k.key IS NULL OR num_nonnulls(g.services, g.starts_at, g.expires_at) > 0
  OR e.description_code <> 'top_up')
""",
    "payment_times": """
SELECT p.account_id, 'payment ' || p.id, 'paid, then credited', concat_ws(' ', p.paid_at,
  p.credited_at, e.posted_at)
FROM payments p
LEFT JOIN entries e ON e.account_id = p.account_id AND e.account_sequence = p.entry_sequence
WHERE ACCOUNTS(p) AND CASE WHEN p.state = 'succeeded'
  THEN p.paid_at <= p.credited_at AND p.credited_at <= e.posted_at
    AND p.created_at <= p.credited_at AND num_nonnulls(p.code, p.pay_by) = 0
  ELSE num_nonnulls(p.paid_at, p.gateway_payment_id) = 0 END IS NOT TRUE
""",
    "bank_transfer": """
SELECT coalesce(b.account_id, p.account_id), coalesce('transfer ' || b.id, 'payment ' || p.id),
  concat_ws(' ', b.account_id, b.amount_micros, b.currency, b.bank_reference, b.requested_by),
  concat_ws(' ', p.account_id, p.pay_micros, p.pay_currency, p.gateway_payment_id, p.created_by)
FROM (SELECT * FROM bank_transfers b WHERE ACCOUNTS(b) AND state = 'approved') b
FULL JOIN (SELECT * FROM payments p WHERE ACCOUNTS(p) AND gateway = 'bank') p
  ON p.id = b.payment_id
LEFT JOIN accounts c ON c.id = b.account_id
LEFT JOIN sites s ON s.code = c.site_code
WHERE (b.account_id, b.amount_micros, b.currency, b.amount_micros, b.bank_reference,
    b.requested_by, 'bank-transfer-' || b.id, 'succeeded')
  IS DISTINCT FROM (p.account_id, p.pay_micros, p.pay_currency, p.credit_micros,
    p.gateway_payment_id, p.created_by, p.idempotency_key, p.state)
  OR b.received_on <> (p.paid_at AT TIME ZONE s.time_zone)::date
    AND b.received_on > (p.credited_at AT TIME ZONE s.time_zone)::date - 366
""",
    "transfer_currency": """
SELECT b.account_id, 'transfer ' || b.id, c.currency, b.currency
FROM bank_transfers b JOIN accounts c ON c.id = b.account_id
WHERE ACCOUNTS(b) AND b.currency <> c.currency
""",
    # A review is about what one step of the timeline told.
    "payment_review": """
SELECT v.account_id, 'review ' || v.id,
  concat_ws(' ', 'payment', t.payment_id, t.kind, t.details ->> 'gateway_payment',
            t.details -> 'amount'),
  concat_ws(' ', 'payment', v.payment_id, v.case_reason, v.gateway_payment_id, v.received_micros,
            v.received_currency)
FROM payment_reviews v
LEFT JOIN payment_events t ON t.account_id = v.account_id AND t.id = v.case_id
WHERE ACCOUNTS(v) AND (
  (t.payment_id, t.kind, t.details ->> 'gateway_payment', t.details -> 'amount' ->> 0,
   t.details -> 'amount' ->> 1)
  IS DISTINCT FROM (v.payment_id, v.case_reason, v.gateway_payment_id, v.received_micros::text,
    v.received_currency))
""",
    "accepted_review": """
SELECT v.account_id, 'review ' || v.id,
  concat_ws(' ', 'succeeded', v.gateway_payment_id, v.received_micros, v.received_currency),
  concat_ws(' ', p.state, p.gateway_payment_id, p.pay_micros, p.pay_currency)
FROM payment_reviews v
LEFT JOIN payments p ON p.id = v.payment_id AND p.account_id = v.account_id
WHERE ACCOUNTS(v) AND v.state = 'approved'
  AND ('succeeded', v.gateway_payment_id, v.received_micros, v.received_currency)
    IS DISTINCT FROM (p.state, p.gateway_payment_id, p.pay_micros, p.pay_currency)
""",
    "document_numbers": """
SELECT NULL::bigint, concat_ws(' ', site_code, kind, year, number), place::text, number::text
FROM (
  SELECT site_code, kind, year, number,
    row_number() OVER (PARTITION BY site_code, kind, year ORDER BY number) AS place
  FROM documents
) d
WHERE EVERYTHING AND number <> place
""",
    "document_of": """
SELECT d.account_id, concat_ws(' ', d.site_code, d.kind, d.year, d.number),
  concat_ws(' ', c.site_code, extract(year FROM d.issued_at AT TIME ZONE s.time_zone),
            p.account_id, coalesce(r.payment_id, p.id)),
  concat_ws(' ', d.site_code, d.year, d.account_id, d.payment_id)
FROM documents d
JOIN accounts c ON c.id = d.account_id
JOIN sites s ON s.code = d.site_code
LEFT JOIN payments p ON p.id = d.payment_id
LEFT JOIN refunds r ON r.id = d.refund_id
WHERE ACCOUNTS(d) AND (c.site_code, extract(year FROM d.issued_at AT TIME ZONE s.time_zone),
    p.account_id, coalesce(r.payment_id, p.id), p.state)
  IS DISTINCT FROM (d.site_code, d.year::numeric, d.account_id, d.payment_id, 'succeeded')
""",
    "receipt": """
SELECT p.account_id, 'payment ' || p.id, p.has_receipt::int || ' receipts', count(d.number)::text
FROM payments p
LEFT JOIN documents d ON d.payment_id = p.id AND d.kind = 'receipt'
WHERE ACCOUNTS(p)
GROUP BY p.account_id, p.id, p.has_receipt HAVING count(d.number) <> p.has_receipt::int
""",
    # A cancellation takes the credit note of a refund back that failed after all; money that was
    # never credited is on no receipt, and has none.
    "credit_note": """
SELECT r.account_id, 'refund ' || r.id, r.has_credit_note::int || ' credit notes',
  count(d.number) FILTER (WHERE d.kind = 'credit_note') || ' less '
    || count(d.number) FILTER (WHERE d.kind = 'cancellation')
FROM refunds r
LEFT JOIN documents d ON d.refund_id = r.id
WHERE ACCOUNTS(r)
GROUP BY r.account_id, r.id, r.has_credit_note, r.outflow_micros
HAVING count(d.number) FILTER (WHERE d.kind = 'credit_note')
  - count(d.number) FILTER (WHERE d.kind = 'cancellation') <> r.has_credit_note::int
  OR count(d.number) > 0 AND r.outflow_micros = 0 AND r.state = 'succeeded'
""",
}
