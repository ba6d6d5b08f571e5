"""The account's row and its counters."""

from __future__ import annotations

ACCOUNT_ROWS: dict[str, str] = {
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
