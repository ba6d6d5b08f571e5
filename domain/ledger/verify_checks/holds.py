"""Holds, how they end, and refusals."""

from __future__ import annotations

_HELD = """
  SELECT a.account_id, a.grant_number, sum(a.amount_micros) AS amount
  FROM hold_allocations a
  WHERE ACCOUNTS(a) AND NOT EXISTS (
    SELECT FROM hold_resolutions z
    WHERE z.account_id = a.account_id AND z.hold_number = a.hold_number)
  GROUP BY 1, 2
"""

HOLDS: dict[str, str] = {
    "grant_held": f"""
SELECT r.account_id, 'grant ' || r.grant_number, coalesce(h.amount, 0)::text, r.held_micros::text
FROM grant_balances r
LEFT JOIN ({_HELD}) h USING (account_id, grant_number)
WHERE ACCOUNTS(r) AND r.held_micros <> coalesce(h.amount, 0)
""",  # noqa: S608 - constant text
    "account_held": f"""
SELECT b.account_id, 'held', coalesce(h.amount, 0)::text, b.held_micros::text
FROM account_balances b
LEFT JOIN (
  SELECT account_id, sum(amount) AS amount FROM ({_HELD}) h GROUP BY 1
) h USING (account_id)
WHERE ACCOUNTS(b) AND b.held_micros <> coalesce(h.amount, 0)
""",  # noqa: S608 - constant text
    "hold_amount": """
SELECT h.account_id, 'hold ' || h.hold_number, h.amount_micros::text, coalesce(a.amount, 0)::text
FROM holds h
LEFT JOIN (
  SELECT account_id, hold_number, sum(amount_micros) AS amount
  FROM hold_allocations a WHERE ACCOUNTS(a) GROUP BY 1, 2
) a USING (account_id, hold_number)
WHERE ACCOUNTS(h) AND h.amount_micros <> coalesce(a.amount, 0)
""",
    "open_hold": """
SELECT coalesce(h.account_id, o.account_id),
  'hold ' || coalesce(h.hold_number, o.hold_number), h.expires_at::text, o.expires_at::text
FROM (
  SELECT h.* FROM holds h
  LEFT JOIN hold_resolutions z USING (account_id, hold_number)
  WHERE ACCOUNTS(h) AND z.outcome IS NULL
) h
FULL JOIN (SELECT * FROM open_holds o WHERE ACCOUNTS(o)) o
  ON o.account_id = h.account_id AND o.hold_number = h.hold_number
WHERE h.expires_at IS DISTINCT FROM o.expires_at
""",
    "captured_hold": """
SELECT z.account_id, 'hold ' || z.hold_number,
  concat_ws(' ', 'charge', h.service, z.resolved_at, z.actor),
  concat_ws(' ', e.kind, e.service, e.posted_at, e.actor)
FROM hold_resolutions z
JOIN holds h USING (account_id, hold_number)
LEFT JOIN entries e ON e.account_id = z.account_id AND e.account_sequence = z.entry_sequence
WHERE ACCOUNTS(z) AND z.outcome = 'captured'
  AND ('charge', h.service, z.resolved_at, z.actor)
    IS DISTINCT FROM (e.kind, e.service, e.posted_at, e.actor)
""",
    # What was set aside pays first: all of it, or the whole charge where that is less.
    "captured_amount": """
SELECT account_id, 'hold ' || hold_number, least(held, charged)::text, paid::text
FROM (
  SELECT z.account_id, z.hold_number, sum(a.amount_micros) AS held,
    -min(e.amount_micros) AS charged,
    sum(least(a.amount_micros, coalesce(l.taken, 0))) AS paid
  FROM hold_resolutions z
  JOIN entries e ON e.account_id = z.account_id AND e.account_sequence = z.entry_sequence
  JOIN hold_allocations a ON a.account_id = z.account_id AND a.hold_number = z.hold_number
  LEFT JOIN (
    SELECT account_id, account_sequence, grant_number, -sum(amount_micros) AS taken
    FROM allocations a WHERE ACCOUNTS(a) GROUP BY 1, 2, 3
  ) l ON l.account_id = z.account_id AND l.account_sequence = z.entry_sequence
    AND l.grant_number = a.grant_number
  WHERE ACCOUNTS(z)
  GROUP BY z.account_id, z.hold_number
) captured
WHERE paid <> least(held, charged)
""",
    "captured_once": """
SELECT account_id, 'entry ' || entry_sequence, '1 hold', count(*)::text
FROM hold_resolutions z WHERE ACCOUNTS(z) AND entry_sequence IS NOT NULL
GROUP BY account_id, entry_sequence HAVING count(*) > 1
""",
    "hold_end": """
SELECT z.account_id, 'hold ' || z.hold_number,
  concat_ws(' ', h.placed_at, 'or later', CASE z.outcome WHEN 'expired' THEN h.expires_at END),
  z.resolved_at::text
FROM hold_resolutions z
LEFT JOIN holds h USING (account_id, hold_number)
WHERE ACCOUNTS(z) AND (
  h.account_id IS NULL OR z.resolved_at < h.placed_at
  OR z.outcome = 'expired' AND z.resolved_at < h.expires_at)
""",
    "hold_grant": """
SELECT a.account_id, 'hold ' || a.hold_number || ' grant ' || a.grant_number,
  'credit for ' || h.service, concat_ws(' ', g.kind, g.services::text, g.granted_at)
FROM hold_allocations a
LEFT JOIN holds h USING (account_id, hold_number)
LEFT JOIN grants g USING (account_id, grant_number)
WHERE ACCOUNTS(a) AND (
  h.account_id IS NULL OR g.account_id IS NULL OR g.kind = 'overdraft'
  OR g.granted_at > h.placed_at OR NOT coalesce(h.service = ANY (g.services), true))
""",
    # A charge that was refused has usage keys, and a hold its idempotency key.
    "refusal_key": """
SELECT f.account_id, 'refusal ' || f.refusal_number,
  concat_ws(' ', f.operation, f.reason, f.posted_at), k.answer
FROM refusals f
JOIN accounts c ON c.id = f.account_id
JOIN sites s ON s.code = c.site_code
LEFT JOIN (
  SELECT account_id, refusal_number::text AS refusal, min(recorded_at) AS first,
    max(recorded_at) AS last
  FROM usage_keys u WHERE ACCOUNTS(u) AND refusal_number IS NOT NULL GROUP BY 1, 2
) u ON u.account_id = f.account_id AND u.refusal = f.refusal_number::text
LEFT JOIN (
  SELECT account_id, answer ->> 'refusal_number' AS refusal, min(answer ->> 'reason') AS reason
  FROM idempotency_keys i WHERE ACCOUNTS(i) AND operation = 'place_hold' GROUP BY 1, 2
) i ON i.account_id = f.account_id AND i.refusal = f.refusal_number::text
CROSS JOIN LATERAL (
  SELECT CASE
    WHEN u.account_id IS NOT NULL AND i.account_id IS NULL AND u.first = u.last
      THEN concat_ws(' ', 'charge', f.reason, u.first)
    WHEN i.account_id IS NOT NULL AND u.account_id IS NULL
      THEN concat_ws(' ', 'hold', i.reason, f.posted_at) END
) k (answer)
WHERE ACCOUNTS(f) AND f.posted_at > clock_timestamp() - s.usage_key_retention
  AND k.answer IS DISTINCT FROM concat_ws(' ', f.operation, f.reason, f.posted_at)
""",
    "refusal_amounts": """
SELECT account_id, 'refusal ' || refusal_number, 'less available than ' || amount_micros,
  available_micros::text
FROM refusals f
WHERE ACCOUNTS(f) AND (
  available_micros < 0 OR available_micros > amount_micros
  OR reason = 'insufficient_credit' AND available_micros = amount_micros
  OR operation = 'charge' AND reason <> 'insufficient_credit' AND available_micros <> 0)
""",
}
