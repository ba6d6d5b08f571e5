"""The journal and the postings of finance."""

from __future__ import annotations

BOOKS: dict[str, str] = {
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
    "finance_code": """
SELECT f.account_id, 'posting ' || f.posting_id || ' line ' || f.line_number,
  'an account of the chart', f.ledger_code
FROM finance_entries f
WHERE (EVERYTHING OR ACCOUNTS(f)) AND NOT IN_CHART(f.ledger_code)
""",
    "journal_balance": """
SELECT account_id, 'entry ' || account_sequence || ' ' || currency, '0', amount::text
FROM books WHERE amount <> 0
""",
    "journal_debt": """
SELECT r.account_id, LEDGER(CUSTOMER_DEBT), (-r.remaining_micros)::text, coalesce(j.debt, 0)::text
FROM grant_balances r
LEFT JOIN (SELECT account_id, sum(debt) AS debt FROM books GROUP BY 1) j USING (account_id)
WHERE ACCOUNTS(r) AND r.grant_number = 0 AND coalesce(j.debt, 0) <> -r.remaining_micros
""",
    "journal_liability": """
SELECT g.account_id, LEDGER(PAID_CREDIT) || ' and ' || LEDGER(PLAN_CREDIT), g.owed::text,
  coalesce(j.liability, 0)::text
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
    # A posting is one event: its lines differ in their account of the chart and amount alone.
    "finance_lines_agree": """
SELECT NULL::bigint, 'posting ' || f.posting_id || ' line ' || f.line_number,
  concat_ws(' ', 'line', f.place, p.site_code, f.first),
  concat_ws(' ', 'line', f.line_number, f.site_code, f.own)
FROM (
  SELECT posting_id, line_number, site_code, own,
    row_number() OVER (PARTITION BY posting_id ORDER BY line_number) AS place,
    first_value(own) OVER (PARTITION BY posting_id ORDER BY line_number) AS first
  FROM (
    SELECT posting_id, line_number, site_code,
      concat_ws(' ', account_id, kind, reference, occurred_at, posted_at, accounting_date,
                actor) AS own
    FROM finance_entries f WHERE EVERYTHING
  ) lines
) f
LEFT JOIN finance_postings p ON p.id = f.posting_id
WHERE f.line_number <> f.place OR f.own <> f.first OR f.site_code IS DISTINCT FROM p.site_code
""",
    "finance_dates": """
SELECT f.account_id, 'posting ' || f.posting_id || ' line ' || f.line_number,
  (f.occurred_at AT TIME ZONE s.time_zone)::date::text, f.accounting_date::text
FROM finance_entries f
JOIN sites s ON s.code = f.site_code
WHERE (EVERYTHING OR ACCOUNTS(f))
  AND f.accounting_date <> (f.occurred_at AT TIME ZONE s.time_zone)::date
  AND (
    f.accounting_date <> (f.posted_at AT TIME ZONE s.time_zone)::date
    OR NOT EXISTS (
      SELECT FROM accounting_periods p
      WHERE p.site_code = f.site_code
        AND p.month = date_trunc('month', f.occurred_at AT TIME ZONE s.time_zone)::date))
""",
    "finance_account": """
SELECT f.account_id, 'posting ' || f.posting_id || ' line ' || f.line_number, c.site_code,
  f.site_code
FROM finance_entries f
LEFT JOIN accounts c ON c.id = f.account_id
WHERE ACCOUNTS(f) AND f.account_id IS NOT NULL AND c.site_code IS DISTINCT FROM f.site_code
""",
}

LEGS = """
books AS MATERIALIZED (
  SELECT account_id, account_sequence, currency, sum(amount_micros) AS amount,
    sum(amount_micros) FILTER (WHERE ledger_code = LEDGER(CUSTOMER_DEBT)) AS debt,
    sum(amount_micros) FILTER (WHERE ledger_code IN (LEDGER(PAID_CREDIT), LEDGER(PLAN_CREDIT)))
      AS liability,
    sum(amount_micros) FILTER (WHERE HOLDS_CASH(ledger_code)) AS cash,
    sum(amount_micros) FILTER (WHERE ledger_code = LEDGER(DISPUTED_FUNDS)) AS disputed,
    sum(amount_micros) FILTER (WHERE ledger_code = LEDGER(REFUNDS_PAYABLE)) AS payable
  FROM journal j WHERE source = 'ledger' AND ACCOUNTS(j) GROUP BY 1, 2, 3
)
"""
"""The journal's legs by entry and currency, added up once for the checks of the books."""
