"""Roll-ups by day, of accounts and of sites."""

from __future__ import annotations

TOTALS: dict[str, str] = {
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
