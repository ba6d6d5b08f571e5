"""Grants: what remains, what is gone, their terms, tax and the debt beside them."""

from __future__ import annotations

from domain.ledger.allocation import PRIORITIES

_PRIORITIES = ", ".join(f"('{kind}', {place})" for kind, place in PRIORITIES.items())

GRANTS: dict[str, str] = {
    "grant_remaining": """
SELECT coalesce(r.account_id, a.account_id), 'grant ' || coalesce(r.grant_number, a.grant_number),
  coalesce(a.amount, 0)::text, r.remaining_micros::text
FROM (
  SELECT g.account_id, g.grant_number, r.remaining_micros
  FROM grants g LEFT JOIN grant_balances r USING (account_id, grant_number) WHERE ACCOUNTS(g)
) r
FULL JOIN (
  SELECT account_id, grant_number, sum(amount_micros) AS amount
  FROM allocations a WHERE ACCOUNTS(a) GROUP BY 1, 2
) a ON a.account_id = r.account_id AND a.grant_number = r.grant_number
WHERE r.remaining_micros IS DISTINCT FROM coalesce(a.amount, 0)
""",
    "remaining_after": """
SELECT account_id, 'entry ' || account_sequence || ' line ' || line_number, running::text,
  remaining_after_micros::text
FROM (
  SELECT account_id, account_sequence, line_number, remaining_after_micros,
    sum(amount_micros) OVER (
      PARTITION BY account_id, grant_number ORDER BY account_sequence, line_number) AS running
  FROM allocations a WHERE ACCOUNTS(a)
) summed
WHERE running <> remaining_after_micros
""",
    "below_zero": """
SELECT account_id, 'grant ' || grant_number, '0', remaining_micros::text
FROM grant_balances r
WHERE ACCOUNTS(r) AND CASE WHEN grant_number = 0 THEN remaining_micros > 0 OR held_micros <> 0
  ELSE remaining_micros < 0 OR held_micros < 0 OR held_micros > remaining_micros END
""",
    "grant_is_open": """
SELECT account_id, 'grant ' || grant_number, (remaining_micros > 0 OR grant_number = 0)::text,
  is_open::text
FROM grant_balances r
WHERE ACCOUNTS(r) AND is_open <> (remaining_micros > 0 OR grant_number = 0)
""",
    "grant_terms": """
SELECT account_id, 'grant ' || grant_number, g.terms, r.terms
FROM (
  SELECT account_id, grant_number,
    concat_ws(', ', kind, amount_micros, consideration_micros, (tax_rate * 1000000)::int,
              coalesce(services::text, 'all'), coalesce(starts_at, '-infinity'),
              coalesce(expires_at, 'infinity'), priority, granted_at) AS terms
  FROM grants g WHERE ACCOUNTS(g)
) g
JOIN (
  SELECT account_id, grant_number,
    concat_ws(', ', kind, amount_micros, consideration_micros, rate_millionths,
              coalesce(services::text, 'all'), coalesce(starts_at, '-infinity'),
              coalesce(expires_at, 'infinity'), priority, granted_at) AS terms
  FROM grant_balances r WHERE ACCOUNTS(r)
) r USING (account_id, grant_number)
WHERE g.terms <> r.terms
""",
    "grant_entry": """
SELECT coalesce(g.account_id, e.account_id),
  coalesce('grant ' || g.grant_number, 'entry ' || e.account_sequence),
  concat_ws(' ', g.kind, g.amount_micros, g.granted_at, g.origin),
  concat_ws(' ', e.kind, e.amount_micros, e.occurred_at, e.description_parameters ->> 'origin')
FROM (SELECT * FROM grants g WHERE ACCOUNTS(g) AND g.grant_number > 0) g
FULL JOIN (
  SELECT * FROM entries e
  WHERE ACCOUNTS(e) AND kind IN ('top_up', 'voucher', 'plan', 'adjustment')
) e ON e.account_id = g.account_id AND e.account_sequence = g.entry_sequence
WHERE (g.kind, g.amount_micros, g.granted_at, g.origin) IS DISTINCT FROM
  (e.kind, e.amount_micros, e.occurred_at, e.description_parameters ->> 'origin')
""",
    "taken_back": """
SELECT g.account_id, 'grant ' || g.grant_number, g.amount_micros::text, r.clawed_back_micros::text
FROM grant_balances r JOIN grants g USING (account_id, grant_number)
WHERE ACCOUNTS(g) AND g.grant_number > 0 AND r.clawed_back_micros > g.amount_micros
""",
    "grant_gone": """
SELECT g.account_id, 'grant ' || g.grant_number,
  coalesce(t.taken, 0) || ' and ' || coalesce(t.expired, 0),
  r.clawed_back_micros || ' and ' || r.expired_micros
FROM grants g
JOIN grant_balances r USING (account_id, grant_number)
LEFT JOIN (
  SELECT account_id, grant_number, coalesce(sum(amount) FILTER (WHERE NOT lapsed), 0) AS taken,
    coalesce(sum(amount) FILTER (WHERE lapsed), 0) AS expired
  FROM (
    SELECT e.account_id, e.description_parameters ->> 'grant_number' AS grant_number,
      -e.amount_micros AS amount, true AS lapsed
    FROM entries e WHERE ACCOUNTS(e) AND e.kind = 'expiry'
    UNION ALL
    SELECT account_id, grant_number, credit, false FROM taken
  ) each_time
  GROUP BY 1, 2
) t ON t.account_id = g.account_id AND t.grant_number = g.grant_number::text
WHERE ACCOUNTS(g) AND (
  r.clawed_back_micros <> coalesce(t.taken, 0) OR r.expired_micros <> coalesce(t.expired, 0))
""",
    "free_after_taking": """
SELECT g.account_id, 'grant ' || g.grant_number,
  'at most ' || greatest(g.amount_micros - r.clawed_back_micros - r.expired_micros, 0),
  (r.remaining_micros - r.held_micros)::text
FROM grants g JOIN grant_balances r USING (account_id, grant_number)
WHERE ACCOUNTS(g) AND g.grant_number > 0 AND r.remaining_micros - r.held_micros
  > greatest(g.amount_micros - r.clawed_back_micros - r.expired_micros, 0)
""",
    "consideration": """
SELECT a.account_id, 'entry ' || a.account_sequence || ' line ' || a.line_number,
  a.expected::text, a.consideration_micros::text
FROM (
  SELECT a.*, CASE
    WHEN g.consideration_micros = g.amount_micros THEN a.amount_micros
    WHEN g.consideration_micros = 0 THEN 0
    ELSE share_of(g.consideration_micros,
                  g.amount_micros - a.remaining_after_micros + a.amount_micros, g.amount_micros)
       - share_of(g.consideration_micros,
                  g.amount_micros - a.remaining_after_micros, g.amount_micros)
    END AS expected
  FROM allocations a JOIN grants g USING (account_id, grant_number)
  WHERE ACCOUNTS(a) AND a.grant_number > 0
) a
WHERE a.consideration_micros <> a.expected
""",
    "tax": """
SELECT a.account_id, 'entry ' || a.account_sequence || ' line ' || a.line_number,
  a.expected::text, a.tax_micros::text
FROM (
  SELECT a.*, CASE
    WHEN g.tax_micros = 0 THEN 0
    ELSE share_of(g.tax_micros,
                  g.amount_micros - a.remaining_after_micros + a.amount_micros, g.amount_micros)
       - share_of(g.tax_micros,
                  g.amount_micros - a.remaining_after_micros, g.amount_micros)
    END AS expected
  FROM allocations a
  JOIN (
    SELECT account_id, grant_number, amount_micros,
      share_of(consideration_micros, tax_rate, 1 + tax_rate) AS tax_micros
    FROM grants g WHERE ACCOUNTS(g)
  ) g USING (account_id, grant_number)
  WHERE ACCOUNTS(a) AND a.grant_number > 0
) a
WHERE a.tax_micros <> a.expected
""",
    "debt_tax": """
SELECT a.account_id, 'entry ' || a.account_sequence || ' line ' || a.line_number,
  'within ' || a.amount_micros, a.tax_micros || ' and ' || a.consideration_micros
FROM allocations a
JOIN entries e USING (account_id, account_sequence)
WHERE ACCOUNTS(a) AND a.grant_number = 0
  AND (
    abs(a.tax_micros) > abs(a.amount_micros)
    OR sign(a.tax_micros) * sign(a.amount_micros) < 0
    OR e.kind IN ('settlement_of_debt', 'write_off')
      AND (a.tax_micros <> 0 OR a.consideration_micros <> 0)
    OR a.debt_cause = 'usage' AND a.consideration_micros <> 0)
""",
    "debt": """
SELECT coalesce(d.account_id, a.account_id),
  'debt ' || coalesce(d.cause, a.cause) || ' ' || coalesce(d.service, a.service),
  coalesce(a.owed, 0)::text, coalesce(d.due_micros, 0)::text
FROM (SELECT * FROM debts d WHERE ACCOUNTS(d)) d
FULL JOIN (
  SELECT account_id, debt_service AS service, debt_cause AS cause, -sum(amount_micros) AS owed
  FROM allocations a WHERE ACCOUNTS(a) AND grant_number = 0 GROUP BY 1, 2, 3
) a ON a.account_id = d.account_id AND a.service = d.service AND a.cause = d.cause
WHERE coalesce(a.owed, 0) <> coalesce(d.due_micros, 0)
""",
    "debt_total": """
SELECT r.account_id, 'overdraft', (-coalesce(d.owed, 0))::text, r.remaining_micros::text
FROM grant_balances r
LEFT JOIN (
  SELECT account_id, sum(due_micros) AS owed FROM debts d WHERE ACCOUNTS(d) GROUP BY 1
) d USING (account_id)
WHERE ACCOUNTS(r) AND r.grant_number = 0 AND r.remaining_micros <> -coalesce(d.owed, 0)
""",
    "grant_priority": f"""
SELECT g.account_id, 'grant ' || g.grant_number, p.priority::text, g.priority::text
FROM grants g
LEFT JOIN (VALUES {_PRIORITIES}) p (kind, priority) ON p.kind = g.kind
WHERE ACCOUNTS(g) AND g.priority IS DISTINCT FROM p.priority
""",  # noqa: S608 - constant text
    "overdraft": """
SELECT b.account_id, 'grant 0', 'of nothing, without terms', CASE
  WHEN g.account_id IS NULL OR r.account_id IS NULL THEN 'none' ELSE 'with terms' END
FROM account_balances b
LEFT JOIN grants g ON g.account_id = b.account_id AND g.grant_number = 0
LEFT JOIN grant_balances r ON r.account_id = b.account_id AND r.grant_number = 0
WHERE ACCOUNTS(b) AND (
  g.account_id IS NULL OR r.account_id IS NULL OR g.amount_micros <> 0
  OR g.consideration_micros <> 0 OR g.tax_rate <> 0 OR g.tax_point <> 'USAGE'
  OR g.place_of_supply <> '' OR r.clawed_back_micros <> 0 OR r.expired_micros <> 0
  OR num_nonnulls(g.services, g.starts_at, g.expires_at, g.origin, g.paid_micros,
                  g.paid_currency, g.customer_tax_status) > 0)
""",
    # The policy that is in force on the accounting date, or the site's first.
    "grant_tax_terms": """
SELECT g.account_id, 'grant ' || g.grant_number,
  concat_ws(' ', p.tax_point, p.tax_rate, p.place_of_supply),
  concat_ws(' ', g.tax_point, g.tax_rate, g.place_of_supply)
FROM grants g
JOIN entries e ON e.account_id = g.account_id AND e.account_sequence = g.entry_sequence
JOIN accounts c ON c.id = g.account_id
CROSS JOIN LATERAL (
  SELECT t.tax_point, t.tax_rate, t.place_of_supply FROM tax_policies t
  WHERE t.site_code = c.site_code
  ORDER BY t.valid_from <= e.accounting_date DESC,
    CASE WHEN t.valid_from <= e.accounting_date THEN t.valid_from END DESC, t.valid_from
  LIMIT 1
) p
WHERE ACCOUNTS(g)
  AND (p.tax_point, p.tax_rate, p.place_of_supply)
    IS DISTINCT FROM (g.tax_point, g.tax_rate, g.place_of_supply)
""",
    "debt_tax_of_usage": """
SELECT a.account_id, 'entry ' || a.account_sequence || ' line ' || a.line_number,
  share_of(a.amount_micros, p.tax_rate, 1 + p.tax_rate)::text, a.tax_micros::text
FROM allocations a
JOIN entries e USING (account_id, account_sequence)
JOIN accounts c ON c.id = a.account_id
CROSS JOIN LATERAL (
  SELECT t.tax_rate FROM tax_policies t
  WHERE t.site_code = c.site_code
  ORDER BY t.valid_from <= e.accounting_date DESC,
    CASE WHEN t.valid_from <= e.accounting_date THEN t.valid_from END DESC, t.valid_from
  LIMIT 1
) p
WHERE ACCOUNTS(a) AND a.grant_number = 0 AND e.kind = 'charge'
  AND a.tax_micros <> share_of(a.amount_micros, p.tax_rate, 1 + p.tax_rate)
""",
    # A debt is as old as the entry since which it was never paid in full.
    "debt_opened": """
SELECT d.account_id, 'debt ' || d.cause || ' ' || d.service, o.opened_at::text,
  d.opened_at::text
FROM debts d
LEFT JOIN (
  SELECT account_id, service, cause, max(posted_at) FILTER (WHERE owed_before = 0) AS opened_at
  FROM (
    SELECT a.account_id, a.debt_service AS service, a.debt_cause AS cause, a.amount_micros,
      e.posted_at, coalesce(-sum(a.amount_micros) OVER (
        PARTITION BY a.account_id, a.debt_service, a.debt_cause
        ORDER BY a.account_sequence, a.line_number
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS owed_before
    FROM allocations a JOIN entries e USING (account_id, account_sequence)
    WHERE ACCOUNTS(a) AND a.grant_number = 0
  ) each_line
  WHERE amount_micros < 0
  GROUP BY 1, 2, 3
) o USING (account_id, service, cause)
WHERE ACCOUNTS(d) AND d.opened_at IS DISTINCT FROM o.opened_at
""",
}
