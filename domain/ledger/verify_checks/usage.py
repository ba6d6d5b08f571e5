"""Metered calls, their keys, what they cost and the fraction that is carried."""

from __future__ import annotations

USAGE: dict[str, str] = {
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
    # Keys are deleted once they are older than the site keeps them.
    "usage_event_key": """
SELECT u.account_id, 'event ' || u.origin || ' ' || u.event_id, u.account_sequence::text,
  k.account_sequence::text
FROM usage_events u
JOIN entries e USING (account_id, account_sequence)
JOIN accounts c ON c.id = u.account_id
JOIN sites s ON s.code = c.site_code
LEFT JOIN usage_keys k ON k.account_id = u.account_id AND k.origin = u.origin
  AND k.event_id = u.event_id
WHERE ACCOUNTS(u) AND k.account_sequence IS DISTINCT FROM u.account_sequence
  AND (k.account_id IS NOT NULL OR e.posted_at > clock_timestamp() - s.usage_key_retention)
""",
    "usage_key_entry": """
SELECT k.account_id, 'key ' || k.origin || ' ' || k.event_id,
  concat_ws(' ', 'charge', k.recorded_at), concat_ws(' ', e.kind, e.posted_at)
FROM usage_keys k
LEFT JOIN entries e USING (account_id, account_sequence)
WHERE ACCOUNTS(k) AND k.account_sequence IS NOT NULL
  AND ('charge', k.recorded_at) IS DISTINCT FROM (e.kind, e.posted_at)
""",
    "usage_key_refusal": """
SELECT k.account_id, 'key ' || k.origin || ' ' || k.event_id, 'refusal ' || k.refusal_number, NULL
FROM usage_keys k
LEFT JOIN refusals f USING (account_id, refusal_number)
WHERE ACCOUNTS(k) AND k.refusal_number IS NOT NULL AND f.account_id IS NULL
""",
    "charge_key": """
SELECT e.account_id, 'entry ' || e.account_sequence, 'usage keys', NULL
FROM entries e
JOIN accounts c ON c.id = e.account_id
JOIN sites s ON s.code = c.site_code
LEFT JOIN (
  SELECT DISTINCT account_id, account_sequence FROM usage_keys k WHERE ACCOUNTS(k)
) k ON k.account_id = e.account_id AND k.account_sequence = e.account_sequence
WHERE ACCOUNTS(e) AND e.kind = 'charge' AND k.account_id IS NULL
  AND e.posted_at > clock_timestamp() - s.usage_key_retention
""",
    "usage_event_terms": """
SELECT u.account_id, 'event ' || u.origin || ' ' || u.event_id,
  'until ' || e.occurred_at || ' by a catalogue', concat_ws(' ', u.occurred_at, u.catalogue_version)
FROM usage_events u
JOIN entries e USING (account_id, account_sequence)
LEFT JOIN catalogue_versions v ON v.version = u.catalogue_version
WHERE ACCOUNTS(u) AND (u.occurred_at > e.occurred_at OR v.version IS NULL)
""",
    # Of a charge whose every item was a metered call, its calls say all of it.
    "metered_charge": """
SELECT account_id, 'entry ' || account_sequence,
  concat_ws(' ', events, 'calls until', last_at, 'of', quantities),
  concat_ws(' ', calls, 'calls until', occurred_at, 'of', statement)
FROM (
  SELECT m.*, e.occurred_at, e.description_parameters ->> 'calls' AS calls,
    (SELECT jsonb_object_agg(q.key, to_jsonb(q.value #>> '{}'))
     FROM jsonb_each(CASE jsonb_typeof(e.description_parameters -> 'quantities')
       WHEN 'object' THEN e.description_parameters -> 'quantities' END) q) AS statement
  FROM metered m
  JOIN entries e USING (account_id, account_sequence)
  WHERE m.is_whole
) m
CROSS JOIN LATERAL (
  SELECT jsonb_object_agg(key, to_jsonb(quantity::text)) FROM (
    SELECT q.key, trim_scale(sum((q.value #>> '{}')::numeric)) AS quantity
    FROM usage_events u CROSS JOIN LATERAL jsonb_each(u.quantities) q
    WHERE u.account_id = m.account_id AND u.account_sequence = m.account_sequence
    GROUP BY q.key
  ) each_meter
) q (quantities)
WHERE m.events::text IS DISTINCT FROM m.calls OR m.last_at <> m.occurred_at
  OR m.last_line <> m.events OR m.statement IS DISTINCT FROM q.quantities
""",
    # Where every item of a service's charges was a metered call, each entry is the whole micros
    # that its calls add to the exact sum so far, and the carry is what is left of it.
    "charge_amount": """
SELECT account_id, 'entry ' || account_sequence,
  (floor(exact_after) - floor(exact_after - exact))::text, charged::text
FROM (
  SELECT account_id, account_sequence, charged, exact,
    sum(exact) OVER (PARTITION BY account_id, service ORDER BY account_sequence) AS exact_after,
    bool_and(is_whole) OVER (PARTITION BY account_id, service) AS is_known
  FROM metered
) m
WHERE is_known AND charged <> floor(exact_after) - floor(exact_after - exact)
""",
    "carry": """
SELECT coalesce(s.account_id, c.account_id), 'service ' || coalesce(s.service, c.service),
  coalesce((s.exact - s.charged)::text, 'from 0, below 1, of a service that was charged'), c.carry
FROM (
  SELECT account_id, service, sum(charged) AS charged,
    CASE WHEN bool_and(is_whole) THEN sum(exact) END AS exact
  FROM metered GROUP BY 1, 2
) s
FULL JOIN (
  SELECT b.account_id, c.key AS service, c.value AS carry
  FROM account_balances b CROSS JOIN LATERAL jsonb_each_text(b.carries) c WHERE ACCOUNTS(b)
) c USING (account_id, service)
WHERE s.account_id IS NULL OR s.exact - s.charged <> coalesce(c.carry::numeric, 0)
  OR c.carry::numeric < 0 OR c.carry::numeric >= 1
""",
}

METERED = """
metered AS MATERIALIZED (
  SELECT e.account_id, e.account_sequence, e.service, -e.amount_micros AS charged,
    coalesce(u.events, 0) AS events, coalesce(u.exact, 0) AS exact, u.last_at, u.last_line,
    u.events IS NOT NULL AND coalesce(k.items, 0) <= u.events AS is_whole
  FROM entries e
  LEFT JOIN (
    SELECT account_id, account_sequence, sum(exact_micros) AS exact, count(*) AS events,
      max(occurred_at) AS last_at, max(line_number) AS last_line
    FROM usage_events u WHERE ACCOUNTS(u) GROUP BY 1, 2
  ) u USING (account_id, account_sequence)
  LEFT JOIN (
    SELECT account_id, account_sequence, count(*) AS items
    FROM usage_keys k WHERE ACCOUNTS(k) AND account_sequence IS NOT NULL GROUP BY 1, 2
  ) k USING (account_id, account_sequence)
  WHERE ACCOUNTS(e) AND e.kind = 'charge'
)
"""
"""Each charge with what its metered calls add up to; the keys say how many items it had."""
