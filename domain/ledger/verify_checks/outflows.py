"""Refunds and disputes: credit follows the money of a payment, and so do the books."""

from __future__ import annotations

_IS_BOOKED = (
    "p.grant_number IS NOT NULL AND"
    " coalesce({row}.gateway_payment_id, p.gateway_payment_id) = p.gateway_payment_id"
)
_BOOKED_REFUND = _IS_BOOKED.format(row="r")
_BOOKED_DISPUTE = _IS_BOOKED.format(row="d")

OUTFLOWS: dict[str, str] = {
    # Each entry of a payment is one row, of the payment itself or of a refund or dispute of it.
    "payment_credit": """
SELECT x.account_id, 'payment ' || x.payment_id || ' credit ' || x.number,
  concat_ws(' ', x.place, w.kind, w.code, p.gateway, p.reference, x.credit_micros,
            'for', w.pay, w.key),
  concat_ws(' ', x.number, e.kind, e.description_code, e.source,
            e.description_parameters ->> 'origin', e.amount_micros, 'for', x.pay_micros, k.key)
FROM (
  SELECT x.*, row_number() OVER (PARTITION BY account_id, payment_id ORDER BY number) AS place
  FROM payment_credits x WHERE ACCOUNTS(x)
) x
LEFT JOIN payments p ON p.id = x.payment_id AND p.account_id = x.account_id
LEFT JOIN refunds r ON r.id = x.refund_id
LEFT JOIN disputes d ON d.id = x.dispute_id
LEFT JOIN entries e ON e.account_id = x.account_id AND e.account_sequence = x.entry_sequence
LEFT JOIN grants g ON g.account_id = x.account_id AND g.entry_sequence = x.entry_sequence
LEFT JOIN idempotency_keys k ON k.account_id = x.account_id
  AND k.answer ->> 'entry_sequence' = x.entry_sequence::text
CROSS JOIN LATERAL (
  SELECT
    CASE WHEN x.credit_micros > 0 THEN 'top_up' WHEN d.id IS NULL THEN 'refund' ELSE 'dispute' END
      AS kind,
    CASE WHEN num_nonnulls(r.id, d.id) = 0 THEN 'top_up'
      WHEN x.credit_micros < 0 THEN CASE WHEN d.id IS NULL THEN 'refund' ELSE 'dispute' END
      WHEN d.id IS NULL THEN 'refund_failed' ELSE 'dispute_won' END AS code,
    CASE WHEN p.pay_currency = p.credit_currency THEN x.credit_micros::text
      WHEN x.credit_micros > 0 THEN g.paid_micros::text
      ELSE '-' || (e.description_parameters ->> 'paid_micros') END AS pay,
    concat_ws(':', 'payment', p.reference, CASE WHEN x.number > 1 THEN x.number END) AS key
) w
WHERE p.id IS NULL OR x.place <> x.number
  OR r.payment_id <> x.payment_id OR d.payment_id <> x.payment_id
  OR (x.number = 1) <> (num_nonnulls(x.refund_id, x.dispute_id) = 0)
  OR x.number = 1 AND (x.entry_sequence, x.credit_micros, x.pay_micros, x.posted_at)
    IS DISTINCT FROM (p.entry_sequence, p.credit_micros, p.pay_micros, p.credited_at)
  OR x.entry_sequence IS NOT NULL AND (
    (e.kind, e.description_code, e.source, e.description_parameters ->> 'origin', e.amount_micros,
     x.pay_micros::text, k.key)
    IS DISTINCT FROM (w.kind, w.code, p.gateway, p.reference, x.credit_micros, w.pay, w.key)
    OR x.number > 1 AND x.posted_at < e.posted_at)
  OR x.entry_sequence IS NULL AND p.pay_currency = p.credit_currency
    AND x.pay_micros <> x.credit_micros
""",
    # What moves from a reversal to its dispute without an entry leaves one and reaches the other.
    "payment_credit_moved": """
SELECT account_id, 'payment ' || payment_id, '0 and 0 for 0 and 0', concat_ws(' ',
  sum(credit_micros), 'and', sum(pay_micros), 'for',
  count(refund_id) FILTER (WHERE credit_micros < 0), 'and',
  count(dispute_id) FILTER (WHERE credit_micros > 0))
FROM payment_credits x
WHERE ACCOUNTS(x) AND entry_sequence IS NULL
GROUP BY account_id, payment_id
HAVING sum(credit_micros) <> 0 OR sum(pay_micros) <> 0
  OR count(refund_id) FILTER (WHERE credit_micros < 0) > 0
  OR count(dispute_id) FILTER (WHERE credit_micros > 0) > 0
""",
    "credited_payment": """
SELECT p.account_id, 'payment ' || p.id, 'its credit ' || p.entry_sequence, NULL
FROM payments p
LEFT JOIN payment_credits x ON x.account_id = p.account_id AND x.payment_id = p.id
  AND x.number = 1
WHERE ACCOUNTS(p) AND p.entry_sequence IS NOT NULL AND x.account_id IS NULL
""",
    # Credit that was paid for comes by a payment, and goes by its refunds and disputes. Only the
    # system posts what was paid elsewhere, under an origin that is no payment's.
    "entry_without_payment": """
SELECT e.account_id, 'entry ' || e.account_sequence, 'a payment, or an import by the system',
  concat_ws(' ', e.kind, 'by', e.actor, 'of', e.description_parameters ->> 'origin')
FROM entries e
LEFT JOIN payment_credits x ON x.account_id = e.account_id
  AND x.entry_sequence = e.account_sequence
LEFT JOIN payments p ON p.reference = e.description_parameters ->> 'origin'
WHERE ACCOUNTS(e) AND e.kind IN ('top_up', 'refund', 'dispute') AND x.account_id IS NULL
  AND (e.actor NOT LIKE 'system:%' OR e.actor = 'system:gateways' OR p.id IS NOT NULL
    OR e.description_code <> e.kind)
""",
    "refund_outflow": f"""
SELECT r.account_id, 'refund ' || r.id, concat_ws(' ', p.account_id, p.gateway,
    CASE WHEN w.is_out THEN r.pay_micros ELSE 0 END, 'with', -coalesce(x.credit, 0), 'for',
    -coalesce(x.pay, 0)),
  concat_ws(' ', r.account_id, r.gateway, r.outflow_micros, 'with', r.credit_micros, 'for',
            r.clawed_back_micros)
FROM refunds r
JOIN payments p ON p.id = r.payment_id
LEFT JOIN (
  SELECT account_id, refund_id, sum(credit_micros) AS credit, sum(pay_micros) AS pay
  FROM payment_credits x WHERE ACCOUNTS(x) AND refund_id IS NOT NULL GROUP BY 1, 2
) x ON x.account_id = r.account_id AND x.refund_id = r.id
CROSS JOIN LATERAL (
  SELECT {_BOOKED_REFUND} AND r.state IN ('requested', 'pending', 'succeeded') AS is_out
) w
WHERE ACCOUNTS(r) AND (
  (p.account_id, p.gateway, CASE WHEN w.is_out THEN r.pay_micros ELSE 0 END,
   -coalesce(x.credit, 0), -coalesce(x.pay, 0))
  IS DISTINCT FROM (r.account_id, r.gateway, r.outflow_micros, r.credit_micros::numeric,
    r.clawed_back_micros::numeric)
  OR (r.settled_at IS NOT NULL) <> (r.state IN ('succeeded', 'failed', 'merged'))
  OR r.settled_at < r.requested_at
  OR r.request_key NOT LIKE p.reference || ':%'
  OR num_nonnulls(r.reference, r.request_key, r.request_hash) NOT IN (0, 3)
  OR r.is_reversal AND r.reference IS NOT NULL)
""",  # noqa: S608 - constant text
    "dispute_outflow": f"""
SELECT d.account_id, 'dispute ' || d.id,
  concat_ws(' ', p.account_id, p.gateway, w.outflow, 'and held', w.held, 'with',
            -coalesce(x.credit, 0), 'for', -coalesce(x.pay, 0)),
  concat_ws(' ', d.account_id, d.gateway, d.outflow_micros, 'and held', d.held_micros, 'with',
            d.credit_micros, 'for', d.clawed_back_micros)
FROM disputes d
JOIN payments p ON p.id = d.payment_id
LEFT JOIN (
  SELECT account_id, dispute_id, sum(credit_micros) AS credit, sum(pay_micros) AS pay
  FROM payment_credits x WHERE ACCOUNTS(x) AND dispute_id IS NOT NULL GROUP BY 1, 2
) x ON x.account_id = d.account_id AND x.dispute_id = d.id
CROSS JOIN LATERAL (
  SELECT CASE WHEN {_BOOKED_DISPUTE} THEN d.lost_micros ELSE 0 END AS outflow,
    CASE WHEN {_BOOKED_DISPUTE} AND d.state = 'open'
      THEN d.pay_micros - d.lost_micros ELSE 0 END AS held
) w
WHERE ACCOUNTS(d) AND (
  (p.account_id, p.gateway, w.outflow, w.held, -coalesce(x.credit, 0), -coalesce(x.pay, 0))
  IS DISTINCT FROM (d.account_id, d.gateway, d.outflow_micros, d.held_micros,
    d.credit_micros::numeric, d.clawed_back_micros::numeric)
  OR d.closed_at < d.opened_at)
""",  # noqa: S608 - constant text
    # The excess of outflows over the payment was reported to staff.
    "excess": """
SELECT o.account_id, o.row, 'covered, or told to people', o.excess::text
FROM (
  SELECT account_id, payment_id, id, 'refund ' || id AS row, 'refund' AS name,
    outflow_micros - unapplied_micros - clawed_back_micros AS excess
  FROM refunds r WHERE ACCOUNTS(r)
  UNION ALL
  SELECT account_id, payment_id, id, 'dispute ' || id, 'dispute',
    outflow_micros - unapplied_micros - clawed_back_micros
  FROM disputes d WHERE ACCOUNTS(d)
) o
WHERE o.excess > 0 AND NOT EXISTS (
  SELECT FROM payment_events t
  WHERE t.account_id = o.account_id AND t.payment_id = o.payment_id
    AND t.kind IN ('refund_of_too_much', 'dispute_exceeds_payment')
    AND t.details ->> o.name = o.id::text)
""",
    "payment_outflows": """
SELECT p.account_id, 'payment ' || p.id,
  concat_ws(' ', r.outflow, 'and', d.outflow, 'unapplied up to', x.reversed),
  concat_ws(' ', p.refunded_micros, 'and', p.disputed_micros, 'unapplied', r.unapplied,
            '+', d.unapplied)
FROM payments p
CROSS JOIN LATERAL (
  SELECT coalesce(sum(outflow_micros), 0) AS outflow,
    coalesce(sum(unapplied_micros), 0) AS unapplied,
    coalesce(sum(clawed_back_micros), 0) AS clawed_back
  FROM refunds r WHERE r.payment_id = p.id
) r
CROSS JOIN LATERAL (
  SELECT coalesce(sum(outflow_micros + held_micros), 0) AS outflow,
    coalesce(sum(unapplied_micros), 0) AS unapplied,
    coalesce(sum(clawed_back_micros), 0) AS clawed_back
  FROM disputes d WHERE d.payment_id = p.id
) d
LEFT JOIN reversed_money x ON x.payment_id = p.id
WHERE ACCOUNTS(p) AND (
  p.refunded_micros <> r.outflow OR p.disputed_micros <> d.outflow
  OR r.unapplied + d.unapplied > coalesce(x.reversed, 0)
  OR r.clawed_back + d.clawed_back + coalesce(x.reversed, 0) > p.pay_micros)
""",
    "frozen_by_dispute": f"""
SELECT c.account_id, 'freeze', coalesce(d.disputes, 0) || ' open disputes',
  CASE WHEN f.account_id IS NULL THEN 'not frozen by one' ELSE 'frozen by one' END
FROM account_balances c
LEFT JOIN (
  SELECT d.account_id, count(*) AS disputes
  FROM disputes d JOIN payments p ON p.id = d.payment_id
  WHERE ACCOUNTS(d) AND d.state = 'open' AND {_BOOKED_DISPUTE}
  GROUP BY 1
) d USING (account_id)
LEFT JOIN account_freezes f ON f.account_id = c.account_id AND f.cause = 'dispute'
  AND f.lifted_at IS NULL
WHERE ACCOUNTS(c) AND (d.disputes IS NULL) <> (f.account_id IS NULL)
""",  # noqa: S608 - constant text
    # Postings of finance that belong to a payment name it in their key.
    "payment_posting": """
SELECT f.account_id, 'posting ' || f.posting_id,
  concat_ws(' ', w.kind, p.account_id, 'of', p.reference, coalesce(p.gateway_payment_id, '-'),
            w.one, w.other, w.currency),
  concat_ws(' ', f.kind, f.account_id, 'of', f.reference, f.debit, f.credit, f.currency)
FROM postings f
LEFT JOIN payments p ON p.id = f.payment_id
LEFT JOIN accounts c ON c.id = p.account_id
CROSS JOIN LATERAL (
  SELECT CASE WHEN p.gateway = 'bank' THEN LEDGER(BANK)
    ELSE LEDGER(CLEARING) || '.' || p.gateway END AS cash
) m
CROSS JOIN LATERAL (
  SELECT CASE f.form WHEN 'fee' THEN LEDGER(GATEWAY_FEES)
      WHEN 'dispute:fee' THEN LEDGER(DISPUTE_FEES)
      WHEN 'dispute' THEN LEDGER(DISPUTED_FUNDS) ELSE LEDGER(REFUNDS_PAYABLE) END AS one,
    CASE f.form WHEN 'dispute:uncovered' THEN LEDGER(DISPUTED_FUNDS) ELSE m.cash END AS other,
    CASE f.form WHEN 'fee' THEN 'gateway_fee' WHEN 'dispute:fee' THEN 'dispute_fee'
      WHEN 'dispute' THEN CASE WHEN f.debit = LEDGER(DISPUTED_FUNDS) THEN 'dispute_opened'
        ELSE 'dispute_won' END
      WHEN 'dispute:uncovered' THEN 'dispute_uncovered' WHEN 'refund:paid' THEN 'refund_paid'
      WHEN 'unapplied' THEN 'unapplied_receipt'
      WHEN 'unapplied-returned' THEN 'unapplied_returned'
      WHEN 'unapplied-not_received' THEN 'unapplied_returned' END AS kind,
    CASE WHEN f.form IN ('fee', 'dispute:fee') OR f.form LIKE 'unapplied%' THEN f.currency
      ELSE p.pay_currency END AS currency
) w
WHERE ACCOUNTS(f) AND (
  (p.account_id, c.site_code, w.kind, w.currency, least(w.one, w.other),
    greatest(w.one, w.other), 2)
  IS DISTINCT FROM (f.account_id, f.site_code, f.kind, f.currency, least(f.debit, f.credit),
    greatest(f.debit, f.credit), f.lines::int)
  OR f.reference NOT IN (p.reference, coalesce(p.gateway_payment_id, p.reference))
  OR f.revision > f.last_revision
  OR f.form = 'fee' AND f.key !~ '^fee:[A-Z0-9]+(:[0-9]+)?(:+undone)?$'
  OR f.form = 'unapplied' AND f.debit = LEDGER(REFUNDS_PAYABLE)
  OR f.form LIKE 'unapplied-%' AND f.credit = LEDGER(REFUNDS_PAYABLE))
""",
    "gateway_fee": """
SELECT coalesce(p.account_id, f.account_id), 'payment ' || coalesce(p.id, f.payment_id),
  concat_ws(' ', p.fee_micros, p.fee_currency), concat_ws(' ', f.amount, f.currency)
FROM (SELECT * FROM payments p WHERE ACCOUNTS(p) AND fee_micros <> 0) p
FULL JOIN (
  SELECT account_id, payment_id, currency,
    sum(CASE WHEN debit = LEDGER(GATEWAY_FEES) THEN amount ELSE -amount END) AS amount
  FROM postings f WHERE ACCOUNTS(f) AND form = 'fee' GROUP BY 1, 2, 3
  HAVING sum(CASE WHEN debit = LEDGER(GATEWAY_FEES) THEN amount ELSE -amount END) <> 0
) f ON f.payment_id = p.id AND f.currency = p.fee_currency
WHERE p.fee_micros::numeric IS DISTINCT FROM f.amount
""",
    "dispute_fee": """
SELECT coalesce(d.account_id, f.account_id), 'dispute ' || coalesce(d.id, f.owner),
  concat_ws(' ', d.fee_micros, d.fee_currency), concat_ws(' ', f.amount, f.currency)
FROM (SELECT * FROM disputes d WHERE ACCOUNTS(d) AND fee_micros <> 0) d
FULL JOIN (
  SELECT account_id, owner, currency,
    sum(CASE WHEN debit = LEDGER(DISPUTE_FEES) THEN amount ELSE -amount END) AS amount
  FROM postings f WHERE ACCOUNTS(f) AND form = 'dispute:fee' GROUP BY 1, 2, 3
  HAVING sum(CASE WHEN debit = LEDGER(DISPUTE_FEES) THEN amount ELSE -amount END) <> 0
) f ON f.owner = d.id AND f.currency = d.fee_currency
WHERE d.fee_micros::numeric IS DISTINCT FROM f.amount
""",
    # What was paid out of a refund: all of it once it succeeded, and as much again where it then
    # failed. One that was merged into its dispute is part of that, and was paid out before.
    "refund_paid": """
SELECT r.account_id, 'refund ' || r.id,
  CASE WHEN r.state = 'succeeded' THEN r.outflow_micros ELSE 0 END::text,
  coalesce(f.amount, 0)::text
FROM refunds r
LEFT JOIN (
  SELECT owner,
    sum(CASE WHEN debit = LEDGER(REFUNDS_PAYABLE) THEN amount ELSE -amount END) AS amount
  FROM postings f WHERE ACCOUNTS(f) AND form = 'refund:paid' GROUP BY 1
) f ON f.owner = r.id
WHERE ACCOUNTS(r) AND coalesce(f.amount, 0)
  <> CASE r.state WHEN 'succeeded' THEN r.outflow_micros
    WHEN 'merged' THEN coalesce(f.amount, 0) ELSE 0 END
  OR ACCOUNTS(r) AND r.state = 'merged' AND coalesce(f.amount, 0) NOT IN (0, r.pay_micros)
""",
    "rejected_money": """
SELECT v.account_id, 'review ' || v.id,
  concat_ws(' ', x.came, 'and back', x.back, v.received_currency),
  concat_ws(' ', coalesce(f.came, 0), 'and back', coalesce(f.back, 0), f.currency)
FROM payment_reviews v
LEFT JOIN (
  SELECT owner, min(currency) AS currency,
    sum(amount) FILTER (WHERE form = 'unapplied') AS came,
    sum(amount) FILTER (WHERE form <> 'unapplied') AS back,
    min(substr(form, 11)) FILTER (WHERE form <> 'unapplied') AS return_state
  FROM postings f WHERE ACCOUNTS(f) AND form LIKE 'unapplied%' GROUP BY 1
) f ON f.owner = v.id
CROSS JOIN LATERAL (
  SELECT
    CASE WHEN v.return_state IS NOT NULL THEN coalesce(v.received_micros, 0) ELSE 0 END AS came,
    CASE WHEN v.return_state <> 'due' THEN coalesce(v.received_micros, 0) ELSE 0 END AS back
) x
WHERE ACCOUNTS(v) AND (
  x.came <> coalesce(f.came, 0) OR x.back <> coalesce(f.back, 0)
  OR f.currency <> v.received_currency OR f.return_state <> v.return_state)
""",
    # The ledger accounts of a payment, by docs/payments.md: cash P - S - L - H less fees, disputed
    # funds H, refunds payable R + T - S - L.
    "payment_books": """
SELECT p.account_id, 'payment ' || p.id, concat_ws(' ', x.cash, x.disputed, x.payable),
  concat_ws(' ', coalesce(l.cash, 0), coalesce(l.disputed, 0), coalesce(l.payable, 0))
FROM payments p
CROSS JOIN LATERAL (
  SELECT coalesce(sum(outflow_micros) FILTER (WHERE state = 'succeeded'), 0) AS paid,
    coalesce(sum(clawed_back_micros), 0) AS clawed_back
  FROM refunds r WHERE r.payment_id = p.id
) r
CROSS JOIN LATERAL (
  SELECT coalesce(sum(outflow_micros), 0) AS lost, coalesce(sum(held_micros), 0) AS held,
    coalesce(sum(clawed_back_micros), 0) AS clawed_back,
    coalesce(sum(fee_micros) FILTER (WHERE fee_currency = p.pay_currency), 0) AS fees
  FROM disputes d WHERE d.payment_id = p.id
) d
LEFT JOIN reversed_money v ON v.payment_id = p.id
LEFT JOIN (
  SELECT payment_id, currency, sum(cash) AS cash, sum(disputed) AS disputed,
    sum(payable) AS payable
  FROM (
    SELECT x.payment_id, b.currency, b.cash, b.disputed, b.payable
    FROM payment_credits x JOIN books b
      ON b.account_id = x.account_id AND b.account_sequence = x.entry_sequence
    UNION ALL
    SELECT x.payment_id, b.currency, b.cash, b.disputed, b.payable
    FROM payment_credits x
    JOIN entries e ON e.account_id = x.account_id AND e.reverses_sequence = x.entry_sequence
    JOIN books b ON b.account_id = e.account_id AND b.account_sequence = e.account_sequence
    UNION ALL
    SELECT payment_id, currency, cash, disputed, payable
    FROM postings f WHERE ACCOUNTS(f) AND form NOT LIKE 'unapplied%'
  ) legs
  GROUP BY 1, 2
) l ON l.payment_id = p.id AND l.currency = p.pay_currency
CROSS JOIN LATERAL (
  SELECT CASE WHEN p.entry_sequence IS NULL THEN 0 ELSE p.pay_micros END
      - r.paid - d.lost - d.held - d.fees
      - CASE WHEN p.fee_currency = p.pay_currency THEN p.fee_micros ELSE 0 END AS cash,
    d.held AS disputed,
    -(coalesce(v.reversed, 0) + r.clawed_back + d.clawed_back - r.paid - d.lost) AS payable
) x
WHERE ACCOUNTS(p) AND (x.cash, x.disputed, x.payable) IS DISTINCT FROM
  (coalesce(l.cash, 0), coalesce(l.disputed, 0), coalesce(l.payable, 0))
""",
}

POSTINGS = r"""
postings AS MATERIALIZED (
  SELECT f.*, CASE WHEN form = 'fee' THEN p.id WHEN form LIKE 'dispute%' THEN d.payment_id
      WHEN form LIKE 'refund%' THEN r.payment_id ELSE v.payment_id END AS payment_id,
    CASE WHEN form LIKE 'dispute%' THEN d.revision WHEN form LIKE 'refund%' THEN r.revision
      END AS last_revision
  FROM (
    SELECT *,
      CASE WHEN key ~ '^fee:' THEN 'fee' WHEN key ~ '^unapplied' THEN split_part(key, ':', 1)
        ELSE concat_ws(':', split_part(key, ':', 1), nullif(split_part(key, ':', 4), ''))
        END AS form,
      CASE WHEN key ~ '^(dispute|refund):[0-9]{1,18}:[0-9]{1,9}(:|$)'
          OR key ~ '^unapplied[a-z_-]*:[0-9]{1,18}$'
        THEN split_part(key, ':', 2)::bigint END AS owner,
      CASE WHEN key ~ '^(dispute|refund):[0-9]{1,18}:[0-9]{1,9}(:|$)'
        THEN split_part(key, ':', 3)::int END AS revision
    FROM (
      SELECT f.posting_id, f.site_code, h.idempotency_key AS key, min(f.account_id) AS account_id,
        min(f.kind) AS kind, min(f.reference) AS reference, min(f.currency) AS currency,
        count(*) AS lines, sum(greatest(f.amount_micros, 0)) AS amount,
        min(f.ledger_code) FILTER (WHERE f.amount_micros > 0) AS debit,
        min(f.ledger_code) FILTER (WHERE f.amount_micros < 0) AS credit,
        sum(f.amount_micros)
          FILTER (WHERE HOLDS_CASH(f.ledger_code)) AS cash,
        sum(f.amount_micros) FILTER (WHERE f.ledger_code = LEDGER(DISPUTED_FUNDS)) AS disputed,
        sum(f.amount_micros) FILTER (WHERE f.ledger_code = LEDGER(REFUNDS_PAYABLE)) AS payable
      FROM finance_entries f
      LEFT JOIN finance_postings h ON h.id = f.posting_id
      WHERE ACCOUNTS(f)
      GROUP BY f.posting_id, f.site_code, h.idempotency_key
      HAVING bool_or(f.kind IN ('gateway_fee', 'dispute_opened', 'dispute_won',
        'dispute_uncovered', 'dispute_fee', 'refund_paid', 'unapplied_receipt',
        'unapplied_returned') OR h.idempotency_key ~ '^(fee|dispute|refund|unapplied)')
    ) f
  ) f
  LEFT JOIN payments p ON p.reference = split_part(f.key, ':', 2)
  LEFT JOIN disputes d ON d.id = f.owner
  LEFT JOIN refunds r ON r.id = f.owner
  LEFT JOIN payment_reviews v ON v.id = f.owner
)
"""
"""Postings of finance that belong to a payment, a refund, a dispute or a review, by their keys."""

REVERSED = """
reversed_money AS MATERIALIZED (
  SELECT x.payment_id, sum(CASE WHEN e.description_parameters ->> 'paid_micros' ~ '^[0-9]{1,18}$'
    THEN (e.description_parameters ->> 'paid_micros')::bigint ELSE -e.amount_micros END) AS reversed
  FROM payment_credits x
  JOIN entries e ON e.account_id = x.account_id AND e.reverses_sequence = x.entry_sequence
  WHERE ACCOUNTS(x)
  GROUP BY 1
)
"""
"""The money of each payment whose credit staff reversed."""
