"""What must hold between facts and projections, each as one set-based query.

A check selects (account_id, key, expected, found), one row for each place where it does not hold.
ACCOUNTS(x) stands for "x.account_id is one of those asked for".
"""

from __future__ import annotations

_ENTRIES = {
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
}

_ACCOUNTS = {
    "balance_of_entries": """
SELECT b.account_id, 'balance', coalesce(e.amount, 0)::text, b.balance_micros::text
FROM account_balances b
LEFT JOIN (
  SELECT account_id, sum(amount_micros) AS amount FROM entries e WHERE ACCOUNTS(e) GROUP BY 1
) e USING (account_id)
WHERE ACCOUNTS(b) AND b.balance_micros <> coalesce(e.amount, 0)
""",
    "balance_of_grants": """
SELECT b.account_id, 'balance', coalesce(r.amount, 0)::text, b.balance_micros::text
FROM account_balances b
LEFT JOIN (
  SELECT account_id, sum(remaining_micros) AS amount
  FROM grant_balances r WHERE ACCOUNTS(r) GROUP BY 1
) r USING (account_id)
WHERE ACCOUNTS(b) AND b.balance_micros <> coalesce(r.amount, 0)
""",
    "account_row": """
SELECT c.id, 'account_balances', '1', '0'
FROM (SELECT id, id AS account_id FROM accounts) c
LEFT JOIN account_balances b ON b.account_id = c.id
WHERE ACCOUNTS(c) AND b.account_id IS NULL
""",
    **{
        name: f"""
SELECT b.account_id, '{name}', coalesce(n.rows, 0)::text, b.{name}::text
FROM account_balances b
LEFT JOIN (
  SELECT account_id, count(*) AS rows, max({number}) AS highest
  FROM {table} t WHERE ACCOUNTS(t) AND {number} > 0 GROUP BY 1
) n USING (account_id)
WHERE ACCOUNTS(b)
  AND (b.{name} <> coalesce(n.rows, 0) OR b.{name} <> coalesce(n.highest, 0))
"""  # noqa: S608 - constant text
        for name, table, number in (
            ("last_entry_sequence", "entries", "account_sequence"),
            ("last_grant_number", "grants", "grant_number"),
            ("last_hold_number", "holds", "hold_number"),
            ("last_refusal_number", "refusals", "refusal_number"),
        )
    },
}

_GRANTS = {
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
SELECT g.account_id, 'grant ' || g.grant_number, g.kind || ' ' || g.amount_micros,
  e.kind || ' ' || e.amount_micros
FROM grants g
LEFT JOIN entries e ON e.account_id = g.account_id AND e.account_sequence = g.entry_sequence
WHERE ACCOUNTS(g) AND g.grant_number > 0
  AND (e.kind IS DISTINCT FROM g.kind OR e.amount_micros IS DISTINCT FROM g.amount_micros)
""",
    "taken_back": """
SELECT g.account_id, 'grant ' || g.grant_number, g.amount_micros::text, r.taken_micros::text
FROM grant_balances r JOIN grants g USING (account_id, grant_number)
WHERE ACCOUNTS(g) AND g.grant_number > 0 AND r.taken_micros > g.amount_micros
""",
    "grant_gone": """
SELECT g.account_id, 'grant ' || g.grant_number,
  coalesce(t.taken, 0) || ' and ' || coalesce(t.expired, 0),
  r.taken_micros || ' and ' || r.expired_micros
FROM grants g
JOIN grant_balances r USING (account_id, grant_number)
LEFT JOIN (
  SELECT account_id, grant_number, coalesce(sum(amount) FILTER (WHERE NOT lapsed), 0) AS taken,
    coalesce(sum(amount) FILTER (WHERE lapsed), 0) AS expired
  FROM (
    SELECT e.account_id, (e.description_parameters ->> 'grant_number')::bigint AS grant_number,
      -e.amount_micros AS amount, true AS lapsed
    FROM entries e WHERE ACCOUNTS(e) AND e.kind = 'expiry'
    UNION ALL
    SELECT e.account_id, (part ->> 'grant')::bigint, (part ->> 'credit_micros')::bigint, false
    FROM entries e, jsonb_array_elements(e.description_parameters -> 'taken') part
    WHERE ACCOUNTS(e) AND e.kind IN ('refund', 'dispute')
    UNION ALL
    SELECT e.account_id, g.grant_number, -e.amount_micros, false
    FROM entries e
    JOIN grants g ON g.account_id = e.account_id AND g.entry_sequence = e.reverses_sequence
    WHERE ACCOUNTS(e)
  ) each_time
  GROUP BY 1, 2
) t USING (account_id, grant_number)
WHERE ACCOUNTS(g) AND (
  r.taken_micros <> coalesce(t.taken, 0) OR r.expired_micros <> coalesce(t.expired, 0))
""",
    "free_after_taking": """
SELECT g.account_id, 'grant ' || g.grant_number,
  'at most ' || greatest(g.amount_micros - r.taken_micros - r.expired_micros, 0),
  (r.remaining_micros - r.held_micros)::text
FROM grants g JOIN grant_balances r USING (account_id, grant_number)
WHERE ACCOUNTS(g) AND g.grant_number > 0 AND r.remaining_micros - r.held_micros
  > greatest(g.amount_micros - r.taken_micros - r.expired_micros, 0)
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
  coalesce(a.owed, 0)::text, coalesce(d.owed_micros, 0)::text
FROM (SELECT * FROM debts d WHERE ACCOUNTS(d)) d
FULL JOIN (
  SELECT account_id, debt_service AS service, debt_cause AS cause, -sum(amount_micros) AS owed
  FROM allocations a WHERE ACCOUNTS(a) AND grant_number = 0 GROUP BY 1, 2, 3
) a ON a.account_id = d.account_id AND a.service = d.service AND a.cause = d.cause
WHERE coalesce(a.owed, 0) <> coalesce(d.owed_micros, 0)
""",
    "debt_total": """
SELECT r.account_id, 'overdraft', (-coalesce(d.owed, 0))::text, r.remaining_micros::text
FROM grant_balances r
LEFT JOIN (
  SELECT account_id, sum(owed_micros) AS owed FROM debts d WHERE ACCOUNTS(d) GROUP BY 1
) d USING (account_id)
WHERE ACCOUNTS(r) AND r.grant_number = 0 AND r.remaining_micros <> -coalesce(d.owed, 0)
""",
}

_HELD = """
  SELECT a.account_id, a.grant_number, sum(a.amount_micros) AS amount
  FROM hold_allocations a
  WHERE ACCOUNTS(a) AND NOT EXISTS (
    SELECT FROM hold_resolutions z
    WHERE z.account_id = a.account_id AND z.hold_number = a.hold_number)
  GROUP BY 1, 2
"""

_HOLDS = {
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
SELECT account_id, 'hold ' || hold_number, (z.outcome IS NULL)::text,
  (o.hold_number IS NOT NULL)::text
FROM holds h
LEFT JOIN hold_resolutions z USING (account_id, hold_number)
LEFT JOIN open_holds o USING (account_id, hold_number)
WHERE ACCOUNTS(h) AND (
  (z.outcome IS NULL) <> (o.hold_number IS NOT NULL) OR o.expires_at <> h.expires_at)
""",
    "captured_hold": """
SELECT z.account_id, 'hold ' || z.hold_number, 'charge', e.kind
FROM hold_resolutions z
LEFT JOIN entries e ON e.account_id = z.account_id AND e.account_sequence = z.entry_sequence
WHERE ACCOUNTS(z) AND z.outcome = 'captured' AND e.kind IS DISTINCT FROM 'charge'
""",
}

_USAGE = {
    "usage_event_entry": """
SELECT u.account_id, 'event ' || u.origin || ' ' || u.event_id, 'charge ' || u.service,
  e.kind || ' ' || e.service
FROM usage_events u
LEFT JOIN entries e USING (account_id, account_sequence)
WHERE ACCOUNTS(u) AND (e.kind IS DISTINCT FROM 'charge' OR e.service <> u.service)
""",
    "usage_event_once": """
SELECT account_id, 'event ' || origin || ' ' || event_id, '1', count(*)::text
FROM usage_events u WHERE ACCOUNTS(u)
GROUP BY account_id, origin, event_id HAVING count(*) > 1
""",
    "usage_event_key": """
SELECT u.account_id, 'event ' || u.origin || ' ' || u.event_id, u.account_sequence::text,
  k.account_sequence::text
FROM usage_events u
JOIN usage_keys k USING (account_id, origin, event_id)
WHERE ACCOUNTS(u) AND k.account_sequence IS DISTINCT FROM u.account_sequence
""",
    "usage_key_entry": """
SELECT k.account_id, 'key ' || k.origin || ' ' || k.event_id, 'charge', e.kind
FROM usage_keys k
LEFT JOIN entries e USING (account_id, account_sequence)
WHERE ACCOUNTS(k) AND k.account_sequence IS NOT NULL AND e.kind IS DISTINCT FROM 'charge'
""",
    "usage_key_refusal": """
SELECT k.account_id, 'key ' || k.origin || ' ' || k.event_id, 'refusal ' || k.refusal_number, NULL
FROM usage_keys k
LEFT JOIN refusals f USING (account_id, refusal_number)
WHERE ACCOUNTS(k) AND k.refusal_number IS NOT NULL AND f.account_id IS NULL
""",
    # Where every item of a service's charges was a metered call, what was charged and the carry
    # add up to the exact sum; the keys say how many items an entry had.
    "carry": """
SELECT s.account_id, 'service ' || s.service, (s.exact - s.charged)::text,
  coalesce(b.carries ->> s.service, '0')
FROM (
  SELECT e.account_id, e.service, -sum(e.amount_micros) AS charged, sum(u.exact) AS exact
  FROM entries e
  LEFT JOIN (
    SELECT account_id, account_sequence, sum(exact_micros) AS exact, count(*) AS events
    FROM usage_events u WHERE ACCOUNTS(u) GROUP BY 1, 2
  ) u USING (account_id, account_sequence)
  LEFT JOIN (
    SELECT account_id, account_sequence, count(*) AS items
    FROM usage_keys k WHERE ACCOUNTS(k) AND account_sequence IS NOT NULL GROUP BY 1, 2
  ) k USING (account_id, account_sequence)
  WHERE ACCOUNTS(e) AND e.kind = 'charge'
  GROUP BY 1, 2
  HAVING bool_and(u.events IS NOT NULL AND coalesce(k.items, 0) <= u.events)
) s
LEFT JOIN account_balances b USING (account_id)
WHERE s.exact - s.charged <> coalesce((b.carries ->> s.service)::numeric, 0)
""",
}

_DAYS = {
    "daily_totals": """
SELECT coalesce(t.account_id, d.account_id),
  concat_ws(' ', coalesce(t.day, d.day), coalesce(t.kind, d.kind), coalesce(t.service, d.service),
            coalesce(t.source, d.source)),
  concat_ws(' of ', t.amount, t.entries, t.calls),
  concat_ws(' of ', d.amount_micros, d.entries, d.calls)
FROM (
  SELECT e.account_id, (e.occurred_at AT TIME ZONE s.time_zone)::date AS day, e.kind,
    coalesce(e.service, '') AS service, e.source, sum(e.amount_micros) AS amount,
    count(*) AS entries, coalesce(sum(u.calls), 0) AS calls
  FROM entries e
  JOIN accounts c ON c.id = e.account_id
  JOIN sites s ON s.code = c.site_code
  LEFT JOIN (
    SELECT account_id, account_sequence, count(*) AS calls
    FROM usage_events u WHERE ACCOUNTS(u) GROUP BY 1, 2
  ) u ON u.account_id = e.account_id AND u.account_sequence = e.account_sequence
  WHERE ACCOUNTS(e)
  GROUP BY 1, 2, 3, 4, 5
) t
FULL JOIN (SELECT * FROM daily_totals d WHERE ACCOUNTS(d)) d
  USING (account_id, day, kind, service, source)
WHERE (t.amount, t.entries, t.calls) IS DISTINCT FROM (d.amount_micros, d.entries, d.calls)
""",
    "site_totals": """
SELECT NULL::bigint,
  concat_ws(' ', coalesce(t.site_code, d.site_code), coalesce(t.country, d.country),
            coalesce(t.currency, d.currency), coalesce(t.day, d.day), coalesce(t.kind, d.kind),
            coalesce(t.service, d.service)),
  concat_ws(' of ', t.amount, t.entries, t.calls), concat_ws(' of ', d.amount, d.entries, d.calls)
FROM (
  SELECT c.site_code, coalesce(c.country, '') AS country, c.currency, d.day, d.kind, d.service,
    sum(d.amount_micros) AS amount, sum(d.entries) AS entries, sum(d.calls) AS calls
  FROM daily_totals d JOIN accounts c ON c.id = d.account_id
  GROUP BY 1, 2, 3, 4, 5, 6
) t
FULL JOIN (
  SELECT site_code, country, currency, day, kind, service,
    sum(amount_micros) AS amount, sum(entries) AS entries, sum(calls) AS calls
  FROM (
    SELECT site_code, country, currency, day, kind, service, amount_micros, entries, calls
    FROM site_totals
    UNION ALL
    SELECT site_code, country, currency, day, kind, service, amount_micros, entries, calls
    FROM total_changes
  ) each_time
  GROUP BY 1, 2, 3, 4, 5, 6
) d USING (site_code, country, currency, day, kind, service)
WHERE EVERYTHING
  AND (t.amount, t.entries, t.calls) IS DISTINCT FROM (d.amount, d.entries, d.calls)
""",
    "daily_quantities": """
SELECT coalesce(t.account_id, d.account_id),
  concat_ws(' ', coalesce(t.day, d.day), coalesce(t.service, d.service),
            coalesce(t.source, d.source), coalesce(t.meter, d.meter)),
  t.quantity::text, d.quantity::text
FROM (
  SELECT e.account_id, (e.occurred_at AT TIME ZONE s.time_zone)::date AS day, e.service,
    e.source, q.key AS meter, sum((q.value #>> '{}')::numeric) AS quantity
  FROM entries e
  JOIN accounts c ON c.id = e.account_id
  JOIN sites s ON s.code = c.site_code
  JOIN usage_events u ON u.account_id = e.account_id AND u.account_sequence = e.account_sequence
  CROSS JOIN LATERAL jsonb_each(u.quantities) q
  WHERE ACCOUNTS(e)
  GROUP BY 1, 2, 3, 4, 5
) t
FULL JOIN (SELECT * FROM daily_quantities d WHERE ACCOUNTS(d)) d
  USING (account_id, day, service, source, meter)
WHERE t.quantity IS DISTINCT FROM d.quantity
""",
}

_BOOKS = {
    "finance_balance": """
SELECT NULL::bigint, 'posting ' || posting_id || ' ' || currency, '0', sum(amount_micros)::text
FROM finance_entries f WHERE EVERYTHING
GROUP BY posting_id, currency HAVING sum(amount_micros) <> 0
""",
    "finance_lines": """
SELECT NULL::bigint, 'posting ' || p.id, '2 lines or more', count(f.posting_id)::text
FROM finance_postings p
LEFT JOIN finance_entries f ON f.posting_id = p.id AND f.site_code = p.site_code
WHERE EVERYTHING
GROUP BY p.id HAVING count(f.posting_id) < 2
""",
    "journal_balance": """
SELECT account_id, 'entry ' || account_sequence || ' ' || currency, '0', amount::text
FROM books WHERE amount <> 0
""",
    "journal_debt": """
SELECT r.account_id, '1300', (-r.remaining_micros)::text, coalesce(j.debt, 0)::text
FROM grant_balances r
LEFT JOIN (SELECT account_id, sum(debt) AS debt FROM books GROUP BY 1) j USING (account_id)
WHERE ACCOUNTS(r) AND r.grant_number = 0 AND coalesce(j.debt, 0) <> -r.remaining_micros
""",
    "journal_liability": """
SELECT g.account_id, '2100 and 2110', g.owed::text, coalesce(j.liability, 0)::text
FROM (
  SELECT account_id, sum(
    consideration_micros
    - share_of(consideration_micros, amount_micros - remaining_micros, amount_micros)
    - CASE WHEN tax_point = 'TOP_UP'
        THEN tax_micros - share_of(tax_micros, amount_micros - remaining_micros, amount_micros)
        ELSE 0 END) AS owed
  FROM (
    SELECT g.account_id, g.tax_point, g.amount_micros, g.consideration_micros, r.remaining_micros,
      share_of(g.consideration_micros, g.tax_rate, 1 + g.tax_rate) AS tax_micros
    FROM grants g JOIN grant_balances r USING (account_id, grant_number)
    WHERE ACCOUNTS(g) AND g.grant_number > 0
  ) g
  GROUP BY 1
) g
LEFT JOIN (SELECT account_id, -sum(liability) AS liability FROM books GROUP BY 1) j
  USING (account_id)
WHERE coalesce(j.liability, 0) <> g.owed
""",
}

BOOKS = """
WITH books AS MATERIALIZED (
  SELECT account_id, account_sequence, currency, sum(amount_micros) AS amount,
    sum(amount_micros) FILTER (WHERE ledger_code = '1300') AS debt,
    sum(amount_micros) FILTER (WHERE ledger_code IN ('2100', '2110')) AS liability
  FROM journal j WHERE source = 'ledger' AND ACCOUNTS(j) GROUP BY 1, 2, 3
)
"""
"""The journal's legs by entry and currency, added up once for the checks of the books."""

CHECKS: dict[str, str] = {**_ENTRIES, **_ACCOUNTS, **_GRANTS, **_HOLDS, **_USAGE, **_DAYS, **_BOOKS}
