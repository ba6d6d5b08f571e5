"""Reversals and clawbacks: what they take, grant by grant and debt by debt, and how much of it."""

from __future__ import annotations

_LINES = """
  SELECT a.account_id, {sequence} AS sequence, CASE WHEN a.debt_cause IS NULL
      THEN 'grant ' || a.grant_number
      ELSE concat_ws(' ', 'debt', a.debt_cause, a.debt_service) END AS place,
    sum(a.amount_micros) AS amount
  FROM entries e JOIN allocations a USING (account_id, account_sequence)
  WHERE ACCOUNTS(e) AND e.kind {kinds}
  GROUP BY 1, 2, 3
"""

REVERSALS: dict[str, str] = {
    "reversal": """
SELECT r.account_id, 'entry ' || r.reverses_sequence, (-coalesce(o.amount_micros, 0))::text,
  r.amount::text
FROM (
  SELECT account_id, reverses_sequence, sum(amount_micros) AS amount
  FROM entries e WHERE ACCOUNTS(e) AND reverses_sequence IS NOT NULL GROUP BY 1, 2
) r
LEFT JOIN entries o ON o.account_id = r.account_id AND o.account_sequence = r.reverses_sequence
WHERE o.kind IS NULL
  OR o.kind NOT IN ('charge', 'top_up', 'voucher', 'plan', 'adjustment', 'write_off')
  OR abs(r.amount) > abs(o.amount_micros) OR sign(r.amount) = sign(o.amount_micros)
""",
    "reversal_of": """
SELECT r.account_id, 'entry ' || r.account_sequence, concat_ws(' ', o.service, o.source),
  concat_ws(' ', r.service, r.source)
FROM entries r
JOIN entries o ON o.account_id = r.account_id AND o.account_sequence = r.reverses_sequence
WHERE ACCOUNTS(r) AND (r.service, r.source) IS DISTINCT FROM (o.service, o.source)
""",
    # A charge is restored to the grants and debts that it took from, never more than it took.
    "reversal_lines": f"""
SELECT r.account_id, 'entry ' || r.sequence || ' ' || r.place,
  'up to ' || -coalesce(o.amount, 0), r.amount::text
FROM ({_LINES.format(sequence="e.reverses_sequence", kinds="= 'reversal'")}) r
JOIN entries x ON x.account_id = r.account_id AND x.account_sequence = r.sequence
LEFT JOIN ({_LINES.format(sequence="e.account_sequence", kinds="IN ('charge', 'write_off')")}) o
  ON o.account_id = r.account_id AND o.sequence = r.sequence AND o.place = r.place
WHERE x.kind IN ('charge', 'write_off') AND (
  abs(r.amount) > abs(coalesce(o.amount, 0)) OR sign(r.amount) = sign(coalesce(o.amount, 0)))
""",  # noqa: S608 - constant text
    # Credit is taken from its own grant, and what was spent of it becomes a debt of the reversal.
    "reversed_credit": """
SELECT a.account_id, 'entry ' || a.account_sequence || ' line ' || a.line_number,
  'grant ' || g.grant_number || ' or a debt of the reversal',
  concat_ws(' ', 'grant', a.grant_number, a.debt_cause, a.debt_service)
FROM allocations a
JOIN entries e USING (account_id, account_sequence)
JOIN grants g ON g.account_id = e.account_id AND g.entry_sequence = e.reverses_sequence
WHERE ACCOUNTS(a) AND NOT CASE WHEN a.grant_number = 0
  THEN (a.debt_cause, a.debt_service) IS NOT DISTINCT FROM ('reversal', '')
  ELSE a.grant_number = g.grant_number AND a.debt_cause IS NULL END
""",
    # The tax of a debt that its charge's reversal takes away: the share of what is taken away.
    "reversed_debt_tax": """
SELECT a.account_id, 'entry ' || a.account_sequence || ' line ' || a.line_number,
  x.expected::text, a.tax_micros::text
FROM allocations a
JOIN entries e USING (account_id, account_sequence)
JOIN entries o ON o.account_id = e.account_id AND o.account_sequence = e.reverses_sequence
JOIN allocations d ON d.account_id = o.account_id AND d.account_sequence = o.account_sequence
  AND d.grant_number = 0
CROSS JOIN LATERAL (
  SELECT coalesce(sum(r.amount_micros), 0) AS before
  FROM entries q JOIN allocations r USING (account_id, account_sequence)
  WHERE q.account_id = e.account_id AND q.reverses_sequence = e.reverses_sequence
    AND r.debt_cause IS NOT NULL
    AND (r.account_sequence, r.line_number) < (a.account_sequence, a.line_number)
) b
CROSS JOIN LATERAL (
  SELECT share_of(-d.tax_micros, b.before + a.amount_micros, -d.amount_micros)
    - share_of(-d.tax_micros, b.before, -d.amount_micros)
) x (expected)
WHERE ACCOUNTS(a) AND a.grant_number = 0 AND o.kind = 'charge' AND a.tax_micros <> x.expected
""",
    # What an entry says that it took of grants is all of the entry, in credit and in money.
    "clawback": """
SELECT e.account_id, 'entry ' || e.account_sequence,
  concat_ws(' for ', -e.amount_micros, e.description_parameters ->> 'paid_micros'),
  concat_ws(' for ', t.credit, t.paid)
FROM entries e
LEFT JOIN grants g ON g.account_id = e.account_id AND g.entry_sequence = e.reverses_sequence
LEFT JOIN (
  SELECT account_id, account_sequence, sum(credit) AS credit, sum(paid)::text AS paid,
    bool_and(is_known) AS is_known
  FROM taken GROUP BY 1, 2
) t ON t.account_id = e.account_id AND t.account_sequence = e.account_sequence
WHERE ACCOUNTS(e) AND (e.kind IN ('refund', 'dispute') OR g.account_id IS NOT NULL)
  AND ((t.credit, t.paid, t.is_known) IS DISTINCT FROM
    (-e.amount_micros::numeric, e.description_parameters ->> 'paid_micros', true))
""",
    # Of a grant first what is free of it, then a debt: with the money that stands behind it, and
    # the tax inside what was given for nothing.
    "clawback_lines": """
SELECT coalesce(t.account_id, d.account_id),
  concat_ws(' ', 'entry', coalesce(t.account_sequence, d.account_sequence), 'debt',
            coalesce(t.place, d.place)),
  concat_ws(' ', -t.rest, -t.paid, -share_of(t.rest - t.paid, t.tax_rate, 1 + t.tax_rate)),
  concat_ws(' ', d.amount_micros, d.consideration_micros, d.tax_micros)
FROM (
  SELECT x.account_id, x.account_sequence, x.tax_rate, x.rest, x.consideration AS paid,
    row_number() OVER (PARTITION BY x.account_id, x.account_sequence ORDER BY x.place) AS place
  FROM (
    SELECT t.account_id, t.account_sequence, t.place, g.tax_rate,
      t.credit + coalesce(l.amount, 0) AS rest,
      share_of(g.consideration_micros, t.before + t.credit, g.amount_micros)
        - share_of(g.consideration_micros, t.before, g.amount_micros)
        + coalesce(l.consideration, 0) AS consideration
    FROM taken t
    JOIN grants g ON g.account_id = t.account_id AND g.grant_number::text = t.grant_number
    LEFT JOIN (
      SELECT account_id, account_sequence, grant_number, sum(amount_micros) AS amount,
        sum(consideration_micros) AS consideration
      FROM allocations a WHERE ACCOUNTS(a) GROUP BY 1, 2, 3
    ) l ON l.account_id = t.account_id AND l.account_sequence = t.account_sequence
      AND l.grant_number = g.grant_number
  ) x
  WHERE x.rest <> 0
) t
FULL JOIN (
  SELECT a.*,
    row_number() OVER (PARTITION BY a.account_id, a.account_sequence ORDER BY line_number) AS place
  FROM allocations a
  JOIN entries e USING (account_id, account_sequence)
  LEFT JOIN grants g ON g.account_id = e.account_id AND g.entry_sequence = e.reverses_sequence
  WHERE ACCOUNTS(a) AND a.grant_number = 0
    AND (e.kind IN ('refund', 'dispute') OR g.account_id IS NOT NULL)
) d USING (account_id, account_sequence, place)
WHERE (-t.rest, -t.paid, -share_of(t.rest - t.paid, t.tax_rate, 1 + t.tax_rate))
  IS DISTINCT FROM (d.amount_micros::numeric, d.consideration_micros::numeric, d.tax_micros)
""",
    # Money of another currency goes with the credit that it paid: all of it with the last.
    "clawback_money": """
SELECT g.account_id, 'grant ' || g.grant_number,
  CASE WHEN t.credit = g.amount_micros THEN '' ELSE 'less than ' END || g.paid_micros,
  t.paid::text
FROM grants g
JOIN (
  SELECT account_id, grant_number, sum(credit) AS credit, coalesce(sum(paid), 0) AS paid
  FROM taken GROUP BY 1, 2
) t ON t.account_id = g.account_id AND t.grant_number = g.grant_number::text
WHERE ACCOUNTS(g) AND CASE WHEN g.paid_micros IS NULL THEN t.paid <> 0
  WHEN t.credit = g.amount_micros THEN t.paid <> g.paid_micros
  ELSE t.paid >= g.paid_micros OR t.paid <= 0 END
""",
}

TAKEN = """
taken AS MATERIALIZED (
  SELECT account_id, account_sequence, place, grant_number, credit, paid, is_known,
    coalesce(sum(credit) OVER (
      PARTITION BY account_id, grant_number ORDER BY account_sequence, place
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
  FROM (
    SELECT e.account_id, e.account_sequence, part.place, part.value ->> 'grant' AS grant_number,
      CASE jsonb_typeof(part.value -> 'credit_micros')
        WHEN 'number' THEN (part.value ->> 'credit_micros')::numeric END AS credit,
      CASE jsonb_typeof(part.value -> 'paid_micros')
        WHEN 'number' THEN (part.value ->> 'paid_micros')::numeric END AS paid,
      e.kind <> 'reversal' OR g.grant_number::text = part.value ->> 'grant' AS is_known
    FROM entries e
    LEFT JOIN grants g ON g.account_id = e.account_id AND g.entry_sequence = e.reverses_sequence
    CROSS JOIN LATERAL jsonb_array_elements(
      CASE jsonb_typeof(e.description_parameters -> 'taken')
        WHEN 'array' THEN e.description_parameters -> 'taken' END)
      WITH ORDINALITY AS part (value, place)
    WHERE ACCOUNTS(e) AND e.kind IN ('refund', 'dispute', 'reversal')
  ) parts
)
"""
"""What each refund, dispute or reversal of credit took of which grant, and what before it."""
