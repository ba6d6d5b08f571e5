"""The answers that were kept for repeated requests: each names what its write made."""

from __future__ import annotations

KEYS: dict[str, str] = {
    # Credit, a correction or a write-off is posted under a key, once.
    "entry_key": """
SELECT coalesce(e.account_id, k.account_id),
  coalesce('entry ' || e.sequence, 'key ' || k.key),
  concat_ws(' ', e.event, e.sequence, e.grant_number),
  concat_ws(' ', k.event, k.sequence, k.grant_number)
FROM (
  SELECT e.account_id, e.account_sequence::text AS sequence, g.grant_number::text AS grant_number,
    CASE WHEN g.account_id IS NOT NULL THEN 'grant'
      WHEN e.kind IN ('refund', 'dispute') THEN 'clawback' ELSE e.kind END AS event
  FROM entries e
  LEFT JOIN grants g ON g.account_id = e.account_id AND g.entry_sequence = e.account_sequence
  WHERE ACCOUNTS(e)
    AND (e.kind IN ('top_up', 'voucher', 'plan', 'adjustment', 'refund', 'dispute', 'write_off')
      OR e.kind = 'reversal' AND e.description_parameters ? 'reason')
) e
FULL JOIN (
  SELECT account_id, key, answer ->> 'entry_sequence' AS sequence,
    answer ->> 'grant_number' AS grant_number,
    CASE operation WHEN 'add_grant' THEN 'grant' WHEN 'reverse_entry' THEN 'reversal'
      WHEN 'write_off_debt' THEN 'write_off' WHEN 'claw_back_credit' THEN 'clawback'
      ELSE operation END AS event
  FROM idempotency_keys k WHERE ACCOUNTS(k) AND answer ? 'entry_sequence'
) k ON k.account_id = e.account_id AND k.sequence = e.sequence
WHERE (e.event, e.grant_number) IS DISTINCT FROM (k.event, k.grant_number)
""",
    "entry_key_once": """
SELECT account_id, 'entry ' || (answer ->> 'entry_sequence'), '1 key', count(*)::text
FROM idempotency_keys k WHERE ACCOUNTS(k) AND answer ? 'entry_sequence'
GROUP BY 1, 2 HAVING count(*) > 1
""",
    "hold_key": """
SELECT coalesce(h.account_id, k.account_id), coalesce('hold ' || h.hold_number, 'key ' || k.key),
  h.hold_number::text, k.hold
FROM (SELECT * FROM holds h WHERE ACCOUNTS(h)) h
FULL JOIN (
  SELECT account_id, key, answer ->> 'hold_number' AS hold FROM idempotency_keys k
  WHERE ACCOUNTS(k) AND operation = 'place_hold' AND answer ->> 'hold_number' IS NOT NULL
) k ON k.account_id = h.account_id AND k.hold = h.hold_number::text
WHERE h.account_id IS NULL OR k.account_id IS NULL
""",
    "void_key": """
SELECT coalesce(z.account_id, k.account_id), 'voided holds', coalesce(z.holds, 0)::text,
  coalesce(k.keys, 0)::text
FROM (
  SELECT account_id, count(*) AS holds FROM hold_resolutions z
  WHERE ACCOUNTS(z) AND outcome = 'voided' GROUP BY 1
) z
FULL JOIN (
  SELECT account_id, count(*) AS keys FROM idempotency_keys k
  WHERE ACCOUNTS(k) AND operation = 'void_hold' GROUP BY 1
) k USING (account_id)
WHERE coalesce(z.holds, 0) <> coalesce(k.keys, 0)
""",
    "hold_answer": """
SELECT k.account_id, 'key ' || k.key, 'a hold, or a refusal and its reason', k.answer::text
FROM idempotency_keys k
LEFT JOIN refusals f ON f.account_id = k.account_id
  AND f.refusal_number::text = k.answer ->> 'refusal_number'
WHERE ACCOUNTS(k) AND CASE k.operation
  WHEN 'void_hold' THEN k.answer <> '{}'
  WHEN 'place_hold' THEN
    num_nonnulls(k.answer ->> 'refusal_number', k.answer ->> 'hold_number') <> 1
    OR (k.answer ->> 'refusal_number' IS NULL) <> (k.answer ->> 'reason' IS NULL)
    OR k.answer ->> 'refusal_number' IS NOT NULL AND f.account_id IS NULL
  ELSE false END
""",
}
