"""Entries: their lines, order, running balance, days, words and reversals."""

from __future__ import annotations

ENTRIES: dict[str, str] = {
    "entry_amount": """
SELECT coalesce(e.account_id, a.account_id), 'entry ' || coalesce(e.account_sequence, a.sequence),
  coalesce(a.amount, 0)::text, e.amount_micros::text
FROM (SELECT * FROM entries e WHERE ACCOUNTS(e)) e
FULL JOIN (
  SELECT account_id, account_sequence AS sequence, sum(amount_micros) AS amount
  FROM allocations a WHERE ACCOUNTS(a) GROUP BY 1, 2
) a ON a.account_id = e.account_id AND a.sequence = e.account_sequence
WHERE e.amount_micros IS DISTINCT FROM coalesce(a.amount, 0)
""",
    "entry_sequence": """
SELECT account_id, 'entry ' || account_sequence, place::text, account_sequence::text
FROM (
  SELECT account_id, account_sequence,
    row_number() OVER (PARTITION BY account_id ORDER BY account_sequence) AS place
  FROM entries e WHERE ACCOUNTS(e)
) numbered
WHERE place <> account_sequence
""",
    "balance_after": """
SELECT account_id, 'entry ' || account_sequence, running::text, balance_after_micros::text
FROM (
  SELECT account_id, account_sequence, balance_after_micros,
    sum(amount_micros) OVER (PARTITION BY account_id ORDER BY account_sequence) AS running
  FROM entries e WHERE ACCOUNTS(e)
) summed
WHERE running <> balance_after_micros
""",
    "accounting_date": """
SELECT e.account_id, 'entry ' || e.account_sequence,
  (e.occurred_at AT TIME ZONE s.time_zone)::date::text, e.accounting_date::text
FROM entries e
JOIN accounts c ON c.id = e.account_id
JOIN sites s ON s.code = c.site_code
WHERE ACCOUNTS(e)
  AND e.accounting_date <> (e.occurred_at AT TIME ZONE s.time_zone)::date
  AND (
    e.accounting_date <> (e.posted_at AT TIME ZONE s.time_zone)::date
    OR NOT EXISTS (
      SELECT FROM accounting_periods p
      WHERE p.site_code = c.site_code
        AND p.month = date_trunc('month', e.occurred_at AT TIME ZONE s.time_zone)::date))
""",
    "entry_lines": """
SELECT account_id, 'entry ' || account_sequence || ' line ' || line_number, place::text,
  line_number::text
FROM (
  SELECT account_id, account_sequence, line_number,
    row_number() OVER (PARTITION BY account_id, account_sequence ORDER BY line_number) AS place
  FROM allocations a WHERE ACCOUNTS(a)
) numbered
WHERE place <> line_number
""",
    "entry_order": """
SELECT account_id, 'entry ' || account_sequence, 'not before ' || before, posted_at::text
FROM (
  SELECT account_id, account_sequence, posted_at,
    lag(posted_at) OVER (PARTITION BY account_id ORDER BY account_sequence) AS before
  FROM entries e WHERE ACCOUNTS(e)
) ordered
WHERE posted_at < before
""",
    # Corrections occur when they are posted, an expiry when its grant ends; no charge is dated
    # ahead.
    "entry_occurred": """
SELECT e.account_id, 'entry ' || e.account_sequence,
  coalesce(x.expected, 'before ' || e.posted_at), e.occurred_at::text
FROM entries e
LEFT JOIN grants g ON g.account_id = e.account_id AND e.kind = 'expiry'
  AND g.grant_number::text = e.description_parameters ->> 'grant_number'
CROSS JOIN LATERAL (
  SELECT CASE
    WHEN e.kind IN ('settlement_of_debt', 'reversal', 'refund', 'dispute', 'write_off')
      THEN e.posted_at::text
    WHEN e.kind = 'expiry' THEN coalesce(g.expires_at::text, 'the end of its grant') END
) x (expected)
WHERE ACCOUNTS(e)
  AND (x.expected <> e.occurred_at::text OR e.occurred_at > e.posted_at + interval '5 minutes')
""",
    "entry_shape": """
SELECT a.account_id, 'entry ' || a.account_sequence || ' line ' || a.line_number,
  'a line of ' || e.kind,
  concat_ws(' ', a.amount_micros, 'of grant', a.grant_number, a.debt_cause, a.debt_service)
FROM allocations a
JOIN entries e USING (account_id, account_sequence)
LEFT JOIN grants g ON g.account_id = a.account_id AND g.grant_number = a.grant_number
WHERE ACCOUNTS(a) AND CASE
  WHEN g.account_id IS NULL THEN false
  WHEN e.kind = 'charge' THEN a.amount_micros < 0 AND CASE
    WHEN a.grant_number = 0 THEN a.debt_cause = 'usage' AND a.debt_service = e.service
    ELSE a.debt_cause IS NULL AND (g.services IS NULL OR e.service = ANY (g.services)) END
  WHEN e.kind = 'expiry' THEN a.line_number = 1 AND a.debt_cause IS NULL
    AND a.grant_number::text = e.description_parameters ->> 'grant_number'
    AND g.kind = e.description_parameters ->> 'grant_kind'
  WHEN e.kind IN ('refund', 'dispute') THEN a.amount_micros < 0
    AND CASE WHEN a.grant_number = 0 THEN a.debt_cause = e.kind AND a.debt_service = ''
      ELSE a.debt_cause IS NULL END
  WHEN e.kind = 'settlement_of_debt' THEN a.debt_cause IS NOT NULL
  WHEN e.kind = 'write_off' THEN a.amount_micros > 0 AND a.grant_number = 0
  WHEN e.kind = 'reversal' THEN true
  ELSE a.line_number = 1 AND a.debt_cause IS NULL AND g.entry_sequence = a.account_sequence
  END IS NOT TRUE
""",
    "settlement": """
SELECT a.account_id, concat_ws(' ', 'entry', a.account_sequence, a.debt_cause, a.debt_service),
  '0', sum(a.amount_micros)::text
FROM allocations a
JOIN entries e USING (account_id, account_sequence)
WHERE ACCOUNTS(a) AND e.kind = 'settlement_of_debt'
GROUP BY a.account_id, a.account_sequence, a.debt_cause, a.debt_service
HAVING sum(a.amount_micros) <> 0
""",
    # What stands behind the words of an entry: the reader's language makes a sentence of them.
    "entry_words": """
SELECT e.account_id, 'entry ' || e.account_sequence, x.code || ' ' || coalesce(x.statement, ''),
  e.description_code || ' ' || e.description_parameters::text
FROM entries e
LEFT JOIN (
  SELECT account_id, account_sequence, sum(greatest(amount_micros, 0)) AS settled
  FROM allocations a WHERE ACCOUNTS(a) GROUP BY 1, 2
) a USING (account_id, account_sequence)
CROSS JOIN LATERAL (
  SELECT CASE WHEN e.description_code IN ('refund_failed', 'dispute_won') AND e.kind = 'top_up'
      THEN e.description_code ELSE e.kind END AS code,
    CASE e.kind WHEN 'reversal' THEN e.reverses_sequence::text
      WHEN 'settlement_of_debt' THEN a.settled::text END AS statement
) x
WHERE ACCOUNTS(e) AND e.kind <> 'charge'
  AND (e.description_code <> x.code OR x.statement IS DISTINCT FROM CASE e.kind
    WHEN 'reversal' THEN e.description_parameters ->> 'reverses'
    WHEN 'settlement_of_debt' THEN e.description_parameters ->> 'settled_micros' END)
""",
    # The audit log, whose chain proves itself, names the actor of each posting with a key. What one
    # posting wrote, one actor did.
    "entry_actor": """
SELECT e.account_id, 'entry ' || e.account_sequence,
  concat_ws(' ', 'in the audit log by', e.actor, e.description_parameters ->> 'reason'),
  concat_ws(' ', l.actor, l.reason)
FROM entries e
LEFT JOIN (
  SELECT l.account_id, l.actor, l.action, l.details ->> 'reason' AS reason,
    coalesce(l.details ->> 'entry_sequence', l.details ->> 'entry') AS sequence
  FROM audit_log l
  WHERE ACCOUNTS(l)
    AND l.action IN ('add_grant', 'refund', 'dispute', 'reverse_entry', 'write_off_debt')
    AND (l.details ? 'entry_sequence' OR l.details ? 'entry')
) l ON l.account_id = e.account_id AND l.sequence = e.account_sequence::text
WHERE ACCOUNTS(e) AND e.kind NOT IN ('charge', 'expiry', 'settlement_of_debt')
  AND (e.kind <> 'reversal' OR e.description_parameters ? 'reason')
  AND (e.actor, CASE e.kind WHEN 'reversal' THEN 'reverse_entry' WHEN 'write_off'
      THEN 'write_off_debt' WHEN 'refund' THEN 'refund' WHEN 'dispute' THEN 'dispute'
      ELSE 'add_grant' END, e.description_parameters ->> 'reason')
    IS DISTINCT FROM (l.actor, l.action,
      CASE WHEN e.kind IN ('reversal', 'write_off') THEN l.reason
        ELSE e.description_parameters ->> 'reason' END)
""",
    "entry_actors": """
SELECT account_id, 'entry ' || min(account_sequence), min(actor), max(actor)
FROM entries e WHERE ACCOUNTS(e)
GROUP BY account_id, posted_at HAVING min(actor) <> max(actor)
""",
}
